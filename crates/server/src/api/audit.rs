//! `GET /api/audit`

use super::{
    error::{ApiResult, ProblemView},
    extract::Params,
};
use crate::{
    auth::Principal,
    db::audit::{self, AuditEntry},
    manager::Manager,
};
use axum::{Json, extract::State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Only entries older than this one.
    before: Option<i64>,
    /// At most 500; 100 when absent.
    limit: Option<i64>,
}

/// An entry of the audit log.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditEntryView {
    /// Its number.
    pub id: i64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who: `local_user`, `admin`, or a part of the manager itself.
    pub principal: String,
    /// What, such as `host.revoke`.
    pub action: String,
    /// To what, such as `host:<id>`.
    pub subject: String,
    /// More about it.
    pub detail: String,
}

impl From<AuditEntry> for AuditEntryView {
    fn from(entry: AuditEntry) -> Self {
        let AuditEntry { id, at, principal, action, subject, detail } = entry;
        Self { id, at, principal, action, subject, detail }
    }
}

/// Who did what and when, newest first.
#[utoipa::path(get, path = "/api/audit", operation_id = "list_audit", tag = "system",
    params(AuditQuery),
    responses((status = 200, body = Vec<AuditEntryView>), (status = "default", body = ProblemView)))]
pub async fn list(
    _who: Principal,
    State(manager): State<Manager>,
    Params(query): Params<AuditQuery>,
) -> ApiResult<Json<Vec<AuditEntryView>>> {
    let limit = query.limit.unwrap_or(100).clamp(1, 500);
    let entries = audit::list(manager.db().read(), query.before, limit).await?;
    Ok(Json(entries.into_iter().map(AuditEntryView::from).collect()))
}
