//! The folder of hooks, and ending a hook, on Windows.
//!
//! Who may write there is not read back from access lists. So the folder lies in the state folder, which
//! the agent itself has closed to all but the system and the administrators, and no other is taken.

use super::{
    call::Script,
    folder::{refused, unknown},
};
use crate::paths::StateDir;
use protocol::Problem;
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};
use tokio::process::Child;

/// What a hook can be. Which program runs is said by its whole name.
const ENDINGS: [&str; 4] = [".exe", ".cmd", ".bat", ".ps1"];

/// A hook that may run.
#[derive(Debug)]
pub(super) struct Opened {
    folder: PathBuf,
    program: PathBuf,
}

pub(super) fn default_folder(state: &StateDir) -> PathBuf {
    state.path().join("hooks.d")
}

pub(super) fn open(folder: &Path, name: &str) -> Result<Opened, Problem> {
    let program = folder.join(name);
    let what = format!("The hook {}", program.display());
    let closed = StateDir::default_path();
    if folder.parent() != Some(closed.as_path()) {
        let guidance = format!("Use the folder hooks.d in {}.", closed.display());
        return Err(refused(&what, "lies in a folder that may be open to others", guidance));
    }
    let lower = name.to_ascii_lowercase();
    if !ENDINGS.iter().any(|ending| lower.ends_with(ending)) {
        let guidance = "A hook ends in .exe, .cmd, .bat or .ps1, and the plan says the whole name.";
        return Err(refused(&what, "cannot be run", guidance));
    }
    for path in [folder, program.as_path()] {
        let about = match fs::symlink_metadata(path) {
            Ok(about) => about,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(unknown(folder, name));
            }
            Err(error) => {
                let guidance = "Check what it is, and its rights.";
                return Err(refused(&what, &format!("cannot be looked at: {error}"), guidance));
            }
        };
        let is_right = if path == folder { about.is_dir() } else { about.is_file() };
        if !is_right {
            return Err(refused(
                &what,
                "is a link, or not a file",
                "Put the program itself there.",
            ));
        }
    }
    Ok(Opened { folder: folder.to_owned(), program })
}

/// How to start it.
#[expect(clippy::unnecessary_wraps, reason = "on Unix it can fail")]
pub(super) fn command(opened: &Opened) -> io::Result<Command> {
    let is_powershell = opened.program.extension().is_some_and(|it| it.eq_ignore_ascii_case("ps1"));
    let mut command =
        if is_powershell { powershell(&opened.program) } else { Command::new(&opened.program) };
    command.current_dir(&opened.folder);
    Ok(command)
}

fn powershell(script: &Path) -> Command {
    let mut command = Command::new(system().join(r"WindowsPowerShell\v1.0\powershell.exe"));
    command
        .args(["-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass", "-File"])
        .arg(script);
    command
}

/// Writes the text of a hook into a folder of its own, and says how to start it: by PowerShell.
pub(super) fn write_script(script: &Script) -> io::Result<Command> {
    let path = script.folder.join("hook.ps1");
    // Without this mark PowerShell 5 takes the file for one of the machine's own code page.
    fs::write(&path, format!("\u{feff}{}", script.text))?;
    let mut command = powershell(&path);
    command.current_dir(&script.folder);
    Ok(command)
}

/// Reads a file that the administrators of this machine alone can have written; `None` when it is not
/// there.
pub(super) fn read_own(path: &Path) -> Result<Option<Vec<u8>>, Problem> {
    let what = format!("The policy file {}", path.display());
    let closed = StateDir::default_path();
    if path.parent() != Some(closed.as_path()) {
        let guidance = format!("Use policy.json in {}.", closed.display());
        return Err(refused(&what, "lies in a folder that may be open to others", guidance));
    }
    match fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let guidance = "Check what it is, and its rights.";
            Err(refused(&what, &format!("cannot be read: {error}"), guidance))
        }
    }
}

fn system() -> PathBuf {
    std::env::var_os("SystemRoot")
        .map_or_else(|| PathBuf::from(r"C:\Windows"), PathBuf::from)
        .join("System32")
}

/// Ends a hook and all that it started: gently, then for good.
pub(super) async fn end(child: &mut Child, grace: Duration) -> io::Result<()> {
    let Some(id) = child.id() else { return child.wait().await.map(drop) };
    ask_tree(id, &[]);
    if let Ok(ended) = tokio::time::timeout(grace, child.wait()).await {
        return ended.map(drop);
    }
    ask_tree(id, &["/F"]);
    let _ = child.start_kill();
    child.wait().await.map(drop)
}

fn ask_tree(id: u32, how: &[&str]) {
    let _ = Command::new(system().join("taskkill.exe"))
        .args(["/T", "/PID", &id.to_string()])
        .args(how)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// How it ended, in words that continue "it ".
pub(super) fn ended_how(status: ExitStatus) -> String {
    status
        .code()
        .map_or_else(|| "failed".to_owned(), |code| format!("failed with exit code {code}"))
}
