//! `POST /api/session`

use super::SessionView;
use crate::{
    api::{
        error::{ApiError, ApiResult, ProblemView},
        extract::Body,
    },
    auth::network::{Network, peer, set_cookie},
};
use axum::{
    Extension, Json,
    http::{Extensions, header::SET_COOKIE},
    response::{IntoResponse as _, Response},
};
use protocol::Secret;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// What signing in takes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignInForm {
    /// The admin's password.
    #[schema(value_type = String, format = Password)]
    password: Secret<String>,
}

/// Signs in. Needs no sign-in itself; the answer sets the session's cookie.
#[utoipa::path(post, path = "/api/session", operation_id = "sign_in", tag = "session",
    request_body = SignInForm,
    responses((status = 200, body = SessionView), (status = "default", body = ProblemView)))]
pub async fn create(
    network: Option<Extension<Arc<Network>>>,
    extensions: Extensions,
    Body(form): Body<SignInForm>,
) -> ApiResult<Response> {
    let Some(Extension(network)) = network else {
        return Err(ApiError::conflict("There is nothing to sign in to here."));
    };
    let (cookie, session) = network.sign_in(peer(&extensions), form.password).await?;
    let view = SessionView {
        signed_in: true,
        principal: Some("admin".to_owned()),
        expires_at: Some(session.expires_at),
    };
    Ok(([(SET_COOKIE, set_cookie(&cookie))], Json(view)).into_response())
}
