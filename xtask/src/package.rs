//! `package`: what users install. Today that is the `.deb` of the app, into `target/package`.

use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::json;

use crate::tools::CargoTool;
use crate::workspace::Workspace;
use crate::{exec, report, tools, ui};

/// What to do beside building.
#[derive(Args)]
pub(crate) struct Options {
    /// Install the package in a fresh Debian root, start it there, and remove it; takes root
    #[arg(long = "try")]
    try_it: bool,
}

/// Builds the package, has lintian judge it, and tries it if that is wanted.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    tools::for_building()?;
    tools::ensure_program("lintian", "lintian", "judging the package")?;
    ui::build(workspace)?;
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--locked", "--release", "--bins"]);
    cargo.args(["--package", "restic-manager", "--features", "custom-protocol"]);
    cargo.args(["--package", "restic-manager-server"]);
    exec::succeed(&mut cargo)?;

    let folder = workspace.root().join("target/package");
    fs::create_dir_all(&folder).context("failed to create target/package")?;
    let mut deb = CargoTool::Deb.command(workspace)?;
    deb.args(["--package", "restic-manager", "--no-build", "--locked", "--quiet", "--output"]);
    let built = exec::output(deb.arg(&folder))?;
    let package = built.lines().last().context("cargo-deb did not say what it built")?.to_owned();
    let judged = exec::status(Command::new("lintian").args(["--fail-on", "error"]).arg(&package))?;
    ensure!(judged.success(), "lintian found errors in {package}");
    if options.try_it {
        tools::ensure_program("debootstrap", "debootstrap", "a fresh Debian root")?;
        let mut trial = workspace.command("installers/linux/try-deb.sh");
        exec::succeed(trial.arg(&package).arg(workspace.root().join("target/package/root")))?;
    }
    let bytes = fs::metadata(&package).context("failed to look at the package")?.len();
    Ok(report::finish(
        &json!({ "ok": true, "deb": package, "bytes": bytes, "tried": options.try_it }),
    ))
}
