//! The desired state arrives in two messages of one generation and is taken as a whole.

use super::{Brain, Effect, Now};
use crate::desired::Desired;
use protocol::{ConfigUpdate, FromAgent, ScheduleAck, ScheduleSet};

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
        let ack = ScheduleAck {
            version: desired.version,
            applied_at: now.wall,
            generation: Some(desired.generation),
            digest: desired.digest.clone(),
            time_zone: self.facts.zone.iana_name().map(str::to_owned),
        };
        self.desired = Some(desired);
        let mut effects = vec![self.append(&FromAgent::ScheduleAck(ack), None, None, now)];
        effects.extend(self.read_plans(now));
        effects
    }
}
