//! Notices: what a person must know or decide.

pub mod list;
pub mod resolve;

use crate::db::notices::Notice;
use jiff::Timestamp;
use protocol::{Code, HostId};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// A notice.
#[derive(Debug, Serialize, ToSchema)]
pub struct NoticeView {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    pub id: Uuid,
    /// The host that it is about.
    #[schema(value_type = Option<String>, format = Uuid)]
    pub host_id: Option<HostId>,
    /// The stable reason.
    #[schema(value_type = crate::api::words::CodeWord)]
    pub code: Code,
    /// Tells two notices of one code apart; often empty.
    pub subject: String,
    /// What happened.
    pub message: String,
    /// What to do next.
    pub guidance: Option<String>,
    /// When it was first told.
    #[schema(value_type = String, format = DateTime)]
    pub opened_at: Timestamp,
    /// When it was last told.
    #[schema(value_type = String, format = DateTime)]
    pub last_at: Timestamp,
    /// How often.
    pub times: u64,
}

impl From<Notice> for NoticeView {
    fn from(it: Notice) -> Self {
        Self {
            id: it.id,
            host_id: it.host_id,
            code: it.code,
            subject: it.subject,
            message: it.message,
            guidance: it.guidance,
            opened_at: it.opened_at,
            last_at: it.last_at,
            times: it.times,
        }
    }
}
