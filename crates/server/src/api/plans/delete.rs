//! `DELETE /api/plans/{id}`

use super::{announce, find};
use crate::{
    api::{
        change::Change,
        error::{ApiResult, ProblemView},
        extract::PathId,
    },
    auth::Principal,
    db::plans,
    desired,
    manager::Manager,
};
use axum::{extract::State, http::StatusCode};
use protocol::PlanId;

/// Deletes a plan: its hosts back it up no longer. Its snapshots stay in the repository, and its
/// runs in the history.
#[utoipa::path(delete, path = "/api/plans/{id}", operation_id = "delete_plan", tag = "plans",
    params(("id" = String, Path, format = Uuid)),
    responses((status = 204, description = "Deleted"), (status = "default", body = ProblemView)))]
pub async fn delete(
    who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<PlanId>,
) -> ApiResult<StatusCode> {
    let mut change = Change::begin(&manager, who).await?;
    let plan = find(&mut *change.tx, id).await?;
    let hosts = plans::hosts(&mut *change.tx, id).await?;
    plans::delete(&mut change.tx, id).await?;
    let touched = desired::touch_hosts_anyway(&manager, &mut change.tx, &hosts).await?;
    change.commit("plan.delete", &format!("plan:{id}"), &plan.name).await?;
    announce(&manager, id, plan.repository_id, &touched).await;
    Ok(StatusCode::NO_CONTENT)
}
