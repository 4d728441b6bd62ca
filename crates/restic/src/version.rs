//! Which restic this is, and what it can do.
//!
//! The plain text of `restic version` is the one form that every release prints, so it is read
//! instead of the JSON that exists since 0.17 only.

use std::fmt;

/// A release of restic.
///
/// A suffix such as `-dev` is dropped: restic's own `0.18.0-dev` is built *after* 0.18.0, so it
/// can at least what that release can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Zero so far.
    pub major: u16,
    /// What restic calls a release.
    pub minor: u16,
    /// Fixes.
    pub patch: u16,
}

impl Version {
    /// The oldest release that is accepted: the first that takes the credentials of a REST server
    /// by environment instead of inside the URL, where they end up in error texts.
    pub const OLDEST: Self = Self::new(0, 16, 1);

    /// From here on exit codes tell failures apart and snapshots carry their figures.
    pub const RECOMMENDED: Self = Self::new(0, 17, 0);

    /// A version from its three numbers.
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }

    /// Reads the output of `restic version`, for example
    /// `restic 0.18.0 compiled with go1.24.4 on linux/amd64`. Anything else is not restic.
    pub fn parse(output: &str) -> Option<Self> {
        let mut words = output.lines().next()?.split_whitespace();
        if words.next()? != "restic" {
            return None;
        }
        let number = words.next()?;
        let number = number.strip_prefix('v').unwrap_or(number);
        let mut parts = number.splitn(3, '.').map(leading_number);
        Some(Self::new(parts.next()??, parts.next()??, parts.next()??))
    }

    /// Whether this release can do it.
    pub fn supports(self, feature: Feature) -> bool {
        self >= feature.since()
    }

    /// Whether this release is at least [`Version::OLDEST`].
    pub fn is_accepted(self) -> bool {
        self >= Self::OLDEST
    }

    /// Whether this release is at least [`Version::RECOMMENDED`]; if not, the admin is told once.
    pub fn is_recommended(self) -> bool {
        self >= Self::RECOMMENDED
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

fn leading_number(text: &str) -> Option<u16> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

/// Something that not every accepted release can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// Exit codes 10 (no repository) and 11 (locked).
    TypedExitCodes,
    /// `summary` inside a snapshot: its size and number of files. Only snapshots that were
    /// *written* by such a release have it.
    SnapshotSummaries,
    /// `restore --overwrite`, `--delete` and `--dry-run`.
    RestoreOverwrite,
    /// Unreadable files with their cause, as JSON, from `backup` and `restore`.
    ItemErrorsWithCause,
    /// Exit code 12: wrong password.
    WrongPasswordExitCode,
    /// `check --json`.
    CheckJson,
    /// The last word of a failed command as JSON on stderr.
    JsonExitError,
    /// Exit code 3 when a source folder is missing, or when the server refuses to delete.
    PartialExitCodes,
}

impl Feature {
    /// The first release that has it.
    pub const fn since(self) -> Version {
        match self {
            Self::TypedExitCodes | Self::SnapshotSummaries | Self::RestoreOverwrite => {
                Version::new(0, 17, 0)
            }
            Self::ItemErrorsWithCause | Self::WrongPasswordExitCode => Version::new(0, 17, 1),
            Self::CheckJson | Self::JsonExitError => Version::new(0, 18, 0),
            Self::PartialExitCodes => Version::new(0, 19, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Feature, Version};

    #[test]
    fn the_text_of_every_known_release_is_read() {
        for (text, version) in [
            ("restic 0.14.0 compiled with go1.19.8 on linux/amd64", Version::new(0, 14, 0)),
            ("restic 0.19.1 compiled with go1.26.4 on linux/amd64\n", Version::new(0, 19, 1)),
            (
                "restic 0.18.0-dev (compiled manually) compiled with go1.24 on windows/amd64",
                Version::new(0, 18, 0),
            ),
            ("restic v1.2.30 compiled with go1.30 on darwin/arm64", Version::new(1, 2, 30)),
        ] {
            assert_eq!(Version::parse(text), Some(version), "{text}");
        }
    }

    #[test]
    fn what_is_not_restic_has_no_version() {
        for text in
            ["", "restic", "restic x.y.z", "rustic 0.9.1", "restic 0.18", "restic 99999.0.0"]
        {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn versions_order_by_number_not_by_text() {
        assert!(Version::new(0, 9, 6) < Version::new(0, 16, 1));
        assert!(!Version::new(0, 16, 0).is_accepted());
        assert!(Version::OLDEST.is_accepted() && !Version::OLDEST.is_recommended());
    }

    #[test]
    fn a_feature_begins_with_its_release() {
        assert!(!Version::new(0, 17, 3).supports(Feature::CheckJson));
        assert!(Version::new(0, 18, 0).supports(Feature::CheckJson));
        assert!(!Version::new(0, 18, 1).supports(Feature::PartialExitCodes));
    }
}
