//! What a test may do to the process: end it at a named point, as a power cut would, and set its
//! clock back. Without the feature `test-hooks` it can do neither.

// Whoever sets these variables of a released program could hold its clock or kill it.
#[cfg(all(feature = "test-hooks", not(debug_assertions)))]
compile_error!("the feature test-hooks is for tests alone");

use jiff::{SignedDuration, Timestamp};
use schedule::{Clock, SystemClock};
use std::sync::Arc;

/// The variable that names the point.
pub const VARIABLE: &str = "RESTIC_MANAGER_TEST_CRASH_AT";

/// The variable that says by how many seconds the clock is late.
pub const LATE_VARIABLE: &str = "RESTIC_MANAGER_TEST_CLOCK_LATE_SECONDS";

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

/// The clock of a program: the computer's own, unless a test set it back.
#[must_use]
pub fn clock() -> Arc<dyn Clock> {
    let seconds = std::env::var(LATE_VARIABLE).ok().and_then(|number| number.parse().ok());
    match seconds.filter(|_| cfg!(feature = "test-hooks")) {
        None => Arc::new(SystemClock),
        Some(seconds) => Arc::new(LateClock(SignedDuration::from_secs(seconds))),
    }
}

/// A clock that goes as the computer's does, and is late.
#[derive(Debug)]
struct LateClock(SignedDuration);

impl Clock for LateClock {
    fn now(&self) -> Timestamp {
        let now = SystemClock.now();
        now.checked_sub(self.0).unwrap_or(now)
    }
}

/// Ends the process here if a test asked for it.
pub fn reach(point: Point) {
    if cfg!(feature = "test-hooks")
        && std::env::var_os(VARIABLE).is_some_and(|name| name == point.name())
    {
        die();
    }
}

/// Ends the process as `kill -9` and a loss of power do: nothing is flushed, nothing is said.
fn die() -> ! {
    #[cfg(unix)]
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    // Other systems have nothing closer.
    std::process::abort()
}
