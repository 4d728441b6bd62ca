//! `GET /api/plans/times`

use super::rules;
use crate::{
    api::{
        error::{ApiError, ApiResult, ProblemView},
        extract::Params,
        hosts::shown,
    },
    auth::Principal,
    db::hosts,
    manager::Manager,
    slots,
};
use axum::{Json, extract::State};
use jiff::{Timestamp, tz::TimeZone};
use protocol::HostId;
use schedule::Cron;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// How many times are told.
const TOLD: usize = 5;

/// Of what the times are asked.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct TimesQuery {
    /// Five-field cron or an @ word.
    cron: String,
    /// The machine in whose time zone they are; absent for that of this manager's computer.
    #[param(value_type = Option<String>, format = Uuid)]
    host_id: Option<HostId>,
}

/// When a plan would run.
#[derive(Debug, Serialize, ToSchema)]
pub struct TimesView {
    /// The time zone, such as `Europe/Berlin`; absent where nobody knows its name.
    pub time_zone: Option<String>,
    /// The next five times, as the clock in that zone shows them, with its distance from UTC.
    pub times: Vec<String>,
}

/// The next times of an expression. A machine begins up to ten minutes later, so that not all come at once.
#[utoipa::path(get, path = "/api/plans/times", operation_id = "plan_times", tag = "plans",
    params(TimesQuery),
    responses((status = 200, body = TimesView), (status = "default", body = ProblemView)))]
pub async fn times(
    _who: Principal,
    State(manager): State<Manager>,
    Params(query): Params<TimesQuery>,
) -> ApiResult<Json<TimesView>> {
    let cron: Cron = rules::cron(&query.cron)?;
    let zone = match query.host_id {
        None => TimeZone::system(),
        Some(id) => {
            let host = hosts::find(manager.db().read(), id).await?;
            let host = host.ok_or_else(|| ApiError::not_found("machine"))?;
            slots::zone_of(&host)
        }
    };
    let now = manager.now();
    let times = cron.between(now, Timestamp::MAX, &zone).take(TOLD);
    let times = times.map(|at| shown(&at.to_zoned_datetime(zone.clone())));
    Ok(Json(TimesView { times: times.collect(), time_zone: schedule::zone::name(&zone) }))
}
