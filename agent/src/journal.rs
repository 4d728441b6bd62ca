//! The journal's arithmetic on this side: numbering, chaining, and the window of records that are
//! on their way to the manager.
//!
//! ```text
//!   first            acked              sent           durable          head
//!     │ kept for a     │  on their way    │  on this      │  being         │
//!     │ rebuilt manager│  (the window)    │  disk         │  written       │
//! ```
//!
//! Nothing is sent that is not on the disk, and the window holds the sender back, so that a slow
//! manager costs the agent no memory. The records themselves are in the store.

mod elision;

pub use elision::{Line, Turn, elide};

use jiff::Timestamp;
use protocol::{
    JournalId, JournalState, RunId,
    journal::{ChainHash, JournalElided},
};
use std::collections::VecDeque;

/// The most records that are on their way at once.
pub const WINDOW_RECORDS: usize = 256;

/// The most bytes that are on their way at once; one record always fits.
pub const WINDOW_BYTES: usize = 512 * 1024;

/// One record of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub seq: u64,
    /// The frame's type.
    pub kind: String,
    /// The frame's payload, byte for byte.
    pub payload: String,
    /// The hash after it.
    pub hash: ChainHash,
    /// The run it belongs to.
    pub run_id: Option<RunId>,
    /// When it was written.
    pub at: Timestamp,
}

impl Record {
    /// The lines that it stands for, where these had to make room.
    #[must_use]
    pub fn elided(&self) -> Option<JournalElided> {
        JournalElided::read(self.seq, &self.kind, &self.payload)
    }
}

/// Records behind the newest that is acknowledged whose hashes stay when they make room: many times as many as
/// may be on their way to the manager, so that it stands at one of them, unless it heard of others of this
/// journal than were written here.
pub const HASHES_LEFT: u64 = 4_096;

/// What the store knows of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The hash after it.
    Hash(ChainHash),
    /// It had to make room, together with one after it, and nothing is left to compare.
    LeftOut,
    /// There is no such record.
    Nothing,
}

/// Where the journal stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    id: JournalId,
    first: u64,
    base_hash: ChainHash,
    head: u64,
    head_hash: ChainHash,
    acked: u64,
    durable: u64,
    sent: u64,
    /// Numbers and sizes of the records between `acked` and `sent`.
    window: VecDeque<(u64, usize)>,
    is_fetching: bool,
}

/// Records that may be fetched from the store and sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Records after this number.
    pub after: u64,
    /// Up to and including this one.
    pub up_to: u64,
    /// At most so many.
    pub records: usize,
    /// At most so many bytes, except for the first record.
    pub bytes: usize,
}

/// How a manager's cursor fits this journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The hash before the next record to send is this one; the manager's must be equal.
    Known(ChainHash),
    /// The record's hash has to be looked up in the store.
    LookUp,
    /// The manager has records that are not here: this state is an older copy.
    AgentBehind,
    /// Records between the cursor and the oldest one here are gone.
    Hole,
}

impl Journal {
    /// The journal as the store holds it: all of it is durable, nothing is on its way.
    #[must_use]
    pub fn new(state: &JournalState) -> Self {
        Self {
            id: state.id,
            first: state.first,
            base_hash: state.base_hash,
            head: state.head,
            head_hash: state.head_hash,
            acked: state.acked,
            durable: state.head,
            sent: state.acked,
            window: VecDeque::new(),
            is_fetching: false,
        }
    }

    /// An empty journal.
    #[must_use]
    pub fn empty(id: JournalId) -> JournalState {
        JournalState {
            id,
            first: 1,
            base_hash: ChainHash::START,
            head: 0,
            head_hash: ChainHash::START,
            acked: 0,
        }
    }

    /// What `hello` says of the journal.
    #[must_use]
    pub fn state(&self) -> JournalState {
        JournalState {
            id: self.id,
            first: self.first,
            base_hash: self.base_hash,
            head: self.head,
            head_hash: self.head_hash,
            acked: self.acked,
        }
    }

    /// The journal's identifier.
    #[must_use]
    pub fn id(&self) -> JournalId {
        self.id
    }

    /// The newest record that the manager has acknowledged.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// The newest record.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Numbers and chains the next record.
    pub fn append(
        &mut self,
        kind: &str,
        payload: String,
        run_id: Option<RunId>,
        at: Timestamp,
    ) -> Record {
        self.head += 1;
        self.head_hash = self.head_hash.next(self.head, kind, &payload);
        Record { seq: self.head, kind: kind.to_owned(), payload, hash: self.head_hash, run_id, at }
    }

    /// Numbers and chains a record of another journal anew. One that stands for many takes as many
    /// numbers as before.
    pub fn adopt(&mut self, record: Record) -> Record {
        let Some(elided) = record.elided() else {
            return self.append(&record.kind, record.payload, record.run_id, record.at);
        };
        let elided = JournalElided { first_seq: self.head + 1, ..elided };
        let payload = serde_json::to_string(&elided).unwrap_or(record.payload);
        self.head += elided.lines();
        self.head_hash = self.head_hash.next(self.head, &record.kind, &payload);
        Record { seq: self.head, payload, hash: self.head_hash, ..record }
    }

    /// Everything up to this record is on the disk.
    pub fn committed(&mut self, seq: u64) {
        self.durable = self.durable.max(seq.min(self.head));
    }

    /// The oldest records were removed from the store.
    pub fn pruned(&mut self, first: u64, base_hash: ChainHash) {
        self.first = first;
        self.base_hash = base_hash;
    }

    /// How the manager's cursor fits.
    #[must_use]
    pub fn fit(&self, seq: u64) -> Fit {
        if seq > self.head {
            Fit::AgentBehind
        } else if seq == self.head {
            Fit::Known(self.head_hash)
        } else if seq + 1 == self.first {
            Fit::Known(self.base_hash)
        } else if seq + 1 < self.first {
            Fit::Hole
        } else {
            Fit::LookUp
        }
    }

    /// A connection opened on which the manager has everything up to this record; without a number
    /// it has nothing.
    pub fn resume(&mut self, cursor: Option<u64>) {
        let cursor = cursor.unwrap_or(0).max(self.first - 1);
        self.acked = cursor;
        self.sent = cursor;
        self.window.clear();
        self.is_fetching = false;
    }

    /// The manager acknowledged everything up to this record. Says whether that was news; a number
    /// that was never sent is none.
    pub fn acknowledge(&mut self, seq: u64) -> bool {
        if seq <= self.acked || seq > self.sent {
            return false;
        }
        self.acked = seq;
        while self.window.front().is_some_and(|&(number, _)| number <= seq) {
            self.window.pop_front();
        }
        true
    }

    /// Room in the window for records that are on the disk; taken until [`Journal::sending`].
    pub fn take_room(&mut self) -> Option<Room> {
        let bytes: usize = self.window.iter().map(|&(_, size)| size).sum();
        let records = WINDOW_RECORDS.saturating_sub(self.window.len());
        // Small gaps are left to grow: fetching records one by one would cost more than it brings.
        let has_room = self.window.is_empty()
            || (records >= WINDOW_RECORDS / 8 && bytes <= WINDOW_BYTES / 8 * 7);
        if self.is_fetching || self.sent >= self.durable || !has_room {
            return None;
        }
        self.is_fetching = true;
        Some(Room {
            after: self.sent,
            up_to: self.durable,
            records,
            bytes: WINDOW_BYTES.saturating_sub(bytes),
        })
    }

    /// These records were fetched and go out now. Those that do not continue what was sent are left
    /// out: the connection changed meanwhile. One that stands for many may begin before: a part of
    /// them may have been sent when it was whole.
    pub fn sending(&mut self, records: Vec<Record>) -> Vec<Record> {
        self.is_fetching = false;
        records
            .into_iter()
            .filter(|record| {
                let first = JournalElided::first_of(record.seq, &record.kind, &record.payload);
                let is_next = first <= self.sent + 1 && record.seq > self.sent;
                if is_next {
                    self.sent = record.seq;
                    self.window.push_back((record.seq, record.payload.len()));
                }
                is_next
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn id(n: u8) -> JournalId {
        JournalId::new(u64::from(n), &[n; 10])
    }

    fn fetch(disk: &BTreeMap<u64, Record>, room: Room) -> Vec<Record> {
        let mut bytes = 0;
        disk.range(room.after + 1..=room.up_to)
            .take(room.records)
            .take_while(|(_, record)| {
                let is_first = bytes == 0;
                bytes += record.payload.len();
                is_first || bytes <= room.bytes
            })
            .map(|(_, record)| record.clone())
            .collect()
    }

    #[test]
    fn nothing_goes_out_before_it_is_on_the_disk() {
        let mut journal = Journal::new(&Journal::empty(id(1)));
        let record = journal.append("a", "{}".to_owned(), None, Timestamp::UNIX_EPOCH);
        assert_eq!(journal.take_room(), None);
        journal.committed(record.seq);
        assert_eq!(journal.take_room().map(|room| room.up_to), Some(1));
    }

    #[test]
    fn an_acknowledgement_of_what_was_never_sent_is_none() {
        let mut journal = Journal::new(&Journal::empty(id(1)));
        journal.append("a", "{}".to_owned(), None, Timestamp::UNIX_EPOCH);
        assert!(!journal.acknowledge(1));
        assert_eq!(journal.acked(), 0);
    }

    #[test]
    fn a_cursor_is_compared_where_the_hash_is() {
        let mut state = Journal::empty(id(1));
        state.first = 5;
        state.head = 9;
        state.base_hash = ChainHash::from([5; 16]);
        state.head_hash = ChainHash::from([9; 16]);
        let journal = Journal::new(&state);
        assert_eq!(journal.fit(9), Fit::Known(ChainHash::from([9; 16])));
        assert_eq!(journal.fit(4), Fit::Known(ChainHash::from([5; 16])));
        assert_eq!(journal.fit(5), Fit::LookUp);
        assert_eq!(journal.fit(3), Fit::Hole);
        assert_eq!(journal.fit(10), Fit::AgentBehind);
    }

    #[test]
    fn what_had_to_make_room_after_it_was_sent_in_part_is_sent_as_a_whole() {
        let mut journal = Journal::new(&Journal::empty(id(1)));
        let run = RunId::new(1, &[1; 10]);
        for _ in 0..6 {
            journal.append("log.stream", "{}".to_owned(), Some(run), Timestamp::UNIX_EPOCH);
        }
        journal.committed(6);
        journal.resume(Some(3));
        let mut elided = JournalElided::line(run, 2, 1, Timestamp::UNIX_EPOCH);
        elided.runs[0].last_line = 4;
        let record = Record {
            seq: 5,
            kind: "journal.elided".to_owned(),
            payload: serde_json::to_string(&elided).unwrap(),
            hash: ChainHash::from([5; 16]),
            run_id: Some(run),
            at: Timestamp::UNIX_EPOCH,
        };
        assert_eq!(journal.take_room().map(|room| room.after), Some(3));
        let sent = journal.sending(vec![record.clone(), record.clone()]);
        assert_eq!(sent, std::slice::from_ref(&record));
        assert!(journal.acknowledge(5));
        // In another journal it takes as many numbers, and still counts.
        let mut other = Journal::new(&Journal::empty(id(2)));
        other.append("a", "{}".to_owned(), None, Timestamp::UNIX_EPOCH);
        let adopted = other.adopt(record);
        assert_eq!((adopted.seq, other.head()), (5, 5));
        assert_eq!(adopted.elided().map(|it| (it.first_seq, it.lines())), Some((2, 4)));
        let next = other.append("b", "{}".to_owned(), None, Timestamp::UNIX_EPOCH);
        assert_eq!(next.hash, adopted.hash.next(6, "b", "{}"));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Append(usize),
        Commit,
        Deliver,
        Acknowledge(u64),
        Reconnect,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..200_000_usize).prop_map(Step::Append),
            Just(Step::Commit),
            Just(Step::Deliver),
            (0..400_u64).prop_map(Step::Acknowledge),
            Just(Step::Reconnect),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order, the manager sees each record once per connection, in
        /// order and chained, never more than the window, and in the end all of them.
        #[test]
        fn the_manager_gets_every_record_in_order(steps in prop::collection::vec(step(), 1..300)) {
            let mut journal = Journal::new(&Journal::empty(id(1)));
            let mut disk = BTreeMap::new();
            let mut written = Vec::new();
            let mut manager: Vec<Record> = Vec::new();
            let finish = (0..2_000).flat_map(|_| [Step::Commit, Step::Deliver, Step::Acknowledge(u64::MAX)]);
            for step in steps.into_iter().chain(finish) {
                match step {
                    Step::Append(size) => {
                        let text = "x".repeat(size);
                        written.push(journal.append("log.stream", text, None, Timestamp::UNIX_EPOCH));
                    }
                    Step::Commit => {
                        disk.extend(written.drain(..).map(|record| (record.seq, record)));
                        journal.committed(journal.head());
                    }
                    Step::Deliver => {
                        let Some(room) = journal.take_room() else { continue };
                        let fetched = fetch(&disk, room);
                        prop_assert!(!fetched.is_empty());
                        manager.extend(journal.sending(fetched));
                        prop_assert!(journal.window.len() <= WINDOW_RECORDS);
                    }
                    Step::Acknowledge(seq) => {
                        let seq = seq.min(manager.last().map_or(0, |record| record.seq));
                        journal.acknowledge(seq);
                    }
                    Step::Reconnect => journal.resume(manager.last().map(|record| record.seq)),
                }
            }
            prop_assert_eq!(manager.len() as u64, journal.head());
            let mut hash = ChainHash::START;
            for (n, record) in manager.iter().enumerate() {
                prop_assert_eq!(record.seq, n as u64 + 1);
                hash = hash.next(record.seq, &record.kind, &record.payload);
                prop_assert_eq!(hash, record.hash);
            }
            prop_assert_eq!(journal.acked(), journal.head());
        }
    }
}
