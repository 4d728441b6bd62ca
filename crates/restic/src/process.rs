//! Runs one process: starts it, reads its two streams, interrupts and kills it.
//!
//! - Every process is started from **one permanent thread**, because on Linux the signal that a
//!   child gets when its parent dies follows the parent's *thread*: a child started from a pool's
//!   worker would be interrupted when the pool shrinks.
//! - It gets a **process group** of its own, so that a Ctrl-C in our terminal does not reach it and
//!   a kill reaches its helpers too.
//! - It is **ended gently**: an interrupt, then a grace in which restic removes its lock (up to a
//!   minute if the server is gone), then a kill.
//! - Somebody always **reads its output**, also when the operation was dropped half-way: a process
//!   that writes into a closed pipe dies at once and leaves its lock behind.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc as sync_mpsc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::event::Stream;
use crate::failure::Exit;
use crate::lines::LineSplitter;

#[cfg(unix)]
#[path = "process/unix.rs"]
mod platform;
#[cfg(windows)]
#[path = "process/windows.rs"]
mod platform;

/// The signal of a kill.
const KILLED: i32 = 9;

/// The longest line that is kept of a stream of lines.
const LINE_CAP: usize = 64 * 1024;

/// The largest document that is kept: more than eighty thousand snapshots.
const DOCUMENT_CAP: usize = 64 * 1024 * 1024;

/// How many lines may wait for the operation. When it is slow, restic waits.
const WAITING_LINES: usize = 256;

/// How long the pipes may stay open after the process has ended. A helper that inherited them and
/// will not go must not hold up the operation.
const PIPE_PATIENCE: Duration = Duration::from_secs(2);

/// How long a killed process may take to be gone. One that waits for a disk that hangs cannot be ended by
/// anybody, and must not hold up the operation for ever.
const DEATH_PATIENCE: Duration = Duration::from_secs(60);

/// What is on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stdout {
    /// Lines, each on its own.
    Lines,
    /// One JSON document, on one line or on many.
    Document,
}

/// A piece of output.
#[derive(Debug)]
pub(crate) enum Output {
    /// A line, without its end.
    Line(Stream, Vec<u8>),
    /// All of standard output; `None` if it was larger than can be kept.
    Document(Option<Vec<u8>>),
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) exit: Exit,
    /// Whether it took a kill.
    pub(crate) was_killed: bool,
}

/// A process that was started. Dropping it interrupts the process.
pub(crate) struct Running {
    pub(crate) pid: u32,
    output: mpsc::Receiver<Output>,
    ended: oneshot::Receiver<io::Result<Ended>>,
    stop: DropGuard,
}

impl Running {
    /// The next piece of output; `None` when both streams have ended.
    pub(crate) async fn next_output(&mut self) -> Option<Output> {
        self.output.recv().await
    }

    /// How the process ended. Call it after the output has ended.
    pub(crate) async fn wait(self) -> io::Result<Ended> {
        // The guard must outlive the wait: dropping it means interrupting.
        let _stop = self.stop;
        match self.ended.await {
            Ok(ended) => ended,
            Err(_) => Err(io::Error::other("the runtime stopped before the process")),
        }
    }
}

/// Starts a process. Cancelling `stop`, or dropping what is returned, interrupts it, and kills it
/// after `grace`. `tracker` knows it until it has ended.
pub(crate) async fn start(
    mut command: std::process::Command,
    stdout: Stdout,
    stop: CancellationToken,
    grace: Duration,
    tracker: &TaskTracker,
) -> io::Result<Running> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    platform::isolate(&mut command);
    let mut child = spawn_from_permanent_thread(command).await?;
    let pid = child.id().ok_or_else(|| io::Error::other("the process has no id"))?;
    #[cfg(target_os = "linux")]
    platform::end_first_without_memory(pid);

    let (sender, output) = mpsc::channel(WAITING_LINES);
    let pipes_over = CancellationToken::new();
    let mut readers = Vec::new();
    if let Some(pipe) = child.stdout.take() {
        let (sender, over) = (sender.clone(), pipes_over.clone());
        readers.push(match stdout {
            Stdout::Lines => tracker.spawn(read_lines(pipe, Stream::Stdout, sender, over)),
            Stdout::Document => tracker.spawn(read_document(pipe, sender, over)),
        });
    }
    if let Some(pipe) = child.stderr.take() {
        let over = pipes_over.clone();
        readers.push(tracker.spawn(read_lines(pipe, Stream::Stderr, sender, over)));
    }
    let (end_sender, ended) = oneshot::channel();
    let supervised = supervise(child, pid, stop.clone(), grace);
    tracker.spawn(async move {
        // An operation that was dropped does not wait for the answer.
        let _ = end_sender.send(supervised.await);
        let readers = async {
            for reader in readers {
                let _ = reader.await;
            }
        };
        if tokio::time::timeout(PIPE_PATIENCE, readers).await.is_err() {
            pipes_over.cancel();
        }
    });
    Ok(Running { pid, output, ended, stop: stop.drop_guard() })
}

async fn supervise(
    mut child: Child,
    pid: u32,
    stop: CancellationToken,
    grace: Duration,
) -> io::Result<Ended> {
    let mut was_killed = false;
    let status = tokio::select! {
        status = child.wait() => status?,
        () = stop.cancelled() => {
            tracing::debug!(restic.pid = pid, "Interrupting restic");
            platform::interrupt(pid);
            match tokio::time::timeout(grace, child.wait()).await {
                Ok(status) => status?,
                Err(_) => {
                    tracing::warn!(restic.pid = pid, "Killing restic: it did not end in time");
                    was_killed = true;
                    platform::kill(pid, &mut child);
                    match tokio::time::timeout(DEATH_PATIENCE, child.wait()).await {
                        Ok(status) => status?,
                        Err(_) => {
                            tracing::error!(restic.pid = pid, "A killed restic is not gone yet");
                            return Ok(Ended { exit: Exit::Signal(KILLED), was_killed });
                        }
                    }
                }
            }
        }
    };
    Ok(Ended { exit: exit_of(status), was_killed })
}

/// Reads until the stream ends or `over` is cancelled. Goes on reading when nobody listens.
async fn read_lines(
    mut pipe: impl AsyncRead + Unpin,
    stream: Stream,
    sender: mpsc::Sender<Output>,
    over: CancellationToken,
) {
    let mut splitter = LineSplitter::new(LINE_CAP);
    let mut lines = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    while let Some(bytes) = read_some(&mut pipe, &mut buffer, &over).await {
        splitter.push(bytes, |line| lines.push(line));
        for line in lines.drain(..) {
            let _ = sender.send(Output::Line(stream, line)).await;
        }
    }
    if let Some(line) = splitter.finish() {
        let _ = sender.send(Output::Line(stream, line)).await;
    }
}

async fn read_document(
    mut pipe: impl AsyncRead + Unpin,
    sender: mpsc::Sender<Output>,
    over: CancellationToken,
) {
    let mut document = Vec::new();
    let mut is_whole = true;
    let mut buffer = vec![0; 64 * 1024];
    while let Some(bytes) = read_some(&mut pipe, &mut buffer, &over).await {
        is_whole = is_whole && document.len() + bytes.len() <= DOCUMENT_CAP;
        if is_whole {
            document.extend_from_slice(bytes);
        }
    }
    let document = is_whole.then_some(document);
    let _ = sender.send(Output::Document(document)).await;
}

async fn read_some<'a>(
    pipe: &mut (impl AsyncRead + Unpin),
    buffer: &'a mut [u8],
    over: &CancellationToken,
) -> Option<&'a [u8]> {
    let count = tokio::select! {
        biased;
        count = pipe.read(buffer) => count.ok()?,
        () = over.cancelled() => return None,
    };
    buffer.get(..count).filter(|bytes| !bytes.is_empty())
}

#[cfg(unix)]
fn exit_of(status: ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Code(-1),
    }
}

#[cfg(windows)]
fn exit_of(status: ExitStatus) -> Exit {
    Exit::Code(status.code().unwrap_or(-1))
}

/// A request to the permanent thread.
struct Spawn {
    command: std::process::Command,
    runtime: Handle,
    answer: oneshot::Sender<io::Result<Child>>,
}

async fn spawn_from_permanent_thread(command: std::process::Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<Option<sync_mpsc::Sender<Spawn>>> = OnceLock::new();
    let gone = || io::Error::other("the thread that starts processes is not there");
    let spawner = SPAWNER.get_or_init(start_spawner).as_ref();
    let (answer, child) = oneshot::channel();
    let request = Spawn { command, runtime: Handle::current(), answer };
    spawner.ok_or_else(gone)?.send(request).map_err(|_| gone())?;
    child.await.map_err(|_| gone())?
}

fn start_spawner() -> Option<sync_mpsc::Sender<Spawn>> {
    let (sender, requests) = sync_mpsc::channel::<Spawn>();
    let thread = std::thread::Builder::new().name("restic-spawner".to_owned());
    let started = thread.spawn(move || {
        for request in requests {
            let _inside = request.runtime.enter();
            let child = Command::from(request.command).spawn();
            // An operation that was dropped meanwhile gets its child back as an orphan without a
            // reader; it has done nothing yet, so it may die of that.
            if let Err(Ok(mut child)) = request.answer.send(child) {
                let _ = child.start_kill();
            }
        }
    });
    started.ok().map(|_| sender)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_is_told_to_end_restic_first() {
        let mut command = std::process::Command::new("sleep");
        command.arg("60");
        let stop = CancellationToken::new();
        let tracker = TaskTracker::new();
        let grace = Duration::from_secs(60);
        let running = start(command, Stdout::Lines, stop.clone(), grace, &tracker).await.unwrap();
        let score = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", running.pid));
        assert_eq!(score.unwrap().trim(), "1000");
        stop.cancel();
        running.wait().await.unwrap();
    }
}
