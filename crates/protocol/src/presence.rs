//! What an agent tells so that its manager can say why nothing ran.

use crate::{Code, PlanId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The agent was awake in this time (`agent.awake`, durable): it ran, and its machine did not sleep.
/// Told once it is over; the one that goes on is `awake_since` in `hello`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwakeInterval {
    /// Its beginning.
    pub from: Timestamp,
    /// Its end, known to some minutes where the machine lost its power.
    pub until: Timestamp,
}

/// A plan's run was due and did not begin (`slot.deferred`, durable). Told when that is so for the first
/// time or for another reason; it holds for all slots from this one on until a run of the plan begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotDeferred {
    /// The plan.
    pub schedule_id: PlanId,
    /// The slot that was due.
    pub slot: Timestamp,
    /// When it was found that it cannot run.
    pub at: Timestamp,
    /// Why: [`Code::RepositoryUnreachable`], [`Code::RepositoryBusy`], [`Code::OnBattery`] or
    /// [`Code::Metered`].
    pub code: Code,
}
