//! `GET /api/session`

use super::SessionView;
use crate::{
    api::error::{ApiResult, ProblemView},
    auth::{MaybePrincipal, Principal},
    db::sessions,
    manager::Manager,
};
use axum::{Json, extract::State};

/// Who is signed in. Needs no sign-in itself.
#[utoipa::path(get, path = "/api/session", operation_id = "show_session", tag = "session",
    responses((status = 200, body = SessionView), (status = "default", body = ProblemView)))]
pub async fn show(
    MaybePrincipal(principal): MaybePrincipal,
    State(manager): State<Manager>,
) -> ApiResult<Json<SessionView>> {
    let session = match principal {
        Some(Principal::Admin { session }) => {
            sessions::find(manager.db().read(), &session.0).await?
        }
        Some(Principal::LocalUser) | None => None,
    };
    Ok(Json(SessionView {
        signed_in: principal.is_some(),
        principal: principal.map(|principal| principal.as_str().to_owned()),
        expires_at: session.map(|session| session.expires_at),
    }))
}
