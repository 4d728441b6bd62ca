//! `POST /api/hosts/{id}/revoke`

use super::{LeftBehindView, announce_end, end, find};
use crate::{
    api::{
        ConfirmForm,
        change::Change,
        check,
        error::{ApiResult, ProblemView},
        extract::{Body, PathId},
    },
    auth::Principal,
    db::hosts::HostState,
    manager::Manager,
};
use axum::{Json, extract::State};
use protocol::HostId;

/// Refuses a host for good: its connection is cut, its key no longer lets it in, and its open runs
/// end as lost, because nobody will hear of them. Its history stays. The host's name confirms.
#[utoipa::path(post, path = "/api/hosts/{id}/revoke", operation_id = "revoke_host", tag = "hosts",
    params(("id" = String, Path, format = Uuid)), request_body = ConfirmForm,
    responses((status = 200, body = LeftBehindView), (status = "default", body = ProblemView)))]
pub async fn revoke(
    who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<HostId>,
    Body(form): Body<ConfirmForm>,
) -> ApiResult<Json<LeftBehindView>> {
    let mut change = Change::begin(&manager, who).await?;
    let host = find(&mut *change.tx, id).await?;
    check::confirmed(form.confirm.as_deref(), &host.name)?;
    let left = end(&mut change, id, HostState::Revoked).await?;
    change.commit("host.revoke", &format!("host:{id}"), &host.name).await?;
    manager.cut_from_store(id).await?;
    announce_end(&manager, id, &left.lost_runs).await;
    Ok(Json(left))
}
