//! A made fleet for looking at: `made fill` writes it into the data folder of a manager that does
//! not run, and `made play` then connects its machines to the running manager.
#![expect(clippy::print_stdout, reason = "its caller reads what it prints")]

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;
use protocol::Secret;
use std::{net::SocketAddr, path::PathBuf};
use testkit::made::{Wanted, fill, fill_store, player};

/// A made fleet.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the fleet into the data folder of a manager that does not run.
    Fill {
        #[command(flatten)]
        fleet: Fleet,
        /// The manager's data folder, made by `restic-manager-headless init`.
        #[arg(long)]
        data_dir: PathBuf,
    },
    /// Give its machines a store, with one that has left. Its files take no room.
    FillStore {
        #[command(flatten)]
        fleet: Fleet,
        /// The manager's data folder, filled before.
        #[arg(long)]
        data_dir: PathBuf,
        /// The folder of the store.
        #[arg(long)]
        folder: PathBuf,
    },
    /// Connect its machines to the running manager, until that ends.
    Play {
        #[command(flatten)]
        fleet: Fleet,
        /// Where the manager listens for agents.
        #[arg(long)]
        agent: SocketAddr,
        /// The manager's root certificate, `ca.pem` in its data folder.
        #[arg(long)]
        ca_file: PathBuf,
    },
    /// Enrol one more machine with the token that stands on the standard input, and connect it.
    Join {
        /// Where the manager listens for agents.
        #[arg(long)]
        agent: SocketAddr,
        /// The manager's root certificate, `ca.pem` in its data folder.
        #[arg(long)]
        ca_file: PathBuf,
    },
}

/// Which fleet; both commands want the same.
#[derive(Args)]
struct Fleet {
    /// How many machines.
    #[arg(long)]
    machines: usize,
    /// The present that everything is dated by, such as 2026-11-24T12:00:00Z.
    #[arg(long)]
    now: Timestamp,
    /// Another number makes another fleet.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Fleet {
    fn wanted(&self) -> Wanted {
        Wanted { machines: self.machines, now: self.now, seed: self.seed }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    match Options::parse().command {
        Command::Fill { fleet, data_dir } => {
            fill(&data_dir, &fleet.wanted()).await?;
            println!(r#"{{"ok":true,"machines":{}}}"#, fleet.machines);
            Ok(())
        }
        Command::FillStore { fleet, data_dir, folder } => {
            fill_store(&data_dir, &folder, fleet.now, fleet.seed).await?;
            println!(r#"{{"ok":true}}"#);
            Ok(())
        }
        Command::Play { fleet, agent, ca_file } => {
            let pem = std::fs::read_to_string(&ca_file)
                .with_context(|| format!("failed to read {}", ca_file.display()))?;
            let ready = |connected| println!(r#"{{"ready":true,"connected":{connected}}}"#);
            player::play(agent, &pem, &fleet.wanted(), ready).await
        }
        Command::Join { agent, ca_file } => {
            let pem = std::fs::read_to_string(&ca_file)
                .with_context(|| format!("failed to read {}", ca_file.display()))?;
            let token = std::io::read_to_string(std::io::stdin()).context("failed to read")?;
            player::join(agent, &pem, Secret::new(token.trim().to_owned())).await
        }
    }
}
