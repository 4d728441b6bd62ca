//! The tree of a snapshot, one folder at a time: asked for by the manager when a person opens a
//! folder, answered once, and lost with the connection. What a snapshot holds never changes, so the
//! manager keeps the answers.

use crate::{Problem, RepositoryId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What is in this folder? (`tree.want`, since version 2.)
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TreeWant {
    /// The repository.
    pub repository_id: RepositoryId,
    /// The full id of the snapshot.
    pub snapshot_id: String,
    /// The folder's absolute path inside the snapshot, `/` for its root.
    pub path: String,
}

/// One page of the answer (`tree.report`, since version 2): entries, or why there are none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeReport {
    /// The question.
    #[serde(flatten)]
    pub want: TreeWant,
    /// 1, 2, 3, …
    pub page: u32,
    /// Whether this is the last page.
    pub last: bool,
    /// The entries of this page, in restic's order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<TreeEntry>,
    /// Why the folder could not be listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// Something in a folder of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeEntry {
    /// Its name. Bytes that are not UTF-8 stand as U+FFFD in it.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes; files only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// When its content last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified_at: Option<Timestamp>,
    /// Its rights as `ls -l` shows them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub permissions: String,
}

/// What an entry of a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A folder.
    Dir,
    /// A file.
    File,
    /// A symbolic link.
    Symlink,
    /// A device, a socket and the like.
    #[serde(other)]
    Other,
}

impl EntryKind {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dir => "dir",
            Self::File => "file",
            Self::Symlink => "symlink",
            Self::Other => "other",
        }
    }
}
