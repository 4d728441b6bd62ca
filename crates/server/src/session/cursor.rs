//! Which record of a journal comes next.

use protocol::journal::{ChainHash, JournalElided};

/// A record as it came.
#[derive(Clone, Copy, Debug)]
pub struct Offered<'a> {
    /// Its number.
    pub seq: u64,
    /// The journal's hash after it, as the agent says.
    pub hash: ChainHash,
    /// Its type.
    pub kind: &'a str,
    /// Its content, byte for byte.
    pub payload: &'a str,
}

/// What a record is to the manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It is the next one: apply it, the cursor moved on to it.
    Next,
    /// It lies behind the cursor; compare its hash with the one that was kept.
    Behind,
    /// Records before it are missing.
    Gap,
    /// Its hash does not continue the journal that the manager has.
    Forked,
}

/// The newest record that the manager has of one journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Its number, 0 for none.
    pub seq: u64,
    /// The journal's hash after it.
    pub hash: ChainHash,
}

impl Position {
    /// Looks at a record and moves on if it is the next one. One that stands for many is that if it
    /// begins there or before: a part of what had to make room may have come when it was whole. What it
    /// stands for cannot be hashed any more, so its hash is taken as it is.
    pub fn offer(&mut self, record: &Offered<'_>) -> Offer {
        if record.seq <= self.seq {
            return Offer::Behind;
        }
        let elided = JournalElided::read(record.seq, record.kind, record.payload);
        let first = elided.as_ref().map_or(record.seq, |elided| elided.first_seq);
        if self.seq.checked_add(1).is_none_or(|next| first > next) {
            return Offer::Gap;
        }
        if elided.is_none()
            && self.hash.next(record.seq, record.kind, record.payload) != record.hash
        {
            return Offer::Forked;
        }
        *self = Self { seq: record.seq, hash: record.hash };
        Offer::Next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn journal(payloads: &[String]) -> Vec<(u64, ChainHash, String)> {
        let mut hash = ChainHash::START;
        (1..)
            .zip(payloads)
            .map(|(seq, payload)| {
                hash = hash.next(seq, "log.stream", payload);
                (seq, hash, payload.clone())
            })
            .collect()
    }

    fn offer(position: &mut Position, record: &(u64, ChainHash, String)) -> Offer {
        let (seq, hash, payload) = record;
        position.offer(&Offered { seq: *seq, hash: *hash, kind: "log.stream", payload })
    }

    const START: Position = Position { seq: 0, hash: ChainHash::START };

    proptest! {
        #[test]
        fn whatever_order_records_come_in_each_is_taken_once_and_in_order(
            payloads in proptest::collection::vec("[a-c]{0,3}", 1..12),
            order in proptest::collection::vec(0usize..12, 0..60),
        ) {
            let records = journal(&payloads);
            let mut position = START;
            let mut taken = Vec::new();
            for at in order {
                let Some(record) = records.get(at) else { continue };
                let before = position;
                match offer(&mut position, record) {
                    Offer::Next => taken.push(record.0),
                    Offer::Behind => prop_assert!(record.0 <= before.seq),
                    Offer::Gap => prop_assert!(record.0 > before.seq + 1),
                    Offer::Forked => prop_assert!(false, "an honest record is no fork"),
                }
            }
            let expected: Vec<u64> = (1..=u64::try_from(taken.len()).unwrap()).collect();
            prop_assert_eq!(taken, expected);
        }

        #[test]
        fn a_journal_that_differs_before_the_cursor_is_a_fork_at_its_next_record(
            payloads in proptest::collection::vec("[a-c]{0,3}", 2..8),
            at in 0usize..7,
        ) {
            prop_assume!(at + 1 < payloads.len());
            let mut other = payloads.clone();
            other[at].push('x');
            let (ours, theirs) = (journal(&payloads), journal(&other));
            let mut position = START;
            for record in &ours[..=at] {
                prop_assert_eq!(offer(&mut position, record), Offer::Next);
            }
            let before = position;
            prop_assert_eq!(offer(&mut position, &theirs[at + 1]), Offer::Forked);
            prop_assert_eq!(position, before);
        }
    }

    #[test]
    fn a_record_that_stands_for_many_is_taken_where_it_begins_or_in_its_middle() {
        let records = journal(&["a", "b", "c", "d", "e"].map(str::to_owned));
        let elided = |first_seq: u64, lines: u64| {
            let run = protocol::RunId::new(1, &[1; 10]);
            let ts = jiff::Timestamp::UNIX_EPOCH;
            let mut elided = JournalElided::line(run, first_seq, 1, ts);
            elided.runs[0].last_line = lines;
            serde_json::to_string(&elided).unwrap()
        };
        // It stands for the records 2 to 4.
        let text = elided(2, 3);
        let offered =
            Offered { seq: 4, hash: records[3].1, kind: "journal.elided", payload: &text };
        for before in [2, 3, 1] {
            let mut position = START;
            for record in &records[..before] {
                assert_eq!(offer(&mut position, record), Offer::Next);
            }
            assert_eq!(position.offer(&offered), Offer::Next);
            assert_eq!(position, Position { seq: 4, hash: records[3].1 });
            assert_eq!(position.offer(&offered), Offer::Behind);
            assert_eq!(offer(&mut position, &records[4]), Offer::Next);
        }
        assert_eq!(START.clone().offer(&offered), Offer::Gap);
        // One that does not count is a record like any other, and its hash is wrong.
        let mut position = Position { seq: 3, hash: records[2].1 };
        let text = elided(2, 2);
        assert_eq!(position.offer(&Offered { payload: &text, ..offered }), Offer::Forked);
    }

    #[test]
    fn the_last_number_there_is_does_not_wrap() {
        let mut position = Position { seq: u64::MAX, hash: ChainHash::START };
        let record = (u64::MAX, ChainHash::START, String::new());
        assert_eq!(offer(&mut position, &record), Offer::Behind);
    }
}
