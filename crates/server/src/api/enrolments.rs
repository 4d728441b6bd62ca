//! Enrolments: one-time tokens that let one machine in.

pub mod create;
pub mod list;
pub mod withdraw;

use crate::db::enrolments::{Enrolment, EnrolmentState};
use jiff::Timestamp;
use protocol::{HostId, PlanId};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// An enrolment. Its token is in the answer that made it, and nowhere else.
#[derive(Debug, Serialize, ToSchema)]
pub struct EnrolmentView {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    pub id: Uuid,
    /// The name that the machine will get.
    pub name: String,
    /// Where it stands.
    pub state: EnrolmentStateView,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When its token ends.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// When a machine used it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub used_at: Option<Timestamp>,
    /// The host that this machine became.
    #[schema(value_type = Option<String>, format = Uuid)]
    pub host_id: Option<HostId>,
    /// The plan that the machine gets when it arrives.
    #[schema(value_type = Option<String>, format = Uuid)]
    pub plan_id: Option<PlanId>,
}

/// Where an enrolment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EnrolmentStateView {
    /// Its token lets one machine in.
    Waiting,
    /// A machine came in with it.
    Used,
    /// Its hour is over.
    Expired,
    /// It was taken back.
    Withdrawn,
}

impl From<EnrolmentState> for EnrolmentStateView {
    fn from(state: EnrolmentState) -> Self {
        match state {
            EnrolmentState::Waiting => Self::Waiting,
            EnrolmentState::Used => Self::Used,
            EnrolmentState::Expired => Self::Expired,
            EnrolmentState::Withdrawn => Self::Withdrawn,
        }
    }
}

fn view(enrolment: Enrolment, now: Timestamp) -> EnrolmentView {
    EnrolmentView {
        id: enrolment.id,
        state: enrolment.state(now).into(),
        name: enrolment.name,
        created_at: enrolment.created_at,
        expires_at: enrolment.expires_at,
        used_at: enrolment.used_at,
        host_id: enrolment.host_id,
        plan_id: enrolment.plan_id,
    }
}
