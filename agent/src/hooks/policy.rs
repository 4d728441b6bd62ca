//! What the administrator of this machine allows beyond what is always allowed: one file that belongs to
//! root, which the manager can neither send nor change.

use super::{folder::refused, platform};
use crate::{identity::Settings, paths::StateDir};
use protocol::{Code, Problem};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// What is allowed. A machine without the file allows nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Plans may carry the text of their hooks.
    pub inline_hooks: bool,
}

impl Policy {
    /// Reads the file.
    ///
    /// # Errors
    /// When it is there and cannot be read or trusted: then nothing is allowed, and this says why.
    pub fn load(path: &Path) -> Result<Self, Problem> {
        let Some(text) = platform::read_own(path)? else { return Ok(Self::default()) };
        serde_json::from_slice(&text).map_err(|error| {
            let what = format!("The policy file {}", path.display());
            let guidance = r#"It is JSON, such as {"inline_hooks": true}."#;
            refused(&what, &format!("cannot be read: {error}"), guidance)
        })
    }

    /// Whether the text of a hook may run.
    ///
    /// # Errors
    /// Why not.
    pub fn allow_text(path: &Path) -> Result<(), Problem> {
        let why = match Self::load(path) {
            Ok(policy) if policy.inline_hooks => return Ok(()),
            Ok(_) => "this machine runs no text that comes from elsewhere".to_owned(),
            Err(problem) => format!("this machine's policy does not hold: {}", problem.message),
        };
        Err(Problem::new(
            Code::PolicyForbids,
            format!("The plan carries the text of a hook, and {}.", why.trim_end_matches('.')),
        )
        .guidance(format!(
            "Put it as a program into the machine's own hooks folder, and let the plan name it; or allow it there in {}.",
            path.display()
        )))
    }
}

/// Where the file lies, by setting or default.
#[must_use]
pub fn path(settings: &Settings, state: &StateDir) -> PathBuf {
    settings
        .policy_file
        .clone()
        .unwrap_or_else(|| platform::default_folder(state).with_file_name("policy.json"))
}

/// Held on Unix, where rights can be looked at.
#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.json");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn what_no_file_allows_is_forbidden() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.json");
        assert_eq!(Policy::load(&path).unwrap(), Policy::default());
        assert_eq!(Policy::allow_text(&path).unwrap_err().code, Code::PolicyForbids);
        for text in ["{}", r#"{"inline_hooks": false}"#] {
            let (_folder, path) = file(text, 0o644);
            assert_eq!(Policy::allow_text(&path).unwrap_err().code, Code::PolicyForbids);
        }
        let (_folder, path) = file(r#"{"inline_hooks": true}"#, 0o644);
        assert!(Policy::allow_text(&path).is_ok());
    }

    #[test]
    fn a_file_that_cannot_be_read_or_trusted_allows_nothing_and_says_why() {
        for (text, mode, word) in [
            ("", 0o644, "cannot be read"),
            (r#"{"inline_hooks": "yes"}"#, 0o644, "cannot be read"),
            (r#"{"inline_hooks": true, "inline_hoks": true}"#, 0o644, "inline_hoks"),
            (r#"{"inline_hooks": true}"#, 0o666, "others may change it"),
        ] {
            let (_folder, path) = file(text, mode);
            let problem = Policy::allow_text(&path).unwrap_err();
            assert_eq!(problem.code, Code::PolicyForbids, "{text}");
            assert!(problem.message.contains(word), "{problem}");
        }
        let (folder, path) = file(r#"{"inline_hooks": true}"#, 0o644);
        let link = folder.path().join("link.json");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(Policy::allow_text(&link).unwrap_err().code, Code::PolicyForbids);
        let huge = format!("{}{{\"inline_hooks\": true}}", " ".repeat(70_000));
        let (_folder, path) = file(&huge, 0o644);
        assert_eq!(Policy::allow_text(&path).unwrap_err().code, Code::PolicyForbids);
    }

    #[test]
    fn it_lies_beside_the_hooks() {
        let state = StateDir::new("/state");
        let settings = Settings { policy_file: Some("/srv/p.json".into()), ..Settings::default() };
        assert_eq!(path(&settings, &state), Path::new("/srv/p.json"));
        assert!(path(&Settings::default(), &state).ends_with("policy.json"));
    }
}
