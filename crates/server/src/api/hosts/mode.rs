//! `PUT /api/hosts/{id}/mode`

use super::{HostView, find, view_of};
use crate::{
    api::{
        change::Change,
        error::{ApiError, ApiResult, ProblemView},
        extract::{Body, PathId},
    },
    auth::Principal,
    db::hosts::{self, HostMode, Patience},
    desired,
    events::Topic,
    manager::Manager,
};
use axum::{Json, extract::State};
use protocol::HostId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The longest that a machine may go without a backup and not be late: longer is no protection.
const MAX_DAYS: u32 = 90;

/// Whether a machine is on when nobody uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModeView {
    /// A server: that it is off is news.
    AlwaysOn,
    /// A laptop: that it is asleep says nothing, for some days.
    Intermittent,
}

impl From<HostMode> for ModeView {
    fn from(mode: HostMode) -> Self {
        match mode {
            HostMode::AlwaysOn => Self::AlwaysOn,
            HostMode::Intermittent => Self::Intermittent,
        }
    }
}

impl From<ModeView> for HostMode {
    fn from(mode: ModeView) -> Self {
        match mode {
            ModeView::AlwaysOn => Self::AlwaysOn,
            ModeView::Intermittent => Self::Intermittent,
        }
    }
}

/// How long a machine may go without a backup.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HostModeForm {
    /// Whether it is on when nobody uses it.
    mode: ModeView,
    /// After how many days an intermittent machine is late, 1 to 90; as it was when absent.
    stale_after_days: Option<u32>,
}

/// Says whether a machine is always on, or intermittent: then it is asleep, and not late, for some days.
#[utoipa::path(put, path = "/api/hosts/{id}/mode", operation_id = "set_host_mode", tag = "hosts",
    params(("id" = String, Path, format = Uuid)), request_body = HostModeForm,
    responses((status = 200, body = HostView), (status = "default", body = ProblemView)))]
pub async fn set(
    who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<HostId>,
    Body(form): Body<HostModeForm>,
) -> ApiResult<Json<HostView>> {
    let mut change = Change::begin(&manager, who).await?;
    let host = find(&mut *change.tx, id).await?;
    let stale_after_days = form.stale_after_days.unwrap_or(host.patience.stale_after_days);
    if !(1..=MAX_DAYS).contains(&stale_after_days) {
        return Err(ApiError::invalid("stale_after_days", "A machine is late after 1 to 90 days."));
    }
    let patience = Patience { mode: form.mode.into(), stale_after_days };
    hosts::set_patience(&mut change.tx, id, patience).await?;
    // Its agent tells when its plans are overdue, and must know how long that may take.
    let touched = desired::touch_hosts_anyway(&manager, &mut change.tx, &[id]).await?;
    let detail = match patience.mode {
        HostMode::AlwaysOn => format!("{} is always on", host.name),
        HostMode::Intermittent => {
            format!("{} is intermittent, and late after {stale_after_days} days", host.name)
        }
    };
    change.commit("host.mode", &format!("host:{id}"), &detail).await?;
    manager.events().publish(Topic::Host(id));
    crate::api::wake(&manager, &touched).await;
    Ok(Json(view_of(&manager, id).await?))
}
