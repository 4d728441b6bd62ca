//! The disk of the state folder: what is left out when it is full, and when it has room again.

use super::{Daemon, Result};
use crate::{
    core::{Change, Disk, Effect, lighten},
    paths::{RESERVE_BYTES, fill_reserve, free, shorten_reserve},
    store::LOG_BYTES,
};
use protocol::{Code, Problem};
use std::time::Duration;
use tokio::time::Instant;

/// The time between two looks, and the same while the disk is full: filling the reserve writes.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_WHILE_FULL: Duration = Duration::from_secs(5);

/// restic builds what it uploads in files of its own; this is the smallest that it makes of much data.
const LEAST_FREE: u64 = 4 * 1024 * 1024;

/// What must be free for the disk to have room again: the reserve, and as much once more.
const FREE_AGAIN: u64 = 2 * RESERVE_BYTES;

/// What `status` says while it is full.
pub(crate) const FULL: &str = "The disk of the state folder is full. Backups go on, but lines of logs are left out. Free some space on it.";

impl Daemon {
    /// Looks at the disk, now and then: whether runs may begin, and whether logs are complete again.
    pub(super) async fn look_at_disk(&mut self) -> Result<()> {
        if Instant::now() < self.disk_at {
            return Ok(());
        }
        let has_room = || free(self.state.path()).is_none_or(|free| free >= FREE_AGAIN);
        let has_room_again = self.brain.disk().is_full && has_room() && self.keep_reserve().await;
        let is_full = self.brain.disk().is_full && !has_room_again;
        if has_room_again {
            tracing::info!("The disk has room again");
            self.live.warnings.retain(|warning| warning != FULL);
        }
        self.disk_at = Instant::now() + if is_full { LOOK_WHILE_FULL } else { LOOK };
        let refusal = self.refusal(is_full).await;
        let effects = self.brain.set_disk(Disk { is_full, refusal }, self.now());
        self.execute(effects).await
    }

    /// Why no run may begin: one that could not end must not, and neither must one that restic cannot do.
    async fn refusal(&mut self, is_full: bool) -> Option<Problem> {
        let folder = self.state.temporary();
        // It is made when the first run begins.
        let free = free(&folder).or_else(|| free(self.state.path()));
        let problem = |why: &str| {
            Problem::new(Code::DiskFull, format!("{why}; the run was not begun."))
                .guidance("Free some space on that disk. The schedule tries again by itself.")
        };
        if free.is_some_and(|free| free < LEAST_FREE) {
            return Some(problem(&format!(
                "Less than 4 MiB are free where restic builds what it uploads ({})",
                folder.display()
            )));
        }
        let has_room = !is_full || self.store.has_room_for_outcomes().await.unwrap_or(true);
        (!has_room).then(|| {
            problem("The disk of the agent's state folder is full, and what was kept for outcomes is used up")
        })
    }

    /// Whether the disk is as good as full and nobody has acted on it. SQLite says so only once the log beside
    /// the journal's database has used up its room, and all of that may wait for the database to grow.
    pub(super) fn is_filling_up(&self) -> bool {
        !self.brain.disk().is_full && free(self.state.path()).is_some_and(|free| free < LOG_BYTES)
    }

    /// Takes the room that outcomes need when the disk is full. Says whether it is there.
    pub(super) async fn keep_reserve(&mut self) -> bool {
        let kept = match fill_reserve(&self.state) {
            Ok(()) => self.store.fill_reserve().await.map_err(anyhow::Error::from),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = &kept {
            tracing::warn!(error = format!("{error:#}"), "No room could be reserved for outcomes");
        }
        kept.is_ok()
    }

    /// The disk is full: outcomes get what was kept for them. Gives back what of these changes is to be
    /// written.
    pub(super) async fn make_room(&mut self, changes: Vec<Change>) -> Vec<Change> {
        self.store.make_room(|| shorten_reserve(&self.state)).await;
        if !self.brain.disk().is_full {
            tracing::error!("{FULL}");
            self.live.warnings.push(FULL.to_owned());
            let disk = Disk { is_full: true, ..self.brain.disk().clone() };
            // Nothing follows from it: what is left out now is told when there is room again.
            let _: Vec<Effect> = self.brain.set_disk(disk, self.now());
        }
        self.disk_at = Instant::now() + LOOK_WHILE_FULL;
        lighten(changes)
    }
}
