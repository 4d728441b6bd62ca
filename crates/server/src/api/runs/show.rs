//! `GET /api/runs/{id}`

use super::{RunView, view_of};
use crate::{
    api::{
        error::{ApiResult, ProblemView},
        extract::PathId,
    },
    auth::Principal,
    manager::Manager,
};
use axum::{Json, extract::State};
use protocol::RunId;

/// One run.
#[utoipa::path(get, path = "/api/runs/{id}", operation_id = "show_run", tag = "runs",
    params(("id" = String, Path, format = Uuid)),
    responses((status = 200, body = RunView), (status = "default", body = ProblemView)))]
pub async fn show(
    _who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<RunId>,
) -> ApiResult<Json<RunView>> {
    Ok(Json(view_of(&manager, id).await?))
}
