//! What travels between the manager and its agents.
//!
//! This crate is only types, their JSON form and the few pure rules that both sides must apply in
//! the same way (limits, versions, the journal's hash chain). It knows no socket, no clock and no
//! database, so that the two programs can share it without sharing anything else.
//!
//! A connection is a WebSocket that carries JSON text frames ([`Frame`]). The agent opens it, says
//! [`Hello`] and is answered with [`Welcome`] or [`Refused`]. From then on
//!
//! * *durable* frames carry `seq` and `hash`: they come out of the agent's journal and are
//!   repeated until the manager has acknowledged them (see [`journal`]);
//! * *lossy* frames (progress, heartbeat, facts) carry neither: the newest wins;
//! * commands are numbered and executed only after [`ToAgent::CommandGo`] over the same connection.
//!
//! Unknown fields are ignored and unknown frame types decode to `Unknown`, so that a newer peer is
//! never a broken peer. Everything a released version ever sent is kept under `tests/golden` and
//! must decode for ever.

mod absent;
mod address;
mod alarm;
mod announce;
mod code;
mod desired;
mod enrol;
mod frame;
mod from_agent;
mod hello;
mod ids;
pub mod journal;
mod options;
mod patch;
mod presence;
mod run;
mod secret;
mod snapshot;
mod to_agent;
mod tree;
mod version;

pub use absent::absent_when_year_one;
pub use address::{MAX_ADDRESSES, is_address};
pub use alarm::{
    ALARMS, AlarmChannel, AlarmDelivered, AlarmRaised, AlarmState, AlarmTarget, AlarmTest,
    AlarmTested, DeliveryResult, SmtpSecurity,
};
pub use announce::{
    AnnounceRequest, AnnounceResponse, Commitment, Meeting, Nonce, NotACode, RevealRequest,
    ShortCode,
};
pub use code::{Code, Problem};
pub use desired::{
    ConfigUpdate, Generation, RepositoryConfig, Retention, Schedule, ScheduleAck, ScheduleSet,
};
pub use enrol::{EnrolRequest, EnrolResponse};
pub use frame::{Frame, FrameError, MAX_FRAME_BYTES, MAX_LOG_LINE_BYTES, cut_text};
pub use from_agent::{CommandResult, FromAgent, Heartbeat, TicketConfirm};
pub use hello::{
    CommandNumber, Cursor, Hello, Hold, HostArch, HostOs, JournalState, ManagerIdentity, Refused,
    SeenManager, Welcome,
};
pub use ids::{
    AlarmId, ChannelId, HostId, Incarnation, JournalId, PlanId, RepositoryId, RunId,
    is_reserved_tag,
};
pub use options::{Hook, HookText, Hooks, PlanOptions};
pub use patch::Patch;
pub use presence::{AwakeInterval, SlotDeferred};
pub use run::{
    JobFinished, JobKind, JobProgress, JobStarted, JobStatus, LogLine, LogStream, RestoreReport,
    RunSpec, UnreadableFile,
};
pub use secret::{Secret, expose};
pub use snapshot::{LockInfo, RepoStats, Snapshot, SnapshotsReport, snapshots_digest};
pub use to_agent::{
    AgentUpdateAvailable, CancelReason, CommandCancel, CommandGo, CommandRun, JournalAck,
    SnapshotsWant, ToAgent,
};
pub use tree::{EntryKind, TreeEntry, TreeReport, TreeWant};
pub use version::{MIN_SUPPORTED, PROTOCOL_VERSION, ProtocolVersion};
