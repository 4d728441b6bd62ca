//! What a run says and how it ends: restic's answers in the protocol's words, the same whether an
//! agent runs restic or the manager does.

mod log_cap;
mod said;
pub mod verdict;
pub mod words;

pub use log_cap::LogCap;
pub use said::{Said, no_progress, translate};

use protocol::{JobStatus, Problem, RestoreReport, UnreadableFile};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// How.
    pub status: JobStatus,
    /// restic's exit code, -1 when there is none.
    pub exit_code: i32,
    /// restic's own summary.
    pub stats: Option<Value>,
    /// What went wrong, and what to do.
    pub problem: Option<Problem>,
    /// The snapshot that was written.
    pub snapshot_id: Option<String>,
    /// What could not be read or restored.
    pub unreadable: Vec<UnreadableFile>,
    /// How many there were.
    pub unreadable_count: u64,
    /// What a restore did.
    pub restore: Option<RestoreReport>,
}

impl Outcome {
    /// An end with nothing but a status and, perhaps, a problem.
    #[must_use]
    pub fn plain(status: JobStatus, problem: Option<Problem>) -> Self {
        Self {
            status,
            exit_code: if status == JobStatus::Succeeded { 0 } else { -1 },
            stats: None,
            problem,
            snapshot_id: None,
            unreadable: Vec::new(),
            unreadable_count: 0,
            restore: None,
        }
    }
}
