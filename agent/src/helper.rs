//! The helper: a child process of the same executable that does what needs other rights than the
//! agent's own, one typed request at a time: restoring, and the hooks around a backup.
//!
//! The request stands on the first line of standard input, secrets included; what happens comes
//! back as lines of JSON on standard output. A second line, or the end of the input, cancels: an
//! agent that dies takes its helper with it.

use crate::{
    core::{Order, Process, RunEvent, Task},
    hooks,
    identity::Settings,
    machine::hostname,
    paths::{StateDir, create_fresh_dir, create_private_dir},
    runner::{Tools, Voice, event_of, locate, operations::release_earlier, process, repository},
};
use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use outcome::{Outcome, no_progress, translate, verdict};
use protocol::{Code, JobStatus, Problem, RestoreReport, RunId};
use restic::{CancelToken, RestoreOutcome, RestoreRequest, SnapshotId};
use serde::{Deserialize, Serialize};
use std::{io::Write, path::PathBuf, process::Stdio, time::Duration};
use tokio::{
    io::AsyncWriteExt,
    process::{Child, ChildStdin, Command},
    sync::mpsc,
};
use tokio_util::{
    codec::{FramedRead, LinesCodec},
    sync::CancellationToken,
};

/// The longest line that either side reads.
const MAX_LINE: usize = 4 * 1024 * 1024;

/// How long a cancelled helper may take before it is killed: longer than restic itself may.
const GRACE: Duration = Duration::from_secs(90);

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
enum Request {
    Restore(Box<Restore>),
    Hook(hooks::Call),
}

#[derive(Debug, Serialize, Deserialize)]
struct Restore {
    order: Order,
    state: PathBuf,
    settings: Settings,
    target: PathBuf,
}

/// Lets the helper restore. Called by the agent.
pub async fn restore(
    order: &Order,
    tools: &Tools,
    voice: &mut Voice,
    cancel: &CancellationToken,
) -> Outcome {
    let root = tools.settings.restore_root(&tools.state);
    let request = Request::Restore(Box::new(Restore {
        order: order.clone(),
        state: tools.state.path().to_owned(),
        // The very restic that the agent found, not whatever would be found now.
        settings: Settings {
            restic: Some(tools.restic.program().to_owned()),
            ..tools.settings.clone()
        },
        target: root.join(order.run_id.to_string()),
    }));
    ask(&request, tools, voice, cancel).await
}

/// Lets the helper run a hook. Called by the agent.
pub async fn hook(
    call: hooks::Call,
    tools: &Tools,
    voice: &mut Voice,
    cancel: &CancellationToken,
) -> Outcome {
    ask(&Request::Hook(call), tools, voice, cancel).await
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
    let mut child = spawn(&tools.executable)?;
    let mut input = child.stdin.take().context("it has no input")?;
    let output = child.stdout.take().context("it has no output")?;
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
            () = until(deadline) => {
                let _ = child.start_kill();
                deadline = None;
            }
        }
    }
    let status = child.wait().await.context("it was lost")?;
    // A helper that was killed has left behind what it started.
    if outcome.is_none()
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

fn spawn(executable: &std::path::Path) -> Result<Child> {
    let mut command = Command::new(executable);
    command
        .arg("helper")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(false);
    // A Ctrl-C in the agent's terminal is the agent's to deal with.
    #[cfg(unix)]
    command.process_group(0);
    command.spawn().with_context(|| format!("{} could not be started", executable.display()))
}

async fn send_request(input: &mut ChildStdin, request: &Request) -> Result<()> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    input.write_all(&line).await.context("it does not listen")?;
    input.flush().await.context("it does not listen")?;
    Ok(())
}

/// Reads standard input on a thread of its own, which the process does not wait for at its end.
fn read_input() -> std::io::Result<mpsc::Receiver<String>> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::Builder::new().name("input".to_owned()).spawn(move || {
        for line in std::io::stdin().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    })?;
    Ok(lines)
}

/// The helper's own main.
///
/// # Errors
/// When the request cannot be read.
pub async fn serve() -> Result<()> {
    let mut input = read_input().context("Failed to read the request")?;
    let line = input.recv().await.context("Failed to read the request: there is none")?;
    // The text of the request holds secrets, so the cause is told by its place only.
    let request: Request = match serde_json::from_str(&line) {
        Ok(request) => request,
        Err(error) => {
            bail!("Failed to read the request: it is damaged at column {}", error.column())
        }
    };
    let cancel = CancelToken::new();
    let work = perform(&request, &cancel);
    tokio::pin!(work);
    let outcome = tokio::select! {
        outcome = &mut work => outcome,
        _ = input.recv() => {
            cancel.cancel();
            work.await
        }
    };
    tell(&RunEvent::Finished(Box::new(outcome)));
    Ok(())
}

async fn perform(request: &Request, cancel: &CancelToken) -> Outcome {
    let request = match request {
        Request::Restore(request) => request,
        Request::Hook(call) => return hooks::run(call, cancel, &mut |event| tell(&event)).await,
    };
    let Task::Restore { snapshot_id, include } = &request.order.task else {
        let problem = Problem::new(Code::KindUnknown, "The helper restores, and nothing else.");
        return Outcome::plain(JobStatus::Failed, Some(problem));
    };
    match carry_out(request, snapshot_id, include, cancel).await {
        Ok(outcome) => outcome,
        Err(problem) => Outcome::plain(JobStatus::Failed, Some(problem)),
    }
}

async fn carry_out(
    request: &Restore,
    snapshot_id: &str,
    include: &[String],
    cancel: &CancelToken,
) -> Result<Outcome, Problem> {
    let restic = locate(&request.settings).await?;
    let state = StateDir::new(&request.state);
    let repository = repository::prepare(&request.order.repository, &state)?;
    make_target(&request.target)?;
    let wanted = RestoreRequest {
        snapshot: SnapshotId::new(snapshot_id).map_err(|failure| verdict::problem(&failure))?,
        target: request.target.clone(),
        includes: include.to_vec(),
    };
    let order = &request.order;
    let mut sink = speaker(order.run_id);
    let mut done = restic.restore(&repository, &wanted, &mut sink, cancel).await;
    if let Err(failure) = &done
        && release_earlier(failure, order, &repository, &restic, &hostname(), &mut sink, cancel)
            .await
    {
        done = restic.restore(&repository, &wanted, &mut sink, cancel).await;
    }
    let target = request.target.display().to_string();
    Ok(match done {
        Ok(done) => restored(done, target),
        Err(failure) => Outcome {
            restore: Some(RestoreReport {
                target,
                files: 0,
                bytes: 0,
                missing: missing(&request.target, include),
            }),
            ..verdict::failed(&failure)
        },
    })
}

/// What was chosen and is not there after a restore that failed.
fn missing(target: &std::path::Path, include: &[String]) -> Vec<String> {
    let is_missing = |path: &&String| {
        std::fs::symlink_metadata(target.join(path.trim_start_matches('/'))).is_err()
    };
    include.iter().filter(is_missing).cloned().collect()
}

/// A fresh folder that only this user can enter: what comes out of a snapshot may be anything.
fn make_target(target: &std::path::Path) -> Result<(), Problem> {
    let made =
        target.parent().map_or(Ok(()), create_private_dir).and_then(|()| create_fresh_dir(target));
    made.map_err(|error| {
        Problem::new(
            Code::Internal,
            format!("The folder {} for the restore cannot be made: {error}.", target.display()),
        )
        .guidance("Check the restore root in the agent's settings, its disk and its rights.")
    })
}

fn restored(done: RestoreOutcome, target: String) -> Outcome {
    let report = RestoreReport {
        target,
        files: done.summary.files_restored,
        bytes: done.summary.bytes_restored,
        missing: done.missing,
    };
    let outcome = if report.missing.is_empty() {
        Outcome::plain(JobStatus::Succeeded, None)
    } else {
        let problem = Problem::new(
            Code::FilesUnreadable,
            format!("{} of the chosen paths are not in the target.", report.missing.len()),
        )
        .guidance("They are not in this snapshot. Look for them in another one.");
        Outcome::plain(JobStatus::Partial, Some(problem))
    };
    Outcome { exit_code: 0, stats: Some(done.summary.raw), restore: Some(report), ..outcome }
}

fn speaker(run_id: RunId) -> impl FnMut(restic::Event) + Send {
    let mut progress = no_progress(run_id);
    move |event| {
        for said in translate(event, &mut progress) {
            tell(&event_of(said));
        }
    }
}

/// One line. When nobody listens any more the input ends too, and that cancels.
fn tell(event: &RunEvent) {
    if let Ok(mut line) = serde_json::to_vec(event) {
        line.push(b'\n');
        let mut output = std::io::stdout().lock();
        let _ = output.write_all(&line);
        let _ = output.flush();
    }
}
