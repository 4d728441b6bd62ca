//! `POST /api/announcements/{id}/approve`

use super::over;
use crate::{
    announcements::Announcement,
    api::{
        change::Change,
        check,
        enrolments::create::ensure_plan,
        error::{ApiError, ApiResult, ProblemView},
        extract::{Body, PathId},
        hosts::host_name_is_free,
        plans::{PlanView, create::PlanForMachineForm},
        repositories::create::CreatedRepositoryView,
    },
    auth::Principal,
    db::hosts,
    manager::Manager,
    newcomer,
};
use axum::{Json, extract::State, http::StatusCode};
use protocol::{Code, HostId, PlanId, Problem, ShortCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// What becomes of a machine that asked to join.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveForm {
    /// The code that the admin compared: what is approved is the machine that shows it, and no other.
    code: String,
    /// The name that the machine gets.
    name: String,
    /// The plan that the machine gets.
    #[schema(value_type = Option<String>, format = Uuid)]
    plan_id: Option<PlanId>,
    /// Instead of `plan_id`, a plan that is made with it: all of it, or nothing.
    plan: Option<PlanForMachineForm>,
}

/// A machine that was approved.
#[derive(Debug, Serialize, ToSchema)]
pub struct ApprovedView {
    /// The host that it is.
    #[schema(value_type = String, format = Uuid)]
    pub host_id: HostId,
    /// The plan that was made with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanView>,
    /// The repository that was entered with it, and what was minted for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<CreatedRepositoryView>,
}

/// Lets a machine in that asked to join, once root has confirmed its code there. What the form
/// describes of a plan and a repository is made with it; where anything is refused, nothing is kept and
/// the machine waits on.
#[utoipa::path(post, path = "/api/announcements/{id}/approve",
    operation_id = "approve_announcement", tag = "announcements",
    params(("id" = String, Path, format = Uuid)), request_body = ApproveForm,
    responses((status = 201, body = ApprovedView), (status = "default", body = ProblemView)))]
pub async fn approve(
    who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<Uuid>,
    Body(form): Body<ApproveForm>,
) -> ApiResult<(StatusCode, Json<ApprovedView>)> {
    let name = check::name("name", &form.name)?;
    let decision = manager.announcements().decide(id, manager.now()).await.ok_or_else(over)?;
    let asking = decision.about();
    may_be_approved(asking, &form.code)?;
    let mut change = Change::begin(&manager, who).await?;
    if hosts::find_by_key(&mut *change.tx, &asking.newcomer.key).await?.is_some() {
        let message = "The key of this machine already belongs to a machine of the fleet.";
        return Err(ApiError::refused(Code::KeyAlreadyEnrolled, message));
    }
    host_name_is_free(&mut change, &name, None).await?;
    let (plan, made) = ensure_plan(&manager, &mut change, form.plan_id, form.plan).await?;
    let host_id =
        newcomer::take_in(&manager, &mut change.tx, &name, &asking.newcomer, plan).await?;
    change.commit("announcement.approve", &format!("host:{host_id}"), &name).await?;
    decision.approved(host_id, manager.now());
    manager.announce(host_id).await;
    let (plan, repository) = match made {
        Some(made) => made.tell(&manager).await?,
        None => (None, None),
    };
    Ok((StatusCode::CREATED, Json(ApprovedView { host_id, plan, repository })))
}

fn may_be_approved(asking: &Announcement, code: &str) -> ApiResult<()> {
    if code.parse::<ShortCode>().ok() != Some(asking.code) {
        let message = "This is not the code of the machine that asks; nothing was approved.";
        return Err(Problem::new(Code::NotConfirmed, message)
            .guidance("Compare the code that is shown here with the one on the machine again.")
            .field("code")
            .into());
    }
    if !asking.is_confirmed {
        let message = "The code was not confirmed on the machine yet; nothing was approved.";
        return Err(Problem::new(Code::Conflict, message)
            .guidance("Type the code on the machine, where its agent asks for it.")
            .into());
    }
    Ok(())
}
