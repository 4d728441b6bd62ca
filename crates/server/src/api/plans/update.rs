//! `PUT /api/plans/{id}`

use super::{
    Assigned, PlanView, RetentionView, announce, check_references, find, in_order,
    options::{self, PlanOptionsView},
    rules, view,
};
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
use protocol::{Code, HostId, Patch, PlanId, PlanOptions, Problem, RepositoryId, Retention};
use serde::Deserialize;
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// A changed plan. Absent leaves a field alone, a value sets it; `null` clears the retention, which
/// then keeps all snapshots, and the times, after which it runs by hand; as the repository it means the
/// store, and as the options it leaves all to restic and the agent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdatePlanForm {
    name: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Uuid)]
    repository_id: Patch<RepositoryId>,
    paths: Option<Vec<String>>,
    excludes: Option<Vec<String>>,
    /// Names of sets of excludes.
    presets: Option<Vec<String>>,
    tags: Option<Vec<String>>,
    #[serde(default)]
    #[schema(value_type = Option<RetentionView>)]
    retention: Patch<RetentionView>,
    #[serde(default)]
    #[schema(value_type = Option<PlanOptionsView>)]
    options: Patch<PlanOptionsView>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    cron: Patch<String>,
    enabled: Option<bool>,
    #[schema(value_type = Option<Vec<uuid::Uuid>>)]
    host_ids: Option<Vec<HostId>>,
    /// The tags of hosts that it is assigned to.
    host_tags: Option<Vec<String>>,
    /// The revision that the change is based on: if the plan has another by now, nothing is changed.
    /// Absent for a change that holds whatever else was changed.
    revision: Option<i64>,
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
    if form.revision.is_some_and(|revision| revision != plan.revision) {
        let message =
            "Somebody changed this plan since it was opened here; nothing of yours is saved.";
        let problem = Problem::new(Code::Stale, message);
        return Err(problem.guidance("Look at the plan as it is now, and change it again.").into());
    }
    let mut assigned = Assigned::read(&mut change.tx, id).await?;
    let before: BTreeSet<_> = plans::hosts(&mut *change.tx, id).await?.into_iter().collect();
    if let Some(hosts) = form.host_ids.clone() {
        assigned.hosts = in_order(hosts);
    }
    if let Some(tags) = form.host_tags.as_deref() {
        assigned.tags = check::host_tags("host_tags", tags)?;
    }
    apply(form, &mut plan)?;
    plan.updated_at = change.now;
    plan.revision += 1;
    // A host that has the plan already keeps it, even a revoked one.
    let is_new = |host: &HostId| !before.contains(host);
    let added: Vec<_> = assigned.hosts.iter().copied().filter(is_new).collect();
    check_references(&mut change, &plan, &added).await?;
    plans::update(&mut change.tx, &plan).await?;
    assigned.write(&mut change.tx, id).await?;
    let hosts = plans::hosts(&mut *change.tx, id).await?;
    let concerned: BTreeSet<_> = before.into_iter().chain(hosts.iter().copied()).collect();
    let concerned: Vec<_> = concerned.into_iter().collect();
    let touched = desired::touch_hosts(&manager, &mut change.tx, &concerned).await?;
    change.commit("plan.update", &format!("plan:{id}"), &plan.name).await?;
    announce(&manager, id, plan.repository_id, &touched).await;
    Ok(Json(view(plan, assigned, hosts)))
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
    if let Some(presets) = form.presets {
        rules::presets(&presets)?;
        to.presets = presets;
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
    match form.options {
        Patch::Leave => {}
        Patch::Clear => to.options = PlanOptions::default(),
        Patch::Set(options) => to.options = options::read(options)?,
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
