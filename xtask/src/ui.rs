//! The window's pages under `ui/`: what they are built from, their gates and their tests, by npm.

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::exec;
use crate::test::Tally;
use crate::tools::Node;
use crate::workspace::Workspace;

/// The folder of the pages' package.
const PAGES: &str = "ui";
/// The folder of the package of the tests in a browser.
pub(crate) const TESTS: &str = "tests/ui";

/// Types, lints, format, the generated client, and whether it all builds.
pub(crate) fn check(workspace: &Workspace) -> Result<bool> {
    let node = ensure(workspace, PAGES)?;
    for script in ["check", "build"] {
        if !exec::status(node.npm(workspace, PAGES)?.args(["run", "--silent", script]))?.success() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The tests of state, words and pages. A run that did not come to its end is one failure.
pub(crate) fn test(workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    let node = ensure(workspace, PAGES)?;
    let report = workspace.root().join("target/ui/tests.json");
    if report.exists() {
        fs::remove_file(&report).context("failed to remove an old report of the window's tests")?;
    }
    let mut vitest = node.npm(workspace, PAGES)?;
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

/// Builds the pages, and returns what built them.
pub(crate) fn build(workspace: &Workspace) -> Result<Node> {
    let node = ensure(workspace, PAGES)?;
    exec::succeed(node.npm(workspace, PAGES)?.args(["run", "--silent", "build"]))?;
    Ok(node)
}

/// Installs a folder's locked packages, unless they are there.
pub(crate) fn ensure(workspace: &Workspace, folder: &str) -> Result<Node> {
    let node = Node::ensure(workspace)?;
    let root = workspace.root();
    let wanted = fs::read(root.join(folder).join("package-lock.json"))
        .with_context(|| format!("failed to read the lock file of {folder}"))?;
    let stamps = root.join("target").join(folder);
    let stamp = stamps.join("package-lock.json");
    let is_there = root.join(folder).join("node_modules").is_dir()
        && fs::read(&stamp).is_ok_and(|installed| installed == wanted);
    if is_there {
        return Ok(node);
    }
    println!("{folder}: installing the locked packages");
    exec::succeed(node.npm(workspace, folder)?.args(["ci", "--no-audit", "--no-fund"]))?;
    fs::create_dir_all(&stamps)
        .with_context(|| format!("failed to create {}", stamps.display()))?;
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
