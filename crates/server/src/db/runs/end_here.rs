//! The ends that the manager decides by itself, in words for people.

use protocol::{Code, JobStatus};

/// An end that the manager decides, because nobody else will ever tell one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndHere {
    /// A terminal status.
    pub status: JobStatus,
    /// The stable reason.
    pub code: Code,
    /// The reason for a person.
    pub error: String,
    /// What to do next.
    pub guidance: Option<String>,
}

impl EndHere {
    /// The machine does not know of the run any more.
    #[must_use]
    pub fn lost() -> Self {
        Self {
            status: JobStatus::Lost,
            code: Code::Lost,
            error: "The machine does not know of this run any more; how it ended is not known."
                .to_owned(),
            guidance: Some(
                "Look at the repository's snapshots to see what came of it, then run it again."
                    .to_owned(),
            ),
        }
    }

    /// The machine did not come in time.
    #[must_use]
    pub fn expired() -> Self {
        Self {
            status: JobStatus::Expired,
            code: Code::Expired,
            error: "The machine was not there in time; nothing was done.".to_owned(),
            guidance: Some("Start it again when the machine is connected.".to_owned()),
        }
    }

    /// A person changed their mind in time.
    #[must_use]
    pub fn cancelled() -> Self {
        Self {
            status: JobStatus::Cancelled,
            code: Code::Cancelled,
            error: "Cancelled before it was sent to the machine; nothing was done.".to_owned(),
            guidance: None,
        }
    }
}
