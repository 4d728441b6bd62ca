//! The bound on a run's log: a run that goes mad costs the journal two megabytes and no more. Its first lines
//! are kept as they come, and its last ones are told at its end, with what lies between counted.

use protocol::{MAX_LOG_LINE_BYTES, cut_text};
use std::collections::VecDeque;

/// The most lines of one run.
const MAX_LINES: u64 = 10_000;

/// The most bytes of one run.
const MAX_BYTES: usize = 2 * 1024 * 1024;

/// How many of the lines are its last ones, and of the bytes.
const LAST_LINES: usize = 200;
const LAST_BYTES: usize = 64 * 1024;

/// Counts a run's log, and keeps its last lines. A line is of any kind, with its text beside it.
#[derive(Debug)]
pub struct LogCap<Kind> {
    lines: u64,
    bytes: usize,
    /// Lines that nobody took, before those that are kept here.
    left_out: u64,
    last: VecDeque<(Kind, String)>,
    last_bytes: usize,
}

impl<Kind> Default for LogCap<Kind> {
    fn default() -> Self {
        Self { lines: 0, bytes: 0, left_out: 0, last: VecDeque::new(), last_bytes: 0 }
    }
}

impl<Kind> LogCap<Kind> {
    /// The next line. Gives it back if there is room for it now; otherwise it may be one of the last ones.
    pub fn push(&mut self, kind: Kind, text: String) -> Option<(Kind, String)> {
        let bytes = text.len().min(MAX_LOG_LINE_BYTES);
        let has_room = self.last.is_empty()
            && self.lines < MAX_LINES - LAST_LINES as u64
            && self.bytes + bytes <= MAX_BYTES - LAST_BYTES;
        if has_room {
            self.lines += 1;
            self.bytes += bytes;
            return Some((kind, text));
        }
        self.last_bytes += bytes;
        self.last.push_back((kind, cut_text(&text, MAX_LOG_LINE_BYTES)));
        while self.last.len() > LAST_LINES || self.last_bytes > LAST_BYTES {
            let Some((_, gone)) = self.last.pop_front() else { break };
            self.last_bytes = self.last_bytes.saturating_sub(gone.len());
            self.left_out += 1;
        }
        None
    }

    /// A line that there was room for was left out, because nobody took it.
    pub fn leave_out(&mut self) {
        self.left_out += 1;
    }

    /// What the log says at its end: how much is not in it, if anything, and then its last lines.
    #[must_use]
    pub fn end(&mut self) -> (Option<String>, VecDeque<(Kind, String)>) {
        let words = match self.left_out {
            0 => None,
            1 => Some("[…1 more line was left out]".to_owned()),
            lines => Some(format!("[…{lines} more lines were left out]")),
        };
        (words, std::mem::take(&mut self.last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_bounded_and_its_beginning_and_its_end_are_kept() {
        let mut cap = LogCap::default();
        let kept = (0..25_000).filter(|n| cap.push((), format!("line {n}")).is_some()).count();
        assert_eq!(kept, 9_800);
        let (words, last) = cap.end();
        assert_eq!(words.unwrap(), "[…15000 more lines were left out]");
        let last: Vec<String> = last.into_iter().map(|(_, line)| line).collect();
        assert_eq!(
            (last.len(), last[0].as_str(), last[199].as_str()),
            (200, "line 24800", "line 24999")
        );
    }

    #[test]
    fn a_log_that_just_fits_is_whole_and_in_order() {
        let mut cap = LogCap::default();
        let mut all: Vec<u32> =
            (0..10_000).filter_map(|n| cap.push(n, String::new())).map(|it| it.0).collect();
        let (words, last) = cap.end();
        assert_eq!(words, None);
        all.extend(last.into_iter().map(|(n, _)| n));
        assert_eq!(all, (0..10_000).collect::<Vec<_>>());
    }

    #[test]
    fn long_lines_are_bounded_by_what_is_kept_of_them() {
        let mut cap = LogCap::default();
        let taken = |line: (u32, String)| line.1.len().min(MAX_LOG_LINE_BYTES);
        let long = || "x".repeat(1024 * 1024);
        let first: usize = (0..1_000).filter_map(|n| cap.push(n, long())).map(taken).sum();
        let (words, last) = cap.end();
        let last: usize = last.into_iter().map(taken).sum();
        assert!(first + last <= MAX_BYTES && first + last > MAX_BYTES - 3 * MAX_LOG_LINE_BYTES);
        assert!(words.is_some());
        assert_eq!(LogCap::<()>::default().end(), (None, VecDeque::new()));
    }
}
