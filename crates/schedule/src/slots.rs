//! What became of each slot of a plan on a machine. Computed from what is known, never remembered: so
//! nobody can forget to write one down.

use crate::{Cron, due::longest_delay};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

/// How long after the time at which its run begins at the latest nobody wonders yet: word has to travel, and no two clocks agree.
const GRACE: SignedDuration = SignedDuration::from_mins(5);

/// How old the last word of a machine may be for what it said to hold on.
const SILENT: SignedDuration = SignedDuration::from_mins(15);

/// How many runs before a slot, or obstacles, are looked at. A plan has one run at a time, and tells what
/// stands in the way as it is found, so the newest decides unless a clock was put back. A machine that tells
/// hundreds of thousands otherwise must not cost that many looks at each slot.
const LOOKED_AT: usize = 100;

/// What became of a slot. The order is from best to worst: the mark of a day is its worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// Its time has hardly come.
    Due,
    /// Its run goes on.
    Running,
    /// Its run succeeded.
    Ran,
    /// It had no run, and a later one that succeeded made up for it.
    Covered,
    /// The machine was off or slept, and nothing has made up for it yet.
    Asleep,
    /// A gate of the plan was closed.
    Skipped,
    /// The repository did not answer.
    Waiting,
    /// The machine has not told yet.
    Unknown,
    /// A person cancelled its run.
    Cancelled,
    /// Its run, or the one that made up for it, wrote a snapshot that lacks something.
    Partial,
    /// Its run was cut off.
    Interrupted,
    /// The machine was awake, nothing stood in the way, and nothing ran.
    Missed,
    /// Its run failed.
    Failed,
}

/// How a run stands that serves a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on.
    Going,
    /// It succeeded.
    Succeeded,
    /// It wrote a snapshot that lacks something.
    Partial,
    /// It failed.
    Failed,
    /// A person cancelled it.
    Cancelled,
    /// It was cut off.
    Interrupted,
}

impl Outcome {
    fn standing(self) -> Standing {
        match self {
            Self::Going => Standing::Running,
            Self::Succeeded => Standing::Ran,
            Self::Partial => Standing::Partial,
            Self::Failed => Standing::Failed,
            Self::Cancelled => Standing::Cancelled,
            Self::Interrupted => Standing::Interrupted,
        }
    }
}

/// A run of the plan that serves a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served<Id> {
    /// The run.
    pub id: Id,
    /// The slot.
    pub slot: Timestamp,
    /// When it began.
    pub started: Timestamp,
    /// When it ended, if it has.
    pub finished: Option<Timestamp>,
    /// How it stands.
    pub outcome: Outcome,
}

/// Why nothing ran although something was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The repository did not answer.
    Repository,
    /// A gate of the plan was closed.
    Gate,
}

/// From when on nothing ran, and why; until the next run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deferral {
    /// The slot that was due.
    pub slot: Timestamp,
    /// When this was found.
    pub at: Timestamp,
    /// Why.
    pub obstacle: Obstacle,
}

/// A time with a beginning and an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its beginning.
    pub from: Timestamp,
    /// Its end.
    pub until: Timestamp,
}

/// What is known of a plan on a machine.
#[derive(Clone, Debug)]
pub struct Known<Id> {
    /// Its runs that serve a slot, by slot and then by when they began.
    pub runs: Vec<Served<Id>>,
    /// What stood in the way, by when it was found.
    pub deferrals: Vec<Deferral>,
    /// When the machine was awake, as far as it has told, by time.
    pub awake: Vec<Span>,
    /// Up to when the machine has told everything.
    pub heard_until: Timestamp,
}

/// What became of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot<Id> {
    /// The slot.
    pub at: Timestamp,
    /// By when its run should have begun.
    pub late: Timestamp,
    /// What became of it.
    pub standing: Standing,
    /// The run that served it or made up for it.
    pub run: Option<Id>,
}

/// A moment at which a plan should run, and by when it should have begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// The slot.
    pub slot: Timestamp,
    /// When it is late.
    pub late: Timestamp,
}

/// The times of an expression after the one moment and up to the other. At most `limit`, the newest.
#[must_use]
pub fn times(
    cron: &Cron,
    zone: &TimeZone,
    after: Timestamp,
    until: Timestamp,
    limit: usize,
) -> Vec<Time> {
    let mut slots: Vec<Timestamp> = Vec::new();
    let mut next = cron.next_after(until, zone);
    let mut before = until;
    // Backwards, so that what a limit leaves out is old.
    while slots.len() < limit {
        let Some(slot) = cron.last_until(before, zone).filter(|slot| *slot > after) else { break };
        slots.push(slot);
        let Ok(earlier) = slot.checked_sub(SignedDuration::from_nanos(1)) else { break };
        before = earlier;
    }
    let mut times: Vec<Time> = Vec::with_capacity(slots.len());
    for slot in slots {
        let late = longest_delay(slot, next) + GRACE;
        times.push(Time { slot, late: slot.saturating_add(late).unwrap_or(slot) });
        next = Some(slot);
    }
    times.reverse();
    times
}

impl<Id: Copy> Known<Id> {
    /// What became of these slots of the plan, by now. The plan has these times since then: what stood in
    /// the way before says nothing of them.
    #[must_use]
    pub fn slots(&self, times: &[Time], since: Timestamp, now: Timestamp) -> Vec<Slot<Id>> {
        self.slots_until(times, since, None, now)
    }

    /// As [`Known::slots`], of a plan that had these times until it had others. What the machine had not
    /// begun by then it never will; where that was before it was late, no slot is left.
    #[must_use]
    pub fn slots_until(
        &self,
        times: &[Time],
        since: Timestamp,
        ended: Option<Timestamp>,
        now: Timestamp,
    ) -> Vec<Slot<Id>> {
        let ended = ended.unwrap_or(Timestamp::MAX);
        let is_left = |slot: &Slot<Id>, time: &Time| match slot.standing {
            Standing::Asleep | Standing::Missed => time.late <= ended,
            Standing::Due
            | Standing::Running
            | Standing::Ran
            | Standing::Covered
            | Standing::Skipped
            | Standing::Waiting
            | Standing::Unknown
            | Standing::Cancelled
            | Standing::Partial
            | Standing::Interrupted
            | Standing::Failed => true,
        };
        times
            .iter()
            .map(|time| (self.slot(*time, since, ended, now), time))
            .filter(|(slot, time)| is_left(slot, time))
            .map(|(slot, _)| slot)
            .collect()
    }

    fn slot(&self, time: Time, since: Timestamp, ended: Timestamp, now: Timestamp) -> Slot<Id> {
        let Time { slot: at, late } = time;
        // The runs of this slot, and after them those of later ones.
        let from = self.runs.partition_point(|run| run.slot < at);
        let (own, later) = of_first_slot(&self.runs[from..], at);
        if let Some(run) = telling(own) {
            // Of a machine that was not heard of since, nobody knows whether it still runs.
            let is_silent = run.outcome == Outcome::Going && self.is_silent(now);
            let standing = if is_silent { Standing::Unknown } else { run.outcome.standing() };
            return Slot { at, late, standing, run: Some(run.id) };
        }
        let next = later.first();
        let makes_up = next.and_then(|next| telling(of_first_slot(later, next.slot).0));
        match makes_up.map(|run| (run.outcome, run.id)) {
            Some((Outcome::Succeeded, id)) => {
                return Slot { at, late, standing: Standing::Covered, run: Some(id) };
            }
            Some((Outcome::Partial, id)) => {
                return Slot { at, late, standing: Standing::Partial, run: Some(id) };
            }
            Some((
                Outcome::Going | Outcome::Failed | Outcome::Cancelled | Outcome::Interrupted,
                _,
            ))
            | None => {}
        }
        let mut before = self.runs[..from].iter().rev().take(LOOKED_AT);
        let busy = before.find(|run| run.started <= late);
        let is_going =
            |run: Option<&Served<Id>>| run.is_some_and(|it| it.outcome == Outcome::Going);
        let standing = if (is_going(busy) || is_going(makes_up)) && !self.is_silent(now) {
            Standing::Due
        } else if let Some(obstacle) = self.obstacle(time, (since, ended), next) {
            match obstacle {
                Obstacle::Repository => Standing::Waiting,
                Obstacle::Gate => Standing::Skipped,
            }
        } else if now < late {
            Standing::Due
        } else if self.heard_until < late || is_going(busy) || is_going(makes_up) {
            Standing::Unknown
        } else {
            let free = busy.and_then(|run| run.finished).map_or(at, |finished| finished.max(at));
            let needs = late.duration_since(at);
            let until = ended.min(self.heard_until);
            let until = next.map_or(until, |next| next.started.min(until));
            if self.was_awake_for(needs, free, until) { Standing::Missed } else { Standing::Asleep }
        };
        Slot { at, late, standing, run: None }
    }

    /// What stood in the way of this slot when last something did: after the run before it, and before a
    /// run of a later one.
    fn obstacle(
        &self,
        time: Time,
        (since, ended): (Timestamp, Timestamp),
        next: Option<&Served<Id>>,
    ) -> Option<Obstacle> {
        let served = self.runs[..self.runs.partition_point(|run| run.slot < time.slot)].last();
        let after = served.map_or(since, |run| run.slot.max(since));
        let told = self.deferrals.partition_point(|deferral| {
            deferral.at <= ended && next.is_none_or(|next| deferral.at < next.started)
        });
        let mut newest = self.deferrals[..told].iter().rev().take(LOOKED_AT);
        let found = newest.find(|deferral| deferral.slot > after)?;
        // What was found for an earlier slot holds on, as far as the machine has told.
        let holds = found.slot >= time.slot || self.heard_until >= time.late;
        holds.then_some(found.obstacle)
    }

    /// Whether the machine has not told for so long how it is that what went on may have ended.
    fn is_silent(&self, now: Timestamp) -> bool {
        now.duration_since(self.heard_until) > SILENT
    }

    fn was_awake_for(&self, needs: SignedDuration, from: Timestamp, until: Timestamp) -> bool {
        self.awake.iter().any(|span| {
            let (from, until) = (span.from.max(from), span.until.min(until));
            until > from && until.duration_since(from) >= needs
        })
    }
}

/// The runs of this slot, with which the others begin, and the others.
fn of_first_slot<Id>(runs: &[Served<Id>], slot: Timestamp) -> (&[Served<Id>], &[Served<Id>]) {
    runs.split_at(runs.partition_point(|run| run.slot == slot))
}

/// Of several attempts the last one tells, unless one before it has done the work. One that was cancelled leaves it
/// to those before it, or a person could hide by it that they failed.
fn telling<Id>(attempts: &[Served<Id>]) -> Option<&Served<Id>> {
    let last = |wanted: fn(&Served<Id>) -> bool| attempts.iter().rfind(|run| wanted(run));
    last(|run| run.outcome == Outcome::Succeeded)
        .or_else(|| last(|run| run.outcome != Outcome::Cancelled))
        .or(attempts.last())
}
