//! Simulates worlds: `cargo xtask simulate --seeds 1000`, and `--replay 17` to see what happens in one.
//!
//! The last line is one JSON object.

#![expect(clippy::print_stdout, reason = "printing is what a command-line tool is for")]

use anyhow::{Context as _, Result};
use clap::Parser;
use std::{num::NonZero, process::ExitCode, thread, time::Instant};
use testkit::world::simulate::{Mistake, Report, Wanted, replay, simulate};

/// After so many worlds it says how far it is.
const TOLD_EACH: u64 = 1_000;

/// Simulates worlds and looks whether all holds in them that must hold.
#[derive(Parser)]
struct Arguments {
    /// How many worlds
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The seed of the first one
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Tell what happens in the world of this seed instead
    #[arg(long)]
    replay: Option<u64>,
    /// Plant a mistake that is to be found, such as `forget-slots`
    #[arg(long)]
    plant: Option<String>,
    /// On so many threads; twice as many as there are processors when absent, since each waits for its database
    /// much of the time
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let mistake = match &arguments.plant {
        Some(name) => {
            let names: Vec<&str> = Mistake::ALL.iter().map(|(name, _)| *name).collect();
            let unknown = || format!("no such mistake; there are {}", names.join(", "));
            Some(Mistake::named(name).with_context(unknown)?)
        }
        None => None,
    };
    let began = Instant::now();
    let report = match arguments.replay {
        Some(seed) => told(seed, mistake)?,
        None => {
            let processors = thread::available_parallelism().map_or(1, NonZero::get);
            let wanted = Wanted {
                first: arguments.first,
                seeds: arguments.seeds,
                threads: arguments.threads.unwrap_or(2 * processors),
                mistake,
            };
            simulate(wanted, |done| {
                if done % TOLD_EACH == 0 && done < wanted.seeds {
                    let speed = speed(done, began);
                    println!("{done} of {} worlds, {speed:.0} a second", wanted.seeds);
                }
            })?
        }
    };
    for (seed, what) in &report.violations {
        println!("seed {seed}: {what}");
    }
    if let Some((seed, _)) = report.violations.first()
        && arguments.replay.is_none()
    {
        println!("What led to it: cargo xtask simulate --replay {seed}");
    }
    println!("{}", report.json(speed(report.seeds, began)));
    Ok(if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Worlds a second since then.
#[expect(clippy::cast_precision_loss, reason = "nobody simulates 2^52 worlds")]
fn speed(worlds: u64, since: Instant) -> f64 {
    worlds as f64 / since.elapsed().as_secs_f64().max(f64::EPSILON)
}

fn told(seed: u64, mistake: Option<Mistake>) -> Result<Report> {
    let fate = replay(seed, mistake)?;
    for line in fate.trace {
        println!("{line}");
    }
    Ok(Report {
        seeds: 1,
        violations: fate.violations.into_iter().map(|what| (seed, what)).collect(),
        met: fate.met,
    })
}
