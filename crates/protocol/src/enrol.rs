//! Enrolment: the one exchange over plain HTTPS, before an agent is known. The agent's identity is
//! the client certificate of the same TLS connection; the token only says that it may come in.

use crate::{HostArch, HostId, HostOs, ManagerIdentity, ProtocolVersion, Secret, expose};
use serde::{Deserialize, Serialize};

/// What an agent sends to be let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// The one-time token of the install line.
    #[serde(serialize_with = "expose")]
    pub token: Secret<String>,
    /// The version that the agent speaks.
    pub protocol_version: ProtocolVersion,
    /// The agent's own version.
    pub agent_version: String,
    /// The machine's name.
    pub hostname: String,
    /// The machine's operating system.
    pub os: HostOs,
    /// The machine's architecture.
    pub arch: HostArch,
}

/// What an agent learns when it is let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolResponse {
    /// The host that the agent is from now on.
    pub host_id: HostId,
    /// Which manager this is.
    pub manager: ManagerIdentity,
    /// Addresses where the manager can be dialled, `host:port`, best first.
    pub addresses: Vec<String>,
}
