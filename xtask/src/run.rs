//! `run`: the coordinating server in the foreground, until Ctrl-C.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::workspace::Workspace;
use crate::{exec, report};

/// Builds and starts the server, and says at the end how it ended.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    workspace.build_programs()?;
    // The terminal sends Ctrl-C to the server as well. It decides when to stop; this program
    // stays for the last line.
    ctrlc::set_handler(|| {}).context("failed to take over Ctrl-C")?;
    let mut server = workspace.command(workspace.built("restic-manager-headless")?);
    let status = exec::status(server.args(args))?;
    Ok(report::finish(&json!({ "ok": status.success(), "exit_code": status.code() })))
}
