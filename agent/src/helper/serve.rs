//! The helper's own side: one request, carried out with what this machine's administrator has laid down.

use super::{MAX_LINE, Power, Request};
use crate::{
    core::{Order, RunEvent, Task},
    gates, hooks,
    identity::Settings,
    machine::hostname,
    paths::{StateDir, create_fresh_dir, create_private_dir},
    runner::{event_of, locate, operations::release_earlier, repository},
    wake_lock::WakeLock,
};
use anyhow::{Context, Result, bail};
use outcome::{Outcome, no_progress, translate, verdict};
use protocol::{Code, JobStatus, Problem, RestoreReport, RunId};
use restic::{CancelToken, RestoreOutcome, RestoreRequest, SnapshotId};
use serde::Serialize;
use std::{
    io::{BufRead, BufReader, Read, Write},
    path::Path,
};
use tokio::sync::mpsc;

/// All that is ever read: a request, and the word that cancels it.
const MAX_INPUT: u64 = MAX_LINE as u64 + 1024;

/// What the helper does its work with.
#[derive(Debug)]
struct Bench {
    state: StateDir,
    settings: Settings,
}

/// Reads standard input on a thread of its own, which the process does not wait for at its end.
fn read_input() -> std::io::Result<mpsc::Receiver<String>> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::Builder::new().name("input".to_owned()).spawn(move || {
        for line in BufReader::new(std::io::stdin().take(MAX_INPUT)).lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    })?;
    Ok(lines)
}

/// The helper's own main: its state lies here, its settings there, and it does nothing that takes another
/// power than this.
///
/// # Errors
/// When the request cannot be read, or is not one for this helper.
pub async fn serve(power: Power, state: StateDir, config: &Path) -> Result<()> {
    let mut input = read_input().context("Failed to read the request")?;
    let line = input.recv().await.context("Failed to read the request: there is none")?;
    // The text of the request holds secrets, so the cause is told by its place only.
    let request: Request = match serde_json::from_str(&line) {
        Ok(request) => request,
        Err(error) => {
            bail!("Failed to read the request: it is damaged at column {}", error.column())
        }
    };
    if request.power() != power {
        bail!("This helper was started for something else, and did nothing.");
    }
    let bench = Bench { state, settings: Settings::load(config)? };
    let cancel = CancelToken::new();
    let work = perform(&request, &bench, &cancel);
    tokio::pin!(work);
    tokio::select! {
        () = &mut work => {}
        _ = input.recv() => {
            cancel.cancel();
            work.await;
        }
    }
    Ok(())
}

async fn perform(request: &Request, bench: &Bench, cancel: &CancelToken) {
    let outcome = match request {
        Request::Restore(order) => restore(order, bench, cancel).await,
        Request::Hook(call) => {
            hooks::run(call, &bench.settings, &bench.state, cancel, &mut |event| tell(&event)).await
        }
        Request::StayAwake => {
            let mut lock = WakeLock::default();
            lock.set(true);
            return cancel.cancelled().await;
        }
        Request::IsMetered => return tell(&gates::is_metered().await),
    };
    tell(&RunEvent::Finished(Box::new(outcome)));
}

async fn restore(order: &Order, bench: &Bench, cancel: &CancelToken) -> Outcome {
    let Task::Restore { snapshot_id, include } = &order.task else {
        let problem = Problem::new(Code::KindUnknown, "The helper restores, and nothing else.");
        return Outcome::plain(JobStatus::Failed, Some(problem));
    };
    match carry_out(order, bench, snapshot_id, include, cancel).await {
        Ok(outcome) => outcome,
        Err(problem) => Outcome::plain(JobStatus::Failed, Some(problem)),
    }
}

async fn carry_out(
    order: &Order,
    bench: &Bench,
    snapshot_id: &str,
    include: &[String],
    cancel: &CancelToken,
) -> Result<Outcome, Problem> {
    let restic = locate(&bench.settings).await?;
    let repository = repository::prepare(&order.repository, &bench.state)?;
    let target = bench.settings.restore_root(&bench.state).join(order.run_id.to_string());
    make_target(&target)?;
    let wanted = RestoreRequest {
        snapshot: SnapshotId::new(snapshot_id).map_err(|failure| verdict::problem(&failure))?,
        target: target.clone(),
        includes: include.to_vec(),
    };
    let mut sink = speaker(order.run_id);
    let mut done = restic.restore(&repository, &wanted, &mut sink, cancel).await;
    if let Err(failure) = &done
        && release_earlier(failure, order, &repository, &restic, &hostname(), &mut sink, cancel)
            .await
    {
        done = restic.restore(&repository, &wanted, &mut sink, cancel).await;
    }
    let shown = target.display().to_string();
    Ok(match done {
        Ok(done) => restored(done, shown),
        Err(failure) => Outcome {
            restore: Some(RestoreReport {
                target: shown,
                files: 0,
                bytes: 0,
                missing: missing(&target, include),
            }),
            ..verdict::failed(&failure)
        },
    })
}

/// What was chosen and is not there after a restore that failed.
fn missing(target: &Path, include: &[String]) -> Vec<String> {
    let is_missing = |path: &&String| {
        std::fs::symlink_metadata(target.join(path.trim_start_matches('/'))).is_err()
    };
    include.iter().filter(is_missing).cloned().collect()
}

/// A fresh folder that only this user can enter: what comes out of a snapshot may be anything.
fn make_target(target: &Path) -> Result<(), Problem> {
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
fn tell(event: &impl Serialize) {
    if let Ok(mut line) = serde_json::to_vec(event) {
        line.push(b'\n');
        let mut output = std::io::stdout().lock();
        let _ = output.write_all(&line);
        let _ = output.flush();
    }
}
