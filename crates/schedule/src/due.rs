//! What of a plan is due on a machine, however long it was off.

use crate::Cron;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use sha2::{Digest as _, Sha256};

/// The longest that a run begins after its slot, so that a fleet does not arrive at its repositories at once.
const LONGEST_DELAY: SignedDuration = SignedDuration::from_mins(10);
/// And never more than this part of the time to the next slot.
const PART_OF_GAP: i32 = 10;

/// A plan that missed a slot is overdue once the next one has come too, but not before this.
const SHORTEST_GRACE: SignedDuration = SignedDuration::from_hours(1);
/// And after this at the latest.
const LONGEST_GRACE: SignedDuration = SignedDuration::from_hours(24);
/// And by so much later: the run of the next slot must have had its chance to begin.
const CHANCE: SignedDuration = SignedDuration::from_mins(15);

/// A plan's slots on one machine, and how long after each its run begins.
#[derive(Clone, Debug)]
pub struct Rhythm {
    cron: Cron,
    zone: TimeZone,
    /// The machine's place within the delay, in 65,536ths.
    place: u16,
}

impl Rhythm {
    /// The slots of an expression in a zone. The delay follows from what the machine and the plan are
    /// called, so that it is the same each time, and another one on another machine.
    #[must_use]
    pub fn new(cron: Cron, zone: TimeZone, machine: &str, plan: &str) -> Self {
        let hash = Sha256::new_with_prefix(machine).chain_update([0]).chain_update(plan).finalize();
        Self { cron, zone, place: u16::from_be_bytes([hash[0], hash[1]]) }
    }

    /// When the run of this slot begins: at the slot or up to ten minutes after it, and before a tenth of
    /// the time to the next one is over.
    #[must_use]
    pub fn begins(&self, slot: Timestamp) -> Timestamp {
        let longest = longest_delay(slot, self.cron.next_after(slot, &self.zone));
        let delay = longest.as_millis() * i128::from(self.place) / 65_536;
        let delay = SignedDuration::from_millis(i64::try_from(delay).unwrap_or(0));
        slot.checked_add(delay).unwrap_or(slot)
    }

    /// The slot whose run is due now, if one is: the newest whose time has come. One run is enough for any
    /// number of slots before it that nothing has served.
    ///
    /// `served` is the newest slot that needs no run any more, or when the plan came to this machine.
    #[must_use]
    pub fn due(&self, served: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let mut slot = self.cron.last_until(now, &self.zone)?;
        if self.begins(slot) > now {
            // The one before has begun its time long ago.
            let before = slot.checked_sub(SignedDuration::from_nanos(1)).ok()?;
            slot = self.cron.last_until(before, &self.zone)?;
        }
        (slot > served).then_some(slot)
    }

    /// When a plan is overdue of which no run was good since `good`: a quarter of an hour after the slot that
    /// follows the first one that it missed, which counts as an hour after that one at least, and as a day at
    /// most. A machine that is often asleep may have more `patience`: then it is not overdue before that is over,
    /// counted from the slot that it missed.
    #[must_use]
    pub fn overdue_at(&self, good: Timestamp, patience: SignedDuration) -> Option<Timestamp> {
        let missed = self.cron.next_after(good, &self.zone)?;
        let next = self.cron.next_after(missed, &self.zone);
        let grace = next.map_or(LONGEST_GRACE, |next| next.duration_since(missed));
        let grace = grace.clamp(SHORTEST_GRACE, LONGEST_GRACE) + CHANCE;
        missed.checked_add(grace.max(patience)).ok()
    }

    /// When [`due`](Self::due) has an answer at the earliest, from now on; `None` where the calendar ends.
    #[must_use]
    pub fn wakes(&self, served: Timestamp, now: Timestamp) -> Option<Timestamp> {
        if self.due(served, now).is_some() {
            return Some(now);
        }
        // Nothing is due, so all slots up to now are served or have not begun.
        let mut slot = self.cron.last_until(now, &self.zone).filter(|slot| *slot > served);
        if slot.is_none() {
            slot = self.cron.next_after(served.max(now), &self.zone);
        }
        slot.map(|slot| self.begins(slot))
    }
}

/// The longest that a run begins after its slot, by when the next one is.
pub(crate) fn longest_delay(slot: Timestamp, next: Option<Timestamp>) -> SignedDuration {
    let gap = next.map_or(LONGEST_DELAY, |next| next.duration_since(slot) / PART_OF_GAP);
    gap.min(LONGEST_DELAY)
}
