//! `restic unlock`: removes what a killed restic of ours left behind, and nothing else.
//!
//! restic's own `unlock` removes every lock that is older than half an hour, and also those of
//! this machine whose process is gone. A machine that sleeps does not refresh its lock, so that
//! rule can take the lock of a backup that is about to go on. So it is run only when every lock in
//! the repository is one of ours; `--remove-all` is never used.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::CancelToken;
use crate::call::{Arguments, Call, log};
use crate::environment::Repository;
use crate::event::Sink;
use crate::failure::Failure;
use crate::locks::Lock;
use crate::process::Stdout;
use crate::program::Restic;

/// How far a lock's time may lie outside of the time in which its process ran: for clocks that were
/// set meanwhile.
const SLACK: SignedDuration = SignedDuration::from_mins(2);

/// Which processes are ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OurProcesses {
    /// The name of this machine as its system tells it, not the host that snapshots are filed
    /// under.
    pub hostname: String,
    /// The restic processes that we started.
    pub processes: Vec<OurProcess>,
}

/// A restic process that we started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OurProcess {
    /// Its id; see [`Event::Started`](crate::Event::Started) and [`Failure::killed_pid`].
    pub pid: u32,
    /// When it began at the earliest. Ids come again, and another machine may have this one's name:
    /// a lock of another time is not taken for ours.
    pub from: Option<Timestamp>,
    /// When it ended at the latest.
    pub until: Option<Timestamp>,
}

impl OurProcess {
    /// A process of which only the id is known.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        Self { pid, from: None, until: None }
    }

    fn holds(&self, lock: &Lock) -> bool {
        let early = self.from.is_some_and(|from| lock.time.duration_until(from) > SLACK);
        let late = self.until.is_some_and(|until| until.duration_until(lock.time) > SLACK);
        self.pid == lock.pid && !early && !late
    }
}

impl OurProcesses {
    fn hold(&self, lock: &Lock) -> bool {
        lock.hostname == self.hostname && self.processes.iter().any(|it| it.holds(lock))
    }

    /// Whether two locks would be one process's. It has one at a time, so the other is that of a
    /// machine with the same name, and nobody can tell which.
    fn are_ambiguous(&self, locks: &[Lock]) -> bool {
        self.processes.iter().any(|it| locks.iter().filter(|lock| it.holds(lock)).count() > 1)
    }
}

/// What became of the locks.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum UnlockOutcome {
    /// There was no lock.
    NothingToRemove,
    /// There were only ours, and they are gone.
    Removed {
        /// They.
        locks: Vec<Lock>,
    },
    /// Some are not ours, or nobody can tell, so nothing was removed.
    LeftToOthers {
        /// Those that are not ours.
        locks: Vec<Lock>,
    },
    /// All were ours, but restic did not remove them: their process still runs, or another has
    /// its id by now.
    StillThere {
        /// They.
        locks: Vec<Lock>,
    },
}

impl Restic {
    /// Removes the locks of processes of ours that are gone, if there are no others.
    ///
    /// # Errors
    /// All that can keep a repository from being read or written.
    pub async fn release_own_locks(
        &self,
        repository: &Repository,
        ours: &OurProcesses,
        sink: Sink<'_>,
        cancel: &CancelToken,
    ) -> Result<UnlockOutcome, Failure> {
        let found = self.locks(repository, sink, cancel).await?;
        if found.is_empty() {
            return Ok(UnlockOutcome::NothingToRemove);
        }
        let (own, others): (Vec<Lock>, Vec<Lock>) =
            found.into_iter().partition(|lock| ours.hold(lock));
        if !others.is_empty() {
            return Ok(UnlockOutcome::LeftToOthers { locks: others });
        }
        if ours.are_ambiguous(&own) {
            return Ok(UnlockOutcome::LeftToOthers { locks: own });
        }
        self.unlock(repository, sink, cancel).await?;
        // Some releases report success whatever they did.
        let left = self.locks(repository, sink, cancel).await?;
        let (left, _others): (Vec<Lock>, Vec<Lock>) =
            left.into_iter().partition(|lock| ours.hold(lock));
        if left.is_empty() {
            Ok(UnlockOutcome::Removed { locks: own })
        } else {
            Ok(UnlockOutcome::StillThere { locks: left })
        }
    }

    /// Plain `restic unlock`: removes every lock that restic takes for stale, whoever made it.
    /// Only for an admin who has seen the locks; a program uses [`Restic::release_own_locks`].
    ///
    /// # Errors
    /// All that can keep a repository from being read or written.
    pub async fn unlock(
        &self,
        repository: &Repository,
        sink: Sink<'_>,
        cancel: &CancelToken,
    ) -> Result<(), Failure> {
        let call = Call { restic: self, repository, arguments: arguments(), stdout: Stdout::Lines };
        call.run(sink, cancel, &mut log).await?.success()?;
        Ok(())
    }
}

fn arguments() -> Arguments {
    Arguments::json("unlock")
}

#[cfg(test)]
mod tests {
    use super::{OurProcess, OurProcesses};
    use crate::locks::Lock;
    use jiff::Timestamp;

    fn lock(hostname: &str, pid: u32, minute: i64) -> Lock {
        Lock {
            id: "ab".repeat(32),
            time: Timestamp::from_second(minute * 60).unwrap(),
            exclusive: false,
            hostname: hostname.to_owned(),
            username: "root".to_owned(),
            pid,
            extra: serde_json::Map::new(),
        }
    }

    #[test]
    fn a_lock_is_ours_by_machine_process_and_time() {
        let at = |minute: i64| Some(Timestamp::from_second(minute * 60).unwrap());
        let processes = vec![OurProcess { pid: 7, from: at(100), until: at(130) }];
        let ours = OurProcesses { hostname: "box".to_owned(), processes };
        assert!(ours.hold(&lock("box", 7, 100)));
        assert!(ours.hold(&lock("box", 7, 131)), "the clock was set meanwhile");
        assert!(!ours.hold(&lock("box", 8, 110)));
        assert!(!ours.hold(&lock("other", 7, 110)));
        assert!(!ours.hold(&lock("box", 7, 80)), "an earlier process had this id");
        assert!(!ours.hold(&lock("box", 7, 150)), "a later process has this id");
        let (one, two) = (lock("box", 7, 101), lock("box", 7, 102));
        assert!(!ours.are_ambiguous(std::slice::from_ref(&one)));
        assert!(ours.are_ambiguous(&[one, two]), "one of them is another machine's");
        let known = OurProcesses { processes: vec![OurProcess::of(7)], ..ours };
        assert!(known.hold(&lock("box", 7, 5)));
    }

    #[test]
    fn argv() {
        assert_eq!(super::arguments().to_text(), "--json unlock");
    }
}
