//! What agents tell of runs: that one has begun, and how it ended.

use crate::db::{
    Tx,
    error::DbError,
    row::{Row, count, millis, to_json},
};
use jiff::{SignedDuration, Timestamp};
use protocol::{
    Code, HostId, JobFinished, JobKind, JobStarted, JobStatus, PlanId, RepositoryId, RunId, RunSpec,
};
use serde::Serialize;
use std::collections::{BTreeMap, btree_map::Entry};

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

/// Runs of its own that a host may have open, and that more are not added to. All of them are read when its
/// session asks what is to be done.
const OPEN_OF_AGENT: i64 = 1_000;

/// What hosts tell of runs: of each run of a host once.
pub type Told<T> = BTreeMap<(HostId, RunId), T>;

/// Takes in that runs have begun, and says what that did to each. One that is not known is the agent's own,
/// or older than this database.
///
/// # Errors
/// When the database fails.
pub async fn apply_started(
    tx: &mut Tx,
    told: &Told<JobStarted>,
    now: Timestamp,
) -> Result<Told<Reported>, DbError> {
    let rows: Vec<_> =
        told.iter().map(|(&(host, _), started)| Begun::of(host, started, now)).collect();
    let rows = to_json("runs", "id", "many", &rows)?;
    // One statement for all of them: to hand one over costs more than what SQLite does with it.
    let changed = sqlx::query_as!(
        Changed,
        "INSERT INTO runs (id, host_id, plan_id, repository_id, kind, spec, created_at, started_at, \
         slot, status, dispatch, requested_by, revision) \
         SELECT told.value ->> 'id', told.value ->> 'host', told.value ->> 'plan', \
         told.value ->> 'repository', told.value ->> 'kind', told.value -> 'spec', \
         told.value ->> 'created', told.value ->> 'begun', told.value ->> 'slot', \
         'running', 'agent', 'agent', 1 FROM json_each(?1) AS told \
         WHERE EXISTS (SELECT 1 FROM runs WHERE id = told.value ->> 'id') OR ?2 > (SELECT count(*) \
         FROM runs WHERE host_id = told.value ->> 'host' AND finished_at IS NULL \
         AND dispatch = 'agent') \
         ON CONFLICT (id) DO UPDATE SET status = 'running', started_at = excluded.started_at, \
         dispatch = iif(dispatch = 'agent', 'agent', 'going'), revision = revision + 1 \
         WHERE host_id = excluded.host_id AND dispatch <> 'manager' AND finished_at IS NULL \
         AND status = 'queued' RETURNING id, host_id",
        rows,
        OPEN_OF_AGENT
    )
    .fetch_all(&mut **tx)
    .await?;
    reported(tx, told, &changed, Reported::TooMany).await
}

/// The beginning of a run as it is stored. What else a run has is not known before its end.
#[derive(Serialize)]
struct Begun {
    id: RunId,
    host: HostId,
    plan: Option<PlanId>,
    repository: Option<RepositoryId>,
    kind: &'static str,
    spec: RunSpec,
    created: i64,
    begun: i64,
    slot: Option<i64>,
}

impl Begun {
    fn of(host: HostId, started: &JobStarted, now: Timestamp) -> Self {
        let begun = millis(started.started_at);
        Self {
            id: started.job_id,
            host,
            plan: started.schedule_id,
            repository: started.repository_id,
            kind: started.kind.as_str(),
            spec: spec(started),
            // A clock that runs ahead must not keep the run on top of every list for ever.
            created: begun.min(millis(now)),
            begun,
            slot: started.slot.filter(|slot| !is_ahead(*slot, now)).map(millis),
        }
    }
}

/// A run that was changed.
struct Changed {
    id: String,
    host_id: String,
}

/// What a statement did to each run that it was told of. `unknown` is what it means where there is no such
/// run, and none was made.
async fn reported<T>(
    tx: &mut Tx,
    told: &Told<T>,
    changed: &[Changed],
    unknown: Reported,
) -> Result<Told<Reported>, DbError> {
    let mut reported = BTreeMap::new();
    for changed in changed {
        let row = Row { table: "runs", id: &changed.id };
        let key = (row.parse("host_id", &changed.host_id)?, row.parse("id", &changed.id)?);
        reported.insert(key, Reported::Changed);
    }
    for &(host, run) in told.keys() {
        if let Entry::Vacant(vacant) = reported.entry((host, run)) {
            vacant.insert(not_taken(tx, run, host).await?.unwrap_or(unknown));
        }
    }
    Ok(reported)
}

/// Why a report about a run changed nothing; `None` where there is no such run.
async fn not_taken(tx: &mut Tx, run: RunId, host: HostId) -> Result<Option<Reported>, DbError> {
    let (id, host) = (run.to_string(), host.to_string());
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

/// Takes in how runs have ended, and says what that did to each. Of one that is not known nothing else will
/// be.
///
/// # Errors
/// When the database fails.
pub async fn apply_finished(
    tx: &mut Tx,
    told: &Told<JobFinished>,
    now: Timestamp,
) -> Result<Told<Reported>, DbError> {
    let rows = told.iter().map(|(&(host, _), finished)| Ended::of(host, finished, now));
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    let rows = to_json("runs", "id", "many", &rows)?;
    let (kind, spec) =
        (JobKind::Unknown.as_str(), to_json("runs", "spec", "many", &RunSpec::Unknown)?);
    let changed = sqlx::query_as!(
        Changed,
        "INSERT INTO runs (id, host_id, created_at, status, finished_at, exit_code, error, code, \
         guidance, snapshot_id, stats, unreadable, unreadable_count, log_lines, restore, told_at, \
         kind, spec, dispatch, requested_by, revision) \
         SELECT told.value ->> 'id', told.value ->> 'host', \
         told.value ->> 'created', \
         told.value ->> 'status', told.value ->> 'at', told.value ->> 'exit_code', \
         told.value ->> 'error', told.value ->> 'code', told.value ->> 'guidance', \
         told.value ->> 'snapshot_id', told.value ->> 'stats', \
         told.value ->> 'unreadable', told.value ->> 'unreadable_count', \
         told.value ->> 'log_lines', told.value ->> 'restore', \
         told.value ->> 'told_at', ?2, ?3, 'agent', 'agent', 1 \
         FROM json_each(?1) AS told WHERE true \
         ON CONFLICT (id) DO UPDATE SET status = excluded.status, \
         finished_at = excluded.finished_at, exit_code = excluded.exit_code, \
         error = excluded.error, code = excluded.code, guidance = excluded.guidance, \
         snapshot_id = excluded.snapshot_id, stats = excluded.stats, \
         unreadable = excluded.unreadable, unreadable_count = excluded.unreadable_count, \
         log_lines = excluded.log_lines, restore = excluded.restore, \
         told_at = excluded.told_at, revision = revision + 1 \
         WHERE host_id = excluded.host_id AND dispatch <> 'manager' AND finished_at IS NULL \
         RETURNING id, host_id",
        rows,
        kind,
        spec
    )
    .fetch_all(&mut **tx)
    .await?;
    reported(tx, told, &changed, Reported::Unchanged).await
}

/// The end of a run as it is stored.
#[derive(Serialize)]
struct Ended<'a> {
    id: RunId,
    host: HostId,
    created: i64,
    exit_code: i32,
    error: Option<&'a str>,
    guidance: Option<&'a str>,
    snapshot_id: Option<&'a str>,
    #[serde(flatten)]
    end: End,
}

impl<'a> Ended<'a> {
    fn of(host: HostId, finished: &'a JobFinished, now: Timestamp) -> Result<Self, DbError> {
        let end = End::of(finished, now)?;
        Ok(Self {
            id: finished.job_id,
            host,
            created: end.at.min(end.told_at),
            exit_code: finished.exit_code,
            error: finished.error.as_deref(),
            guidance: finished.guidance.as_deref(),
            snapshot_id: finished.snapshot_id.as_deref(),
            end,
        })
    }
}

/// The columns that an end sets and that are stored otherwise than they are told.
#[derive(Serialize)]
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
