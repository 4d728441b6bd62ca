//! A full disk: lines of logs are left out and counted, so that outcomes find room, and nothing new begins
//! that could not end.

use super::{Brain, Change, Effect, LogStream, Now, RunId, RunState};
use crate::journal::Record;
use protocol::{
    Problem,
    journal::{JournalElided, kind},
};

/// What the disk of the journal has room for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// There is room for outcomes alone: lines of logs are left out.
    pub is_full: bool,
    /// Why no run may begin.
    pub refusal: Option<Problem>,
}

impl Brain {
    /// How the disk is, as it was told.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// How the disk is. Once it has room again, the runs that go on say how much they have left out.
    pub fn set_disk(&mut self, disk: Disk, now: Now) -> Vec<Effect> {
        let has_room_again = self.disk.is_full && !disk.is_full;
        self.disk = disk;
        if !has_room_again {
            return Vec::new();
        }
        let running = self.runs.values().filter(|run| run.state == RunState::Running);
        let running: Vec<RunId> = running.map(|run| run.id).collect();
        running.into_iter().filter_map(|run| self.tell_left_out(run, now)).collect()
    }

    /// Whether a line is left out; it is counted then.
    pub(super) fn leaves_out(&mut self, run_id: RunId) -> bool {
        if self.disk.is_full {
            self.live.entry(run_id).or_default().left_out += 1;
        }
        self.disk.is_full
    }

    /// What a run says of the lines that are not in its log.
    pub(super) fn tell_left_out(&mut self, run_id: RunId, now: Now) -> Option<Effect> {
        let live = self.live.get_mut(&run_id)?;
        let lines = std::mem::take(&mut live.left_out);
        let words = match lines {
            0 => return None,
            1 => "[…1 line was left out: the disk of this machine was full]".to_owned(),
            _ => format!("[…{lines} lines were left out: the disk of this machine was full]"),
        };
        self.write_line(run_id, LogStream::Event, &words, now)
    }
}

/// What of these changes is written to a disk that is full: no line of a log, but how many there were, and
/// no reading, which can be made again.
#[must_use]
pub fn lighten(changes: Vec<Change>) -> Vec<Change> {
    let mut light: Vec<Change> = Vec::new();
    let mut open: Option<(JournalElided, u64)> = None;
    for change in changes {
        match change {
            Change::Append(record, Some(line)) if record.kind == kind::LOG_STREAM => {
                let Some(run_id) = record.run_id else { continue };
                let one = JournalElided::line(run_id, record.seq, line, record.at);
                let follows = open.take().filter(|(before, seq)| {
                    seq + 1 == record.seq && before.runs.iter().all(|run| run.job_id == run_id)
                });
                let mut before = follows.map(|(before, _)| before);
                let is_taken = before.as_mut().is_some_and(|before| before.extend(&one));
                if is_taken {
                    light.pop();
                }
                let elided = before.filter(|_| is_taken).unwrap_or(one);
                let payload = serde_json::to_string(&elided).unwrap_or_default();
                let kind = kind::JOURNAL_ELIDED.to_owned();
                open = Some((elided, record.seq));
                light.push(Change::Append(Record { kind, payload, ..record }, Some(line)));
            }
            Change::View(..) => {}
            Change::Append(..)
            | Change::Acked(_)
            | Change::Run(_)
            | Change::Numbers { .. }
            | Change::Incarnation(_)
            | Change::Epoch(_)
            | Change::Ticket(_)
            | Change::Mark(..)
            | Change::Awake(_)
            | Change::ToldZone(_)
            | Change::PlanAlarm(..)
            | Change::Delivery(..) => {
                open = None;
                light.push(change);
            }
        }
    }
    light
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Journal;
    use jiff::Timestamp;
    use protocol::JournalId;

    #[test]
    fn on_a_full_disk_lines_are_counted_and_everything_else_is_written() {
        let run = |n: u8| RunId::new(n.into(), &[n; 10]);
        let mut journal = Journal::new(&Journal::empty(JournalId::new(1, &[1; 10])));
        let mut append = |kind: &str, whose: u8, line| {
            let record =
                journal.append(kind, "{}".to_owned(), Some(run(whose)), Timestamp::UNIX_EPOCH);
            Change::Append(record, line)
        };
        let changes = vec![
            append("job.started", 1, None),
            append("log.stream", 1, Some(1)),
            append("log.stream", 1, Some(2)),
            append("log.stream", 2, Some(9)),
            Change::Acked(1),
            append("log.stream", 2, Some(10)),
            append("job.finished", 1, None),
        ];
        let light = lighten(changes);
        let told: Vec<_> = light
            .iter()
            .filter_map(|change| {
                let Change::Append(record, line) = change else { return None };
                Some((record.seq, record.elided().map(|it| (it.first_seq, it.lines())), *line))
            })
            .collect();
        assert_eq!(
            told,
            [
                (1, None, None),
                (3, Some((2, 2)), Some(2)),
                (4, Some((4, 1)), Some(9)),
                (5, Some((5, 1)), Some(10)),
                (6, None, None),
            ]
        );
        assert_eq!(light.len(), 6, "what was acknowledged is written too");
    }
}
