//! Conditions under which a plan begins nothing by the clock, and what is told while it waits.

use super::{Brain, Effect, Mark, Now, timetable::Waiting};
use protocol::{Code, FromAgent, PlanId, SlotDeferred};
use std::time::Duration;

/// For so long a look at the gates counts. It is longer than the time between two looks, and shorter than
/// the minute within which an opened gate is to be noticed.
const COUNTS_FOR: Duration = Duration::from_secs(45);

/// The gates: which of them matter, or which of them are closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gates {
    /// The machine runs on its battery.
    pub on_battery: bool,
    /// The network is paid for by the byte.
    pub metered: bool,
}

impl Gates {
    pub(super) fn is_none(self) -> bool {
        !self.on_battery && !self.metered
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            on_battery: self.on_battery || other.on_battery,
            metered: self.metered || other.metered,
        }
    }

    /// The first of these gates that is closed, as a reason.
    fn closed(self, closed: Self) -> Option<Code> {
        if self.on_battery && closed.on_battery {
            return Some(Code::OnBattery);
        }
        (self.metered && closed.metered).then_some(Code::Metered)
    }
}

impl Brain {
    /// Which gates are closed, of those that an [`Effect::LookAtGates`] asked for.
    pub fn handle_gates(&mut self, closed: Gates, now: Now) -> Vec<Effect> {
        self.timetable.gates = Some((now.mono, closed));
        let mut effects = Vec::new();
        for waiting in self.waiting(now) {
            let gates = self.gates_of(waiting.plan);
            if gates.is_none() {
                continue;
            }
            match (gates.closed(closed), self.place_of(waiting.plan)) {
                (Some(code), _) => effects.extend(self.defer(waiting, code, now)),
                (None, Some(repository)) => effects.extend(self.ask(repository, now)),
                (None, None) => {}
            }
        }
        effects
    }

    /// The gates of a plan. Options that cannot be read hold nothing up: the run begins, and says so.
    pub(super) fn gates_of(&self, plan: PlanId) -> Gates {
        let plan = self.desired.as_ref().and_then(|desired| desired.plan(Some(plan)));
        let options = plan.and_then(|plan| plan.options().ok()).unwrap_or_default();
        Gates { on_battery: options.not_on_battery, metered: options.not_metered }
    }

    /// Whether the gates of a plan are open, by a look that still counts.
    pub(super) fn is_let_through(&self, plan: PlanId, now: Now) -> bool {
        let gates = self.gates_of(plan);
        gates.is_none()
            || self.timetable.gates.is_some_and(|(at, closed)| {
                now.mono.saturating_sub(at) <= COUNTS_FOR && gates.closed(closed).is_none()
            })
    }

    /// What is due cannot begin. It is told once for each reason, until a run of the plan begins. Of an attempt
    /// that is not the first only the alarm is told: the slot has its run.
    pub(super) fn defer(&mut self, waiting: Waiting, code: Code, now: Now) -> Vec<Effect> {
        let mut effects = self.note_kept(waiting, code, now);
        if waiting.attempt > 1 {
            return effects;
        }
        let mark = self.timetable.mark(waiting.plan).filter(|mark| mark.deferred != Some(code));
        let Some(mark) = mark.cloned() else { return effects };
        let deferred =
            SlotDeferred { schedule_id: waiting.plan, slot: waiting.slot, at: now.wall, code };
        effects.push(self.mark(waiting.plan, Mark { deferred: Some(code), ..mark }));
        effects.push(self.append(&FromAgent::SlotDeferred(deferred), None, None, now));
        effects
    }

    /// What kept any plan from running is told once more, where it still does.
    pub(super) fn end_deferrals(&mut self) -> Vec<Effect> {
        let plans = self.timetable.deferred();
        plans.into_iter().filter_map(|plan| self.end_deferral(Some(plan))).collect()
    }

    /// A run of the plan begins: what kept one from it counts no more.
    pub(super) fn end_deferral(&mut self, plan: Option<PlanId>) -> Option<Effect> {
        let plan = plan?;
        let mark = self.timetable.mark(plan).filter(|mark| mark.deferred.is_some())?.clone();
        Some(self.mark(plan, Mark { deferred: None, ..mark }))
    }
}
