//! `PATCH /api/hosts/{id}`

use super::{HostView, find, host_name_is_free, view_of};
use crate::{
    api::{
        change::Change,
        check,
        error::{ApiResult, ProblemView},
        extract::{Body, PathId},
        wake,
    },
    auth::Principal,
    db::hosts,
    desired,
    events::Topic,
    manager::Manager,
};
use axum::{Json, extract::State};
use protocol::HostId;
use serde::Deserialize;
use utoipa::ToSchema;

/// A changed host.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenameHostForm {
    /// Its new name.
    name: String,
}

/// Renames a host. Its snapshots keep the machine's own name.
#[utoipa::path(patch, path = "/api/hosts/{id}", operation_id = "rename_host", tag = "hosts",
    params(("id" = String, Path, format = Uuid)), request_body = RenameHostForm,
    responses((status = 200, body = HostView), (status = "default", body = ProblemView)))]
pub async fn rename(
    who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<HostId>,
    Body(form): Body<RenameHostForm>,
) -> ApiResult<Json<HostView>> {
    let name = check::name("name", &form.name)?;
    let mut change = Change::begin(&manager, who).await?;
    let before = find(&mut *change.tx, id).await?.name;
    host_name_is_free(&mut change, &name, Some(id)).await?;
    hosts::rename(&mut change.tx, id, &name).await?;
    // An agent that sends alarms calls the machine as it is called here.
    let touched = desired::touch_hosts_anyway(&manager, &mut change.tx, &[id]).await?;
    let detail = format!("{before} is now {name}");
    change.commit("host.rename", &format!("host:{id}"), &detail).await?;
    manager.events().publish(Topic::Host(id));
    wake(&manager, &touched).await;
    Ok(Json(view_of(&manager, id).await?))
}
