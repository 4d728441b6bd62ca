//! What the machine itself must be like: room on its disk, rights to read, a name for itself, a service.

use super::Finding;
use crate::{
    desired::Desired,
    paths::{RESERVE_BYTES, StateDir, free},
};
use outcome::words::{one_line, size};
use protocol::{Code, Problem};
use std::{fs, io::ErrorKind, path::Path};

/// With less than this restic's cache and the journal soon have no room.
const LITTLE: u64 = 512 * 1024 * 1024;

/// The name under which restic finds the manager's store.
const HERE: &str = "localhost";

/// The room that journal and cache have.
pub(super) fn disk(state: &StateDir) -> Vec<Finding> {
    let about = "Disk";
    let Some(room) = free(state.path()) else { return Vec::new() };
    let words = format!("{} free for journal and cache in {}", size(room), state.path().display());
    vec![match room {
        0..RESERVE_BYTES => Finding::bad(
            about,
            Problem::new(Code::DiskFull, words)
                .guidance("Make room: no run begins, and logs are left out."),
        ),
        RESERVE_BYTES..LITTLE => Finding::warning(
            about,
            words,
            "Make room: restic keeps what it has read of a repository there.",
        ),
        _ => Finding::well(about, words),
    }]
}

/// Whether the agent may read everything, and else whether it may enter what the plans name.
pub(super) fn rights(desired: &Desired) -> Vec<Finding> {
    let about = "Rights";
    if reads_everything() {
        return vec![Finding::well(about, "every file of this machine can be read")];
    }
    let mut findings: Vec<Finding> = desired
        .schedules
        .iter()
        .flat_map(|plan| &plan.paths)
        .filter_map(|path| refused(path))
        .collect();
    if findings.is_empty() {
        findings.push(Finding::warning(
            about,
            "only what the agent's user may read can be backed up",
            "Run the agent as the service that its installation makes, or as root.",
        ));
    }
    findings
}

/// What keeps the agent out of a place that a plan names.
fn refused(path: &str) -> Option<Finding> {
    let tried = if Path::new(path).is_dir() {
        fs::read_dir(path).map(drop)
    } else {
        fs::File::open(path).map(drop)
    };
    // What is not there is told by the run.
    let error = tried.err().filter(|error| error.kind() == ErrorKind::PermissionDenied)?;
    let problem =
        Problem::new(Code::FilesUnreadable, format!("{} cannot be read: {error}", one_line(path)))
            .guidance("Run the agent as the service that its installation makes, or as root.");
    Some(Finding::bad("Rights", problem))
}

#[cfg(target_os = "linux")]
fn reads_everything() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    capabilities(None).is_ok_and(|sets| {
        sets.effective.intersects(CapabilitySet::DAC_READ_SEARCH | CapabilitySet::DAC_OVERRIDE)
    })
}

#[cfg(all(unix, not(target_os = "linux")))]
fn reads_everything() -> bool {
    rustix::process::geteuid().is_root()
}

/// A service of the system's own account has the right to; what else it may nobody says beforehand.
#[cfg(windows)]
fn reads_everything() -> bool {
    true
}

/// Whether the machine knows itself by the name under which restic dials the agent's way to the store.
pub(super) async fn own_name() -> Vec<Finding> {
    let about = "Way to the store";
    let found = tokio::net::lookup_host((HERE, 0)).await;
    if found.is_ok_and(|mut addresses| addresses.any(|address| address.ip().is_loopback())) {
        return Vec::new();
    }
    let problem = Problem::new(
        Code::RepositoryUnreachable,
        "this machine does not know itself as localhost, so restic cannot find the manager's store",
    );
    vec![Finding::bad(about, problem.guidance("Add a line to /etc/hosts: 127.0.0.1 localhost"))]
}

/// The service that an installation makes.
#[cfg(target_os = "linux")]
pub(super) async fn service() -> Vec<Finding> {
    const UNIT: &str = "restic-manager-agent.service";
    let about = "Service";
    if !Path::new("/etc/systemd/system").join(UNIT).exists() {
        return Vec::new();
    }
    let is = async |what: &str| {
        let mut ask = tokio::process::Command::new("systemctl");
        ask.args([what, "--quiet", UNIT]).stdin(std::process::Stdio::null());
        ask.status().await.is_ok_and(|status| status.success())
    };
    vec![match (is("is-active").await, is("is-enabled").await) {
        (true, true) => Finding::well(about, "it runs, and starts with the machine"),
        (true, false) => Finding::warning(
            about,
            "it runs, and does not start with the machine",
            "systemctl enable restic-manager-agent",
        ),
        (false, _) => Finding::bad(
            about,
            Problem::new(Code::Internal, "it does not run").guidance(
                "systemctl enable --now restic-manager-agent; why it ended: journalctl -u restic-manager-agent",
            ),
        ),
    }]
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unused_async, reason = "on Linux the system is asked")]
pub(super) async fn service() -> Vec<Finding> {
    Vec::new()
}
