//! What agents tell of runs: that one has begun, and how it ended.

use crate::db::{
    Tx,
    error::DbError,
    row::{count, millis, to_json},
};
use jiff::{SignedDuration, Timestamp};
use protocol::{
    Code, HostId, JobFinished, JobKind, JobStarted, JobStatus, PlanId, RepositoryId, RunSpec,
};

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

/// Whose agent may report on a run; no host's where the manager does it itself.
async fn owner(tx: &mut Tx, id: &str) -> Result<Option<String>, DbError> {
    let owner = sqlx::query_scalar!(
        r#"SELECT iif(dispatch = 'manager', '', host_id) AS "owner!: String" FROM runs WHERE id = ?"#,
        id
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(owner)
}

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
    let at = millis(started.started_at);
    match owner(tx, &id).await? {
        Some(owner) if owner != host => return Ok(Reported::Foreign),
        Some(_) => {}
        None if open_told(tx, &host).await? >= OPEN_OF_AGENT => return Ok(Reported::TooMany),
        None => {
            insert_told(tx, &id, &host, &Told::of(started, now), now).await?;
        }
    }
    let done = sqlx::query!(
        "UPDATE runs SET status = 'running', started_at = ?, \
         dispatch = CASE dispatch WHEN 'agent' THEN 'agent' ELSE 'going' END, \
         revision = revision + 1 WHERE id = ? AND finished_at IS NULL AND status = 'queued'",
        at,
        id
    )
    .execute(&mut **tx)
    .await?;
    Ok(changed(done.rows_affected()))
}

/// Whether a slot lies ahead of the manager's clock, by more than two clocks differ. Nothing can have run
/// for it: a machine whose clock runs ahead must not be believed about what is still to come.
#[must_use]
pub fn is_ahead(slot: Timestamp, now: Timestamp) -> bool {
    slot.duration_since(now) > SignedDuration::from_mins(5)
}

async fn open_told(tx: &mut Tx, host: &str) -> Result<i64, DbError> {
    let open = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM runs
           WHERE host_id = ? AND finished_at IS NULL AND dispatch = 'agent'"#,
        host
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(open)
}

/// What is known of a run that only the agent told of.
struct Told {
    kind: JobKind,
    plan_id: Option<PlanId>,
    repository_id: Option<RepositoryId>,
    created_at: Option<Timestamp>,
    slot: Option<Timestamp>,
}

impl Told {
    fn of(started: &JobStarted, now: Timestamp) -> Self {
        Self {
            kind: started.kind,
            plan_id: started.schedule_id,
            repository_id: started.repository_id,
            created_at: Some(started.started_at),
            slot: started.slot.filter(|slot| !is_ahead(*slot, now)),
        }
    }

    fn spec(&self) -> RunSpec {
        let (schedule_id, repository_id) = (self.plan_id, self.repository_id);
        match self.kind {
            JobKind::Backup => RunSpec::Backup { schedule_id },
            JobKind::Forget => {
                RunSpec::Forget { schedule_id, dry_run: false, keep_suspects: false }
            }
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
}

async fn insert_told(
    tx: &mut Tx,
    id: &str,
    host: &str,
    told: &Told,
    now: Timestamp,
) -> Result<(), DbError> {
    let plan = told.plan_id.map(|plan| plan.to_string());
    let repository = told.repository_id.map(|repository| repository.to_string());
    let (kind, spec) = (told.kind.as_str(), to_json("runs", "spec", id, &told.spec())?);
    // A clock that runs ahead must not keep the run on top of every list for ever.
    let created = millis(told.created_at.map_or(now, |at| at.min(now)));
    let slot = told.slot.map(millis);
    sqlx::query!(
        "INSERT INTO runs (id, host_id, plan_id, repository_id, kind, spec, status, dispatch, \
         requested_by, created_at, slot) \
         VALUES (?, ?, ?, ?, ?, ?, 'queued', 'agent', 'agent', ?, ?)",
        id,
        host,
        plan,
        repository,
        kind,
        spec,
        created,
        slot
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Takes in how a run has ended.
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
    match owner(tx, &id).await? {
        Some(owner) if owner != host => return Ok(Reported::Foreign),
        Some(_) => {}
        None => {
            let told = Told {
                kind: JobKind::Unknown,
                plan_id: None,
                repository_id: None,
                created_at: Some(finished.finished_at),
                slot: None,
            };
            insert_told(tx, &id, &host, &told, now).await?;
        }
    }
    Ok(changed(end(tx, finished, now).await?))
}

/// Writes how a run ended, unless it had ended. Says how many rows changed.
pub(super) async fn end(
    tx: &mut Tx,
    finished: &JobFinished,
    now: Timestamp,
) -> Result<u64, DbError> {
    let id = finished.job_id.to_string();
    let status = if finished.status.is_terminal() && finished.status != JobStatus::Unknown {
        finished.status.as_str()
    } else {
        JobStatus::Failed.as_str()
    };
    let (at, exit_code) = (millis(finished.finished_at), i64::from(finished.exit_code));
    let code = finished.code.map(Code::as_str);
    let stats = maybe_json("stats", &id, finished.stats.as_ref())?;
    let restore = maybe_json("restore", &id, finished.restore.as_ref())?;
    let unreadable = (!finished.unreadable.is_empty()).then_some(&finished.unreadable);
    let unreadable = maybe_json("unreadable", &id, unreadable)?;
    let (unreadable_count, lines) = (count(finished.unreadable_count), count(finished.log_lines));
    let now = millis(now);
    let done = sqlx::query!(
        "UPDATE runs SET status = ?, finished_at = ?, exit_code = ?, error = ?, code = ?, \
         guidance = ?, snapshot_id = ?, stats = ?, unreadable = ?, unreadable_count = ?, \
         log_lines = ?, restore = ?, told_at = ?, revision = revision + 1 \
         WHERE id = ? AND finished_at IS NULL",
        status,
        at,
        exit_code,
        finished.error,
        code,
        finished.guidance,
        finished.snapshot_id,
        stats,
        unreadable,
        unreadable_count,
        lines,
        restore,
        now,
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

fn changed(rows: u64) -> Reported {
    if rows > 0 { Reported::Changed } else { Reported::Unchanged }
}
