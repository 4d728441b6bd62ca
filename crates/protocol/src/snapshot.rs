//! Snapshots and repository facts: state that the agent reads from the repository, not events.

use crate::{
    RepositoryId,
    absent::{absent_when_year_one, empty_when_null},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One snapshot, as the manager shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The full id.
    pub id: String,
    /// The first eight digits of it.
    pub short_id: String,
    /// When it was taken, by the endpoint's clock.
    pub time: Timestamp,
    /// The host it was taken on.
    pub hostname: String,
    /// What was backed up.
    #[serde(default, deserialize_with = "empty_when_null")]
    pub paths: Vec<String>,
    /// Its tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Bytes of all files in it; absent where restic wrote no summary (before 0.17).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Number of files in it; absent likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_count: Option<u64>,
    /// Bytes that it added to the repository; absent likewise (since version 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added_bytes: Option<u64>,
}

/// The digest of a list of snapshots: the hex SHA-256 over the sorted full ids, a newline after
/// each. Equal digests mean equal lists.
#[must_use]
pub fn snapshots_digest<'a>(ids: impl IntoIterator<Item = &'a str>) -> String {
    let mut ids: Vec<&str> = ids.into_iter().collect();
    ids.sort_unstable();
    ids.dedup();
    let mut sha = Sha256::new();
    for id in ids {
        sha.update(id.as_bytes());
        sha.update(b"\n");
    }
    data_encoding::HEXLOWER.encode(&sha.finalize())
}

/// What the repository holds (`snapshots.report`).
///
/// Version 1 sends only `snapshots`, the whole list. From version 2 on a report is either a *digest*
/// (no `base`, `page` 0: "do we agree?"), a *delta* (`base` set: `snapshots` came and `removed` went
/// since that digest) or one *page* of the full list (`page` from 1), which replaces the old list
/// when the page with `last` has arrived. What does not fit is answered with `snapshots.want`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotsReport {
    /// The snapshots of this page or delta.
    #[serde(default, deserialize_with = "empty_when_null")]
    pub snapshots: Vec<Snapshot>,
    /// The repository (since version 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<RepositoryId>,
    /// When the repository was read, by the agent's clock; an older reading never replaces a newer
    /// one of the same host (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_at: Option<Timestamp>,
    /// The digest of the whole list (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The digest that a delta starts from (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Full ids that are gone (since 2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
    /// 1, 2, 3, … for a page of the full list (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
    /// Whether this is the last page (since 2).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub last: bool,
}

impl SnapshotsReport {
    /// The most snapshots on one page: at about 300 bytes each, well below the frame limit even
    /// with long path lists.
    pub const PAGE: usize = 500;
}

/// A lock in a repository: the evidence for whoever wants to remove it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockInfo {
    /// The lock's id.
    pub id: String,
    /// When it was taken or refreshed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// Whether it shuts everyone else out.
    #[serde(default)]
    pub exclusive: bool,
    /// Who holds it.
    #[serde(default)]
    pub hostname: String,
    /// As which user.
    #[serde(default)]
    pub username: String,
    /// By which process.
    #[serde(default)]
    pub pid: u32,
}

/// A repository's facts (`repo.stats`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RepoStats {
    /// Bytes that the repository takes.
    pub size_bytes: u64,
    /// Number of snapshots.
    pub snapshot_count: u64,
    /// Bytes of all snapshots' files, divided by `size_bytes`; 0 when unknown.
    pub dedup_ratio: f64,
    /// When a check last ended.
    #[serde(
        default,
        deserialize_with = "absent_when_year_one",
        skip_serializing_if = "Option::is_none"
    )]
    pub last_check_at: Option<Timestamp>,
    /// How it ended, such as `ok` or `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_check_status: Option<String>,
    /// `locked` or `unlocked`.
    pub lock_state: String,
    /// The repository (since version 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<RepositoryId>,
    /// When the facts were read, by the agent's clock (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_at: Option<Timestamp>,
    /// The locks that were there (since 2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locks: Vec<LockInfo>,
}
