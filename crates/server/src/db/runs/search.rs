//! Looking for runs, as the admin's screens do.

use super::{Run, RunRow};
use crate::db::error::DbError;
use protocol::{HostId, JobKind, PlanId, RepositoryId, RunId};
use sqlx::SqliteExecutor;

/// Which runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunFilter {
    /// Those of this host.
    pub host: Option<HostId>,
    /// Those that serve this plan.
    pub plan: Option<PlanId>,
    /// Those that work on this repository.
    pub repository: Option<RepositoryId>,
    /// Those of this kind.
    pub kind: Option<JobKind>,
    /// Those that have not ended, or that have.
    pub is_open: Option<bool>,
    /// Those older than this one.
    pub before: Option<RunId>,
}

/// The runs that the filter lets through, newest first.
///
/// # Errors
/// When the database fails.
pub async fn search(
    db: impl SqliteExecutor<'_>,
    filter: &RunFilter,
    limit: u32,
) -> Result<Vec<Run>, DbError> {
    let host = filter.host.map(|host| host.to_string());
    let plan = filter.plan.map(|plan| plan.to_string());
    let repository = filter.repository.map(|repository| repository.to_string());
    let (kind, is_open) = (filter.kind.map(JobKind::as_str), filter.is_open);
    let before = filter.before.map(|run| run.to_string());
    let limit = i64::from(limit);
    let rows = select_run!(
        "WHERE (?1 IS NULL OR host_id = ?1) AND (?2 IS NULL OR plan_id = ?2) \
         AND (?3 IS NULL OR repository_id = ?3) AND (?4 IS NULL OR kind = ?4) \
         AND (?5 IS NULL OR (finished_at IS NULL) = ?5) \
         AND (?6 IS NULL OR (created_at, id) < \
         (SELECT r.created_at, r.id FROM runs r WHERE r.id = ?6)) \
         ORDER BY created_at DESC, id DESC LIMIT ?7",
        host,
        plan,
        repository,
        kind,
        is_open,
        before,
        limit
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(Run::try_from).collect()
}

/// What tells how hosts stand, of one host or of all, newest first: the newest run of each host,
/// kind, plan and repository, and of backups also the newest that left a snapshot and the newest that failed.
///
/// # Errors
/// When the database fails.
pub async fn standing(
    db: impl SqliteExecutor<'_>,
    host: Option<HostId>,
) -> Result<Vec<Run>, DbError> {
    let host = host.map(|host| host.to_string());
    // A bare column beside `max` is SQLite's own: it comes from the row that has the maximum. With
    // the index it takes half of what numbering the rows of each group does.
    let rows = select_run!(
        "WHERE id IN (SELECT id FROM (SELECT id, max(created_at) FROM runs \
         WHERE ?1 IS NULL OR host_id = ?1 GROUP BY host_id, kind, plan_id, repository_id \
         UNION ALL SELECT id, max(created_at) FROM runs WHERE kind = 'backup' \
         AND status IN ('succeeded', 'partial') AND (?1 IS NULL OR host_id = ?1) \
         GROUP BY host_id, plan_id, repository_id \
         UNION ALL SELECT id, max(created_at) FROM runs WHERE kind = 'backup' \
         AND status IN ('failed', 'interrupted', 'lost', 'unknown') AND (?1 IS NULL OR host_id = ?1) \
         GROUP BY host_id, plan_id, repository_id)) ORDER BY created_at DESC, id DESC",
        host
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(Run::try_from).collect()
}
