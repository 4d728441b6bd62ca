//! `POST /api/store/repositories/{id}/bring-back`

use crate::{
    api::{
        change::Change,
        error::{ApiError, ApiResult, ProblemView},
        extract::{Body, PathId},
    },
    auth::Principal,
    events::Topic,
    manager::Manager,
};
use axum::{Json, extract::State};
use jiff::Timestamp;
use protocol::RepositoryId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which deletion.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BringBackForm {
    /// When it was, as the store says.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

/// What came back.
#[derive(Debug, Serialize, ToSchema)]
pub struct BroughtBackView {
    /// Files.
    pub files: u64,
}

/// Brings back what one operation deleted, with all that was deleted after it: its snapshots and their
/// data are there again. What was written since stays.
#[utoipa::path(post, path = "/api/store/repositories/{id}/bring-back", operation_id = "bring_back",
    tag = "store", params(("id" = String, Path, format = Uuid)), request_body = BringBackForm,
    responses((status = 200, body = BroughtBackView), (status = "default", body = ProblemView)))]
pub async fn bring_back(
    who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<RepositoryId>,
    Body(form): Body<BringBackForm>,
) -> ApiResult<Json<BroughtBackView>> {
    let place = manager.store().place().await?;
    let deletions = manager.store().deletions(&place, id).await?;
    if !deletions.iter().any(|deletion| deletion.at == form.at) {
        return Err(ApiError::not_found("deletion"));
    }
    let Some(files) = manager.store().bring_back(&place, id, form.at).await? else {
        return Err(ApiError::conflict(
            "This repository is being worked on; try again after that.",
        ));
    };
    let change = Change::begin(&manager, who).await?;
    let detail = format!("{files} files of {}", form.at);
    change.commit("store.bring_back", &format!("repository:{id}"), &detail).await?;
    manager.events().publish(Topic::Store);
    manager.events().publish(Topic::Repository(id));
    Ok(Json(BroughtBackView { files }))
}
