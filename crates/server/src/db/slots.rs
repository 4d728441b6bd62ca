//! What slots are computed from: the times of each plan on each machine and when they held, when the
//! machine was awake, and what stood in the way.

use super::{
    Tx,
    error::DbError,
    row::{Row, count, millis, to_json},
};
use jiff::{SignedDuration, Timestamp};
use protocol::{AwakeInterval, Code, HostId, JobStatus, PlanId, RunId, SlotDeferred};
use sqlx::SqliteExecutor;
use std::collections::BTreeMap;

/// Intervals and deferrals that are kept of one machine or plan, however many it tells of.
const KEPT: i64 = 5_000;
/// Versions of a plan that are kept of a machine.
const KEPT_VERSIONS: i64 = 50;
/// How far back it is looked for what went before a time: longer than any plan pauses but a yearly one.
const BEFORE: SignedDuration = SignedDuration::from_hours(24 * 100);

/// When plans run: the expression of each that has one.
pub type Times = BTreeMap<PlanId, String>;

/// Keeps the times of a machine's newest generation until it has applied them or later ones.
///
/// # Errors
/// When the database fails.
pub async fn remember_generation(
    tx: &mut Tx,
    host: HostId,
    times: &Times,
    now: Timestamp,
) -> Result<(), DbError> {
    let (id, now) = (host.to_string(), millis(now));
    let times = to_json("generations", "times", &id, times)?;
    sqlx::query!(
        "INSERT OR REPLACE INTO generations (host_id, n, times, made_at) \
         SELECT id, generation, ?, ? FROM hosts WHERE id = ?",
        times,
        now,
        id
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The times of one generation, if they are still kept.
///
/// # Errors
/// When the database fails.
pub async fn of_generation(tx: &mut Tx, host: HostId, n: u64) -> Result<Option<Times>, DbError> {
    let (id, n) = (host.to_string(), count(n));
    let times =
        sqlx::query_scalar!("SELECT times FROM generations WHERE host_id = ? AND n = ?", id, n)
            .fetch_optional(&mut **tx)
            .await?;
    let row = Row { table: "generations", id: &id };
    times.map(|times| row.json("times", &times)).transpose()
}

/// A machine has applied these times, in this zone and at this moment of its clock; where that clock is
/// behind, when the generation was made, or when what held before began to. The times of generations before
/// this one are of no use any more.
///
/// # Errors
/// When the database fails.
pub async fn apply(
    tx: &mut Tx,
    host: HostId,
    n: u64,
    times: &Times,
    zone: &str,
    at: Timestamp,
) -> Result<(), DbError> {
    let (id, n, at) = (host.to_string(), count(n), millis(at));
    let at = sqlx::query_scalar!(
        r#"SELECT max(?1,
             coalesce((SELECT made_at FROM generations WHERE host_id = ?2 AND n = ?3), 0),
             coalesce((SELECT max(from_at) FROM plan_versions WHERE host_id = ?2 AND until_at IS NULL), 0)
           ) AS "at!: i64""#,
        at,
        id,
        n
    )
    .fetch_one(&mut **tx)
    .await?;
    let open = sqlx::query!(
        "SELECT plan_id, cron, time_zone FROM plan_versions WHERE host_id = ? AND until_at IS NULL",
        id
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut new: BTreeMap<String, &String> =
        times.iter().map(|(plan, cron)| (plan.to_string(), cron)).collect();
    for version in open {
        let is_same = version.time_zone == zone
            && new.get(&version.plan_id).is_some_and(|cron| **cron == version.cron);
        if is_same {
            new.remove(&version.plan_id);
            continue;
        }
        sqlx::query!(
            "UPDATE plan_versions SET until_at = ? \
             WHERE host_id = ? AND plan_id = ? AND until_at IS NULL",
            at,
            id,
            version.plan_id
        )
        .execute(&mut **tx)
        .await?;
    }
    for (plan, cron) in new {
        sqlx::query!(
            "INSERT OR REPLACE INTO plan_versions (host_id, plan_id, from_at, cron, time_zone) \
             VALUES (?, ?, ?, ?, ?)",
            id,
            plan,
            at,
            cron,
            zone
        )
        .execute(&mut **tx)
        .await?;
        sqlx::query!(
            "DELETE FROM plan_versions WHERE host_id = ?1 AND plan_id = ?2 AND from_at < \
             (SELECT from_at FROM plan_versions WHERE host_id = ?1 AND plan_id = ?2 \
             ORDER BY from_at DESC LIMIT 1 OFFSET ?3)",
            id,
            plan,
            KEPT_VERSIONS
        )
        .execute(&mut **tx)
        .await?;
    }
    sqlx::query!("DELETE FROM generations WHERE host_id = ? AND n < ?", id, n)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// A machine was awake.
///
/// # Errors
/// When the database fails.
pub async fn note_awake(tx: &mut Tx, host: HostId, awake: &AwakeInterval) -> Result<(), DbError> {
    let (id, from, until) = (host.to_string(), millis(awake.from), millis(awake.until));
    sqlx::query!(
        "INSERT OR REPLACE INTO awake (host_id, from_at, until_at) VALUES (?, ?, ?)",
        id,
        from,
        until
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "DELETE FROM awake WHERE host_id = ?1 AND from_at < \
         (SELECT from_at FROM awake WHERE host_id = ?1 ORDER BY from_at DESC LIMIT 1 OFFSET ?2)",
        id,
        KEPT
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A plan was due and did not begin. Of a plan that the machine never had it says nothing.
///
/// # Errors
/// When the database fails.
pub async fn note_deferral(
    tx: &mut Tx,
    host: HostId,
    deferred: &SlotDeferred,
) -> Result<(), DbError> {
    let (id, plan) = (host.to_string(), deferred.schedule_id.to_string());
    let (slot, at, code) = (millis(deferred.slot), millis(deferred.at), deferred.code.as_str());
    sqlx::query!(
        "INSERT OR REPLACE INTO deferrals (host_id, plan_id, at, slot, code) SELECT ?1, ?2, ?3, ?4, ?5 \
         WHERE EXISTS (SELECT 1 FROM plan_versions WHERE host_id = ?1 AND plan_id = ?2)",
        id,
        plan,
        at,
        slot,
        code
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "DELETE FROM deferrals WHERE host_id = ?1 AND plan_id = ?2 AND at < \
         (SELECT at FROM deferrals WHERE host_id = ?1 AND plan_id = ?2 ORDER BY at DESC LIMIT 1 OFFSET ?3)",
        id,
        plan,
        KEPT
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The times that a plan had on a machine, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The machine.
    pub host_id: HostId,
    /// The plan.
    pub plan_id: PlanId,
    /// From when on.
    pub from: Timestamp,
    /// Until when; `None` while they hold.
    pub until: Option<Timestamp>,
    /// The expression.
    pub cron: String,
    /// The IANA zone.
    pub time_zone: String,
}

/// The versions that held after this moment, of one machine or of all, in order.
///
/// # Errors
/// When the database fails.
pub async fn versions(
    db: impl SqliteExecutor<'_>,
    host: Option<HostId>,
    since: Timestamp,
) -> Result<Vec<Version>, DbError> {
    let (host, since) = (host.map(|host| host.to_string()), millis(since));
    let rows = sqlx::query!(
        "SELECT host_id, plan_id, from_at, until_at, cron, time_zone FROM plan_versions \
         WHERE (?1 IS NULL OR host_id = ?1) AND (until_at IS NULL OR until_at > ?2) \
         ORDER BY host_id, plan_id, from_at",
        host,
        since
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|version| {
            let row = Row { table: "plan_versions", id: &version.host_id };
            Ok(Version {
                host_id: row.parse("host_id", &version.host_id)?,
                plan_id: row.parse("plan_id", &version.plan_id)?,
                from: row.time("from_at", version.from_at)?,
                until: row.maybe_time("until_at", version.until_at)?,
                cron: version.cron,
                time_zone: version.time_zone,
            })
        })
        .collect()
}

/// When machines were awake after this moment, one or all, in order.
///
/// # Errors
/// When the database fails.
pub async fn awake(
    db: impl SqliteExecutor<'_>,
    host: Option<HostId>,
    since: Timestamp,
) -> Result<Vec<(HostId, AwakeInterval)>, DbError> {
    let (host, since) = (host.map(|host| host.to_string()), millis(since));
    let rows = sqlx::query!(
        "SELECT host_id, from_at, until_at FROM awake \
         WHERE (?1 IS NULL OR host_id = ?1) AND until_at > ?2 ORDER BY host_id, from_at",
        host,
        since
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|awake| {
            let row = Row { table: "awake", id: &awake.host_id };
            let from = row.time("from_at", awake.from_at)?;
            let until = row.time("until_at", awake.until_at)?;
            Ok((row.parse("host_id", &awake.host_id)?, AwakeInterval { from, until }))
        })
        .collect()
}

/// Times that ended after this moment and of which a machine told only at their end: its beginning and end,
/// of one machine or of all, in order.
///
/// # Errors
/// When the database fails.
pub async fn silences(
    db: impl SqliteExecutor<'_>,
    host: Option<HostId>,
    since: Timestamp,
) -> Result<Vec<(HostId, Timestamp, Timestamp)>, DbError> {
    let (host, since) = (host.map(|host| host.to_string()), millis(since));
    let rows = sqlx::query!(
        "SELECT host_id, from_at, told_at FROM silences \
         WHERE (?1 IS NULL OR host_id = ?1) AND told_at > ?2 ORDER BY host_id, told_at",
        host,
        since
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|silence| {
            let row = Row { table: "silences", id: &silence.host_id };
            let from = row.time("from_at", silence.from_at)?;
            let until = row.time("told_at", silence.told_at)?;
            Ok((row.parse("host_id", &silence.host_id)?, from, until))
        })
        .collect()
}

/// What stood in the way of slots after this moment, on one machine or on all, in the order that it was
/// found; and of each plan what did so before it, which may hold on.
///
/// # Errors
/// When the database fails.
pub async fn deferrals(
    db: impl SqliteExecutor<'_>,
    host: Option<HostId>,
    since: Timestamp,
) -> Result<Vec<(HostId, SlotDeferred)>, DbError> {
    let (host, since) = (host.map(|host| host.to_string()), millis(since));
    let rows = sqlx::query!(
        "SELECT host_id, plan_id, slot, at, code FROM deferrals \
         WHERE (?1 IS NULL OR host_id = ?1) AND at >= coalesce((SELECT max(at) FROM deferrals AS before \
         WHERE before.host_id = deferrals.host_id AND before.plan_id = deferrals.plan_id \
         AND before.at <= ?2), 0) ORDER BY host_id, plan_id, at",
        host,
        since
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|deferral| {
            let row = Row { table: "deferrals", id: &deferral.host_id };
            let deferred = SlotDeferred {
                schedule_id: row.parse("plan_id", &deferral.plan_id)?,
                slot: row.time("slot", deferral.slot)?,
                at: row.time("at", deferral.at)?,
                code: row.word::<Code>("code", &deferral.code)?,
            };
            Ok((row.parse("host_id", &deferral.host_id)?, deferred))
        })
        .collect()
}

/// A run that serves a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// The machine.
    pub host_id: HostId,
    /// The plan.
    pub plan_id: PlanId,
    /// The run.
    pub run_id: RunId,
    /// The slot.
    pub slot: Timestamp,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// How it stands.
    pub status: JobStatus,
}

/// The runs that serve slots after this moment, of one machine or of all, by slot and beginning; and of
/// each plan the one before them.
///
/// # Errors
/// When the database fails.
pub async fn served(
    db: impl SqliteExecutor<'_>,
    host: Option<HostId>,
    since: Timestamp,
) -> Result<Vec<Served>, DbError> {
    let host = host.map(|host| host.to_string());
    let before = millis(since.saturating_sub(BEFORE).unwrap_or(Timestamp::MIN));
    let since = millis(since);
    let rows = sqlx::query!(
        r#"SELECT id AS "id!", host_id AS "host_id!", plan_id AS "plan_id!", slot AS "slot!: i64",
           started AS "started!: i64", finished_at AS "finished_at: i64", status AS "status!" FROM (
             SELECT id, host_id, plan_id, slot, coalesce(started_at, created_at) AS started,
               finished_at, status FROM runs
             WHERE slot > ?2 AND plan_id IS NOT NULL AND (?1 IS NULL OR host_id = ?1)
             UNION ALL
             SELECT id, host_id, plan_id, max(slot), coalesce(started_at, created_at), finished_at, status
             FROM runs WHERE slot > ?3 AND slot <= ?2 AND plan_id IS NOT NULL
               AND (?1 IS NULL OR host_id = ?1) GROUP BY host_id, plan_id
           ) ORDER BY slot, started"#,
        host,
        since,
        before
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|run| {
            let row = Row { table: "runs", id: &run.id };
            Ok(Served {
                host_id: row.parse("host_id", &run.host_id)?,
                plan_id: row.parse("plan_id", &run.plan_id)?,
                run_id: row.parse("id", &run.id)?,
                slot: row.time("slot", run.slot)?,
                started: row.time("started_at", run.started)?,
                finished: row.maybe_time("finished_at", run.finished_at)?,
                status: row.word("status", &run.status)?,
            })
        })
        .collect()
}
