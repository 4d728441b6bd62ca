//! Files, folders, users and services of the system.

use super::place::{HOME, SERVICE, SOCKETS, USER};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown, symlink},
    path::Path,
    process::{Command, Stdio},
};

/// Whether this can be done here at all.
///
/// # Errors
/// Why not, and what to do.
pub(super) fn check() -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "This takes root. Try again with sudo.");
    ensure!(
        Path::new("/run/systemd/system").is_dir(),
        "This system is not run by systemd, and no service can be installed on it yet. Enrol it by hand (restic-manager-agent enroll), and let its own init start: restic-manager-agent run"
    );
    Ok(())
}

/// Runs a program of the system that must succeed.
pub(super) fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    let output = command.args(arguments).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("Failed to start {program}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    bail!("{program} {} failed: {}", arguments.join(" "), said.trim())
}

/// The user's numbers, if there is one.
fn user(name: &str) -> Result<Option<(u32, u32)>> {
    let users = fs::read("/etc/passwd").context("Failed to read /etc/passwd")?;
    // Names of people may be in any encoding.
    let users = String::from_utf8_lossy(&users);
    Ok(users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        let mut numbers = fields.skip(1).map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    }))
}

/// Makes the agent's user, if there is none.
pub(super) fn make_user() -> Result<()> {
    if user(USER)?.is_some() {
        return Ok(());
    }
    let known = ["--system", "--user-group", "--no-create-home", "--home-dir", HOME, "--shell"];
    let shell = ["/usr/sbin/nologin", "/sbin/nologin", "/bin/false"];
    let shell = shell.into_iter().find(|it| Path::new(it).exists()).unwrap_or("/bin/false");
    let mut arguments = known.to_vec();
    arguments.extend([shell, USER]);
    run("useradd", &arguments).context("Failed to make the agent's user")
}

/// Removes the agent's user, if there is one.
pub(super) fn remove_user() -> Result<()> {
    if user(USER)?.is_none() { Ok(()) } else { run("userdel", &[USER]) }
}

/// Makes a folder with these rights, for root or for this user.
pub(super) fn folder(path: &str, mode: u32, owner: Option<&str>) -> Result<()> {
    let make = || -> Result<()> {
        // What an administrator has closed stays closed.
        if !Path::new(path).exists() {
            fs::DirBuilder::new().recursive(true).mode(mode).create(path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        if let Some(name) = owner {
            let (user, group) = user(name)?.context("its user is not there")?;
            chown(path, Some(user), Some(group))?;
        }
        Ok(())
    };
    make().with_context(|| format!("Failed to make the folder {path}"))
}

/// Puts a file in its place, whole or not at all: who runs the old one goes on with that. Says whether it is
/// another than before.
pub(super) fn put(path: &str, content: &[u8], mode: u32) -> Result<bool> {
    if fs::read(path).is_ok_and(|present| present == content) {
        return Ok(false);
    }
    let fresh = format!("{path}.new");
    let write = || -> std::io::Result<()> {
        let _ = fs::remove_file(&fresh);
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(mode).open(&fresh)?;
        file.write_all(content)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    write().with_context(|| format!("Failed to write {path}"))?;
    Ok(true)
}

/// Lets a file be run by everybody.
pub(super) fn may_run(path: &str) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("Failed to change the rights of {path}"))
}

/// Makes a link, in the place of an older one.
pub(super) fn link(path: &str, to: &str) -> Result<()> {
    if fs::read_link(path).is_ok_and(|present| present == Path::new(to)) {
        return Ok(());
    }
    let make = || -> std::io::Result<()> {
        if let Some(parent) = Path::new(path).parent() {
            fs::create_dir_all(parent)?;
        }
        if fs::symlink_metadata(path).is_ok_and(|about| about.is_symlink()) {
            fs::remove_file(path)?;
        }
        symlink(to, path)
    };
    make().with_context(|| format!("Failed to make the link {path}"))
}

/// Lets systemd start everything, now and from now on. An agent that runs is started anew only where it is
/// another now: it may be at work.
pub(super) fn start_services(is_new: bool) -> Result<()> {
    run("systemctl", &["daemon-reload"])?;
    run("systemctl", &["enable", "--quiet", "--now", SOCKETS[0], SOCKETS[1]])?;
    run("systemctl", &["enable", "--quiet", SERVICE])?;
    run("systemctl", &[if is_new { "restart" } else { "start" }, SERVICE])
}

/// Stops what runs of it, and lets nothing start again.
pub(super) fn stop_services() -> Result<()> {
    for unit in [SERVICE, SOCKETS[0], SOCKETS[1]] {
        let is_there = Path::new(super::place::UNIT_FOLDER).join(unit).exists();
        if is_there {
            run("systemctl", &["disable", "--quiet", "--now", unit])?;
        }
    }
    // What a restore or a hook is doing ends with them.
    run("systemctl", &["stop", "restic-manager-restore@*", "restic-manager-helper@*"])
}

pub(super) fn remove_file(path: &str) -> Result<()> {
    gone(fs::remove_file(path)).with_context(|| format!("Failed to remove {path}"))
}

pub(super) fn remove_folder(path: &str) -> Result<()> {
    gone(fs::remove_dir_all(path)).with_context(|| format!("Failed to remove {path}"))
}

fn gone(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
