//! `POST /api/hosts/{id}/release`

use super::{HostView, find, view_of};
use crate::{
    api::{
        change::Change,
        error::{ApiError, ApiResult, ProblemView},
        extract::PathId,
    },
    auth::Principal,
    db::{hosts, notices, snapshots},
    manager::Manager,
};
use axum::{Json, extract::State};
use protocol::{Code, HostId};

/// Lets a held host go on, because the admin has looked. Where this manager's database was the
/// older copy, it takes over what the agent knows.
#[utoipa::path(post, path = "/api/hosts/{id}/release", operation_id = "release_host", tag = "hosts",
    params(("id" = String, Path, format = Uuid)),
    responses((status = 200, body = HostView), (status = "default", body = ProblemView)))]
pub async fn release(
    who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<HostId>,
) -> ApiResult<Json<HostView>> {
    let host = find(manager.db().read(), id).await?;
    let Some(hold) = host.hold else {
        return Err(ApiError::conflict("This machine does not wait for a decision."));
    };
    if hold.code == Code::ManagerBehind {
        // Adopting is an act of its own with its own transaction; the entry follows it.
        manager.adopt(id).await?;
        let change = Change::begin(&manager, who).await?;
        change.commit("host.adopt", &format!("host:{id}"), &host.name).await?;
    } else {
        let mut change = Change::begin(&manager, who).await?;
        let now = change.now;
        hosts::clear_hold(&mut change.tx, id).await?;
        snapshots::forget_order(&mut change.tx, id).await?;
        notices::resolve_code(&mut change.tx, Some(id), hold.code, now).await?;
        let detail = format!("{} was held: {}", host.name, hold.code);
        change.commit("host.release", &format!("host:{id}"), &detail).await?;
        manager.announce(id).await;
    }
    Ok(Json(view_of(&manager, id).await?))
}
