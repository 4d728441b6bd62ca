//! Notices that the repository is gone.
//!
//! restic 0.18 and 0.19 retry every request to a dead server for a quarter of an hour, and then
//! wait in silence for as long again; all that time they look busy. The watchdog reads the retry
//! notices and asks for a stop when nothing has moved for longer than the caller's patience.
//! A certificate that nobody signed, or the wrong protocol, will not heal by waiting: after the
//! second such notice in a row patience ends at once.
//!
//! ```text
//!           retry notice                  patience is over
//!  Calm ───────────────────▶ Waiting ─────────────────────▶ (stop)
//!   ▲                         │    ▲
//!   └── operation successful ─┘    └── bytes moved: wait anew
//! ```

use std::time::Duration;

use tokio::time::Instant;

/// How many hopeless notices in a row end all patience. One may come from a change on the way.
const HOPELESS_NOTICES: u32 = 2;

/// What a line of stderr means for the reachability of the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A request failed and will be tried again.
    Retry,
    /// A request that had failed went through.
    Recovered,
}

impl Notice {
    /// Reads a line; `None` for one that has nothing to do with this.
    pub(crate) fn of(line: &str) -> Option<Self> {
        if line.contains("returned error, retrying after") {
            Some(Self::Retry)
        } else if line.contains("operation successful after") {
            Some(Self::Recovered)
        } else {
            None
        }
    }
}

/// What changed with a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The repository stopped answering.
    BecameUnreachable,
    /// It answers again.
    BecameReachable,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Watchdog {
    patience: Duration,
    moved_at: Instant,
    mark: Option<u64>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Calm,
    Waiting { since: Instant, hopeless: u32 },
}

impl Watchdog {
    pub(crate) fn new(patience: Duration, now: Instant) -> Self {
        Self { patience, moved_at: now, mark: None, state: State::Calm }
    }

    /// A notice was read.
    pub(crate) fn handle_notice(
        &mut self,
        notice: Notice,
        line: &str,
        now: Instant,
    ) -> Option<Change> {
        match (notice, self.state) {
            (Notice::Retry, State::Calm) => {
                self.state = State::Waiting { since: now, hopeless: u32::from(is_hopeless(line)) };
                Some(Change::BecameUnreachable)
            }
            (Notice::Retry, State::Waiting { since, hopeless }) => {
                let hopeless = if is_hopeless(line) { hopeless + 1 } else { 0 };
                self.state = State::Waiting { since, hopeless };
                None
            }
            (Notice::Recovered, State::Waiting { .. }) => {
                self.state = State::Calm;
                Some(Change::BecameReachable)
            }
            (Notice::Recovered, State::Calm) => None,
        }
    }

    /// Progress was reported. `mark` differs from the last one exactly if something moved.
    pub(crate) fn handle_progress(&mut self, mark: u64, now: Instant) {
        if self.mark.replace(mark) != Some(mark) {
            self.moved_at = now;
        }
    }

    /// When to stop restic, as things stand. `None` while the repository answers.
    pub(crate) fn poll_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Calm => None,
            State::Waiting { since, hopeless } if hopeless >= HOPELESS_NOTICES => Some(since),
            State::Waiting { since, .. } => since.max(self.moved_at).checked_add(self.patience),
        }
    }
}

fn is_hopeless(line: &str) -> bool {
    [
        "failed to verify certificate",
        "certificate signed by unknown authority",
        "server gave HTTP response to HTTPS client",
        "unsupported protocol scheme",
    ]
    .iter()
    .any(|text| line.contains(text))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Change, Notice, Watchdog};

    const REFUSED: &str = "Save(<data/1>) returned error, retrying after 1s: connection refused";
    const UNKNOWN_CA: &str = "Stat(<config/>) returned error, retrying after 1s: tls: failed to \
                              verify certificate: x509: certificate signed by unknown authority";
    const PATIENCE: Duration = Duration::from_secs(300);

    fn start() -> (Watchdog, Instant) {
        let now = Instant::now();
        (Watchdog::new(PATIENCE, now), now)
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_first_retry_is_told_once_and_sets_the_deadline() {
        let (mut dog, t) = start();
        let later = t + secs(60);
        assert_eq!(dog.poll_deadline(), None);
        assert_eq!(
            dog.handle_notice(Notice::Retry, REFUSED, later),
            Some(Change::BecameUnreachable)
        );
        assert_eq!(dog.handle_notice(Notice::Retry, REFUSED, later + secs(9)), None);
        assert_eq!(dog.poll_deadline(), Some(later + PATIENCE));
    }

    #[test]
    fn bytes_that_move_buy_time_and_a_repeated_status_does_not() {
        let (mut dog, t) = start();
        dog.handle_progress(10, t);
        dog.handle_notice(Notice::Retry, REFUSED, t + secs(1));
        dog.handle_progress(11, t + secs(5));
        dog.handle_progress(11, t + secs(200));
        assert_eq!(dog.poll_deadline(), Some(t + secs(5) + PATIENCE));
    }

    #[test]
    fn a_request_that_went_through_calms_it() {
        let (mut dog, t) = start();
        dog.handle_notice(Notice::Retry, REFUSED, t);
        assert_eq!(
            dog.handle_notice(Notice::Recovered, "operation successful after 3 retries", t),
            Some(Change::BecameReachable)
        );
        assert_eq!(dog.poll_deadline(), None);
    }

    #[test]
    fn what_waiting_cannot_heal_is_not_waited_for() {
        let (mut dog, t) = start();
        dog.handle_notice(Notice::Retry, UNKNOWN_CA, t);
        assert_eq!(dog.poll_deadline(), Some(t + PATIENCE));
        dog.handle_notice(Notice::Retry, UNKNOWN_CA, t + secs(1));
        assert_eq!(dog.poll_deadline(), Some(t));
    }

    #[test]
    fn notices_are_told_from_other_lines() {
        assert_eq!(Notice::of(REFUSED), Some(Notice::Retry));
        assert_eq!(
            Notice::of("Save(<data/69e585a689>) operation successful after 3 retries"),
            Some(Notice::Recovered)
        );
        assert_eq!(Notice::of("Stat(<config/>) failed: connection refused"), None);
    }
}
