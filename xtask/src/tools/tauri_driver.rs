//! tauri-driver, in one pinned version: it lets WebDriver at the app's window.
//!
//! It is built into a folder of that version, since it cannot be asked which one it is.

use std::env;
use std::path::Path;

use anyhow::Result;

use super::debian::set_link;
use crate::exec;
use crate::workspace::Workspace;

const VERSION: &str = "2.1.0";

/// Builds it, unless it is there, and links it from `target/tools/bin`.
pub(super) fn ensure(workspace: &Workspace) -> Result<()> {
    // macOS has no driver for its webview.
    if cfg!(target_os = "macos") {
        return Ok(());
    }
    let tools = workspace.tools_dir();
    let folder = format!("tauri-driver-{VERSION}");
    let program = format!("{folder}/bin/tauri-driver{}", env::consts::EXE_SUFFIX);
    if !tools.join(&program).is_file() {
        println!("tools: building tauri-driver {VERSION}");
        let mut cargo = workspace.cargo();
        cargo.args(["install", "--quiet", "--locked", "--debug", "--version", VERSION, "--root"]);
        cargo.arg(tools.join(&folder)).arg("tauri-driver");
        cargo.env("CARGO_PROFILE_DEV_DEBUG", "false");
        exec::succeed(&mut cargo)?;
    }
    set_link(&tools, "tauri-driver", Path::new(&program))
}
