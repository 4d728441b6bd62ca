//! Checks of what callers ask for, before anything is started.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The id of a snapshot: 4 to 64 lower-case hex digits, the first of its full id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotId(String);

impl SnapshotId {
    /// Reads an id.
    ///
    /// # Errors
    /// [`FailureKind::InvalidRequest`](crate::FailureKind::InvalidRequest) for anything else, also
    /// for `latest`: which snapshot that is may change between two calls.
    pub fn new(id: impl Into<String>) -> Result<Self, Failure> {
        let id = id.into();
        let is_hex = id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if is_hex && (4..=64).contains(&id.len()) {
            Ok(Self(id))
        } else {
            Err(Failure::invalid(format!("{id:?} is not a snapshot id")))
        }
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether these are all 64 digits, so that it names one snapshot at most.
    pub fn is_full(&self) -> bool {
        self.0.len() == 64
    }
}

impl TryFrom<String> for SnapshotId {
    type Error = Failure;

    fn try_from(id: String) -> Result<Self, Failure> {
        Self::new(id)
    }
}

impl From<SnapshotId> for String {
    fn from(id: SnapshotId) -> Self {
        id.0
    }
}

impl AsRef<std::ffi::OsStr> for SnapshotId {
    fn as_ref(&self) -> &std::ffi::OsStr {
        self.0.as_ref()
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// restic splits tags at commas, and takes an empty tag for "no tags at all".
pub(crate) fn check_tags(tags: &[String]) -> Result<(), Failure> {
    for tag in tags {
        check_text("a tag", tag)?;
        if tag.contains(',') {
            return Err(Failure::invalid(format!("the tag {tag:?} contains a comma")));
        }
        if tag.trim() != tag {
            return Err(Failure::invalid(format!("the tag {tag:?} begins or ends with a blank")));
        }
    }
    Ok(())
}

/// Texts that become part of an argument.
pub(crate) fn check_text(what: &str, text: &str) -> Result<(), Failure> {
    if text.trim().is_empty() {
        return Err(Failure::invalid(format!("{what} is empty")));
    }
    if text.contains(char::is_control) {
        return Err(Failure::invalid(format!("{what} contains control characters: {text:?}")));
    }
    Ok(())
}

/// Paths on this machine: absolute, because restic would look for others from wherever this
/// program happened to be started, and because no option looks like one.
pub(crate) fn check_path(what: &str, path: &Path) -> Result<(), Failure> {
    if !path.is_absolute() {
        return Err(Failure::invalid(format!(
            "{what} is not an absolute path: {:?}",
            path.display().to_string()
        )));
    }
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(Failure::invalid(format!("{what} contains a null character")));
    }
    Ok(())
}

/// Paths inside a snapshot: from its root, with `/` on every system.
pub(crate) fn check_snapshot_path(path: &str) -> Result<(), Failure> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err(Failure::invalid(format!(
            "{path:?} is not a path inside a snapshot: it has to begin with a slash"
        )));
    }
    if path.split('/').any(|part| part == ".." || part == ".") {
        return Err(Failure::invalid(format!("{path:?} contains a dotted part")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{SnapshotId, check_path, check_snapshot_path, check_tags};

    #[test]
    fn only_hex_digits_are_a_snapshot_id() {
        assert!(SnapshotId::new("36e64d1d").is_ok());
        assert!(SnapshotId::new("a".repeat(64)).unwrap().is_full());
        for id in ["", "latest", "--all", "36E64D1D", "abc", &"a".repeat(65)] {
            assert!(SnapshotId::new(id).is_err(), "{id}");
        }
    }

    #[test]
    fn a_tag_with_a_comma_would_be_two_and_is_refused() {
        let check = |tag: &str| check_tags(&[tag.to_owned()]);
        assert!(check("plan:1").is_ok());
        for tag in ["a,b", "", " ", " a", "a\nb"] {
            assert!(check(tag).is_err(), "{tag:?}");
        }
    }

    #[test]
    fn an_option_is_not_a_path() {
        assert!(check_path("source", Path::new("/srv/-x")).is_ok());
        for path in ["--password-command=sh", "-", "srv", "", "../etc"] {
            assert!(check_path("source", Path::new(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn a_path_inside_a_snapshot_begins_at_its_root() {
        assert!(check_snapshot_path("/srv/we[ird]*").is_ok());
        for path in ["srv", "", "/a/../b", "/a\0"] {
            assert!(check_snapshot_path(path).is_err(), "{path}");
        }
    }
}
