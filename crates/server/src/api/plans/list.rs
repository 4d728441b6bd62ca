//! `GET /api/plans`

use super::{PlanView, view};
use crate::{
    api::error::{ApiResult, ProblemView},
    auth::Principal,
    db::plans,
    manager::Manager,
};
use axum::{Json, extract::State};

/// All plans, by name.
#[utoipa::path(get, path = "/api/plans", operation_id = "list_plans", tag = "plans",
    responses((status = 200, body = Vec<PlanView>), (status = "default", body = ProblemView)))]
pub async fn list(
    _who: Principal,
    State(manager): State<Manager>,
) -> ApiResult<Json<Vec<PlanView>>> {
    let db = manager.db().read();
    let pairs = plans::assignments(db).await?;
    let plans = plans::list(db).await?;
    let views = plans.into_iter().map(|plan| {
        let of_it = pairs.iter().filter(|(id, _)| *id == plan.id);
        let hosts = of_it.map(|(_, host)| *host).collect();
        view(plan, hosts)
    });
    Ok(Json(views.collect()))
}
