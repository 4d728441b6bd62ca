//! What the product costs, as ratios against a yardstick that is measured in the same run: rounds
//! alternate between the two, and the median of the rounds' ratios counts. The last line is a JSON
//! object; `cargo xtask bench` builds the programs as they are shipped and hands over to this one.
#![expect(clippy::print_stdout, reason = "printing the figures is what it is for")]

mod away;
mod bare;
mod crowd;
mod figure;
mod fleet;
mod intake;
mod month;
mod overhead;
mod repository;
mod simulate;
mod source;
mod storm;
mod usage;

use anyhow::{Context as _, Result};
use bare::Yardstick;
use clap::{Parser, ValueEnum};
use figure::Figure;
use serde_json::json;
use std::{fs, path::PathBuf, process::ExitCode};
use testkit::tools::Tools;

/// How the benches are run.
#[derive(Debug, Parser)]
struct Options {
    /// Where everything is written.
    #[arg(long)]
    root: PathBuf,
    /// The pinned tools.
    #[arg(long)]
    tools: PathBuf,
    /// Where the tables go. What other benches have written there stays.
    #[arg(long)]
    table: PathBuf,
    /// Fail when a ratio is over its budget.
    #[arg(long)]
    check: bool,
    /// Rounds of each bench.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Small files that are backed up.
    #[arg(long, default_value_t = 100_000)]
    files: u64,
    /// MiB that are backed up beside them, in large files.
    #[arg(long, default_value_t = 2048)]
    mib: u64,
    /// Machines that are connected, one number for each series of the fleet and of the storm.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 9_000])]
    machines: Vec<usize>,
    /// Days that a machine was away.
    #[arg(long, default_value_t = 30)]
    days: i64,
    /// Lines of the logs that it wrote in that time.
    #[arg(long, default_value_t = 200_000)]
    lines: u64,
    /// Machines that tell at once.
    #[arg(long, default_value_t = 200)]
    tellers: usize,
    /// Durable events that each of them tells.
    #[arg(long, default_value_t = 1_000)]
    events: u64,
    /// Worlds that are simulated in each round.
    #[arg(long, default_value_t = 200)]
    worlds: u64,
    /// The bench to run; without a name, all.
    name: Option<Bench>,
    /// Serve as a yardstick instead, with the certificate in the root.
    #[arg(long, hide = true)]
    bare: Option<Yardstick>,
}

/// What there is to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// A backup by the agent against one by restic alone.
    Overhead,
    /// The store against rest-server.
    Repository,
    /// The memory of connected machines against that of bare connections.
    Fleet,
    /// A month of a machine that was away, against bare inserts of the same rows.
    Away,
    /// Taking in what machines tell, against a bare echo.
    Intake,
    /// Every machine coming back at once, against the bare handshakes.
    Storm,
    /// How many worlds are simulated in a second.
    Simulate,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let options = Options::parse();
    if let Some(yardstick) = options.bare {
        return bare::serve(&options.root, yardstick).await;
    }
    let mut sections = Vec::new();
    for bench in Bench::value_variants() {
        if options.name.is_some_and(|name| name != *bench) {
            continue;
        }
        // Each begins with an empty folder, and leaves the disk as it found it.
        if options.root.exists() {
            fs::remove_dir_all(&options.root)?;
        }
        fs::create_dir_all(&options.root)?;
        let section = match bench {
            Bench::Overhead => overhead::measure(&options).await,
            Bench::Repository => repository::measure(&options).await,
            Bench::Fleet => fleet::measure(&options).await,
            Bench::Away => away::measure(&options).await,
            Bench::Intake => intake::measure(&options).await,
            Bench::Storm => storm::measure(&options).await,
            Bench::Simulate => simulate::measure(&options).await,
        }?;
        figure::write(&options.table, &section, options.rounds)?;
        sections.push(section);
    }
    fs::remove_dir_all(&options.root)?;
    let figures: Vec<&Figure> = sections.iter().flat_map(|section| &section.figures).collect();
    let is_ok = !options.check || figures.iter().all(|figure| figure.holds());
    let results: Vec<_> = figures.iter().map(|figure| figure.to_json()).collect();
    println!("{}", json!({ "ok": is_ok, "results": results }));
    Ok(if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Options {
    fn tools(&self) -> Tools {
        Tools::new(&self.tools)
    }

    /// The restic that both sides run: the newest pinned.
    fn restic(&self) -> Result<PathBuf> {
        self.tools().every_restic()?.pop().context("there is no restic")
    }
}
