//! `GET /api/notices`

use super::NoticeView;
use crate::{
    api::error::{ApiResult, ProblemView},
    auth::Principal,
    db::notices,
    manager::Manager,
};
use axum::{Json, extract::State};

/// The open notices, newest first.
#[utoipa::path(get, path = "/api/notices", operation_id = "list_notices", tag = "notices",
    responses((status = 200, body = Vec<NoticeView>), (status = "default", body = ProblemView)))]
pub async fn list(
    _who: Principal,
    State(manager): State<Manager>,
) -> ApiResult<Json<Vec<NoticeView>>> {
    let open = notices::list_open(manager.db().read()).await?;
    Ok(Json(open.into_iter().map(NoticeView::from).collect()))
}
