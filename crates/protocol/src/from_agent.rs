//! Frames that an agent sends.

use crate::{
    AlarmDelivered, AlarmRaised, AlarmTested, AwakeInterval, Code, Frame, FrameError, Hello,
    JobFinished, JobProgress, JobStarted, LogLine, Problem, RepoStats, RunId, ScheduleAck, Secret,
    SlotDeferred, SnapshotsReport, TreeReport, expose,
    journal::{JournalElided, JournalGap, kind},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// "I am here" (`heartbeat`), every 30 s.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The agent's clock.
    pub sent_at: Timestamp,
}

/// Answer to `command.run` (`command.result`): the command was written down, or why not. It is not
/// the end of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandResult {
    /// The run.
    pub job_id: RunId,
    /// Whether the agent will run it once it gets its `go`.
    pub accepted: bool,
    /// Why not, in a sentence for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Why not (since version 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// What to do next, in a sentence for a person (since version 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<String>,
}

impl CommandResult {
    /// The command was written down.
    #[must_use]
    pub fn accepted(job_id: RunId) -> Self {
        Self { job_id, accepted: true, error: None, code: None, guidance: None }
    }

    /// The command was not taken.
    #[must_use]
    pub fn refused(job_id: RunId, problem: Problem) -> Self {
        let Problem { code, message, guidance, field: _ } = problem;
        Self { job_id, accepted: false, error: Some(message), code: Some(code), guidance }
    }
}

/// The ticket of `welcome` is safe on the agent's disk (`ticket.confirm`, since version 2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketConfirm {
    /// That ticket.
    #[serde(serialize_with = "expose")]
    pub ticket: Secret<String>,
}

/// Everything an agent may say.
#[derive(Clone, Debug, PartialEq)]
pub enum FromAgent {
    /// `hello`
    Hello(Box<Hello>),
    /// `heartbeat`
    Heartbeat(Heartbeat),
    /// `command.result`
    CommandResult(CommandResult),
    /// `job.started`
    JobStarted(JobStarted),
    /// `job.progress`
    JobProgress(JobProgress),
    /// `job.finished`
    JobFinished(Box<JobFinished>),
    /// `log.stream`
    LogLine(LogLine),
    /// `snapshots.report`
    SnapshotsReport(SnapshotsReport),
    /// `tree.report`
    TreeReport(TreeReport),
    /// `repo.stats`
    RepoStats(RepoStats),
    /// `schedule.ack`
    ScheduleAck(ScheduleAck),
    /// `agent.awake`
    AgentAwake(AwakeInterval),
    /// `slot.deferred`
    SlotDeferred(SlotDeferred),
    /// `alarm.raised`
    AlarmRaised(AlarmRaised),
    /// `alarm.delivered`
    AlarmDelivered(AlarmDelivered),
    /// `alarm.tested`
    AlarmTested(AlarmTested),
    /// `journal.gap`
    JournalGap(JournalGap),
    /// `journal.elided`
    JournalElided(JournalElided),
    /// `ticket.confirm`
    TicketConfirm(TicketConfirm),
    /// A type that this build does not know.
    Unknown(String),
}

impl FromAgent {
    /// Reads what an agent sent.
    ///
    /// # Errors
    /// When the payload does not fit its type. An unknown type is no error.
    pub fn decode(frame: &Frame) -> Result<Self, FrameError> {
        Ok(match frame.kind.as_str() {
            "hello" => Self::Hello(frame.payload()?),
            "heartbeat" => Self::Heartbeat(frame.payload()?),
            "command.result" => Self::CommandResult(frame.payload()?),
            kind::JOB_STARTED => Self::JobStarted(frame.payload()?),
            "job.progress" => Self::JobProgress(frame.payload()?),
            kind::JOB_FINISHED => Self::JobFinished(frame.payload()?),
            kind::LOG_STREAM => Self::LogLine(frame.payload()?),
            "snapshots.report" => Self::SnapshotsReport(frame.payload()?),
            "tree.report" => Self::TreeReport(frame.payload()?),
            "repo.stats" => Self::RepoStats(frame.payload()?),
            kind::SCHEDULE_ACK => Self::ScheduleAck(frame.payload()?),
            kind::AGENT_AWAKE => Self::AgentAwake(frame.payload()?),
            kind::SLOT_DEFERRED => Self::SlotDeferred(frame.payload()?),
            kind::ALARM_RAISED => Self::AlarmRaised(frame.payload()?),
            kind::ALARM_DELIVERED => Self::AlarmDelivered(frame.payload()?),
            "alarm.tested" => Self::AlarmTested(frame.payload()?),
            kind::JOURNAL_GAP => Self::JournalGap(frame.payload()?),
            kind::JOURNAL_ELIDED => Self::JournalElided(frame.payload()?),
            "ticket.confirm" => Self::TicketConfirm(frame.payload()?),
            other => Self::Unknown(other.to_owned()),
        })
    }

    /// Writes it as a frame without number; the journal adds `seq` and `hash` to durable ones.
    ///
    /// # Errors
    /// When the payload cannot be written as JSON.
    pub fn encode(&self) -> Result<Frame, FrameError> {
        match self {
            Self::Hello(payload) => Frame::new("hello", payload),
            Self::Heartbeat(payload) => Frame::new("heartbeat", payload),
            Self::CommandResult(payload) => Frame::new("command.result", payload),
            Self::JobStarted(payload) => Frame::new(kind::JOB_STARTED, payload),
            Self::JobProgress(payload) => Frame::new("job.progress", payload),
            Self::JobFinished(payload) => Frame::new(kind::JOB_FINISHED, payload),
            Self::LogLine(payload) => Frame::new(kind::LOG_STREAM, payload),
            Self::SnapshotsReport(payload) => Frame::new("snapshots.report", payload),
            Self::TreeReport(payload) => Frame::new("tree.report", payload),
            Self::RepoStats(payload) => Frame::new("repo.stats", payload),
            Self::ScheduleAck(payload) => Frame::new(kind::SCHEDULE_ACK, payload),
            Self::AgentAwake(payload) => Frame::new(kind::AGENT_AWAKE, payload),
            Self::SlotDeferred(payload) => Frame::new(kind::SLOT_DEFERRED, payload),
            Self::AlarmRaised(payload) => Frame::new(kind::ALARM_RAISED, payload),
            Self::AlarmDelivered(payload) => Frame::new(kind::ALARM_DELIVERED, payload),
            Self::AlarmTested(payload) => Frame::new("alarm.tested", payload),
            Self::JournalGap(payload) => Frame::new(kind::JOURNAL_GAP, payload),
            Self::JournalElided(payload) => Frame::new(kind::JOURNAL_ELIDED, payload),
            Self::TicketConfirm(payload) => Frame::new("ticket.confirm", payload),
            Self::Unknown(kind) => Frame::new(kind, &serde_json::Map::new()),
        }
    }
}
