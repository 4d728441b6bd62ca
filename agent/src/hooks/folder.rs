//! The folder of hooks: where it lies, which programs in it may run, and why another may not.
//!
//! The manager says a name and nothing else. What runs under it is decided on this machine, by whoever
//! may write into a folder that belongs to root.

use super::platform::{self, Opened};
use crate::{identity::Settings, paths::StateDir};
use outcome::words::one_line;
use protocol::{Code, Problem, cut_text};
use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// The longest name of a hook.
const MAX_NAME: usize = 64;

/// The most entries of the folder that are looked at for a list.
const MAX_LISTED: usize = 200;

/// Where hooks lie, by setting or default.
#[must_use]
pub fn folder(settings: &Settings, state: &StateDir) -> PathBuf {
    settings.hooks_folder.clone().unwrap_or_else(|| platform::default_folder(state))
}

/// Whether this can be the name of a hook: plain characters, so that it names something in the folder and
/// means nothing to anybody else.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(is_plain)
        && !name.starts_with(['.', '-'])
        && !name.contains("..")
}

/// A name as it may stand in a sentence, whatever somebody took for one.
pub(super) fn shown(name: &str) -> String {
    cut_text(&one_line(name), MAX_NAME)
}

/// Opens a hook and looks at what was opened.
///
/// # Errors
/// Why it must not run, and what to do.
pub(super) fn open(folder: &Path, name: &str) -> Result<Opened, Problem> {
    if !is_name(name) {
        return Err(Problem::new(
            Code::HookUnknown,
            format!("“{}” cannot be the name of a hook.", shown(name)),
        )
        .guidance(
            "A hook is named by the name of its file alone: letters, digits, dots, dashes and underscores, at most 64 of them, beginning with a letter, a digit or an underscore.",
        ));
    }
    platform::open(folder, name)
}

/// There is no such file.
pub(super) fn unknown(folder: &Path, name: &str) -> Problem {
    Problem::new(
        Code::HookUnknown,
        format!("This machine has no hook {name} in {}.", folder.display()),
    )
    .guidance("Put the program there, or take the hook out of the plan.")
}

/// It is there and must not run.
pub(super) fn refused(what: &str, why: &str, guidance: impl Into<String>) -> Problem {
    Problem::new(Code::HookFailed, format!("{what} {why}.")).guidance(guidance)
}

/// What is in a folder of hooks.
#[derive(Debug)]
pub enum Listed {
    /// The folder is not there: this machine has no hooks.
    Nothing,
    /// Each entry, and why it would not run.
    Entries(Vec<(String, Result<(), Problem>)>),
}

/// Looks at everything in the folder.
///
/// # Errors
/// When the folder cannot be read.
pub fn list(folder: &Path) -> Result<Listed, Problem> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Listed::Nothing),
        Err(error) => {
            let what = format!("The hooks folder {}", folder.display());
            return Err(refused(
                &what,
                &format!("cannot be read: {error}"),
                "Check what it is, and its rights.",
            ));
        }
    };
    let mut names: Vec<String> = entries
        .flatten()
        .take(MAX_LISTED)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let looked = names.into_iter().map(|name| {
        let verdict = open(folder, &name).map(drop);
        (name, verdict)
    });
    Ok(Listed::Entries(looked.collect()))
}

/// Whether a hook would run, as far as can be told without running it.
///
/// # Errors
/// Why it would not, and what to do.
pub fn look_at(folder: &Path, name: &str) -> Result<(), Problem> {
    open(folder, name).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_nowhere_but_into_the_folder() {
        let longest = "x".repeat(64);
        for name in ["dump", "db-dump.sh", "10_stop", "_a", "a.b-c_d", "A", longest.as_str()] {
            assert!(is_name(name), "{name}");
        }
        let too_long = "x".repeat(65);
        for name in [
            "",
            ".",
            "..",
            ".hidden",
            "-rf",
            "a/b",
            "/bin/sh",
            "..\\x",
            "a..b",
            "a b",
            "a;b",
            "$(id)",
            "a\0",
            "a\n",
            "ä",
            "C:x",
            too_long.as_str(),
        ] {
            assert!(!is_name(name), "{name:?}");
            let problem = open(Path::new("/"), name).unwrap_err();
            assert_eq!(problem.code, Code::HookUnknown, "{name:?}");
            assert!(!problem.message.contains(['\n', '\0']), "{name:?}");
        }
    }

    #[test]
    fn a_setting_names_another_folder() {
        let state = StateDir::new("/state");
        let settings = Settings { hooks_folder: Some("/srv/hooks".into()), ..Settings::default() };
        assert_eq!(folder(&settings, &state), Path::new("/srv/hooks"));
        assert!(folder(&Settings::default(), &state).ends_with("hooks.d"));
    }
}

/// Held on Unix, where rights can be looked at.
#[cfg(test)]
#[cfg(unix)]
mod rights {
    use super::*;
    use rustix::{
        fs::{Gid, Uid, chown},
        process::geteuid,
    };
    use std::os::unix::fs::{PermissionsExt, symlink};

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            let folder = Self(tempfile::tempdir().unwrap());
            folder.mode("", 0o755);
            folder.with("hook", 0o755);
            folder
        }

        fn path(&self) -> &Path {
            self.0.path()
        }

        fn with(&self, name: &str, mode: u32) {
            fs::write(self.path().join(name), "#!/bin/sh\n").unwrap();
            self.mode(name, mode);
        }

        fn mode(&self, name: &str, mode: u32) {
            let path = if name.is_empty() { self.path().into() } else { self.path().join(name) };
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }

        fn refusal(&self, name: &str) -> (Code, String) {
            let problem = open(self.path(), name).unwrap_err();
            (problem.code, problem.to_string())
        }
    }

    #[test]
    fn a_program_that_only_its_owner_may_change_is_taken() {
        let folder = Folder::new();
        assert!(open(folder.path(), "hook").is_ok());
        folder.mode("hook", 0o700);
        folder.mode("", 0o700);
        assert!(open(folder.path(), "hook").is_ok());
    }

    #[test]
    fn what_is_not_there_is_unknown() {
        let folder = Folder::new();
        assert_eq!(folder.refusal("other").0, Code::HookUnknown);
        let nowhere = open(&folder.path().join("nowhere"), "hook").unwrap_err();
        assert_eq!(nowhere.code, Code::HookUnknown);
    }

    #[test]
    fn what_others_could_change_is_refused_with_the_cure() {
        for mode in [0o775, 0o757, 0o777] {
            let folder = Folder::new();
            folder.mode("hook", mode);
            let (code, words) = folder.refusal("hook");
            assert_eq!(code, Code::HookFailed);
            assert!(
                words.contains("others may change it") && words.contains("chmod go-w"),
                "{words}"
            );
        }
        for mode in [0o775, 0o1777] {
            let folder = Folder::new();
            folder.mode("", mode);
            let (code, words) = folder.refusal("hook");
            assert_eq!(code, Code::HookFailed);
            assert!(words.contains("folder") && words.contains("chmod go-w"), "{words}");
        }
    }

    #[test]
    fn a_folder_below_one_that_others_could_change_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let hooks = base.path().join("hooks.d");
        fs::create_dir(&hooks).unwrap();
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let problem = open(&hooks, "hook").unwrap_err();
        assert_eq!(problem.code, Code::HookFailed);
        assert!(problem.message.contains(&base.path().display().to_string()), "{problem}");
    }

    #[test]
    fn what_belongs_to_somebody_else_is_refused() {
        // Only root can give something away.
        if !geteuid().is_root() {
            return;
        }
        let somebody = (Some(Uid::from_raw(12_345)), Some(Gid::from_raw(12_345)));
        let folder = Folder::new();
        chown(folder.path().join("hook"), somebody.0, somebody.1).unwrap();
        let (code, words) = folder.refusal("hook");
        assert_eq!(code, Code::HookFailed);
        assert!(words.contains("belongs to user 12345"), "{words}");

        let folder = Folder::new();
        chown(folder.path(), somebody.0, somebody.1).unwrap();
        let (code, words) = folder.refusal("hook");
        assert_eq!(code, Code::HookFailed);
        assert!(words.contains("belongs to user 12345"), "{words}");
    }

    #[test]
    fn a_link_a_folder_and_what_cannot_run_are_refused() {
        let folder = Folder::new();
        symlink("/bin/sh", folder.path().join("link")).unwrap();
        symlink("hook", folder.path().join("inner")).unwrap();
        fs::create_dir(folder.path().join("dir")).unwrap();
        folder.with("plain", 0o644);
        for (name, why) in [
            ("link", "is a link"),
            ("inner", "is a link"),
            ("dir", "is not a file"),
            ("plain", "cannot be run"),
        ] {
            let (code, words) = folder.refusal(name);
            assert_eq!(code, Code::HookFailed, "{name}");
            assert!(words.contains(why), "{name}: {words}");
        }
        let linked = folder.path().join("linked");
        let base = tempfile::tempdir().unwrap();
        symlink(base.path(), &linked).unwrap();
        assert_eq!(open(&linked, "hook").unwrap_err().code, Code::HookFailed);
    }

    #[test]
    fn a_list_says_of_each_whether_it_would_run() {
        let folder = Folder::new();
        folder.with("plain", 0o644);
        folder.with(".hidden", 0o755);
        let Listed::Entries(entries) = list(folder.path()).unwrap() else {
            panic!("there is something in it")
        };
        let told: Vec<(&str, bool)> =
            entries.iter().map(|(name, verdict)| (name.as_str(), verdict.is_ok())).collect();
        assert_eq!(told, [(".hidden", false), ("hook", true), ("plain", false)]);
        assert!(matches!(list(&folder.path().join("none")).unwrap(), Listed::Nothing));
        assert!(list(&folder.path().join("hook")).is_err());
    }
}
