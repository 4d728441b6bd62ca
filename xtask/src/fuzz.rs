//! `fuzz`: the targets under `tests/fuzz`, driven by cargo-fuzz on a nightly toolchain.
//!
//! Finds go to `target/fuzz`, never into the repository; what is committed and worth starting from
//! (golden frames, recorded outputs) is read beside them.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::json;

use crate::test::Tally;
use crate::tools::CargoTool;
use crate::workspace::Workspace;
use crate::{exec, report};

/// Committed files that are good inputs to start from.
const COMMITTED: &[&str] = &[
    "crates/protocol/tests/golden/v1",
    "crates/protocol/tests/golden/v2",
    "crates/restic/tests/fixtures/0.14.0",
    "crates/restic/tests/fixtures/0.18.0",
];

/// The longest input, in bytes: a few lines. Longer ones say nothing new and take most of the time.
const MAX_INPUT: u32 = 1024;

/// What to fuzz, and for how long.
#[derive(Args)]
pub(crate) struct Options {
    /// One target; all of them where none is named
    target: Option<String>,
    /// How many inputs each target gets
    #[arg(long, default_value_t = 1_000_000)]
    runs: u64,
    /// Where the random inputs start from
    #[arg(long, default_value_t = 1)]
    seed: u32,
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
        let held = run_target(workspace, &target, options.runs, options.seed)?;
        ok &= held;
        results.push(json!({ "name": target, "ok": held }));
    }
    Ok(report::finish(&json!({ "ok": ok, "targets": results })))
}

/// A short run of each target, each counted as one test. Machines without a nightly toolchain
/// skip them, and say so.
pub(crate) fn smoke(workspace: &Workspace, runs: u64, tally: &mut Tally) -> Result<()> {
    if !has_targets(workspace) {
        return Ok(());
    }
    let count = declared_targets(workspace);
    let reason = if !has_nightly() {
        "there is no nightly toolchain (`rustup toolchain install nightly`)"
    } else {
        CargoTool::Fuzz.ensure(workspace)?;
        for target in targets(workspace)? {
            let held = run_target(workspace, &target, runs, 1)?;
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
    workspace.root().join("tests/fuzz/Cargo.toml").is_file()
}

/// How many targets there are, for machines on which cargo-fuzz cannot be asked.
fn declared_targets(workspace: &Workspace) -> u64 {
    let manifest = std::fs::read_to_string(workspace.root().join("tests/fuzz/Cargo.toml"));
    let text = manifest.unwrap_or_default();
    text.lines().filter(|line| line.trim() == "[[bin]]").map(|_| 1).sum()
}

fn has_nightly() -> bool {
    exec::version_of("rustup", &["run", "nightly", "rustc", "--version"]).is_some()
}

fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let listed = exec::output(&mut nightly_fuzz(workspace, "list")?)?;
    Ok(listed.lines().map(str::to_owned).collect())
}

/// Fuzzes one target with this many inputs. It starts from the committed inputs alone, so that seed
/// and count say what was done; inputs that reach something new are kept under `target/fuzz` until
/// the next run.
fn run_target(workspace: &Workspace, target: &str, runs: u64, seed: u32) -> Result<bool> {
    let found = workspace.root().join("target/fuzz").join(target);
    if found.exists() {
        std::fs::remove_dir_all(&found).context("failed to clear the folder for fuzz inputs")?;
    }
    std::fs::create_dir_all(&found).context("failed to create a folder for fuzz inputs")?;
    let mut fuzz = nightly_fuzz(workspace, "run")?;
    // What is fuzzed is safe Rust without C behind it: an address sanitizer finds nothing there and
    // makes everything seven times slower. Assertions and overflow checks stay on.
    fuzz.args(["--sanitizer", "none"]);
    fuzz.arg("--target-dir").arg(workspace.root().join("target/fuzz-build"));
    fuzz.arg(target).arg(found);
    fuzz.args(
        COMMITTED.iter().map(|path| workspace.root().join(path)).filter(|path| path.is_dir()),
    );
    fuzz.args(["--", "-verbosity=0", "-print_final_stats=1"]);
    fuzz.arg(format!("-runs={runs}")).arg(format!("-seed={seed}"));
    fuzz.arg(format!("-max_len={MAX_INPUT}"));
    Ok(exec::status(&mut fuzz)?.success())
}

/// cargo-fuzz with the nightly toolchain's cargo, rather than with the one that runs this.
fn nightly_fuzz(workspace: &Workspace, command: &str) -> Result<Command> {
    let Some(program) = CargoTool::Fuzz.find(workspace) else {
        bail!("cargo-fuzz is not installed")
    };
    let mut fuzz = workspace.command("rustup");
    fuzz.args(["run", "nightly"]).arg(program).args(["fuzz", command]);
    fuzz.arg("--fuzz-dir").arg(workspace.root().join("tests/fuzz"));
    for variable in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH"] {
        fuzz.env_remove(variable);
    }
    Ok(fuzz)
}
