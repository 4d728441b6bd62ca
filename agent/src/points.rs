//! What a test may do to the process: end it at a named point, as a power cut would, let it speak as
//! an agent of another age, and plant a mistake that it must then find. Without the feature
//! `test-hooks` it can do none of this.

// Whoever sets these variables of a released program could hold its clock or kill it.
#[cfg(all(feature = "test-hooks", not(debug_assertions)))]
compile_error!("the feature test-hooks is for tests alone");

use protocol::{PROTOCOL_VERSION, ProtocolVersion};
use std::cell::Cell;

/// The variable that names the point.
pub const VARIABLE: &str = "RESTIC_MANAGER_TEST_CRASH_AT";

/// The variable that names the protocol version that the agent says it speaks.
pub const PROTOCOL_VARIABLE: &str = "RESTIC_MANAGER_TEST_PROTOCOL";

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

/// The protocol version that this agent says it speaks.
#[must_use]
pub fn protocol_version() -> ProtocolVersion {
    if !cfg!(feature = "test-hooks") {
        return PROTOCOL_VERSION;
    }
    let asked = std::env::var(PROTOCOL_VARIABLE).ok().and_then(|number| number.parse().ok());
    asked.map_or(PROTOCOL_VERSION, ProtocolVersion)
}

/// A mistake that could be in this program. A simulation plants one to show that it would find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// What was not synced counts as if it were.
    GoOnUnsynced,
    /// After a restart nobody knows how many lines a run has written.
    ForgetLines,
    /// A repository that is being written to counts as free.
    IgnoreBusy,
    /// After a restart nobody knows which slots were served.
    ForgetSlots,
    /// After a restart nobody reads what the agent before it did last.
    ForgetToRead,
    /// Nobody knows which commands were carried out.
    ForgetExecuted,
    /// The end of a run that an earlier agent began is not told.
    ElideOutcome,
}

// Simulated agents live in one thread, so that worlds in several threads know nothing of each other.
thread_local! {
    static MISTAKE: Cell<Option<Mistake>> = const { Cell::new(None) };
}

/// Plants this mistake, or none, for all that runs in this thread.
pub fn plant(mistake: Option<Mistake>) {
    MISTAKE.set(mistake);
}

/// Whether this mistake is to be made.
#[must_use]
pub fn is_planted(mistake: Mistake) -> bool {
    cfg!(feature = "test-hooks") && MISTAKE.get() == Some(mistake)
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
