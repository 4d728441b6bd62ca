//! How a plan stands on a machine: whether its backups come as the plan says. Pure, and the only place that
//! decides it.
//!
//! A plan with times is judged by its slots. What counts is what became of those since its last good backup,
//! which serves every slot up to its beginning, whoever asked for it. A plan without times, or one whose
//! machine does not tell slots, is judged by the age of that backup. Over both stands how long the machine
//! was not heard of.

use crate::db::hosts::{HostMode, Patience};
use jiff::{SignedDuration, Timestamp};
use schedule::slots::Standing;

/// How old the last good backup may be where no slot tells that a newer one was due.
const BY_AGE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// For how long nobody wonders where a machine is.
const AWAY: SignedDuration = SignedDuration::from_hours(24);

/// How a plan stands on a machine, or a machine with its plans. The order is from best to worst: a machine is
/// as good as the worst of its plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Its backups come as the plan says.
    Protected,
    /// Its machine is off or asleep, and may be for now.
    Asleep,
    /// Something stood in the way: its repository or a gate. It goes on by itself.
    Waiting,
    /// Its newest backup lacks something.
    Partial,
    /// It never had a good backup.
    Never,
    /// Its machine has not told for too long what it did.
    Silent,
    /// A backup was due, and there was none.
    Late,
    /// The machine did not get the plan, because its agent cannot do what it says.
    Refused,
    /// Its newest backup failed.
    Failed,
}

/// The newest backup that left a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Good {
    /// When it began: slots up to then are served.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Whether it lacks something.
    pub is_partial: bool,
}

/// The slots of a plan on a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Track {
    /// The newest slot that ended well, of those that are looked at.
    pub served: Option<Timestamp>,
    /// The slots after it whose time is over, in order.
    pub since: Vec<(Timestamp, Standing)>,
    /// The newest time by the calendar that the plan has now, however long ago.
    pub newest: Option<Timestamp>,
}

/// What a verdict is made from.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// Now.
    pub now: Timestamp,
    /// How long the machine may go without a backup.
    pub patience: Patience,
    /// Whether its agent is connected.
    pub is_online: bool,
    /// When it was last heard of.
    pub last_seen: Option<Timestamp>,
    /// The plan's slots; `None` where it has no times, or the machine has told of none.
    pub track: Option<&'a Track>,
    /// The newest good backup.
    pub good: Option<Good>,
    /// Whether the newest backup that ended did not work.
    pub has_failed: bool,
    /// Whether the agent can do what the plan says.
    pub can_run: bool,
}

/// How the plan stands.
#[must_use]
pub fn verdict(seen: &Evidence<'_>) -> Verdict {
    if !seen.can_run {
        return Verdict::Refused;
    }
    if seen.has_failed {
        return Verdict::Failed;
    }
    let stood = match seen.track {
        Some(track) => by_slots(seen, track),
        None => by_age(seen),
    };
    match stood {
        Verdict::Protected | Verdict::Asleep | Verdict::Waiting | Verdict::Partial => {
            by_silence(seen).map_or(stood, |silence| stood.max(silence))
        }
        Verdict::Never | Verdict::Silent | Verdict::Late | Verdict::Refused | Verdict::Failed => {
            stood
        }
    }
}

fn by_slots(seen: &Evidence<'_>, track: &Track) -> Verdict {
    let served = seen.good.map(|good| good.began);
    let open = || track.since.iter().filter(|(at, _)| served.is_none_or(|served| *at > served));
    let decides = |standing: &Standing| {
        matches!(standing, Standing::Failed | Standing::Interrupted | Standing::Missed)
    };
    let decided = open().rfind(|(_, standing)| decides(standing)).map(|(_, standing)| *standing);
    if decided.is_some_and(|standing| standing != Standing::Missed) {
        return Verdict::Failed;
    }
    let Some(good) = seen.good else { return Verdict::Never };
    if decided.is_some() {
        return Verdict::Late;
    }
    let Some((oldest, _)) = open().next() else {
        // Where no slot tells, as just after the times of a plan changed, the calendar does.
        let is_new = track.served.is_some() || track.newest.is_none_or(|at| good.began >= at);
        return if is_new { of_good(good) } else { by_age(seen) };
    };
    let is_over = seen.now.duration_since(*oldest) > seen.patience.time();
    // What a person cancelled says nothing of the others.
    let newest = open().rfind(|(_, standing)| *standing != Standing::Cancelled);
    match (newest.map(|(_, standing)| *standing), seen.patience.mode) {
        (Some(Standing::Unknown), HostMode::Intermittent) if !is_over => Verdict::Asleep,
        (Some(Standing::Unknown), _) => Verdict::Silent,
        _ if is_over => Verdict::Late,
        (Some(Standing::Asleep), _) => Verdict::Asleep,
        (Some(Standing::Waiting | Standing::Skipped), _) => Verdict::Waiting,
        _ => of_good(good),
    }
}

fn by_age(seen: &Evidence<'_>) -> Verdict {
    let Some(good) = seen.good else { return Verdict::Never };
    let may_be = seen.patience.time().max(BY_AGE);
    if seen.now.duration_since(good.ended) > may_be { Verdict::Late } else { of_good(good) }
}

/// What it says that the machine is not connected.
fn by_silence(seen: &Evidence<'_>) -> Option<Verdict> {
    if seen.is_online {
        return None;
    }
    let Some(last_seen) = seen.last_seen else { return Some(Verdict::Silent) };
    let silence = seen.now.duration_since(last_seen);
    if silence <= AWAY {
        return None;
    }
    Some(match seen.patience.mode {
        HostMode::Intermittent if silence <= seen.patience.time() => Verdict::Asleep,
        HostMode::Intermittent | HostMode::AlwaysOn => Verdict::Silent,
    })
}

fn of_good(good: Good) -> Verdict {
    if good.is_partial { Verdict::Partial } else { Verdict::Protected }
}

#[cfg(test)]
mod tests;
