//! `simulate`: worlds in which much goes wrong, each from one number.
//!
//! The simulation is a program of the package `restic-manager-tests`; its last line is the JSON object.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::exec;
use crate::workspace::Workspace;

/// What it is built with: Cargo.toml says why.
const PROFILE: &str = "simulate";

/// Builds the simulation with what only tests have, and says where it is.
pub(crate) fn built(workspace: &Workspace) -> Result<PathBuf> {
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--locked", "--profile", PROFILE, "--workspace", "--all-features"]);
    exec::succeed(cargo.args(["--bin", "simulate"]))?;
    workspace.built_in(PROFILE, "simulate")
}

/// Builds the simulation and hands over to it.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    let mut simulate = workspace.command(built(workspace)?);
    Ok(exec::exit_code(exec::status(simulate.args(args))?))
}
