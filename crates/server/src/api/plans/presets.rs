//! `GET /api/plans/presets`

use crate::{
    api::error::{ApiResult, ProblemView},
    auth::Principal,
    presets::{self, Preset},
};
use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

/// A named set of exclude patterns.
#[derive(Debug, Serialize, ToSchema)]
pub struct PresetView {
    /// Its name in plans.
    pub name: &'static str,
    /// What people read.
    pub title: &'static str,
    /// What to know before it is chosen.
    pub help: &'static str,
    /// The patterns for every system.
    pub everywhere: Vec<&'static str>,
    /// Further ones for Linux.
    pub linux: Vec<&'static str>,
    /// Further ones for macOS.
    pub darwin: Vec<&'static str>,
    /// Further ones for Windows.
    pub windows: Vec<&'static str>,
}

impl From<&Preset> for PresetView {
    fn from(it: &Preset) -> Self {
        Self {
            name: it.name,
            title: it.title,
            help: it.help,
            everywhere: it.everywhere.to_vec(),
            linux: it.linux.to_vec(),
            darwin: it.darwin.to_vec(),
            windows: it.windows.to_vec(),
        }
    }
}

/// The named sets of exclude patterns, and what each means on which system.
#[utoipa::path(get, path = "/api/plans/presets", operation_id = "list_presets", tag = "plans",
    responses((status = 200, body = Vec<PresetView>), (status = "default", body = ProblemView)))]
pub async fn presets(_who: Principal) -> ApiResult<Json<Vec<PresetView>>> {
    Ok(Json(presets::ALL.iter().map(PresetView::from).collect()))
}
