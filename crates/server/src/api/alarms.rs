//! `GET /api/alarms`

use super::{
    error::{ApiResult, ProblemView},
    extract::Params,
    words::CodeWord,
};
use crate::{
    auth::Principal,
    db::{
        alarms::{self, Alarm, Delivery},
        error::DbError,
    },
    manager::Manager,
};
use axum::{Json, extract::State};
use jiff::Timestamp;
use protocol::{AlarmId, ChannelId, Code, HostId, PlanId, RepositoryId, RunId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// The most alarms in one answer.
const MOST: u32 = 200;

/// Something that an agent told people by itself.
#[derive(Debug, Serialize, ToSchema)]
pub struct AlarmView {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    pub id: AlarmId,
    /// The machine.
    #[schema(value_type = String, format = Uuid)]
    pub host_id: HostId,
    /// The plan, which may be gone.
    #[schema(value_type = String, format = Uuid)]
    pub plan_id: PlanId,
    /// Its repository, which may be gone.
    #[schema(value_type = Option<String>, format = Uuid)]
    pub repository_id: Option<RepositoryId>,
    /// The run that changed it.
    #[schema(value_type = Option<String>, format = Uuid)]
    pub run_id: Option<RunId>,
    /// How the plan stands: `failed`, `overdue` or `good`.
    pub state: String,
    /// How it stood before.
    pub was: String,
    /// When that changed.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// When the last good run before this began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_good: Option<Timestamp>,
    /// Why.
    #[schema(value_type = Option<CodeWord>)]
    pub code: Option<Code>,
    /// Who was to be told.
    pub deliveries: Vec<DeliveryView>,
}

/// What became of an alarm on one channel.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryView {
    /// The channel, which may be gone.
    #[schema(value_type = String, format = Uuid)]
    pub channel_id: ChannelId,
    /// As it was called.
    pub channel_name: String,
    /// `waiting` while the agent tries, `sent`, `gave_up`, `superseded` by newer news, or `uncertain`: it may
    /// have arrived.
    pub result: String,
    /// When.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub at: Option<Timestamp>,
    /// How often it was tried.
    pub attempts: u32,
    /// What went wrong last.
    #[schema(value_type = Option<CodeWord>)]
    pub code: Option<Code>,
    /// The same for a person.
    pub message: Option<String>,
    /// What to do next.
    pub guidance: Option<String>,
}

impl From<Alarm> for AlarmView {
    fn from(alarm: Alarm) -> Self {
        Self {
            id: alarm.id,
            host_id: alarm.host_id,
            plan_id: alarm.plan_id,
            repository_id: alarm.repository_id,
            run_id: alarm.run_id,
            state: alarm.state.as_str().to_owned(),
            was: alarm.was.as_str().to_owned(),
            at: alarm.at,
            last_good: alarm.last_good,
            code: alarm.code,
            deliveries: alarm.deliveries.into_iter().map(DeliveryView::from).collect(),
        }
    }
}

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        let Delivery { channel_id, channel_name, result, at, attempts, code, message, guidance } =
            delivery;
        let result = result.map_or("waiting", |result| result.as_str()).to_owned();
        Self { channel_id, channel_name, result, at, attempts, code, message, guidance }
    }
}

/// Which alarms.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AlarmsQuery {
    /// Of this machine alone.
    #[param(value_type = Option<String>, format = Uuid)]
    host_id: Option<HostId>,
    /// How many at most, 50 when absent, 200 at most.
    limit: Option<u32>,
}

/// What agents told by themselves, newest first. A machine that is away tells of it when it comes back.
#[utoipa::path(get, path = "/api/alarms", operation_id = "list_alarms", tag = "alarms",
    params(AlarmsQuery),
    responses((status = 200, body = Vec<AlarmView>), (status = "default", body = ProblemView)))]
pub async fn list(
    _who: Principal,
    State(manager): State<Manager>,
    Params(query): Params<AlarmsQuery>,
) -> ApiResult<Json<Vec<AlarmView>>> {
    let mut reader = manager.db().read().acquire().await.map_err(DbError::from)?;
    let limit = query.limit.unwrap_or(50).min(MOST);
    let alarms = alarms::list(&mut reader, query.host_id, limit).await?;
    Ok(Json(alarms.into_iter().map(AlarmView::from).collect()))
}
