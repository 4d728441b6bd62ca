//! Which effect comes next, and what must be on the disk before it.

use super::{Change, Effect};
use std::collections::VecDeque;

/// The effects that are to be carried out, and the changes that are to be written.
#[derive(Debug, Default)]
pub struct Agenda {
    effects: VecDeque<Effect>,
    pending: Vec<Change>,
}

/// What is to be done next.
#[derive(Debug)]
pub enum Next {
    /// Write what is pending, by [`Agenda::take_pending`], and wait until it is on the disk.
    Commit,
    /// Carry this out.
    CarryOut(Effect),
}

impl Agenda {
    /// Adds effects behind those that are there.
    pub fn add(&mut self, effects: impl IntoIterator<Item = Effect>) {
        self.effects.extend(effects);
    }

    /// What is to be done next. Nothing depends any more on what is still pending when this is `None`:
    /// it may wait a moment for others.
    pub fn poll_next(&mut self) -> Option<Next> {
        while let Some(effect) = self.effects.pop_front() {
            if let Effect::Store(change) = effect {
                self.pending.push(change);
                continue;
            }
            if self.can_wait() {
                return Some(Next::CarryOut(effect));
            }
            self.effects.push_front(effect);
            return Some(Next::Commit);
        }
        (!self.can_wait()).then_some(Next::Commit)
    }

    /// The changes that are not written yet, in their order, and the newest record among them.
    pub fn take_pending(&mut self) -> (Vec<Change>, Option<u64>) {
        let changes = std::mem::take(&mut self.pending);
        let head = changes.iter().rev().find_map(|change| match change {
            Change::Append(record, _) => Some(record.seq),
            Change::Acked(_)
            | Change::Run(_)
            | Change::Numbers { .. }
            | Change::Incarnation(_)
            | Change::Epoch(_)
            | Change::Ticket(_)
            | Change::View(..)
            | Change::Mark(..)
            | Change::Awake(_)
            | Change::ToldZone(_)
            | Change::PlanAlarm(..)
            | Change::Delivery(..) => None,
        });
        (changes, head)
    }

    /// Whether changes wait to be written.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    fn can_wait(&self) -> bool {
        self.pending.iter().all(Change::can_wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Redial;
    use jiff::Timestamp;
    use protocol::{JournalId, RunId};

    fn record(seq: u64, line: Option<u64>) -> Effect {
        let mut journal = crate::journal::Journal::new(&crate::journal::Journal::empty(
            JournalId::new(1, &[1; 10]),
        ));
        let mut record = journal.append(
            "a",
            "{}".to_owned(),
            Some(RunId::new(1, &[1; 10])),
            Timestamp::UNIX_EPOCH,
        );
        record.seq = seq;
        Effect::Store(Change::Append(record, line))
    }

    fn act() -> Effect {
        Effect::Disconnect { redial: Redial::Now, problem: None }
    }

    #[test]
    fn what_must_not_be_forgotten_is_written_before_what_follows_from_it() {
        let mut agenda = Agenda::default();
        agenda.add([record(1, None), act(), record(2, None)]);
        assert!(matches!(agenda.poll_next(), Some(Next::Commit)));
        assert_eq!(agenda.take_pending().1, Some(1));
        assert!(matches!(agenda.poll_next(), Some(Next::CarryOut(_))));
        assert!(matches!(agenda.poll_next(), Some(Next::Commit)));
        assert_eq!(agenda.take_pending().1, Some(2));
        assert!(agenda.poll_next().is_none());
    }

    #[test]
    fn log_lines_hold_nothing_up_and_are_written_with_what_comes_next() {
        let mut agenda = Agenda::default();
        agenda.add([record(1, Some(1)), act()]);
        assert!(matches!(agenda.poll_next(), Some(Next::CarryOut(_))));
        assert!(agenda.poll_next().is_none());
        assert!(agenda.has_pending());
        agenda.add([record(2, None)]);
        assert!(matches!(agenda.poll_next(), Some(Next::Commit)));
        let (changes, head) = agenda.take_pending();
        assert_eq!((changes.len(), head), (2, Some(2)));
    }
}
