//! `GET /api/repositories`

use super::{RepositoryView, view};
use crate::{
    api::error::{ApiResult, ProblemView},
    auth::Principal,
    db::repositories,
    manager::Manager,
};
use axum::{Json, extract::State};

/// All repositories, by name.
#[utoipa::path(get, path = "/api/repositories", operation_id = "list_repositories",
    tag = "repositories",
    responses((status = 200, body = Vec<RepositoryView>), (status = "default", body = ProblemView)))]
pub async fn list(
    _who: Principal,
    State(manager): State<Manager>,
) -> ApiResult<Json<Vec<RepositoryView>>> {
    let mut views = Vec::new();
    for repository in repositories::list(manager.db().read()).await? {
        views.push(view(&manager, repository).await?);
    }
    Ok(Json(views))
}
