//! How many worlds are simulated in a second: what tells whether a hundred thousand of them take an hour or a
//! day. Nothing is compared, so there is no budget.

use crate::{
    Options,
    figure::{Figure, Section},
};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::env;
use tokio::process::Command;

/// Simulates worlds with the program that `cargo xtask simulate` runs, other ones in each round.
pub(crate) async fn measure(options: &Options) -> Result<Section> {
    let here = env::current_exe()?;
    let program = here.with_file_name(format!("simulate{}", env::consts::EXE_SUFFIX));
    let mut figure = Figure::without_budget("simulate", "worlds a second, on all processors");
    for round in 0..options.rounds {
        let first = u64::try_from(round)? * options.worlds + 1;
        let output = Command::new(&program)
            .args(["--seeds", &options.worlds.to_string(), "--first", &first.to_string()])
            .output()
            .await
            .with_context(|| format!("failed to run {}", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().next_back().context("the simulation said nothing")?;
        let report: Value = serde_json::from_str(last)?;
        ensure!(report["ok"] == true, "something was wrong in a world: {text}");
        let speed = report["seeds_per_second"].as_f64().context("it told no speed")?;
        println!("simulate, round {}: {speed} worlds a second", round + 1);
        figure.add(speed, 1.0);
    }
    let text = format!(
        "Worlds of a manager, its machines and an admin in which much goes wrong (`cargo xtask simulate`), \
         {} in each round, in the profile in which they are tested. The figure depends on the machine and \
         is compared with nothing.",
        options.worlds
    );
    Ok(Section { name: "simulate", text, figures: vec![figure] })
}
