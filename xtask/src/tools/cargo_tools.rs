//! Cargo's subcommands, each in one pinned version.
//!
//! One that is on the path in the pinned version is used. Otherwise the pinned one is built into
//! `target/tools/cargo`, and what the developer has installed stays as it is.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::exec;
use crate::workspace::Workspace;

/// A subcommand of cargo that is not part of the toolchain.
#[derive(Clone, Copy)]
pub(crate) enum CargoTool {
    /// Checks bans, licences and sources of the dependencies.
    Deny,
    /// Makes databases from migrations.
    Sqlx,
    /// Makes Debian packages.
    Deb,
    /// Drives libFuzzer; wants a nightly toolchain when it runs.
    Fuzz,
}

/// How a tool is named, found and built.
struct Pin {
    package: &'static str,
    version: &'static str,
    binary: &'static str,
    /// The arguments that a cargo subcommand expects before its own.
    before: &'static str,
    build_options: &'static [&'static str],
}

impl CargoTool {
    fn pin(self) -> Pin {
        match self {
            Self::Deny => Pin {
                package: "cargo-deny",
                version: "0.20.2",
                binary: "cargo-deny",
                before: "deny",
                build_options: &[],
            },
            Self::Sqlx => Pin {
                package: "sqlx-cli",
                version: "0.9.0",
                binary: "cargo-sqlx",
                before: "sqlx",
                build_options: &["--no-default-features", "--features", "sqlite"],
            },
            Self::Deb => Pin {
                package: "cargo-deb",
                version: "3.8.0",
                binary: "cargo-deb",
                before: "deb",
                build_options: &[],
            },
            Self::Fuzz => Pin {
                package: "cargo-fuzz",
                version: "0.13.2",
                binary: "cargo-fuzz",
                before: "fuzz",
                build_options: &[],
            },
        }
    }

    /// Where the tool is in the pinned version, if it is there.
    pub(crate) fn find(self, workspace: &Workspace) -> Option<PathBuf> {
        let pin = self.pin();
        let name = format!("{}{}", pin.binary, std::env::consts::EXE_SUFFIX);
        let own = install_root(workspace).join("bin").join(&name);
        [Some(own), exec::which(&name)].into_iter().flatten().find(|path| pin.is_version_of(path))
    }

    /// Finds the tool, or builds it.
    pub(crate) fn ensure(self, workspace: &Workspace) -> Result<PathBuf> {
        if let Some(path) = self.find(workspace) {
            return Ok(path);
        }
        let pin = self.pin();
        println!("tools: building {} {}, which takes some minutes", pin.package, pin.version);
        // Not optimised: these run for seconds, and take minutes to build.
        let mut cargo = workspace.cargo();
        cargo.args(["install", "--quiet", "--locked", "--debug", "--force", "--version"]);
        cargo.arg(pin.version).arg("--root").arg(install_root(workspace));
        cargo.args(pin.build_options).arg(pin.package);
        cargo.env("CARGO_PROFILE_DEV_DEBUG", "false");
        exec::succeed(&mut cargo)?;
        match self.find(workspace) {
            Some(path) => Ok(path),
            None => bail!("{} {} was built, and does not run", pin.package, pin.version),
        }
    }

    /// The tool as `cargo <subcommand>` would start it.
    pub(crate) fn command(self, workspace: &Workspace) -> Result<Command> {
        let mut command = workspace.command(self.ensure(workspace)?);
        command.arg(self.pin().before);
        Ok(command)
    }
}

impl Pin {
    fn is_version_of(&self, path: &std::path::Path) -> bool {
        exec::version_of(path, &[self.before, "--version"])
            .is_some_and(|said| said.split_whitespace().any(|word| word == self.version))
    }
}

fn install_root(workspace: &Workspace) -> PathBuf {
    workspace.tools_dir().join("cargo")
}
