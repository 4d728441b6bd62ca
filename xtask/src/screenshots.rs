//! `screenshots`: pictures of every screen, in three sizes, light and dark, of fleets of 0, 3 and 300
//! machines, from the real headless server with made data.
//!
//! A script beside the browser tests takes them with their browser; see `tests/ui/screenshots.mjs`
//! for its arguments. Its last line is the JSON object.

use std::process::ExitCode;

use anyhow::Result;

use crate::workspace::Workspace;
use crate::{exec, tools, ui};

/// Builds programs and pages, and hands over to the script.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    let browser = tools::ensure_chromium()?;
    ui::build(workspace)?;
    let node = ui::ensure(workspace, ui::BROWSER_TESTS)?;
    workspace.build_programs()?;
    let programs = workspace.built("made")?;
    let root = workspace.root();
    let mut script = node.node(workspace)?;
    script.current_dir(root.join(ui::BROWSER_TESTS)).arg("screenshots.mjs");
    if let Some(folder) = programs.parent() {
        script.arg("--programs").arg(folder);
    }
    script.arg("--pages").arg(root.join("ui/dist"));
    script.arg("--out").arg(root.join("target/screenshots"));
    script.arg("--browser").arg(browser).args(args);
    Ok(exec::exit_code(exec::status(&mut script)?))
}
