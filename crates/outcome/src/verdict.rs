//! From what restic's crate says to what travels: codes, words, outcomes.

use crate::Outcome;
use protocol::{Code, JobFinished, JobStatus, Problem, UnreadableFile};
use restic::{BackupOutcome, CheckOutcome, Exit, Failure, FailureKind, ItemErrors};
use serde_json::Value;

/// A failure as a problem.
#[must_use]
pub fn problem(failure: &Failure) -> Problem {
    let message =
        if failure.message.is_empty() { failure.kind.to_string() } else { failure.message.clone() };
    Problem::new(code(&failure.kind), message).guidance(failure.guidance())
}

/// The end of a run that did what it was to do, with what restic says of it.
#[must_use]
pub fn succeeded(stats: Value) -> Outcome {
    Outcome {
        stats: (!stats.is_null()).then_some(stats),
        ..Outcome::plain(JobStatus::Succeeded, None)
    }
}

/// The end of a check.
#[must_use]
pub fn checked(done: CheckOutcome) -> Outcome {
    match done {
        CheckOutcome::Sound(report) => {
            succeeded(serde_json::to_value(report).unwrap_or(Value::Null))
        }
        CheckOutcome::Damaged(report) => {
            let what = report.findings.first().map_or("", String::as_str);
            let problem =
                Problem::new(Code::RepositoryDamaged, format!("The repository is damaged. {what}"))
                    .guidance(FailureKind::Damaged.guidance());
            Outcome {
                exit_code: 1,
                stats: serde_json::to_value(report).ok(),
                ..Outcome::plain(JobStatus::Failed, Some(problem))
            }
        }
    }
}

/// A failure as the end of a run.
#[must_use]
pub fn failed(failure: &Failure) -> Outcome {
    let is_cancelled = failure.kind == FailureKind::Cancelled;
    let status = if is_cancelled { JobStatus::Cancelled } else { JobStatus::Failed };
    Outcome {
        exit_code: exit_code(failure.exit),
        unreadable: unreadable(&failure.items),
        unreadable_count: failure.items.total,
        ..Outcome::plain(status, Some(problem(failure)))
    }
}

/// A backup that wrote its snapshot. One without a single file is a failure: its folder is not mounted, or what
/// the plan leaves out is all there is, and restic is content with both.
#[must_use]
pub fn backed_up(done: &BackupOutcome) -> Outcome {
    let summary = done.summary();
    let outcome = match done {
        BackupOutcome::Completed(summary) if summary.total_files_processed == 0 => {
            let problem = Problem::new(
                Code::SourceEmpty,
                "Nothing was backed up: there was not one file in the folders of the plan.",
            )
            .guidance(
                "See that the folders are mounted and not empty, and that what the plan leaves out does not \
                 cover them.",
            );
            Outcome { exit_code: 0, ..Outcome::plain(JobStatus::Failed, Some(problem)) }
        }
        BackupOutcome::Completed(_) => succeeded(Value::Null),
        BackupOutcome::Partial { unreadable, .. } => partial(unreadable, 3),
    };
    Outcome {
        stats: Some(summary.raw.clone()),
        snapshot_id: summary.snapshot_id.clone(),
        ..outcome
    }
}

/// The end of a run whose result is there with something missing.
#[must_use]
pub fn partial(items: &ItemErrors, exit_code: i32) -> Outcome {
    let message = match items.total {
        0 => {
            "The snapshot was written; restic reported that something is missing in it.".to_owned()
        }
        1 => "The snapshot was written; 1 file could not be read.".to_owned(),
        n => format!("The snapshot was written; {n} files could not be read."),
    };
    let problem = Problem::new(Code::FilesUnreadable, message).guidance(
        "Look at the list: exclude what need not be saved, and see that the agent may read the rest.",
    );
    Outcome {
        exit_code,
        unreadable: unreadable(items),
        unreadable_count: items.total,
        ..Outcome::plain(JobStatus::Partial, Some(problem))
    }
}

/// The files that travel with the outcome; the log has the others.
#[must_use]
pub fn unreadable(items: &ItemErrors) -> Vec<UnreadableFile> {
    items
        .items
        .iter()
        .take(JobFinished::MAX_UNREADABLE)
        .map(|item| UnreadableFile { path: item.path.clone(), error: item.message.clone() })
        .collect()
}

fn exit_code(exit: Option<Exit>) -> i32 {
    match exit {
        Some(Exit::Code(code)) => code,
        Some(Exit::Signal(_)) | None => -1,
    }
}

fn code(kind: &FailureKind) -> Code {
    #[expect(clippy::wildcard_enum_match_arm, reason = "a newer restic crate may add kinds")]
    match kind {
        FailureKind::ProgramNotFound | FailureKind::ProgramUnusable => Code::ResticMissing,
        FailureKind::ProgramTooOld { .. } => Code::ResticTooOld,
        FailureKind::InvalidRequest => Code::InvalidInput,
        FailureKind::NoRepository => Code::RepositoryMissing,
        FailureKind::RepositoryExists => Code::RepositoryExists,
        FailureKind::BadLocation | FailureKind::WrongProtocol => Code::RepositoryUrlInvalid,
        FailureKind::WrongPassword => Code::WrongPassword,
        FailureKind::Locked(_) => Code::RepositoryLocked,
        FailureKind::Unreachable => Code::RepositoryUnreachable,
        FailureKind::Stalled => Code::Stalled,
        FailureKind::Unauthorized => Code::RepositoryAuth,
        FailureKind::Refused => Code::RepositoryAppendOnly,
        FailureKind::UnknownCertificate | FailureKind::CertificateFileUnreadable => {
            Code::CertificateUnknown
        }
        FailureKind::SourceMissing => Code::SourceMissing,
        FailureKind::DiskFull | FailureKind::QuotaFull => Code::DiskFull,
        FailureKind::Damaged => Code::RepositoryDamaged,
        FailureKind::SnapshotNotFound | FailureKind::PathNotFound => Code::SnapshotUnknown,
        FailureKind::RestoreIncomplete => Code::FilesUnreadable,
        FailureKind::Cancelled => Code::Cancelled,
        // The others have no code of their own.
        _ => Code::ResticFailed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use restic::BackupSummary;

    #[test]
    fn a_backup_without_a_single_file_is_a_failure_that_names_its_snapshot() {
        let summary = |total_files_processed| BackupSummary {
            snapshot_id: Some("a".repeat(64)),
            total_files_processed,
            ..BackupSummary::default()
        };
        let empty = backed_up(&BackupOutcome::Completed(summary(0)));
        assert_eq!(empty.status, JobStatus::Failed);
        assert_eq!(empty.problem.unwrap().code, Code::SourceEmpty);
        assert_eq!((empty.exit_code, empty.snapshot_id), (0, Some("a".repeat(64))));
        let good = backed_up(&BackupOutcome::Completed(summary(1)));
        assert_eq!((good.status, good.problem), (JobStatus::Succeeded, None));
        let unreadable = ItemErrors::default();
        let partial = backed_up(&BackupOutcome::Partial { summary: summary(0), unreadable });
        assert_eq!(partial.status, JobStatus::Partial);
    }
}
