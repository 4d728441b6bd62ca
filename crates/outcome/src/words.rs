//! What a run's log says for people at its end, and how numbers and names are said.

use crate::Outcome;
use protocol::{JobStatus, RestoreReport};
use std::{fmt::Write as _, time::Duration};

/// How many names a line shows.
const MAX_NAMES: usize = 5;

/// The last line of a run.
#[must_use]
pub fn ends(outcome: &Outcome, took: Duration) -> String {
    let took = span(took);
    let mut line = match outcome.status {
        JobStatus::Succeeded => format!("Done after {took}."),
        JobStatus::Partial => format!("Done in part after {took}."),
        // Why it was told to end is not known here.
        JobStatus::Cancelled => return format!("Stopped after {took}, before it was done."),
        JobStatus::Queued
        | JobStatus::Running
        | JobStatus::Failed
        | JobStatus::Interrupted
        | JobStatus::Lost
        | JobStatus::Expired
        | JobStatus::Unknown => match outcome.exit_code {
            0 | -1 => format!("Failed after {took}."),
            code => format!("Failed after {took}; restic's exit code was {code}."),
        },
    };
    if let Some(problem) = &outcome.problem {
        let _ = write!(line, " {problem}");
    }
    line
}

/// What a restore did and where.
#[must_use]
pub fn restored(report: &RestoreReport, status: JobStatus) -> String {
    if !matches!(status, JobStatus::Succeeded | JobStatus::Partial) {
        return format!("What was restored until then lies in {}.", report.target);
    }
    let files = match report.files {
        1 => "1 file or folder".to_owned(),
        n => format!("{n} files and folders"),
    };
    let mut line = format!("Restored {files}, {}, into {}.", size(report.bytes), report.target);
    if !report.missing.is_empty() {
        let _ = write!(line, " Not found there: {}.", names(&report.missing));
    }
    line
}

/// The text on one line, since names may hold anything.
#[must_use]
pub fn one_line(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `1 file`, `2 files`.
#[must_use]
pub fn count(n: impl TryInto<u64>, what: &str) -> String {
    match n.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {what}"),
        n => format!("{n} {what}s"),
    }
}

/// `512 bytes`, `1.5 MB`, in the units of the window.
#[expect(clippy::cast_precision_loss, reason = "one digit after the point is shown")]
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return count(bytes, "byte");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        // What would be rounded up to 1000.0 is the next unit's.
        if value < 999.95 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// `80 ms`, `1.4 s`, `3 min 5 s`, `2 h 3 min`.
#[must_use]
pub fn span(took: Duration) -> String {
    let seconds = took.as_secs();
    match seconds {
        0 => format!("{} ms", took.as_millis()),
        1..60 => format!("{}.{} s", seconds, took.subsec_millis() / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// The first digits of an identifier, as restic itself shows it.
#[must_use]
pub fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// The first few of these names, and how many more there are.
#[must_use]
pub fn names(names: &[String]) -> String {
    let mut text = names.iter().take(MAX_NAMES).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > MAX_NAMES {
        let _ = write!(text, " and {} more", names.len() - MAX_NAMES);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Code, Problem};

    #[test]
    fn numbers_are_said_in_units_that_fit() {
        assert_eq!(size(0), "0 bytes");
        assert_eq!(size(1), "1 byte");
        assert_eq!(size(999), "999 bytes");
        assert_eq!(size(1500), "1.5 kB");
        assert_eq!(size(999_999), "1.0 MB");
        assert_eq!(size(u64::MAX), "18.4 EB");
        assert_eq!(span(Duration::from_millis(1_449)), "1.4 s");
        assert_eq!(span(Duration::from_secs(185)), "3 min 5 s");
        assert_eq!(span(Duration::from_secs(7_380)), "2 h 3 min");
    }

    #[test]
    fn the_end_of_a_run_says_why_and_what_to_do_on_one_line() {
        let problem = Problem::new(Code::RepositoryMissing, "there is no repository:\nno config")
            .guidance("Initialise it first.");
        let failed = Outcome { exit_code: 10, ..Outcome::plain(JobStatus::Failed, Some(problem)) };
        assert_eq!(
            one_line(&ends(&failed, Duration::from_millis(80))),
            "Failed after 80 ms; restic's exit code was 10. there is no repository: no config. \
             Initialise it first."
        );
        let done = Outcome::plain(JobStatus::Succeeded, None);
        assert_eq!(ends(&done, Duration::from_secs(2)), "Done after 2.0 s.");
    }

    #[test]
    fn a_restore_says_where_it_went_and_what_was_not_found() {
        let report = RestoreReport {
            target: "/restores/1".to_owned(),
            files: 5,
            bytes: 6,
            missing: vec!["/nope".to_owned()],
        };
        assert_eq!(
            restored(&report, JobStatus::Partial),
            "Restored 5 files and folders, 6 bytes, into /restores/1. Not found there: /nope."
        );
        assert_eq!(
            restored(&report, JobStatus::Failed),
            "What was restored until then lies in /restores/1."
        );
    }

    #[test]
    fn many_names_are_cut_short() {
        let many: Vec<String> = (1..=7).map(|n| format!("/{n}")).collect();
        assert_eq!(names(&many), "/1, /2, /3, /4, /5 and 2 more");
    }
}
