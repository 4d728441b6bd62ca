//! `POST /api/runs/{id}/cancel`

use super::{RunView, find, view_of};
use crate::{
    api::{
        change::Change,
        error::{ApiResult, ProblemView},
        extract::PathId,
    },
    auth::Principal,
    db::runs,
    events::Topic,
    manager::Manager,
};
use axum::{Json, extract::State};
use protocol::RunId;

/// Asks a run to end. One that the machine never heard of ends at once; any other ends when its
/// machine says so. Asking again, or after the end, changes nothing.
#[utoipa::path(post, path = "/api/runs/{id}/cancel", operation_id = "cancel_run", tag = "runs",
    params(("id" = String, Path, format = Uuid)),
    responses((status = 200, body = RunView), (status = "default", body = ProblemView)))]
pub async fn cancel(
    who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<RunId>,
) -> ApiResult<Json<RunView>> {
    let host = find(&manager, id).await?.host_id;
    let mut change = Change::begin(&manager, who).await?;
    let now = change.now;
    if !runs::request_cancel(&mut change.tx, id, now).await? {
        return Ok(Json(view_of(&manager, id).await?));
    }
    change.commit("run.cancel", &format!("run:{id}"), "").await?;
    manager.events().publish(Topic::Run(id));
    crate::api::wake(&manager, &[host]).await;
    let view = view_of(&manager, id).await?;
    if view.is_terminal {
        manager.events().run_ended(id);
    }
    Ok(Json(view))
}
