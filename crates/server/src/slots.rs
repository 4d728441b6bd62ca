//! What became of each slot of the fleet, computed from what the database knows: day by day for the pages'
//! strips, plan by plan for the verdict, and slot by slot for one day of one machine.

use crate::{
    db::{
        error::DbError,
        hosts::{self, Host},
        slots::{self as stored, Served, Version},
    },
    hooks::{self, Mistake},
    manager::Manager,
    verdict::Track,
};
use jiff::{SignedDuration, Timestamp, ToSpan, ZonedDateTime, civil::Date, tz::TimeZone};
use protocol::{AwakeInterval, Code, HostId, JobStatus, PlanId, RunId, SlotDeferred};
use schedule::{
    Cron,
    slots::{Deferral, Known, Obstacle, Outcome, Slot, Span, Standing, Time, times},
    zone,
};
use std::{
    borrow::Cow,
    cell::OnceCell,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

mod shared;
pub use shared::Shared;

/// How long the strips are, in days.
const DAYS: usize = 30;

/// Slots of one plan that are looked at: those of every minute of a month.
const MAX_SLOTS: usize = 45_000;

/// How far back slots are looked at: the days of the strips in any zone.
const WINDOW: SignedDuration = SignedDuration::from_hours(24 * (DAYS_BACK + 2));
const DAYS_BACK: i64 = 29;

/// Times that held for less than this are counted for their machine alone, and not for the whole window at once.
const ALONE: SignedDuration = SignedDuration::from_hours(24);

/// How soon a machine that is connected tells what it did.
const TOLD_WITHIN: SignedDuration = SignedDuration::from_mins(1);

/// How soon a ledger knows what was told: one may be some seconds old, and what somebody has seen must have been
/// in it.
const READ_WITHIN: SignedDuration = SignedDuration::from_secs(15);

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

/// What became of the slots of the last 30 days, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The days of each machine whose plans run by the clock.
    pub strips: BTreeMap<HostId, Strip>,
    /// The slots of each plan that has times on a machine now.
    pub tracks: BTreeMap<(HostId, PlanId), Track>,
    /// When the machine's plans run next, in the zone that they run in.
    pub next: BTreeMap<HostId, ZonedDateTime>,
    /// When it was known of each slot that it was missed.
    pub missed: BTreeMap<HostId, Vec<Timestamp>>,
}

/// What became of the slots of all machines. Computed once for all who ask at a time.
///
/// # Errors
/// When the database fails.
pub async fn of_all(manager: &Manager) -> Result<Arc<Ledger>, DbError> {
    manager.slots().read(manager).await
}

/// The same of one machine, unless that of all is at hand.
///
/// # Errors
/// When the database fails.
pub async fn of_host(manager: &Manager, host: HostId) -> Result<Arc<Ledger>, DbError> {
    match manager.slots().at_hand(manager) {
        Some(ledger) => Ok(ledger),
        None => Ok(Arc::new(compute(manager, Some(host)).await?)),
    }
}

async fn compute(manager: &Manager, host: Option<HostId>) -> Result<Ledger, DbError> {
    let now = manager.now();
    let facts = Facts::read(manager, host, now - WINDOW).await?;
    // A month of a large fleet is some hundred thousand slots.
    let computed = tokio::task::spawn_blocking(move || facts.ledger(now)).await;
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
    let mut slots = facts.slots(host, &mut Memo::new(window, now));
    slots.sort_by_key(|it| (it.slot.at, it.plan_id));
    Ok(slots)
}

/// The zone in which a machine's days are; UTC where its name is not known.
#[must_use]
pub fn zone_of(host: &Host) -> TimeZone {
    host.time_zone.as_deref().and_then(zone::named).unwrap_or(TimeZone::UTC)
}

#[derive(Clone, Copy, Debug)]
struct Window {
    after: Timestamp,
    until: Timestamp,
}

/// The times of plans, seen from one moment and over one window: counted once for all machines whose plans
/// have the same expression in the same zone.
#[derive(Debug)]
struct Memo<'a> {
    window: Window,
    now: Timestamp,
    rhythms: HashMap<(&'a str, &'a str), Option<Rhythm>>,
}

/// An expression in a zone, and what was counted of it.
#[derive(Debug)]
struct Rhythm {
    cron: Cron,
    zone: TimeZone,
    newest: OnceCell<Option<Timestamp>>,
    next: OnceCell<Option<Timestamp>>,
    all: OnceCell<Vec<Time>>,
}

impl<'a> Memo<'a> {
    fn new(window: Window, now: Timestamp) -> Self {
        Self { window, now, rhythms: HashMap::new() }
    }

    /// When a version of a plan runs; `None` where that cannot be read.
    fn rhythm(&mut self, version: &'a Version) -> Option<&Rhythm> {
        let key = (version.cron.as_str(), version.time_zone.as_str());
        self.rhythms.entry(key).or_insert_with_key(|(cron, zone)| Rhythm::read(cron, zone)).as_ref()
    }

    /// Its newest time that has come.
    fn newest(&mut self, version: &'a Version) -> Option<Timestamp> {
        let now = self.now;
        let Rhythm { cron, zone, newest, .. } = self.rhythm(version)?;
        *newest.get_or_init(|| cron.last_until(now, zone))
    }

    /// Its next time, in the zone that it runs in.
    fn next(&mut self, version: &'a Version) -> Option<ZonedDateTime> {
        let now = self.now;
        let Rhythm { cron, zone, next, .. } = self.rhythm(version)?;
        let next = *next.get_or_init(|| cron.next_after(now, zone));
        Some(next?.to_zoned_datetime(zone.clone()))
    }

    /// Its times within what is held, which lies in the window.
    fn times(&mut self, version: &'a Version, held: Window) -> Cow<'_, [Time]> {
        let window = self.window;
        let Some(Rhythm { cron, zone, all, .. }) = self.rhythm(version) else {
            return Cow::default();
        };
        let of = |window: Window| times(cron, zone, window.after, window.until, MAX_SLOTS);
        // A machine may have had another zone each minute: what held for an hour is no month's work.
        if held.until.duration_since(held.after) < ALONE {
            return of(held).into();
        }
        let all = all.get_or_init(|| of(window));
        let from = all.partition_point(|time| time.slot <= held.after);
        let until = all.partition_point(|time| time.slot <= held.until);
        all.get(from..until).unwrap_or_default().into()
    }
}

impl Rhythm {
    fn read(cron: &str, zone: &str) -> Option<Self> {
        Some(Self {
            cron: cron.parse().ok()?,
            zone: zone::named(zone)?,
            newest: OnceCell::new(),
            next: OnceCell::new(),
            all: OnceCell::new(),
        })
    }
}

/// What slots are computed from.
#[derive(Debug, Default)]
struct Facts {
    hosts: BTreeMap<HostId, Host>,
    versions: BTreeMap<HostId, Vec<Version>>,
    awake: BTreeMap<HostId, Vec<AwakeInterval>>,
    deferrals: BTreeMap<(HostId, PlanId), Vec<SlotDeferred>>,
    served: BTreeMap<(HostId, PlanId), Vec<Served>>,
    /// Times of which a machine told only at their end.
    silences: BTreeMap<HostId, Vec<Span>>,
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
        for (host, from, until) in stored::silences(db, host, since).await? {
            facts.silences.entry(host).or_default().push(Span { from, until });
        }
        Ok(facts)
    }

    fn ledger(&self, now: Timestamp) -> Ledger {
        let mut ledger = Ledger::default();
        // All machines look at one window, so that equal plans are counted once.
        let window =
            Window { after: now.saturating_sub(WINDOW).unwrap_or(Timestamp::MIN), until: now };
        let mut memo = Memo::new(window, now);
        for host in self.hosts.values().filter(|host| self.versions.contains_key(&host.id)) {
            let zone = zone_of(host);
            let first = zone.to_datetime(now).date().saturating_sub((DAYS_BACK).days());
            let mut strip = Strip { host_id: host.id, first, days: vec![Day::default(); DAYS] };
            for version in self.versions(host.id).filter(|version| version.until.is_none()) {
                let track = Track { newest: memo.newest(version), ..Track::default() };
                ledger.tracks.insert((host.id, version.plan_id), track);
            }
            for it in self.slots(host.id, &mut memo) {
                let day = zone.to_datetime(it.slot.at).date();
                let place = first.until(day).ok().map(|span| span.get_days());
                let place = place.and_then(|place| usize::try_from(place).ok());
                if let Some(day) = place.and_then(|place| strip.days.get_mut(place)) {
                    *day.counts.entry(it.slot.standing).or_default() += 1;
                }
                if it.slot.standing == Standing::Missed {
                    let known = self.known_at(host.id, it.slot.late);
                    ledger.missed.entry(host.id).or_default().push(known);
                }
                if let Some(track) = ledger.tracks.get_mut(&(host.id, it.plan_id)) {
                    follow(track, it.slot.at, it.slot.standing);
                }
            }
            ledger.strips.insert(host.id, strip);
            if let Some(next) = self.next(host.id, &mut memo) {
                ledger.next.insert(host.id, next);
            }
        }
        ledger
    }

    fn versions(&self, host: HostId) -> impl Iterator<Item = &Version> {
        self.versions.get(&host).into_iter().flatten()
    }

    /// When a machine's plans run next.
    fn next<'a>(&'a self, host: HostId, memo: &mut Memo<'a>) -> Option<ZonedDateTime> {
        let open = self.versions(host).filter(|version| version.until.is_none());
        open.filter_map(|version| memo.next(version)).min()
    }

    /// When it was known that nothing had run which should have begun by then: once the machine had told of
    /// that time, which is soon unless it was silent.
    fn known_at(&self, host: HostId, late: Timestamp) -> Timestamp {
        let mut silences = self.silences.get(&host).into_iter().flatten();
        let silence = silences.find(|silence| silence.from < late && late <= silence.until);
        match silence {
            Some(silence) => silence.until.saturating_add(READ_WITHIN).unwrap_or(silence.until),
            None => late.saturating_add(TOLD_WITHIN).unwrap_or(late),
        }
    }

    fn slots<'a>(&'a self, host: HostId, memo: &mut Memo<'a>) -> Vec<PlanSlot> {
        let mut slots = Vec::new();
        let mut known: Option<(PlanId, Known<RunId>)> = None;
        for version in self.versions(host) {
            let plan_id = version.plan_id;
            if known.as_ref().is_none_or(|(plan, _)| *plan != plan_id) {
                known = Some((plan_id, self.known(host, plan_id)));
            }
            let Some((_, known)) = &known else { continue };
            let (window, now) = (memo.window, memo.now);
            let held = Window {
                after: version.from.max(window.after),
                until: version.until.map_or(window.until, |until| until.min(window.until)),
            };
            let own = memo.times(version, held);
            let found = known.slots_until(&own, version.from, version.until, now);
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

/// The next slot of a plan, by time.
fn follow(track: &mut Track, at: Timestamp, standing: Standing) {
    match standing {
        Standing::Due | Standing::Running => {}
        Standing::Ran | Standing::Covered | Standing::Partial => {
            track.served = Some(at);
            track.since.clear();
        }
        Standing::Asleep
        | Standing::Skipped
        | Standing::Waiting
        | Standing::Unknown
        | Standing::Cancelled
        | Standing::Interrupted
        | Standing::Missed
        | Standing::Failed => track.since.push((at, standing)),
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
