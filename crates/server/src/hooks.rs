//! Named points at which a test may end the process, as a power cut would. Without the feature
//! `test-hooks` there are none.

/// The variable that names the point.
pub const VARIABLE: &str = "RESTIC_MANAGER_TEST_CRASH_AT";

/// A point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A command is noted as sent and was not written to the connection.
    AfterSentBeforeWrite,
    /// A command is noted as going and its `go` was not written.
    AfterGoingBeforeWrite,
    /// An outcome is stored in a transaction that is not committed.
    AfterOutcomeBeforeCommit,
    /// An outcome is committed and not acknowledged.
    AfterOutcomeBeforeAck,
}

impl Point {
    /// The point's name in [`VARIABLE`].
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AfterSentBeforeWrite => "after-sent-before-write",
            Self::AfterGoingBeforeWrite => "after-going-before-write",
            Self::AfterOutcomeBeforeCommit => "after-outcome-before-commit",
            Self::AfterOutcomeBeforeAck => "after-outcome-before-ack",
        }
    }
}

/// Ends the process here if a test asked for it.
pub fn reach(point: Point) {
    if cfg!(feature = "test-hooks")
        && std::env::var_os(VARIABLE).is_some_and(|name| name == point.name())
    {
        std::process::abort();
    }
}
