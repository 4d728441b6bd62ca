//! `DELETE /api/hosts/{id}`

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

/// Takes a host out of the fleet. Its open runs end as lost, its snapshots stay where they are. The
/// host's name confirms.
#[utoipa::path(delete, path = "/api/hosts/{id}", operation_id = "remove_host", tag = "hosts",
    params(("id" = String, Path, format = Uuid)), request_body = ConfirmForm,
    responses((status = 200, body = LeftBehindView), (status = "default", body = ProblemView)))]
pub async fn remove(
    who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<HostId>,
    Body(form): Body<ConfirmForm>,
) -> ApiResult<Json<LeftBehindView>> {
    let mut change = Change::begin(&manager, who).await?;
    let host = find(&mut *change.tx, id).await?;
    check::confirmed(form.confirm.as_deref(), &host.name)?;
    let left = end(&mut change, id, HostState::Removed).await?;
    change.commit("host.remove", &format!("host:{id}"), &host.name).await?;
    manager.cut_from_store(id).await?;
    announce_end(&manager, id, &left.lost_runs).await;
    Ok(Json(left))
}
