//! Where things are, and cargo as a developer would call it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{exec, ui};

/// The checkout that this program was called in.
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// Finds the checkout. Cargo names the folder of this package in the environment.
    pub(crate) fn locate() -> Result<Self> {
        let package = env::var_os("CARGO_MANIFEST_DIR")
            .unwrap_or_else(|| OsString::from(env!("CARGO_MANIFEST_DIR")));
        let root = Path::new(&package).parent().context("failed to find the workspace's folder")?;
        Ok(Self { root: root.to_path_buf() })
    }

    /// The folder that holds the workspace's `Cargo.toml`.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where fetched tools live, whatever cargo's own target folder is: tests and scripts rely
    /// on this place.
    pub(crate) fn tools_dir(&self) -> PathBuf {
        self.root.join("target/tools")
    }

    /// Where the databases of the checked queries live.
    pub(crate) fn dev_dir(&self) -> PathBuf {
        self.root.join("target/dev")
    }

    /// Cargo in the workspace's folder, as if it were called from a shell.
    pub(crate) fn cargo(&self) -> Command {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        self.command(cargo)
    }

    /// Any program in the workspace's folder, without what `cargo run` put into our environment.
    ///
    /// Build scripts such as ring's watch the `CARGO_PKG_*` variables: left in place, every
    /// change between `cargo build` and `cargo xtask` would compile half the tree again.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(belongs_to_cargo_run) {
                command.env_remove(name);
            }
        }
        command
    }

    /// A built program of the dev profile.
    pub(crate) fn built(&self, program: &str) -> Result<PathBuf> {
        // Cargo's own name for that profile's folder.
        self.built_in("debug", program)
    }

    /// A built program of any other profile.
    pub(crate) fn built_in(&self, profile: &str, program: &str) -> Result<PathBuf> {
        let name = format!("{program}{}", env::consts::EXE_SUFFIX);
        Ok(self.cargo_target_dir()?.join(profile).join(name))
    }

    /// Builds the pages and all programs, with the features that `test` compiles them with, so that
    /// nothing is compiled twice. The app carries the pages.
    pub(crate) fn build_programs(&self) -> Result<()> {
        ui::build(self)?;
        let mut cargo = self.cargo();
        cargo.args(["build", "--locked", "--workspace", "--all-features", "--bins"]);
        exec::succeed(&mut cargo)
    }

    fn cargo_target_dir(&self) -> Result<PathBuf> {
        let mut cargo = self.cargo();
        cargo.args(["metadata", "--format-version=1", "--no-deps", "--offline"]);
        let metadata: Value = serde_json::from_str(&exec::output(&mut cargo)?)
            .context("failed to read cargo's metadata")?;
        let folder = metadata["target_directory"].as_str();
        Ok(folder.context("failed to find cargo's target folder")?.into())
    }
}

fn belongs_to_cargo_run(variable: &str) -> bool {
    let families = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"];
    let singles = ["CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE", "OUT_DIR"];
    families.iter().any(|family| variable.starts_with(family)) || singles.contains(&variable)
}

#[cfg(test)]
mod tests {
    use super::belongs_to_cargo_run;

    #[test]
    fn a_developers_own_settings_reach_cargo() {
        assert!(belongs_to_cargo_run("CARGO_PKG_VERSION"));
        assert!(belongs_to_cargo_run("CARGO_MANIFEST_DIR"));
        assert!(!belongs_to_cargo_run("CARGO_TARGET_DIR"));
        assert!(!belongs_to_cargo_run("CARGO_HOME"));
        assert!(!belongs_to_cargo_run("RUSTUP_TOOLCHAIN"));
    }
}
