//! restic itself: the program, its version, and how patient we are with it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::environment::base_environment;
use crate::event::Stream;
use crate::failure::{Failure, FailureKind};
use crate::lines;
use crate::locate::{self, LocateOptions};
use crate::process::{self, Output, Stdout};
use crate::version::Version;

/// A restic on this machine that is new enough. Cheap to clone.
///
/// Its operations need a tokio runtime with IO and time. Dropping the future of an operation
/// cancels it in the background; [`Restic::settled`] waits for that.
#[derive(Debug, Clone)]
pub struct Restic {
    pub(crate) program: PathBuf,
    version: Version,
    pub(crate) timing: Timing,
    pub(crate) processes: TaskTracker,
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Between an interrupt and a kill. restic itself needs up to 60 seconds to give up on
    /// removing its lock when the server is gone.
    pub grace: Duration,
    /// How long a repository may not answer, with nothing moving, before restic is stopped.
    pub patience: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { grace: Duration::from_secs(75), patience: Duration::from_secs(5 * 60) }
    }
}

/// `restic version` takes ten milliseconds; a program that takes this long is something else.
const PROBE_PATIENCE: Duration = Duration::from_secs(20);

impl Restic {
    /// Finds restic and reads its version.
    ///
    /// # Errors
    /// [`FailureKind::ProgramNotFound`], [`FailureKind::ProgramTooOld`] or
    /// [`FailureKind::ProgramUnusable`].
    pub async fn locate(options: &LocateOptions) -> Result<Self, Failure> {
        locate::locate(options).await
    }

    /// The same restic with other waiting times.
    #[must_use]
    pub fn with_timing(self, timing: Timing) -> Self {
        Self { timing, ..self }
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Its path.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Waits until every process that this restic and its clones started has ended, including
    /// those whose operation was dropped. For the end of a program; start nothing after it.
    pub async fn settled(&self) {
        self.processes.close();
        self.processes.wait().await;
    }

    /// Asks a program for its version, whatever that is.
    pub(crate) async fn probe(program: &Path) -> Result<Self, Failure> {
        let processes = TaskTracker::new();
        let text = tokio::time::timeout(PROBE_PATIENCE, version_text(program, &processes))
            .await
            .unwrap_or_else(|_| Err(unusable(program, "it does not answer")))?;
        let version = Version::parse(&text)
            .ok_or_else(|| unusable(program, "it does not say that it is restic"))?;
        Ok(Self { program: program.to_owned(), version, timing: Timing::default(), processes })
    }
}

async fn version_text(program: &Path, processes: &TaskTracker) -> Result<String, Failure> {
    let mut command = Command::new(program);
    command.arg("version").env_clear().envs(base_environment());
    let grace = Duration::from_secs(1);
    let stop = CancellationToken::new();
    let mut running = process::start(command, Stdout::Lines, stop, grace, processes)
        .await
        .map_err(|error| unusable(program, &error.to_string()))?;
    let mut text = String::new();
    while let Some(output) = running.next_output().await {
        if let Output::Line(Stream::Stdout, line) = output
            && text.is_empty()
        {
            text = lines::clean(&line);
        }
    }
    running.wait().await.map_err(|error| unusable(program, &error.to_string()))?;
    Ok(text)
}

fn unusable(program: &Path, why: &str) -> Failure {
    Failure::new(
        FailureKind::ProgramUnusable,
        format!("{} cannot be used: {why}", program.display()),
    )
}
