//! The agent on a whole machine: a booted Debian with its own systemd, in a network of its own.
//!
//! Each test starts itself again as root of namespaces of its own, so that whatever it boots and mounts goes
//! with it. A machine takes less than a second to boot.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop")]
#![expect(clippy::print_stdout, reason = "what was measured is for people to see")]

mod endpoint {
    mod install;
    mod main_job;
    mod sandbox;
}

use std::{env, path::PathBuf, process::Command};
use testkit::tools::workspace;

/// Where a test keeps everything, for itself when it was started again.
const FOLDER: &str = "RESTIC_MANAGER_ENDPOINT_FOLDER";

/// Which Debian the machines are; another than the oldest that is supported where this is set.
const SUITE: &str = "RESTIC_MANAGER_SUITE";

fn suite() -> String {
    env::var(SUITE).unwrap_or_else(|_| "bookworm".to_owned())
}

/// Starts the test of this name again, alone. The one that was started again gets its folder.
fn alone(test: &str) -> Option<PathBuf> {
    if let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) {
        return Some(folder);
    }
    // Not below /tmp, which may be of a kind that no other file system can lie above.
    let dir = tempfile::tempdir_in(workspace().join("target")).unwrap();
    let mut again = Command::new("unshare");
    again.args(["--net", "--mount", "--propagation", "private"]).arg(env::current_exe().unwrap());
    again.args([test, "--exact", "--nocapture"]).env(FOLDER, dir.path());
    let output = again.output().unwrap();
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    // Whoever counts results counts this test once.
    let told = printed.lines().filter(|line| !line.starts_with("test result"));
    told.for_each(|line| println!("{line}"));
    assert!(output.status.success(), "{test} failed when it was started again");
    assert!(printed.contains("1 passed"), "it was not started again: {printed}");
    None
}
