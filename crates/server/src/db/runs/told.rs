//! What agents tell of runs: that one has begun, and how it ended.

use crate::db::{
    Tx,
    error::DbError,
    row::{count, millis, to_json},
};
use jiff::{SignedDuration, Timestamp};
use protocol::{Code, HostId, JobFinished, JobKind, JobStarted, JobStatus, RunSpec};

/// What an agent's report did to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// The run is as reported now.
    Changed,
    /// The run had ended, or was there already: nothing changed.
    Unchanged,
    /// The run belongs to another host or to the manager, and the report to nobody.
    Foreign,
    /// The host has told of very many runs that have not ended; this one is not taken.
    TooMany,
}

/// Runs of its own that a host may have open at once. All of them are read when its session asks
/// what is to be done.
const OPEN_OF_AGENT: i64 = 1_000;

/// Takes in that a run has begun. One that is not known is the agent's own, or older than this
/// database.
///
/// # Errors
/// When the database fails.
pub async fn apply_started(
    tx: &mut Tx,
    host: HostId,
    started: &JobStarted,
    now: Timestamp,
) -> Result<Reported, DbError> {
    let (id, host) = (started.job_id.to_string(), host.to_string());
    let plan = started.schedule_id.map(|plan| plan.to_string());
    let repository = started.repository_id.map(|repository| repository.to_string());
    let (kind, spec) = (started.kind.as_str(), to_json("runs", "spec", &id, &spec(started))?);
    let begun = millis(started.started_at);
    // A clock that runs ahead must not keep the run on top of every list for ever.
    let created = begun.min(millis(now));
    let slot = started.slot.filter(|slot| !is_ahead(*slot, now)).map(millis);
    // One statement: to hand one over costs more than what SQLite does with it.
    let done = sqlx::query!(
        "INSERT INTO runs (id, host_id, plan_id, repository_id, kind, spec, status, dispatch, \
         requested_by, created_at, started_at, slot, revision) \
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, 'running', 'agent', 'agent', ?7, ?8, ?9, 1 \
         WHERE EXISTS (SELECT 1 FROM runs WHERE id = ?1) OR ?10 > (SELECT count(*) FROM runs \
         WHERE host_id = ?2 AND finished_at IS NULL AND dispatch = 'agent') \
         ON CONFLICT (id) DO UPDATE SET status = 'running', started_at = excluded.started_at, \
         dispatch = iif(dispatch = 'agent', 'agent', 'going'), revision = revision + 1 \
         WHERE host_id = excluded.host_id AND dispatch <> 'manager' AND finished_at IS NULL \
         AND status = 'queued'",
        id,
        host,
        plan,
        repository,
        kind,
        spec,
        created,
        begun,
        slot,
        OPEN_OF_AGENT
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() > 0 {
        return Ok(Reported::Changed);
    }
    Ok(not_taken(tx, &id, &host).await?.unwrap_or(Reported::TooMany))
}

/// Why a report about a run changed nothing; `None` where there is no such run.
async fn not_taken(tx: &mut Tx, id: &str, host: &str) -> Result<Option<Reported>, DbError> {
    let is_own = sqlx::query_scalar!(
        r#"SELECT dispatch <> 'manager' AND host_id = ? AS "is_own!: bool" FROM runs WHERE id = ?"#,
        host,
        id
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(is_own.map(|is_own| if is_own { Reported::Unchanged } else { Reported::Foreign }))
}

/// Whether a slot lies ahead of the manager's clock, by more than two clocks differ. Nothing can have run
/// for it: a machine whose clock runs ahead must not be believed about what is still to come.
#[must_use]
pub fn is_ahead(slot: Timestamp, now: Timestamp) -> bool {
    slot.duration_since(now) > SignedDuration::from_mins(5)
}

/// What a run was to do, as far as its agent tells.
fn spec(started: &JobStarted) -> RunSpec {
    let (schedule_id, repository_id) = (started.schedule_id, started.repository_id);
    match started.kind {
        JobKind::Backup => RunSpec::Backup { schedule_id },
        JobKind::Forget => RunSpec::Forget { schedule_id, dry_run: false, keep_suspects: false },
        JobKind::Init => RunSpec::Init { repository_id },
        JobKind::Prune => RunSpec::Prune { repository_id, dry_run: false },
        JobKind::Check => RunSpec::Check { repository_id, read_data: false },
        JobKind::Unlock => RunSpec::Unlock { repository_id },
        JobKind::Stats => RunSpec::Stats { repository_id },
        JobKind::Restore
        | JobKind::Diff
        | JobKind::Copy
        | JobKind::Ls
        | JobKind::Find
        | JobKind::Dump
        | JobKind::Unknown => RunSpec::Unknown,
    }
}

/// Takes in how a run has ended. Of one that is not known nothing else will be.
///
/// # Errors
/// When the database fails.
pub async fn apply_finished(
    tx: &mut Tx,
    host: HostId,
    finished: &JobFinished,
    now: Timestamp,
) -> Result<Reported, DbError> {
    let (id, host) = (finished.job_id.to_string(), host.to_string());
    let end = End::of(finished, now)?;
    let (kind, spec) =
        (JobKind::Unknown.as_str(), to_json("runs", "spec", &id, &RunSpec::Unknown)?);
    let created = end.at.min(end.told_at);
    let done = sqlx::query!(
        "INSERT INTO runs (id, host_id, kind, spec, dispatch, requested_by, created_at, status, \
         finished_at, exit_code, error, code, guidance, snapshot_id, stats, unreadable, \
         unreadable_count, log_lines, restore, told_at, revision) \
         VALUES (?, ?, ?, ?, 'agent', 'agent', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1) \
         ON CONFLICT (id) DO UPDATE SET status = excluded.status, \
         finished_at = excluded.finished_at, exit_code = excluded.exit_code, \
         error = excluded.error, code = excluded.code, guidance = excluded.guidance, \
         snapshot_id = excluded.snapshot_id, stats = excluded.stats, \
         unreadable = excluded.unreadable, unreadable_count = excluded.unreadable_count, \
         log_lines = excluded.log_lines, restore = excluded.restore, \
         told_at = excluded.told_at, revision = revision + 1 \
         WHERE host_id = excluded.host_id AND dispatch <> 'manager' AND finished_at IS NULL",
        id,
        host,
        kind,
        spec,
        created,
        end.status,
        end.at,
        finished.exit_code,
        finished.error,
        end.code,
        finished.guidance,
        finished.snapshot_id,
        end.stats,
        end.unreadable,
        end.unreadable_count,
        end.log_lines,
        end.restore,
        end.told_at
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() > 0 {
        return Ok(Reported::Changed);
    }
    Ok(not_taken(tx, &id, &host).await?.unwrap_or(Reported::Unchanged))
}

/// The columns that an end sets and that are stored otherwise than they are told.
struct End {
    status: &'static str,
    at: i64,
    code: Option<&'static str>,
    stats: Option<String>,
    unreadable: Option<String>,
    unreadable_count: i64,
    log_lines: i64,
    restore: Option<String>,
    told_at: i64,
}

impl End {
    fn of(finished: &JobFinished, now: Timestamp) -> Result<Self, DbError> {
        let id = finished.job_id.to_string();
        let is_end = finished.status.is_terminal() && finished.status != JobStatus::Unknown;
        let unreadable = (!finished.unreadable.is_empty()).then_some(&finished.unreadable);
        Ok(Self {
            status: if is_end { finished.status } else { JobStatus::Failed }.as_str(),
            at: millis(finished.finished_at),
            code: finished.code.map(Code::as_str),
            stats: maybe_json("stats", &id, finished.stats.as_ref())?,
            unreadable: maybe_json("unreadable", &id, unreadable)?,
            unreadable_count: count(finished.unreadable_count),
            log_lines: count(finished.log_lines),
            restore: maybe_json("restore", &id, finished.restore.as_ref())?,
            told_at: millis(now),
        })
    }
}

/// Writes how a run ended, unless it had ended. Says how many rows changed.
pub(super) async fn end(
    tx: &mut Tx,
    finished: &JobFinished,
    now: Timestamp,
) -> Result<u64, DbError> {
    let id = finished.job_id.to_string();
    let end = End::of(finished, now)?;
    let done = sqlx::query!(
        "UPDATE runs SET status = ?, finished_at = ?, exit_code = ?, error = ?, code = ?, \
         guidance = ?, snapshot_id = ?, stats = ?, unreadable = ?, unreadable_count = ?, \
         log_lines = ?, restore = ?, told_at = ?, revision = revision + 1 \
         WHERE id = ? AND finished_at IS NULL",
        end.status,
        end.at,
        finished.exit_code,
        finished.error,
        end.code,
        finished.guidance,
        finished.snapshot_id,
        end.stats,
        end.unreadable,
        end.unreadable_count,
        end.log_lines,
        end.restore,
        end.told_at,
        id
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected())
}

fn maybe_json<T: serde::Serialize>(
    column: &'static str,
    id: &str,
    value: Option<&T>,
) -> Result<Option<String>, DbError> {
    value.map(|value| to_json("runs", column, id, value)).transpose()
}
