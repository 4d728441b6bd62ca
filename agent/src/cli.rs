//! The command line.

#[cfg(target_os = "linux")]
use crate::install;
use crate::{
    announce::announce,
    daemon::{Daemon, Options},
    doctor,
    enrol::{EnrolOptions, enrol},
    helper::{self, Helpers, Power},
    identity::Enrolment,
    join::Joining,
    logging::{self, LogFormat},
    machine,
    paths::StateDir,
    points, rights, status,
    tls::ManagerKey,
};
use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use protocol::{Secret, ShortCode};
use schedule::{Clock, SystemClock};
use std::{
    io::{IsTerminal, Read, Write},
    path::PathBuf,
    process::ExitCode,
};
use tokio_util::sync::CancellationToken;

/// The agent that backs this machine up for a Restic Manager.
#[derive(Debug, Parser)]
#[command(name = "restic-manager-agent", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How the log on standard error is written.
    #[arg(long, global = true, value_enum, default_value_t)]
    log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make this machine one of a manager's.
    Enroll(Enroll),
    /// Set this machine up as one of a manager's: the service, its user, restic, and the enrolment.
    #[cfg(target_os = "linux")]
    Install(Install),
    /// Take the agent off this machine.
    #[cfg(target_os = "linux")]
    Uninstall(Uninstall),
    /// Ask a manager to take this machine in, without a token.
    Announce(Announce),
    /// Run the agent in the foreground; this is what the service does.
    Run(Run),
    /// Say how the agent stands.
    Status(Report),
    /// Look for what is wrong, and say what to do.
    Doctor(Report),
    /// Do one privileged thing for the agent; not for people.
    #[command(hide = true)]
    Helper(Helper),
}

#[derive(Debug, Args)]
struct State {
    /// The folder with everything the agent knows.
    #[arg(long, env = "RESTIC_MANAGER_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// The folder with agent.json; the state folder when that is given and this is not.
    #[arg(long, env = "RESTIC_MANAGER_CONFIG_DIR")]
    config_dir: Option<PathBuf>,
}

impl State {
    fn dir(&self) -> StateDir {
        StateDir::new(self.state_dir.clone().unwrap_or_else(StateDir::default_path))
    }

    fn config(&self) -> PathBuf {
        let given = self.config_dir.clone().or_else(|| self.state_dir.clone());
        given.unwrap_or_else(StateDir::default_config_path)
    }
}

#[derive(Debug, Args)]
struct Run {
    #[command(flatten)]
    state: State,
    /// The folder with the sockets behind which the system starts helpers; they are child processes
    /// otherwise.
    #[cfg(unix)]
    #[arg(long)]
    helpers: Option<PathBuf>,
}

impl Run {
    fn helpers(&self) -> Result<Helpers> {
        #[cfg(unix)]
        if let Some(sockets) = &self.helpers {
            return Ok(Helpers::Services(sockets.clone()));
        }
        let executable =
            std::env::current_exe().context("Failed to find the agent's executable")?;
        Ok(Helpers::Children { executable, state: self.state.dir(), config: self.state.config() })
    }
}

#[derive(Debug, Args)]
struct Helper {
    /// What it may be asked for.
    power: Power,
    /// The helper's own folder.
    #[arg(long)]
    state_dir: PathBuf,
    /// The folder with agent.json.
    #[arg(long)]
    config_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Report {
    #[command(flatten)]
    state: State,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// What both ways into a fleet take.
#[derive(Debug, Args)]
struct Join {
    #[command(flatten)]
    state: State,
    /// Where the manager is, host:port; may be given more than once, best first.
    #[arg(long = "address", required = true)]
    addresses: Vec<String>,
    /// Where restores go, instead of the state folder.
    #[arg(long)]
    restore_root: Option<PathBuf>,
    /// Replace an enrolment: new key, new journal; the old state is kept aside.
    #[arg(long)]
    again: bool,
}

impl Join {
    fn joining(self) -> Joining {
        Joining {
            state: self.state.dir(),
            config: self.state.config(),
            addresses: self.addresses,
            hostname: machine::hostname(),
            restore_root: self.restore_root,
            again: self.again,
        }
    }
}

#[derive(Debug, Args)]
struct Announce {
    #[command(flatten)]
    join: Join,
}

#[derive(Debug, Args)]
struct Enroll {
    #[command(flatten)]
    join: Join,
    /// The manager's key, as the manager shows it.
    // Its alphabet has a hyphen, which may come first.
    #[arg(long, allow_hyphen_values = true)]
    manager_key: ManagerKey,
    /// Read the one-time token from this file instead of standard input.
    #[arg(long)]
    token_file: Option<PathBuf>,
}

impl Command {
    /// Whose state it is about, for all that is done with the agent's own rights.
    fn state(&self) -> Option<&State> {
        match self {
            Self::Enroll(enroll) => Some(&enroll.join.state),
            Self::Announce(announce) => Some(&announce.join.state),
            Self::Run(run) => Some(&run.state),
            Self::Status(report) | Self::Doctor(report) => Some(&report.state),
            Self::Helper(_) => None,
            #[cfg(target_os = "linux")]
            Self::Install(_) | Self::Uninstall(_) => None,
        }
    }
}

#[cfg(target_os = "linux")]
#[derive(Debug, Args)]
struct Install {
    /// Where the manager is, host:port; may be given more than once, best first.
    #[arg(long = "address", required = true)]
    addresses: Vec<String>,
    /// The manager's key, as the manager shows it.
    #[arg(long, allow_hyphen_values = true)]
    manager_key: ManagerKey,
    /// Read the one-time token from this file instead of standard input.
    #[arg(long)]
    token_file: Option<PathBuf>,
}

#[cfg(target_os = "linux")]
#[derive(Debug, Args)]
struct Uninstall {
    /// Keep the state: the machine stays enrolled, and another installation goes on.
    #[arg(long)]
    keep_data: bool,
    /// Remove hooks, policy and what was restored as well.
    #[arg(long, conflicts_with = "keep_data")]
    everything: bool,
}

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::init(cli.log_format);
    if let Some(state) = cli.command.state()
        && let Err(error) = rights::become_owner(&state.dir())
    {
        let _ = writeln!(std::io::stderr(), "{}", in_words(&error));
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(cli.command)),
        Err(error) => Err(error).context("Failed to start the runtime"),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{}", in_words(&error));
            ExitCode::FAILURE
        }
    }
}

/// The whole chain of an error, as sentences.
fn in_words(error: &anyhow::Error) -> String {
    let words: Vec<String> = error.chain().map(ToString::to_string).collect();
    words.join(": ")
}

async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Enroll(arguments) => enroll(arguments).await,
        #[cfg(target_os = "linux")]
        Command::Install(arguments) => {
            let token = read_token(arguments.token_file.as_ref())?;
            let Install { addresses, manager_key, token_file: _ } = arguments;
            install::install(&install::Installing { addresses, manager_key, token }).await?;
            Ok(ExitCode::SUCCESS)
        }
        #[cfg(target_os = "linux")]
        Command::Uninstall(arguments) => {
            install::uninstall(match (arguments.keep_data, arguments.everything) {
                (true, _) => install::Leave::Data,
                (false, true) => install::Leave::Nothing,
                (false, false) => install::Leave::OwnFiles,
            })?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Announce(arguments) => announce_machine(arguments).await,
        Command::Run(run) => serve(&run).await,
        Command::Status(report) => {
            let status = status::gather(&report.state.dir(), &report.state.config()).await?;
            let text = if report.json {
                serde_json::to_string_pretty(&status)? + "\n"
            } else {
                status.to_string()
            };
            print(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Doctor(report) => {
            let findings =
                doctor::examine(&report.state.dir(), &report.state.config(), &SystemClock).await;
            let text = if report.json {
                serde_json::to_string_pretty(&findings)? + "\n"
            } else {
                findings.iter().map(ToString::to_string).collect()
            };
            print(&text)?;
            let is_well = findings.iter().all(doctor::Finding::is_well);
            Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Helper(Helper { power, state_dir, config_dir }) => {
            let config = config_dir.unwrap_or_else(StateDir::default_config_path);
            helper::serve(power, StateDir::new(state_dir), &config).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn enroll(arguments: Enroll) -> Result<ExitCode> {
    let token = read_token(arguments.token_file.as_ref())?;
    let joining = arguments.join.joining();
    let state = joining.state.clone();
    let options = EnrolOptions { joining, manager_key: arguments.manager_key, token };
    let enrolment = enrol(options, SystemClock.now()).await?;
    enrolled(&enrolment, &state)
}

async fn announce_machine(arguments: Announce) -> Result<ExitCode> {
    let joining = arguments.join.joining();
    let (state, hostname) = (joining.state.clone(), joining.hostname.clone());
    let ask = |code| ask_for_code(&hostname, code);
    let enrolment = announce(joining, SystemClock.now(), ask).await?;
    enrolled(&enrolment, &state)
}

/// Shows root the code of this machine, and reads the one that the manager's app shows.
fn ask_for_code(hostname: &str, code: ShortCode) -> Result<String> {
    print(&format!(
        "This machine asks to join. Its code is\n\n    {code}\n\n\
         In the app, {hostname} asks to join under a code too. Only if both are the same is it the\n\
         manager that answers here, with nobody between.\n\n\
         Type the code that the app shows: "
    ))?;
    std::io::stdout().flush().context("Failed to write the question")?;
    let mut typed = String::new();
    std::io::stdin().read_line(&mut typed).context("Failed to read the code")?;
    if typed.trim().is_empty() {
        bail!(
            "No code was typed. Nothing was written. Announce the machine again to try once more."
        );
    }
    Ok(typed)
}

fn enrolled(enrolment: &Enrolment, state: &StateDir) -> Result<ExitCode> {
    print(&format!(
        "This machine is enrolled as host {}. Start the agent: restic-manager-agent run --state-dir '{}'\n",
        enrolment.host_id,
        state.path().display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Reads the token: never from the arguments, which every user of the machine can see.
fn read_token(file: Option<&PathBuf>) -> Result<Secret<String>> {
    let mut text = String::new();
    match file {
        Some(path) => {
            text = std::fs::read_to_string(path)
                .with_context(|| format!("Failed to read the token from {}", path.display()))?;
        }
        None if std::io::stdin().is_terminal() => {
            let _ = write!(std::io::stderr(), "Token: ");
            std::io::stdin().read_line(&mut text).context("Failed to read the token")?;
        }
        None => {
            std::io::stdin()
                .take(64 * 1024)
                .read_to_string(&mut text)
                .context("Failed to read the token")?;
        }
    }
    let token = text.trim();
    if token.is_empty() {
        bail!("There is no token. Give it on standard input, or with --token-file.");
    }
    Ok(Secret::new(token.to_owned()))
}

async fn serve(run: &Run) -> Result<ExitCode> {
    let options = Options {
        state: run.state.dir(),
        config: run.state.config(),
        clock: points::clock(),
        helpers: run.helpers()?,
    };
    let daemon = Daemon::start(options).await?;
    let stop = CancellationToken::new();
    let signal = stop.clone();
    let signals = async move {
        let first = told_to_stop().await;
        signal.cancel();
        if let Err(error) = first {
            tracing::error!(%error, "Signals cannot be heard");
        }
        // The second one is for good.
        let _ = told_to_stop().await;
    };
    tokio::select! {
        ended = daemon.run(stop) => ended?,
        () = signals => tracing::warn!("Stopped at once; the next start decides what was open"),
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(unix)]
async fn told_to_stop() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

#[cfg(not(unix))]
async fn told_to_stop() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}

fn print(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("Failed to write the answer")?;
    Ok(())
}
