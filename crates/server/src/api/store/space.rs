//! `GET /api/store/space`

use crate::{
    api::{
        error::{ApiResult, ProblemView},
        extract::Params,
    },
    auth::Principal,
    store::place::room,
};
use anyhow::Context as _;
use axum::Json;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use utoipa::{IntoParams, ToSchema};

/// Which folder.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SpaceQuery {
    /// A folder of the computer that runs this manager, whether or not it is there yet.
    folder: String,
}

/// What its disk has; nothing of it is known for what is no whole path.
#[derive(Debug, Serialize, ToSchema)]
pub struct SpaceView {
    /// Bytes that the disk has.
    pub total_bytes: Option<u64>,
    /// Bytes that are free on it.
    pub free_bytes: Option<u64>,
}

/// What is free on the disk of a folder that the store could get. Nothing is refused here, since
/// whoever asks is in the middle of typing.
#[utoipa::path(get, path = "/api/store/space", operation_id = "show_space", tag = "store",
    params(SpaceQuery),
    responses((status = 200, body = SpaceView), (status = "default", body = ProblemView)))]
pub async fn space(
    _who: Principal,
    Params(query): Params<SpaceQuery>,
) -> ApiResult<Json<SpaceView>> {
    let folder = PathBuf::from(query.folder.trim());
    let looking = tokio::task::spawn_blocking(move || room(&folder));
    let room = looking.await.context("failed to look at the disk")?;
    Ok(Json(SpaceView {
        total_bytes: room.map(|room| room.total),
        free_bytes: room.map(|room| room.free),
    }))
}
