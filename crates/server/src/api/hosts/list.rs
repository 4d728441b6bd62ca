//! `GET /api/hosts`

use super::{Facts, HostView, view};
use crate::{
    api::error::{ApiResult, ProblemView},
    auth::Principal,
    db::{
        hosts,
        plans::{self, Plan},
        repositories,
        runs::{self as stored, Run},
        tags,
    },
    manager::Manager,
    slots,
};
use axum::{Json, extract::State};
use protocol::HostId;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

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
    let pairs: BTreeSet<_> = plans::assignments(db).await?.into_iter().collect();
    let mut tags = tags::of_hosts(db).await?;
    let repositories = repositories::list(db).await?;
    let online = manager.links().online().await;
    let mut runs = by_host(stored::standing(db, None).await?);
    let mut open = by_host(stored::open(db).await?);
    let now = manager.now();
    let ledger = slots::of_all(&manager).await?;
    let mut views = Vec::new();
    for host in hosts::list(db).await? {
        let has = |plan| pairs.contains(&(plan, host.id));
        let own = repositories.iter().find(|it| it.store_host_id == Some(host.id)).map(|it| it.id);
        let of_host = plans.iter().filter(|plan| has(plan.id)).cloned();
        let plans: Vec<Plan> = of_host
            .map(|plan| Plan { repository_id: plan.repository_id.or(own), ..plan })
            .collect();
        let used = |id| plans.iter().any(|plan| plan.repository_id == Some(id));
        let facts = Facts {
            is_online: online.contains(&host.id),
            tags: tags.remove(&host.id).unwrap_or_default(),
            repositories: repositories.iter().filter(|it| used(it.id)).cloned().collect(),
            plans,
            runs: runs.remove(&host.id).unwrap_or_default(),
            open: open.remove(&host.id).unwrap_or_default(),
            ledger: Arc::clone(&ledger),
            now,
        };
        views.push(view(host, &facts));
    }
    Ok(Json(views))
}

/// Runs apart by their host, in the order that they came in.
fn by_host(runs: Vec<Run>) -> BTreeMap<HostId, Vec<Run>> {
    let mut apart: BTreeMap<HostId, Vec<Run>> = BTreeMap::new();
    for run in runs {
        apart.entry(run.host_id).or_default().push(run);
    }
    apart
}
