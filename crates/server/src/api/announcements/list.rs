//! `GET /api/announcements`

use super::{AnnouncementView, view};
use crate::{
    api::{
        error::{ApiResult, ProblemView},
        hosts::is_taken,
    },
    auth::Principal,
    db::hosts,
    manager::Manager,
};
use axum::{Json, extract::State};

/// The machines that ask to join, oldest first.
#[utoipa::path(get, path = "/api/announcements", operation_id = "list_announcements",
    tag = "announcements",
    responses((status = 200, body = Vec<AnnouncementView>), (status = "default", body = ProblemView)))]
pub async fn list(
    _who: Principal,
    State(manager): State<Manager>,
) -> ApiResult<Json<Vec<AnnouncementView>>> {
    let hosts = hosts::list(manager.db().read()).await?;
    let all = manager.announcements().list(manager.now()).into_iter();
    let views = all.map(|it| {
        let is_name_taken = is_taken(&hosts, &it.newcomer.hostname, None);
        view(it, is_name_taken)
    });
    Ok(Json(views.collect()))
}
