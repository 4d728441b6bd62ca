//! The helper: a process of the same executable that does what needs other rights than the agent's own,
//! one typed request at a time: restoring, and the hooks around a backup.
//!
//! Where the system starts helpers it is another service behind a socket, with rights of its own, and is
//! gone when it is done; elsewhere it is a child process. Either way it knows from its own command line
//! where its state, its settings, the policy and the hooks lie, and believes no request about that.
//!
//! The request stands on the first line of its input, secrets included; what happens comes back as lines of
//! JSON. A second line, or the end of the input, cancels: an agent that dies takes its helper with it.

mod serve;

pub use serve::serve;

use crate::{
    core::{Order, Process, RunEvent},
    hooks,
    paths::StateDir,
    runner::{Tools, Voice, process},
};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use futures_util::StreamExt;
use outcome::Outcome;
use protocol::{Code, JobStatus, Problem};
use serde::{Deserialize, Serialize};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    process::{Child, Command},
};
use tokio_util::{
    codec::{FramedRead, LinesCodec},
    sync::CancellationToken,
};

/// The longest line that either side reads.
const MAX_LINE: usize = 4 * 1024 * 1024;

/// How long a cancelled helper may take before it is given up: longer than restic itself may.
const GRACE: Duration = Duration::from_secs(90);

/// How long the answer to a question may take.
#[cfg(unix)]
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What a helper may be asked for, by the rights that this takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Power {
    /// To write what comes out of a snapshot.
    Restore,
    /// To do what only this machine's administrator may: hooks, and what the system tells nobody else.
    System,
}

impl Power {
    /// As on the command line of a helper.
    fn word(self) -> &'static str {
        match self {
            Self::Restore => "restore",
            Self::System => "system",
        }
    }

    /// The name of its socket.
    #[cfg(unix)]
    fn socket(self) -> &'static str {
        match self {
            Self::Restore => "restore.sock",
            Self::System => "helper.sock",
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "request", content = "with", rename_all = "snake_case")]
enum Request {
    /// Restore; answered by events.
    Restore(Box<Order>),
    /// Run a hook; answered by events.
    Hook(Box<hooks::Call>),
    /// Keep the machine from going to sleep, until the request is cancelled.
    StayAwake,
    /// Whether the network is paid for by the byte; answered by `true` or `false`.
    IsMetered,
}

impl Request {
    /// As it is sent.
    fn line(&self) -> serde_json::Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }

    fn power(&self) -> Power {
        match self {
            Self::Restore(_) => Power::Restore,
            Self::Hook(_) | Self::StayAwake | Self::IsMetered => Power::System,
        }
    }
}

/// How helpers are reached.
#[derive(Clone, Debug)]
pub enum Helpers {
    /// As child processes with this agent's own rights.
    Children {
        /// The agent's executable.
        executable: PathBuf,
        /// The agent's state, which is the helper's too.
        state: StateDir,
        /// The folder of its settings.
        config: PathBuf,
    },
    /// As services of the system, behind sockets in this folder.
    #[cfg(unix)]
    Services(PathBuf),
}

impl Helpers {
    #[cfg_attr(
        not(unix),
        expect(clippy::unused_async, reason = "there is nothing to wait for there")
    )]
    async fn reach(&self, power: Power) -> Result<Line> {
        match self {
            Self::Children { executable, state, config } => {
                let mut child = spawn(executable, config, power, state)?;
                let input = child.stdin.take().context("it has no input")?;
                let output = child.stdout.take().context("it has no output")?;
                Ok(Line { input: Box::new(input), output: Box::new(output), child: Some(child) })
            }
            #[cfg(unix)]
            Self::Services(folder) => {
                let path = folder.join(power.socket());
                let stream = tokio::net::UnixStream::connect(&path).await.with_context(|| {
                    format!("the service behind {} cannot be reached", path.display())
                })?;
                let (output, input) = stream.into_split();
                Ok(Line { input: Box::new(input), output: Box::new(output), child: None })
            }
        }
    }

    /// Keeps the machine awake by a helper, for as long as the result lives. `None` where this agent can do
    /// that itself.
    #[cfg(unix)]
    pub fn stay_awake(&self) -> Option<std::io::Result<std::os::unix::net::UnixStream>> {
        use std::io::Write;
        let Self::Services(folder) = self else { return None };
        let ask = || {
            let mut stream =
                std::os::unix::net::UnixStream::connect(folder.join(Power::System.socket()))?;
            stream.write_all(&Request::StayAwake.line()?)?;
            Ok(stream)
        };
        Some(ask())
    }

    /// Whether the network is paid for by the byte, as a helper sees it. `None` where this agent can look
    /// itself, or nobody answers.
    #[cfg_attr(
        not(unix),
        expect(clippy::unused_async, reason = "there is nothing to wait for there")
    )]
    pub async fn is_metered(&self) -> Option<bool> {
        match self {
            Self::Children { .. } => None,
            #[cfg(unix)]
            Self::Services(_) => {
                let asking = async {
                    let request = Request::IsMetered;
                    let mut line = self.reach(request.power()).await.ok()?;
                    send_request(&mut line.input, &request).await.ok()?;
                    let codec = LinesCodec::new_with_max_length(MAX_LINE);
                    let answer = FramedRead::new(line.output, codec).next().await?.ok()?;
                    serde_json::from_str(&answer).ok()
                };
                tokio::time::timeout(ANSWER_WITHIN, asking).await.ok()?
            }
        }
    }
}

/// A helper that listens.
struct Line {
    input: Box<dyn AsyncWrite + Send + Unpin>,
    output: Box<dyn AsyncRead + Send + Unpin>,
    child: Option<Child>,
}

/// Lets the helper restore. Called by the agent.
pub async fn restore(
    order: &Order,
    tools: &Tools,
    voice: &mut Voice,
    cancel: &CancellationToken,
) -> Outcome {
    ask(&Request::Restore(Box::new(order.clone())), tools, voice, cancel).await
}

/// Lets the helper run a hook. Called by the agent.
pub async fn hook(
    call: hooks::Call,
    tools: &Tools,
    voice: &mut Voice,
    cancel: &CancellationToken,
) -> Outcome {
    ask(&Request::Hook(Box::new(call)), tools, voice, cancel).await
}

async fn ask(
    request: &Request,
    tools: &Tools,
    voice: &mut Voice,
    cancel: &CancellationToken,
) -> Outcome {
    match converse(request, tools, voice, cancel).await {
        Ok(outcome) => outcome,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "The helper failed");
            let problem =
                Problem::new(Code::Internal, format!("The agent's helper failed: {error}."))
                    .guidance("The agent's own log on the machine has the cause.");
            Outcome::plain(JobStatus::Failed, Some(problem))
        }
    }
}

async fn converse(
    request: &Request,
    tools: &Tools,
    voice: &mut Voice,
    cancel: &CancellationToken,
) -> Result<Outcome> {
    let Line { mut input, output, mut child } = tools.helpers.reach(request.power()).await?;
    send_request(&mut input, request).await?;
    let mut input = Some(input);
    let mut lines = FramedRead::new(output, LinesCodec::new_with_max_length(MAX_LINE));
    let mut outcome = None;
    let mut started: Option<Process> = None;
    let mut deadline = None;
    loop {
        tokio::select! {
            line = lines.next() => match line {
                None => break,
                Some(line) => {
                    let event = serde_json::from_str(&line?).context("it said something unreadable")?;
                    match event {
                        RunEvent::Finished(ended) => outcome = Some(*ended),
                        RunEvent::Spawned(process) => {
                            started = Some(process.clone());
                            voice.say(RunEvent::Spawned(process));
                        }
                        RunEvent::Log(..)
                        | RunEvent::ItemError
                        | RunEvent::Progress(_) => voice.say(event),
                    }
                }
            },
            () = cancel.cancelled(), if input.is_some() => {
                input = None;
                deadline = Some(tokio::time::Instant::now() + GRACE);
            }
            () = until(deadline) => match &mut child {
                Some(child) => {
                    let _ = child.start_kill();
                    deadline = None;
                }
                None => bail!("it does not end; its service on this machine has to be stopped"),
            },
        }
    }
    let status = match &mut child {
        Some(child) => child.wait().await.context("it was lost")?.to_string(),
        None => "its service's own log on this machine has the cause".to_owned(),
    };
    // A child that was killed has left behind what it started; the system ends what a service leaves.
    if outcome.is_none()
        && child.is_some()
        && let Some(started) = &started
    {
        process::end(started).await;
    }
    match outcome {
        Some(outcome) => Ok(outcome),
        None if cancel.is_cancelled() => Ok(Outcome::plain(JobStatus::Cancelled, None)),
        None => bail!("it ended without a word ({status})"),
    }
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn spawn(executable: &Path, config: &Path, power: Power, state: &StateDir) -> Result<Child> {
    let mut command = Command::new(executable);
    command
        .args(["helper", power.word(), "--state-dir"])
        .arg(state.path())
        .arg("--config-dir")
        .arg(config)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(false);
    // A Ctrl-C in the agent's terminal is the agent's to deal with.
    #[cfg(unix)]
    command.process_group(0);
    command.spawn().with_context(|| format!("{} could not be started", executable.display()))
}

async fn send_request(
    input: &mut (dyn AsyncWrite + Send + Unpin),
    request: &Request,
) -> Result<()> {
    input.write_all(&request.line()?).await.context("it does not listen")?;
    input.flush().await.context("it does not listen")?;
    Ok(())
}
