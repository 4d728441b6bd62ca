//! `GET /api/plans`

use super::{Assigned, PlanView, view};
use crate::{
    api::error::{ApiResult, ProblemView},
    auth::Principal,
    db::{plans, tags},
    manager::Manager,
};
use axum::{Json, extract::State};
use protocol::{HostId, PlanId};

/// All plans, by name.
#[utoipa::path(get, path = "/api/plans", operation_id = "list_plans", tag = "plans",
    responses((status = 200, body = Vec<PlanView>), (status = "default", body = ProblemView)))]
pub async fn list(
    _who: Principal,
    State(manager): State<Manager>,
) -> ApiResult<Json<Vec<PlanView>>> {
    let db = manager.db().read();
    let (chosen, all) = (plans::choices(db).await?, plans::assignments(db).await?);
    let mut tags = tags::of_plans(db).await?;
    let plans = plans::list(db).await?;
    let of = |pairs: &[(PlanId, HostId)], id| {
        pairs.iter().filter(|(plan, _)| *plan == id).map(|(_, host)| *host).collect()
    };
    let views = plans.into_iter().map(|plan| {
        let (hosts, all) = (of(&chosen, plan.id), of(&all, plan.id));
        let tags = tags.remove(&plan.id).unwrap_or_default();
        view(plan, Assigned { hosts, tags }, all)
    });
    Ok(Json(views.collect()))
}
