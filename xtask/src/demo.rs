//! `demo`: the product at work on this machine, from nothing.
//!
//! The demo itself is a program of the package `restic-manager-tests`, since it uses the test
//! kit. It writes below `target/demo` only, and its last line is the JSON object.

use std::process::ExitCode;

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{exec, tools};

/// Gets the tools, builds the programs, and hands over to the demo.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    tools::for_tests(workspace)?;
    workspace.build_programs()?;
    let mut demo = workspace.command(workspace.built("demo")?);
    demo.arg("--root").arg(workspace.root().join("target/demo"));
    demo.arg("--tools").arg(workspace.tools_dir()).args(args);
    Ok(exec::exit_code(exec::status(&mut demo)?))
}
