//! The commands of a developer and of a newcomer: `cargo xtask <command>`.
//!
//! | command        | what it does                                                             |
//! |----------------|--------------------------------------------------------------------------|
//! | `tools`        | makes a fresh machine ready; instant when it already is                  |
//! | `check`        | the fast gates: format, lints, docs, dependencies, checked queries, pages |
//! | `test`         | every test of the workspace, and a short run of each fuzz target; with `--all` the slow ones too |
//! | `demo`         | shows the product working on this machine, end to end                    |
//! | `screenshots`  | pictures of every screen, into `target/screenshots`                      |
//! | `run`          | the app                                                                  |
//! | `package`      | what users install: the `.deb`, into `target/package`                    |
//! | `bench`        | what can be measured                                                     |
//! | `simulate`     | worlds in which much goes wrong, and what must hold in them             |
//! | `fuzz`         | fuzz targets, for as long as one likes                                   |
//! | `sqlx-prepare` | renews the `.sqlx` folders after a query or a migration changed          |
//!
//! `test` ends with the line `N passed, N failed, N skipped`, every other command with one JSON
//! object that has `"ok"`. The exit status says the same.
//!
//! This program is the first thing a newcomer waits for, so it has few dependencies: what the
//! system's own tools do well (`curl`, `sha256sum`, `dpkg-deb`) is left to them.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "printing is what a command-line tool is for"
)]

mod bench;
mod check;
mod databases;
mod demo;
mod exec;
mod fuzz;
mod package;
mod report;
mod run;
mod screenshots;
mod simulate;
mod test;
mod tools;
mod ui;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// The commands of Restic Manager's developers.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a fresh machine ready: system packages, pinned restic and rest-server, cargo tools
    Tools,
    /// Run the fast gates: format, lints, docs, dependencies, checked queries
    Check,
    /// Run every test, and end with `N passed, N failed, N skipped`
    Test {
        /// The slow ones too: whole machines of further systems
        #[arg(long)]
        all: bool,
    },
    /// Show the product working on this machine, end to end
    Demo {
        /// Arguments for the demo itself
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Take pictures of every screen, into `target/screenshots`
    Screenshots {
        /// Arguments for the script: `--only fleet`, `--fleet 3`, `--size 1440x900`, `--theme dark`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run the app
    Run {
        /// Arguments for `restic-manager`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Build what users install: the `.deb`, into `target/package`
    Package(package::Options),
    /// Run the benches: what the product costs, against yardsticks of the same run
    Bench {
        /// A bench, `--check`, `--rounds 5`, `--mib 1024`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Simulate worlds in which much goes wrong
    Simulate {
        /// `--seeds 100000`, `--first 1`, `--replay 17`, `--plant forget-slots`, `--threads 2`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run the fuzz targets
    Fuzz(fuzz::Options),
    /// Renew the `.sqlx` folders from the migrations and the queries
    SqlxPrepare,
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => report::broken(&error),
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    let workspace = Workspace::locate()?;
    match command {
        Command::Tools => tools::run(&workspace),
        Command::Check => check::run(&workspace),
        Command::Test { all } => test::run(&workspace, all),
        Command::Demo { args } => demo::run(&workspace, &args),
        Command::Screenshots { args } => screenshots::run(&workspace, &args),
        Command::Run { args } => run::run(&workspace, &args),
        Command::Package(options) => package::run(&workspace, &options),
        Command::Bench { args } => bench::run(&workspace, &args),
        Command::Simulate { args } => simulate::run(&workspace, &args),
        Command::Fuzz(options) => fuzz::run(&workspace, &options),
        Command::SqlxPrepare => databases::prepare(&workspace),
    }
}
