//! What agents told by themselves, as they report it.

use super::{
    Tx,
    error::DbError,
    row::{Row, millis},
};
use jiff::Timestamp;
use protocol::{
    AlarmDelivered, AlarmId, AlarmRaised, AlarmState, ChannelId, Code, DeliveryResult, HostId,
    PlanId, RepositoryId, RunId,
};
use sqlx::SqliteConnection;
use std::collections::BTreeMap;

/// Alarms of one host that are kept.
const KEPT_OF_HOST: i64 = 500;

/// An alarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Its id.
    pub id: AlarmId,
    /// Whose it is.
    pub host_id: HostId,
    /// The plan, which may be gone.
    pub plan_id: PlanId,
    /// Its repository.
    pub repository_id: Option<RepositoryId>,
    /// The run that changed it.
    pub run_id: Option<RunId>,
    /// How the plan stands.
    pub state: AlarmState,
    /// How it stood before.
    pub was: AlarmState,
    /// When that changed.
    pub at: Timestamp,
    /// When the last good run before this began.
    pub last_good: Option<Timestamp>,
    /// Why.
    pub code: Option<Code>,
    /// Who was to be told.
    pub deliveries: Vec<Delivery>,
}

/// What became of an alarm on one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The channel, which may be gone.
    pub channel_id: ChannelId,
    /// As it was called.
    pub channel_name: String,
    /// What became of it; none while the agent tries.
    pub result: Option<DeliveryResult>,
    /// When.
    pub at: Option<Timestamp>,
    /// How often it was tried.
    pub attempts: u32,
    /// What went wrong last.
    pub code: Option<Code>,
    /// The same for a person.
    pub message: Option<String>,
    /// What to do next.
    pub guidance: Option<String>,
}

/// Takes an alarm in. Says whether it is new.
///
/// # Errors
/// When the database fails.
pub async fn raise(tx: &mut Tx, host: HostId, alarm: &AlarmRaised) -> Result<bool, DbError> {
    let (id, host) = (alarm.alarm_id.to_string(), host.to_string());
    let plan = alarm.schedule_id.to_string();
    let repository = alarm.repository_id.map(|id| id.to_string());
    let run = alarm.run_id.map(|id| id.to_string());
    let (state, was) = (alarm.state.as_str(), alarm.was.as_str());
    let (at, last_good) = (millis(alarm.at), alarm.last_good.map(millis));
    let code = alarm.code.map(Code::as_str);
    let done = sqlx::query!(
        "INSERT OR IGNORE INTO alarms
             (id, host_id, plan_id, repository_id, run_id, state, was, at, last_good, code)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        id,
        host,
        plan,
        repository,
        run,
        state,
        was,
        at,
        last_good,
        code
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    for channel in &alarm.channels {
        let channel = channel.to_string();
        sqlx::query!(
            "INSERT OR IGNORE INTO alarm_deliveries (alarm_id, channel_id, channel_name)
             VALUES (?1, ?2, coalesce((SELECT name FROM alarm_channels WHERE id = ?2), ''))",
            id,
            channel
        )
        .execute(&mut **tx)
        .await?;
    }
    sqlx::query!(
        "DELETE FROM alarms WHERE host_id = ?1 AND id NOT IN
             (SELECT id FROM alarms WHERE host_id = ?1 ORDER BY at DESC, id DESC LIMIT ?2)",
        host,
        KEPT_OF_HOST
    )
    .execute(&mut **tx)
    .await?;
    Ok(true)
}

/// Notes what became of a host's alarm on a channel. The first word stands. Gives back the channel's name
/// where that is news.
///
/// # Errors
/// When the database fails.
pub async fn delivered(
    tx: &mut Tx,
    host: HostId,
    told: &AlarmDelivered,
) -> Result<Option<String>, DbError> {
    let (id, host) = (told.alarm_id.to_string(), host.to_string());
    let channel = told.channel_id.to_string();
    let (result, at) = (told.result.as_str(), millis(told.at));
    let attempts = i64::from(told.attempts);
    let problem = told.problem.as_ref();
    let code = problem.map(|problem| problem.code.as_str());
    let message = problem.map(|problem| problem.message.as_str());
    let guidance = problem.and_then(|problem| problem.guidance.as_deref());
    let name = sqlx::query_scalar!(
        "UPDATE alarm_deliveries
         SET result = ?, at = ?, attempts = ?, code = ?, message = ?, guidance = ?
         WHERE alarm_id = (SELECT id FROM alarms WHERE id = ? AND host_id = ?) AND channel_id = ?
               AND result IS NULL
         RETURNING channel_name",
        result,
        at,
        attempts,
        code,
        message,
        guidance,
        id,
        host,
        channel
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(name)
}

/// The newest alarms, of one host or all, newest first.
///
/// # Errors
/// When the database fails.
pub async fn list(
    db: &mut SqliteConnection,
    host: Option<HostId>,
    limit: u32,
) -> Result<Vec<Alarm>, DbError> {
    let host = host.map(|host| host.to_string());
    let rows = sqlx::query!(
        "SELECT id, host_id, plan_id, repository_id, run_id, state, was, at, last_good, code
         FROM alarms WHERE ?1 IS NULL OR host_id = ?1 ORDER BY at DESC, id DESC LIMIT ?2",
        host,
        limit
    )
    .fetch_all(&mut *db)
    .await?;
    let mut deliveries = deliveries(db, host.as_deref(), limit).await?;
    rows.into_iter()
        .map(|stored| {
            let row = Row { table: "alarms", id: &stored.id };
            let id = row.parse("id", &stored.id)?;
            Ok(Alarm {
                id,
                host_id: row.parse("host_id", &stored.host_id)?,
                plan_id: row.parse("plan_id", &stored.plan_id)?,
                repository_id: row.maybe_parse("repository_id", stored.repository_id.as_deref())?,
                run_id: row.maybe_parse("run_id", stored.run_id.as_deref())?,
                state: row.word("state", &stored.state)?,
                was: row.word("was", &stored.was)?,
                at: row.time("at", stored.at)?,
                last_good: row.maybe_time("last_good", stored.last_good)?,
                code: stored.code.as_deref().map(|code| row.word("code", code)).transpose()?,
                deliveries: deliveries.remove(&id).unwrap_or_default(),
            })
        })
        .collect()
}

async fn deliveries(
    db: &mut SqliteConnection,
    host: Option<&str>,
    limit: u32,
) -> Result<BTreeMap<AlarmId, Vec<Delivery>>, DbError> {
    let rows = sqlx::query!(
        "SELECT alarm_id, channel_id, channel_name, result, at, attempts, code, message, guidance
         FROM alarm_deliveries WHERE alarm_id IN
             (SELECT id FROM alarms WHERE ?1 IS NULL OR host_id = ?1 ORDER BY at DESC, id DESC LIMIT ?2)
         ORDER BY alarm_id, channel_name, channel_id",
        host,
        limit
    )
    .fetch_all(db)
    .await?;
    let mut deliveries: BTreeMap<AlarmId, Vec<Delivery>> = BTreeMap::new();
    for stored in rows {
        let row = Row { table: "alarm_deliveries", id: &stored.alarm_id };
        deliveries.entry(row.parse("alarm_id", &stored.alarm_id)?).or_default().push(Delivery {
            channel_id: row.parse("channel_id", &stored.channel_id)?,
            channel_name: stored.channel_name,
            result: stored.result.as_deref().map(|word| row.word("result", word)).transpose()?,
            at: row.maybe_time("at", stored.at)?,
            attempts: u32::try_from(stored.attempts).unwrap_or(0),
            code: stored.code.as_deref().map(|code| row.word("code", code)).transpose()?,
            message: stored.message,
            guidance: stored.guidance,
        });
    }
    Ok(deliveries)
}
