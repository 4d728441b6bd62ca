//! The server without a desktop: for an always-on machine, and for tests.

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use protocol::Secret;
use server::{
    headless::{Running, ServeConfig, generate_password, init, set_password},
    log::shows_no_frames,
    memory::share_one_heap,
    ui_listener::UiConfig,
};
use std::{
    io::{IsTerminal as _, Read as _, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};
use tracing_subscriber::{
    EnvFilter, filter::filter_fn, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// Protects a fleet of machines with restic: the coordinating server without a desktop.
#[derive(Debug, Parser)]
#[command(name = "restic-manager-headless", version)]
struct Cli {
    /// How log lines on standard error look. RUST_LOG chooses which there are.
    #[arg(long, global = true, value_enum, default_value_t = LogForm::Text)]
    log: LogForm,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogForm {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the data folder and set the first password.
    Init {
        #[command(flatten)]
        data: DataDir,
        #[command(flatten)]
        password: PasswordFrom,
        /// How agents find this machine, host:port; may be repeated, best first.
        #[arg(long)]
        agent_address: Vec<String>,
    },
    /// Change the password; everyone has to sign in again.
    Password {
        #[command(flatten)]
        data: DataDir,
        #[command(flatten)]
        password: PasswordFrom,
    },
    /// Serve agents and the admin.
    Serve(Serve),
}

#[derive(Debug, Args)]
struct DataDir {
    /// The folder of the database, the vault key and the certificates.
    #[arg(long, value_parser = absolute)]
    data_dir: PathBuf,
}

/// A path that means the same wherever it is told.
fn absolute(path: &str) -> std::io::Result<PathBuf> {
    std::path::absolute(path)
}

#[derive(Debug, Args)]
struct PasswordFrom {
    /// Read the password from standard input. Without it the terminal is asked; where there is
    /// none, one is made and printed once.
    #[arg(long)]
    password_stdin: bool,
}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    data: DataDir,
    /// Where the admin's interface listens.
    #[arg(long, default_value = "127.0.0.1:9780")]
    ui_listen: SocketAddr,
    /// A further name by which browsers may ask for the interface, name or name:port.
    #[arg(long)]
    ui_host: Vec<String>,
    /// The folder of the built pages. Without it they are looked for beside the program, in
    /// ../share/restic-manager/ui.
    #[arg(long)]
    ui_dir: Option<PathBuf>,
    /// The folder with the agents and restics that machines are set up with. Without it they are looked for
    /// beside the program, in ../share/restic-manager/agents.
    #[arg(long)]
    programs_dir: Option<PathBuf>,
    /// Where agents dial in.
    #[arg(long, default_value = "0.0.0.0:9781")]
    agent_listen: SocketAddr,
    /// How agents find this machine, host:port; may be repeated, best first. Those of the last
    /// time when absent.
    #[arg(long)]
    agent_address: Vec<String>,
}

fn main() -> ExitCode {
    share_one_heap();
    let cli = Cli::parse();
    start_log(cli.log);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "Failed to start");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(run(cli.command));
    // What did not end in time is not waited for.
    runtime.shutdown_timeout(Duration::from_millis(100));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start_log(form: LogForm) {
    let wanted = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let log = tracing_subscriber::registry().with(wanted).with(filter_fn(shows_no_frames));
    match form {
        LogForm::Text => log.with(lines).init(),
        LogForm::Json => log.with(lines.json()).init(),
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Init { data, password, agent_address } => {
            let (password, is_new) = read_password(&password)?;
            init(&data.data_dir, agent_address, &password).await?;
            if is_new { print(password.expose_secret()) } else { Ok(()) }
        }
        Command::Password { data, password } => {
            let (password, is_new) = read_password(&password)?;
            set_password(&data.data_dir, &password).await?;
            if is_new { print(password.expose_secret()) } else { Ok(()) }
        }
        Command::Serve(options) => serve(options).await,
    }
}

async fn serve(options: Serve) -> anyhow::Result<()> {
    // Before anything is up: a signal in the middle of the start must not be lost.
    let mut signals = Signals::new()?;
    let running = Running::start(ServeConfig {
        data_dir: options.data.data_dir,
        ui: UiConfig { listen: options.ui_listen, hosts: options.ui_host, pages: options.ui_dir },
        agent_listen: options.agent_listen,
        agent_addresses: options.agent_address,
        programs: options.programs_dir,
    })
    .await?;
    print(&serde_json::to_string(&running.ready())?)?;
    signals.next().await;
    tracing::info!("Stopping; a second signal stops at once");
    tokio::select! {
        () = running.shutdown() => Ok(()),
        () = signals.next() => bail!("stopped by a second signal, without waiting"),
    }
}

/// The password, and whether it was made here and must be shown.
fn read_password(from: &PasswordFrom) -> anyhow::Result<(Secret<String>, bool)> {
    if from.password_stdin {
        let mut text = String::new();
        std::io::stdin()
            .lock()
            .take(64 * 1024)
            .read_to_string(&mut text)
            .context("failed to read the password")?;
        let text = Secret::new(text);
        return Ok((
            Secret::new(text.expose_secret().trim_end_matches(['\r', '\n']).to_owned()),
            false,
        ));
    }
    if !std::io::stdin().is_terminal() {
        return Ok((generate_password()?, true));
    }
    let ask = |prompt| -> anyhow::Result<Secret<String>> {
        Ok(Secret::new(
            rpassword::prompt_password(prompt).context("failed to ask for the password")?,
        ))
    };
    let password = ask("New password (at least 12 characters): ")?;
    if password != ask("Once more: ")? {
        bail!("the two passwords differ; nothing was changed");
    }
    Ok((password, false))
}

/// One line on standard output, which is for whoever started this program.
fn print(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("failed to write to standard output")
}

/// The signals that end the server.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> anyhow::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("failed to watch for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("failed to watch for SIGINT")?,
        })
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    #[cfg(not(unix))]
    #[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
    fn new() -> anyhow::Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
