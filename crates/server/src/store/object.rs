//! What lies in a repository: restic's own layout, which is fixed (restic's design document,
//! "Repository Format").

use std::path::{Path, PathBuf};

/// A folder of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Packs of blobs.
    Data,
    /// Which blob is in which pack.
    Index,
    /// What a password opens the master key with.
    Keys,
    /// Who is at it.
    Locks,
    /// Snapshots.
    Snapshots,
}

/// All kinds.
pub const KINDS: [Kind; 5] = [Kind::Data, Kind::Index, Kind::Keys, Kind::Locks, Kind::Snapshots];

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

impl Kind {
    /// The name of the folder.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Index => "index",
            Self::Keys => "keys",
            Self::Locks => "locks",
            Self::Snapshots => "snapshots",
        }
    }

    /// The kind whose folder has this name.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        KINDS.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// The name of a file: the SHA-256 of its content, as 64 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(String);

impl Name {
    /// The name, if it is one. Nothing else ever becomes part of a path.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 64 && text.bytes().all(is_hex)).then(|| Self(text.to_owned()))
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Object {
    /// The configuration. There is one, and its name says nothing of its content.
    Config,
    /// A file whose name is the hash of its content.
    File(Kind, Name),
}

impl Object {
    /// Where it lies below its repository.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Config => PathBuf::from("config"),
            Self::File(Kind::Data, name) => {
                Path::new("data").join(&name.as_str()[..2]).join(name.as_str())
            }
            Self::File(kind, name) => Path::new(kind.as_str()).join(name.as_str()),
        }
    }

    /// How many bytes it may have. restic's packs end at 128 MiB and what was begun before, its full
    /// indexes have about 8 MiB, and a snapshot names its paths; the rest is a few hundred bytes.
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        match self {
            Self::File(Kind::Data, _) => 512 * MIB,
            Self::File(Kind::Index, _) => 128 * MIB,
            Self::File(Kind::Snapshots, _) => 16 * MIB,
            Self::Config | Self::File(Kind::Keys | Kind::Locks, _) => 64 * KIB,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hashes_are_names() {
        let good = "0123456789abcdef".repeat(4);
        assert!(Name::parse(&good).is_some());
        let long = format!("{good}0");
        let dots = format!("../{}", &good[3..]);
        for bad in ["", "config", &good[1..], &long, &good.to_uppercase(), &dots] {
            assert!(Name::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn files_lie_where_restic_looks_for_them() {
        let name = Name::parse(&"ab".repeat(32)).unwrap();
        let path = |kind| Object::File(kind, name.clone()).path();
        assert_eq!(path(Kind::Data), Path::new("data/ab").join("ab".repeat(32)));
        assert_eq!(path(Kind::Locks), Path::new("locks").join("ab".repeat(32)));
        assert_eq!(Object::Config.path(), Path::new("config"));
        for kind in KINDS {
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        }
    }
}
