//! The keeper: what the manager itself does with repositories in the store, one run after another.
//!
//! Machines may only add there. What deletes is done here, with a pass that lives as long as one run,
//! and so it works while the machine is away.
//!
//! ```text
//! queued ──▶ running ──▶ ended, with its log       (a run is the manager's by its dispatch)
//!    └─ cancelled: ended by whoever asks     running when the manager starts: interrupted
//! ```

mod inspection;
mod retention;
mod voice;
mod work;

use crate::{
    db::{error::DbError, runs, runs::Run},
    events::{Event, Topic},
    files::{self, Readers},
    manager::Manager,
    store::place::create_dir,
};
use outcome::Outcome;
use protocol::{Code, JobFinished, JobStatus, Problem, RunId};
use std::{error::Error, io, path::PathBuf};
use tokio::sync::broadcast::{
    Receiver,
    error::{RecvError, TryRecvError},
};
use tokio_util::sync::CancellationToken;
use voice::Voice;

/// The task that does the manager's own runs.
#[derive(Debug)]
pub struct Keeper {
    manager: Manager,
    /// Where restic keeps what it can do without.
    folder: PathBuf,
    /// Where the store answers on this computer.
    port: u16,
}

impl Keeper {
    /// A keeper with a folder of its own, for the store behind this port.
    ///
    /// # Errors
    /// When the folder cannot be made, or the runs of an earlier process cannot be ended.
    pub async fn new(manager: Manager, folder: PathBuf, port: u16) -> Result<Self, DbError> {
        let mut tx = manager.db().begin().await?;
        runs::interrupt_own(&mut tx, &interruption(), manager.now()).await?;
        tx.commit().await?;
        let keeper = Self { manager, folder, port };
        // What an earlier process had no time to remove.
        let _ = tokio::fs::remove_dir_all(keeper.temporary()).await;
        Ok(keeper)
    }

    /// Works until it is told to stop; what it is doing then is interrupted.
    pub async fn run(self, stop: CancellationToken) {
        // Before the first look, so that nothing is asked for between the two.
        let mut events = self.manager.events().subscribe();
        while !stop.is_cancelled() {
            let next = match runs::next_own(self.manager.db().read()).await {
                Ok(Some(run)) => self.carry_out(run, &mut events, &stop).await.map(|()| true),
                Ok(None) => Ok(false),
                Err(error) => Err(error),
            };
            let is_done = next.unwrap_or_else(|error| {
                tracing::error!(
                    error = &error as &dyn Error,
                    "failed to look after the manager's own runs"
                );
                false
            });
            if !is_done {
                tokio::select! {
                    () = news(&mut events, None) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }

    async fn carry_out(
        &self,
        run: Run,
        events: &mut Receiver<Event>,
        stop: &CancellationToken,
    ) -> Result<(), DbError> {
        let manager = &self.manager;
        let mut tx = manager.db().begin().await?;
        let is_ours = runs::begin_own(&mut tx, run.id, manager.now()).await?;
        tx.commit().await?;
        if !is_ours {
            return Ok(());
        }
        self.publish(&run);
        let (mut voice, log) = voice::open(manager.clone(), run.id);
        let cancel = CancellationToken::new();
        let work = async {
            let mut outcome = self.perform(&run, &mut voice, &cancel).await;
            if outcome.status == JobStatus::Cancelled && stop.is_cancelled() {
                outcome = interrupted();
            }
            voice.end(&outcome).await;
            outcome
        };
        let work = async {
            tokio::pin!(work);
            tokio::select! {
                outcome = &mut work => return outcome,
                () = self.is_to_end(run.id, events, stop) => cancel.cancel(),
            }
            work.await
        };
        let (outcome, log_lines) = tokio::join!(work, log.write());
        self.finish(&run, outcome, log_lines).await
    }

    /// Does the run, if all that it needs is there.
    async fn perform(&self, run: &Run, voice: &mut Voice, cancel: &CancellationToken) -> Outcome {
        match self.prepare() {
            Ok(()) => work::perform(self, run, voice, cancel).await,
            Err(error) => Outcome::plain(
                JobStatus::Failed,
                Some(
                    Problem::new(
                        Code::Internal,
                        format!("The folder {} cannot be used: {error}.", self.folder.display()),
                    )
                    .guidance("Check this computer's disk and the rights of the folder."),
                ),
            ),
        }
    }

    fn prepare(&self) -> io::Result<()> {
        create_dir(&self.temporary())?;
        let authority = self.manager.identity().root_cert_pem();
        files::replace(&self.authority(), &authority, Readers::Owner)
    }

    fn temporary(&self) -> PathBuf {
        self.folder.join("temporary")
    }

    fn authority(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// Waits until somebody wants the run to end, or it was ended elsewhere, or the manager stops.
    async fn is_to_end(&self, run: RunId, events: &mut Receiver<Event>, stop: &CancellationToken) {
        loop {
            let found = runs::find(self.manager.db().read(), run).await;
            if let Ok(run) = found
                && run
                    .is_none_or(|run| run.cancel_requested_at.is_some() || run.status.is_terminal())
            {
                return;
            }
            tokio::select! {
                () = news(events, Some(run)) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn finish(&self, run: &Run, outcome: Outcome, log_lines: u64) -> Result<(), DbError> {
        let (error, code, guidance) = match outcome.problem {
            Some(problem) => (Some(problem.message), Some(problem.code), problem.guidance),
            None => (None, None, None),
        };
        let finished = JobFinished {
            job_id: run.id,
            status: outcome.status,
            exit_code: outcome.exit_code,
            finished_at: self.manager.now(),
            stats: outcome.stats,
            error,
            code,
            guidance,
            snapshot_id: outcome.snapshot_id,
            unreadable: outcome.unreadable,
            unreadable_count: outcome.unreadable_count,
            log_lines,
            restore: outcome.restore,
        };
        let mut tx = self.manager.db().begin().await?;
        runs::finish_own(&mut tx, &finished).await?;
        tx.commit().await?;
        self.publish(run);
        let events = self.manager.events();
        events.run_ended(run.id);
        if let Some(repository) = run.repository_id {
            events.publish(Topic::Repository(repository));
        }
        events.publish(Topic::Store);
        Ok(())
    }

    fn publish(&self, run: &Run) {
        self.manager.events().publish(Topic::Run(run.id));
        self.manager.events().publish(Topic::Host(run.host_id));
    }
}

/// Waits for news of this run, or of any. Who has missed some looks too. One look is then enough for all
/// that has come until now.
async fn news(events: &mut Receiver<Event>, of: Option<RunId>) {
    loop {
        match events.recv().await {
            Ok(Event { topic: Topic::Run(run), .. }) if of.is_none_or(|of| of == run) => break,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => break,
            // The hub lives as long as the manager.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
    while let Ok(_) | Err(TryRecvError::Lagged(_)) = events.try_recv() {}
}

fn interrupted() -> Outcome {
    Outcome::plain(JobStatus::Interrupted, Some(interruption()))
}

fn interruption() -> Problem {
    Problem::new(
        Code::Interrupted,
        "This computer, or the app on it, was stopped in the middle of this run.",
    )
    .guidance("The repository is whole; start the run again.")
}
