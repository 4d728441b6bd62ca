//! `GET /api/hosts/{id}`

use super::{HostView, view_of};
use crate::{
    api::{
        error::{ApiResult, ProblemView},
        extract::PathId,
    },
    auth::Principal,
    manager::Manager,
};
use axum::{Json, extract::State};
use protocol::HostId;

/// One host.
#[utoipa::path(get, path = "/api/hosts/{id}", operation_id = "show_host", tag = "hosts",
    params(("id" = String, Path, format = Uuid)),
    responses((status = 200, body = HostView), (status = "default", body = ProblemView)))]
pub async fn show(
    _who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<HostId>,
) -> ApiResult<Json<HostView>> {
    Ok(Json(view_of(&manager, id).await?))
}
