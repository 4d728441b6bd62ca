//! `PUT /api/store/repositories/{id}`

use super::show::{StoreView, view};
use crate::{
    api::{
        change::Change,
        error::{ApiError, ApiResult, ProblemView},
        extract::{Body, PathId},
    },
    auth::Principal,
    db::store as rows,
    events::Topic,
    manager::Manager,
};
use axum::{Json, extract::State};
use protocol::RepositoryId;
use serde::Deserialize;
use utoipa::ToSchema;

/// How much a machine may fill.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitForm {
    /// Bytes; `null` for no limit.
    quota_bytes: Option<u64>,
}

/// Limits what a machine may fill of the store. What it has already stays.
#[utoipa::path(put, path = "/api/store/repositories/{id}", operation_id = "limit_store", tag = "store",
    params(("id" = String, Path, format = Uuid)), request_body = LimitForm,
    responses((status = 200, body = StoreView), (status = "default", body = ProblemView)))]
pub async fn limit(
    who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<RepositoryId>,
    Body(form): Body<LimitForm>,
) -> ApiResult<Json<StoreView>> {
    let mut change = Change::begin(&manager, who).await?;
    if rows::access(&mut *change.tx, id).await?.is_none() {
        return Err(ApiError::not_found("repository in the store"));
    }
    rows::set_quota(&mut change.tx, id, form.quota_bytes).await?;
    let detail = form.quota_bytes.map_or_else(|| "none".to_owned(), |quota| quota.to_string());
    change.commit("store.limit", &format!("repository:{id}"), &detail).await?;
    manager.events().publish(Topic::Store);
    Ok(Json(view(&manager).await?))
}
