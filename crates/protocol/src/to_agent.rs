//! Frames that the manager sends.

use crate::{
    AlarmTest, CommandNumber, ConfigUpdate, Frame, FrameError, Refused, RepositoryId, RunId,
    RunSpec, ScheduleSet, TreeWant, Welcome,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Run something (`command.run`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRun {
    /// The run.
    pub job_id: RunId,
    /// What to do; `kind` and its fields.
    #[serde(flatten)]
    pub spec: RunSpec,
    /// Version 1's free arguments. They are read and never used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The command's place in the manager's series (since version 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<CommandNumber>,
    /// When it will no longer be started, by the manager's clock; for people to read (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Reserved: the admin's signature under an act of power (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// Start the accepted command now (`command.go`, since version 2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandGo {
    /// The run.
    pub job_id: RunId,
}

/// Why a run is to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelReason {
    /// The command was not started in time.
    Expired,
    /// A person asked for it; also what a reason of a newer manager reads as.
    #[default]
    #[serde(other)]
    Admin,
}

/// End a run, or see to it that it never starts (`command.cancel`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandCancel {
    /// The run.
    pub job_id: RunId,
    /// Its number, so that an agent that never saw the command can strike it off (since version 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<CommandNumber>,
    /// Why (since 2).
    #[serde(default)]
    pub reason: CancelReason,
}

/// Acknowledgement without other content (`journal.ack`, since version 2); the number is in the
/// envelope's `ack`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalAck {}

/// The lists disagree: send the full one (`snapshots.want`, since version 2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotsWant {
    /// The repository.
    pub repository_id: RepositoryId,
    /// Read it first: another machine, which has the repository too, has told of it since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anew: bool,
}

/// A newer agent exists (`agent.update_available`). Informational: agents do not update themselves
/// on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentUpdateAvailable {
    /// The newest version.
    pub latest_version: String,
    /// Where packages come from.
    pub package_url: String,
    /// What changed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub changelog: String,
}

/// Everything the manager may say.
#[derive(Clone, Debug, PartialEq)]
pub enum ToAgent {
    /// `welcome`
    Welcome(Box<Welcome>),
    /// `refused`
    Refused(Refused),
    /// `command.run`
    CommandRun(Box<CommandRun>),
    /// `command.go`
    CommandGo(CommandGo),
    /// `command.cancel`
    CommandCancel(CommandCancel),
    /// `schedule.set`
    ScheduleSet(ScheduleSet),
    /// `config.update`
    ConfigUpdate(Box<ConfigUpdate>),
    /// `journal.ack`
    JournalAck(JournalAck),
    /// `snapshots.want`
    SnapshotsWant(SnapshotsWant),
    /// `tree.want`
    TreeWant(TreeWant),
    /// `alarm.test`
    AlarmTest(Box<AlarmTest>),
    /// `agent.update_available`
    AgentUpdateAvailable(AgentUpdateAvailable),
    /// A type that this build does not know.
    Unknown(String),
}

impl ToAgent {
    /// Reads what the manager sent.
    ///
    /// # Errors
    /// When the payload does not fit its type. An unknown type is no error.
    pub fn decode(frame: &Frame) -> Result<Self, FrameError> {
        Ok(match frame.kind.as_str() {
            "welcome" => Self::Welcome(frame.payload()?),
            "refused" => Self::Refused(frame.payload()?),
            "command.run" => Self::CommandRun(frame.payload()?),
            "command.go" => Self::CommandGo(frame.payload()?),
            "command.cancel" => Self::CommandCancel(frame.payload()?),
            "schedule.set" => Self::ScheduleSet(frame.payload()?),
            "config.update" => Self::ConfigUpdate(frame.payload()?),
            "journal.ack" => Self::JournalAck(frame.payload()?),
            "snapshots.want" => Self::SnapshotsWant(frame.payload()?),
            "tree.want" => Self::TreeWant(frame.payload()?),
            "alarm.test" => Self::AlarmTest(frame.payload()?),
            "agent.update_available" => Self::AgentUpdateAvailable(frame.payload()?),
            other => Self::Unknown(other.to_owned()),
        })
    }

    /// Writes it as a frame; the session adds `ack`.
    ///
    /// # Errors
    /// When the payload cannot be written as JSON.
    pub fn encode(&self) -> Result<Frame, FrameError> {
        match self {
            Self::Welcome(payload) => Frame::new("welcome", payload),
            Self::Refused(payload) => Frame::new("refused", payload),
            Self::CommandRun(payload) => Frame::new("command.run", payload),
            Self::CommandGo(payload) => Frame::new("command.go", payload),
            Self::CommandCancel(payload) => Frame::new("command.cancel", payload),
            Self::ScheduleSet(payload) => Frame::new("schedule.set", payload),
            Self::ConfigUpdate(payload) => Frame::new("config.update", payload),
            Self::JournalAck(payload) => Frame::new("journal.ack", payload),
            Self::SnapshotsWant(payload) => Frame::new("snapshots.want", payload),
            Self::TreeWant(payload) => Frame::new("tree.want", payload),
            Self::AlarmTest(payload) => Frame::new("alarm.test", payload),
            Self::AgentUpdateAvailable(payload) => Frame::new("agent.update_available", payload),
            Self::Unknown(kind) => Frame::new(kind, &serde_json::Map::new()),
        }
    }
}
