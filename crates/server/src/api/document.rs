//! `GET /api/openapi.json`

use super::error::{ApiResult, ProblemView};
use crate::auth::Principal;
use axum::{http::header::CONTENT_TYPE, response::IntoResponse};

/// This document.
#[utoipa::path(get, path = "/api/openapi.json", operation_id = "show_document", tag = "system",
    responses((status = 200, body = serde_json::Value), (status = "default", body = ProblemView)))]
pub async fn document(_who: Principal) -> ApiResult<impl IntoResponse> {
    Ok(([(CONTENT_TYPE, "application/json")], include_str!("../../openapi.json")))
}
