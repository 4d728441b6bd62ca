//! Identifiers: UUIDv7 newtypes, so that one kind is never taken for another.
//!
//! Clock and randomness are passed in: the constructors take the time in milliseconds since the
//! Unix epoch and ten random bytes.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new identifier for this instant (milliseconds since the Unix epoch) from ten
            /// random bytes.
            #[must_use]
            pub fn new(unix_millis: u64, random: &[u8; 10]) -> Self {
                Self(uuid::Builder::from_unix_timestamp_millis(unix_millis, random).into_uuid())
            }

            /// The identifier as a UUID.
            #[must_use]
            pub fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Ok(Self(Uuid::from_str(text)?))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

id!(
    /// A machine with an agent.
    HostId
);
id!(
    /// A plan; also its restic tag (`plan:<id>`), which is why it never changes.
    PlanId
);
id!(
    /// A repository.
    RepositoryId
);
id!(
    /// One execution of one job kind on one host; `job_id` on the wire.
    RunId
);
id!(
    /// A way to tell people when something is wrong.
    ChannelId
);
id!(
    /// One change of how a plan stands, as people are told of it.
    AlarmId
);
id!(
    /// One journal of one agent. An agent that finds its state restored from an older copy, or
    /// cloned, starts a new journal under a new identifier.
    JournalId
);
id!(
    /// One life of a manager's database. A manager that finds itself restored from an older copy
    /// continues under a new one.
    Incarnation
);

/// Whether a restic tag is one that only the product itself gives, by which it recognises its own:
/// a plan that could give it would speak in the place of others.
#[must_use]
pub fn is_reserved_tag(tag: &str) -> bool {
    let tag = tag.trim().to_ascii_lowercase();
    ["plan:", "host:", "run:"].iter().any(|prefix| tag.starts_with(prefix))
}

impl PlanId {
    /// The restic tag that every snapshot of this plan carries.
    #[must_use]
    pub fn tag(self) -> String {
        format!("plan:{self}")
    }
}

impl HostId {
    /// The restic tag that every snapshot of this host carries. Names of machines are neither
    /// unique nor lasting; what is removed by a plan is decided by this and the plan's tag.
    #[must_use]
    pub fn tag(self) -> String {
        format!("host:{self}")
    }
}

impl RunId {
    /// The restic tag that the snapshot of this run carries; after a crash the agent looks for it
    /// before it calls the run interrupted.
    #[must_use]
    pub fn tag(self) -> String {
        format!("run:{self}")
    }
}
