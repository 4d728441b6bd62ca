//! From restic's events to what a run's log and progress say.

use protocol::{JobProgress, LogStream, RunId};
use restic::{Event, ItemError, Stream};

/// What restic said, as a run tells it.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// restic runs, with this process id.
    Spawned(u32),
    /// A line for the log.
    Log(LogStream, String),
    /// A file could not be read or written.
    ItemError,
    /// How far it is.
    Progress(Box<JobProgress>),
}

/// Progress that says nothing yet.
#[must_use]
pub fn no_progress(job_id: RunId) -> JobProgress {
    JobProgress {
        job_id,
        percent_done: 0.0,
        files_done: 0,
        total_files: 0,
        bytes_done: 0,
        total_bytes: 0,
        eta_seconds: 0,
        throughput_bps: 0,
        current_files: Vec::new(),
        unreachable: None,
    }
}

/// What an event of restic's is for a run. The progress so far is kept by the caller.
pub fn translate(event: Event, progress: &mut JobProgress) -> Vec<Said> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "a newer restic crate may add events")]
    match event {
        Event::Started { pid } => {
            vec![Said::Spawned(pid)]
        }
        Event::Progress(new) => {
            *progress = progress_of(new, progress);
            vec![Said::Progress(Box::new(progress.clone()))]
        }
        Event::Log { stream: Stream::Stdout, line } => vec![Said::Log(LogStream::Stdout, line)],
        Event::Log { stream: Stream::Stderr, line } => vec![Said::Log(LogStream::Stderr, line)],
        Event::ItemError(ItemError { path, message, .. }) => {
            vec![Said::ItemError, Said::Log(LogStream::Stderr, format!("{path}: {message}"))]
        }
        Event::Unreachable { line } => {
            progress.unreachable = Some(protocol::cut_text(&line, 1024));
            let words = format!("The repository does not answer; restic keeps trying. {line}");
            vec![Said::Log(LogStream::Event, words), Said::Progress(Box::new(progress.clone()))]
        }
        Event::Reachable => {
            progress.unreachable = None;
            vec![
                Said::Log(LogStream::Event, "The repository answers again.".to_owned()),
                Said::Progress(Box::new(progress.clone())),
            ]
        }
        Event::Stalled { quiet, traces } => {
            let time = crate::words::span(quiet);
            let words = format!("Neither bytes nor files moved for {time}; restic is ended now.");
            let traces = traces.into_iter().map(|line| format!("What was seen of it: {line}"));
            let lines = std::iter::once(words).chain(traces);
            lines.map(|line| Said::Log(LogStream::Event, protocol::cut_text(&line, 1024))).collect()
        }
        _ => Vec::new(),
    }
}

fn progress_of(new: restic::Progress, old: &JobProgress) -> JobProgress {
    // A check or a prune counts steps, which are shown where files are.
    let (files_done, total_files) = match &new.step {
        Some(step) => (step.done, step.total),
        None => (new.files_done, new.total_files),
    };
    JobProgress {
        job_id: old.job_id,
        percent_done: new.percent_done,
        files_done,
        total_files,
        bytes_done: new.bytes_done,
        total_bytes: new.total_bytes,
        eta_seconds: new.seconds_remaining.unwrap_or(0),
        throughput_bps: 0,
        current_files: new
            .current_files
            .iter()
            .take(4)
            .map(|path| protocol::cut_text(path, 1024))
            .collect(),
        unreachable: old.unreachable.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_stall_is_told_with_what_was_seen_of_restic() {
        let run = RunId::new(1, &[1; 10]);
        let traces = vec!["Threads: 9 in state T (stopped)".to_owned(), "x".repeat(5_000)];
        let event = Event::Stalled { quiet: Duration::from_mins(60), traces };
        let said = translate(event, &mut no_progress(run));
        let lines = said.iter().map(|said| {
            let Said::Log(LogStream::Event, line) = said else { panic!("{said:?}") };
            line.as_str()
        });
        let lines: Vec<&str> = lines.collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].contains("1 h 0 min"), "{lines:?}");
        assert!(lines[1].contains("T (stopped)"), "{lines:?}");
        assert!(lines[2].len() <= 1024, "{}", lines[2].len());
    }
}
