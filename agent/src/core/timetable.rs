//! The agent's own schedule: what is due by the plans that it has, whoever listens.
//!
//! Each plan that runs by the clock has a mark: the newest of its slots that needs no run any more. It is
//! made when the plan comes, or comes with other times, so that nothing from before is caught up. It moves
//! to the slot of a run in the commit that writes the run down, so that no slot is served twice.
//!
//! ```text
//!           gates open?          does the repository answer?
//!   due ───────────────▶ open ─────────────────────────────▶ Queued, in the order of its repository
//!    ▲        │ no                       │ no                        │ not its turn
//!    └────────┴── slot.deferred, once ───┘                           slot.deferred
//! ```

use super::{
    Brain, Change, Effect, Gates, Now, Retry, Run, RunState, presence::LOOK_WITHIN,
    retries::LONGEST_PAUSE,
};
use crate::points::{self, Mistake};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use protocol::{Code, JobKind, PlanId, RepositoryId, RunId, RunSpec};
use schedule::Rhythm;
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How far a mark may be ahead of the clock. Beyond that the clock was put back, and what it shows once
/// more may be served once more.
pub(super) const AHEAD: SignedDuration = SignedDuration::from_mins(1);

/// The time between two looks at a repository that does not answer.
const ASK_EVERY: Duration = Duration::from_mins(1);

/// Where a plan stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The times under which it was made, as the plan says them.
    pub cron: String,
    /// The newest slot that needs no run any more, or when the plan came.
    pub served: Timestamp,
    /// Why what is due does not begin, as it was told.
    pub deferred: Option<Code>,
    /// The next attempt at the slot that was served last, where that one failed.
    pub retry: Option<Retry>,
}

impl Mark {
    /// The mark as it stands when the clock shows this: one that was put back shows once more what was
    /// served, and comes too late to an attempt that was planned by what it had shown.
    pub(super) fn set_right(&self, now: Timestamp) -> Self {
        let is_ahead = |at: Timestamp, by| at.duration_since(now) > by;
        let served = if is_ahead(self.served, AHEAD) { now } else { self.served };
        let is_kept = served == self.served;
        let retry = self.retry.filter(|it| is_kept && !is_ahead(it.at, LONGEST_PAUSE));
        let deferred = self.deferred.filter(|_| is_kept);
        Self { cron: self.cron.clone(), served, deferred, retry }
    }
}

/// The plans that run by the clock.
#[derive(Debug, Default)]
pub(super) struct Timetable {
    marks: BTreeMap<PlanId, Mark>,
    rhythms: BTreeMap<PlanId, Rhythm>,
    zone: Option<TimeZone>,
    /// Runs that an earlier agent wrote down and did not begin: they are still due.
    pub(super) written: BTreeSet<RunId>,
    /// When repositories are asked again for which something is due.
    ask_again: BTreeMap<RepositoryId, Duration>,
    /// The last look at the gates, and which of them were closed.
    pub(super) gates: Option<(Duration, Gates)>,
    look_at: Option<Duration>,
}

/// What is due and has not begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) plan: PlanId,
    pub(super) slot: Timestamp,
    pub(super) attempt: u32,
    /// The run, if it is written down already.
    written: Option<RunId>,
}

impl Timetable {
    pub(super) fn new(marks: Vec<(PlanId, Mark)>) -> Self {
        Self { marks: marks.into_iter().collect(), ..Self::default() }
    }

    /// When [`Brain::look`] has something to do at the latest.
    pub(super) fn due(&self) -> Option<Duration> {
        self.look_at
    }

    /// The plans of which it was told that they wait.
    pub(super) fn deferred(&self) -> Vec<PlanId> {
        let waits = self.marks.iter().filter(|(_, mark)| mark.deferred.is_some());
        waits.map(|(plan, _)| *plan).collect()
    }

    /// When a plan runs, if it runs by the clock.
    pub(super) fn rhythm(&self, plan: PlanId) -> Option<&Rhythm> {
        self.rhythms.get(&plan)
    }

    /// Where a plan stands, if it runs by the clock.
    pub(super) fn mark(&self, plan: PlanId) -> Option<&Mark> {
        self.marks.get(&plan)
    }
}

impl Brain {
    /// The plans are others, or the zone of the machine is: a plan that runs by the clock gets its mark,
    /// one that does not loses it.
    pub(super) fn read_plans(&mut self, now: Now) -> Vec<Effect> {
        // Plans that are not there yet, or cannot be read, are not plans that were taken away.
        let Some(desired) = &self.desired else { return Vec::new() };
        let zone = self.facts.zone.clone();
        let machine = self.facts.host_id.to_string();
        let timed = desired
            .schedules
            .iter()
            .filter(|plan| plan.enabled && plan.kind == JobKind::Backup)
            .filter_map(|plan| {
                // The manager checks what people write. What it sends and nobody here can read may be
                // of a newer kind; that nothing runs is seen there.
                let cron = plan.cron_expr.parse().ok()?;
                let rhythm = Rhythm::new(cron, zone.clone(), &machine, &plan.id.to_string());
                Some((plan.id, (plan.cron_expr.clone(), rhythm)))
            });
        let timed: BTreeMap<PlanId, _> = timed.collect();
        let mut effects = Vec::new();
        let gone: Vec<PlanId> =
            self.timetable.marks.keys().filter(|id| !timed.contains_key(id)).copied().collect();
        for id in gone {
            self.timetable.marks.remove(&id);
            effects.push(Effect::Store(Change::Mark(id, None)));
        }
        let mut renewed = BTreeSet::new();
        self.timetable.rhythms.clear();
        for (id, (cron, rhythm)) in timed {
            if self.timetable.marks.get(&id).is_none_or(|mark| mark.cron != cron) {
                let mark = Mark { cron, served: now.wall, deferred: None, retry: None };
                effects.push(self.mark(id, mark));
                renewed.insert(id);
            }
            self.timetable.rhythms.insert(id, rhythm);
        }
        self.timetable.zone = Some(zone);
        effects.extend(self.read_alarms(&renewed, now));
        effects.extend(self.look(now));
        effects
    }

    /// Looks at the plans if it is time to.
    pub(super) fn look_if_due(&mut self, now: Now) -> Vec<Effect> {
        let is_due = self.timetable.look_at.is_some_and(|at| at <= now.mono);
        if is_due { self.look(now) } else { Vec::new() }
    }

    /// Begins what is due, and notes when to look again.
    pub(super) fn look(&mut self, now: Now) -> Vec<Effect> {
        if self.is_stopping {
            self.timetable.look_at = None;
            return Vec::new();
        }
        if self.timetable.zone.as_ref().is_some_and(|zone| *zone != self.facts.zone) {
            // Whoever computes the slots must know the zone before a run says which it served.
            let mut effects = self.tell_zone(now);
            effects.extend(self.read_plans(now));
            return effects;
        }
        let mut effects = self.notice_clock_put_back(now);
        for waiting in self.kept_by_hand(now) {
            effects.extend(self.defer(waiting, Code::RepositoryBusy, now));
        }
        let mut gates = Gates::default();
        for waiting in self.waiting(now) {
            let closing = self.gates_of(waiting.plan);
            match self.place_of(waiting.plan) {
                // It cannot run as it is, and everybody is to see that.
                None => effects.extend(self.serve(waiting, now)),
                Some(repository) if closing.is_none() => effects.extend(self.ask(repository, now)),
                Some(_) => gates = gates.and(closing),
            }
        }
        if !gates.is_none() {
            effects.push(Effect::LookAtGates(gates));
        }
        let wakes = self.timetable.rhythms.iter().filter_map(|(id, rhythm)| {
            let mark = self.timetable.marks.get(id)?;
            // What waits for another run of the plan is looked at when that has ended.
            rhythm.wakes(mark.served, now.wall).filter(|at| *at > now.wall)
        });
        let wakes = wakes.min().map(|at| at.duration_since(now.wall).unsigned_abs());
        let has_plans = !self.timetable.rhythms.is_empty() || !self.timetable.written.is_empty();
        self.timetable.look_at =
            has_plans.then(|| now.mono + wakes.map_or(LOOK_WITHIN, |wait| wait.min(LOOK_WITHIN)));
        effects
    }

    /// Whether a repository answered that an [`Effect::Probe`] asked. What is due for it begins once it
    /// does; until then it waits, and however long that is, one run serves all of it.
    pub fn handle_probed(
        &mut self,
        repository: RepositoryId,
        answers: bool,
        now: Now,
    ) -> Vec<Effect> {
        if answers {
            self.timetable.ask_again.remove(&repository);
        }
        let mut effects = Vec::new();
        for waiting in self.waiting(now) {
            let is_meant = self.place_of(waiting.plan) == Some(repository);
            if is_meant && self.is_let_through(waiting.plan, now) {
                effects.extend(match answers {
                    true => self.serve(waiting, now),
                    false => self.defer(waiting, Code::RepositoryUnreachable, now),
                });
            }
        }
        effects
    }

    /// What is due and has not begun, as far as the plan does not run already.
    pub(super) fn waiting(&self, now: Now) -> Vec<Waiting> {
        if self.is_stopping {
            return Vec::new();
        }
        let written = self.timetable.written.iter().filter_map(|id| {
            let run = self.runs.get(id).filter(|run| run.state == RunState::Queued)?;
            let (plan, slot) = (run.spec.plan_id()?, run.slot?);
            Some(Waiting { plan, slot, attempt: run.attempt, written: Some(*id) })
        });
        let rhythms = self.timetable.rhythms.iter().filter(|(id, _)| !self.is_going(**id));
        let due = rhythms.filter_map(|(&plan, rhythm)| {
            let mark = self.timetable.marks.get(&plan)?;
            let (slot, attempt) = match (rhythm.due(mark.served, now.wall), mark.retry) {
                (Some(slot), _) => (slot, 1),
                (None, Some(retry)) if retry.at <= now.wall => (retry.slot, retry.attempt),
                (None, _) => return None,
            };
            Some(Waiting { plan, slot, attempt, written: None })
        });
        written.chain(due).collect()
    }

    pub(super) fn place_of(&self, plan: PlanId) -> Option<RepositoryId> {
        let desired = self.desired.as_ref()?;
        let repository = desired.repository(desired.plan(Some(plan))?.repository_id)?;
        Some(repository.id)
    }

    pub(super) fn ask(&mut self, repository: RepositoryId, now: Now) -> Option<Effect> {
        let again = self.timetable.ask_again.get(&repository);
        if again.is_some_and(|again| *again > now.mono) {
            return None;
        }
        let location = self.desired.as_ref()?.repository(Some(repository))?.url.clone();
        self.timetable.ask_again.insert(repository, now.mono + ASK_EVERY);
        Some(Effect::Probe(repository, location))
    }

    fn notice_clock_put_back(&mut self, now: Now) -> Vec<Effect> {
        let marks = self.timetable.marks.iter();
        let set_right = marks.map(|(id, mark)| (*id, mark, mark.set_right(now.wall)));
        let changed: Vec<(PlanId, Mark)> = set_right
            .filter(|(_, mark, set_right)| *mark != set_right)
            .map(|(id, _, set_right)| (id, set_right))
            .collect();
        changed.into_iter().map(|(id, mark)| self.mark(id, mark)).collect()
    }

    pub(super) fn is_going(&self, plan: PlanId) -> bool {
        self.going(plan).next().is_some()
    }

    /// The runs of a plan that have not ended.
    fn going(&self, plan: PlanId) -> impl Iterator<Item = &Run> {
        self.runs.values().filter(move |run| {
            matches!(run.state, RunState::Queued | RunState::Running)
                && run.spec.kind() == JobKind::Backup
                && run.spec.plan_id() == Some(plan)
        })
    }

    /// What is due of plans that somebody runs by hand, which serves no slot. Nobody who hears of such a run
    /// knows what it keeps waiting, as one does of a run that a slot has.
    fn kept_by_hand(&self, now: Now) -> Vec<Waiting> {
        let by_hand = |plan: PlanId| self.going(plan).any(|run| run.slot.is_none());
        let rhythms = self.timetable.rhythms.iter().filter(|(plan, _)| by_hand(**plan));
        let due = rhythms.filter_map(|(&plan, rhythm)| {
            let slot = rhythm.due(self.timetable.marks.get(&plan)?.served, now.wall)?;
            Some(Waiting { plan, slot, attempt: 1, written: None })
        });
        due.collect()
    }

    /// Writes the run down that is due, or takes the one that is, and puts it into the queue.
    fn serve(&mut self, waiting: Waiting, now: Now) -> Vec<Effect> {
        let Waiting { plan, slot, attempt, written } = waiting;
        let (run_id, mut effects) = match written {
            Some(run_id) => {
                self.timetable.written.remove(&run_id);
                (run_id, Vec::new())
            }
            None => {
                let Some(mark) = self.timetable.marks.get(&plan) else { return Vec::new() };
                let served = mark.served.max(slot);
                let mark = Mark { served, retry: None, ..mark.clone() };
                let run = Run {
                    id: self.id_of(plan, slot, now),
                    state: RunState::Queued,
                    spec: RunSpec::Backup { schedule_id: Some(plan) },
                    number: None,
                    slot: Some(slot),
                    attempt,
                    refusal: None,
                    repository_id: self.place_of(plan),
                    log_lines: 0,
                    had_item_error: false,
                    process: None,
                    created_at: now.wall,
                    finished_at: None,
                };
                let run_id = run.id;
                let mut effects = vec![self.mark(plan, mark), self.put(run)];
                if points::is_planted(Mistake::ForgetSlots) {
                    effects.remove(0);
                }
                (run_id, effects)
            }
        };
        self.queue.push_back(run_id);
        let repository_id = self.runs.get(&run_id).and_then(|run| run.repository_id);
        effects.extend(self.begin_next(repository_id, now));
        if self.runs.get(&run_id).is_some_and(|run| run.state == RunState::Queued) {
            // It may wait for long, and nobody else knows of the queue.
            effects.extend(self.defer(waiting, Code::RepositoryBusy, now));
        }
        effects
    }

    /// An id that no other run has: this journal is the agent's alone, and where it stands tells a slot
    /// that is served once more, after the clock was put back, from the first time.
    fn id_of(&self, plan: PlanId, slot: Timestamp, now: Now) -> RunId {
        let journal = self.journal.state();
        let hash = Sha256::new()
            .chain_update(journal.id.as_uuid().as_bytes())
            .chain_update(journal.head.to_be_bytes())
            .chain_update(plan.as_uuid().as_bytes())
            .chain_update(slot.as_nanosecond().to_be_bytes())
            .finalize();
        let mut random = [0; 10];
        random.copy_from_slice(&hash[..10]);
        RunId::new(u64::try_from(now.wall.as_millisecond()).unwrap_or(0), &random)
    }

    pub(super) fn mark(&mut self, plan: PlanId, mark: Mark) -> Effect {
        self.timetable.marks.insert(plan, mark.clone());
        Effect::Store(Change::Mark(plan, Some(mark)))
    }
}
