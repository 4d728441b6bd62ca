//! `DELETE /api/alarm-channels/{id}`

use super::{announce, find};
use crate::{
    api::{
        change::Change,
        error::{ApiResult, ProblemView},
        extract::PathId,
    },
    auth::Principal,
    db::channels,
    desired,
    manager::Manager,
};
use axum::{extract::State, http::StatusCode};
use protocol::ChannelId;

/// Deletes a channel: nobody is told by it any more. What was told stays in the list.
#[utoipa::path(delete, path = "/api/alarm-channels/{id}", operation_id = "delete_channel",
    tag = "alarms", params(("id" = String, Path, format = Uuid)),
    responses((status = 204, description = "Deleted"), (status = "default", body = ProblemView)))]
pub async fn delete(
    who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<ChannelId>,
) -> ApiResult<StatusCode> {
    let mut change = Change::begin(&manager, who).await?;
    let channel = find(&mut *change.tx, id).await?;
    let hosts = channels::hosts(&mut *change.tx, id).await?;
    channels::delete(&mut change.tx, id).await?;
    let touched = desired::touch_hosts_anyway(&manager, &mut change.tx, &hosts).await?;
    change.commit("alarm_channel.delete", &format!("alarm_channel:{id}"), &channel.name).await?;
    announce(&manager, &touched).await;
    Ok(StatusCode::NO_CONTENT)
}
