//! `GET /api/enrolments`

use super::{EnrolmentView, view};
use crate::{
    api::error::{ApiResult, ProblemView},
    auth::Principal,
    db::enrolments,
    manager::Manager,
};
use axum::{Json, extract::State};

/// The newest enrolments first, at most 200.
#[utoipa::path(get, path = "/api/enrolments", operation_id = "list_enrolments", tag = "enrolments",
    responses((status = 200, body = Vec<EnrolmentView>), (status = "default", body = ProblemView)))]
pub async fn list(
    _who: Principal,
    State(manager): State<Manager>,
) -> ApiResult<Json<Vec<EnrolmentView>>> {
    let now = manager.now();
    let all = enrolments::list(manager.db().read()).await?;
    Ok(Json(all.into_iter().map(|enrolment| view(enrolment, now)).collect()))
}
