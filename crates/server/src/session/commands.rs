//! What a run's command needs now. Asked again after everything that happens, so it never has to
//! know what changed.
//!
//! ```text
//!   waiting ──▶ sent ──▶ accepted ──▶ going        (each step is committed before it is written)
//!      │          └─ cancelled or expired: the agent is told, and only the agent ends the run
//!      └─ cancelled or expired: ended here, because nobody else knows of it
//!
//!   running, and its agent does not know of it any more ──▶ lost
//! ```

use crate::db::runs::{Dispatch, Run};
use jiff::Timestamp;
use protocol::{CancelReason, JobStatus};

/// What was written about one run over this connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// `command.run`.
    pub run: bool,
    /// The agent's yes to it.
    pub accepted: bool,
    /// `command.go`.
    pub go: bool,
    /// `command.cancel`.
    pub cancel: bool,
    /// The hello said that the run goes on, or it has begun since.
    pub is_open: bool,
}

/// Which rules hold for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// A journal, numbers, and `go`.
    Numbered {
        /// Whether everything that the hello announced is taken in. Before that, what was sent over
        /// an earlier connection may have ended long ago.
        caught_up: bool,
    },
    /// Version 1: `command.run` starts at once, and nothing is ever sent twice.
    AtOnce,
}

/// The next thing to do for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// End it here as expired.
    Expire,
    /// End it here as cancelled.
    Cancel,
    /// End it here as lost: the machine does not know of it any more.
    Lose,
    /// Write `command.run`.
    WriteRun,
    /// Write `command.go`.
    WriteGo,
    /// Write `command.cancel`.
    WriteCancel(CancelReason),
}

/// The next step for a run, if there is one.
#[must_use]
pub fn next(run: &Run, written: Written, manner: Manner, now: Timestamp) -> Option<Step> {
    let is_own = run.dispatch == Dispatch::Manager;
    if run.status.is_terminal() || written.cancel || is_own {
        return None;
    }
    let is_cancelled = run.cancel_requested_at.is_some();
    let is_expired = run.expires_at.is_some_and(|expires| expires <= now);
    let is_begun = run.status == JobStatus::Running || written.is_open;
    let cancel = is_cancelled.then_some(Step::WriteCancel(CancelReason::Admin));
    if run.status == JobStatus::Running && !written.is_open && !written.go {
        match manner {
            // Its hello did not name the run, and all that it had to tell until then is taken in.
            Manner::Numbered { caught_up: true } => return Some(Step::Lose),
            // It has no way to say so. A person who gives the run up is believed.
            Manner::AtOnce if is_cancelled && !written.run => return Some(Step::Lose),
            Manner::Numbered { caught_up: false } | Manner::AtOnce => {}
        }
    }
    // Nor can it say that a command never reached it.
    let is_unanswered = manner == Manner::AtOnce && run.dispatch == Dispatch::Going;
    if is_unanswered && is_cancelled && !written.run && !is_begun {
        return Some(Step::Lose);
    }
    if is_begun || run.dispatch == Dispatch::Agent {
        return cancel;
    }
    if run.dispatch == Dispatch::Waiting {
        return Some(match (is_cancelled, is_expired) {
            (true, _) => Step::Cancel,
            (false, true) => Step::Expire,
            (false, false) => Step::WriteRun,
        });
    }
    let Manner::Numbered { caught_up } = manner else { return cancel };
    if written.go {
        return cancel;
    }
    if !written.run && !caught_up {
        return None;
    }
    if is_cancelled {
        return cancel;
    }
    if is_expired {
        return Some(Step::WriteCancel(CancelReason::Expired));
    }
    match (written.run, written.accepted) {
        (false, _) => Some(Step::WriteRun),
        (true, true) => Some(Step::WriteGo),
        (true, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{HostId, JobKind, RunId, RunSpec};

    const DISPATCHES: [Dispatch; 5] =
        [Dispatch::Waiting, Dispatch::Sent, Dispatch::Accepted, Dispatch::Going, Dispatch::Agent];

    #[test]
    fn no_agent_hears_of_what_the_manager_does_itself() {
        for status in [JobStatus::Queued, JobStatus::Running] {
            let run = cancelled(Run { status, ..run(Dispatch::Manager) });
            for manner in [CAUGHT_UP, Manner::AtOnce] {
                assert_eq!(next(&run, Written::default(), manner, at(500)), None);
            }
        }
    }
    const CAUGHT_UP: Manner = Manner::Numbered { caught_up: true };

    fn run(dispatch: Dispatch) -> Run {
        Run {
            id: RunId::new(1, &[1; 10]),
            host_id: HostId::new(1, &[2; 10]),
            plan_id: None,
            repository_id: None,
            kind: JobKind::Backup,
            spec: RunSpec::Backup { schedule_id: None },
            status: JobStatus::Queued,
            dispatch,
            command: None,
            requested_by: "admin".to_owned(),
            created_at: Timestamp::UNIX_EPOCH,
            expires_at: Some(at(100)),
            started_at: None,
            finished_at: None,
            cancel_requested_at: None,
            exit_code: None,
            error: None,
            code: None,
            guidance: None,
            snapshot_id: None,
            stats: None,
            unreadable: Vec::new(),
            unreadable_count: 0,
            log_lines: None,
            restore: None,
            slot: None,
            revision: 0,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn cancelled(mut run: Run) -> Run {
        run.cancel_requested_at = Some(at(1));
        run
    }

    #[test]
    fn a_command_goes_out_is_accepted_and_gets_its_go_once() {
        let mut written = Written::default();
        assert_eq!(next(&run(Dispatch::Waiting), written, CAUGHT_UP, at(5)), Some(Step::WriteRun));
        written.run = true;
        assert_eq!(next(&run(Dispatch::Sent), written, CAUGHT_UP, at(5)), None);
        written.accepted = true;
        assert_eq!(next(&run(Dispatch::Accepted), written, CAUGHT_UP, at(5)), Some(Step::WriteGo));
        written.go = true;
        assert_eq!(next(&run(Dispatch::Going), written, CAUGHT_UP, at(500)), None);
    }

    #[test]
    fn what_was_never_written_ends_here_and_what_was_written_is_the_agents_to_end() {
        for dispatch in DISPATCHES {
            let step = |run: &Run, now| next(run, Written::default(), CAUGHT_UP, now);
            let on_cancel = step(&cancelled(run(dispatch)), at(5));
            let on_expiry = step(&run(dispatch), at(100));
            match dispatch {
                Dispatch::Waiting => {
                    assert_eq!(on_cancel, Some(Step::Cancel));
                    assert_eq!(on_expiry, Some(Step::Expire));
                }
                Dispatch::Sent | Dispatch::Accepted | Dispatch::Going => {
                    assert_eq!(on_cancel, Some(Step::WriteCancel(CancelReason::Admin)));
                    assert_eq!(on_expiry, Some(Step::WriteCancel(CancelReason::Expired)));
                }
                Dispatch::Agent => {
                    assert_eq!(on_cancel, Some(Step::WriteCancel(CancelReason::Admin)));
                    assert_eq!(on_expiry, None);
                }
                Dispatch::Manager => assert_eq!((on_cancel, on_expiry), (None, None)),
            }
        }
    }

    #[test]
    fn expiry_between_yes_and_go_takes_the_command_back() {
        let written = Written { run: true, accepted: true, ..Written::default() };
        let step = next(&run(Dispatch::Accepted), written, CAUGHT_UP, at(100));
        assert_eq!(step, Some(Step::WriteCancel(CancelReason::Expired)));
        let step = next(&run(Dispatch::Accepted), written, CAUGHT_UP, at(99));
        assert_eq!(step, Some(Step::WriteGo));
    }

    #[test]
    fn after_a_reconnect_the_same_command_is_written_again_once_the_journal_is_in() {
        let behind = Manner::Numbered { caught_up: false };
        for dispatch in [Dispatch::Sent, Dispatch::Accepted, Dispatch::Going] {
            assert_eq!(next(&run(dispatch), Written::default(), behind, at(5)), None);
            let step = next(&run(dispatch), Written::default(), CAUGHT_UP, at(5));
            assert_eq!(step, Some(Step::WriteRun));
        }
        // A new command has no past that could be in the journal.
        let step = next(&run(Dispatch::Waiting), Written::default(), behind, at(5));
        assert_eq!(step, Some(Step::WriteRun));
    }

    #[test]
    fn a_run_that_has_begun_never_expires_and_is_cancelled_once() {
        let mut begun = run(Dispatch::Going);
        begun.status = JobStatus::Running;
        let open = Written { is_open: true, ..Written::default() };
        assert_eq!(next(&begun, open, CAUGHT_UP, at(500)), None);
        let begun = cancelled(begun);
        let step = next(&begun, open, CAUGHT_UP, at(500));
        assert_eq!(step, Some(Step::WriteCancel(CancelReason::Admin)));
        let told = Written { cancel: true, ..open };
        assert_eq!(next(&begun, told, CAUGHT_UP, at(500)), None);
        assert_eq!(next(&run(Dispatch::Going), open, CAUGHT_UP, at(500)), None);
    }

    #[test]
    fn a_running_run_that_its_agent_does_not_know_is_lost_once_the_journal_is_in() {
        for dispatch in [Dispatch::Going, Dispatch::Agent] {
            let mut begun = run(dispatch);
            begun.status = JobStatus::Running;
            let unknown = Written::default();
            let behind = Manner::Numbered { caught_up: false };
            assert_eq!(next(&begun, unknown, behind, at(5)), None);
            assert_eq!(next(&begun, unknown, CAUGHT_UP, at(5)), Some(Step::Lose));
            for known in [Written { is_open: true, ..unknown }, Written { go: true, ..unknown }] {
                assert_eq!(next(&begun, known, CAUGHT_UP, at(5)), None);
            }
            // Version 1 cannot say what it knows: a person may give the run up.
            assert_eq!(next(&begun, unknown, Manner::AtOnce, at(5)), None);
            let step = next(&cancelled(begun), unknown, Manner::AtOnce, at(5));
            assert_eq!(step, Some(Step::Lose));
        }
    }

    #[test]
    fn nothing_is_done_for_a_run_that_has_ended() {
        for dispatch in DISPATCHES {
            let mut ended = cancelled(run(dispatch));
            ended.status = JobStatus::Failed;
            assert_eq!(next(&ended, Written::default(), CAUGHT_UP, at(500)), None);
        }
    }

    #[test]
    fn a_version_1_agent_gets_a_command_once() {
        let step = |dispatch| next(&run(dispatch), Written::default(), Manner::AtOnce, at(5));
        assert_eq!(step(Dispatch::Waiting), Some(Step::WriteRun));
        assert_eq!(step(Dispatch::Going), None);
        let going = cancelled(run(Dispatch::Going));
        let written = Written { run: true, ..Written::default() };
        let step = next(&going, written, Manner::AtOnce, at(5));
        assert_eq!(step, Some(Step::WriteCancel(CancelReason::Admin)));
        // It may have been lost with an earlier connection, and nobody will ever say so.
        let step = next(&going, Written::default(), Manner::AtOnce, at(5));
        assert_eq!(step, Some(Step::Lose));
    }
}
