//! What has to be on a machine, and how it gets there.
//!
//! Programs of the operating system ([`system`]); restic and rest-server in pinned, hash-checked
//! versions under `target/tools` ([`debian`], [`mirrors`]); whole machines to boot ([`roots`]); Node.js
//! ([`node`]); the window's driver ([`tauri_driver`]); cargo's subcommands ([`cargo_tools`]).
//! Everything is looked for first, so a second call does nothing.

mod cargo_tools;
mod debian;
mod mirrors;
mod node;
mod roots;
mod system;
mod tauri_driver;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

pub(crate) use cargo_tools::CargoTool;
pub(crate) use node::Node;
pub(crate) use roots::MORE_SUITES;

use crate::report;
use crate::workspace::Workspace;

/// Makes the machine ready for every other command.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    for_tests(workspace)?;
    for tool in [CargoTool::Deny, CargoTool::Sqlx] {
        tool.ensure(workspace)?;
    }
    let tools = workspace.tools_dir();
    Ok(report::finish(&json!({
        "ok": true,
        "tools": tools,
        "restic": tools.join("bin/restic"),
        "rest_server": tools.join("bin/rest-server"),
    })))
}

/// Makes the machine ready to build all programs, and to start the app.
pub(crate) fn for_building() -> Result<()> {
    system::ensure_for_building()
}

/// Finds a program, or installs the package that brings it.
pub(crate) fn ensure_program(name: &str, package: &str, needed_for: &str) -> Result<()> {
    system::ensure_program(name, package, needed_for)
}

/// Makes the root of a whole machine of this Debian, where one can be booted.
pub(crate) fn ensure_root(workspace: &Workspace, suite: &str) -> Result<()> {
    roots::ensure_suite(&workspace.tools_dir(), suite)
}

/// Finds Chromium for the tests of the pages, or installs the system's.
pub(crate) fn ensure_chromium() -> Result<PathBuf> {
    system::ensure_chromium()
}

/// Makes the machine ready for the tests and the demo, which need no cargo subcommands.
pub(crate) fn for_tests(workspace: &Workspace) -> Result<()> {
    system::ensure_for_tests()?;
    debian::ensure(&workspace.tools_dir())?;
    roots::ensure(&workspace.tools_dir())?;
    tauri_driver::ensure(workspace)
}
