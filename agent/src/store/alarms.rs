//! The SQL of alarms: how each plan stands, and the messages that are on their way.

use super::{
    Store,
    error::{Result, inconsistent, json, parse, time, unsigned},
};
use crate::core::{Delivery, DeliveryKey, PlanAlarm};
use jiff::Timestamp;
use protocol::{AlarmState, PlanId};
use sqlx::SqliteConnection;

impl Store {
    pub(super) async fn alarms(&mut self) -> Result<Vec<(PlanId, PlanAlarm)>> {
        let rows = sqlx::query!(
            "SELECT plan_id, state, changed_ms, covered_ms, last_good_ms FROM plan_alarm"
        )
        .fetch_all(&mut self.connection)
        .await?;
        let alarms = rows.into_iter().map(|row| {
            let id = &row.plan_id;
            let last_good = row.last_good_ms;
            Ok((
                parse("plan_alarm", "plan_id", id, id)?,
                PlanAlarm {
                    state: state_of(&row.state)
                        .ok_or_else(|| inconsistent("plan_alarm", "state", id, &row.state))?,
                    changed: time("plan_alarm", "changed_ms", id, row.changed_ms)?,
                    covered: time("plan_alarm", "covered_ms", id, row.covered_ms)?,
                    last_good: last_good
                        .map(|ms| time("plan_alarm", "last_good_ms", id, ms))
                        .transpose()?,
                },
            ))
        });
        alarms.collect()
    }

    pub(super) async fn deliveries(&mut self) -> Result<Vec<Delivery>> {
        let rows = sqlx::query!(
            "SELECT alarm_id, channel_id, plan_id, is_news, message, attempts, is_going \
             FROM alarm_delivery"
        )
        .fetch_all(&mut self.connection)
        .await?;
        let deliveries = rows.into_iter().map(|row| {
            let id = &row.alarm_id;
            Ok(Delivery {
                alarm: parse("alarm_delivery", "alarm_id", id, id)?,
                channel: parse("alarm_delivery", "channel_id", id, &row.channel_id)?,
                plan: parse("alarm_delivery", "plan_id", id, &row.plan_id)?,
                is_news: row.is_news != 0,
                message: serde_json::from_str(&row.message)
                    .map_err(|error| inconsistent("alarm_delivery", "message", id, error))?,
                attempts: u32::try_from(unsigned(row.attempts)).unwrap_or(u32::MAX),
                is_going: row.is_going != 0,
            })
        });
        deliveries.collect()
    }
}

pub(super) async fn put_alarm(
    connection: &mut SqliteConnection,
    plan: PlanId,
    alarm: Option<&PlanAlarm>,
) -> Result<()> {
    let plan = plan.to_string();
    let Some(PlanAlarm { state, changed, covered, last_good }) = alarm else {
        sqlx::query!("DELETE FROM plan_alarm WHERE plan_id = ?", plan).execute(connection).await?;
        return Ok(());
    };
    let (changed, covered) = (changed.as_millisecond(), covered.as_millisecond());
    let last_good = last_good.map(Timestamp::as_millisecond);
    let state = state.as_str();
    sqlx::query!(
        "INSERT OR REPLACE INTO plan_alarm (plan_id, state, changed_ms, covered_ms, last_good_ms) \
         VALUES (?, ?, ?, ?, ?)",
        plan,
        state,
        changed,
        covered,
        last_good
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn put_delivery(
    connection: &mut SqliteConnection,
    (alarm, channel): DeliveryKey,
    delivery: Option<&Delivery>,
) -> Result<()> {
    let (alarm, channel) = (alarm.to_string(), channel.to_string());
    let Some(delivery) = delivery else {
        sqlx::query!(
            "DELETE FROM alarm_delivery WHERE alarm_id = ? AND channel_id = ?",
            alarm,
            channel
        )
        .execute(connection)
        .await?;
        return Ok(());
    };
    let plan = delivery.plan.to_string();
    let message = json("alarm_delivery", "message", &alarm, &delivery.message)?;
    sqlx::query!(
        "INSERT OR REPLACE INTO alarm_delivery \
         (alarm_id, channel_id, plan_id, is_news, message, attempts, is_going) \
         VALUES (?, ?, ?, ?, ?, ?, ?)",
        alarm,
        channel,
        plan,
        delivery.is_news,
        message,
        delivery.attempts,
        delivery.is_going
    )
    .execute(connection)
    .await?;
    Ok(())
}

fn state_of(word: &str) -> Option<AlarmState> {
    [AlarmState::Good, AlarmState::Failed, AlarmState::Overdue]
        .into_iter()
        .find(|state| state.as_str() == word)
}
