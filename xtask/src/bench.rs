//! `bench`: what the product costs, against yardsticks of the same run.
//!
//! The benches themselves are a program of the package `restic-manager-tests`; its last line is the JSON
//! object, and it writes `docs/benchmarks.md`.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;
use crate::{exec, simulate, tools};

/// The programs that are measured or measure, by the profile in which they are shipped.
const PROGRAMS: &[(&str, &[(&str, &str)])] = &[
    (
        "release",
        &[("restic-manager-server", "restic-manager-headless"), ("restic-manager-tests", "bench")],
    ),
    ("agent", &[("restic-manager-agent", "restic-manager-agent")]),
];

/// Builds the programs as they are shipped, and hands over to the benches.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    tools::for_tests(workspace)?;
    let folder = workspace.root().join("target/bench");
    // Side by side: that is where programs of this workspace look for each other.
    let programs = folder.join("programs");
    fs::create_dir_all(&programs).context("failed to make a folder for the benches")?;
    for (profile, built) in PROGRAMS {
        let mut cargo = workspace.cargo();
        cargo.args(["build", "--locked", "--profile", profile]);
        for (package, program) in *built {
            cargo.args(["--package", package, "--bin", program]);
        }
        exec::succeed(&mut cargo)?;
        for (_, program) in *built {
            let from = workspace.built_in(profile, program)?;
            let to = programs.join(from.file_name().context("a program without a name")?);
            fs::copy(&from, &to).with_context(|| format!("failed to copy {}", from.display()))?;
        }
    }
    // Worlds are simulated with what only tests have, which no shipped profile takes.
    let simulate = simulate::built(workspace)?;
    fs::copy(&simulate, programs.join(simulate.file_name().context("a program without a name")?))
        .with_context(|| format!("failed to copy {}", simulate.display()))?;
    let mut bench = workspace.command(programs.join("bench"));
    bench.arg("--root").arg(folder.join("data"));
    bench.arg("--tools").arg(workspace.tools_dir());
    bench.arg("--table").arg(workspace.root().join("docs/benchmarks.md"));
    Ok(exec::exit_code(exec::status(bench.args(args))?))
}
