//! The SQL of the agent's own schedule: where each plan stands, and since when the machine is awake.

use super::{
    Store,
    error::{Result, parse, time, unsigned},
};
use crate::core::{Awake, Mark, Retry};
use protocol::{Code, PlanId};
use sqlx::SqliteConnection;

impl Store {
    pub(super) async fn marks(&mut self) -> Result<Vec<(PlanId, Mark)>> {
        let rows = sqlx::query!(
            "SELECT plan_id, cron, served_ms, deferred, retry_slot_ms, retry_attempt, retry_ms \
             FROM plan_mark"
        )
        .fetch_all(&mut self.connection)
        .await?;
        let marks = rows.into_iter().map(|row| {
            let id = &row.plan_id;
            let plan = parse("plan_mark", "plan_id", id, id)?;
            let served = time("plan_mark", "served_ms", id, row.served_ms)?;
            // A reason of a newer agent is told again.
            let deferred = row.deferred.and_then(|word| code_of(&word));
            let retry = match (row.retry_slot_ms, row.retry_attempt, row.retry_ms) {
                (Some(slot), Some(attempt), Some(at)) => Some(Retry {
                    slot: time("plan_mark", "retry_slot_ms", id, slot)?,
                    attempt: u32::try_from(unsigned(attempt)).unwrap_or(u32::MAX),
                    at: time("plan_mark", "retry_ms", id, at)?,
                }),
                _ => None,
            };
            Ok((plan, Mark { cron: row.cron, served, deferred, retry }))
        });
        marks.collect()
    }

    pub(super) async fn awake(&mut self) -> Result<Option<Awake>> {
        let row =
            sqlx::query!("SELECT awake_since_ms, awake_until_ms FROM agent_state WHERE id = 1")
                .fetch_one(&mut self.connection)
                .await?;
        let (Some(since), Some(until)) = (row.awake_since_ms, row.awake_until_ms) else {
            return Ok(None);
        };
        Ok(Some(Awake {
            since: time("agent_state", "awake_since_ms", "1", since)?,
            until: time("agent_state", "awake_until_ms", "1", until)?,
        }))
    }

    pub(super) async fn told_zone(&mut self) -> Result<Option<String>> {
        let zone = sqlx::query_scalar!("SELECT told_zone FROM agent_state WHERE id = 1")
            .fetch_one(&mut self.connection)
            .await?;
        Ok(zone)
    }
}

pub(super) async fn put_mark(
    connection: &mut SqliteConnection,
    plan: PlanId,
    mark: Option<&Mark>,
) -> Result<()> {
    let plan = plan.to_string();
    let Some(Mark { cron, served, deferred, retry }) = mark else {
        sqlx::query!("DELETE FROM plan_mark WHERE plan_id = ?", plan).execute(connection).await?;
        return Ok(());
    };
    let served = served.as_millisecond();
    let deferred = deferred.map(Code::as_str);
    let slot = retry.map(|retry| retry.slot.as_millisecond());
    let attempt = retry.map(|retry| i64::from(retry.attempt));
    let at = retry.map(|retry| retry.at.as_millisecond());
    sqlx::query!(
        "INSERT OR REPLACE INTO plan_mark \
         (plan_id, cron, served_ms, deferred, retry_slot_ms, retry_attempt, retry_ms) \
         VALUES (?, ?, ?, ?, ?, ?, ?)",
        plan,
        cron,
        served,
        deferred,
        slot,
        attempt,
        at
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn put_awake(connection: &mut SqliteConnection, awake: Awake) -> Result<()> {
    let (since, until) = (awake.since.as_millisecond(), awake.until.as_millisecond());
    sqlx::query!(
        "UPDATE agent_state SET awake_since_ms = ?, awake_until_ms = ? WHERE id = 1",
        since,
        until
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn put_told_zone(
    connection: &mut SqliteConnection,
    zone: Option<&str>,
) -> Result<()> {
    sqlx::query!("UPDATE agent_state SET told_zone = ? WHERE id = 1", zone)
        .execute(connection)
        .await?;
    Ok(())
}

fn code_of(word: &str) -> Option<Code> {
    Code::ALL.iter().copied().find(|code| code.as_str() == word)
}
