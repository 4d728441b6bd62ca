//! What stands for restic: processes that take their time and end one way or another, and the
//! repositories that they write to.

use agent::core::{Order, Task};
use jiff::Timestamp;
use outcome::Outcome;
use protocol::{Code, JobStatus, LogStream, Problem, RepositoryId, RunId, Snapshot};
use std::{collections::BTreeMap, time::Duration};

/// A repository.
#[derive(Clone, Debug, Default)]
pub struct Repository {
    /// Its snapshots by id.
    pub snapshots: BTreeMap<String, Snapshot>,
    /// Until when nobody answers there.
    pub away_until: Duration,
}

/// A restic that goes on.
#[derive(Clone, Debug)]
pub struct Process {
    /// The machine that it runs on.
    pub machine: usize,
    /// The life of the agent that started it.
    pub life: u64,
    /// What it was told.
    pub order: Order,
    /// What comes next, last first.
    pub steps: Vec<(Duration, Step)>,
    /// How it will end.
    pub ending: Ending,
    /// Whether it was told to end.
    pub is_cancelled: bool,
    /// The snapshot that it has written.
    pub snapshot: Option<String>,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All is done.
    Well,
    /// A file could not be read.
    Partly,
    /// It fails.
    Badly,
    /// What was to run before it fails, so it does not run.
    HookBefore,
    /// What was to run after it fails.
    HookAfter,
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It has its number.
    Spawn,
    /// It writes a line.
    Line(LogStream),
    /// It could not read a file.
    Miss,
    /// It changes the repository.
    Write,
    /// It ends.
    End,
}

impl Process {
    /// The repository that it works on.
    #[must_use]
    pub fn repository(&self) -> RepositoryId {
        self.order.repository.id
    }

    /// Whether it writes to the repository.
    #[must_use]
    pub fn is_mutating(&self) -> bool {
        match self.order.task {
            Task::Backup { .. }
            | Task::Init
            | Task::Forget { .. }
            | Task::Prune { .. }
            | Task::Check { .. }
            | Task::Unlock => true,
            Task::Stats | Task::Restore { .. } => false,
        }
    }

    /// Does to the repository what it was told; gives back the snapshot that it wrote.
    pub fn write(&self, repository: &mut Repository, id: String, at: Timestamp) -> Option<String> {
        match &self.order.task {
            Task::Backup { plan, paths, tags, .. } => {
                let own = [plan.tag(), self.order.host_id.tag(), self.order.run_id.tag()];
                let snapshot = Snapshot {
                    short_id: id[..8].to_owned(),
                    id: id.clone(),
                    time: at,
                    hostname: self.order.hostname.clone(),
                    paths: paths.clone(),
                    tags: own.into_iter().chain(tags.iter().cloned()).collect(),
                    size_bytes: None,
                    file_count: None,
                    added_bytes: None,
                };
                repository.snapshots.insert(id.clone(), snapshot);
                Some(id)
            }
            Task::Forget { dry_run: false, .. } => {
                // The oldest half: which of them restic would choose is not the matter here.
                let mut all: Vec<(Timestamp, String)> =
                    repository.snapshots.values().map(|it| (it.time, it.id.clone())).collect();
                all.sort();
                for (_, id) in all.iter().take(all.len() / 2) {
                    repository.snapshots.remove(id);
                }
                None
            }
            Task::Forget { dry_run: true, .. }
            | Task::Init
            | Task::Prune { .. }
            | Task::Check { .. }
            | Task::Unlock
            | Task::Stats
            | Task::Restore { .. } => None,
        }
    }

    /// What it tells at its end.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let failed = |code, words| Some(Problem::new(code, words));
        let outcome = match (self.is_cancelled, self.ending) {
            (true, _) => Outcome::plain(JobStatus::Cancelled, None),
            (false, Ending::Well) => Outcome::plain(JobStatus::Succeeded, None),
            (false, Ending::Partly) => Outcome::plain(
                JobStatus::Partial,
                failed(Code::FilesUnreadable, "A file could not be read."),
            ),
            (false, Ending::HookBefore) => {
                Outcome::plain(JobStatus::Failed, failed(Code::HookFailed, "A hook failed."))
            }
            (false, Ending::HookAfter) => {
                Outcome::plain(JobStatus::Partial, failed(Code::HookFailed, "A hook failed."))
            }
            (false, Ending::Badly) => {
                Outcome::plain(JobStatus::Failed, failed(Code::ResticFailed, "restic failed."))
            }
        };
        Outcome { snapshot_id: self.snapshot.clone(), ..outcome }
    }
}

/// The snapshot of a run, if the repository has it.
#[must_use]
pub fn snapshot_of(repository: &Repository, run: RunId) -> Option<String> {
    let tag = run.tag();
    repository.snapshots.values().find(|it| it.tags.contains(&tag)).map(|it| it.id.clone())
}
