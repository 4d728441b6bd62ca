//! `run`: the app, until it is quit.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::workspace::Workspace;
use crate::{exec, report, tools};

/// Builds and starts the app, and says at the end how it ended.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    tools::for_building()?;
    workspace.build_programs()?;
    // The terminal sends Ctrl-C to the app as well. It decides when to stop; this program stays for
    // the last line.
    ctrlc::set_handler(|| {}).context("failed to take over Ctrl-C")?;
    let mut app = workspace.command(workspace.built("restic-manager")?);
    let status = exec::status(app.args(args))?;
    Ok(report::finish(&json!({ "ok": status.success(), "exit_code": status.code() })))
}
