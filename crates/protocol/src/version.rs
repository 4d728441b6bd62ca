//! The one integer that says which frames a peer understands.
//!
//! History (newest last; never edited, only added to):
//!
//! | version | date | what changed |
//! |---|---|---|
//! | 1 | 2026-05-02 | The frames of the first implementation: no `seq`, nothing durable, five job statuses. |
//! | 2 | 2026-11-23 | The journal (`seq`, `hash`, `ack`), `welcome` and `refused`, `command.go`, tickets, generations, statuses `partial`, `interrupted`, `expired`, `lost`, kinds `restore` and `stats`, paged snapshot reports. |

use serde::{Deserialize, Serialize};

/// A protocol version as it stands in `hello`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProtocolVersion(pub u16);

/// The version this build speaks.
pub const PROTOCOL_VERSION: ProtocolVersion = ProtocolVersion(2);

/// The oldest version this build still understands; anything older is refused by name.
pub const MIN_SUPPORTED: ProtocolVersion = ProtocolVersion(1);

impl ProtocolVersion {
    /// Whether a peer of this version numbers its durable frames and keeps a journal.
    #[must_use]
    pub fn has_journal(self) -> bool {
        self >= ProtocolVersion(2)
    }

    /// Whether this build can talk to a peer of this version at all.
    #[must_use]
    pub fn is_supported(self) -> bool {
        self >= MIN_SUPPORTED
    }
}
