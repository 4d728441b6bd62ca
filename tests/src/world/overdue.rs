//! Whether a plan is overdue, by an observer who counts slot by slot; and whether a further attempt at a slot is kept
//! from beginning.

use super::{World, machine::Machine};
use agent::core::{PlanAlarm, RunState};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use protocol::{AlarmState, JobKind};
use schedule::Cron;

/// By how much clocks that go right may differ, and things come late.
const MOMENT: SignedDuration = SignedDuration::from_secs(5);

/// So soon after a plan is overdue that is told.
const TOLD_WITHIN: SignedDuration = SignedDuration::from_mins(3);

/// So soon an agent has heard what it asked for.
const HEARD_WITHIN: SignedDuration = SignedDuration::from_secs(30);

/// So long a machine has to make up for its sleep.
const SETTLES: SignedDuration = SignedDuration::from_mins(30);

/// A machine that slept less long may not have noticed.
const UNNOTICED: SignedDuration = SignedDuration::from_mins(3);

/// When a plan runs on a machine.
pub struct Clockwork {
    cron: Cron,
    zone: TimeZone,
    /// For how many days an intermittent machine is not late.
    days: Option<u32>,
}

impl Clockwork {
    /// That of a machine's plan, by what its agent has on its disk; none where it runs by hand alone.
    pub fn of(machine: &Machine) -> Option<Self> {
        let desired = machine.disk.desired.as_ref()?;
        let plan = desired.plan(Some(machine.enrolled.plan))?;
        let cron = plan.enabled.then(|| plan.cron_expr.parse().ok()).flatten()?;
        Some(Self { cron, zone: machine.zone.clone(), days: desired.stale_after_days })
    }

    /// Between which two moments the run of the first slot after this one begins.
    pub fn begins_after(&self, served: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let slot = self.cron.next_after(served, &self.zone)?;
        let gap = self.cron.next_after(slot, &self.zone)?.duration_since(slot);
        Some((slot, slot + (gap / 10).min(SignedDuration::from_mins(10))))
    }

    /// From when on it is overdue if nothing was good since: the slot after the one that was missed has come,
    /// an hour after that one at least and a day at most, and a quarter of an hour more. An intermittent machine
    /// has some days.
    fn overdue_at(&self, covered: Timestamp) -> Option<Timestamp> {
        let missed = self.cron.next_after(covered, &self.zone)?;
        let next = self.cron.next_after(missed, &self.zone)?;
        let day = missed + SignedDuration::from_hours(24);
        let hour = missed + SignedDuration::from_hours(1);
        let due = next.min(day).max(hour) + SignedDuration::from_mins(15);
        let days = SignedDuration::from_hours(24) * i32::try_from(self.days.unwrap_or(0)).ok()?;
        Some(due.max(missed + days))
    }
}

impl World {
    /// A machine says that its plan is overdue, which stood like this before.
    pub(super) fn check_overdue_told(&mut self, machine: usize, before: &PlanAlarm, at: Timestamp) {
        let it = &self.machines[machine];
        let is_due = Clockwork::of(it)
            .and_then(|clockwork| clockwork.overdue_at(before.covered))
            .is_some_and(|due| due <= at + MOMENT);
        let is_going = is_going(it);
        // Where clocks are moved nobody can say how long it was awake by them.
        let is_settled = !self.has_right_clocks || self.is_settled_at(machine, at);
        if !is_due || is_going || !is_settled {
            let name = it.name();
            self.violated(format!(
                "{name} says it is overdue: due {is_due}, running {is_going}, awake {is_settled}"
            ));
        }
    }

    /// Whether a machine may tell a failure for which it had planned a further attempt: that one is due, or its
    /// place is taken by a slot that is, and something has just kept it from beginning.
    pub(super) fn is_attempt_kept(&self, machine: usize, at: Timestamp) -> bool {
        let it = &self.machines[machine];
        let mark = it.disk.mark(it.enrolled.plan);
        let retry = mark.and_then(|mark| mark.retry.map(|retry| (mark.served, retry.at)));
        // One that is written down waits once more after a restart.
        let is_written = it.disk.runs().any(|run| run.state == RunState::Queued && run.attempt > 1);
        if !self.has_right_clocks {
            return retry.is_some() || is_written;
        }
        let is_due = retry.is_some_and(|(served, planned)| {
            let slot = Clockwork::of(it).and_then(|clockwork| clockwork.begins_after(served));
            planned <= at || slot.is_some_and(|(slot, _)| slot <= at)
        });
        // What was found in a sleep that was not noticed is heard of after it.
        let is_recent = |then: Timestamp| at.duration_since(then) <= UNNOTICED + MOMENT;
        let is_kept = self.stories.get(&machine).is_some_and(|story| story.kept().any(is_recent));
        (is_due || is_written) && is_kept && self.is_settled_at(machine, at)
    }

    /// Whether a machine had the time to make up for its sleep, if it noticed that.
    fn is_settled_at(&self, machine: usize, at: Timestamp) -> bool {
        let Some(story) = self.stories.get(&machine) else { return true };
        let Some(shell) = &self.machines[machine].shell else { return false };
        let since = SignedDuration::try_from(self.now - shell.started()).unwrap_or_default();
        since >= SETTLES - MOMENT
            && story.sleeps().all(|(from, until)| {
                until.is_some_and(|until| {
                    until.duration_since(from) <= UNNOTICED
                        || at.duration_since(until) >= SETTLES - MOMENT
                })
            })
    }

    /// Whether a plan has been overdue for some time and nobody said so.
    pub(super) fn check_overdue_missing(&mut self) {
        if self.is_calm {
            return;
        }
        for machine in 0..self.machines.len() {
            let it = &self.machines[machine];
            let wall = self.wall(machine);
            let Some(alarm) = it.disk.alarm(it.enrolled.plan) else { continue };
            let Some(clockwork) = Clockwork::of(it) else { continue };
            let is_due_by = |clockwork: &Clockwork| {
                let due = clockwork.overdue_at(alarm.covered);
                due.is_some_and(|due| wall.duration_since(due) > TOLD_WITHIN)
            };
            let is_due = is_due_by(&clockwork);
            let is_spared = !is_due && is_due_by(&Clockwork { days: None, ..clockwork });
            let is_there = it.shell.is_some() && !self.is_asleep(machine) && !it.is_full;
            let was_there = self.stories.get(&machine).is_some_and(|story| {
                story.sleeps().all(|(_, until)| {
                    until.is_some_and(|until| wall.duration_since(until) > SETTLES + TOLD_WITHIN)
                }) && story.was_idle_since(wall - TOLD_WITHIN)
            });
            let is_good = alarm.state == AlarmState::Good;
            if is_spared && is_there && is_good {
                self.met.count("intermittent machine not overdue for days");
            }
            let it = &self.machines[machine];
            if !is_good || is_going(it) || !is_there || !was_there || !self.has_right_clocks {
                continue;
            }
            // A plan is overdue later than its agent settles; an attempt may be due before.
            let is_settled = it.shell.as_ref().is_some_and(|shell| {
                let since = SignedDuration::try_from(self.now - shell.started());
                since.is_ok_and(|since| since > SETTLES + TOLD_WITHIN)
            });
            let retry = it.disk.mark(it.enrolled.plan).and_then(|mark| mark.retry);
            let retry = retry.filter(|_| is_settled);
            let is_kept = retry.zip(self.stories.get(&machine)).is_some_and(|(retry, story)| {
                let from = retry.at.max(wall - TOLD_WITHIN) + MOMENT;
                story.kept().any(|then| then >= from && then <= wall - HEARD_WITHIN)
            });
            let name = it.name();
            if is_kept {
                self.violated(format!("{name} failed, cannot try again, and does not say so"));
            }
            if is_due {
                self.violated(format!("{name} is overdue and does not say so"));
            }
        }
    }
}

/// Whether a backup waits for its turn, or goes on.
fn is_going(machine: &Machine) -> bool {
    machine.disk.runs().any(|run| {
        run.spec.kind() == JobKind::Backup
            && matches!(run.state, RunState::Queued | RunState::Running)
    })
}
