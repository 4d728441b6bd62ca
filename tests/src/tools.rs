//! Where the programs are that the tests run.

use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};

/// The folder that `cargo xtask tools` fills.
#[derive(Clone, Debug)]
pub struct Tools(PathBuf);

impl Tools {
    /// Tools in this folder.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self(dir.into())
    }

    /// The tools of this workspace, or those that `RESTIC_MANAGER_TEST_TOOLS` names.
    #[must_use]
    pub fn of_workspace() -> Self {
        let named = std::env::var_os("RESTIC_MANAGER_TEST_TOOLS").map(PathBuf::from);
        Self(named.unwrap_or_else(|| workspace().join("target/tools")))
    }

    /// restic.
    ///
    /// # Errors
    /// When it is not there.
    pub fn restic(&self) -> Result<PathBuf> {
        self.tool("bin/restic")
    }

    /// Every pinned restic, oldest first.
    ///
    /// # Errors
    /// When one is not there.
    pub fn every_restic(&self) -> Result<Vec<PathBuf>> {
        ["restic-0.18.0/usr/bin/restic", "restic-0.19.1/usr/bin/restic"]
            .iter()
            .map(|path| self.tool(path))
            .collect()
    }

    /// The root of a Debian machine of this suite.
    ///
    /// # Errors
    /// When it is not there.
    pub fn root(&self, suite: &str) -> Result<PathBuf> {
        self.tool(&format!("roots/{suite}"))
    }

    /// rest-server.
    ///
    /// # Errors
    /// When it is not there.
    pub fn rest_server(&self) -> Result<PathBuf> {
        self.tool("bin/rest-server")
    }

    /// tauri-driver, which lets WebDriver at the app's window.
    ///
    /// # Errors
    /// When it is not there.
    pub fn tauri_driver(&self) -> Result<PathBuf> {
        self.tool("bin/tauri-driver")
    }

    fn tool(&self, path: &str) -> Result<PathBuf> {
        let tool = self.0.join(path);
        if !tool.exists() {
            bail!("{} is missing; run `cargo xtask tools`", tool.display());
        }
        Ok(tool)
    }
}

/// The root of the workspace.
#[must_use]
pub fn workspace() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// A program of this workspace, built beside the running test.
///
/// # Errors
/// When it was not built.
pub fn built(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("failed to find the running program")?;
    for folder in own.ancestors().skip(1).take(2) {
        let program = folder.join(name).with_extension(std::env::consts::EXE_EXTENSION);
        if program.exists() {
            return Ok(program);
        }
    }
    bail!(
        "{name} is not built; run the tests by `cargo xtask test`, or `cargo build --workspace --bins` first"
    )
}
