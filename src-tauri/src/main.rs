//! The desktop app. Everything it does is in the library.

// A console window beside the app's own would only be in the way.
#![cfg_attr(all(windows, not(debug_assertions)), windows_subsystem = "windows")]

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    server::memory::share_one_heap();
    desktop::run(desktop::Options::parse())
}
