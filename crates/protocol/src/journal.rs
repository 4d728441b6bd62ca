//! The journal's arithmetic: which frames are durable, and the hash chain over them.
//!
//! An agent writes what happened into its journal before it sends it, numbered 1, 2, 3, … without
//! gaps. Each record's hash covers the record before it, so equal hashes at one number mean equal
//! histories up to it. The manager applies a record in the transaction that moves its cursor, and
//! then acknowledges cumulatively; *acknowledged* means that the transaction was synced to disk.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
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
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
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
        let bytes =
            data_encoding::HEXLOWER.decode(text.as_bytes()).map_err(|_| "not lower-case hex")?;
        Ok(Self(bytes.as_slice().try_into().map_err(|_| "not 16 bytes")?))
    }
}

impl Serialize for ChainHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ChainHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
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
    /// Why: `agent_behind`, `journal_forked`, or `manager_behind` for a hole that only a restored
    /// manager can have.
    pub reason: crate::Code,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_depends_on_everything_before_it() {
        let one = ChainHash::START.next(1, "a", "{}");
        assert_ne!(one, ChainHash::START.next(2, "a", "{}"));
        assert_ne!(one, ChainHash::START.next(1, "b", "{}"));
        assert_ne!(one, ChainHash::START.next(1, "a", "{ }"));
        assert_ne!(one.next(2, "a", "{}"), ChainHash::START.next(2, "a", "{}"));
        assert_eq!(one.to_string().parse::<ChainHash>().unwrap(), one);
    }

    #[test]
    fn the_chain_is_fixed_for_ever() {
        let hash = ChainHash::START.next(1, kind::JOB_STARTED, r#"{"job_id":"x"}"#);
        assert_eq!(hash.to_string(), "be62437d9cecca70e9c3b68fda9d739b");
    }
}
