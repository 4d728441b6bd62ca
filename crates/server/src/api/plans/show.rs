//! `GET /api/plans/{id}`

use super::{PlanView, find, view};
use crate::{
    api::{
        error::{ApiResult, ProblemView},
        extract::PathId,
    },
    auth::Principal,
    db::plans,
    manager::Manager,
};
use axum::{Json, extract::State};
use protocol::PlanId;

/// One plan.
#[utoipa::path(get, path = "/api/plans/{id}", operation_id = "show_plan", tag = "plans",
    params(("id" = String, Path, format = Uuid)),
    responses((status = 200, body = PlanView), (status = "default", body = ProblemView)))]
pub async fn show(
    _who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<PlanId>,
) -> ApiResult<Json<PlanView>> {
    let plan = find(manager.db().read(), id).await?;
    let hosts = plans::hosts(manager.db().read(), id).await?;
    Ok(Json(view(plan, hosts)))
}
