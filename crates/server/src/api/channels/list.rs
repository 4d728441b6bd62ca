//! `GET /api/alarm-channels`

use super::{ChannelView, view};
use crate::{
    api::error::{ApiResult, ProblemView},
    auth::Principal,
    db::{channels, error::DbError},
    manager::Manager,
};
use axum::{Json, extract::State};

/// All alarm channels, by name.
#[utoipa::path(get, path = "/api/alarm-channels", operation_id = "list_channels", tag = "alarms",
    responses((status = 200, body = Vec<ChannelView>), (status = "default", body = ProblemView)))]
pub async fn list(
    _who: Principal,
    State(manager): State<Manager>,
) -> ApiResult<Json<Vec<ChannelView>>> {
    let mut reader = manager.db().read().acquire().await.map_err(DbError::from)?;
    let mut views = Vec::new();
    for channel in channels::list(&mut *reader).await? {
        views.push(view(&mut reader, channel).await?);
    }
    Ok(Json(views))
}
