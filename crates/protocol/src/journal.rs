//! The journal's arithmetic: which frames are durable, and the hash chain over them.
//!
//! An agent writes what happened into its journal before it sends it, numbered 1, 2, 3, … without
//! gaps. Each record's hash covers the record before it, so equal hashes at one number mean equal
//! histories up to it. The manager applies a record in the transaction that moves its cursor, and
//! then acknowledges cumulatively; *acknowledged* means that the transaction was synced to disk.
//!
//! Where log lines had to make room, one record stands for many: see [`JournalElided`].

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Visitor};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};

/// The frame types that come out of the journal.
pub mod kind {
    /// A run has begun.
    pub const JOB_STARTED: &str = "job.started";
    /// A run has ended; its outcome.
    pub const JOB_FINISHED: &str = "job.finished";
    /// A line of a run's log.
    pub const LOG_STREAM: &str = "log.stream";
    /// A generation of the desired state was applied.
    pub const SCHEDULE_ACK: &str = "schedule.ack";
    /// A time in which the agent was awake.
    pub const AGENT_AWAKE: &str = "agent.awake";
    /// A run that was due did not begin.
    pub const SLOT_DEFERRED: &str = "slot.deferred";
    /// A plan stands otherwise, and people are told.
    pub const ALARM_RAISED: &str = "alarm.raised";
    /// What became of telling them.
    pub const ALARM_DELIVERED: &str = "alarm.delivered";
    /// Records are missing before this one; says which and why.
    pub const JOURNAL_GAP: &str = "journal.gap";
    /// Lines of logs that had to make room; stands in the place of their records.
    pub const JOURNAL_ELIDED: &str = "journal.elided";
}

/// Whether frames of this type are journalled, numbered and acknowledged (from version 2 on).
#[must_use]
pub fn is_durable(frame_kind: &str) -> bool {
    matches!(
        frame_kind,
        kind::JOB_STARTED
            | kind::JOB_FINISHED
            | kind::LOG_STREAM
            | kind::SCHEDULE_ACK
            | kind::AGENT_AWAKE
            | kind::SLOT_DEFERRED
            | kind::ALARM_RAISED
            | kind::ALARM_DELIVERED
            | kind::JOURNAL_GAP
            | kind::JOURNAL_ELIDED
    )
}

/// The hash of a journal up to one record: the first 16 bytes of a SHA-256, as 32 lower-case hex
/// digits on the wire. It finds accidents (restored and cloned states), and is no signature.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChainHash([u8; 16]);

impl ChainHash {
    /// The hash before the first record.
    pub const START: ChainHash = ChainHash([0; 16]);

    /// The hash after one more record.
    #[must_use]
    pub fn next(self, seq: u64, frame_kind: &str, payload: &str) -> ChainHash {
        let mut sha = Sha256::new();
        sha.update(self.0);
        sha.update(seq.to_be_bytes());
        sha.update((frame_kind.len() as u64).to_be_bytes());
        sha.update(frame_kind.as_bytes());
        sha.update(payload.as_bytes());
        let digest = sha.finalize();
        let mut hash = [0; 16];
        hash.copy_from_slice(&digest[..16]);
        ChainHash(hash)
    }

    /// The bytes, for storage.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl From<[u8; 16]> for ChainHash {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<&[u8]> for ChainHash {
    type Error = std::array::TryFromSliceError;
    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self(bytes.try_into()?))
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        data_encoding::HEXLOWER.encode_display(&self.0).fmt(f)
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainHash({self})")
    }
}

impl FromStr for ChainHash {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut hash = [0; 16];
        if text.len() != 2 * hash.len() {
            return Err("not 16 bytes");
        }
        let read = data_encoding::HEXLOWER.decode_mut(text.as_bytes(), &mut hash);
        read.map_err(|_| "not lower-case hex")?;
        Ok(Self(hash))
    }
}

impl Serialize for ChainHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ChainHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(HashVisitor)
    }
}

/// Reads a hash where it stands: each record has one, and a copy of its text would be an allocation each.
struct HashVisitor;

impl Visitor<'_> for HashVisitor {
    type Value = ChainHash;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("16 bytes in lower-case hex")
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ChainHash, E> {
        text.parse().map_err(E::custom)
    }
}

/// Records that no longer exist: written as the first record of a new journal, and where the oldest
/// ones had to make room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalGap {
    /// The journal that the missing records belonged to.
    pub journal_id: crate::JournalId,
    /// The last number that is certain to be known on this side; what came after it may be missing.
    pub after_seq: u64,
    /// Why: `agent_behind`, `journal_forked`, `journal_damaged`, or `manager_behind` for a hole that
    /// only a restored manager can have.
    pub reason: crate::Code,
}

/// Lines of one run that were left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElidedLines {
    /// The run.
    pub job_id: crate::RunId,
    /// The first line that is missing.
    pub first_line: u64,
    /// The last one.
    pub last_line: u64,
}

impl ElidedLines {
    /// How many lines these are; none where the numbers make no sense.
    #[must_use]
    pub fn count(&self) -> Option<u64> {
        let is_range = self.first_line > 0 && self.first_line <= self.last_line;
        is_range.then(|| self.last_line - self.first_line)?.checked_add(1)
    }
}

/// Lines of logs that had to make room. It stands in the place of the records of these lines, all of
/// them and nothing else: its own number is that of the last of them, and its hash is the journal's
/// after that one, so the chain goes on behind it as it always did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalElided {
    /// The number of the first record that it stands for.
    pub first_seq: u64,
    /// When the last of the lines was written.
    pub ts: Timestamp,
    /// Which lines.
    pub runs: Vec<ElidedLines>,
}

impl JournalElided {
    /// The most ranges of lines that one record names.
    pub const MAX_RUNS: usize = 64;

    /// A line that is left out.
    #[must_use]
    pub fn line(job_id: crate::RunId, seq: u64, line: u64, ts: Timestamp) -> Self {
        let lines = ElidedLines { job_id, first_line: line, last_line: line };
        Self { first_seq: seq, ts, runs: vec![lines] }
    }

    /// What a record stands for, if it is such a record and its lines are as many as its numbers. One
    /// that does not count is like any other record that cannot be understood.
    #[must_use]
    pub fn read(seq: u64, frame_kind: &str, payload: &str) -> Option<Self> {
        if frame_kind != kind::JOURNAL_ELIDED {
            return None;
        }
        let elided: Self = serde_json::from_str(payload).ok()?;
        elided.counts(seq).then_some(elided)
    }

    /// The first number that a record takes: its own, unless it stands for many.
    #[must_use]
    pub fn first_of(seq: u64, frame_kind: &str, payload: &str) -> u64 {
        Self::read(seq, frame_kind, payload).map_or(seq, |elided| elided.first_seq)
    }

    /// Whether its lines are as many as the records from its first number to its own.
    #[must_use]
    pub fn counts(&self, seq: u64) -> bool {
        let lines = self
            .runs
            .iter()
            .try_fold(0_u64, |sum, run| sum.checked_add(run.count()?))
            .filter(|_| self.runs.len() <= Self::MAX_RUNS);
        let records = seq.checked_sub(self.first_seq).and_then(|more| more.checked_add(1));
        self.first_seq > 0 && lines.is_some() && lines == records
    }

    /// How many lines are left out, and with that how many records it stands for.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.runs.iter().filter_map(ElidedLines::count).sum()
    }

    /// Takes in what stands directly behind it. Says whether there was room.
    #[must_use]
    pub fn extend(&mut self, next: &Self) -> bool {
        let mut runs = self.runs.clone();
        for more in &next.runs {
            let before = runs.iter_mut().rev().find(|run| run.job_id == more.job_id);
            match before {
                Some(run) if run.last_line.checked_add(1) == Some(more.first_line) => {
                    run.last_line = more.last_line;
                }
                Some(_) | None => runs.push(*more),
            }
        }
        if runs.len() > Self::MAX_RUNS {
            return false;
        }
        self.runs = runs;
        self.ts = next.ts;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn the_hash_depends_on_everything_before_it() {
        let one = ChainHash::START.next(1, "a", "{}");
        assert_ne!(one, ChainHash::START.next(2, "a", "{}"));
        assert_ne!(one, ChainHash::START.next(1, "b", "{}"));
        assert_ne!(one, ChainHash::START.next(1, "a", "{ }"));
        assert_ne!(one.next(2, "a", "{}"), ChainHash::START.next(2, "a", "{}"));
        assert_eq!(one.to_string().parse::<ChainHash>().unwrap(), one);
    }

    fn run(n: u8) -> crate::RunId {
        crate::RunId::new(u64::from(n), &[n; 10])
    }

    #[test]
    fn an_elision_that_does_not_count_is_none() {
        let counts = |first_seq, seq, lines: &[(u64, u64)]| {
            let runs = lines.iter().map(|&(first_line, last_line)| ElidedLines {
                job_id: run(1),
                first_line,
                last_line,
            });
            let runs = runs.collect();
            JournalElided { first_seq, ts: Timestamp::UNIX_EPOCH, runs }.counts(seq)
        };
        assert!(
            counts(5, 9, &[(1, 5)]) && counts(5, 9, &[(1, 2), (8, 10)]) && counts(9, 9, &[(3, 3)])
        );
        assert!(!counts(5, 9, &[(1, 4)]) && !counts(5, 9, &[(1, 6)]) && !counts(5, 9, &[]));
        assert!(!counts(0, 4, &[(1, 5)]), "no record has the number 0");
        assert!(!counts(5, 9, &[(0, 4)]), "no line has the number 0");
        assert!(!counts(5, 9, &[(9, 5)]) && !counts(10, 9, &[]));
        assert!(!counts(1, u64::MAX, &[(1, u64::MAX), (1, u64::MAX)]));
        assert!(counts(1, u64::MAX, &[(1, u64::MAX)]));
        assert!(!counts(1, 65, &[(1, 1); 65]), "it names too many");
    }

    proptest! {
        /// However lines of several runs are mixed and wherever the records are put together, the lines
        /// that are named are those that were written, and they count.
        #[test]
        fn elisions_that_are_put_together_name_each_line_once(
            whose in prop::collection::vec(1..5_u8, 1..60),
            cuts in prop::collection::vec(any::<bool>(), 60),
            first in 1..1_000_u64,
        ) {
            let mut next = BTreeMap::new();
            let mut pieces: Vec<(u64, JournalElided)> = Vec::new();
            let mut written = BTreeSet::new();
            for (seq, who) in (first..).zip(whose) {
                let line = next.entry(who).and_modify(|line| *line += 1).or_insert(7_u64);
                written.insert((run(who), *line));
                let one = JournalElided::line(run(who), seq, *line, Timestamp::UNIX_EPOCH);
                prop_assert!(one.counts(seq));
                let before = pieces.last_mut().filter(|_| !cuts[written.len() - 1]);
                if let Some((last, piece)) = before
                    && piece.extend(&one)
                {
                    *last = seq;
                } else {
                    pieces.push((seq, one));
                }
            }
            let mut expected = first;
            let mut named = BTreeSet::new();
            for (seq, piece) in pieces {
                let text = serde_json::to_string(&piece).unwrap();
                let read = JournalElided::read(seq, kind::JOURNAL_ELIDED, &text);
                prop_assert_eq!(read, Some(piece.clone()));
                prop_assert_eq!(JournalElided::read(seq + 1, kind::JOURNAL_ELIDED, &text), None);
                prop_assert_eq!(JournalElided::read(seq, kind::LOG_STREAM, &text), None);
                prop_assert_eq!(piece.first_seq, expected);
                expected = seq + 1;
                for run in &piece.runs {
                    for line in run.first_line..=run.last_line {
                        prop_assert!(named.insert((run.job_id, line)), "a line is named twice");
                    }
                }
            }
            prop_assert_eq!(named, written);
        }
    }

    #[test]
    fn the_chain_is_fixed_for_ever() {
        let hash = ChainHash::START.next(1, kind::JOB_STARTED, r#"{"job_id":"x"}"#);
        assert_eq!(hash.to_string(), "be62437d9cecca70e9c3b68fda9d739b");
    }
}
