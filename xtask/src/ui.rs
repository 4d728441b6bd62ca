//! The window's pages under `ui/` and their tests in a browser under `tests/ui/`: what they are built
//! from, their gates and their tests, by npm.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::exec;
use crate::test::Tally;
use crate::tools::{self, Node};
use crate::workspace::Workspace;

/// The pages, with their own tests.
const PAGES: &str = "ui";
/// Their tests in a browser.
pub(crate) const BROWSER_TESTS: &str = "tests/ui";

/// Types, lints, format, the generated client, and whether it all builds.
pub(crate) fn check(workspace: &Workspace) -> Result<bool> {
    for (folder, script) in [(PAGES, "check"), (PAGES, "build"), (BROWSER_TESTS, "check")] {
        let mut npm = ensure(workspace, folder)?.npm(workspace, folder)?;
        if !exec::status(npm.args(["run", "--silent", script]))?.success() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The tests of state, words and pages. A run that did not come to its end is one failure.
pub(crate) fn test(workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    let node = ensure(workspace, PAGES)?;
    let report = fresh_report(workspace, "tests.json")?;
    let mut vitest = node.npm(workspace, PAGES)?;
    vitest.args(["run", "--silent", "test", "--", "--reporter=default", "--reporter=json"]);
    vitest.arg(format!("--outputFile.json={}", report.display()));
    count(&mut vitest, &report, counts, tally)
}

/// The tests of the built pages in Chromium, on stages with real servers and real machines.
pub(crate) fn test_in_browser(workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    let chromium = tools::ensure_chromium()?;
    build(workspace)?;
    let node = ensure(workspace, BROWSER_TESTS)?;
    let report = fresh_report(workspace, "browser.json")?;
    let mut playwright = node.npm(workspace, BROWSER_TESTS)?;
    playwright.args(["run", "--silent", "test", "--", "--reporter=list,json"]);
    playwright.env("PLAYWRIGHT_JSON_OUTPUT_NAME", &report);
    playwright.env("RESTIC_MANAGER_CHROMIUM", chromium);
    playwright.env("RESTIC_MANAGER_STAGE", workspace.built("stage")?);
    playwright.env("RESTIC_MANAGER_TEST_TOOLS", workspace.tools_dir());
    playwright.env("RESTIC_MANAGER_PAGES", workspace.root().join("ui/dist"));
    count(&mut playwright, &report, browser_counts, tally)
}

/// Builds the pages.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    let mut npm = ensure(workspace, PAGES)?.npm(workspace, PAGES)?;
    exec::succeed(npm.args(["run", "--silent", "build"]))
}

/// The place of a report that does not exist yet.
fn fresh_report(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    let folder = workspace.root().join("target/ui");
    fs::create_dir_all(&folder).context("failed to create target/ui")?;
    let report = folder.join(name);
    if report.exists() {
        fs::remove_file(&report).context("failed to remove an old report of the window's tests")?;
    }
    Ok(report)
}

/// Runs tests and adds what their report tells. A run that did not come to its end is one failure.
fn count(
    tests: &mut Command,
    report: &Path,
    counts: impl Fn(&Value) -> Option<Tally>,
    tally: &mut Tally,
) -> Result<()> {
    let succeeded = exec::status(tests)?.success();
    let told = fs::read(report).ok().and_then(|text| serde_json::from_slice(&text).ok());
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

/// What Playwright counts: how tests ended against how they were expected to.
fn browser_counts(report: &Value) -> Option<Tally> {
    let stats = report.get("stats")?;
    let count = |name: &str| stats.get(name)?.as_u64();
    Some(Tally {
        passed: count("expected")?,
        failed: count("unexpected")? + count("flaky")?,
        skipped: count("skipped")?,
    })
}

/// Installs a folder's locked packages, unless they are there.
pub(crate) fn ensure(workspace: &Workspace, folder: &str) -> Result<Node> {
    let node = Node::ensure(workspace)?;
    let (root, stamps) = (workspace.root(), workspace.root().join("target").join(folder));
    let wanted = fs::read(root.join(folder).join("package-lock.json"))
        .with_context(|| format!("failed to read the lock file of {folder}"))?;
    let stamp = stamps.join("package-lock.json");
    let is_there = root.join(folder).join("node_modules").is_dir()
        && fs::read(&stamp).is_ok_and(|installed| installed == wanted);
    if is_there {
        return Ok(node);
    }
    println!("{folder}: installing the locked packages");
    let mut install = node.npm(workspace, folder)?;
    // The browser is the system's own.
    install.env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1");
    exec::succeed(install.args(["ci", "--no-audit", "--no-fund"]))?;
    fs::create_dir_all(&stamps).context("failed to create a folder below target")?;
    fs::write(&stamp, wanted).context("failed to note what is installed")?;
    Ok(node)
}

#[cfg(test)]
mod tests {
    use super::{browser_counts, counts};
    use crate::test::Tally;

    #[test]
    fn the_tests_are_counted() {
        let report = serde_json::json!({"numPassedTests": 3, "numFailedTests": 1,
            "numPendingTests": 2, "numTodoTests": 1});
        assert_eq!(counts(&report), Some(Tally { passed: 3, failed: 1, skipped: 3 }));
        assert_eq!(counts(&serde_json::json!({})), None);
        let stats = serde_json::json!({"expected": 3, "unexpected": 1, "flaky": 1, "skipped": 2});
        let report = serde_json::json!({ "stats": stats });
        assert_eq!(browser_counts(&report), Some(Tally { passed: 3, failed: 2, skipped: 2 }));
        assert_eq!(browser_counts(&serde_json::json!({})), None);
    }
}
