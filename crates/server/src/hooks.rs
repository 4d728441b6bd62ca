//! What a test may do to the process: end it at a named point, as a power cut would, set its
//! clock, and plant a mistake that it must then find. Without the feature `test-hooks` it can do none of
//! this.

// Whoever sets these variables of a released program could hold its clock or kill it.
#[cfg(all(feature = "test-hooks", not(debug_assertions)))]
compile_error!("the feature test-hooks is for tests alone");

use jiff::SignedDuration;
use schedule::{Clock, SystemClock, WrongClock};
use std::{cell::Cell, panic::resume_unwind, sync::Arc};

/// The variable that names the point.
pub const VARIABLE: &str = "RESTIC_MANAGER_TEST_CRASH_AT";

/// The variable that names a file with the seconds by which the clock is ahead. It is read each time
/// somebody asks for the time, so a test can set the clock of a program that runs.
pub const CLOCK_VARIABLE: &str = "RESTIC_MANAGER_TEST_CLOCK_AHEAD";

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

/// The clock of a program: the computer's own, unless a test says by how much it is wrong.
#[must_use]
pub fn clock() -> Arc<dyn Clock> {
    match std::env::var_os(CLOCK_VARIABLE).filter(|_| cfg!(feature = "test-hooks")) {
        None => Arc::new(SystemClock),
        Some(file) => Arc::new(WrongClock(move || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            SignedDuration::from_secs(text.trim().parse().unwrap_or(0))
        })),
    }
}

/// A mistake that could be in this program. A simulation plants one to show that it would find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// Records are acknowledged before the transaction that takes them in is committed.
    AcknowledgeBeforeCommit,
    /// A run that its machine does not name at its hello is given up before the journal is in.
    LoseBeforeCaughtUp,
    /// A connection that has sent a desired state sends no newer one.
    KeepStaleGeneration,
    /// A ticket that is not the last one is as good as one that is.
    IgnoreTicket,
    /// Nobody is told what both sides remember differently.
    KeepSilent,
    /// A machine has the plans that it once acknowledged, whatever it says.
    TrustAcknowledged,
    /// Whoever tells last what a repository holds is right, also where several machines have it.
    BelieveAnyone,
    /// A slot whose run failed is green.
    PaintGreen,
}

/// What a manager that is killed in a simulation leaves behind in place of its process.
#[derive(Clone, Copy, Debug)]
pub struct Killed;

// A simulated manager lives in one thread, so that worlds in several threads know nothing of each other.
thread_local! {
    static MISTAKE: Cell<Option<Mistake>> = const { Cell::new(None) };
    static KILL_AT: Cell<Option<Point>> = const { Cell::new(None) };
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

/// Lets what reaches this point next in this thread end there, as a kill would end it: it unwinds with
/// [`Killed`].
pub fn kill_at(point: Option<Point>) {
    KILL_AT.set(point);
}

/// Ends the process here if a test asked for it.
pub fn reach(point: Point) {
    if cfg!(feature = "test-hooks") && KILL_AT.get() == Some(point) {
        KILL_AT.set(None);
        resume_unwind(Box::new(Killed));
    }
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
