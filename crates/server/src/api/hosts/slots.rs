//! `GET /api/hosts/{id}/slots`

use super::{find, shown};
use crate::{
    api::{
        error::{ApiResult, ProblemView},
        extract::{Params, PathId},
        slots::StandingView,
    },
    auth::Principal,
    manager::Manager,
    slots,
};
use axum::{Json, extract::State};
use jiff::{Timestamp, civil::Date};
use protocol::{HostId, PlanId, RunId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Which slots.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DayQuery {
    /// The day in the machine's time zone, such as `2026-11-29`.
    #[param(value_type = String, format = Date)]
    day: Date,
}

/// A slot of a plan.
#[derive(Debug, Serialize, ToSchema)]
pub struct SlotView {
    /// The plan.
    #[schema(value_type = String, format = Uuid)]
    pub plan_id: PlanId,
    /// When it should have run.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The same as the machine's clock shows it, with its distance from UTC.
    pub shown: String,
    /// What became of it.
    pub standing: StandingView,
    /// The run that served it or made up for it.
    #[schema(value_type = Option<String>, format = Uuid)]
    pub run_id: Option<RunId>,
}

/// What became of the slots of one day of a machine, by time.
#[utoipa::path(get, path = "/api/hosts/{id}/slots", operation_id = "list_host_slots", tag = "hosts",
    params(("id" = String, Path, format = Uuid), DayQuery),
    responses((status = 200, body = Vec<SlotView>), (status = "default", body = ProblemView)))]
pub async fn slots(
    _who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<HostId>,
    Params(query): Params<DayQuery>,
) -> ApiResult<Json<Vec<SlotView>>> {
    let zone = slots::zone_of(&find(manager.db().read(), id).await?);
    let slots = slots::of_day(&manager, id, query.day).await?;
    let views = slots.into_iter().map(|it| SlotView {
        plan_id: it.plan_id,
        at: it.slot.at,
        shown: shown(&it.slot.at.to_zoned_datetime(zone.clone())),
        standing: it.slot.standing.into(),
        run_id: it.slot.run,
    });
    Ok(Json(views.collect()))
}
