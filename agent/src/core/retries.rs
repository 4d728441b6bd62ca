//! Trying again what the schedule began and what failed for a reason that passes.
//!
//! Each attempt is a run of its own for the same slot. The next one is part of the plan's mark, so it
//! survives a restart; the next slot of the plan, once it is due, takes its place.

use super::{Brain, Effect, Mark, Now, Outcome, Run, timetable::AHEAD};
use jiff::{SignedDuration, Timestamp};
use protocol::{Code, HostId, JobKind, JobStatus, PlanId};
use sha2::{Digest as _, Sha256};

/// The pauses before the second attempt and those after it.
const PAUSES: [SignedDuration; 3] =
    [SignedDuration::from_mins(5), SignedDuration::from_mins(15), SignedDuration::from_mins(45)];

/// What a machine waits longer than that, at most, as a part of the pause: machines whose repository went
/// away at once do not come back to it at once.
const SPREAD: i32 = 5;

/// Beyond this the clock was put back since the attempt was planned.
pub(super) const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(1);

/// The next attempt at a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The slot.
    pub slot: Timestamp,
    /// Which attempt it will be, from 2 on.
    pub attempt: u32,
    /// Not before this.
    pub at: Timestamp,
}

impl Brain {
    /// A run has ended: notes whether its slot is tried again, and when.
    pub(super) fn plan_retry(&mut self, run: &Run, outcome: &Outcome, now: Now) -> Option<Effect> {
        let plan = run.spec.plan_id().filter(|_| run.spec.kind() == JobKind::Backup)?;
        let mark = self.timetable.mark(plan)?.clone();
        let retry = match outcome.status {
            // It was done meanwhile, if not by the schedule.
            JobStatus::Succeeded | JobStatus::Partial => None,
            JobStatus::Failed | JobStatus::Interrupted if run.is_by_the_clock() => {
                // Under other times, or by another clock, the slot is none of the plan's any more.
                run.slot
                    .filter(|slot| *slot == mark.served && passes(outcome))
                    .filter(|slot| slot.duration_since(now.wall) <= AHEAD)
                    .and_then(|slot| next_attempt(self.facts.host_id, plan, slot, run.attempt, now))
            }
            JobStatus::Cancelled if run.is_by_the_clock() => None,
            JobStatus::Queued
            | JobStatus::Running
            | JobStatus::Failed
            | JobStatus::Interrupted
            | JobStatus::Cancelled
            | JobStatus::Expired
            | JobStatus::Lost
            | JobStatus::Unknown => mark.retry,
        };
        (mark.retry != retry).then(|| self.mark(plan, Mark { retry, ..mark }))
    }
}

fn next_attempt(
    host: HostId,
    plan: PlanId,
    slot: Timestamp,
    attempt: u32,
    now: Now,
) -> Option<Retry> {
    let pause = *PAUSES.get(usize::try_from(attempt.checked_sub(1)?).ok()?)?;
    let hash = Sha256::new()
        .chain_update(host.as_uuid().as_bytes())
        .chain_update(plan.as_uuid().as_bytes())
        .chain_update(slot.as_nanosecond().to_be_bytes())
        .chain_update(attempt.to_be_bytes())
        .finalize();
    let place = i32::from(u16::from_be_bytes([hash[0], hash[1]]));
    let spread = (pause / SPREAD).checked_mul(place)? / 65_536;
    let at = now.wall.checked_add(pause).ok()?.checked_add(spread).ok()?;
    Some(Retry { slot, attempt: attempt + 1, at })
}

/// Whether waiting may heal it. A wrong password, a missing folder or a damaged repository waits for a
/// person; what restic has no word for may be over in a few minutes, such as a lack of memory.
fn passes(outcome: &Outcome) -> bool {
    let code = outcome.problem.as_ref().map(|problem| problem.code);
    matches!(
        code,
        Some(
            Code::RepositoryUnreachable
                | Code::RepositoryLocked
                | Code::Interrupted
                | Code::TimedOut
                | Code::Stalled
                | Code::NoAnswer
                | Code::StoreAway
                | Code::DiskFull
                | Code::ResticFailed
        )
    )
}
