//! The folder of hooks, and ending a hook, on Linux, macOS and their kin.

use super::{
    call::Script,
    folder::{refused, unknown},
};
use crate::paths::StateDir;
use protocol::Problem;
use rustix::{
    fs::{FileType, Mode, OFlags, Stat, fstat, open as open_file, openat},
    io::Errno,
    process::{Pid, Signal, fchdir, geteuid, kill_process_group, test_kill_process_group},
};
use std::{
    ffi::OsString,
    fmt::Display,
    fs,
    io::{self, Read},
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};
use tokio::process::Child;

/// The time between two looks whether the group of a hook is gone.
const STEP: Duration = Duration::from_millis(20);

/// Who may write, beside the owner.
const BY_OTHERS: u32 = 0o022;

/// The most bytes of a policy file that are read; a longer one is damaged for its reader.
const LONGEST_POLICY: u64 = 64 * 1024;

/// In a folder with this bit only the owner of an entry may move it away.
const STICKY: u32 = 0o1000;

/// The folder of a hook, open, and the hook's name in it. Nobody but root and the agent's own user can
/// put something else under that name: the folder was looked at after it was opened.
#[derive(Debug)]
pub(super) struct Opened {
    folder: OwnedFd,
    program: OsString,
}

/// Beside the state and not in it: what the agent writes and what it runs stay apart.
pub(super) fn default_folder(_state: &StateDir) -> PathBuf {
    if cfg!(target_os = "macos") {
        PathBuf::from("/Library/Application Support/Restic Manager/hooks.d")
    } else {
        PathBuf::from("/etc/restic-manager/hooks.d")
    }
}

pub(super) fn open(folder: &Path, name: &str) -> Result<Opened, Problem> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let what = format!("The hooks folder {}", folder.display());
    let opened = match open_file(folder, flags | OFlags::DIRECTORY, Mode::empty()) {
        Ok(opened) => opened,
        Err(Errno::NOENT) => return Err(unknown(folder, name)),
        Err(Errno::NOTDIR | Errno::LOOP | Errno::MLINK) => {
            let guidance = "Make it a folder of its own.";
            return Err(refused(&what, "is a link, or not a folder", guidance));
        }
        Err(error) => return Err(unreadable(&what, folder, error)),
    };
    let about = fstat(&opened).map_err(|error| unreadable(&what, folder, error))?;
    check_rights(&what, folder, about.st_uid, mode_of(&about), 0)?;
    check_above(folder, "the hooks")?;

    let path = folder.join(name);
    let what = format!("The hook {}", path.display());
    let file = match openat(&opened, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Err(unknown(folder, name)),
        Err(Errno::LOOP | Errno::MLINK) => {
            let guidance = "Put the program itself into the folder: what a link leads to may lie where others can change it.";
            return Err(refused(&what, "is a link", guidance));
        }
        Err(error) => return Err(unreadable(&what, &path, error)),
    };
    let about = fstat(&file).map_err(|error| unreadable(&what, &path, error))?;
    if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
        return Err(refused(&what, "is not a file", "Put a program or a script there."));
    }
    check_rights(&what, &path, about.st_uid, mode_of(&about), 0)?;
    if mode_of(&about) & 0o111 == 0 {
        let guidance = format!("If it is a hook: chmod 755 '{}'", path.display());
        return Err(refused(&what, "cannot be run", guidance));
    }
    let mut program = OsString::from("./");
    program.push(name);
    Ok(Opened { folder: opened, program })
}

/// Reads a file that nobody but root and the agent's own user can have written; `None` when it is not
/// there.
pub(super) fn read_own(path: &Path) -> Result<Option<Vec<u8>>, Problem> {
    let what = format!("The policy file {}", path.display());
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match open_file(path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(unreadable(&what, path, error)),
    };
    let about = fstat(&file).map_err(|error| unreadable(&what, path, error))?;
    if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
        return Err(refused(&what, "is not a file", "Put a file there, or nothing."));
    }
    check_rights(&what, path, about.st_uid, mode_of(&about), 0)?;
    check_above(path, "the policy file")?;
    let mut text = Vec::new();
    let read = fs::File::from(file).take(LONGEST_POLICY).read_to_end(&mut text);
    read.map_err(|error| unreadable(&what, path, error))?;
    Ok(Some(text))
}

fn unreadable(what: &str, path: &Path, error: impl Display) -> Problem {
    let guidance = format!("Check what it is, and its rights: ls -ld '{}'", path.display());
    refused(what, &format!("cannot be looked at: {error}"), guidance)
}

/// Whether nobody can change it but root and, where the agent is not root, the user that it runs as.
/// What others may do is no matter where one of the bits in `unless` is set.
fn check_rights(
    what: &str,
    path: &Path,
    owner: u32,
    mode: u32,
    unless: u32,
) -> Result<(), Problem> {
    let me = geteuid().as_raw();
    let path = path.display();
    if owner != 0 && owner != me {
        let guidance = format!("Give it to root: chown root '{path}'");
        return Err(refused(
            what,
            &format!("belongs to user {owner}, who could change what runs here as user {me}"),
            guidance,
        ));
    }
    if mode & BY_OTHERS != 0 && mode & unless == 0 {
        let guidance = format!("Close it: chmod go-w '{path}'");
        return Err(refused(
            what,
            &format!("is open (mode {:03o}): others may change it", mode & 0o7777),
            guidance,
        ));
    }
    Ok(())
}

/// Whoever may change a folder above could put something else in this one's place.
fn check_above(path: &Path, called: &str) -> Result<(), Problem> {
    let unreadable = |error| unreadable(&format!("The folder of {called}"), path, error);
    let real = fs::canonicalize(path).map_err(unreadable)?;
    for above in real.ancestors().skip(1) {
        let about = fs::metadata(above).map_err(unreadable)?;
        let what = format!("The folder {} above {called}", above.display());
        check_rights(&what, above, about.uid(), about.mode(), STICKY)?;
    }
    Ok(())
}

#[cfg_attr(target_os = "linux", expect(clippy::useless_conversion, reason = "macOS has 16 bits"))]
fn mode_of(about: &Stat) -> u32 {
    u32::from(about.st_mode)
}

/// How to start it: from within the folder as it was opened, whatever its path leads to by now. It
/// changes the working directory of this process, so only the helper may do it, which does nothing else.
pub(super) fn command(opened: &Opened) -> io::Result<Command> {
    use std::os::unix::process::CommandExt;
    fchdir(&opened.folder)?;
    let mut command = Command::new(&opened.program);
    command.process_group(0);
    Ok(command)
}

/// Writes the text of a hook into a folder of its own, and says how to start it.
pub(super) fn write_script(script: &Script) -> io::Result<Command> {
    use std::{io::Write, os::unix::process::CommandExt};
    let path = script.folder.join("hook");
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o700).open(&path)?;
    // A form on a page may end its lines as Windows does, and no shell reads that.
    file.write_all(script.text.replace("\r\n", "\n").as_bytes())?;
    drop(file);
    let mut command = if script.text.starts_with("#!") {
        Command::new(&path)
    } else {
        let mut command = Command::new("/bin/sh");
        command.arg(&path);
        command
    };
    command.current_dir(&script.folder).process_group(0);
    Ok(command)
}

/// Ends a hook and all that it started in its group: gently, then for good.
pub(super) async fn end(child: &mut Child, grace: Duration) -> io::Result<()> {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let Some(group) = group else { return child.wait().await.map(drop) };
    let _ = kill_process_group(group, Signal::TERM);
    let is_gone = async {
        child.wait().await?;
        while test_kill_process_group(group).is_ok() {
            tokio::time::sleep(STEP).await;
        }
        io::Result::Ok(())
    };
    if let Ok(ended) = tokio::time::timeout(grace, is_gone).await {
        return ended;
    }
    let _ = kill_process_group(group, Signal::KILL);
    child.wait().await.map(drop)
}

/// How it ended, in words that continue "it ".
pub(super) fn ended_how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("failed with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "failed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use tokio::io::{AsyncBufReadExt, BufReader};

    #[tokio::test]
    async fn what_does_not_end_when_it_is_asked_to_is_killed_with_its_group() {
        let mut command = Command::new("sh");
        command
            .args(["-c", "trap '' TERM; sh -c 'trap \"\" TERM; echo ready; sleep 600' & wait"])
            .stdout(std::process::Stdio::piped())
            .process_group(0);
        let mut child = tokio::process::Command::from(command).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "ready");
        end(&mut child, Duration::from_millis(50)).await.unwrap();
        // The last that held the other end of the pipe is gone too.
        assert_eq!(lines.next_line().await.unwrap(), None);
    }
}
