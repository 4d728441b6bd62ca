//! What has to be on a machine, and how it gets there.
//!
//! Programs of the operating system ([`system`]); restic and rest-server in pinned, hash-checked
//! versions under `target/tools` ([`debian`], [`mirrors`]); Node.js ([`node`]); cargo's subcommands
//! ([`cargo_tools`]).
//! Everything is looked for first, so a second call does nothing.

mod cargo_tools;
mod debian;
mod mirrors;
mod node;
mod system;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

pub(crate) use cargo_tools::CargoTool;
pub(crate) use node::Node;

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

/// Finds the browser that pages are looked at with, or installs it.
pub(crate) fn chromium() -> Result<PathBuf> {
    system::chromium()
}

/// Makes the machine ready for the tests and the demo, which need no cargo subcommands.
pub(crate) fn for_tests(workspace: &Workspace) -> Result<()> {
    system::ensure()?;
    debian::ensure(&workspace.tools_dir())
}
