//! Runs: what was asked for, how far it is, and how it ended.

pub mod cancel;
pub mod list;
pub mod log;
pub mod log_text;
pub mod request;
pub mod show;
pub mod stream;
pub mod watch;

use super::error::{ApiError, ApiResult};
use crate::{
    db::{
        hosts, plans,
        runs::{self, Dispatch, Run},
    },
    manager::Manager,
};
use jiff::Timestamp;
use protocol::{
    Code, HostId, JobKind, JobProgress, JobStatus, LogLine, PlanId, RepositoryId, RestoreReport,
    RunId, RunSpec, UnreadableFile,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// A run.
#[derive(Debug, Serialize, ToSchema)]
pub struct RunView {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    pub id: RunId,
    /// Where it runs.
    #[schema(value_type = String, format = Uuid)]
    pub host_id: HostId,
    /// The host's name, also of one that was removed since.
    pub host_name: String,
    /// The plan it serves.
    #[schema(value_type = Option<String>, format = Uuid)]
    pub plan_id: Option<PlanId>,
    /// The plan's name; absent for one that was deleted since.
    pub plan_name: Option<String>,
    /// The repository it works on.
    #[schema(value_type = Option<String>, format = Uuid)]
    pub repository_id: Option<RepositoryId>,
    /// Its kind.
    #[schema(value_type = crate::api::words::KindWord)]
    pub kind: JobKind,
    /// What it was asked for beyond its kind.
    pub options: RunOptionsView,
    /// Its state.
    #[schema(value_type = crate::api::words::StatusWord)]
    pub status: JobStatus,
    /// Whether it has ended; then it never changes again.
    pub is_terminal: bool,
    /// How far it is on its way.
    pub dispatch: DispatchView,
    /// Who asked for it: `local_user`, `admin` or `agent`.
    pub requested_by: String,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it will no longer be started.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// When it began, by the machine's clock.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// When a person asked to cancel it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub cancel_requested_at: Option<Timestamp>,
    /// The newest progress, while it is running.
    pub progress: Option<ProgressView>,
    /// restic's exit code.
    pub exit_code: Option<i32>,
    /// The stable reason of its end.
    #[schema(value_type = Option<crate::api::words::CodeWord>)]
    pub code: Option<Code>,
    /// What went wrong.
    pub error: Option<String>,
    /// What to do next.
    pub guidance: Option<String>,
    /// The snapshot that was written.
    pub snapshot_id: Option<String>,
    /// restic's own summary.
    pub stats: Option<Value>,
    /// Files that could not be read, the first of them.
    pub unreadable: Vec<UnreadableView>,
    /// How many there were in all.
    pub unreadable_count: u64,
    /// Log lines as the agent counted them.
    pub log_lines: Option<u64>,
    /// What a restore did.
    pub restore: Option<RestoreView>,
    /// The time of its plan that it serves; absent for a run that somebody asked for.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub slot: Option<Timestamp>,
}

/// What a run was asked for beyond its kind.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct RunOptionsView {
    /// Only say what would go.
    pub dry_run: bool,
    /// Read and verify all data too.
    pub read_data: bool,
    /// The snapshot to restore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,
    /// What to restore of it; empty means everything.
    pub include: Vec<String>,
}

/// How far a run is on its way.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct DispatchView {
    /// Where it is.
    pub stage: DispatchStage,
    /// The same in words for a person.
    pub words: String,
}

/// Where a run is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DispatchStage {
    /// The machine does not know of it yet.
    Waiting,
    /// It was sent; the machine has not answered.
    Sent,
    /// The machine has written it down.
    Accepted,
    /// restic is at work.
    Running,
    /// It has ended.
    Ended,
}

/// How far a run is.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub struct ProgressView {
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
    /// A few files that are being worked on.
    pub current_files: Vec<String>,
    /// Set while the repository does not answer.
    pub unreachable: Option<String>,
}

impl From<&JobProgress> for ProgressView {
    fn from(it: &JobProgress) -> Self {
        Self {
            percent_done: it.percent_done,
            files_done: it.files_done,
            total_files: it.total_files,
            bytes_done: it.bytes_done,
            total_bytes: it.total_bytes,
            eta_seconds: it.eta_seconds,
            throughput_bps: it.throughput_bps,
            current_files: it.current_files.clone(),
            unreachable: it.unreachable.clone(),
        }
    }
}

/// A file that could not be read or restored.
#[derive(Debug, Serialize, ToSchema)]
pub struct UnreadableView {
    /// Its path on the machine.
    pub path: String,
    /// What the operating system said.
    pub error: String,
}

impl From<UnreadableFile> for UnreadableView {
    fn from(it: UnreadableFile) -> Self {
        Self { path: it.path, error: it.error }
    }
}

/// What a restore did.
#[derive(Debug, Serialize, ToSchema)]
pub struct RestoreView {
    /// The fresh folder on the machine.
    pub target: String,
    /// Files and folders that restic wrote.
    pub files: u64,
    /// Bytes that restic wrote.
    pub bytes: u64,
    /// Chosen paths that were not found in the target afterwards.
    pub missing: Vec<String>,
}

impl From<RestoreReport> for RestoreView {
    fn from(it: RestoreReport) -> Self {
        Self { target: it.target, files: it.files, bytes: it.bytes, missing: it.missing }
    }
}

/// A line of a run's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LogLineView {
    /// 1, 2, 3, … within the run.
    pub seq: u64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub ts: Timestamp,
    /// `stdout`, `stderr` or `event`.
    pub stream: String,
    /// The line.
    pub text: String,
}

impl From<LogLine> for LogLineView {
    fn from(line: LogLine) -> Self {
        let stream = line.stream.as_str().to_owned();
        Self { seq: line.seq, ts: line.ts, stream, text: line.payload }
    }
}

/// Which runs.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RunsQuery {
    /// Those of this host.
    #[param(value_type = Option<String>, format = Uuid)]
    pub host_id: Option<HostId>,
    /// Those that serve this plan.
    #[param(value_type = Option<String>, format = Uuid)]
    pub plan_id: Option<PlanId>,
    /// Those that work on this repository.
    #[param(value_type = Option<String>, format = Uuid)]
    pub repository_id: Option<RepositoryId>,
    /// Those of this kind.
    #[param(value_type = Option<crate::api::words::KindWord>)]
    pub kind: Option<JobKind>,
    /// Those that have not ended (`true`), or that have (`false`).
    pub open: Option<bool>,
    /// Those older than this run.
    #[param(value_type = Option<String>, format = Uuid)]
    pub before: Option<RunId>,
    /// At most 200; 50 when absent.
    pub limit: Option<u32>,
}

async fn find(manager: &Manager, id: RunId) -> ApiResult<Run> {
    let run = runs::find(manager.db().read(), id).await?;
    run.ok_or_else(|| ApiError::not_found("run"))
}

/// The view of one run.
pub(super) async fn view_of(manager: &Manager, id: RunId) -> ApiResult<RunView> {
    let run = find(manager, id).await?;
    view(manager, run).await
}

async fn view(manager: &Manager, run: Run) -> ApiResult<RunView> {
    let db = manager.db().read();
    let host_name = hosts::find(db, run.host_id).await?.map(|host| host.name);
    let plan_name = match run.plan_id {
        Some(plan) => plans::find(db, plan).await?.map(|plan| plan.name),
        None => None,
    };
    let is_online = manager.links().online().await.contains(&run.host_id);
    let progress = manager.events().last_progress(run.id).filter(|_| !run.status.is_terminal());
    Ok(RunView {
        id: run.id,
        host_id: run.host_id,
        host_name: host_name.unwrap_or_default(),
        plan_id: run.plan_id,
        plan_name,
        repository_id: run.repository_id,
        kind: run.kind,
        status: run.status,
        is_terminal: run.status.is_terminal(),
        dispatch: dispatch(&run, is_online),
        options: options(run.spec),
        requested_by: run.requested_by,
        created_at: run.created_at,
        expires_at: run.expires_at,
        started_at: run.started_at,
        finished_at: run.finished_at,
        cancel_requested_at: run.cancel_requested_at,
        progress: progress.as_deref().map(ProgressView::from),
        exit_code: run.exit_code,
        code: run.code,
        error: run.error,
        guidance: run.guidance,
        snapshot_id: run.snapshot_id,
        stats: run.stats,
        unreadable: run.unreadable.into_iter().map(UnreadableView::from).collect(),
        unreadable_count: run.unreadable_count,
        log_lines: run.log_lines,
        restore: run.restore.map(RestoreView::from),
        slot: run.slot,
    })
}

fn options(spec: RunSpec) -> RunOptionsView {
    match spec {
        RunSpec::Forget { dry_run, .. } | RunSpec::Prune { dry_run, .. } => {
            RunOptionsView { dry_run, ..RunOptionsView::default() }
        }
        RunSpec::Check { read_data, .. } => {
            RunOptionsView { read_data, ..RunOptionsView::default() }
        }
        RunSpec::Restore { snapshot_id, include, .. } => {
            RunOptionsView { snapshot_id: Some(snapshot_id), include, ..RunOptionsView::default() }
        }
        RunSpec::Backup { .. }
        | RunSpec::Init { .. }
        | RunSpec::Unlock { .. }
        | RunSpec::Stats { .. }
        | RunSpec::Unknown => RunOptionsView::default(),
    }
}

/// How far a run is, in words that do not say more than is known: once a command was sent, only the
/// machine can say what became of it.
fn dispatch(run: &Run, is_online: bool) -> DispatchView {
    let (stage, words) = match (run.status, run.dispatch) {
        (JobStatus::Running, Dispatch::Manager) => {
            (DispatchStage::Running, "running on this computer")
        }
        (JobStatus::Queued, Dispatch::Manager) => {
            (DispatchStage::Waiting, "waiting for its turn on this computer")
        }
        (JobStatus::Running, _) if is_online => (DispatchStage::Running, "running"),
        (JobStatus::Running, _) => (DispatchStage::Running, "running, no contact now"),
        (JobStatus::Queued, Dispatch::Waiting) if is_online => {
            (DispatchStage::Waiting, "waiting for its turn")
        }
        (JobStatus::Queued, Dispatch::Waiting) => {
            (DispatchStage::Waiting, "waiting for the machine")
        }
        (JobStatus::Queued, Dispatch::Sent) => (DispatchStage::Sent, "sent, no answer yet"),
        (JobStatus::Queued, Dispatch::Accepted | Dispatch::Going | Dispatch::Agent) => {
            (DispatchStage::Accepted, "accepted")
        }
        (
            JobStatus::Succeeded
            | JobStatus::Failed
            | JobStatus::Cancelled
            | JobStatus::Partial
            | JobStatus::Interrupted
            | JobStatus::Expired
            | JobStatus::Lost
            | JobStatus::Unknown,
            _,
        ) => (DispatchStage::Ended, "ended"),
    };
    DispatchView { stage, words: words.to_owned() }
}
