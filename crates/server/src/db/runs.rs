//! Runs, from the request to the outcome. The statements hold two rules that nothing above them can
//! break: a run that has ended never changes, and one outcome is told once.

use super::{
    Tx,
    error::DbError,
    row::{Row, count, millis, to_json, uncount},
};
use jiff::Timestamp;
use protocol::{
    Code, CommandNumber, HostId, JobKind, JobStatus, PlanId, RepositoryId, RestoreReport, RunId,
    RunSpec, UnreadableFile,
};
use serde_json::Value;
use sqlx::SqliteExecutor;

/// How far a run's command is on its way to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dispatch {
    /// It was never written to a connection: the manager may still end it.
    Waiting,
    /// It was written; from here on only the agent ends it.
    Sent,
    /// The agent has written it down.
    Accepted,
    /// The agent was told to start.
    Going,
    /// It is the agent's own run, or one from before this database.
    Agent,
    /// The manager does it itself; no agent is told of it, or believed about it.
    Manager,
}

impl Dispatch {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sent => "sent",
            Self::Accepted => "accepted",
            Self::Going => "going",
            Self::Agent => "agent",
            Self::Manager => "manager",
        }
    }

    fn read(row: Row<'_>, word: &str) -> Result<Self, DbError> {
        match word {
            "waiting" => Ok(Self::Waiting),
            "sent" => Ok(Self::Sent),
            "accepted" => Ok(Self::Accepted),
            "going" => Ok(Self::Going),
            "agent" => Ok(Self::Agent),
            "manager" => Ok(Self::Manager),
            _ => Err(row.inconsistent("dispatch")),
        }
    }
}

/// A run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// Where it runs.
    pub host_id: HostId,
    /// The plan it serves.
    pub plan_id: Option<PlanId>,
    /// The repository it works on.
    pub repository_id: Option<RepositoryId>,
    /// Its kind.
    pub kind: JobKind,
    /// What it is to do.
    pub spec: RunSpec,
    /// Its state.
    pub status: JobStatus,
    /// How far its command is.
    pub dispatch: Dispatch,
    /// Its command's number.
    pub command: Option<CommandNumber>,
    /// Who asked for it: a principal, or `agent`.
    pub requested_by: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it will no longer be started.
    pub expires_at: Option<Timestamp>,
    /// When it began, by the endpoint's clock.
    pub started_at: Option<Timestamp>,
    /// When it ended, by the endpoint's clock (the manager's when the manager ended it).
    pub finished_at: Option<Timestamp>,
    /// When a person asked to cancel it.
    pub cancel_requested_at: Option<Timestamp>,
    /// restic's exit code.
    pub exit_code: Option<i32>,
    /// What went wrong.
    pub error: Option<String>,
    /// The stable reason.
    pub code: Option<Code>,
    /// What to do next.
    pub guidance: Option<String>,
    /// The snapshot that was written.
    pub snapshot_id: Option<String>,
    /// restic's summary.
    pub stats: Option<Value>,
    /// Files that could not be read.
    pub unreadable: Vec<UnreadableFile>,
    /// How many there were in all.
    pub unreadable_count: u64,
    /// Log lines as the agent counted them.
    pub log_lines: Option<u64>,
    /// What a restore did.
    pub restore: Option<RestoreReport>,
    /// The slot of its plan that it serves; none for a run that somebody asked for.
    pub slot: Option<Timestamp>,
    /// Grows with each change.
    pub revision: u64,
}

struct RunRow {
    id: String,
    host_id: String,
    plan_id: Option<String>,
    repository_id: Option<String>,
    kind: String,
    spec: String,
    status: String,
    dispatch: String,
    command_incarnation: Option<String>,
    command_n: Option<i64>,
    requested_by: String,
    created_at: i64,
    expires_at: Option<i64>,
    started_at: Option<i64>,
    finished_at: Option<i64>,
    cancel_requested_at: Option<i64>,
    exit_code: Option<i64>,
    error: Option<String>,
    code: Option<String>,
    guidance: Option<String>,
    snapshot_id: Option<String>,
    stats: Option<String>,
    unreadable: Option<String>,
    unreadable_count: i64,
    log_lines: Option<i64>,
    restore: Option<String>,
    slot: Option<i64>,
    revision: i64,
}

impl TryFrom<RunRow> for Run {
    type Error = DbError;

    fn try_from(run: RunRow) -> Result<Self, DbError> {
        let row = Row { table: "runs", id: &run.id };
        let command = match (&run.command_incarnation, run.command_n) {
            (Some(incarnation), Some(n)) => Some(CommandNumber {
                incarnation: row.parse("command_incarnation", incarnation)?,
                n: uncount(n),
            }),
            _ => None,
        };
        let unreadable = row.maybe_json("unreadable", run.unreadable.as_deref())?;
        Ok(Self {
            id: row.parse("id", &run.id)?,
            host_id: row.parse("host_id", &run.host_id)?,
            plan_id: row.maybe_parse("plan_id", run.plan_id.as_deref())?,
            repository_id: row.maybe_parse("repository_id", run.repository_id.as_deref())?,
            kind: row.word("kind", &run.kind)?,
            spec: row.json("spec", &run.spec)?,
            status: row.word("status", &run.status)?,
            dispatch: Dispatch::read(row, &run.dispatch)?,
            command,
            created_at: row.time("created_at", run.created_at)?,
            expires_at: row.maybe_time("expires_at", run.expires_at)?,
            started_at: row.maybe_time("started_at", run.started_at)?,
            finished_at: row.maybe_time("finished_at", run.finished_at)?,
            cancel_requested_at: row.maybe_time("cancel_requested_at", run.cancel_requested_at)?,
            exit_code: run.exit_code.and_then(|code| i32::try_from(code).ok()),
            code: run.code.as_deref().map(|code| row.word("code", code)).transpose()?,
            stats: row.maybe_json("stats", run.stats.as_deref())?,
            unreadable: unreadable.unwrap_or_default(),
            unreadable_count: uncount(run.unreadable_count),
            log_lines: run.log_lines.map(uncount),
            restore: row.maybe_json("restore", run.restore.as_deref())?,
            slot: row.maybe_time("slot", run.slot)?,
            revision: uncount(run.revision),
            requested_by: run.requested_by,
            error: run.error,
            guidance: run.guidance,
            snapshot_id: run.snapshot_id,
        })
    }
}

/// The columns of [`RunRow`], once for all queries.
macro_rules! select_run {
    ($tail:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            RunRow,
            "SELECT id, host_id, plan_id, repository_id, kind, spec, status, dispatch, \
             command_incarnation, command_n, requested_by, created_at, expires_at, started_at, \
             finished_at, cancel_requested_at, exit_code, error, code, guidance, snapshot_id, \
             stats, unreadable, unreadable_count, log_lines, restore, slot, revision FROM runs " + $tail
            $(, $argument)*
        )
    };
}

mod end_here;
// Below the macro that they use.
mod own;
mod search;
mod told;
pub use end_here::EndHere;
pub use own::{begin_own, finish_own, interrupt_own, next_own};
pub use search::{RunFilter, search, standing};
pub use told::{Reported, Told, apply_finished, apply_started, is_ahead};

/// A run that is asked for.
#[derive(Clone, Debug)]
pub struct NewRun<'a> {
    /// Its id.
    pub id: RunId,
    /// Where it is to run.
    pub host_id: HostId,
    /// The plan it serves, also where the spec names only a repository.
    pub plan_id: Option<PlanId>,
    /// The repository it works on, also where the spec names only a plan.
    pub repository_id: Option<RepositoryId>,
    /// What it is to do.
    pub spec: &'a RunSpec,
    /// Who does it: [`Dispatch::Waiting`] for the host's agent, or [`Dispatch::Manager`].
    pub dispatch: Dispatch,
    /// Who asks.
    pub requested_by: &'a str,
    /// Now.
    pub created_at: Timestamp,
    /// When it shall no longer be started.
    pub expires_at: Option<Timestamp>,
}

/// Queues a run. After the commit publish it, and wake the host's session.
///
/// # Errors
/// When the database fails.
pub async fn insert(tx: &mut Tx, run: &NewRun<'_>) -> Result<(), DbError> {
    let (id, host) = (run.id.to_string(), run.host_id.to_string());
    let plan = run.plan_id.map(|plan| plan.to_string());
    let repository = run.repository_id.map(|repository| repository.to_string());
    let kind = run.spec.kind().as_str();
    let spec = to_json("runs", "spec", &id, run.spec)?;
    let dispatch = run.dispatch.as_str();
    let (created, expires) = (millis(run.created_at), run.expires_at.map(millis));
    sqlx::query!(
        "INSERT INTO runs (id, host_id, plan_id, repository_id, kind, spec, status, dispatch, \
         requested_by, created_at, expires_at) \
         VALUES (?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?, ?)",
        id,
        host,
        plan,
        repository,
        kind,
        spec,
        dispatch,
        run.requested_by,
        created,
        expires
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// One run.
///
/// # Errors
/// When the database fails.
pub async fn find(db: impl SqliteExecutor<'_>, run: RunId) -> Result<Option<Run>, DbError> {
    let id = run.to_string();
    select_run!("WHERE id = ?", id).fetch_optional(db).await?.map(Run::try_from).transpose()
}

/// Runs of one host or of all, newest first; the next page begins after the run `before`.
///
/// # Errors
/// When the database fails.
pub async fn list(
    db: impl SqliteExecutor<'_>,
    host: Option<HostId>,
    before: Option<RunId>,
    limit: u32,
) -> Result<Vec<Run>, DbError> {
    let host = host.map(|host| host.to_string());
    let before = before.map(|run| run.to_string());
    let limit = i64::from(limit);
    let rows = select_run!(
        "WHERE (?1 IS NULL OR host_id = ?1) AND (?2 IS NULL OR (created_at, id) < \
         (SELECT r.created_at, r.id FROM runs r WHERE r.id = ?2)) \
         ORDER BY created_at DESC, id DESC LIMIT ?3",
        host,
        before,
        limit
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(Run::try_from).collect()
}

/// The runs of a host that have not ended, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn open_of_host(db: impl SqliteExecutor<'_>, host: HostId) -> Result<Vec<Run>, DbError> {
    let host = host.to_string();
    let rows =
        select_run!("WHERE host_id = ? AND finished_at IS NULL ORDER BY created_at, id", host)
            .fetch_all(db)
            .await?;
    rows.into_iter().map(Run::try_from).collect()
}

/// The runs of these hosts that have not ended, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn open_of_hosts(
    db: impl SqliteExecutor<'_>,
    hosts: &[HostId],
) -> Result<Vec<Run>, DbError> {
    let hosts = to_json("runs", "host_id", "many", hosts)?;
    let rows = select_run!(
        "WHERE finished_at IS NULL AND host_id IN (SELECT value FROM json_each(?)) \
         ORDER BY created_at, id",
        hosts
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(Run::try_from).collect()
}

/// All runs that have not ended, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn open(db: impl SqliteExecutor<'_>) -> Result<Vec<Run>, DbError> {
    let rows =
        select_run!("WHERE finished_at IS NULL ORDER BY created_at, id").fetch_all(db).await?;
    rows.into_iter().map(Run::try_from).collect()
}

/// Notes that a person wants a run to end; one that nobody but the manager knows of and that has not
/// begun ends at once. After the commit wake the host's session. Says whether the run is open and
/// nobody asked before.
///
/// # Errors
/// When the database fails.
pub async fn request_cancel(tx: &mut Tx, run: RunId, now: Timestamp) -> Result<bool, DbError> {
    let (id, now) = (run.to_string(), millis(now));
    let done = sqlx::query!(
        "UPDATE runs SET cancel_requested_at = ?1, revision = revision + 1, \
         status = iif(status = 'queued' AND dispatch IN ('waiting', 'manager'), 'cancelled', status), \
         code = iif(status = 'queued' AND dispatch IN ('waiting', 'manager'), 'cancelled', code), \
         error = iif(status = 'queued' AND dispatch IN ('waiting', 'manager'), \
         iif(dispatch = 'waiting', 'Cancelled before it was sent to the machine; nothing was done.', \
         'Cancelled before it began; nothing was done.'), error), \
         finished_at = iif(status = 'queued' AND dispatch IN ('waiting', 'manager'), ?1, finished_at) \
         WHERE id = ?2 AND finished_at IS NULL AND cancel_requested_at IS NULL",
        now,
        id
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Ends the runs that were never written to a connection and whose time is over.
///
/// # Errors
/// When the database fails.
pub async fn expire_waiting(tx: &mut Tx, now: Timestamp) -> Result<Vec<Run>, DbError> {
    let now_ms = millis(now);
    let due = select_run!(
        "WHERE finished_at IS NULL AND dispatch = 'waiting' AND expires_at <= ?",
        now_ms
    )
    .fetch_all(&mut **tx)
    .await?;
    let due: Vec<Run> = due.into_iter().map(Run::try_from).collect::<Result<_, _>>()?;
    for run in &due {
        finish_here(tx, run.id, &EndHere::expired(), now).await?;
    }
    Ok(due)
}

/// Ends the open runs of a host that is removed: nobody will ever know.
///
/// # Errors
/// When the database fails.
pub async fn finish_lost(tx: &mut Tx, host: HostId, now: Timestamp) -> Result<Vec<RunId>, DbError> {
    let (host, now) = (host.to_string(), millis(now));
    let rows = sqlx::query!(
        "UPDATE runs SET status = 'lost', code = 'lost', finished_at = ?, \
         error = 'The machine was removed before the end of this run was known.', \
         revision = revision + 1 WHERE host_id = ? AND finished_at IS NULL RETURNING id",
        now,
        host
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.iter().map(|row| Row { table: "runs", id: &row.id }.parse("id", &row.id)).collect()
}

/// Moves a run's command on. Says whether the run was where it was thought to be; it never moves
/// once it has ended.
///
/// # Errors
/// When the database fails.
pub async fn advance(
    tx: &mut Tx,
    run: RunId,
    from: Dispatch,
    to: Dispatch,
) -> Result<bool, DbError> {
    let (id, from, to) = (run.to_string(), from.as_str(), to.as_str());
    let done = sqlx::query!(
        "UPDATE runs SET dispatch = ?, revision = revision + 1 \
         WHERE id = ? AND dispatch = ? AND finished_at IS NULL",
        to,
        id,
        from
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Gives a run's command its number.
///
/// # Errors
/// When the database fails.
pub async fn set_command(tx: &mut Tx, run: RunId, number: CommandNumber) -> Result<(), DbError> {
    let (id, incarnation, n) = (run.to_string(), number.incarnation.to_string(), count(number.n));
    sqlx::query!(
        "UPDATE runs SET command_incarnation = ?, command_n = ? \
         WHERE id = ? AND finished_at IS NULL",
        incarnation,
        n,
        id
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Ends a run as the manager decides. Says whether it was open.
///
/// # Errors
/// When the database fails.
pub async fn finish_here(
    tx: &mut Tx,
    run: RunId,
    end: &EndHere,
    now: Timestamp,
) -> Result<bool, DbError> {
    let (id, status, code) = (run.to_string(), end.status.as_str(), end.code.as_str());
    let now = millis(now);
    let done = sqlx::query!(
        "UPDATE runs SET status = ?, code = ?, error = ?, guidance = ?, finished_at = ?, \
         revision = revision + 1 WHERE id = ? AND finished_at IS NULL",
        status,
        code,
        end.error,
        end.guidance,
        now,
        id
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// How many runs of one machine ended in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The machine.
    pub host_id: HostId,
    /// In which way.
    pub status: JobStatus,
    /// How many.
    pub count: u32,
}

/// How the runs ended of which the manager has learnt so after the one moment and up to the other, by machine
/// and status.
///
/// # Errors
/// When the database fails.
pub async fn ended_since(
    db: impl SqliteExecutor<'_>,
    since: Timestamp,
    until: Timestamp,
) -> Result<Vec<Ended>, DbError> {
    let (since, until) = (millis(since), millis(until));
    let rows = sqlx::query!(
        r#"SELECT host_id, status, count(*) AS "count!: i64" FROM runs
           WHERE coalesce(told_at, finished_at) > ? AND coalesce(told_at, finished_at) <= ? GROUP BY host_id, status ORDER BY host_id, status"#,
        since,
        until
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|ended| {
            let row = Row { table: "runs", id: &ended.host_id };
            Ok(Ended {
                host_id: row.parse("host_id", &ended.host_id)?,
                status: row.word("status", &ended.status)?,
                count: u32::try_from(ended.count).unwrap_or(u32::MAX),
            })
        })
        .collect()
}
