//! `check`: the fast gates. All of them run even when one fails, so that one run shows everything.
//!
//! The architecture and tidy tests are in `test`, in the package `restic-manager-tests`.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::databases::{self, Database};
use crate::tools::CargoTool;
use crate::workspace::Workspace;
use crate::{exec, report, tools, ui};

/// How a gate ended. A gate with nothing to look at holds.
enum Verdict {
    Holds,
    NothingToCheck,
    Broken,
}

/// A gate's name, verdict and duration.
struct Gate {
    name: String,
    verdict: Verdict,
    took: Duration,
}

/// Runs all gates.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    tools::for_building()?;
    let mut gates = vec![
        // First, since the app carries the pages and cannot be compiled without.
        gate("pages", || ui::build(workspace).map(|()| Verdict::Holds)),
        gate("fmt", || judge(workspace.cargo().args(["fmt", "--all", "--check"]))),
        gate("clippy", || judge(&mut clippy(workspace))),
        gate("doc", || judge(&mut doc(workspace))),
        gate("deny", || judge(&mut deny(workspace)?)),
    ];
    for database in databases::ALL {
        let name = format!("sqlx-{}", database.name);
        gates.push(gate(&name, || queries(workspace, database)));
    }

    gates.push(gate("ui", || {
        Ok(if ui::check(workspace)? { Verdict::Holds } else { Verdict::Broken })
    }));

    println!();
    for gate in &gates {
        println!("{:<14} {:<18} {:>6.1} s", gate.name, gate.verdict(), gate.took.as_secs_f64());
    }
    let ok = gates.iter().all(Gate::holds);
    let gates: Vec<_> =
        gates.iter().map(|gate| json!({ "name": gate.name, "ok": gate.holds() })).collect();
    Ok(report::finish(&json!({ "ok": ok, "gates": gates })))
}

fn clippy(workspace: &Workspace) -> Command {
    let mut cargo = workspace.cargo();
    cargo.args(["clippy", "--locked", "--workspace", "--all-targets", "--all-features"]);
    cargo.args(["--", "-D", "warnings"]);
    cargo
}

fn doc(workspace: &Workspace) -> Command {
    let mut cargo = workspace.cargo();
    cargo.args(["doc", "--locked", "--workspace", "--no-deps", "--all-features"]);
    cargo.arg("--document-private-items").env("RUSTDOCFLAGS", "-D warnings");
    cargo
}

fn deny(workspace: &Workspace) -> Result<Command> {
    let mut deny = CargoTool::Deny.command(workspace)?;
    deny.args(["--locked", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"]);
    Ok(deny)
}

/// Compares a crate's `.sqlx` folder with its queries and migrations.
fn queries(workspace: &Workspace, database: &Database) -> Result<Verdict> {
    if !database.has_queries(workspace)? && !database.has_descriptions(workspace) {
        return Ok(Verdict::NothingToCheck);
    }
    database.check(workspace)?;
    Ok(Verdict::Holds)
}

fn judge(command: &mut Command) -> Result<Verdict> {
    let status = exec::status(command)?;
    Ok(if status.success() { Verdict::Holds } else { Verdict::Broken })
}

#[expect(clippy::disallowed_methods, reason = "how long a gate takes is measured, not decided")]
fn gate(name: &str, work: impl FnOnce() -> Result<Verdict>) -> Gate {
    println!("\n── {name}");
    let started = std::time::Instant::now();
    let verdict = work().unwrap_or_else(|error| {
        println!("{error:#}");
        Verdict::Broken
    });
    Gate { name: name.to_owned(), verdict, took: started.elapsed() }
}

impl Gate {
    fn holds(&self) -> bool {
        !matches!(self.verdict, Verdict::Broken)
    }

    fn verdict(&self) -> &'static str {
        match self.verdict {
            Verdict::Holds => "ok",
            Verdict::NothingToCheck => "nothing to check",
            Verdict::Broken => "FAILED",
        }
    }
}
