//! Notices that an operation stands still although nothing says that the repository is gone.
//!
//! A server that accepts and never answers, a disk that hangs, a process that somebody stopped: restic is
//! silent then, or repeats the same figures for ever. Whoever watches allows for what is honestly still:
//! waiting for a lock, and files that are read already and trickle through a limit on the upload.

use std::time::Duration;

use tokio::time::Instant;

use crate::event::Progress;

/// What may be read and not uploaded: some connections with a pack each, and one waiting for each of them.
const IN_FLIGHT_KIB: u64 = 256 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Stall {
    patience: Option<Duration>,
    moved_at: Instant,
    seen: Option<[u64; 4]>,
}

impl Stall {
    /// Without patience nobody watches.
    pub(crate) fn new(patience: Option<Duration>, now: Instant) -> Self {
        Self { patience, moved_at: now, seen: None }
    }

    /// Progress was reported. Counting what there is to do is progress too.
    pub(crate) fn handle_progress(&mut self, progress: &Progress, now: Instant) {
        let Progress { files_done, bytes_done, total_files, total_bytes, .. } = progress;
        let seen = [*files_done, *bytes_done, *total_files, *total_bytes];
        if self.seen.replace(seen) != Some(seen) {
            self.moved_at = now;
        }
    }

    /// A file was given up: that is a step too.
    pub(crate) fn handle_step(&mut self, now: Instant) {
        self.moved_at = now;
    }

    /// When to stop restic, as things stand, and how long nothing will have moved then.
    pub(crate) fn poll_deadline(&self) -> Option<(Instant, Duration)> {
        let patience = self.patience?;
        Some((self.moved_at.checked_add(patience)?, patience))
    }
}

/// How long an operation may stand still that waits so long for a lock and may send no faster than this.
pub(crate) fn patience(
    stall: Duration,
    lock: Option<Duration>,
    limit_upload_kib: Option<u32>,
) -> Duration {
    let limit = limit_upload_kib.filter(|limit| *limit > 0);
    let upload = limit.map(|limit| Duration::from_secs(IN_FLIGHT_KIB / u64::from(limit)));
    stall.saturating_add(lock.unwrap_or_default()).saturating_add(upload.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_mins(60);

    fn progress(bytes_done: u64, total_files: u64) -> Progress {
        Progress { bytes_done, total_files, ..Progress::default() }
    }

    #[test]
    fn bytes_files_and_counting_are_movement_and_the_same_figures_are_not() {
        let start = Instant::now();
        let at = |minutes| start + Duration::from_mins(minutes);
        let mut stall = Stall::new(Some(PATIENCE), start);
        assert_eq!(stall.poll_deadline(), Some((at(60), PATIENCE)), "also before the first figure");
        stall.handle_progress(&progress(0, 10), at(5));
        stall.handle_progress(&progress(0, 20), at(6));
        stall.handle_progress(&progress(0, 20), at(50));
        assert_eq!(stall.poll_deadline().unwrap().0, at(66));
        stall.handle_progress(&progress(1, 20), at(60));
        assert_eq!(stall.poll_deadline().unwrap().0, at(120));
        stall.handle_step(at(100));
        assert_eq!(stall.poll_deadline().unwrap().0, at(160));
    }

    #[test]
    fn without_patience_nobody_watches() {
        assert_eq!(Stall::new(None, Instant::now()).poll_deadline(), None);
    }

    #[test]
    fn waiting_for_a_lock_and_a_slow_upload_are_allowed_for() {
        assert_eq!(patience(PATIENCE, None, None), PATIENCE);
        assert_eq!(patience(PATIENCE, None, Some(0)), PATIENCE);
        let lock = Duration::from_mins(10);
        let upload = Duration::from_secs(IN_FLIGHT_KIB / 64);
        assert_eq!(patience(PATIENCE, Some(lock), Some(64)), PATIENCE + lock + upload);
    }
}
