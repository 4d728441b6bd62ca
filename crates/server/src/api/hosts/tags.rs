//! `PUT /api/hosts/{id}/tags`

use super::{HostView, find, view_of};
use crate::{
    api::{
        change::Change,
        check,
        error::{ApiError, ApiResult, ProblemView},
        extract::{Body, PathId},
        wake,
    },
    auth::Principal,
    db::{channels, hosts::HostState, plans, tags as rows},
    desired,
    events::Topic,
    manager::Manager,
};
use axum::{Json, extract::State};
use protocol::{ChannelId, Code, HostId, PlanId};
use serde::Deserialize;
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// The tags of a host.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HostTagsForm {
    /// All of them: letters, digits, dots, dashes and underscores. Capitals are made small.
    tags: Vec<String>,
}

/// Makes these the tags of a host, and no others. With a tag it gets the plans that go by it, and
/// loses them with it.
#[utoipa::path(put, path = "/api/hosts/{id}/tags", operation_id = "set_host_tags", tag = "hosts",
    params(("id" = String, Path, format = Uuid)), request_body = HostTagsForm,
    responses((status = 200, body = HostView), (status = "default", body = ProblemView)))]
pub async fn set(
    who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<HostId>,
    Body(form): Body<HostTagsForm>,
) -> ApiResult<Json<HostView>> {
    let tags = check::host_tags("tags", &form.tags)?;
    let mut change = Change::begin(&manager, who).await?;
    let host = find(&mut *change.tx, id).await?;
    let before = rows::of_host(&mut *change.tx, id).await?;
    if before == tags {
        return Ok(Json(view_of(&manager, id).await?));
    }
    if host.state == HostState::Revoked && tags.iter().any(|tag| !before.contains(tag)) {
        let message = "This machine was revoked: it gets no further plans.";
        return Err(ApiError::refused(Code::HostRevoked, message));
    }
    let had = plan_ids(&mut change, id).await?;
    let had_channels = channel_ids(&mut change, id).await?;
    rows::set_of_host(&mut change.tx, id, &tags).await?;
    let has = plan_ids(&mut change, id).await?;
    let touched = match had == has && had_channels == channel_ids(&mut change, id).await? {
        true => Vec::new(),
        false => desired::touch_hosts(&manager, &mut change.tx, &[id]).await?,
    };
    let detail = match tags.is_empty() {
        true => format!("{} has no tags now", host.name),
        false => format!("{} has the tags {} now", host.name, tags.join(", ")),
    };
    change.commit("host.tags", &format!("host:{id}"), &detail).await?;
    manager.events().publish(Topic::Host(id));
    for plan in had.symmetric_difference(&has) {
        manager.events().publish(Topic::Plan(*plan));
    }
    wake(&manager, &touched).await;
    Ok(Json(view_of(&manager, id).await?))
}

async fn channel_ids(change: &mut Change, id: HostId) -> ApiResult<Vec<ChannelId>> {
    let channels = channels::of_host(&mut *change.tx, id).await?;
    Ok(channels.into_iter().map(|channel| channel.id).collect())
}

async fn plan_ids(change: &mut Change, id: HostId) -> ApiResult<BTreeSet<PlanId>> {
    let plans = plans::of_host(&mut *change.tx, id).await?;
    Ok(plans.into_iter().map(|plan| plan.id).collect())
}
