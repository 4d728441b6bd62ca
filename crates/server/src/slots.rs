//! What became of each slot of the fleet, computed from what the database knows each time it is asked:
//! day by day for the pages' strips, and slot by slot for one day of one machine.

use crate::{
    db::{
        error::DbError,
        hosts::{self, Host},
        slots::{self as stored, Served, Version},
    },
    hooks::{self, Mistake},
    manager::Manager,
};
use jiff::{
    SignedDuration, Timestamp, ToSpan,
    civil::Date,
    tz::{TimeZone, TimeZoneDatabase},
};
use protocol::{AwakeInterval, Code, HostId, JobStatus, PlanId, RunId, SlotDeferred};
use schedule::slots::{Deferral, Known, Obstacle, Outcome, Slot, Span, Standing, Time, times};
use std::collections::{BTreeMap, HashMap};

/// The longest strip.
pub const MAX_DAYS: usize = 92;

/// Slots of one plan that are looked at: those of every minute of a month.
const MAX_SLOTS: usize = 45_000;

/// How much further back records are read, so that what was missed before and made up for later is told
/// right.
const MARGIN: SignedDuration = SignedDuration::from_hours(48);

/// One day of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Day {
    /// How many slots stand how.
    pub counts: BTreeMap<Standing, u32>,
}

impl Day {
    /// The worst standing of the day.
    #[must_use]
    pub fn worst(&self) -> Option<Standing> {
        self.counts.keys().next_back().copied()
    }
}

/// The days of a machine, in its own zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strip {
    /// The machine.
    pub host_id: HostId,
    /// The first of the days.
    pub first: Date,
    /// The days, one after the other; the last is today.
    pub days: Vec<Day>,
}

/// One slot of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanSlot {
    /// The plan.
    pub plan_id: PlanId,
    /// The slot, and what became of it.
    pub slot: Slot<RunId>,
}

/// The strips of all machines that have plans with times, or of one.
///
/// # Errors
/// When the database fails.
pub async fn strips(
    manager: &Manager,
    host: Option<HostId>,
    days: usize,
) -> Result<Vec<Strip>, DbError> {
    let now = manager.now();
    let days = days.clamp(1, MAX_DAYS);
    let length = SignedDuration::from_hours(24 * (i64::try_from(days).unwrap_or(1) + 1));
    let facts = Facts::read(manager, host, now - length).await?;
    // A month of a large fleet is some hundred thousand slots.
    let computed = tokio::task::spawn_blocking(move || facts.strips(days, now)).await;
    Ok(computed.unwrap_or_default())
}

/// The slots of one day of a machine, by time.
///
/// # Errors
/// When the database fails.
pub async fn of_day(manager: &Manager, host: HostId, day: Date) -> Result<Vec<PlanSlot>, DbError> {
    let now = manager.now();
    let Some(found) = hosts::find(manager.db().read(), host).await? else { return Ok(Vec::new()) };
    let zone = zone_of(&found);
    // A slot at the very first moment of a day belongs to it, one at the end to the next.
    let before = |day: Date| {
        let begins = zone.to_ambiguous_timestamp(day.at(0, 0, 0, 0)).compatible().ok()?;
        begins.checked_sub(SignedDuration::from_nanos(1)).ok()
    };
    let (Some(after), Some(until)) = (before(day), before(day.saturating_add(1.day()))) else {
        return Ok(Vec::new());
    };
    let window = Window { after, until: until.min(now) };
    let facts = Facts::read(manager, Some(host), window.after).await?;
    let mut memo = HashMap::new();
    let mut slots = facts.slots(host, window, now, &mut memo);
    slots.sort_by_key(|it| (it.slot.at, it.plan_id));
    Ok(slots)
}

/// The slots of all machines in a time, such as that in which nobody looked.
///
/// # Errors
/// When the database fails.
pub async fn between(
    manager: &Manager,
    after: Timestamp,
) -> Result<BTreeMap<HostId, Day>, DbError> {
    let now = manager.now();
    let facts = Facts::read(manager, None, after).await?;
    let window = Window { after, until: now };
    let computed = tokio::task::spawn_blocking(move || {
        let mut memo = HashMap::new();
        let hosts: Vec<HostId> = facts.hosts.keys().copied().collect();
        hosts
            .into_iter()
            .map(|host| {
                let mut day = Day::default();
                for it in facts.slots(host, window, now, &mut memo) {
                    *day.counts.entry(it.slot.standing).or_default() += 1;
                }
                (host, day)
            })
            .collect()
    });
    Ok(computed.await.unwrap_or_default())
}

fn zone_of(host: &Host) -> TimeZone {
    host.time_zone.as_deref().and_then(zone).unwrap_or(TimeZone::UTC)
}

/// The zone of this name, by the data that the manager carries: an agent's name must not lead to a file.
fn zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}

/// The times of one expression in one zone, over one window.
type Memo = HashMap<(String, String), Vec<Time>>;

#[derive(Clone, Copy, Debug)]
struct Window {
    after: Timestamp,
    until: Timestamp,
}

/// What slots are computed from.
#[derive(Debug, Default)]
struct Facts {
    hosts: BTreeMap<HostId, Host>,
    versions: BTreeMap<HostId, Vec<Version>>,
    awake: BTreeMap<HostId, Vec<AwakeInterval>>,
    deferrals: BTreeMap<(HostId, PlanId), Vec<SlotDeferred>>,
    served: BTreeMap<(HostId, PlanId), Vec<Served>>,
}

impl Facts {
    async fn read(
        manager: &Manager,
        host: Option<HostId>,
        since: Timestamp,
    ) -> Result<Self, DbError> {
        let db = manager.db().read();
        let since = since.saturating_sub(MARGIN).unwrap_or(Timestamp::MIN);
        let mut facts = Self::default();
        for known in match host {
            Some(host) => hosts::find(db, host).await?.into_iter().collect(),
            None => hosts::list(db).await?,
        } {
            facts.hosts.insert(known.id, known);
        }
        for version in stored::versions(db, host, since).await? {
            facts.versions.entry(version.host_id).or_default().push(version);
        }
        for (host, awake) in stored::awake(db, host, since).await? {
            facts.awake.entry(host).or_default().push(awake);
        }
        for (host, deferred) in stored::deferrals(db, host, since).await? {
            facts.deferrals.entry((host, deferred.schedule_id)).or_default().push(deferred);
        }
        for served in stored::served(db, host, since).await? {
            facts.served.entry((served.host_id, served.plan_id)).or_default().push(served);
        }
        Ok(facts)
    }

    fn strips(&self, days: usize, now: Timestamp) -> Vec<Strip> {
        let mut memos: HashMap<Date, (Window, Memo)> = HashMap::new();
        let timed = self.hosts.values().filter(|host| self.versions.contains_key(&host.id));
        timed
            .map(|host| {
                let zone = zone_of(host);
                let back = i64::try_from(days).unwrap_or(1) - 1;
                let today = zone.to_datetime(now).date();
                let first = today.saturating_sub(back.days());
                // Machines of one day look at one window, so that equal plans are counted once.
                let (window, memo) = memos.entry(first).or_insert_with(|| {
                    let length = SignedDuration::from_hours(24 * (back + 2));
                    let after = now.saturating_sub(length).unwrap_or(Timestamp::MIN);
                    (Window { after, until: now }, Memo::new())
                });
                let mut strip = Strip { host_id: host.id, first, days: vec![Day::default(); days] };
                for it in self.slots(host.id, *window, now, memo) {
                    let day = zone.to_datetime(it.slot.at).date();
                    let place = first.until(day).ok().map(|span| span.get_days());
                    let place = place.and_then(|place| usize::try_from(place).ok());
                    if let Some(day) = place.and_then(|place| strip.days.get_mut(place)) {
                        *day.counts.entry(it.slot.standing).or_default() += 1;
                    }
                }
                strip
            })
            .collect()
    }

    fn slots(
        &self,
        host: HostId,
        window: Window,
        now: Timestamp,
        memo: &mut Memo,
    ) -> Vec<PlanSlot> {
        let mut slots = Vec::new();
        let mut known: Option<(PlanId, Known<RunId>)> = None;
        for version in self.versions.get(&host).into_iter().flatten() {
            let plan_id = version.plan_id;
            if known.as_ref().is_none_or(|(plan, _)| *plan != plan_id) {
                known = Some((plan_id, self.known(host, plan_id)));
            }
            let Some((_, known)) = &known else { continue };
            let all = memo
                .entry((version.cron.clone(), version.time_zone.clone()))
                .or_insert_with_key(|(cron, name)| match (cron.parse(), zone(name)) {
                    (Ok(cron), Some(zone)) => {
                        times(&cron, &zone, window.after, window.until, MAX_SLOTS)
                    }
                    (Err(_), _) | (_, None) => Vec::new(),
                });
            let from = all.partition_point(|time| time.slot <= version.from);
            let until =
                all.partition_point(|time| version.until.is_none_or(|until| time.slot <= until));
            let own = all.get(from..until).unwrap_or_default();
            let found = known.slots_until(own, version.from, version.until, now);
            slots.extend(found.into_iter().map(|slot| PlanSlot { plan_id, slot }));
        }
        slots
    }

    fn known(&self, host: HostId, plan: PlanId) -> Known<RunId> {
        let heard_until = self.hosts.get(&host).and_then(|host| host.heard_until);
        let heard_until = heard_until.unwrap_or(Timestamp::MIN);
        let told = self.awake.get(&host).into_iter().flatten();
        let mut awake: Vec<Span> =
            told.map(|awake| Span { from: awake.from, until: awake.until }).collect();
        if let Some(from) = self.hosts.get(&host).and_then(|host| host.awake_since) {
            awake.push(Span { from, until: heard_until });
        }
        let deferrals = self.deferrals.get(&(host, plan)).into_iter().flatten();
        let served = self.served.get(&(host, plan)).into_iter().flatten();
        Known {
            runs: served.map(run_of).collect(),
            deferrals: deferrals
                .map(|deferred| Deferral {
                    slot: deferred.slot,
                    at: deferred.at,
                    obstacle: obstacle(deferred.code),
                })
                .collect(),
            awake,
            heard_until,
        }
    }
}

fn obstacle(code: Code) -> Obstacle {
    if matches!(code, Code::OnBattery | Code::Metered) {
        Obstacle::Gate
    } else {
        Obstacle::Repository
    }
}

fn run_of(served: &Served) -> schedule::slots::Served<RunId> {
    schedule::slots::Served {
        id: served.run_id,
        slot: served.slot,
        started: served.started,
        finished: served.finished,
        outcome: match served.status {
            JobStatus::Queued | JobStatus::Running => Outcome::Going,
            JobStatus::Succeeded => Outcome::Succeeded,
            JobStatus::Partial => Outcome::Partial,
            JobStatus::Cancelled => Outcome::Cancelled,
            JobStatus::Interrupted | JobStatus::Expired | JobStatus::Lost => Outcome::Interrupted,
            JobStatus::Failed if hooks::is_planted(Mistake::PaintGreen) => Outcome::Succeeded,
            JobStatus::Failed | JobStatus::Unknown => Outcome::Failed,
        },
    }
}
