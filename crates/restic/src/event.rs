//! What an operation tells while it runs.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use serde::Serialize;

use crate::messages::Status;

/// Where an operation sends its events. It is called from the task that runs the operation, in
/// order, and should return quickly: while it does not, restic has to wait.
pub type Sink<'a> = &'a mut (dyn FnMut(Event) + Send);

/// Something that happened while restic ran. Texts are redacted.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The process runs. Remember the id until the operation has ended: if this program dies
    /// first, it tells which lock in the repository was ours.
    Started {
        /// The id of restic's process, and of its process group.
        pid: u32,
    },
    /// How far it is. At most two per second.
    Progress(Progress),
    /// A line for the log.
    Log {
        /// Which stream it came from.
        stream: Stream,
        /// The line, without its end.
        line: String,
    },
    /// A file or folder could not be read or written. Told once for each path.
    ItemError(ItemError),
    /// The repository does not answer; restic keeps trying. Told once until [`Event::Reachable`].
    Unreachable {
        /// restic's own words.
        line: String,
    },
    /// The repository answers again.
    Reachable,
    /// Neither bytes nor files moved for so long that the process is ended now.
    Stalled {
        /// For how long.
        quiet: Duration,
        /// What the system tells of the process, in lines.
        traces: Vec<String>,
    },
}

/// One of the two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How far a backup, restore, check or prune is. What restic did not say is zero or empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Progress {
    /// 0.0 to 1.0. It may go backwards while a backup still counts its files.
    pub percent_done: f64,
    /// Files done so far.
    pub files_done: u64,
    /// Files in all, as far as counted.
    pub total_files: u64,
    /// Bytes done so far.
    pub bytes_done: u64,
    /// Bytes in all, as far as counted.
    pub total_bytes: u64,
    /// restic's own estimate; absent while it has none.
    pub seconds_remaining: Option<u64>,
    /// Files that are being read at this moment.
    pub current_files: Vec<String>,
    /// Errors so far, as restic counts them: some are counted twice.
    pub error_count: u64,
    /// The step of a check or prune, which do not count files.
    pub step: Option<Step>,
}

impl Progress {
    /// The progress of a backup.
    pub(crate) fn of_backup(status: Status) -> Self {
        Self {
            percent_done: fraction(status.percent_done),
            files_done: status.files_done,
            total_files: status.total_files,
            bytes_done: status.bytes_done,
            total_bytes: status.total_bytes,
            seconds_remaining: (status.seconds_remaining > 0).then_some(status.seconds_remaining),
            current_files: status.current_files.unwrap_or_default(),
            error_count: status.error_count,
            step: None,
        }
    }

    /// The progress of a restore. Files that are already in place count as done, which restic's
    /// own percentage leaves out; its count of files includes folders and may exceed the total.
    pub(crate) fn of_restore(status: &Status) -> Self {
        let bytes_done = status.bytes_restored.saturating_add(status.bytes_skipped);
        let total_bytes = status.total_bytes.saturating_add(status.bytes_skipped);
        let total_files = status.total_files.saturating_add(status.files_skipped);
        let files_done = status.files_restored.saturating_add(status.files_skipped);
        Self {
            percent_done: match total_bytes {
                0 => fraction(status.percent_done),
                total => fraction(bytes_done as f64 / total as f64),
            },
            files_done: files_done.min(total_files),
            total_files,
            bytes_done: bytes_done.min(total_bytes),
            total_bytes,
            ..Self::default()
        }
    }

    /// A number that changes exactly when the operation moves on, for the watchdog.
    pub(crate) fn mark(&self) -> u64 {
        match &self.step {
            Some(step) => step.done ^ (u64::from(step.unit.len() as u32) << 48) ^ step.total << 24,
            None => self.bytes_done,
        }
    }
}

/// One counted step of a check or a prune, such as `22 / 47 packs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Units done.
    pub done: u64,
    /// Units in all.
    pub total: u64,
    /// What is counted, in restic's words, for example `packs` or `snapshots`.
    pub unit: String,
}

/// A file or folder that could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ItemError {
    /// The path, as restic names it.
    pub path: String,
    /// The cause. restic before 0.17.1 does not always tell one.
    pub message: String,
    /// `archival`, `restore` and the like, in restic's words.
    pub during: String,
}

/// The files and folders that failed, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ItemErrors {
    /// The first [`ItemErrors::KEPT`] of them, in the order in which they came.
    pub items: Vec<ItemError>,
    /// How many there were in all.
    pub total: u64,
}

impl ItemErrors {
    /// How many are kept by name. A disk that dies takes a million files with it, and nobody
    /// reads a list of a million names.
    pub const KEPT: usize = 1_000;

    /// Whether nothing failed.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }
}

/// Gathers [`ItemErrors`]: restic reports a folder while scanning and again while reading it, and
/// a restored file once for every piece of it.
#[derive(Debug, Default)]
pub(crate) struct ItemErrorCollector {
    errors: ItemErrors,
    seen: HashSet<u64>,
    hasher: RandomState,
}

impl ItemErrorCollector {
    /// Whether the path is new. What only the scan could not read is left to the reading itself,
    /// which reports it again if it matters.
    pub(crate) fn add(&mut self, error: &ItemError) -> bool {
        if error.during == "scan" || !self.seen.insert(self.hasher.hash_one(&error.path)) {
            return false;
        }
        self.errors.total += 1;
        if self.errors.items.len() < ItemErrors::KEPT {
            self.errors.items.push(error.clone());
        }
        true
    }

    pub(crate) fn finish(self) -> ItemErrors {
        self.errors
    }
}

fn fraction(value: f64) -> f64 {
    if value.is_finite() { value.clamp(0.0, 1.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::{ItemError, ItemErrorCollector, ItemErrors, Progress};
    use crate::messages::Status;

    fn item(path: &str, during: &str) -> ItemError {
        ItemError {
            path: path.to_owned(),
            message: "permission denied".to_owned(),
            during: during.to_owned(),
        }
    }

    #[test]
    fn a_path_is_reported_once_and_by_the_reading_not_the_scan() {
        let mut collector = ItemErrorCollector::default();
        assert!(!collector.add(&item("/a", "scan")));
        assert!(collector.add(&item("/a", "archival")));
        assert!(!collector.add(&item("/a", "archival")));
        assert!(collector.add(&item("/b", "archival")));
        let errors = collector.finish();
        assert_eq!(errors.total, 2);
        assert_eq!(errors.items, [item("/a", "archival"), item("/b", "archival")]);
    }

    #[test]
    fn a_million_failures_are_counted_but_not_kept() {
        let mut collector = ItemErrorCollector::default();
        for n in 0..ItemErrors::KEPT + 5 {
            collector.add(&item(&format!("/{n}"), "restore"));
        }
        let errors = collector.finish();
        assert_eq!(errors.items.len(), ItemErrors::KEPT);
        assert_eq!(errors.total, ItemErrors::KEPT as u64 + 5);
    }

    #[test]
    fn a_restore_counts_what_was_there_already_and_never_exceeds_the_whole() {
        let progress = Progress::of_restore(&Status {
            total_files: 22,
            files_restored: 26,
            total_bytes: 100,
            bytes_restored: 50,
            bytes_skipped: 100,
            ..Status::default()
        });
        assert_eq!(progress.percent_done, 0.75);
        assert_eq!((progress.files_done, progress.total_files), (22, 22));
        assert_eq!((progress.bytes_done, progress.total_bytes), (150, 200));
    }

    #[test]
    fn a_percentage_that_is_none_is_zero() {
        for percent_done in [f64::NAN, f64::INFINITY, -1.0] {
            let status = Status { percent_done, ..Status::default() };
            assert_eq!(Progress::of_backup(status).percent_done, 0.0);
        }
    }
}
