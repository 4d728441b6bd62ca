//! The main job, for real, on this machine: a manager, a real rest-server with TLS and a password
//! file, an agent that enrols by token, a repository, a backup of a real tree with live log and
//! progress, and a restore that is compared byte for byte. Then the agent loses the right to read
//! one file, and says so.
//!
//! Run by `cargo xtask demo`. Everything lies below one folder; the last line is a JSON object.
#![expect(clippy::print_stdout, reason = "printing is what a demo does")]

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};
use testkit::{
    agent::Rights,
    arguments::ArgumentWatch,
    fleet::{Fleet, MACHINE, text},
    planted::escaped,
    rest_server::Deletes,
    tools::Tools,
    tree,
};

/// The main job, for real.
#[derive(Parser)]
struct Options {
    /// Where everything goes; what an earlier demo left there is removed.
    #[arg(long)]
    root: PathBuf,
    /// Where `cargo xtask tools` put restic and rest-server.
    #[arg(long)]
    tools: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    match demo(&options.root, &Tools::new(&options.tools)).await {
        Ok(result) => {
            println!("{result}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("The demo failed. Logs are below {}.", options.root.display());
            println!("{}", json!({ "ok": false, "error": format!("{error:#}") }));
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) {
    println!("• {text}");
}

async fn demo(root: &Path, tools: &Tools) -> Result<Value> {
    if root.exists() {
        fs::remove_dir_all(root).with_context(|| format!("failed to clear {}", root.display()))?;
    }
    fs::create_dir_all(root)?;
    let root = &root.canonicalize()?;
    say(&format!("Everything happens below {}.", root.display()));
    let watch = ArgumentWatch::start();
    let source = root.join("source");
    tree::make(&source)?;
    let size = tree::size(&source)?;
    say(&format!(
        "To be backed up: {} files, {} MiB, some with awkward names and shapes.",
        size.files,
        size.bytes >> 20
    ));

    let mut fleet = Fleet::start(root, tools, &source, Deletes::Allowed).await?;
    let host = fleet.in_sync().await?;
    say(&format!("The manager is ready; agents dial {}.", fleet.manager.ready().agent));
    say(&format!("rest-server listens with TLS at {}.", fleet.server.url(MACHINE)));
    say(&format!("{} is enrolled and connected.", text(&host, "name")?));

    fleet.run(&fleet.init()).await?.expect("succeeded")?;
    say("The repository is initialised.");
    let snapshot = back_up(&fleet).await?;
    restore(&fleet, &snapshot, &source).await?;
    partial(&mut fleet, &source).await?;

    fleet.agent.stop().await?;
    fleet.manager.stop().await?;
    let escaped = escaped(root, &fleet, watch).await?;
    ensure!(escaped.is_empty(), "secrets escaped:\n{}", escaped.join("\n"));
    say("Every file, answer and process argument was searched for the passwords, keys and tokens");
    say("in use: each lies in its own place and nowhere else.");
    say("All of it has been stopped again. What it wrote is still there: manager/manager.log,");
    say(
        "agent/agent.log, the repository and the restored files. README.md shows the same by hand.",
    );
    Ok(json!({
        "ok": true, "restic": host["restic_version"], "host": host["name"], "snapshot": snapshot,
        "files": size.files, "bytes": size.bytes, "restored_identical": true, "partial_seen": true,
    }))
}

async fn back_up(fleet: &Fleet) -> Result<String> {
    let backup = fleet.run(&fleet.backup()).await?.expect("succeeded")?;
    ensure!(
        backup.lines.iter().any(|line| line.starts_with("Done after")),
        "the backup's log has no end: {:?}",
        backup.lines
    );
    ensure!(backup.progress > 0, "the backup showed no progress");
    let snapshot = backup.snapshot()?;
    say(&format!("Backed up as snapshot {}. Its log, as it was watched:", &snapshot[..8]));
    for line in &backup.lines {
        println!("    {line}");
    }
    fleet.lists(&snapshot).await?;
    Ok(snapshot)
}

async fn restore(fleet: &Fleet, snapshot: &str, source: &Path) -> Result<()> {
    let target = fleet.run(&fleet.restore(snapshot)).await?.expect("succeeded")?.target()?;
    let differences = tree::differences(source, &target.join(source.strip_prefix("/")?))?;
    ensure!(differences.is_empty(), "the restored tree differs:\n{}", differences.join("\n"));
    say(&format!("Restored into {}:", target.display()));
    say("names, contents, modes, owners, times and links are the same.");
    Ok(())
}

/// The same backup without the right to read everything, and with a file that nobody may read.
async fn partial(fleet: &mut Fleet, source: &Path) -> Result<()> {
    let unreadable = source.join("awkward").join("nobody may read this");
    fs::write(&unreadable, "x")?;
    fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o000))?;
    fleet.agent.stop().await?;
    fleet.agent.start(Rights::NoOverride)?;
    fleet.in_sync().await?;
    let backup = fleet.run(&fleet.backup()).await?.expect("partial")?;
    fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o600))?;
    let files = backup.run["unreadable"].as_array().context("no list of unreadable files")?;
    let named = files.iter().any(|file| file["path"].as_str() == unreadable.to_str());
    ensure!(named, "the unreadable file is not named: {}", backup.run);
    say("Without the right to read everything the next run is partial and names the file.");
    Ok(())
}
