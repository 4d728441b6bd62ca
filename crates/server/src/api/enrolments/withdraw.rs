//! `DELETE /api/enrolments/{id}`

use crate::{
    api::{
        change::Change,
        error::{ApiError, ApiResult, ProblemView},
        extract::PathId,
    },
    auth::Principal,
    db::enrolments,
    events::Topic,
    manager::Manager,
};
use axum::{extract::State, http::StatusCode};
use protocol::{Code, Problem};
use uuid::Uuid;

/// Takes an enrolment back, so that its token lets nobody in. Doing it twice changes nothing.
#[utoipa::path(delete, path = "/api/enrolments/{id}", operation_id = "withdraw_enrolment",
    tag = "enrolments", params(("id" = String, Path, format = Uuid)),
    responses((status = 204, description = "Taken back"), (status = "default", body = ProblemView)))]
pub async fn withdraw(
    who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<Uuid>,
) -> ApiResult<StatusCode> {
    let mut change = Change::begin(&manager, who).await?;
    let enrolment = enrolments::find(&mut *change.tx, id).await?;
    let enrolment = enrolment.ok_or_else(|| ApiError::not_found("enrolment"))?;
    if enrolment.used_at.is_some() {
        return Err(Problem::new(Code::TokenUsed, "A machine came in with this token already.")
            .guidance("If it is not yours, revoke that machine.")
            .into());
    }
    let now = change.now;
    if !enrolments::withdraw(&mut change.tx, id, now).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    change.commit("enrolment.withdraw", &format!("enrolment:{id}"), &enrolment.name).await?;
    manager.events().publish(Topic::Enrolments);
    Ok(StatusCode::NO_CONTENT)
}
