//! `bench`: what the product costs, against yardsticks of the same run.
//!
//! The benches themselves are a program of the package `restic-manager-tests`; its last line is the JSON
//! object, and it writes `docs/benchmarks.md`.

use std::process::ExitCode;

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{exec, tools};

/// Builds the programs in the release profile, and hands over to the benches.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    tools::for_tests(workspace)?;
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--locked", "--release", "--bins"]);
    for package in ["restic-manager-server", "restic-manager-agent", "restic-manager-tests"] {
        cargo.args(["--package", package]);
    }
    exec::succeed(&mut cargo)?;
    let mut bench = workspace.command(workspace.built_for_release("bench")?);
    bench.arg("--root").arg(workspace.root().join("target/bench"));
    bench.arg("--tools").arg(workspace.tools_dir());
    bench.arg("--table").arg(workspace.root().join("docs/benchmarks.md"));
    Ok(exec::exit_code(exec::status(bench.args(args))?))
}
