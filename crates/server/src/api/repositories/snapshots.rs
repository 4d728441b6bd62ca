//! `GET /api/repositories/{id}/snapshots`

use super::find;
use crate::{
    api::{
        error::{ApiResult, ProblemView},
        extract::{Params, PathId},
    },
    auth::Principal,
    db::snapshots,
    manager::Manager,
};
use axum::{Json, extract::State};
use jiff::Timestamp;
use protocol::{RepositoryId, Snapshot};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SnapshotsQuery {
    /// How many to leave out from the start; 0 when absent.
    offset: Option<usize>,
    /// At most 500; 100 when absent.
    limit: Option<usize>,
}

/// One page of snapshots, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct SnapshotsView {
    /// The page.
    pub snapshots: Vec<SnapshotView>,
    /// How many there are in all.
    pub total: usize,
    /// When the repository was read; absent before the first reading.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub read_at: Option<Timestamp>,
}

/// A snapshot.
#[derive(Debug, Serialize, ToSchema)]
pub struct SnapshotView {
    /// Its full id.
    pub id: String,
    /// The first eight digits of it.
    pub short_id: String,
    /// When it was taken, by the endpoint's clock.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// The host it was taken on.
    pub hostname: String,
    /// What was backed up.
    pub paths: Vec<String>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Bytes of all files in it; absent where restic wrote no summary.
    pub size_bytes: Option<u64>,
    /// Number of files in it; absent likewise.
    pub file_count: Option<u64>,
    /// Bytes that it added to the repository; absent likewise.
    pub added_bytes: Option<u64>,
}

impl From<Snapshot> for SnapshotView {
    fn from(it: Snapshot) -> Self {
        Self {
            id: it.id,
            short_id: it.short_id,
            time: it.time,
            hostname: it.hostname,
            paths: it.paths,
            tags: it.tags,
            size_bytes: it.size_bytes,
            file_count: it.file_count,
            added_bytes: it.added_bytes,
        }
    }
}

/// The snapshots of a repository as they were last read, newest first.
#[utoipa::path(get, path = "/api/repositories/{id}/snapshots", operation_id = "list_snapshots",
    tag = "repositories", params(("id" = String, Path, format = Uuid), SnapshotsQuery),
    responses((status = 200, body = SnapshotsView), (status = "default", body = ProblemView)))]
pub async fn snapshots(
    _who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<RepositoryId>,
    Params(query): Params<SnapshotsQuery>,
) -> ApiResult<Json<SnapshotsView>> {
    let db = manager.db().read();
    find(db, id).await?;
    let total = snapshots::count_of(db, id).await?;
    let read_at = snapshots::facts(db, id).await?.snapshots_read_at;
    let limit = query.limit.unwrap_or(100).clamp(1, 500);
    let page = snapshots::list(db, id, query.offset.unwrap_or(0), limit).await?;
    let snapshots = page.into_iter().map(SnapshotView::from).collect();
    Ok(Json(SnapshotsView { snapshots, total, read_at }))
}
