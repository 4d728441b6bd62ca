//! What a test may do to the process: end it at a named point, as a power cut would, set its
//! clock, let it speak as an agent of another age, and plant a mistake that it must then find. Without the feature
//! `test-hooks` it can do none of this.

// Whoever sets these variables of a released program could hold its clock or kill it.
#[cfg(all(feature = "test-hooks", not(debug_assertions)))]
compile_error!("the feature test-hooks is for tests alone");

use jiff::SignedDuration;
use protocol::{PROTOCOL_VERSION, ProtocolVersion, journal::kind};
use schedule::{Clock, SystemClock, WrongClock};
use std::{cell::Cell, sync::Arc};

/// The variable that names the point.
pub const VARIABLE: &str = "RESTIC_MANAGER_TEST_CRASH_AT";

/// The variable that names the protocol version that the agent says it speaks.
pub const PROTOCOL_VARIABLE: &str = "RESTIC_MANAGER_TEST_PROTOCOL";

/// The variable that names a file with the seconds by which the clock is ahead. It is read each time
/// somebody asks for the time, so a test can set the clock of a program that runs.
pub const CLOCK_VARIABLE: &str = "RESTIC_MANAGER_TEST_CLOCK_AHEAD";

/// A point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A command was written down and answered.
    AfterAccept,
    /// The beginning of a run is in the journal, restic does not run yet.
    AfterStartedJournalled,
    /// The first lines of a run are in the journal, restic is at work.
    AfterLinesJournalled,
    /// restic has ended, its outcome is not in the journal yet.
    AfterResticBeforeFinished,
    /// An attempt to send an alarm is written down, nothing is sent yet.
    BeforeAlarmSent,
    /// An alarm was sent, what came of it is not written down yet.
    AfterAlarmSent,
    /// The outcome of a run is in the journal, nobody was told.
    AfterFinishedJournalled,
}

impl Point {
    /// The point's name in [`VARIABLE`].
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AfterAccept => "after-accept",
            Self::AfterStartedJournalled => "after-started-journalled",
            Self::AfterLinesJournalled => "after-lines-journalled",
            Self::AfterResticBeforeFinished => "after-restic-before-finished",
            Self::BeforeAlarmSent => "before-alarm-sent",
            Self::AfterAlarmSent => "after-alarm-sent",
            Self::AfterFinishedJournalled => "after-finished-journalled",
        }
    }

    /// The point that is reached when a record of this kind is on the disk.
    #[must_use]
    pub fn after_record(kind: &str) -> Option<Self> {
        match kind {
            kind::LOG_STREAM => Some(Self::AfterLinesJournalled),
            kind::JOB_FINISHED => Some(Self::AfterFinishedJournalled),
            _ => None,
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
    /// After a restart nobody reads what the agent before it may not have read.
    ForgetToRead,
    /// Nobody knows which commands were carried out.
    ForgetExecuted,
    /// The end of a run that an earlier agent began is not told.
    ElideOutcome,
    /// After a restart nobody knows which alarms were sent.
    ForgetTold,
    /// A plan is told to be good again when its run was cancelled.
    GoodTooSoon,
    /// A machine that has just woken up is overdue at once.
    OverdueAtOnce,
    /// Lines that made room are named as the ones after them.
    Miscount,
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
