//! `GET /api/repositories/{id}`

use super::{RepositoryView, find, view};
use crate::{
    api::{
        error::{ApiResult, ProblemView},
        extract::PathId,
    },
    auth::Principal,
    manager::Manager,
};
use axum::{Json, extract::State};
use protocol::RepositoryId;

/// One repository.
#[utoipa::path(get, path = "/api/repositories/{id}", operation_id = "show_repository",
    tag = "repositories", params(("id" = String, Path, format = Uuid)),
    responses((status = 200, body = RepositoryView), (status = "default", body = ProblemView)))]
pub async fn show(
    _who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<RepositoryId>,
) -> ApiResult<Json<RepositoryView>> {
    let repository = find(manager.db().read(), id).await?;
    Ok(Json(view(&manager, repository).await?))
}
