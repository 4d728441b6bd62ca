//! Programs that the operating system provides.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::exec;

/// A program that has to be found, the Debian package that brings it, and what needs it.
struct Program {
    name: &'static str,
    package: &'static str,
    needed_for: &'static str,
}

/// What every machine needs.
const PROGRAMS: &[Program] = &[
    Program { name: "cc", package: "build-essential", needed_for: "linking, SQLite and ring" },
    Program {
        name: "curl",
        package: "curl",
        needed_for: "fetching restic, and testing installers",
    },
];

/// What the fetched Debian packages, and the tests that give up root's powers, need on Linux.
const LINUX_PROGRAMS: &[Program] = &[
    Program { name: "dpkg-deb", package: "dpkg", needed_for: "unpacking restic" },
    Program { name: "sha256sum", package: "coreutils", needed_for: "verifying restic" },
    Program { name: "setpriv", package: "util-linux", needed_for: "tests that give up root" },
];

/// Installs what is missing, where the package manager is one that we know.
pub(super) fn ensure() -> Result<()> {
    let missing = missing_programs();
    let mut packages: Vec<&str> = missing.iter().map(|program| program.package).collect();
    if cfg!(target_os = "linux") && !has_certificates() {
        packages.push("ca-certificates");
    }
    if packages.is_empty() {
        return Ok(());
    }
    for program in &missing {
        println!("tools: `{}` is missing: {}", program.name, program.needed_for);
    }
    if exec::which("apt-get").is_none() {
        bail!(
            "install the equivalents of these Debian packages, and try again: {}",
            packages.join(" ")
        );
    }
    install(&packages)
}

/// Finds Chromium, or installs Debian's; `RESTIC_MANAGER_CHROMIUM` names another one.
pub(super) fn chromium() -> Result<PathBuf> {
    if let Some(named) = env::var_os("RESTIC_MANAGER_CHROMIUM") {
        return Ok(named.into());
    }
    if let Some(found) = exec::which("chromium") {
        return Ok(found);
    }
    if exec::which("apt-get").is_none() {
        bail!("install Chromium, name it in RESTIC_MANAGER_CHROMIUM, and try again");
    }
    install(&["chromium"])?;
    exec::which("chromium").context("Debian's package brought no `chromium`")
}

fn missing_programs() -> Vec<&'static Program> {
    let for_linux = if cfg!(target_os = "linux") { LINUX_PROGRAMS } else { &[] };
    PROGRAMS.iter().chain(for_linux).filter(|program| !is_present(program.name)).collect()
}

/// Looks into the administrator's folders too: they are not on everybody's path.
fn is_present(program: &str) -> bool {
    // Windows links with its own tools, which rustup asks for.
    if cfg!(windows) && program == "cc" {
        return true;
    }
    exec::which(program).is_some()
        || ["/usr/sbin", "/sbin"].iter().any(|folder| Path::new(folder).join(program).is_file())
}

fn has_certificates() -> bool {
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"]
        .iter()
        .any(|bundle| Path::new(bundle).is_file())
}

fn install(packages: &[&str]) -> Result<()> {
    let by_hand = format!("apt-get install {}", packages.join(" "));
    let is_root = exec::output(Command::new("id").arg("-u"))?.trim() == "0";
    if !is_root && exec::which("sudo").is_none() {
        bail!("run this as root, and try again: {by_hand}");
    }
    println!("tools: {by_hand}");
    // A list of packages that is out of date names versions that the mirrors no longer hold.
    exec::succeed(&mut apt_get(is_root, &["update"]))?;
    let mut install = apt_get(is_root, &["install", "--yes", "--no-install-recommends"]);
    exec::succeed(install.args(packages)).with_context(|| format!("run it by hand: {by_hand}"))
}

/// apt-get as root, never asking anything.
fn apt_get(is_root: bool, args: &[&str]) -> Command {
    let words = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet"];
    let mut command = Command::new(if is_root { "env" } else { "sudo" });
    command.args(if is_root { &words[1..] } else { &words[..] });
    command.args(args).stdin(Stdio::null());
    command
}
