//! `PUT /api/plans/{id}`

use super::{PlanView, RetentionView, announce, check_references, find, rules, view};
use crate::{
    api::{
        change::Change,
        check,
        error::{ApiResult, ProblemView},
        extract::{Body, PathId},
    },
    auth::Principal,
    db::plans::{self, Plan},
    desired,
    manager::Manager,
};
use axum::{Json, extract::State};
use protocol::{HostId, Patch, PlanId, RepositoryId, Retention};
use serde::Deserialize;
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// A changed plan. Absent leaves a field alone, a value sets it; `null` clears the retention, which
/// then keeps all snapshots, and the times, after which it runs by hand; as the repository it means the
/// store.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdatePlanForm {
    name: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Uuid)]
    repository_id: Patch<RepositoryId>,
    paths: Option<Vec<String>>,
    excludes: Option<Vec<String>>,
    tags: Option<Vec<String>>,
    #[serde(default)]
    #[schema(value_type = Option<RetentionView>)]
    retention: Patch<RetentionView>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    cron: Patch<String>,
    enabled: Option<bool>,
    #[schema(value_type = Option<Vec<uuid::Uuid>>)]
    host_ids: Option<Vec<HostId>>,
}

/// Changes a plan. Its hosts, those it leaves included, get a new desired state.
#[utoipa::path(put, path = "/api/plans/{id}", operation_id = "update_plan", tag = "plans",
    params(("id" = String, Path, format = Uuid)), request_body = UpdatePlanForm,
    responses((status = 200, body = PlanView), (status = "default", body = ProblemView)))]
pub async fn update(
    who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<PlanId>,
    Body(form): Body<UpdatePlanForm>,
) -> ApiResult<Json<PlanView>> {
    let mut change = Change::begin(&manager, who).await?;
    let mut plan = find(&mut *change.tx, id).await?;
    let before: BTreeSet<_> = plans::hosts(&mut *change.tx, id).await?.into_iter().collect();
    let after: BTreeSet<_> = match form.host_ids.clone() {
        Some(hosts) => hosts.into_iter().collect(),
        None => before.clone(),
    };
    apply(form, &mut plan)?;
    plan.updated_at = change.now;
    // A host that has the plan already keeps it, even a revoked one.
    let added: Vec<_> = after.difference(&before).copied().collect();
    check_references(&mut change, &plan, &added).await?;
    let hosts: Vec<_> = after.iter().copied().collect();
    plans::update(&mut change.tx, &plan).await?;
    plans::set_hosts(&mut change.tx, id, &hosts).await?;
    let concerned: Vec<_> = before.union(&after).copied().collect();
    let touched = desired::touch_hosts(&manager, &mut change.tx, &concerned).await?;
    change.commit("plan.update", &format!("plan:{id}"), &plan.name).await?;
    announce(&manager, id, plan.repository_id, &touched).await;
    Ok(Json(view(plan, hosts)))
}

fn apply(form: UpdatePlanForm, to: &mut Plan) -> ApiResult<()> {
    if let Some(name) = form.name {
        to.name = check::name("name", &name)?;
    }
    if let Some(paths) = form.paths {
        rules::paths(&paths)?;
        to.paths = paths;
    }
    if let Some(excludes) = form.excludes {
        rules::excludes(&excludes)?;
        to.excludes = excludes;
    }
    if let Some(tags) = form.tags {
        rules::tags(&tags)?;
        to.tags = tags;
    }
    match form.retention {
        Patch::Leave => {}
        Patch::Clear => to.retention = None,
        Patch::Set(retention) => {
            let retention = Retention::from(retention);
            rules::retention(&retention)?;
            to.retention = Some(retention);
        }
    }
    match form.repository_id {
        Patch::Leave => {}
        Patch::Clear => to.repository_id = None,
        Patch::Set(repository) => to.repository_id = Some(repository),
    }
    match form.cron {
        Patch::Leave => {}
        Patch::Clear => to.cron.clear(),
        Patch::Set(cron) => to.cron = rules::cron(&cron)?.to_string(),
    }
    to.enabled = form.enabled.unwrap_or(to.enabled);
    Ok(())
}
