//! The app in its real window, with a real keyring, driven as a person would drive it.

#![cfg(target_os = "linux")]

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;
use testkit::{
    arguments::ArgumentWatch,
    canary::Answer,
    desktop::{App, Desktop, Destination, Entered, Keyring, Launch, MainJob, Record, Tray},
    fleet::MACHINE,
    planted::escaped_from_window,
    process::run_to_end,
    proxy::Mode,
    tools::Tools,
    tree, wait_for,
};

/// A desktop, and an app that can be started on it as often as is wanted.
struct Stage {
    folder: TempDir,
    desktop: Desktop,
    launch: Launch,
}

impl Stage {
    async fn set(keyring: Keyring) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let desktop = Desktop::start(folder.path(), keyring).await?;
        let launch = Launch::new(&folder.path().join("app"))?;
        Ok(Self { folder, desktop, launch })
    }

    async fn start(&self) -> Result<App> {
        App::start(&self.desktop, &Tools::of_workspace(), &self.launch).await
    }

    fn data(&self) -> &Path {
        &self.launch.data
    }

    /// What xdotool, or another program that looks at the screen, prints.
    fn look(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = self.desktop.command(program);
        command.args(arguments);
        Ok(run_to_end(command, "")?.1)
    }

    /// Whether the app's window can be seen.
    fn is_shown(&self) -> Result<bool> {
        let found =
            self.look("xdotool", &["search", "--onlyvisible", "--name", "^Restic Manager$"])?;
        Ok(found.trim().parse::<u64>().is_ok())
    }

    async fn shown(&self, expected: bool) -> Result<()> {
        wait_for(&format!("the window to be shown: {expected}"), async || {
            Ok((self.is_shown()? == expected).then_some(()))
        })
        .await
    }
}

#[tokio::test]
async fn a_new_user_sees_an_empty_fleet_and_the_key_lies_in_the_keyring_alone() -> Result<()> {
    let stage = Stage::set(Keyring::Open).await?;
    let app = stage.start().await?;
    app.sees("No machines yet.").await?;
    let key = stage.desktop.kept_secret("Restic Manager", "vault key")?;
    let bytes = data_encoding::BASE64.decode(key.trim().as_bytes())?;
    ensure!(bytes.len() == 32, "a key of {} bytes", bytes.len());
    app.signal(Signal::TERM)?;
    app.ended().await?;

    let kept = stage.desktop.kept_users("Restic Manager")?;
    ensure!(kept == ["vault key"], "the keyring holds more than the key: {kept:?}");
    let mode = fs::metadata(stage.data())?.permissions().mode();
    ensure!(mode & 0o077 == 0, "others may look into the data folder: {mode:o}");
    for entry in walkdir::WalkDir::new(stage.data()) {
        let entry = entry?;
        if entry.file_type().is_file() {
            let content = fs::read(entry.path())?;
            let holds = |what: &[u8]| content.windows(what.len()).any(|part| part == what);
            let is_there = holds(&bytes) || holds(key.trim().as_bytes());
            ensure!(!is_there, "{} holds the key", entry.path().display());
        }
    }
    Ok(())
}

#[tokio::test]
async fn without_a_keyring_the_app_says_so_stores_nothing_and_starts_once_there_is_one()
-> Result<()> {
    let mut stage = Stage::set(Keyring::Missing).await?;
    let app = stage.start().await?;
    app.sees("There is no keyring on this computer").await?;
    app.sees("gnome-keyring").await?;
    ensure!(!stage.data().join("server.db").exists(), "a database was made without a key");

    stage.desktop.set_keyring(Keyring::Open).await?;
    app.press("Try again").await?;
    app.sees("No machines yet.").await
}

#[tokio::test]
async fn a_keyring_that_takes_nothing_is_told_apart_from_none() -> Result<()> {
    for state in [Keyring::Locked, Keyring::Bare] {
        let mut stage = Stage::set(state).await?;
        let app = stage.start().await?;
        app.sees("The keyring is locked or has no place for passwords").await?;
        app.sees("Unlock it").await?;
        ensure!(!stage.data().join("server.db").exists(), "a database was made without a key");

        stage.desktop.set_keyring(Keyring::Open).await?;
        app.press("Try again").await?;
        app.sees("No machines yet.").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_key_that_is_gone_is_never_replaced() -> Result<()> {
    let mut stage = Stage::set(Keyring::Open).await?;
    let app = stage.start().await?;
    app.sees("No machines yet.").await?;
    app.signal(Signal::TERM)?;
    app.ended().await?;
    drop(app);

    stage.desktop.set_keyring(Keyring::Missing).await?;
    let keyrings = stage.folder.path().join("data/keyrings");
    let away = stage.folder.path().join("away");
    fs::rename(&keyrings, &away)?;
    stage.desktop.set_keyring(Keyring::Open).await?;
    let app = stage.start().await?;
    app.sees("the key that opens them is not in this keyring").await?;
    let kept = stage.desktop.kept_secret("Restic Manager", "vault key");
    ensure!(kept.is_err(), "a second key was made");

    stage.desktop.set_keyring(Keyring::Missing).await?;
    fs::remove_dir_all(&keyrings)?;
    fs::rename(&away, &keyrings)?;
    stage.desktop.set_keyring(Keyring::Open).await?;
    app.press("Try again").await?;
    app.sees("No machines yet.").await
}

/// A stage on which the machine has been added, and its repository initialised.
struct Added {
    stage: Stage,
    app: App,
    job: MainJob,
    source: PathBuf,
    record: Record,
}

/// Where the backups of a test go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Store,
    RestServer,
}

impl Added {
    async fn with(
        make: fn(&Path) -> Result<()>,
        place: Place,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let mut stage = Stage::set(Keyring::Open).await?;
        let named = environment.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        stage.launch.environment = named.collect();
        let source = stage.folder.path().join("source");
        make(&source)?;
        let mut record = Record::default();
        let (root, tools) = (stage.folder.path(), Tools::of_workspace());
        let to = match place {
            Place::Store => Destination::Store,
            Place::RestServer => {
                Destination::RestServer(Box::new(Entered::start(root, &tools).await?))
            }
        };
        let mut job = MainJob::prepare(root, &tools, to)?;
        if !environment.is_empty() {
            job.agent.environment = vec![("RESTIC_MANAGER_LOG".to_owned(), "trace".to_owned())];
        }
        let app = stage.start().await?;
        job.add_machine(&app, &source, &mut record).await?;
        job.initialise(&app, &mut record).await?;
        Ok(Self { stage, app, job, source, record })
    }
}

#[tokio::test]
async fn the_main_job_in_the_window_and_no_secret_leaves_its_place() -> Result<()> {
    main_job(Place::RestServer).await
}

/// As a new user does it: what the window offers is taken.
#[tokio::test]
async fn the_main_job_into_the_store_and_no_secret_leaves_its_place() -> Result<()> {
    main_job(Place::Store).await
}

/// With everything logged that can be, and with the search for secrets afterwards.
async fn main_job(place: Place) -> Result<()> {
    let watch = ArgumentWatch::start();
    let Added { stage, app, mut job, source, mut record } =
        Added::with(tree::make, place, &[("RUST_LOG", "trace")]).await?;
    let run = job.back_up(&app, &mut record).await?;
    ensure!(run["status"] == "succeeded", "the backup ended otherwise: {run}");
    let target = job.restore(&app, &source, &mut record).await?;
    let differences = tree::differences(&source, &target.join(source.strip_prefix("/")?))?;
    ensure!(differences.is_empty(), "the restored tree differs:\n{}", differences.join("\n"));

    if place == Place::Store {
        job.look_at_store(&app, &mut record).await?;
    }
    for page in ["Fleet", "Activity", "Store", "Settings"] {
        app.press(page).await?;
        app.element("//h1").await?;
        record.keep(&app, page).await?;
    }
    job.open_machine(&app).await?;
    for tab in ["Overview", "Snapshots", "Runs", "Settings"] {
        app.press_in("main", tab).await?;
        app.element("//main").await?;
        record.keep(&app, tab).await?;
    }
    let paths = "hosts repositories plans enrolments runs notices audit system store";
    for path in paths.split(' ') {
        let answer = app.get(&format!("/api/{path}")).await?;
        record.pages.push(Answer { to: path.to_owned(), bytes: answer.to_string().into_bytes() });
    }
    app.signal(Signal::TERM)?;
    app.ended().await?;
    job.agent.stop().await?;
    let key = stage.desktop.kept_secret("Restic Manager", "vault key")?;
    let root = stage.folder.path();
    let found = escaped_from_window(root, &job, &record.pages, stage.data(), &key, watch).await?;
    ensure!(found.is_empty(), "secrets escaped:\n{}", found.join("\n"));
    Ok(())
}

/// Whether it is asked to end or killed: the run goes on without the app, and the app knows its
/// outcome and its whole log once it is back.
#[tokio::test]
async fn an_app_that_ends_in_the_middle_of_a_run_loses_nothing() -> Result<()> {
    for end in [Signal::TERM, Signal::KILL] {
        let Added { stage, app, job, .. } =
            Added::with(tree::make_big, Place::RestServer, &[]).await?;
        let run = job.in_the_middle(&app).await?;
        app.signal(end)?;
        app.ended().await?;
        drop(app);
        let server = job.server()?;
        server.network.set(Mode::Open);
        wait_for("the backup to end without the app", async || {
            Ok((server.snapshots(MACHINE)? > 0 && server.locks(MACHINE)? == 0).then_some(()))
        })
        .await?;

        let app = stage.start().await?;
        app.element("//h1").await?;
        app.script(&format!("location.hash = '#/runs/{run}'")).await?;
        app.sees("Done after").await?;
        let shown = job.ended(&app).await?;
        ensure!(shown["status"] == "succeeded", "{end:?}: the run ended otherwise: {shown:#}");
        let log = app.text().await?;
        ensure!(log.contains("Backing up into"), "{end:?}: the log has no beginning:\n{log}");
    }
    Ok(())
}

#[tokio::test]
async fn closing_hides_a_second_start_shows_and_quitting_ends() -> Result<()> {
    let stage = Stage::set(Keyring::Open).await?;
    let app = stage.start().await?;
    app.sees("No machines yet.").await?;
    stage.shown(true).await?;
    let pid = app.pid()?;
    let listening = tokio::net::TcpStream::connect(stage.launch.agent_address()).await;
    ensure!(listening.is_ok(), "agents cannot dial in");

    let window =
        stage.look("xdotool", &["search", "--onlyvisible", "--name", "^Restic Manager$"])?;
    stage.look("wmctrl", &["-i", "-c", window.trim()])?;
    stage.shown(false).await?;
    let listening = tokio::net::TcpStream::connect(stage.launch.agent_address()).await;
    ensure!(listening.is_ok(), "agents cannot dial in while the window is closed");

    let (status, printed) = run_to_end(stage.launch.command(&stage.desktop)?, "")?;
    ensure!(status.success(), "the second start ended with {status}: {printed}");
    stage.shown(true).await?;
    ensure!(app.pid()? == pid, "the first app is not the one that runs");

    app.press("Settings").await?;
    app.press("Quit").await?;
    app.ended().await?;
    let listening = tokio::net::TcpStream::connect(stage.launch.agent_address()).await;
    ensure!(listening.is_err(), "somebody still listens");
    let log = log(stage.data())?;
    ensure!(log.contains("Stopped"), "it did not stop in order:\n{log}");
    Ok(())
}

#[tokio::test]
async fn the_icon_in_the_tray_opens_the_window_and_quits() -> Result<()> {
    let stage = Stage::set(Keyring::Open).await?;
    let tray = Tray::on(&stage.desktop).await?;
    let app = stage.start().await?;
    app.sees("No machines yet.").await?;
    let window =
        stage.look("xdotool", &["search", "--onlyvisible", "--name", "^Restic Manager$"])?;
    stage.look("wmctrl", &["-i", "-c", window.trim()])?;
    stage.shown(false).await?;
    tray.click("Open Restic Manager").await?;
    stage.shown(true).await?;
    tray.click("Quit").await?;
    app.ended().await
}

#[tokio::test]
async fn the_window_opens_where_it_was_left() -> Result<()> {
    let stage = Stage::set(Keyring::Open).await?;
    let app = stage.start().await?;
    app.sees("No machines yet.").await?;
    let window =
        || stage.look("xdotool", &["search", "--onlyvisible", "--name", "^Restic Manager$"]);
    let geometry = |window: &str| stage.look("xdotool", &["getwindowgeometry", window.trim()]);
    let id = window()?;
    stage.look("xdotool", &["windowmove", "--sync", id.trim(), "140", "90"])?;
    stage.look("xdotool", &["windowsize", "--sync", id.trim(), "1000", "700"])?;
    // The display knows before the app does, and the app keeps what it knows.
    wait_for("the app to hear of its new place", async || {
        Ok((app.script("return innerWidth;").await? == 1000).then_some(()))
    })
    .await?;
    let lines = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    let left = lines(&geometry(&id)?);
    app.signal(Signal::TERM)?;
    app.ended().await?;
    drop(app);

    let app = stage.start().await?;
    app.sees("No machines yet.").await?;
    let mut seen = Vec::new();
    wait_for("the window to be where it was", async || {
        seen = lines(&geometry(&window()?)?);
        Ok((seen == left).then_some(()))
    })
    .await
    .with_context(|| format!("left at {left:?}, found at {seen:?}"))
}

#[tokio::test]
async fn the_page_reaches_nothing_but_the_api() -> Result<()> {
    let stage = Stage::set(Keyring::Open).await?;
    let app = stage.start().await?;
    app.sees("No machines yet.").await?;
    // What the bridge does not admit, and what Tauri would offer to a page that may.
    let refused = app
        .script_async(
            "const invoke = window.__TAURI_INTERNALS__.invoke; \
             const ask = (command, args) => invoke(command, args).then( \
               (answer) => answer?.status ?? 'granted', (error) => 'refused'); \
             return await Promise.all([ \
               ask('api', { request: { method: 'GET', path: '/', body: null } }), \
               ask('api', { request: { method: 'GET', path: 'https://example.org/api/x', body: null } }), \
               ask('plugin:window|close'), ask('plugin:fs|read_text_file', { path: '/etc/passwd' }), \
               ask('plugin:clipboard-manager|read_text'), ask('plugin:dialog|open', { options: {} }), \
               ask('plugin:event|emit', { event: 'x', payload: 1 })]);",
        )
        .await?;
    let expected =
        serde_json::json!([404, 404, "refused", "refused", "refused", "refused", "refused"]);
    ensure!(refused == expected, "{refused}");
    // The policy of the page: no script from elsewhere or from text, no connection to elsewhere.
    let policy = app
        .script_async(
            "const broken = []; \
             document.addEventListener('securitypolicyviolation', (e) => broken.push(e.effectiveDirective)); \
             const script = document.createElement('script'); script.textContent = 'window.wasRun = 1'; \
             document.head.append(script); \
             const image = new Image(); image.src = 'https://192.0.2.1/x.png'; \
             await fetch('https://192.0.2.1/').catch(() => {}); \
             while (new Set(broken).size < 3) await new Promise(requestAnimationFrame); \
             return { ran: window.wasRun ?? 0, broken: [...new Set(broken)].sort() };",
        )
        .await?;
    ensure!(policy["ran"] == 0, "a script in the page ran: {policy}");
    for directive in ["connect-src", "img-src", "script-src-elem"] {
        let is_kept =
            policy["broken"].as_array().is_some_and(|all| all.iter().any(|it| it == directive));
        ensure!(is_kept, "{directive} does not hold: {policy}");
    }
    // Nothing else is ever shown in this window, not even a page that would come at once.
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0")?;
    elsewhere.set_nonblocking(true)?;
    let address = format!("http://{}/", elsewhere.local_addr()?);
    app.script("window.stays = true").await?;
    app.script(&format!("window.open('{address}')")).await?;
    app.script(&format!("window.location.href = '{address}'")).await?;
    // The webview decides about a navigation before it lets the page go on with what follows.
    for _ in 0..20 {
        app.get("/api/session").await?;
    }
    ensure!(app.script("return window.stays").await? == true, "the page was left");
    ensure!(elsewhere.accept().is_err(), "somebody else was asked for a page");
    app.sees("No machines yet.").await
}

/// What the app wrote into its log.
fn log(data: &Path) -> Result<String> {
    let mut text = String::new();
    for entry in fs::read_dir(data.join("log"))? {
        text.push_str(&fs::read_to_string(entry?.path())?);
    }
    Ok(text)
}

#[test]
fn without_a_display_the_app_says_what_to_use_instead() -> Result<()> {
    let mut command = Command::new(testkit::tools::built("restic-manager")?);
    command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY");
    let (status, printed) = run_to_end(command, "")?;
    ensure!(
        !status.success() && printed.contains("restic-manager-headless"),
        "{status}: {printed}"
    );
    Ok(())
}
