//! The last line of a command, which is what scripts read.

use std::process::ExitCode;

use serde_json::{Value, json};

/// Prints the closing object, and turns its `ok` into the exit status.
pub(crate) fn finish(summary: &Value) -> ExitCode {
    println!("{summary}");
    if summary["ok"] == Value::Bool(true) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says why a command could not do its work at all.
pub(crate) fn broken(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    finish(&json!({ "ok": false, "error": format!("{error:#}") }))
}
