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
    agent::{Agent, Rights},
    api::{Api, Flow},
    canary::{ArgumentWatch, Canary, names_in, search},
    manager::Manager,
    planted_secret,
    rest_server::{Deletes, RestServer},
    tools::Tools,
    tree, wait_for,
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
    let watch = ArgumentWatch::start();

    let source = root.join("source");
    tree::make(&source)?;
    let size = tree::size(&source)?;
    say(&format!(
        "A tree of {} files, {} bytes, with awkward names and shapes.",
        size.files, size.bytes
    ));

    let credential = planted_secret("rest credential");
    let repository_password = planted_secret("repository password");
    let server = RestServer::start(
        tools,
        &root.join("rest-server"),
        Deletes::Allowed,
        &[("machine1", &credential)],
    )
    .await?;
    say(&format!("rest-server listens with TLS at {}", server.url("machine1")));

    let manager = Manager::create(&root.join("manager")).await?;
    let api = manager.api().await?;
    say(&format!("The manager is ready; agents dial {}", manager.ready().agent));

    let setup = set_up(&api, &server, &source, &credential, &repository_password).await?;
    let mut agent = Agent::new(&root.join("agent"), tools.restic()?);
    agent.enrol(manager.ready(), &setup.token)?;
    agent.start(Rights::Full)?;
    let host = wait_for_host(&api).await?;
    say(&format!("{} is enrolled and connected.", host["name"]));
    let host_id = text(&host, "id")?;

    let init =
        run(&api, &host_id, &json!({ "kind": "init", "repository_id": setup.repository })).await?;
    expect_status(&init.run, "succeeded")?;
    say("The repository is initialised.");

    let backup = run(&api, &host_id, &json!({ "kind": "backup", "plan_id": setup.plan })).await?;
    expect_status(&backup.run, "succeeded")?;
    ensure!(backup.lines > 0, "the backup wrote no log");
    ensure!(backup.progress > 0, "the backup showed no progress");
    let snapshot = text(&backup.run, "snapshot_id")?;
    say(&format!(
        "Backed up: {} live log lines, {} progress reports, snapshot {}.",
        backup.lines,
        backup.progress,
        &snapshot[..8]
    ));
    listed(&api, &setup.repository, &snapshot).await?;

    let restore = json!({ "kind": "restore", "repository_id": setup.repository, "snapshot_id": snapshot, "include": [] });
    let restore = run(&api, &host_id, &restore).await?;
    expect_status(&restore.run, "succeeded")?;
    let target = PathBuf::from(text(&restore.run["restore"], "target")?);
    let restored = target.join(source.strip_prefix("/")?);
    let differences = tree::differences(&source, &restored)?;
    ensure!(differences.is_empty(), "the restored tree differs:\n{}", differences.join("\n"));
    say(&format!(
        "Restored into {}; names, contents, modes, owners, times and links are the same.",
        target.display()
    ));

    agent.stop().await?;
    let unreadable = source.join("awkward").join("nobody may read this");
    fs::write(&unreadable, "x")?;
    fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o000))?;
    agent.start(Rights::NoOverride)?;
    wait_for_host(&api).await?;
    let partial = run(&api, &host_id, &json!({ "kind": "backup", "plan_id": setup.plan })).await?;
    expect_status(&partial.run, "partial")?;
    let named = partial.run["unreadable"]
        .as_array()
        .is_some_and(|files| files.iter().any(|file| file["path"].as_str() == unreadable.to_str()));
    ensure!(named, "the unreadable file is not named: {}", partial.run);
    say("Without the right to read everything the next run is partial and names the file.");
    fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o600))?;

    let restic = text(&host, "restic_version")?;
    let mut manager = manager;
    agent.stop().await?;
    manager.stop().await?;
    drop(server);
    let canaries = canaries(root, &manager, &agent, &setup, &credential, &repository_password)?;
    no_secret_escaped(root, &api, watch, &canaries)?;
    say("No planted secret lies anywhere but in its place.");

    Ok(json!({
        "ok": true, "restic": restic, "host": host["name"], "snapshot": snapshot,
        "files": size.files, "bytes": size.bytes, "restored_identical": true, "partial_seen": true,
    }))
}

struct SetUp {
    repository: String,
    plan: String,
    token: String,
}

async fn set_up(
    api: &Api,
    server: &RestServer,
    source: &Path,
    credential: &str,
    password: &str,
) -> Result<SetUp> {
    let repository = api
        .post(
            "/api/repositories",
            &json!({
                "name": "Attic", "url": server.url("machine1"), "username": "machine1", "credential": credential,
                "password": password, "ca_pem": server.ca_pem, "append_only": false,
            }),
        )
        .await?;
    let repository = text(&repository["repository"], "id")?;
    let plan = api
        .post(
            "/api/plans",
            &json!({
                "name": "Everything that matters", "repository_id": repository, "paths": [source], "excludes": [],
                "tags": ["demo"], "retention": { "keep_last": 7 }, "host_ids": [],
            }),
        )
        .await?;
    let plan = text(&plan, "id")?;
    let enrolment =
        api.post("/api/enrolments", &json!({ "name": "machine1", "plan_id": plan })).await?;
    let token = text(&enrolment, "token")?;
    // That answer shows the token because it must; nothing after it may.
    api.forget_answers();
    Ok(SetUp { repository, plan, token })
}

/// The first host, once it is connected and has its plan.
async fn wait_for_host(api: &Api) -> Result<Value> {
    wait_for("the machine to be online and in sync", async || {
        let hosts = api.get("/api/hosts").await?;
        let host = hosts["hosts"][0].clone();
        Ok((host["online"] == true && host["in_sync"] == true).then_some(host))
    })
    .await
}

struct Watched {
    run: Value,
    lines: usize,
    progress: usize,
}

/// Starts a run and watches its stream to the end, as the run page does.
async fn run(api: &Api, host: &str, request: &Value) -> Result<Watched> {
    let started = api.post(&format!("/api/hosts/{host}/runs"), request).await?;
    let id = text(&started, "id")?;
    let (mut lines, mut progress) = (0, 0);
    api.stream(&format!("/api/runs/{id}/stream?after_line=0"), |event, data| {
        match event {
            "lines" => lines += data.as_array().map_or(1, Vec::len),
            "progress" => progress += 1,
            _ => {}
        }
        if event == "end" { Flow::Stop } else { Flow::Continue }
    })
    .await?;
    let run = api.get(&format!("/api/runs/{id}")).await?;
    Ok(Watched { run, lines, progress })
}

fn expect_status(run: &Value, status: &str) -> Result<()> {
    ensure!(run["status"] == status, "expected {status}: {run:#}");
    Ok(())
}

async fn listed(api: &Api, repository: &str, snapshot: &str) -> Result<()> {
    wait_for("the snapshot to be listed", async || {
        let list = api.get(&format!("/api/repositories/{repository}/snapshots")).await?;
        let found = list["snapshots"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["id"] == snapshot));
        Ok(found.then_some(()))
    })
    .await
}

fn text(value: &Value, field: &str) -> Result<String> {
    value[field]
        .as_str()
        .map(str::to_owned)
        .with_context(|| format!("there is no {field} in {value}"))
}

fn canaries(
    root: &Path,
    manager: &Manager,
    agent: &Agent,
    setup: &SetUp,
    credential: &str,
    repository_password: &str,
) -> Result<Vec<Canary>> {
    let desired = agent.state().join("desired.json");
    let key_file = manager.data().join("vault.key");
    let vault_key = fs::read_to_string(&key_file)?.trim().to_owned();
    ensure!(
        root.exists() && desired.exists(),
        "the places of the secrets are not where they should be"
    );
    Ok(vec![
        Canary::new("the repository password", repository_password, std::slice::from_ref(&desired)),
        Canary::new("the rest-server credential", credential, &[desired]),
        Canary::new("the enrolment token", &setup.token, &[]),
        Canary::new("the vault key", &vault_key, &[key_file]),
        Canary::new("the admin's password", manager.password(), &[]),
    ])
}

fn no_secret_escaped(
    root: &Path,
    api: &Api,
    watch: ArgumentWatch,
    canaries: &[Canary],
) -> Result<()> {
    let mut found = search(root, canaries)?;
    let (in_arguments, restic_seen) = watch.finish(canaries)?;
    ensure!(restic_seen > 0, "the watch over process arguments saw no restic");
    found.extend(in_arguments);
    found.extend(
        names_in(&api.answers(), canaries)?.iter().map(|name| format!("{name} is in an answer")),
    );
    ensure!(found.is_empty(), "secrets escaped:\n{}", found.join("\n"));
    Ok(())
}
