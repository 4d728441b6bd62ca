//! Runs: what can be asked for, what is told while one goes on, and how it ends.

use crate::{Code, CommandNumber, PlanId, RepositoryId, RunId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The kinds of run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobKind {
    /// Write a snapshot.
    Backup,
    /// Create the repository.
    Init,
    /// Remove snapshots by policy.
    Forget,
    /// Remove data that no snapshot needs.
    Prune,
    /// Verify the repository.
    Check,
    /// Remove stale locks.
    Unlock,
    /// Write a snapshot's content back (since version 2).
    Restore,
    /// Compare two snapshots (since 2).
    Diff,
    /// Read the repository's facts anew (since 2).
    Stats,
    /// Copy snapshots into another repository (since 2).
    Copy,
    /// List a folder of a snapshot (since 2).
    Ls,
    /// Search snapshots (since 2).
    Find,
    /// Read one file of a snapshot (since 2).
    Dump,
    /// A kind of a newer peer.
    #[serde(other)]
    Unknown,
}

impl JobKind {
    /// The word on the wire and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Init => "init",
            Self::Forget => "forget",
            Self::Prune => "prune",
            Self::Check => "check",
            Self::Unlock => "unlock",
            Self::Restore => "restore",
            Self::Diff => "diff",
            Self::Stats => "stats",
            Self::Copy => "copy",
            Self::Ls => "ls",
            Self::Find => "find",
            Self::Dump => "dump",
            Self::Unknown => "unknown",
        }
    }

    /// Whether a run of this kind writes to the repository: such runs of one repository and host
    /// never overlap.
    #[must_use]
    pub fn is_mutating(self) -> bool {
        match self {
            Self::Backup
            | Self::Init
            | Self::Forget
            | Self::Prune
            | Self::Check
            | Self::Unlock
            | Self::Copy => true,
            Self::Restore
            | Self::Diff
            | Self::Stats
            | Self::Ls
            | Self::Find
            | Self::Dump
            | Self::Unknown => false,
        }
    }
}

/// The states of a run. The last eight are terminal and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// Waits: for the host, for its turn, or for its `go`.
    Queued,
    /// restic is at work.
    Running,
    /// Everything that was asked for was done.
    Succeeded,
    /// It ended without its result.
    Failed,
    /// A person ended it.
    Cancelled,
    /// The result is there with something missing, such as unreadable files (since version 2).
    Partial,
    /// The agent or the machine ended in the middle (since 2).
    Interrupted,
    /// It was not started in time, and never will be (since 2).
    Expired,
    /// Its host was removed before the end was known (since 2).
    Lost,
    /// A status of a newer peer; taken as failed by whoever must decide.
    #[serde(other)]
    Unknown,
}

impl JobStatus {
    /// Whether the run has ended.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// The word on the wire and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Partial => "partial",
            Self::Interrupted => "interrupted",
            Self::Expired => "expired",
            Self::Lost => "lost",
            Self::Unknown => "unknown",
        }
    }
}

/// What a run is to do: the typed part of `command.run`. There is no free text in it that reaches a
/// command line: plans and repositories are named, and everything else has a type.
///
/// Version 1 names neither plan nor repository; there the host's only one is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum RunSpec {
    /// Back up by a plan.
    Backup {
        /// The plan, `schedule_id` because it means the plan as compiled for this host.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        schedule_id: Option<PlanId>,
    },
    /// Create a repository.
    Init {
        /// The repository.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repository_id: Option<RepositoryId>,
    },
    /// Remove this plan's snapshots of this host by the plan's retention.
    Forget {
        /// The plan.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        schedule_id: Option<PlanId>,
        /// Only say what would go.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        dry_run: bool,
        /// Leave snapshots that cannot be what they say where they are, and go on with the others: in
        /// the manager's store only, where it knows when each arrived.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        keep_suspects: bool,
    },
    /// Remove data that no snapshot needs.
    Prune {
        /// The repository.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repository_id: Option<RepositoryId>,
        /// Only say what would go.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        dry_run: bool,
    },
    /// Verify a repository.
    Check {
        /// The repository.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repository_id: Option<RepositoryId>,
        /// Read and verify all data too, not only the structure.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        read_data: bool,
    },
    /// Remove the locks that this agent's own runs left behind.
    Unlock {
        /// The repository.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repository_id: Option<RepositoryId>,
    },
    /// Read the repository's facts and snapshots anew.
    Stats {
        /// The repository.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repository_id: Option<RepositoryId>,
    },
    /// Restore into a fresh owner-only folder under the endpoint's restore root.
    Restore {
        /// The repository.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        repository_id: Option<RepositoryId>,
        /// The full id of the snapshot.
        snapshot_id: String,
        /// Absolute paths inside the snapshot, literal and not patterns; empty means everything.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        include: Vec<String>,
    },
    /// A kind that this build cannot run; it is answered with `kind_unknown`.
    #[serde(other)]
    Unknown,
}

impl RunSpec {
    /// The kind of run.
    #[must_use]
    pub fn kind(&self) -> JobKind {
        match self {
            Self::Backup { .. } => JobKind::Backup,
            Self::Init { .. } => JobKind::Init,
            Self::Forget { .. } => JobKind::Forget,
            Self::Prune { .. } => JobKind::Prune,
            Self::Check { .. } => JobKind::Check,
            Self::Unlock { .. } => JobKind::Unlock,
            Self::Stats { .. } => JobKind::Stats,
            Self::Restore { .. } => JobKind::Restore,
            Self::Unknown => JobKind::Unknown,
        }
    }

    /// The plan that the run names.
    #[must_use]
    pub fn plan_id(&self) -> Option<PlanId> {
        match self {
            Self::Backup { schedule_id } | Self::Forget { schedule_id, .. } => *schedule_id,
            Self::Init { .. }
            | Self::Prune { .. }
            | Self::Check { .. }
            | Self::Unlock { .. }
            | Self::Stats { .. }
            | Self::Restore { .. }
            | Self::Unknown => None,
        }
    }

    /// The repository that the run names; runs by plan use the plan's.
    #[must_use]
    pub fn repository_id(&self) -> Option<RepositoryId> {
        match self {
            Self::Init { repository_id }
            | Self::Prune { repository_id, .. }
            | Self::Check { repository_id, .. }
            | Self::Unlock { repository_id }
            | Self::Stats { repository_id }
            | Self::Restore { repository_id, .. } => *repository_id,
            Self::Backup { .. } | Self::Forget { .. } | Self::Unknown => None,
        }
    }
}

/// A run has begun (`job.started`, durable).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStarted {
    /// The run.
    pub job_id: RunId,
    /// Its kind.
    pub kind: JobKind,
    /// When restic was started.
    pub started_at: Timestamp,
    /// The plan it serves (since version 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_id: Option<PlanId>,
    /// The repository it works on (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<RepositoryId>,
    /// The command it answers; absent for a run of the agent's own schedule (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandNumber>,
    /// The slot of its plan that it serves, and with it all earlier ones that nothing has served
    /// (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Timestamp>,
    /// Which attempt at its slot it is, from 2 on (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
}

/// How far a run is (`job.progress`, lossy, at most two a second).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobProgress {
    /// The run.
    pub job_id: RunId,
    /// 0 to 1. May go back while restic still counts.
    pub percent_done: f64,
    /// Files that are done.
    pub files_done: u64,
    /// Files known so far.
    pub total_files: u64,
    /// Bytes that are done.
    pub bytes_done: u64,
    /// Bytes known so far.
    pub total_bytes: u64,
    /// Seconds left, 0 when nobody knows.
    pub eta_seconds: u64,
    /// Bytes a second over the last seconds.
    pub throughput_bps: u64,
    /// Up to a few files that are being worked on (since version 2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub current_files: Vec<String>,
    /// Set while the repository does not answer: what restic said last (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable: Option<String>,
}

/// A run has ended (`job.finished`, durable).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobFinished {
    /// The run.
    pub job_id: RunId,
    /// How; always a terminal status.
    pub status: JobStatus,
    /// restic's exit code; -1 when restic did not run or was killed.
    pub exit_code: i32,
    /// When.
    pub finished_at: Timestamp,
    /// restic's own summary, as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<Value>,
    /// What went wrong, in a sentence for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The stable reason (since version 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// What to do next (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<String>,
    /// The full id of the snapshot that was written (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,
    /// Files that could not be read or restored, at most [`JobFinished::MAX_UNREADABLE`] (since 2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<UnreadableFile>,
    /// How many there were in all (since 2).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unreadable_count: u64,
    /// How many log lines the run wrote, so that a missing one is noticed (since 2).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub log_lines: u64,
    /// What a restore did (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreReport>,
}

impl JobFinished {
    /// The longest list of unreadable files that travels; the log has the others.
    pub const MAX_UNREADABLE: usize = 200;
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A file that could not be read or restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadableFile {
    /// Its path on the endpoint.
    pub path: String,
    /// What the operating system said.
    pub error: String,
}

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreReport {
    /// The fresh folder on the endpoint; the snapshot's absolute paths lie below it.
    pub target: String,
    /// Files and folders that restic wrote.
    pub files: u64,
    /// Bytes that restic wrote.
    pub bytes: u64,
    /// Chosen paths that were not found in the target afterwards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// Where a log line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// restic's standard output.
    Stdout,
    /// restic's standard error.
    Stderr,
    /// A parsed message of restic, or a word of the agent itself.
    #[serde(other)]
    Event,
}

impl LogStream {
    /// The word on the wire and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Event => "event",
        }
    }
}

/// A line of a run's log (`log.stream`, durable).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// The run.
    pub job_id: RunId,
    /// 1, 2, 3, … within the run.
    pub seq: u64,
    /// When.
    pub ts: Timestamp,
    /// Where it came from.
    pub stream: LogStream,
    /// The line, at most [`crate::MAX_LOG_LINE_BYTES`].
    pub payload: String,
}
