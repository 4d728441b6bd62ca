//! `POST /api/plans`

use super::{PlanView, RetentionView, announce, check_references, rules, view};
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
    /// Tags; none may have a comma or begin with `plan:` or `run:`.
    #[serde(default)]
    tags: Vec<String>,
    /// How long snapshots are kept; absent keeps all.
    retention: Option<RetentionView>,
    /// When it runs: five-field cron or an @ word, in the time zone of each machine; absent for a plan that
    /// runs by hand.
    cron: Option<String>,
    /// The hosts that it is assigned to.
    #[serde(default)]
    #[schema(value_type = Vec<uuid::Uuid>)]
    host_ids: Vec<HostId>,
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
    let (plan, hosts) = build(form, manager.new_id(), change.now)?;
    insert(&mut change, &plan, &hosts).await?;
    let touched = desired::touch_hosts(&manager, &mut change.tx, &hosts).await?;
    change.commit("plan.create", &format!("plan:{}", plan.id), &plan.name).await?;
    announce(&manager, plan.id, plan.repository_id, &touched).await;
    Ok((StatusCode::CREATED, Json(view(plan, hosts))))
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
    /// Tags; none may have a comma or begin with `plan:` or `run:`.
    #[serde(default)]
    tags: Vec<String>,
    /// How long snapshots are kept; absent keeps all.
    retention: Option<RetentionView>,
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
        tags: form.tags,
        retention: form.retention,
        cron: form.cron,
        host_ids: Vec::new(),
    };
    let (plan, hosts) = build(form, manager.new_id(), change.now)?;
    insert(change, &plan, &hosts).await?;
    Ok((plan, entered))
}

/// Checks what a plan refers to, and enters it.
async fn insert(change: &mut Change, plan: &Plan, hosts: &[HostId]) -> ApiResult<()> {
    check_references(change, plan, hosts).await?;
    plans::insert(&mut change.tx, plan).await?;
    plans::set_hosts(&mut change.tx, plan.id, hosts).await?;
    Ok(())
}

fn build(form: CreatePlanForm, id: PlanId, now: Timestamp) -> ApiResult<(Plan, Vec<HostId>)> {
    rules::paths(&form.paths)?;
    rules::excludes(&form.excludes)?;
    rules::tags(&form.tags)?;
    let retention = form.retention.map(Retention::from);
    retention.as_ref().map(rules::retention).transpose()?;
    let plan = Plan {
        id,
        name: check::name("name", &form.name)?,
        repository_id: form.repository_id,
        paths: form.paths,
        excludes: form.excludes,
        tags: form.tags,
        retention,
        cron: match form.cron {
            Some(cron) => rules::cron(&cron)?.to_string(),
            None => String::new(),
        },
        enabled: true,
        created_at: now,
        updated_at: now,
        revision: 0,
    };
    let mut hosts = form.host_ids;
    hosts.sort_unstable();
    hosts.dedup();
    Ok((plan, hosts))
}
