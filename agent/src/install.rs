//! `install` and `uninstall`: the agent as a service of a Linux with systemd, with everything that it takes.
//!
//! Whatever is done says so in words. Done twice it changes nothing but what has become another.

mod others;
mod place;
mod system;

use crate::{
    connection::dial,
    identity::{Enrolment, Identity},
    join,
    paths::StateDir,
    runner,
    status::{Link, Live},
    tls::{self, Epoch, ManagerKey},
};
use anyhow::{Context, Result, bail, ensure};
use place::{
    AGENT, CONFIG, HELPER_STATE, HOME, HOOKS, LINK, POLICY, PROGRAMS, STATE, UNIT_FOLDER, UNITS,
    USER,
};
use protocol::Secret;
use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};
use system::{put, run};

/// How long the agent may take until it has met its manager.
const MEETING: Duration = Duration::from_secs(60);

/// What an installation needs to know.
#[derive(Debug)]
pub struct Installing {
    /// Where the manager is, best first.
    pub addresses: Vec<String>,
    /// The manager's root public key.
    pub manager_key: ManagerKey,
    /// The one-time token.
    pub token: Secret<String>,
}

/// Makes this machine one of the manager's: lays everything down, enrols, starts the service, and waits until
/// the two have met.
///
/// # Errors
/// In words for a person. What was laid down stays, and another call goes on from there.
pub async fn install(installing: &Installing) -> Result<()> {
    system::check()?;
    let state = StateDir::new(STATE);
    let is_enrolled = is_enrolled_here(&state, installing.manager_key)?;
    system::make_user()?;
    let is_new = lay_down()?;
    if runner::locate(&crate::identity::Settings::load(Path::new(CONFIG))?).await.is_err() {
        say("There is no restic that is new enough; the manager's own is taken.")?;
        fetch_restic(installing).await?;
    }
    if is_enrolled {
        say("This machine is enrolled already; that stays as it is.")?;
    } else {
        enrol(installing)?;
    }
    system::start_services(is_new)?;
    say("The agent runs, and will after every start of this machine.")?;
    meet(&state).await?;
    examine()?;
    others::report()?;
    Ok(())
}

/// Whether this machine belongs to this manager.
///
/// # Errors
/// When it belongs to another one.
fn is_enrolled_here(state: &StateDir, manager_key: ManagerKey) -> Result<bool> {
    if !state.is_enrolled() {
        return Ok(false);
    }
    let enrolment = Enrolment::load(state)?;
    ensure!(
        enrolment.manager_key == manager_key,
        "This machine belongs to another manager. Nothing was changed. To give it to this one, remove the agent first: restic-manager-agent uninstall"
    );
    Ok(true)
}

/// The program, the units, the folders. What an administrator has written is left alone. Says whether the program
/// or a unit is another than before.
fn lay_down() -> Result<bool> {
    let mut is_new = false;
    system::folder(PROGRAMS, 0o755, None)?;
    let own = std::env::current_exe().context("Failed to find this program")?;
    if own != Path::new(AGENT) {
        let program = fs::read(&own).context("Failed to read this program")?;
        is_new |= put(AGENT, &program, 0o755)?;
    }
    system::link(LINK, AGENT)?;
    system::folder(CONFIG, 0o755, None)?;
    system::folder(HOME, 0o755, None)?;
    system::folder(HOOKS, 0o755, None)?;
    let settings = format!("{CONFIG}/agent.json");
    if !Path::new(&settings).exists() {
        put(&settings, b"{}\n", 0o644)?;
    }
    system::folder(STATE, 0o700, Some(USER))?;
    for (name, text) in UNITS {
        let unit = format!("{UNIT_FOLDER}/{name}");
        is_new |= put(&unit, text.replace("@PROGRAM@", AGENT).as_bytes(), 0o644)?;
    }
    say(&format!("The agent lies in {PROGRAMS}, its settings in {CONFIG}, its state in {STATE}."))?;
    Ok(is_new)
}

/// The agent's own command does it, as the agent's own user.
fn enrol(installing: &Installing) -> Result<()> {
    let mut command = Command::new(AGENT);
    command.arg("enroll").arg(format!("--manager-key={}", installing.manager_key));
    command.args(installing.addresses.iter().map(|address| format!("--address={address}")));
    // What it would say of the next step is not for here.
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().context("Failed to start the agent")?;
    if let Some(mut input) = child.stdin.take() {
        input
            .write_all(installing.token.expose_secret().as_bytes())
            .context("Failed to hand the token over")?;
    }
    let ended = child.wait().context("Failed to wait for the enrolment")?;
    ensure!(ended.success(), "This machine is not enrolled; the lines above say why.");
    let host = Enrolment::load(&StateDir::new(STATE))?.host_id;
    say(&format!("This machine is enrolled as host {host}."))
}

/// The restic that the manager has for this kind of machine.
async fn fetch_restic(installing: &Installing) -> Result<()> {
    // Nobody has to know yet who this machine is.
    let identity = Identity::generate()?;
    let config = tls::client_config(installing.manager_key, &identity, Epoch::default())
        .context("Failed to set up TLS")?;
    let path = format!("/agent/programs/Linux/{}/restic", std::env::consts::ARCH);
    let mut problems = Vec::new();
    for address in &installing.addresses {
        let stream = match dial(address, config.clone()).await {
            Ok(stream) => stream,
            Err(problem) => {
                problems.push(problem.message);
                continue;
            }
        };
        let to = format!("{PROGRAMS}/restic");
        let fetched = join::fetch(stream, &path, &installing.token, Path::new(&to)).await;
        fetched.context(
            "Install restic 0.17 or newer by the system's package manager, and paste the line again",
        )?;
        system::may_run(&to)?;
        return say(&format!("restic lies in {to}."));
    }
    bail!("{}", problems.join("\n"))
}

/// Waits until the agent and its manager have met.
async fn meet(state: &StateDir) -> Result<()> {
    let meeting = async {
        loop {
            let live = Live::load(state);
            if live.link == Link::Connected {
                return live.address.unwrap_or_default();
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    match tokio::time::timeout(MEETING, meeting).await {
        Ok(address) => say(&format!("It has met its manager at {address}.")),
        Err(_) => bail!(
            "The agent runs and has not met its manager yet; it goes on trying. See: restic-manager-agent doctor"
        ),
    }
}

/// Shows how everything stands, as `doctor` would. What it finds is no failure of the installation.
fn examine() -> Result<()> {
    say("\nThis is how it stands, now and whenever you ask by: restic-manager-agent doctor")?;
    Command::new(AGENT).arg("doctor").stdin(Stdio::null()).status().context("Failed to look")?;
    Ok(())
}

/// What an `uninstall` leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// The state: the machine stays enrolled, and another installation goes on.
    Data,
    /// What people have made here: hooks, the policy, and what was restored.
    OwnFiles,
    /// Nothing.
    Nothing,
}

/// Takes the agent off this machine. The manager is not told.
///
/// # Errors
/// As the system says; another call goes on from there.
pub fn uninstall(leave: Leave) -> Result<()> {
    system::check()?;
    system::stop_services()?;
    for (name, _) in UNITS {
        system::remove_file(&format!("{UNIT_FOLDER}/{name}"))?;
    }
    run("systemctl", &["daemon-reload"])?;
    system::remove_file(LINK)?;
    system::remove_folder(PROGRAMS)?;
    if leave == Leave::Data {
        return say(&format!(
            "The agent is gone. Its state stays in {STATE}, its settings in {CONFIG}."
        ));
    }
    system::remove_folder(STATE)?;
    system::remove_file(&format!("{CONFIG}/agent.json"))?;
    let restores = format!("{HELPER_STATE}/restores");
    for cache in ["cache", "tmp", "authorities"] {
        system::remove_folder(&format!("{HELPER_STATE}/{cache}"))?;
    }
    if leave == Leave::Nothing {
        system::remove_folder(CONFIG)?;
        system::remove_folder(HELPER_STATE)?;
    }
    // Folders go where nothing is in them, and what is in them is somebody's.
    for folder in [HOOKS, HOME, CONFIG, &restores, HELPER_STATE] {
        let _ = fs::remove_dir(folder);
    }
    system::remove_user()?;
    say("The agent is gone.")?;
    for kept in [HOOKS, HOME, POLICY, &restores] {
        if Path::new(kept).exists() {
            say(&format!("{kept} is yours and stays; with --everything it goes too."))?;
        }
    }
    Ok(())
}

fn say(words: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{words}").context("Failed to say what was done")
}
