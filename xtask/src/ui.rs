//! The window's pages under `ui/`: what they are built from, their gates and their tests, by npm.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::exec;
use crate::test::Tally;
use crate::tools::Node;
use crate::workspace::Workspace;

/// Types, lints, format and the generated client.
pub(crate) fn check(workspace: &Workspace) -> Result<bool> {
    let node = ensure(workspace)?;
    Ok(exec::status(node.npm(workspace)?.args(["run", "--silent", "check"]))?.success())
}

/// Builds the pages into `ui/dist`, unless they are newer than all that they are made of: whoever
/// carries them would have to be compiled anew.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    let folder = workspace.root().join("ui");
    let built = newest(&folder.join("dist/index.html"))?;
    let mut sources = SystemTime::UNIX_EPOCH;
    for source in SOURCES {
        sources = sources.max(newest(&folder.join(source))?);
    }
    if built > sources {
        return Ok(());
    }
    let node = ensure(workspace)?;
    exec::succeed(node.npm(workspace)?.args(["run", "--silent", "build"]))
}

/// What the pages are made of, below `ui`.
const SOURCES: &[&str] =
    &["src", "public", "index.html", "package-lock.json", "svelte.config.js", "vite.config.ts"];

/// When a file, or anything in a folder, was last changed. What is not there is as old as can be.
fn newest(path: &Path) -> Result<SystemTime> {
    let Ok(about) = fs::metadata(path) else { return Ok(SystemTime::UNIX_EPOCH) };
    let mut newest = about.modified().context("failed to see when a file was changed")?;
    if about.is_dir() {
        for entry in fs::read_dir(path).context("failed to look into the window's folder")? {
            newest = newest.max(self::newest(&entry?.path())?);
        }
    }
    Ok(newest)
}

/// The tests of state, words and pages. A run that did not come to its end is one failure.
pub(crate) fn test(workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    let node = ensure(workspace)?;
    let report = workspace.root().join("target/ui/tests.json");
    if report.exists() {
        fs::remove_file(&report).context("failed to remove an old report of the window's tests")?;
    }
    let mut vitest = node.npm(workspace)?;
    vitest.args(["run", "--silent", "test", "--", "--reporter=default", "--reporter=json"]);
    vitest.arg(format!("--outputFile.json={}", report.display()));
    let succeeded = exec::status(&mut vitest)?.success();
    let told = fs::read(&report).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let counted = told.as_ref().and_then(counts).unwrap_or_default();
    let is_whole = succeeded == (counted.failed == 0) && counted != Tally::default();
    tally.passed += counted.passed;
    tally.skipped += counted.skipped;
    tally.failed += if is_whole { counted.failed } else { counted.failed.max(1) };
    Ok(())
}

fn counts(report: &Value) -> Option<Tally> {
    let count = |name: &str| report.get(name)?.as_u64();
    Some(Tally {
        passed: count("numPassedTests")?,
        failed: count("numFailedTests")?,
        skipped: count("numPendingTests")? + count("numTodoTests")?,
    })
}

/// Installs the locked packages, unless they are there.
fn ensure(workspace: &Workspace) -> Result<Node> {
    let node = Node::ensure(workspace)?;
    let root = workspace.root();
    let wanted = fs::read(root.join("ui/package-lock.json"))
        .context("failed to read the window's lock file")?;
    let stamp = root.join("target/ui/package-lock.json");
    let is_there = root.join("ui/node_modules").is_dir()
        && fs::read(&stamp).is_ok_and(|installed| installed == wanted);
    if is_there {
        return Ok(node);
    }
    println!("ui: installing the locked packages");
    exec::succeed(node.npm(workspace)?.args(["ci", "--no-audit", "--no-fund"]))?;
    fs::create_dir_all(root.join("target/ui")).context("failed to create target/ui")?;
    fs::write(&stamp, wanted).context("failed to note what is installed")?;
    Ok(node)
}

#[cfg(test)]
mod tests {
    use super::counts;
    use crate::test::Tally;

    #[test]
    fn the_tests_are_counted() {
        let report = serde_json::json!({"numPassedTests": 3, "numFailedTests": 1,
            "numPendingTests": 2, "numTodoTests": 1});
        assert_eq!(counts(&report), Some(Tally { passed: 3, failed: 1, skipped: 3 }));
        assert_eq!(counts(&serde_json::json!({})), None);
    }
}
