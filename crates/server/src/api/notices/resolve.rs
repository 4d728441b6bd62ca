//! `POST /api/notices/{id}/resolve`

use crate::{
    api::{
        change::Change,
        error::{ApiError, ApiResult, ProblemView},
        extract::PathId,
    },
    auth::Principal,
    db::notices,
    events::Topic,
    manager::Manager,
};
use axum::{extract::State, http::StatusCode};
use uuid::Uuid;

/// Puts a notice away. What it told of and still holds is told again.
#[utoipa::path(post, path = "/api/notices/{id}/resolve", operation_id = "resolve_notice",
    tag = "notices", params(("id" = String, Path, format = Uuid)),
    responses((status = 204, description = "Put away"), (status = "default", body = ProblemView)))]
pub async fn resolve(
    who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<Uuid>,
) -> ApiResult<StatusCode> {
    let mut change = Change::begin(&manager, who).await?;
    let now = change.now;
    if !notices::resolve(&mut change.tx, id, now).await? {
        return Err(ApiError::not_found("open notice"));
    }
    change.commit("notice.resolve", &format!("notice:{id}"), "").await?;
    manager.events().publish(Topic::Notices);
    Ok(StatusCode::NO_CONTENT)
}
