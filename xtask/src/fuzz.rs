//! `fuzz`: the targets under `fuzz/`, driven by cargo-fuzz on a nightly toolchain.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::json;

use crate::test::Tally;
use crate::tools::CargoTool;
use crate::workspace::Workspace;
use crate::{exec, report};

/// What to fuzz, and for how long.
#[derive(Args)]
pub(crate) struct Options {
    /// One target; all of them where none is named
    target: Option<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// `fuzz`: runs one target or all of them.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    if !has_targets(workspace) {
        println!("there are no fuzz targets yet");
        return Ok(report::finish(&json!({ "ok": true, "targets": [] })));
    }
    if !has_nightly() {
        bail!("fuzzing needs a nightly toolchain: run `rustup toolchain install nightly`");
    }
    CargoTool::Fuzz.ensure(workspace)?;
    let targets = match &options.target {
        Some(target) => vec![target.clone()],
        None => targets(workspace)?,
    };
    let mut ok = true;
    let mut results = Vec::new();
    for target in targets {
        let held = run_target(workspace, &target, options.seconds)?;
        ok &= held;
        results.push(json!({ "name": target, "ok": held }));
    }
    Ok(report::finish(&json!({ "ok": ok, "targets": results })))
}

/// A short run of each target, each counted as one test. Machines without a nightly toolchain or
/// without cargo-fuzz skip them, and say so.
pub(crate) fn smoke(workspace: &Workspace, seconds: u32, tally: &mut Tally) -> Result<()> {
    if !has_targets(workspace) {
        return Ok(());
    }
    let count = declared_targets(workspace);
    let reason = if !has_nightly() {
        "there is no nightly toolchain (`rustup toolchain install nightly`)"
    } else if CargoTool::Fuzz.find(workspace).is_none() {
        "cargo-fuzz is not installed (`cargo xtask fuzz` installs it)"
    } else {
        for target in targets(workspace)? {
            let held = run_target(workspace, &target, seconds)?;
            println!("fuzz target {target} ... {}", if held { "ok" } else { "FAILED" });
            if held { tally.passed += 1 } else { tally.failed += 1 }
        }
        return Ok(());
    };
    println!("{count} fuzz targets skipped: {reason}");
    tally.skipped += count;
    Ok(())
}

fn has_targets(workspace: &Workspace) -> bool {
    workspace.root().join("fuzz/Cargo.toml").is_file()
}

/// How many targets there are, for machines on which cargo-fuzz cannot be asked.
fn declared_targets(workspace: &Workspace) -> u64 {
    let manifest = std::fs::read_to_string(workspace.root().join("fuzz/Cargo.toml"));
    let text = manifest.unwrap_or_default();
    text.lines().filter(|line| line.trim() == "[[bin]]").map(|_| 1).sum()
}

fn has_nightly() -> bool {
    exec::version_of("rustup", &["run", "nightly", "rustc", "--version"]).is_some()
}

fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let listed = exec::output(nightly_fuzz(workspace)?.arg("list"))?;
    Ok(listed.lines().map(str::to_owned).collect())
}

/// Fuzzes one target. Inputs that reach something new are kept under `target/fuzz`; those in
/// `fuzz/corpus` are read, and grow only when somebody adds one on purpose.
fn run_target(workspace: &Workspace, target: &str, seconds: u32) -> Result<bool> {
    let found = workspace.root().join("target/fuzz").join(target);
    std::fs::create_dir_all(&found).context("failed to create a folder for fuzz inputs")?;
    let mut fuzz = nightly_fuzz(workspace)?;
    fuzz.args(["run", target]).arg(found);
    let committed = workspace.root().join("fuzz/corpus").join(target);
    if committed.is_dir() {
        fuzz.arg(committed);
    }
    fuzz.args(["--", "-verbosity=0"]).arg(format!("-max_total_time={seconds}"));
    Ok(exec::status(&mut fuzz)?.success())
}

/// cargo-fuzz with the nightly toolchain's cargo, rather than with the one that runs this.
fn nightly_fuzz(workspace: &Workspace) -> Result<Command> {
    let Some(program) = CargoTool::Fuzz.find(workspace) else {
        bail!("cargo-fuzz is not installed")
    };
    let mut fuzz = workspace.command("rustup");
    fuzz.args(["run", "nightly"]).arg(program).arg("fuzz");
    for variable in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH"] {
        fuzz.env_remove(variable);
    }
    Ok(fuzz)
}
