//! Announcements: machines without a token that ask to join, each with the code that it shows too.

pub mod approve;
pub mod list;
pub mod refuse;

use super::error::ApiError;
use crate::announcements::Announcement;
use jiff::Timestamp;
use protocol::{Code, Problem};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// A machine that asks to join.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnnouncementView {
    /// The announcement's id.
    #[schema(value_type = String, format = Uuid)]
    pub id: Uuid,
    /// The code; the machine shows the same, unless somebody stands between.
    pub code: String,
    /// What the machine calls itself.
    pub hostname: String,
    /// `linux`, `windows`, `darwin` or `unknown`.
    pub os: String,
    /// `amd64`, `arm64` or `unknown`.
    pub arch: String,
    /// The agent's version.
    pub agent_version: String,
    /// From where it dialled.
    pub address: String,
    /// When it asked.
    #[schema(value_type = String, format = DateTime)]
    pub announced_at: Timestamp,
    /// When the announcement is over.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// Whether root has typed the code on the machine.
    pub is_confirmed: bool,
    /// Whether a machine of the fleet has the name that this one calls itself.
    pub is_name_taken: bool,
}

fn view(it: Announcement, is_name_taken: bool) -> AnnouncementView {
    AnnouncementView {
        id: it.id,
        code: it.code.to_string(),
        os: it.newcomer.os.as_str().to_owned(),
        arch: it.newcomer.arch.as_str().to_owned(),
        hostname: it.newcomer.hostname,
        agent_version: it.newcomer.agent_version,
        address: it.address.to_string(),
        announced_at: it.announced_at,
        expires_at: it.expires_at,
        is_confirmed: it.is_confirmed,
        is_name_taken,
    }
}

fn over() -> ApiError {
    let message = "This machine does not ask any more: its quarter of an hour is over, or it was decided already.";
    Problem::new(Code::AnnouncementOver, message)
        .guidance("Announce it again on the machine if it is still to join.")
        .into()
}
