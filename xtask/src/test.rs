//! `test`: every test of the workspace, ending with `N passed, N failed, N skipped`.
//!
//! Tests find the fetched tools through `RESTIC_MANAGER_TEST_TOOLS`. A test run in which nothing
//! passed is a failure, as is one that could not be compiled.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;
use crate::{fuzz, tools, ui};

/// How many inputs each fuzz target gets as part of the tests.
const FUZZ_RUNS: u64 = 50_000;

/// The test that mounts a disk of its own.
const WITH_A_DISK: &str = "who_fills_the_disk_of_the_database_is_held_back_and_nothing_is_lost";

/// What the names of the tests begin with that boot whole machines.
const WITH_A_MACHINE: &str = "endpoint::";

/// What was counted.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

/// Runs everything.
pub(crate) fn run(workspace: &Workspace, all: bool) -> Result<ExitCode> {
    let tally = count(workspace, all).unwrap_or_else(|error| {
        println!("error: {error:#}");
        Tally { failed: 1, ..Tally::default() }
    });
    let Tally { passed, failed, skipped } = tally;
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn count(workspace: &Workspace, all: bool) -> Result<Tally> {
    tools::for_tests(workspace)?;
    workspace.build_programs()?;
    let mut tally = cargo_test(workspace)?;
    ui::test(workspace, &mut tally)?;
    ui::test_in_browser(workspace, &mut tally)?;
    fuzz::smoke(workspace, FUZZ_RUNS, &mut tally)?;
    if all {
        on_other_machines(workspace, &mut tally)?;
    }
    Ok(tally)
}

fn cargo_test(workspace: &Workspace) -> Result<Tally> {
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--locked", "--workspace", "--all-features", "--no-fail-fast"]);
    cargo.env("RESTIC_MANAGER_TEST_TOOLS", workspace.tools_dir());
    cargo.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut left_out = Vec::new();
    let mut skipped = 0;
    if !may_mount(workspace) {
        println!("skipped: {WITH_A_DISK}: this system lets no test mount a disk of its own");
        left_out.push(WITH_A_DISK);
        skipped += 1;
    }
    if !may_boot(workspace) {
        println!("skipped: {WITH_A_MACHINE}*: booting takes root, systemd-nspawn and debootstrap");
        left_out.push(WITH_A_MACHINE);
        skipped += count_machines(workspace)?;
    }
    if !left_out.is_empty() {
        cargo.arg("--").args(left_out.iter().flat_map(|name| ["--skip", name]));
    }
    let mut tally = run_tests(cargo)?;
    tally.skipped += skipped;
    Ok(tally)
}

/// Runs the tests with whole machines on each further system.
fn on_other_machines(workspace: &Workspace, tally: &mut Tally) -> Result<()> {
    for suite in tools::MORE_SUITES {
        tools::ensure_root(workspace, suite)?;
        if !may_boot(workspace) {
            println!("skipped: {WITH_A_MACHINE}* on {suite}");
            tally.skipped += count_machines(workspace)?;
            continue;
        }
        println!("whole machines of Debian {suite}");
        let mut cargo = workspace.cargo();
        cargo.args(["test", "--locked", "--package", "restic-manager-tests", "--all-features"]);
        cargo.args(["--no-fail-fast", "--test", "endpoint"]).env("RESTIC_MANAGER_SUITE", suite);
        cargo.env("RESTIC_MANAGER_TEST_TOOLS", workspace.tools_dir());
        cargo.stdin(Stdio::null()).stdout(Stdio::piped());
        tally.add(&run_tests(cargo)?);
    }
    Ok(())
}

/// Runs `cargo test` to its end, and counts.
fn run_tests(mut cargo: Command) -> Result<Tally> {
    let mut child = cargo.spawn().context("failed to start `cargo test`")?;
    let mut tally = stream(&mut child)?;
    let status = child.wait().context("failed to wait for `cargo test`")?;
    if !status.success() && tally.failed == 0 {
        // It did not compile, or a test program died before it could say how many failed.
        println!("`cargo test` ended with {status}, counted as one failure");
        tally.failed = 1;
    }
    Ok(tally)
}

/// Whether a namespace of its own lets a program mount a disk, which containers and some distributions
/// refuse.
fn may_mount(workspace: &Workspace) -> bool {
    let mut unshare = workspace.command("unshare");
    unshare.args(["--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs"]);
    unshare.arg(workspace.root().join("target")).stderr(Stdio::null());
    unshare.status().is_ok_and(|status| status.success())
}

/// Whether whole machines can be booted, found out by starting a program in one as a machine is booted: in groups
/// of its own, from layers above a root that is there, in a network that is there.
fn may_boot(workspace: &Workspace) -> bool {
    const START: &str = r#"mkdir "$1/a" "$1/b" "$1/c" &&
        mount -t overlay overlay -o "lowerdir=$2,upperdir=$1/a,workdir=$1/b" "$1/c" || exit
        for above in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified /sys/fs/cgroup; do
            if [ -e "$above/cgroup.procs" ]; then
                mkdir -p "$above/restic-manager-trial" &&
                    echo $$ >"$above/restic-manager-trial/cgroup.procs" || exit
            fi
        done
        SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet --register=no --keep-unit \
            --machine=trial --resolv-conf=off --timezone=off --link-journal=no \
            --network-namespace-path=/proc/$$/ns/net -D "$1/c" true"#;
    const LEFT: &str =
        r#"find /sys/fs/cgroup -depth -path '*/restic-manager-trial*' -type d -exec rmdir {} +"#;
    let root = workspace.tools_dir().join("roots/bookworm");
    if !root.is_dir() || crate::exec::which("systemd-nspawn").is_none() {
        return false;
    }
    let folder = workspace.root().join("target").join(format!("layers-{}", std::process::id()));
    let _ = std::fs::create_dir_all(&folder);
    let mut unshare = workspace.command("unshare");
    unshare.args(["--mount", "--net", "sh", "-c", START, "sh"]).arg(&folder).arg(&root);
    unshare.stdin(Stdio::null()).stderr(Stdio::null());
    let started = unshare.status().is_ok_and(|status| status.success());
    // What cannot be removed is in nobody's way.
    let _ = workspace.command("sh").args(["-c", LEFT]).stderr(Stdio::null()).status();
    let _ = std::fs::remove_dir_all(&folder);
    started
}

/// How many tests boot whole machines.
fn count_machines(workspace: &Workspace) -> Result<u64> {
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--locked", "--package", "restic-manager-tests", "--all-features"]);
    cargo.args(["--test", "endpoint", "--", "--list", "--format=terse"]);
    let listed = crate::exec::output(&mut cargo)?;
    Ok(listed.lines().filter(|line| line.ends_with(": test")).count() as u64)
}

/// Passes the output on, line by line, and adds up what the test programs report.
fn stream(child: &mut Child) -> Result<Tally> {
    let output = child.stdout.take().context("failed to read the output of `cargo test`")?;
    let mut tally = Tally::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("failed to read the output of `cargo test`")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if let Some(part) = Tally::reported(&line) {
            tally.add(&part);
        }
    }
    Ok(tally)
}

impl Tally {
    /// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; …`.
    fn reported(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let count = |word: &str| {
            counts.split("; ").find_map(|part| part.strip_suffix(word)?.trim().parse().ok())
        };
        Some(Self {
            passed: count("passed")?,
            failed: count("failed")?,
            skipped: count("ignored")?,
        })
    }

    fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn result_lines_are_counted() {
        let ok = "test result: ok. 31 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(Tally::reported(ok), Some(Tally { passed: 31, failed: 0, skipped: 2 }));
        let bad = "test result: FAILED. 1 passed; 4 failed; 0 ignored; 0 measured; 7 filtered out; finished in 1.2s";
        assert_eq!(Tally::reported(bad), Some(Tally { passed: 1, failed: 4, skipped: 0 }));
    }

    #[test]
    fn other_lines_count_nothing() {
        assert_eq!(Tally::reported("test tests::result ... ok"), None);
        assert_eq!(Tally::reported("test result: something else"), None);
    }
}
