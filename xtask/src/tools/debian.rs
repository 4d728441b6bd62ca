//! Restic and rest-server as Debian builds them, in pinned versions, under `target/tools`.
//!
//! ```text
//! target/tools/cache/*.deb                        what was fetched
//! target/tools/<name>-<version>/usr/bin/…         what was in it, beside a stamp with its hash
//! target/tools/bin/{restic,rest-server}           links to what tests use by default
//! ```
//! A package is only ever unpacked after its hash was compared with the one pinned here, so it
//! does not matter which mirror sent it. The system's package manager is not involved, because
//! its versions of restic are too old on some releases, and not ours to change on any.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::mirrors;
use crate::exec;

/// A program from a Debian package.
struct Pinned {
    /// The folder under `target/tools`.
    folder: &'static str,
    /// The program inside the folder.
    program: &'static str,
    /// Its stable name in `target/tools/bin`, and what on the path may stand in for it.
    link: Option<Link>,
    /// The package's path in Debian's archive, without architecture and ending.
    path: &'static str,
    amd64: Hashes,
    arm64: Hashes,
}

/// A stable name, and the oldest version of the system's own program that will do.
struct Link {
    name: &'static str,
    at_least: (u32, u32),
}

/// What the package must hash to. Debian's archive of old packages goes by SHA-1; what decides
/// is the SHA-256.
#[derive(Clone, Copy)]
struct Hashes {
    sha256: &'static str,
    sha1: &'static str,
}

const PINNED: &[Pinned] = &[
    Pinned {
        folder: "restic-0.18.0",
        program: "usr/bin/restic",
        link: Some(Link { name: "restic", at_least: (0, 18) }),
        path: "pool/main/r/restic/restic_0.18.0-1+b4",
        amd64: Hashes {
            sha256: "4888fb20b272a28b84ac39171b7d7f0d9a58c2aeae51ec28e54684648d66e12c",
            sha1: "88fb7f844024cf788dd8795cde8e2e7882a74ce4",
        },
        arm64: Hashes {
            sha256: "3877c6ef8efe052e80a6417b0ac0a672e644fd8bf5ef14e8b803ab6744e43be2",
            sha1: "1e01692b83ddcc314a52e1c8d5d3df276e822a34",
        },
    },
    Pinned {
        folder: "restic-0.19.1",
        program: "usr/bin/restic",
        link: None,
        path: "pool/main/r/restic/restic_0.19.1-1",
        amd64: Hashes {
            sha256: "97711c3125b5a65788a7e99fce8eb25f9a543fa8d83c4d7e54a5febe939a0f9e",
            sha1: "11f718141ddf19d695e87c473388f5e4e31c3657",
        },
        arm64: Hashes {
            sha256: "37f474371bf411d7b14dbc5d607d93beda117af94a7192a6bcecc7f81e3f8ff5",
            sha1: "3df8843baf93a6b7be823690c2b3f9289db22b73",
        },
    },
    Pinned {
        folder: "rest-server-0.13.0",
        program: "usr/bin/restic-rest-server",
        link: Some(Link { name: "rest-server", at_least: (0, 13) }),
        path: "pool/main/r/restic-rest-server/restic-rest-server_0.13.0-2",
        amd64: Hashes {
            sha256: "a493b3ddc6a89b8a01a35c4f72ee1aa87ff4cd84041bbd464c5775188495766d",
            sha1: "7408219dc899af085aa3c5b3441aa7c23c3c39d1",
        },
        arm64: Hashes {
            sha256: "914194886e389fb6d4e31026a2ee2a672bd3d5cba83c8100b05a067300e326fd",
            sha1: "eee528c6173cf0201192488144cffe2dde328f30",
        },
    },
];

/// Debian's name for this machine, if its packages can run here.
const ARCHITECTURE: Option<&str> = if !cfg!(target_os = "linux") {
    None
} else if cfg!(target_arch = "x86_64") {
    Some("amd64")
} else if cfg!(target_arch = "aarch64") {
    Some("arm64")
} else {
    None
};

/// Has every pinned program in its place, or one of the system's that will do.
pub(super) fn ensure(tools: &Path) -> Result<()> {
    for pinned in PINNED {
        match (pinned.ensure_unpacked(tools), &pinned.link) {
            (Ok(program), Some(link)) => set_link(tools, link.name, &program)?,
            (Ok(_), None) => {}
            (Err(error), Some(link)) => stand_in(tools, link)
                .with_context(|| format!("failed to get {}: {error:#}", pinned.folder))?,
            (Err(error), None) => {
                println!("tools: {} is NOT available: {error:#}", pinned.folder);
            }
        }
    }
    Ok(())
}

impl Pinned {
    /// Returns the program's path, relative to the tools folder.
    fn ensure_unpacked(&self, tools: &Path) -> Result<PathBuf> {
        let architecture = ARCHITECTURE.context("Debian has no package for this platform")?;
        let hashes = if architecture == "arm64" { self.arm64 } else { self.amd64 };
        let program = Path::new(self.folder).join(self.program);
        let stamp = tools.join(self.folder).join(".sha256");
        let stamped = fs::read_to_string(&stamp).unwrap_or_default();
        if stamped.trim() != hashes.sha256 || !tools.join(&program).is_file() {
            let package = self.ensure_fetched(tools, architecture, hashes)?;
            unpack(&package, &tools.join(self.folder), hashes.sha256)?;
            println!("tools: {} is ready", self.folder);
        }
        Ok(program)
    }

    /// Returns the package's path once its hash is right.
    fn ensure_fetched(&self, tools: &Path, architecture: &str, hashes: Hashes) -> Result<PathBuf> {
        let path = format!("{}_{architecture}.deb", self.path);
        let name = path.rsplit('/').next().unwrap_or(&path);
        let cache = tools.join("cache");
        let package = cache.join(name);
        fs::create_dir_all(&cache).context("failed to create the cache of packages")?;
        if package.is_file() && sha256(&package)? == hashes.sha256 {
            return Ok(package);
        }
        let part = cache.join(format!("{name}.{}", std::process::id()));
        let fetched = fetch(&mirrors::addresses(&path, hashes.sha1), &part, hashes.sha256);
        if fetched.is_ok() {
            fs::rename(&part, &package).context("failed to keep the package")?;
        } else {
            // Nothing to remove is the usual case: curl leaves no file behind when it fails.
            let _ = fs::remove_file(&part);
        }
        fetched.map(|()| package)
    }
}

/// Tries one address after the other until a file with the right hash has come.
pub(super) fn fetch(addresses: &[String], to: &Path, sha256_wanted: &str) -> Result<()> {
    let mut refusals = Vec::new();
    for address in addresses {
        println!("tools: fetching {address}");
        match fetch_from(address, to, sha256_wanted) {
            Ok(()) => return Ok(()),
            Err(error) => refusals.push(format!("{error:#}")),
        }
    }
    bail!("no address has it: {}", refusals.join("; "))
}

fn fetch_from(address: &str, to: &Path, sha256_wanted: &str) -> Result<()> {
    let mut curl = Command::new("curl");
    curl.args(["--fail", "--location", "--silent", "--show-error", "--retry", "2"]);
    curl.args(["--connect-timeout", "20", "--max-time", "600", "--output"]).arg(to).arg(address);
    let said = curl.stdin(Stdio::null()).output().context("failed to start curl")?;
    if !said.status.success() {
        bail!("{address}: {}", String::from_utf8_lossy(&said.stderr).trim());
    }
    let hash = sha256(to)?;
    if hash != sha256_wanted {
        bail!("{address} sent something else (SHA-256 {hash})");
    }
    Ok(())
}

/// Unpacks beside the place, then moves into it, so that no half of a package is ever used.
fn unpack(package: &Path, folder: &Path, sha256: &str) -> Result<()> {
    let mut fresh = folder.as_os_str().to_owned();
    fresh.push(format!(".{}", std::process::id()));
    let fresh = PathBuf::from(fresh);
    fs::create_dir_all(&fresh).context("failed to create a folder for the package")?;
    exec::output(Command::new("dpkg-deb").arg("-x").arg(package).arg(&fresh))?;
    fs::write(fresh.join(".sha256"), format!("{sha256}\n")).context("failed to write the stamp")?;
    if folder.exists() {
        fs::remove_dir_all(folder).context("failed to remove what was there before")?;
    }
    fs::rename(&fresh, folder).context("failed to move the package to its place")?;
    Ok(())
}

pub(super) fn sha256(file: &Path) -> Result<String> {
    let said = exec::output(Command::new("sha256sum").arg("--binary").arg(file))?;
    said.split_whitespace().next().map(str::to_owned).context("sha256sum said nothing")
}

/// Uses the system's own program, where it is there and new enough.
fn stand_in(tools: &Path, link: &Link) -> Result<()> {
    let name = format!("{}{}", link.name, env::consts::EXE_SUFFIX);
    let Some(program) = exec::which(&name) else {
        bail!("there is no `{name}` on the path either");
    };
    let said = ["version", "--version"].iter().find_map(|arg| exec::version_of(&program, &[arg]));
    let said = said.unwrap_or_default();
    if version_in(&said).is_none_or(|version| version < link.at_least) {
        let (major, minor) = link.at_least;
        bail!("`{}` is not {major}.{minor} or newer: it says {said:?}", program.display());
    }
    println!("tools: using {} instead: {said}", program.display());
    set_link(tools, link.name, &program)
}

/// The first word that looks like a version: `restic 0.18.0 compiled with …`.
fn version_in(said: &str) -> Option<(u32, u32)> {
    said.split_whitespace().find_map(|word| {
        let mut numbers = word.trim_start_matches('v').split('.');
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    })
}

/// Points `bin/<name>` at a program; a relative path counts from the tools folder.
pub(super) fn set_link(tools: &Path, name: &str, program: &Path) -> Result<()> {
    let bin = tools.join("bin");
    let link = bin.join(format!("{name}{}", env::consts::EXE_SUFFIX));
    let target = Path::new("..").join(program);
    if fs::read_link(&link).is_ok_and(|present| present == target) {
        return Ok(());
    }
    fs::create_dir_all(&bin).context("failed to create the folder of links")?;
    // Made aside and renamed, since tests that run at this moment may be using the old one.
    let fresh = bin.join(format!(".{name}.{}", std::process::id()));
    make_link(&target, &fresh).context("failed to make a link")?;
    fs::rename(&fresh, &link).context("failed to put a link in place")?;
    Ok(())
}

#[cfg(unix)]
fn make_link(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Links need a privilege on Windows; a copy serves as well.
#[cfg(not(unix))]
fn make_link(target: &Path, link: &Path) -> std::io::Result<()> {
    let folder = link.parent().unwrap_or(Path::new("."));
    fs::copy(folder.join(target), link).map(drop)
}

#[cfg(test)]
mod tests {
    use super::{PINNED, version_in};

    #[test]
    fn versions_are_found_in_what_programs_say() {
        let restic = "restic 0.18.0 compiled with go1.24.4 on linux/amd64";
        assert_eq!(version_in(restic), Some((0, 18)));
        assert_eq!(version_in("rest-server v0.13.0 (abc) compiled"), Some((0, 13)));
        assert_eq!(version_in("restic, a backup program"), None);
    }

    #[test]
    fn every_hash_is_written_out_in_full() {
        for hashes in PINNED.iter().flat_map(|pinned| [pinned.amd64, pinned.arm64]) {
            assert_eq!(hashes.sha256.len(), 64);
            assert_eq!(hashes.sha1.len(), 40);
        }
    }
}
