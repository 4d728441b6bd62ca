//! `PUT /api/store`

use super::show::{StoreView, view};
use crate::{
    api::{
        change::Change,
        check,
        error::{ApiError, ApiResult, ProblemView},
        extract::Body,
    },
    auth::Principal,
    db::store as rows,
    events::Topic,
    manager::Manager,
    store::place::{Place, PlaceError},
};
use anyhow::Context as _;
use axum::{Json, extract::State};
use serde::Deserialize;
use std::path::PathBuf;
use utoipa::ToSchema;
use uuid::Uuid;

/// Where the store lies.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChooseStoreForm {
    /// An absolute folder of the computer that runs this manager.
    folder: String,
}

/// Chooses the folder of the store, or says where it lies now. The folder is made if it is missing. Once
/// there is a store, only the folder itself, moved there by hand, is taken: an empty one in its place
/// would look as if everything were lost.
#[utoipa::path(put, path = "/api/store", operation_id = "choose_store", tag = "store",
    request_body = ChooseStoreForm,
    responses((status = 200, body = StoreView), (status = "default", body = ProblemView)))]
pub async fn choose(
    who: Principal,
    State(manager): State<Manager>,
    Body(form): Body<ChooseStoreForm>,
) -> ApiResult<Json<StoreView>> {
    check::plain("folder", &form.folder)?;
    let folder = PathBuf::from(form.folder.trim());
    let mut change = Change::begin(&manager, who).await?;
    let before = rows::place(&mut *change.tx).await?;
    let marker = match &before {
        Some(before) => before.marker,
        None => manager.new_id::<Uuid>(),
    };
    let place = Place::new(folder.clone(), marker);
    let is_new = before.is_none();
    let making = tokio::task::spawn_blocking(move || {
        if is_new || place.is_here() {
            Place::make(&folder, marker)
        } else {
            Err(PlaceError::Foreign)
        }
    });
    let place = making.await.context("failed to make the folder of the store")?.map_err(refused)?;
    let folder = place.folder().display().to_string();
    rows::set_place(&mut change.tx, marker, &folder, change.now).await?;
    change.commit("store.choose", "store", &folder).await?;
    manager.events().publish(Topic::Store);
    Ok(Json(view(&manager).await?))
}

fn refused(error: PlaceError) -> ApiError {
    let words = match error {
        PlaceError::Relative => "Give the whole path, from / or a drive on.".to_owned(),
        PlaceError::Foreign => {
            "This folder is not this manager's store. To move the store, move its whole folder \
             there first, with all that is in it."
                .to_owned()
        }
        PlaceError::Io(error) => format!("The folder cannot be used: {error}."),
    };
    ApiError::invalid("folder", words)
}
