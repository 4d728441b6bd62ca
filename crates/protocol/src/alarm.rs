//! Alarms: what an agent tells people by itself when a plan is no longer safe, and by which channels. They
//! need no manager; it configures the channels, and hears afterwards what was told.

use crate::{AlarmId, ChannelId, Code, PlanId, Problem, RepositoryId, RunId, Secret, expose};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The word in `hello.capabilities` of an agent that sends alarms. Others get no channels.
pub const ALARMS: &str = "alarms";

/// A way to tell people, as an agent needs it; part of the desired state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmChannel {
    /// The channel.
    pub id: ChannelId,
    /// A name for logs.
    pub name: String,
    /// Where it leads.
    pub target: AlarmTarget,
}

/// Where a channel leads. An address is a secret in itself: whoever has it can speak there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum AlarmTarget {
    /// A `POST` with a JSON document.
    Webhook {
        /// Where to.
        #[serde(serialize_with = "expose")]
        url: Secret<String>,
        /// A bearer token.
        #[serde(default, serialize_with = "expose", skip_serializing_if = "Option::is_none")]
        token: Option<Secret<String>>,
    },
    /// A topic of an ntfy server.
    Ntfy {
        /// The server with the topic.
        #[serde(serialize_with = "expose")]
        url: Secret<String>,
        /// An access token.
        #[serde(default, serialize_with = "expose", skip_serializing_if = "Option::is_none")]
        token: Option<Secret<String>>,
    },
    /// A check of a service in the manner of Healthchecks, whose alarm is silence.
    Ping {
        /// The check; `{machine}` and `{plan}` stand for the names.
        #[serde(serialize_with = "expose")]
        url: Secret<String>,
    },
    /// Mail.
    Smtp {
        /// The mail server.
        host: String,
        /// Its port.
        port: u16,
        /// How the connection is secured.
        security: SmtpSecurity,
        /// The user name, if it asks for one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        username: Option<String>,
        /// The password.
        #[serde(default, serialize_with = "expose", skip_serializing_if = "Option::is_none")]
        password: Option<Secret<String>>,
        /// Whose mail it is.
        from: String,
        /// Who gets it.
        to: Vec<String>,
    },
    /// A kind of a newer manager.
    #[serde(other)]
    Unknown,
}

/// How a connection to a mail server is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SmtpSecurity {
    /// TLS from the first byte on.
    Tls,
    /// TLS once both sides have said hello; without it nothing is sent.
    Starttls,
    /// None.
    None,
}

impl SmtpSecurity {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Starttls => "starttls",
            Self::None => "none",
        }
    }
}

/// How a plan stands on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmState {
    /// Its last run was good.
    Good,
    /// Its last run failed, and is not tried again by itself.
    Failed,
    /// A run was due long ago, and none was good since.
    Overdue,
    /// A state of a newer agent.
    #[serde(other)]
    Unknown,
}

impl AlarmState {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Failed => "failed",
            Self::Overdue => "overdue",
            Self::Unknown => "unknown",
        }
    }
}

/// A plan stands otherwise than before, and channels are told (`alarm.raised`, durable).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmRaised {
    /// The alarm.
    pub alarm_id: AlarmId,
    /// The plan.
    pub schedule_id: PlanId,
    /// Its repository, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<RepositoryId>,
    /// How it stands.
    pub state: AlarmState,
    /// How it stood before.
    pub was: AlarmState,
    /// When that changed.
    pub at: Timestamp,
    /// When the last good run before this began; absent where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<Timestamp>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// The run that changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// The channels that are told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<ChannelId>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryResult {
    /// The other side took it.
    Sent,
    /// It was tried until its time was over, or the other side will never take it.
    GaveUp,
    /// The plan stands otherwise again, and the newer message goes out in its place.
    Superseded,
    /// It may have arrived: the connection or the agent ended after it was sent and before an answer came. It
    /// is not sent again.
    Uncertain,
    /// A result of a newer agent.
    #[serde(other)]
    Unknown,
}

impl DeliveryResult {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::GaveUp => "gave_up",
            Self::Superseded => "superseded",
            Self::Uncertain => "uncertain",
            Self::Unknown => "unknown",
        }
    }
}

/// What became of an alarm on one channel (`alarm.delivered`, durable); exactly one for each channel that the
/// alarm names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmDelivered {
    /// The alarm.
    pub alarm_id: AlarmId,
    /// The channel.
    pub channel_id: ChannelId,
    /// What became of it.
    pub result: DeliveryResult,
    /// When.
    pub at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// Send a message for trial (`alarm.test`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmTest {
    /// The trial.
    pub alarm_id: AlarmId,
    /// By which channel; it need not be part of the desired state.
    pub channel: AlarmChannel,
}

/// What came of it (`alarm.tested`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmTested {
    /// The trial.
    pub alarm_id: AlarmId,
    /// What went wrong; absent when the other side took the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}
