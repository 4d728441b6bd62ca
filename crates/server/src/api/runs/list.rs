//! `GET /api/runs`

use super::{RunView, RunsQuery, view};
use crate::{
    api::{
        error::{ApiResult, ProblemView},
        extract::Params,
    },
    auth::Principal,
    db::runs::{self, RunFilter},
    manager::Manager,
};
use axum::{Json, extract::State};

/// Runs, newest first.
#[utoipa::path(get, path = "/api/runs", operation_id = "list_runs", tag = "runs",
    params(RunsQuery),
    responses((status = 200, body = Vec<RunView>), (status = "default", body = ProblemView)))]
pub async fn list(
    _who: Principal,
    State(manager): State<Manager>,
    Params(query): Params<RunsQuery>,
) -> ApiResult<Json<Vec<RunView>>> {
    Ok(Json(page(&manager, query).await?))
}

/// One page of runs.
pub(crate) async fn page(manager: &Manager, query: RunsQuery) -> ApiResult<Vec<RunView>> {
    let filter = RunFilter {
        host: query.host_id,
        plan: query.plan_id,
        repository: query.repository_id,
        kind: query.kind,
        is_open: query.open,
        before: query.before,
    };
    let limit = query.limit.unwrap_or(50).clamp(1, 200);
    let mut views = Vec::new();
    for run in runs::search(manager.db().read(), &filter, limit).await? {
        views.push(view(manager, run).await?);
    }
    Ok(views)
}
