//! `POST /api/announcements/{id}/refuse`

use super::over;
use crate::{
    api::{
        change::Change,
        error::{ApiResult, ProblemView},
        extract::PathId,
    },
    auth::Principal,
    manager::Manager,
};
use axum::{extract::State, http::StatusCode};
use uuid::Uuid;

/// Refuses a machine that asks to join; its agent is told so.
#[utoipa::path(post, path = "/api/announcements/{id}/refuse", operation_id = "refuse_announcement",
    tag = "announcements", params(("id" = String, Path, format = Uuid)),
    responses((status = 204, description = "Refused"), (status = "default", body = ProblemView)))]
pub async fn refuse(
    who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<Uuid>,
) -> ApiResult<StatusCode> {
    let decision = manager.announcements().decide(id, manager.now()).await.ok_or_else(over)?;
    let change = Change::begin(&manager, who).await?;
    let hostname = &decision.about().newcomer.hostname;
    change.commit("announcement.refuse", &format!("announcement:{id}"), hostname).await?;
    decision.refused(manager.now());
    Ok(StatusCode::NO_CONTENT)
}
