//! Named points at which a test may end the process, as a power cut would. Without the feature
//! `test-hooks` there are none.

/// The variable that names the point.
pub const VARIABLE: &str = "RESTIC_MANAGER_TEST_CRASH_AT";

/// A point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A command was written down and answered.
    AfterAccept,
    /// The beginning of a run is in the journal, restic does not run yet.
    AfterStartedJournalled,
    /// restic has ended, its outcome is not in the journal yet.
    AfterResticBeforeFinished,
}

impl Point {
    /// The point's name in [`VARIABLE`].
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AfterAccept => "after-accept",
            Self::AfterStartedJournalled => "after-started-journalled",
            Self::AfterResticBeforeFinished => "after-restic-before-finished",
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
