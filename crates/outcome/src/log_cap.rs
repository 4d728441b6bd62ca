//! The bound on a run's log: a run that goes mad costs the journal two megabytes and no more.

use protocol::MAX_LOG_LINE_BYTES;

/// The most lines of one run.
const MAX_LINES: u64 = 10_000;

/// The most bytes of one run.
const MAX_BYTES: usize = 2 * 1024 * 1024;

/// Counts a run's log.
#[derive(Debug, Default)]
pub struct LogCap {
    lines: u64,
    bytes: usize,
    left_out: u64,
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is room for it.
    Keep,
    /// There is none.
    LeaveOut,
}

impl LogCap {
    /// Weighs the next line.
    pub fn weigh(&mut self, bytes: usize) -> Verdict {
        let bytes = bytes.min(MAX_LOG_LINE_BYTES);
        if self.lines >= MAX_LINES || self.bytes + bytes > MAX_BYTES {
            return Verdict::LeaveOut;
        }
        self.lines += 1;
        self.bytes += bytes;
        Verdict::Keep
    }

    /// A line was left out, by the verdict or because nobody took it.
    pub fn leave_out(&mut self) {
        self.left_out += 1;
    }

    /// What the log says at its end of what is not in it.
    pub fn last_words(&self) -> Option<String> {
        (self.left_out > 0).then(|| format!("[…{} more lines were left out]", self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_bounded_and_the_log_says_by_how_much() {
        let mut cap = LogCap::default();
        let kept = (0..25_000)
            .filter(|_| match cap.weigh(10) {
                Verdict::Keep => true,
                Verdict::LeaveOut => {
                    cap.leave_out();
                    false
                }
            })
            .count();
        assert_eq!(kept, 10_000);
        assert_eq!(cap.last_words().unwrap(), "[…15000 more lines were left out]");
    }

    #[test]
    fn a_long_line_weighs_what_is_kept_of_it() {
        let mut cap = LogCap::default();
        let kept = (0..1_000).filter(|_| cap.weigh(1024 * 1024) == Verdict::Keep).count();
        assert_eq!(kept, MAX_BYTES / MAX_LOG_LINE_BYTES);
        assert_eq!(LogCap::default().last_words(), None);
    }
}
