//! `DELETE /api/session`

use crate::{
    api::{
        change::Change,
        error::{ApiResult, ProblemView},
    },
    auth::{Principal, network::clear_cookie},
    db::sessions,
    manager::Manager,
};
use axum::{
    extract::State,
    http::{StatusCode, header::SET_COOKIE},
    response::{IntoResponse as _, Response},
};

/// Signs out. On the desktop it does nothing.
#[utoipa::path(delete, path = "/api/session", operation_id = "sign_out", tag = "session",
    responses((status = 204, description = "Signed out"), (status = "default", body = ProblemView)))]
pub async fn end(who: Principal, State(manager): State<Manager>) -> ApiResult<Response> {
    let Principal::Admin { session } = who else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let mut change = Change::begin(&manager, who).await?;
    sessions::delete(&mut change.tx, &session.0).await?;
    change.commit("session.end", "", "").await?;
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, clear_cookie())]).into_response())
}
