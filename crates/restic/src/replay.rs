//! What the operations make of an output that no process wrote, for tests and fuzz targets: the same
//! reading and the same verdict, without restic. Not for programs.

use crate::failure::{Exit, Failure};
use crate::{backup, check, forget, init, prune, restore};

/// How a restic that was not cancelled could have ended.
#[derive(Debug, Clone, Copy)]
pub struct Recorded<'a> {
    /// Its exit status.
    pub exit: Exit,
    /// Its standard output.
    pub stdout: &'a [u8],
    /// Its standard error.
    pub stderr: &'a [u8],
}

/// An operation whose end decides something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// See [`Restic::backup`](crate::Restic::backup).
    Backup,
    /// See [`Restic::check`](crate::Restic::check).
    Check,
    /// See [`Restic::forget`](crate::Restic::forget).
    Forget,
    /// See [`Restic::init`](crate::Restic::init).
    Init,
    /// See [`Restic::prune`](crate::Restic::prune).
    Prune,
    /// See [`Restic::restore`](crate::Restic::restore), without a look at what was restored.
    Restore,
}

/// How good the end was.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// All that was asked for was done, and is in order.
    Good,
    /// A backup without some files.
    Partial,
    /// A check that found damage.
    Damaged,
    /// It was not done.
    Failed(Box<Failure>),
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Backup, Self::Check, Self::Forget, Self::Init, Self::Prune, Self::Restore];

    /// What the operation makes of it.
    #[must_use]
    pub fn judge(self, recorded: &Recorded<'_>) -> Verdict {
        let verdict = match self {
            Self::Backup => backup::replay(recorded).map(|outcome| match outcome {
                backup::BackupOutcome::Completed(_) => Verdict::Good,
                backup::BackupOutcome::Partial { .. } => Verdict::Partial,
            }),
            Self::Check => check::replay(recorded).map(|outcome| match outcome {
                check::CheckOutcome::Sound(_) => Verdict::Good,
                check::CheckOutcome::Damaged(_) => Verdict::Damaged,
            }),
            Self::Forget => forget::replay(recorded).map(|_| Verdict::Good),
            Self::Init => init::replay(recorded).map(|_| Verdict::Good),
            Self::Prune => prune::replay(recorded).map(|_| Verdict::Good),
            Self::Restore => restore::replay(recorded).map(|_| Verdict::Good),
        };
        verdict.unwrap_or_else(|failure| Verdict::Failed(Box::new(failure)))
    }

    /// Whether this verdict may follow from this exit status, whatever was printed.
    #[must_use]
    pub fn may_be(self, verdict: &Verdict, exit: Exit) -> bool {
        match verdict {
            Verdict::Good => exit.is_success(),
            Verdict::Partial => self == Self::Backup && matches!(exit, Exit::Code(0 | 3)),
            Verdict::Damaged => self == Self::Check && !exit.is_success(),
            Verdict::Failed(failure) => !failure.message.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Operation, Recorded, Verdict};
    use crate::failure::Exit;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    /// The recorded outputs, without the endings of their files.
    fn recordings() -> BTreeSet<PathBuf> {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let versions = fs::read_dir(fixtures).unwrap().map(|entry| entry.unwrap().path());
        versions
            .filter(|path| path.is_dir())
            .flat_map(|version| fs::read_dir(version).unwrap().map(|entry| entry.unwrap().path()))
            .map(|path| path.with_extension(""))
            .collect()
    }

    #[test]
    fn no_output_makes_a_success_of_a_bad_exit_status() {
        let recordings = recordings();
        assert!(recordings.len() > 40, "{}", recordings.len());
        let codes = [-1, 0, 1, 2, 3, 4, 10, 11, 12, 130, 255].map(Exit::Code);
        let exits: Vec<Exit> = codes.into_iter().chain([Exit::Signal(9)]).collect();
        for path in recordings {
            let stdout = fs::read(path.with_extension("jsonl")).unwrap_or_default();
            let stderr = fs::read(path.with_extension("stderr")).unwrap_or_default();
            assert!(!(stdout.is_empty() && stderr.is_empty()), "{}", path.display());
            for &exit in &exits {
                let recorded = Recorded { exit, stdout: &stdout, stderr: &stderr };
                for operation in Operation::ALL {
                    let verdict = operation.judge(&recorded);
                    let place = path.display();
                    assert!(
                        operation.may_be(&verdict, exit),
                        "{place}: {operation:?} with {exit:?} is {verdict:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_backup_that_could_not_read_everything_is_never_complete() {
        let summary = br#"{"message_type":"summary","snapshot_id":"ab"}"#;
        let judge = |exit: i32, stderr: &str| {
            let exit = Exit::Code(exit);
            Operation::Backup.judge(&Recorded { exit, stdout: summary, stderr: stderr.as_bytes() })
        };
        assert_eq!(judge(0, ""), Verdict::Good);
        assert_eq!(judge(0, "/gone does not exist, skipping"), Verdict::Partial);
        assert_eq!(judge(3, ""), Verdict::Partial);
        assert!(matches!(judge(1, ""), Verdict::Failed(_)));
    }
}
