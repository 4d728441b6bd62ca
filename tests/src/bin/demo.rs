//! The main job, for real, on this machine and in the app's own window: an agent that enrols by the
//! install line that the window shows, a repository in the app's store, a backup of a real tree watched
//! to its end, and a restore that is compared byte for byte. Then the agent loses the right to read one
//! file, and the window says so. With `--rest-server` the repository lies on a rest-server with TLS and
//! a password file instead.
//!
//! Run by `cargo xtask demo`. Everything lies below one folder; the last line is a JSON object.
#![expect(clippy::print_stdout, reason = "printing is what a demo does")]

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use rustix::process::Signal;
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
    desktop::{App, Desktop, Destination, Entered, Keyring, Launch, MainJob, Record},
    fleet::MACHINE,
    planted::escaped_from_window,
    process::Process,
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
    /// Uses a screen of its own although there is one.
    #[arg(long)]
    unseen: bool,
    /// Backs up to a rest-server in place of the app's own store.
    #[arg(long)]
    rest_server: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    match demo(&options).await {
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

async fn demo(Options { root, tools, unseen, rest_server }: &Options) -> Result<Value> {
    let tools = &Tools::new(tools);
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

    let is_seen = !unseen && Desktop::is_there_a_screen();
    let desktop = root.join("desktop");
    let desktop = if is_seen {
        Desktop::on_the_persons_screen(&desktop).await?
    } else {
        say("There is no screen, so the window opens on one in memory; pictures are taken of it.");
        Desktop::start(&desktop, Keyring::Open).await?
    };
    let launch = Launch::new(&root.join("app"))?;
    let to = if *rest_server { at_rest_server(root, tools).await? } else { Destination::Store };
    let mut job = MainJob::prepare(root, tools, to)?;
    let app = App::start(&desktop, tools, &launch).await?;
    say("The app is open. Its one key lies in a keyring; nobody could read the passwords without.");

    let mut record = Record::with_shots(root);
    job.add_machine(&app, &source, &mut record).await?;
    say(&format!("{MACHINE} was added: the line that the window shows was pasted into a shell."));
    job.initialise(&app, &mut record).await?;
    say("Initialise was pressed, and the repository is there.");
    let backup = job.back_up(&app, &mut record).await?;
    ensure!(backup["status"] == "succeeded", "the backup ended otherwise: {backup:#}");
    let snapshot = backup["snapshot_id"].as_str().context("a backup without a snapshot")?;
    say(&format!("Run now was pressed and watched to its end: snapshot {}.", &snapshot[..8]));
    let target = job.restore(&app, &source, &mut record).await?;
    let differences = tree::differences(&source, &target.join(source.strip_prefix("/")?))?;
    ensure!(differences.is_empty(), "the restored tree differs:\n{}", differences.join("\n"));
    say(&format!("The snapshot was browsed and restored into {}:", target.display()));
    say("names, contents, modes, owners, times and links are the same.");
    if matches!(job.to, Destination::Store) {
        job.look_at_store(&app, &mut record).await?;
        say("The backups lie in the app's own store: its page shows what the machine has there.");
    }
    partial(&app, &mut job, &source, &mut record).await?;

    app.signal(Signal::TERM)?;
    app.ended().await?;
    drop(app);
    job.agent.stop().await?;
    let host = host(&desktop, tools, &launch).await?;
    let key = desktop.kept_secret("Restic Manager", "vault key")?;
    let (data, pages) = (&launch.data, &record.pages);
    let escaped = escaped_from_window(root, &job, pages, data, &key, watch).await?;
    ensure!(escaped.is_empty(), "secrets escaped:\n{}", escaped.join("\n"));
    say("Every file, page and process argument was searched for the passwords, keys and tokens in");
    say("use: each lies in its own place and nowhere else.");
    if is_seen {
        leave_open(desktop, &launch, job)?;
        say("The app is open again, and its agent runs: look around, and quit by Settings, Quit.");
    } else {
        say(&format!("The pictures are in {}.", root.display()));
    }
    Ok(json!({
        "ok": true, "storage": if *rest_server { "rest-server" } else { "store" },
        "restic": host["restic_version"], "host": host["name"], "snapshot": snapshot,
        "files": size.files, "bytes": size.bytes, "restored_identical": true,
        "partial_seen": true, "screenshots": record.shots,
    }))
}

/// A rest-server that can stay when this process ends.
async fn at_rest_server(root: &Path, tools: &Tools) -> Result<Destination> {
    let mut entered = Entered::start(root, tools).await?;
    entered.location = entered.server.direct_url(MACHINE);
    say(&format!("rest-server listens with TLS at {}.", entered.location));
    Ok(Destination::RestServer(Box::new(entered)))
}

/// The same backup without the right to read everything, and with a file that nobody may read.
async fn partial(app: &App, job: &mut MainJob, source: &Path, record: &mut Record) -> Result<()> {
    let unreadable = source.join("awkward").join("nobody may read this");
    fs::write(&unreadable, "x")?;
    fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o000))?;
    job.agent.stop().await?;
    job.agent.start(Rights::NoOverride)?;
    job.connected(app).await?;
    let backup = job.back_up_in_part(app, &unreadable, record).await?;
    fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o600))?;
    ensure!(backup["status"] == "partial", "the backup ended otherwise: {backup:#}");
    say(
        "Without the right to read everything the next run is partial, and the window names the file.",
    );
    Ok(())
}

/// The machine as the app tells of it when it is started again.
async fn host(desktop: &Desktop, tools: &Tools, launch: &Launch) -> Result<Value> {
    let app = App::start(desktop, tools, launch).await?;
    let hosts = app.get("/api/hosts").await?;
    app.signal(Signal::TERM)?;
    app.ended().await?;
    say("The app was quit and started again, and still knows all of it.");
    Ok(hosts[0].clone())
}

/// Opens the app once more, without anybody who drives it.
fn leave_open(desktop: Desktop, launch: &Launch, mut job: MainJob) -> Result<()> {
    Process::spawn("app", launch.command(&desktop)?, desktop.root(), "")?.detach();
    job.agent.start(Rights::Full)?;
    job.agent.detach();
    if let Destination::RestServer(entered) = job.to {
        entered.server.detach();
    }
    desktop.detach();
    Ok(())
}
