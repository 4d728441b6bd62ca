//! The opening of a connection: who the agent is, what both sides remember of each other, and what
//! follows from it.

use crate::{
    Code, HostId, Incarnation, JournalId, Problem, ProtocolVersion, RunId, Secret,
    absent::absent_when_year_one, expose, journal::ChainHash,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The operating system of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostOs {
    /// Linux.
    Linux,
    /// Windows.
    Windows,
    /// macOS.
    Darwin,
    /// One that this build does not know.
    #[serde(other)]
    Unknown,
}

/// The processor architecture of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostArch {
    /// x86-64.
    Amd64,
    /// 64-bit ARM.
    Arm64,
    /// One that this build does not know.
    #[serde(other)]
    Unknown,
}

impl HostOs {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Windows => "windows",
            Self::Darwin => "darwin",
            Self::Unknown => "unknown",
        }
    }

    /// The system this build runs on.
    #[must_use]
    pub fn current() -> Self {
        match std::env::consts::OS {
            "linux" => Self::Linux,
            "windows" => Self::Windows,
            "macos" => Self::Darwin,
            _ => Self::Unknown,
        }
    }
}

impl HostArch {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
            Self::Unknown => "unknown",
        }
    }

    /// The architecture this build runs on.
    #[must_use]
    pub fn current() -> Self {
        match std::env::consts::ARCH {
            "x86_64" => Self::Amd64,
            "aarch64" => Self::Arm64,
            _ => Self::Unknown,
        }
    }
}

/// The agent's first frame (`hello`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The version that the agent speaks.
    pub protocol_version: ProtocolVersion,
    /// The agent's own version.
    pub agent_version: String,
    /// The version of the restic that the agent would run; empty when there is none.
    pub restic_version: String,
    /// The machine's name.
    pub hostname: String,
    /// The machine's operating system.
    pub os: HostOs,
    /// The machine's architecture.
    pub arch: HostArch,
    /// When the machine was started.
    #[serde(
        default,
        deserialize_with = "absent_when_year_one",
        skip_serializing_if = "Option::is_none"
    )]
    pub boot_time: Option<Timestamp>,

    /// What the agent can do beyond its version (since version 2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// What the manager must be able to do for this agent; unknown ones are refused (since 2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// The machine's time zone: its IANA name such as `Europe/Berlin`, or of one that has none its rule as
    /// POSIX writes it, such as `CET-1CEST,M3.5.0,M10.5.0/3` (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// The version of the agent's time zone data, such as `2026a` (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone_data: Option<String>,
    /// Where the agent's journal stands (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<JournalState>,
    /// What the agent has seen of its manager; absent before the first connection (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manager: Option<SeenManager>,
    /// The ticket of the last session, absent on the first (since 2).
    #[serde(default, serialize_with = "expose", skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Secret<String>>,
    /// The runs that have not ended: those that have begun, and those that have their `go` and wait
    /// for their turn (since 2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open_runs: Vec<RunId>,
    /// Since when the agent runs without a break and its machine has not slept (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awake_since: Option<Timestamp>,
    /// Whether the machine has a battery of its own: whoever has one is often off (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_battery: Option<bool>,
}

/// Where an agent's journal stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalState {
    /// The journal.
    pub id: JournalId,
    /// The oldest record that is still there; `head + 1` when none is.
    pub first: u64,
    /// The hash before the record `first`.
    pub base_hash: ChainHash,
    /// The newest record, 0 for an empty journal.
    pub head: u64,
    /// The hash after the newest record.
    pub head_hash: ChainHash,
    /// The newest record that a manager has acknowledged.
    pub acked: u64,
}

/// What an agent has seen of its manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenManager {
    /// The life of the manager's database.
    pub incarnation: Incarnation,
    /// The highest command number of that life.
    pub command: u64,
    /// The newest generation of the desired state of that life.
    pub generation: u64,
}

/// A command's place in the manager's series of commands for this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CommandNumber {
    /// The life of the manager's database.
    pub incarnation: Incarnation,
    /// 1, 2, 3, … within that life and host.
    pub n: u64,
}

/// How far the manager has an agent's journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The journal.
    pub journal_id: JournalId,
    /// The newest record that the manager holds, 0 for none.
    pub seq: u64,
    /// The hash after that record.
    pub hash: ChainHash,
}

/// Which manager this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagerIdentity {
    /// The life of its database.
    pub incarnation: Incarnation,
    /// The epoch of its instance certificate; agents refuse lower ones than they have seen.
    pub epoch: u64,
}

/// Why a connection is kept without commands and without taking records in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The stable reason.
    pub code: Code,
    /// The reason for a person.
    pub message: String,
}

/// The manager's answer to [`Hello`] (`welcome`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version that both sides speak from here on.
    pub protocol_version: ProtocolVersion,
    /// The host that the manager takes this agent for.
    pub host_id: HostId,
    /// Which manager this is.
    pub manager: ManagerIdentity,
    /// How far the manager has the agent's journal. When `renew_journal` is there, the agent starts
    /// a new journal instead and the cursor is where the old one ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Cursor>,
    /// Set when the agent must start a new journal: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_journal: Option<Code>,
    /// The ticket for the next session; absent while held.
    #[serde(default, serialize_with = "expose", skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Secret<String>>,
    /// Set while the admin has to decide something about this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// The manager's clock.
    pub server_time: Timestamp,
}

/// The manager will not talk to this agent (`refused`); the connection ends after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Refused(pub Problem);
