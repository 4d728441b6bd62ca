//! `POST /api/plans`

use super::{
    Assigned, PlanView, RetentionView, announce, check_references, in_order,
    options::{self, PlanOptionsView},
    rules, view,
};
use crate::{
    api::{
        change::Change,
        check,
        error::{ApiError, ApiResult, ProblemView},
        extract::Body,
        repositories::create::{CreateRepositoryForm, Entered},
    },
    auth::Principal,
    db::plans::{self, Plan},
    desired,
    manager::Manager,
};
use axum::{Json, extract::State, http::StatusCode};
use jiff::Timestamp;
use protocol::{HostId, PlanId, RepositoryId, Retention};
use serde::Deserialize;
use utoipa::ToSchema;

/// A new plan.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreatePlanForm {
    name: String,
    /// Where its snapshots go; absent for the store, where each machine has a repository of its own.
    #[schema(value_type = Option<String>, format = Uuid)]
    repository_id: Option<RepositoryId>,
    /// Absolute paths, at least one.
    paths: Vec<String>,
    /// restic exclude patterns.
    #[serde(default)]
    excludes: Vec<String>,
    /// Names of sets of excludes.
    #[serde(default)]
    presets: Vec<String>,
    /// Tags; none may have a comma or begin with `plan:` or `run:`.
    #[serde(default)]
    tags: Vec<String>,
    /// How long snapshots are kept; absent keeps all.
    retention: Option<RetentionView>,
    /// How its backups run; absent leaves all to restic and the agent.
    options: Option<PlanOptionsView>,
    /// When it runs: five-field cron or an @ word, in the time zone of each machine; absent for a plan that
    /// runs by hand.
    cron: Option<String>,
    /// The hosts that it is assigned to one by one.
    #[serde(default)]
    #[schema(value_type = Vec<uuid::Uuid>)]
    host_ids: Vec<HostId>,
    /// The tags of hosts that it is assigned to; hosts that get one later get the plan with it.
    #[serde(default)]
    host_tags: Vec<String>,
}

/// Makes a plan and assigns it.
#[utoipa::path(post, path = "/api/plans", operation_id = "create_plan", tag = "plans",
    request_body = CreatePlanForm,
    responses((status = 201, body = PlanView), (status = "default", body = ProblemView)))]
pub async fn create(
    who: Principal,
    State(manager): State<Manager>,
    Body(form): Body<CreatePlanForm>,
) -> ApiResult<(StatusCode, Json<PlanView>)> {
    let mut change = Change::begin(&manager, who).await?;
    let (plan, assigned) = build(form, manager.new_id(), change.now)?;
    insert(&mut change, &plan, &assigned).await?;
    let hosts = plans::hosts(&mut *change.tx, plan.id).await?;
    let touched = desired::touch_hosts(&manager, &mut change.tx, &hosts).await?;
    change.commit("plan.create", &format!("plan:{}", plan.id), &plan.name).await?;
    announce(&manager, plan.id, plan.repository_id, &touched).await;
    Ok((StatusCode::CREATED, Json(view(plan, assigned, hosts))))
}

/// A new plan that comes with the machine that it is for, and perhaps with its repository. Without
/// `repository_id` and `repository` it goes to the store.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanForMachineForm {
    name: String,
    /// A repository that is there.
    #[schema(value_type = Option<String>, format = Uuid)]
    repository_id: Option<RepositoryId>,
    /// A repository that is entered with the plan.
    repository: Option<CreateRepositoryForm>,
    /// Absolute paths, at least one.
    paths: Vec<String>,
    /// restic exclude patterns.
    #[serde(default)]
    excludes: Vec<String>,
    /// Names of sets of excludes.
    #[serde(default)]
    presets: Vec<String>,
    /// Tags; none may have a comma or begin with `plan:` or `run:`.
    #[serde(default)]
    tags: Vec<String>,
    /// How long snapshots are kept; absent keeps all.
    retention: Option<RetentionView>,
    /// How its backups run; absent leaves all to restic and the agent.
    options: Option<PlanOptionsView>,
    /// When it runs: five-field cron or an @ word, in the time zone of each machine; absent for a plan that
    /// runs by hand.
    cron: Option<String>,
}

/// Makes such a plan in a change, and its repository if that is new.
pub(in crate::api) async fn for_machine(
    manager: &Manager,
    change: &mut Change,
    form: PlanForMachineForm,
) -> ApiResult<(Plan, Option<Entered>)> {
    let (repository_id, entered) = match (form.repository_id, form.repository) {
        (id, None) => (id, None),
        (None, Some(repository)) => {
            let entered = Entered::enter(manager, change, repository).await;
            let entered = entered.map_err(|refused| refused.within("repository"))?;
            (Some(entered.repository.id), Some(entered))
        }
        (Some(_), Some(_)) => {
            let message = "Choose a repository, or describe a new one, not both.";
            return Err(ApiError::invalid("repository_id", message));
        }
    };
    let form = CreatePlanForm {
        name: form.name,
        repository_id,
        paths: form.paths,
        excludes: form.excludes,
        presets: form.presets,
        tags: form.tags,
        retention: form.retention,
        options: form.options,
        cron: form.cron,
        host_ids: Vec::new(),
        host_tags: Vec::new(),
    };
    let (plan, nobody) = build(form, manager.new_id(), change.now)?;
    insert(change, &plan, &nobody).await?;
    Ok((plan, entered))
}

/// Checks what a plan refers to, and enters it.
async fn insert(change: &mut Change, plan: &Plan, assigned: &Assigned) -> ApiResult<()> {
    check_references(change, plan, &assigned.hosts).await?;
    plans::insert(&mut change.tx, plan).await?;
    assigned.write(&mut change.tx, plan.id).await
}

fn build(form: CreatePlanForm, id: PlanId, now: Timestamp) -> ApiResult<(Plan, Assigned)> {
    rules::paths(&form.paths)?;
    rules::excludes(&form.excludes)?;
    rules::presets(&form.presets)?;
    rules::tags(&form.tags)?;
    let retention = form.retention.map(Retention::from);
    retention.as_ref().map(rules::retention).transpose()?;
    let plan = Plan {
        id,
        name: check::name("name", &form.name)?,
        repository_id: form.repository_id,
        paths: form.paths,
        excludes: form.excludes,
        presets: form.presets,
        tags: form.tags,
        retention,
        options: form.options.map(options::read).transpose()?.unwrap_or_default(),
        cron: match form.cron {
            Some(cron) => rules::cron(&cron)?.to_string(),
            None => String::new(),
        },
        enabled: true,
        created_at: now,
        updated_at: now,
        revision: 0,
    };
    let tags = check::host_tags("host_tags", &form.host_tags)?;
    Ok((plan, Assigned { hosts: in_order(form.host_ids), tags }))
}
