//! `GET /api/hosts`

use super::{Facts, HostView, view};
use crate::{
    api::error::{ApiResult, ProblemView},
    auth::Principal,
    db::{hosts, plans, repositories, runs},
    manager::Manager,
};
use axum::{Json, extract::State};

/// All hosts that are not removed, by name.
#[utoipa::path(get, path = "/api/hosts", operation_id = "list_hosts", tag = "hosts",
    responses((status = 200, body = Vec<HostView>), (status = "default", body = ProblemView)))]
pub async fn list(
    _who: Principal,
    State(manager): State<Manager>,
) -> ApiResult<Json<Vec<HostView>>> {
    let db = manager.db().read();
    // A handful of queries for the whole fleet, whatever its size.
    let plans = plans::list(db).await?;
    let pairs = plans::assignments(db).await?;
    let repositories = repositories::list(db).await?;
    let mut all = Facts {
        online: manager.links().online().await,
        plans: Vec::new(),
        repositories: Vec::new(),
        newest: Vec::new(),
        newest_backups: runs::newest_backups(db).await?,
        open: runs::open(db).await?,
    };
    let newest = runs::newest_of_kinds(db, None).await?;
    let mut views = Vec::new();
    for host in hosts::list(db).await? {
        let has = |plan| pairs.contains(&(plan, host.id));
        all.plans = plans.iter().filter(|plan| has(plan.id)).cloned().collect();
        let used = |id| all.plans.iter().any(|plan| plan.repository_id == id);
        all.repositories = repositories.iter().filter(|it| used(it.id)).cloned().collect();
        all.newest = newest.iter().filter(|run| run.host_id == host.id).cloned().collect();
        views.push(view(host, &all));
    }
    Ok(Json(views))
}
