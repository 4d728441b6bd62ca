//! `GET /api/plans/{id}`

use super::{Assigned, PlanView, find, view};
use crate::{
    api::{
        error::{ApiResult, ProblemView},
        extract::PathId,
    },
    auth::Principal,
    db::{plans, tags},
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
    let db = manager.db().read();
    let plan = find(db, id).await?;
    let hosts = plans::chosen_hosts(db, id).await?;
    let tags = tags::of_plan(db, id).await?;
    Ok(Json(view(plan, Assigned { hosts, tags }, plans::hosts(db, id).await?)))
}
