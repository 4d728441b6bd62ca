//! `GET /api/system`

use crate::{
    api::error::{ApiResult, ProblemView},
    auth::Principal,
    db::{hosts, manager as rows},
    manager::Manager,
};
use axum::{Json, extract::State};
use protocol::Incarnation;
use serde::Serialize;
use utoipa::ToSchema;

/// The manager.
#[derive(Debug, Serialize, ToSchema)]
pub struct SystemView {
    /// Its version.
    pub version: String,
    /// The life of its database.
    #[schema(value_type = String, format = Uuid)]
    pub incarnation: Incarnation,
    /// The epoch of its certificate.
    pub epoch: u64,
    /// The key that agents pin.
    pub manager_key: String,
    /// Where agents may dial it, `host:port`, best first.
    pub addresses: Vec<String>,
    /// The fleet's root certificate, PEM.
    pub root_certificate_pem: String,
    /// How much there is of what.
    pub counts: CountsView,
}

/// How much there is of what.
#[derive(Debug, Serialize, ToSchema)]
pub struct CountsView {
    /// Hosts that are not removed.
    pub hosts: u32,
    /// Those of them that are connected.
    pub online: usize,
    /// Those that cannot be read, and are in no list.
    pub unreadable_hosts: usize,
    /// Plans.
    pub plans: u32,
    /// Repositories.
    pub repositories: u32,
    /// Runs that have not ended.
    pub open_runs: u32,
    /// Notices that are not resolved.
    pub open_notices: u32,
}

/// The manager: who it is, where agents find it, and what it has.
#[utoipa::path(get, path = "/api/system", operation_id = "show_system", tag = "system",
    responses((status = 200, body = SystemView), (status = "default", body = ProblemView)))]
pub async fn show(_who: Principal, State(manager): State<Manager>) -> ApiResult<Json<SystemView>> {
    let db = manager.db().read();
    let identity = manager.identity().manager();
    let counts = rows::counts(db).await?;
    Ok(Json(SystemView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        incarnation: identity.incarnation,
        epoch: identity.epoch,
        manager_key: manager.identity().manager_key(),
        addresses: rows::addresses(db).await?,
        root_certificate_pem: manager.identity().root_cert_pem(),
        counts: CountsView {
            hosts: counts.hosts,
            online: manager.links().online().await.len(),
            unreadable_hosts: hosts::fleet(db).await?.unreadable,
            plans: counts.plans,
            repositories: counts.repositories,
            open_runs: counts.open_runs,
            open_notices: counts.open_notices,
        },
    }))
}
