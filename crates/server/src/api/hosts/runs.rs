//! `GET /api/hosts/{id}/runs`

use super::find;
use crate::{
    api::{
        error::{ApiResult, ProblemView},
        extract::{Params, PathId},
        runs::{RunView, RunsQuery, list::page},
    },
    auth::Principal,
    manager::Manager,
};
use axum::{Json, extract::State};
use protocol::HostId;

/// The runs of one host, newest first.
#[utoipa::path(get, path = "/api/hosts/{id}/runs", operation_id = "list_host_runs", tag = "runs",
    params(("id" = String, Path, format = Uuid), RunsQuery),
    responses((status = 200, body = Vec<RunView>), (status = "default", body = ProblemView)))]
pub async fn runs(
    _who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<HostId>,
    Params(query): Params<RunsQuery>,
) -> ApiResult<Json<Vec<RunView>>> {
    find(manager.db().read(), id).await?;
    Ok(Json(page(&manager, RunsQuery { host_id: Some(id), ..query }).await?))
}
