//! `GET /api/runs/{id}/log`

use super::{LogLineView, find};
use crate::{
    api::{
        error::{ApiResult, ProblemView},
        extract::{Params, PathId},
    },
    auth::Principal,
    db::logs,
    manager::Manager,
};
use axum::{Json, extract::State};
use protocol::RunId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Which lines.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LogQuery {
    /// Only lines after this one; 0 when absent.
    after_line: Option<u64>,
    /// At most 1000; 500 when absent.
    limit: Option<u32>,
}

/// Lines of a run's log, in order.
#[derive(Debug, Serialize, ToSchema)]
pub struct LogView {
    /// The lines.
    pub lines: Vec<LogLineView>,
    /// The last of them; pass it as `after_line` for the next page.
    pub last_line: u64,
    /// Whether the run has ended and these were its last lines.
    pub is_complete: bool,
}

/// A page of a run's log.
#[utoipa::path(get, path = "/api/runs/{id}/log", operation_id = "show_run_log", tag = "runs",
    params(("id" = String, Path, format = Uuid), LogQuery),
    responses((status = 200, body = LogView), (status = "default", body = ProblemView)))]
pub async fn log(
    _who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<RunId>,
    Params(query): Params<LogQuery>,
) -> ApiResult<Json<LogView>> {
    let after = query.after_line.unwrap_or(0);
    let limit = query.limit.unwrap_or(500).clamp(1, 1000);
    // The state before the lines: once it is terminal, all lines were committed before it.
    let has_ended = find(&manager, id).await?.status.is_terminal();
    let lines = logs::lines(manager.db().read(), id, after, limit).await?;
    Ok(Json(LogView {
        is_complete: has_ended && u32::try_from(lines.len()).is_ok_and(|n| n < limit),
        last_line: lines.last().map_or(after, |line| line.seq),
        lines: lines.into_iter().map(LogLineView::from).collect(),
    }))
}
