//! Signing in and out. The desktop needs neither: there the person is known already.

pub mod create;
pub mod end;
pub mod show;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// Who is signed in.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionView {
    /// Whether the API can be used.
    pub signed_in: bool,
    /// Who: `local_user` or `admin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// When the session ends unless it is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}
