//! The runs that the manager does itself, one after another.

use super::{Run, RunRow, told::end};
use crate::db::{Tx, error::DbError, row::millis};
use jiff::Timestamp;
use protocol::{JobFinished, Problem, RunId};
use sqlx::SqliteExecutor;

/// The next run that waits for the manager itself, if there is one.
///
/// # Errors
/// When the database fails.
pub async fn next_own(db: impl SqliteExecutor<'_>) -> Result<Option<Run>, DbError> {
    let row = select_run!(
        "WHERE dispatch = 'manager' AND status = 'queued' AND finished_at IS NULL \
         ORDER BY created_at, id LIMIT 1"
    )
    .fetch_optional(db)
    .await?;
    row.map(Run::try_from).transpose()
}

/// Notes that the manager has begun a run of its own. Says whether it still waited.
///
/// # Errors
/// When the database fails.
pub async fn begin_own(tx: &mut Tx, run: RunId, now: Timestamp) -> Result<bool, DbError> {
    let (id, now) = (run.to_string(), millis(now));
    let done = sqlx::query!(
        "UPDATE runs SET status = 'running', started_at = ?, revision = revision + 1 \
         WHERE id = ? AND dispatch = 'manager' AND status = 'queued' AND finished_at IS NULL",
        now,
        id
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Notes how a run of the manager's own ended. Says whether it had not ended before.
///
/// # Errors
/// When the database fails.
pub async fn finish_own(tx: &mut Tx, finished: &JobFinished) -> Result<bool, DbError> {
    Ok(end(tx, finished, finished.finished_at).await? > 0)
}

/// Ends the runs that an earlier process of the manager had begun and that nobody goes on with, for
/// this reason.
///
/// # Errors
/// When the database fails.
pub async fn interrupt_own(tx: &mut Tx, why: &Problem, now: Timestamp) -> Result<(), DbError> {
    let (now, code) = (millis(now), why.code.as_str());
    sqlx::query!(
        "UPDATE runs SET status = 'interrupted', code = ?, finished_at = ?, error = ?, guidance = ?, \
         revision = revision + 1 \
         WHERE dispatch = 'manager' AND status = 'running' AND finished_at IS NULL",
        code,
        now,
        why.message,
        why.guidance
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
