//! Which record stands in the place of lines that have to make room.

use crate::points::{self, Mistake};
use jiff::Timestamp;
use protocol::{RunId, journal::JournalElided};

/// A single line that is shorter is not worth the record that would stand in its place.
const WORTH_IT: u64 = 300;

/// Whose lines make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Those that the manager has.
    Acknowledged,
    /// Those of runs that have ended.
    Ended,
    /// Any.
    Any,
}

impl Turn {
    /// All of them, in their order.
    pub const ALL: [Self; 3] = [Self::Acknowledged, Self::Ended, Self::Any];
}

/// A line that is to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// The number of its record.
    pub seq: u64,
    /// Its run.
    pub run_id: RunId,
    /// When it was written.
    pub at: Timestamp,
    /// Which line of the run it is.
    pub line: u64,
    /// The bytes of its payload.
    pub bytes: u64,
}

/// What stands in the place of these lines, whose records follow each other, and of what stands for lines
/// directly before them: each with the number of the last record that it stands for. There is more than one
/// where they are of many runs, and none where it is not worth it.
#[must_use]
pub fn elide(before: Option<JournalElided>, lines: &[Line]) -> Vec<(u64, JournalElided)> {
    if let ([line], None) = (lines, &before)
        && line.bytes < WORTH_IT
    {
        return Vec::new();
    }
    let mut elided = Vec::new();
    let (mut open, mut last) = (before, None);
    for line in lines {
        let number = line.line + u64::from(points::is_planted(Mistake::Miscount));
        let one = JournalElided::line(line.run_id, line.seq, number, line.at);
        if !open.as_mut().is_some_and(|open| open.extend(&one)) {
            // What stood before and has no more room stays as it is.
            elided.extend(last.zip(open.replace(one)));
        }
        last = Some(line.seq);
    }
    elided.extend(last.zip(open));
    elided
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(run: u8, seq: u64, line: u64, bytes: u64) -> Line {
        let run_id = RunId::new(run.into(), &[run; 10]);
        Line { seq, run_id, at: Timestamp::UNIX_EPOCH, line, bytes }
    }

    #[test]
    fn lines_count_with_what_stands_before_them_and_one_short_line_alone_stays() {
        assert_eq!(elide(None, &[line(1, 5, 1, 200)]), []);
        assert_eq!(elide(None, &[line(1, 5, 1, 400)]).len(), 1);
        let before = elide(None, &[line(1, 3, 1, 200), line(1, 4, 2, 200)]);
        let [(4, before)] = before.as_slice() else { panic!("{before:?}") };
        let joined = elide(Some(before.clone()), &[line(1, 5, 3, 200)]);
        let [(5, joined)] = joined.as_slice() else { panic!("{joined:?}") };
        assert_eq!((joined.first_seq, joined.lines(), joined.runs.len()), (3, 3, 1));
    }

    #[test]
    fn lines_of_more_runs_than_a_record_names_get_a_second_one() {
        let most = u8::try_from(JournalElided::MAX_RUNS).unwrap();
        let lines: Vec<Line> = (0..=most).map(|n| line(n, 10 + u64::from(n), 1, 200)).collect();
        let elided = elide(None, &lines);
        let last = 10 + u64::from(most);
        assert_eq!(elided.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [last - 1, last]);
        assert!(elided.iter().all(|(seq, it)| it.counts(*seq)));
        // What stands before them and is full stays.
        let full = elided[0].1.clone();
        let (seq, one) = &elide(Some(full), &[line(200, last, 1, 200)])[0];
        assert_eq!((*seq, one.first_seq), (last, last));
    }
}
