//! The files of whole Debian machines, under `target/tools/roots`: tests boot them.
//!
//! Debian's own installer of roots makes them, which checks what it fetches by Debian's signatures. It
//! takes root, as booting does.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::system;
use crate::exec;

/// The suite that the tests boot by themselves.
const SUITE: &str = "bookworm";

/// Those that all tests boot beside.
pub(crate) const MORE_SUITES: &[&str] = &["trixie"];

/// What a machine has beside the least that Debian knows: an init, and what an admin would expect.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,curl,iproute2";

/// Where Debian's packages come from when `DEBIAN_MIRROR` names no other place.
const MIRROR: &str = "http://deb.debian.org/debian";

/// Makes the roots that are missing, where this computer can have and boot them. Says why where it cannot: only
/// some of the tests need them.
pub(super) fn ensure(tools: &Path) -> Result<()> {
    ensure_suite(tools, SUITE)
}

/// The same for one suite.
pub(super) fn ensure_suite(tools: &Path, suite: &str) -> Result<()> {
    let is_root = || exec::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !cfg!(target_os = "linux") || !is_root() {
        println!("tools: no machine can be booted: that takes Linux and root");
        return Ok(());
    }
    if exec::which("apt-get").is_none() {
        println!("tools: no machine can be booted: debootstrap of Debian is not here");
        return Ok(());
    }
    system::ensure_program("debootstrap", "debootstrap", "the files of whole machines")?;
    system::ensure_program("systemd-nspawn", "systemd-container", "booting whole machines")?;
    let root = tools.join("roots").join(suite);
    if root.is_dir() { Ok(()) } else { make(suite, &root) }
}

/// Makes it beside its place and then moves it there, so that no half of one is ever booted.
fn make(suite: &str, root: &Path) -> Result<()> {
    let fresh = root.with_extension(std::process::id().to_string());
    fs::create_dir_all(&fresh).context("failed to create a folder for a root")?;
    let mirror = env::var("DEBIAN_MIRROR").unwrap_or_else(|_| MIRROR.to_owned());
    println!("tools: making the root of a Debian {suite} from {mirror}");
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", &format!("--include={PACKAGES}"), suite]);
    let made = exec::output(debootstrap.arg(&fresh).arg(&mirror));
    if let Err(error) = made {
        // What is left of it holds nothing that anybody made.
        let _ = fs::remove_dir_all(&fresh);
        return Err(error).with_context(|| format!("failed to make the root of {suite}"));
    }
    fs::rename(&fresh, root).context("failed to move a root to its place")?;
    println!("tools: the root of {suite} is ready");
    Ok(())
}
