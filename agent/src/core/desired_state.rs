//! The desired state arrives in two messages of one generation and is taken as a whole.

use super::{Brain, Change, Effect, Now};
use crate::desired::Desired;
use protocol::{ConfigUpdate, FromAgent, ScheduleAck, ScheduleSet};
use schedule::zone;

impl Brain {
    pub(super) fn config_update(&mut self, config: ConfigUpdate) -> Vec<Effect> {
        if let Some(session) = self.link.session() {
            session.config = Some(config);
        }
        Vec::new()
    }

    pub(super) fn schedule_set(&mut self, set: ScheduleSet) -> Vec<Effect> {
        let Some(config) = self.link.session().and_then(|session| session.config.take()) else {
            tracing::warn!("Ignored plans without the repositories of their generation");
            return Vec::new();
        };
        let Some(desired) = Desired::from_messages(config, set) else {
            tracing::warn!("Ignored plans and repositories of different generations");
            return Vec::new();
        };
        if Some(desired.generation.incarnation) != self.incarnation {
            tracing::warn!("Ignored a desired state of another life of the manager");
            return Vec::new();
        }
        let is_older = self.desired.as_ref().is_some_and(|present| {
            present.generation.incarnation == desired.generation.incarnation
                && present.generation.n > desired.generation.n
        });
        if is_older {
            tracing::warn!(generation = desired.generation.n, "Ignored an older desired state");
            return Vec::new();
        }
        vec![Effect::SaveDesired(Box::new(desired))]
    }

    /// The desired state of an [`Effect::SaveDesired`] is on the disk.
    pub fn handle_desired_stored(&mut self, desired: Desired, now: Now) -> Vec<Effect> {
        self.desired = Some(desired);
        let mut effects = self.acknowledge(now);
        effects.extend(self.read_plans(now));
        effects
    }

    /// The desired state is acknowledged once more where the machine's time zone is another than the manager
    /// was told, also while the agent was off: by it the manager knows which slots there are.
    pub(super) fn tell_zone(&mut self, now: Now) -> Vec<Effect> {
        if self.told_zone == zone::name(&self.facts.zone) {
            return Vec::new();
        }
        self.acknowledge(now)
    }

    fn acknowledge(&mut self, now: Now) -> Vec<Effect> {
        let Some(desired) = &self.desired else { return Vec::new() };
        let time_zone = zone::name(&self.facts.zone);
        let ack = ScheduleAck {
            version: desired.version,
            applied_at: now.wall,
            generation: Some(desired.generation),
            digest: desired.digest.clone(),
            time_zone: time_zone.clone(),
        };
        let ack = self.append(&FromAgent::ScheduleAck(ack), None, None, now);
        if self.told_zone == time_zone {
            return vec![ack];
        }
        self.told_zone.clone_from(&time_zone);
        // Under another zone there are other slots: what stands in their way is told for them.
        let mut effects = vec![Effect::Store(Change::ToldZone(time_zone)), ack];
        effects.extend(self.end_deferrals());
        effects
    }
}
