//! The agent's own schedule: what is due by the plans that it has, whoever listens.
//!
//! Each plan that runs by the clock has a mark: the newest of its slots that needs no run any more. It is
//! made when the plan comes, or comes with other times, so that nothing from before is caught up. It moves
//! to the slot of a run in the commit that writes the run down, so that no slot is served twice.

use super::{Brain, Change, Effect, Now, Run, RunState};
use crate::hooks::{self, Mistake};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use protocol::{JobKind, PlanId, RepositoryId, RunId, RunSpec};
use schedule::{Due, Rhythm};
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, time::Duration};

/// How far a mark may be ahead of the clock. Beyond that the clock was put back, and what it shows once
/// more may be served once more.
const AHEAD: SignedDuration = SignedDuration::from_mins(1);

/// The time between two looks at a repository that does not answer.
const ASK_EVERY: Duration = Duration::from_mins(1);

/// How long nobody looks at the plans, at most: so soon it is noticed that the machine has slept or that
/// its clock was moved.
const LOOK_WITHIN: Duration = Duration::from_secs(30);

/// Where a plan stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The times under which it was made, as the plan says them.
    pub cron: String,
    /// The newest slot that needs no run any more, or when the plan came.
    pub served: Timestamp,
}

/// The plans that run by the clock.
#[derive(Debug, Default)]
pub(super) struct Timetable {
    marks: BTreeMap<PlanId, Mark>,
    rhythms: BTreeMap<PlanId, Rhythm>,
    zone: Option<TimeZone>,
    /// When repositories are asked again for which something is due.
    ask_again: BTreeMap<RepositoryId, Duration>,
    look_at: Option<Duration>,
}

impl Timetable {
    pub(super) fn new(marks: Vec<(PlanId, Mark)>) -> Self {
        Self { marks: marks.into_iter().collect(), ..Self::default() }
    }

    /// When [`Brain::look`] has something to do at the latest.
    pub(super) fn due(&self) -> Option<Duration> {
        self.look_at
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
        self.timetable.rhythms.clear();
        for (id, (cron, rhythm)) in timed {
            if self.timetable.marks.get(&id).is_none_or(|mark| mark.cron != cron) {
                effects.push(self.mark(id, Mark { cron, served: now.wall }));
            }
            self.timetable.rhythms.insert(id, rhythm);
        }
        self.timetable.zone = Some(zone);
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
            return self.read_plans(now);
        }
        let mut effects = self.notice_clock_put_back(now);
        for (id, due) in self.due_now(now) {
            effects.extend(match self.place_of(id) {
                Some(repository) => self.ask(repository, now).into_iter().collect(),
                // It cannot run as it is, and everybody is to see that.
                None => self.begin_due(id, due, now),
            });
        }
        let wakes = self.timetable.rhythms.iter().filter_map(|(id, rhythm)| {
            let mark = self.timetable.marks.get(id)?;
            // What waits for another run of the plan is looked at when that has ended.
            rhythm.wakes(mark.served, now.wall).filter(|at| *at > now.wall)
        });
        let wakes = wakes.min().map(|at| at.duration_since(now.wall).unsigned_abs());
        self.timetable.look_at = (!self.timetable.rhythms.is_empty())
            .then(|| now.mono + wakes.map_or(LOOK_WITHIN, |wait| wait.min(LOOK_WITHIN)));
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
        if !answers {
            return Vec::new();
        }
        self.timetable.ask_again.remove(&repository);
        let mut effects = Vec::new();
        for (id, due) in self.due_now(now) {
            if self.place_of(id) == Some(repository) {
                effects.extend(self.begin_due(id, due, now));
            }
        }
        effects
    }

    /// The plans that are due and do not run already.
    fn due_now(&self, now: Now) -> Vec<(PlanId, Due)> {
        if self.is_stopping {
            return Vec::new();
        }
        let rhythms = self.timetable.rhythms.iter().filter(|(id, _)| !self.is_going(**id));
        let due = rhythms.filter_map(|(id, rhythm)| {
            let mark = self.timetable.marks.get(id)?;
            Some((*id, rhythm.due(mark.served, now.wall)?))
        });
        due.collect()
    }

    fn place_of(&self, plan: PlanId) -> Option<RepositoryId> {
        let desired = self.desired.as_ref()?;
        let repository = desired.repository(desired.plan(Some(plan))?.repository_id)?;
        Some(repository.id)
    }

    fn ask(&mut self, repository: RepositoryId, now: Now) -> Option<Effect> {
        let again = self.timetable.ask_again.get(&repository);
        if again.is_some_and(|again| *again > now.mono) {
            return None;
        }
        let location = self.desired.as_ref()?.repository(Some(repository))?.url.clone();
        self.timetable.ask_again.insert(repository, now.mono + ASK_EVERY);
        Some(Effect::Probe(repository, location))
    }

    fn notice_clock_put_back(&mut self, now: Now) -> Vec<Effect> {
        let ahead: Vec<(PlanId, Mark)> = self
            .timetable
            .marks
            .iter()
            .filter(|(_, mark)| mark.served.duration_since(now.wall) > AHEAD)
            .map(|(id, mark)| (*id, Mark { served: now.wall, ..mark.clone() }))
            .collect();
        ahead.into_iter().map(|(id, mark)| self.mark(id, mark)).collect()
    }

    fn is_going(&self, plan: PlanId) -> bool {
        self.runs.values().any(|run| {
            matches!(run.state, RunState::Queued | RunState::Running)
                && run.spec.kind() == JobKind::Backup
                && run.spec.plan_id() == Some(plan)
        })
    }

    fn begin_due(&mut self, plan: PlanId, due: Due, now: Now) -> Vec<Effect> {
        let repository_id = self.place_of(plan);
        let Some(mark) = self.timetable.marks.get(&plan) else { return Vec::new() };
        let mark = Mark { served: due.slot, ..mark.clone() };
        let run = Run {
            id: self.id_of(plan, due.slot, now),
            state: RunState::Queued,
            spec: RunSpec::Backup { schedule_id: Some(plan) },
            number: None,
            slot: Some(due.slot),
            refusal: None,
            repository_id,
            log_lines: 0,
            had_item_error: false,
            process: None,
            created_at: now.wall,
            finished_at: None,
        };
        self.queue.push_back(run.id);
        let mut effects = vec![self.mark(plan, mark), self.put(run)];
        if hooks::is_planted(Mistake::ForgetSlots) {
            effects.remove(0);
        }
        effects.extend(self.begin_next(repository_id, now));
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

    fn mark(&mut self, plan: PlanId, mark: Mark) -> Effect {
        self.timetable.marks.insert(plan, mark.clone());
        Effect::Store(Change::Mark(plan, Some(mark)))
    }
}
