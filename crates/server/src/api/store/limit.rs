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
    store::Refused,
};
use axum::{Json, extract::State};
use protocol::RepositoryId;
use serde::Deserialize;
use utoipa::ToSchema;

/// How much a machine may fill.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitForm {
    /// Bytes, and no fewer than the machine has already; `null` for no limit.
    quota_bytes: Option<u64>,
}

/// Limits what a machine may fill of the store. A limit deletes nothing, so one below what is there is
/// refused: it would only refuse every backup, and is more often a slip than meant.
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
    if let Some(quota) = form.quota_bytes {
        must_hold(quota, used(&manager, id).await?)?;
    }
    rows::set_quota(&mut change.tx, id, form.quota_bytes).await?;
    let detail = form.quota_bytes.map_or_else(|| "none".to_owned(), |quota| quota.to_string());
    change.commit("store.limit", &format!("repository:{id}"), &detail).await?;
    manager.events().publish(Topic::Store);
    Ok(Json(view(&manager).await?))
}

/// What is in the repository; nothing is known of one that is away.
async fn used(manager: &Manager, id: RepositoryId) -> ApiResult<u64> {
    match manager.store().here().await {
        Ok(place) => Ok(manager.store().used(&place, id).await?),
        Err(Refused::Away | Refused::Homeless) => Ok(0),
        Err(refused) => Err(refused.into()),
    }
}

fn must_hold(quota: u64, used: u64) -> ApiResult<()> {
    if quota == 0 {
        return Err(ApiError::invalid(
            "quota_bytes",
            "A limit of nothing would refuse every backup. Without a limit, leave it empty.",
        ));
    }
    if quota < used {
        return Err(ApiError::invalid(
            "quota_bytes",
            "The machine has more than that here already. A limit deletes nothing: this one would \
             only refuse its backups.",
        ));
    }
    Ok(())
}
