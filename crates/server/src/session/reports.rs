//! What an agent tells beside its journal: answers to commands, progress, and what repositories
//! hold. All of it is checked against what the host may speak of.

use super::{
    commands::Written,
    snapshots::{self, Assembly, Judgement, MAX_SNAPSHOTS, SnapshotsStep, Stored, Tellers},
    socket::{Connection, Ended, Wire},
};
use crate::{
    db::{
        error::DbError,
        repositories,
        runs::{self, Dispatch, EndHere},
        snapshots as rows,
    },
    desired::Sources,
    events::Topic,
    text,
};
use protocol::{
    Code, CommandResult, JobProgress, JobStatus, LockInfo, RepoStats, RepositoryId,
    SnapshotsReport, SnapshotsWant, ToAgent,
};

/// What is put together from several reports.
#[derive(Debug, Default)]
pub(super) struct Reports {
    assembly: Assembly,
    tellers: Tellers,
}

impl<W: Wire> Connection<W> {
    pub(super) async fn command_answered(&mut self, result: &CommandResult) -> Result<(), Ended> {
        let run = result.job_id;
        let Some(live) = self.live.as_mut() else { return Ok(()) };
        // An answer to nothing, or a second one, is an echo.
        let Some(written) =
            live.written.get_mut(&run).filter(|written| written.run && !written.accepted)
        else {
            return Ok(());
        };
        let manager = self.shared.manager.clone();
        let mut tx = manager.db().begin().await?;
        if result.accepted {
            *written = Written { accepted: true, ..*written };
            runs::advance(&mut tx, run, Dispatch::Sent, Dispatch::Accepted).await?;
        } else {
            let known = runs::find(&mut *tx, run).await?;
            let is_queued = known.is_some_and(|run| run.status == JobStatus::Queued);
            let end = EndHere {
                status: JobStatus::Failed,
                code: result.code.unwrap_or(Code::ResticFailed),
                error: text::sentence(
                    result.error.as_deref().unwrap_or("The machine refused the command."),
                ),
                guidance: result.guidance.as_deref().map(text::sentence),
            };
            if is_queued {
                runs::finish_here(&mut tx, run, &end, manager.now()).await?;
            }
        }
        tx.commit().await.map_err(DbError::from)?;
        manager.events().publish(Topic::Run(run));
        if !result.accepted {
            manager.events().run_ended(run);
            manager.events().publish(Topic::Host(self.host));
        }
        self.reconcile().await
    }

    pub(super) async fn progress_told(&mut self, progress: JobProgress) -> Result<(), Ended> {
        let run = progress.job_id;
        let Some(live) = self.live.as_mut() else { return Ok(()) };
        if !live.open_runs.contains(&run) {
            let known = runs::find(self.shared.manager.db().read(), run).await?;
            let is_ours = known.is_some_and(|run| {
                run.host_id == self.host
                    && run.dispatch != Dispatch::Manager
                    && !run.status.is_terminal()
            });
            if !is_ours {
                return Ok(());
            }
            live.open_runs.insert(run);
        }
        let cleaned = JobProgress {
            current_files: progress
                .current_files
                .iter()
                .take(8)
                .map(|it| text::sentence(it))
                .collect(),
            unreachable: progress.unreachable.as_deref().map(text::sentence),
            ..progress
        };
        self.shared.manager.events().progress(cleaned);
        Ok(())
    }

    /// The repository that a report is about, if this host may report on it.
    async fn reported(
        &mut self,
        named: Option<RepositoryId>,
    ) -> Result<Option<RepositoryId>, Ended> {
        let Some(live) = &self.live else { return Ok(None) };
        let db = self.shared.manager.db().read();
        if live.version.has_journal() {
            let assigned = repositories::of_host(db, self.host).await?;
            return Ok(named.filter(|named| assigned.iter().any(|one| one.id == *named)));
        }
        let mut connection = db.acquire().await.map_err(DbError::from)?;
        let sources = Sources::read(&mut connection, self.host).await?;
        Ok(sources.version_1_repository())
    }

    pub(super) async fn snapshots_told(&mut self, report: SnapshotsReport) -> Result<(), Ended> {
        let Some(repository) = self.reported(report.repository_id).await? else { return Ok(()) };
        let report = snapshots::cleaned(report);
        let manager = self.shared.manager.clone();
        let Some(live) = self.live.as_mut() else { return Ok(()) };
        let now = manager.now();
        // A clock that runs ahead must not shut out what is read after it was set right.
        let read_at = report.read_at.unwrap_or(now).min(now);
        let mut tx = manager.db().begin().await?;
        let facts = rows::facts(&mut *tx, repository).await?;
        let same_host = facts.snapshots_host_id == Some(self.host);
        if live.version.has_journal() {
            match live.reports.tellers.judge(self.host, repository, &report, &facts) {
                Judgement::Counts => {}
                Judgement::Ask => {
                    drop(tx);
                    return self.want(repository, true).await;
                }
                Judgement::Asked => return Ok(()),
            }
        }
        let stored = Stored {
            digest: facts.snapshots_digest,
            // What lies ahead was noted before this manager's clock was put back, and says nothing.
            read_at: facts.snapshots_read_at.filter(|at| same_host && *at <= now),
        };
        let step = if live.version.has_journal() {
            live.reports.assembly.handle(repository, report, &stored)
        } else {
            snapshots::whole_list(report)
        };
        let digest = match step {
            SnapshotsStep::Nothing => return Ok(()),
            SnapshotsStep::Want => {
                drop(tx);
                return self.want(repository, false).await;
            }
            SnapshotsStep::Agree { digest } => digest,
            SnapshotsStep::Replace { snapshots, digest } => {
                rows::replace(&mut tx, repository, &snapshots).await?;
                digest
            }
            SnapshotsStep::Delta { snapshots, removed, digest } => {
                rows::remove(&mut tx, repository, &removed).await?;
                rows::add(&mut tx, repository, &snapshots).await?;
                if rows::count_of(&mut *tx, repository).await? > MAX_SNAPSHOTS {
                    return Ok(());
                }
                if rows::digest(&mut *tx, repository).await? != digest {
                    drop(tx);
                    return self.want(repository, false).await;
                }
                digest
            }
        };
        rows::note_snapshots(&mut tx, repository, self.host, &digest, read_at).await?;
        tx.commit().await.map_err(DbError::from)?;
        manager.events().publish(Topic::Repository(repository));
        Ok(())
    }

    async fn want(&mut self, repository_id: RepositoryId, anew: bool) -> Result<(), Ended> {
        self.write(&ToAgent::SnapshotsWant(SnapshotsWant { repository_id, anew })).await
    }

    pub(super) async fn stats_told(&mut self, stats: &RepoStats) -> Result<(), Ended> {
        let Some(repository) = self.reported(stats.repository_id).await? else { return Ok(()) };
        let manager = self.shared.manager.clone();
        let now = manager.now();
        let cleaned = RepoStats {
            last_check_status: stats.last_check_status.as_deref().map(text::name),
            lock_state: text::name(&stats.lock_state),
            locks: stats.locks.iter().take(100).map(clean_lock).collect(),
            ..stats.clone()
        };
        let read_at = stats.read_at.unwrap_or(now).min(now);
        let mut tx = manager.db().begin().await?;
        rows::note_stats(&mut tx, repository, &cleaned, read_at).await?;
        tx.commit().await.map_err(DbError::from)?;
        manager.events().publish(Topic::Repository(repository));
        Ok(())
    }
}

fn clean_lock(lock: &LockInfo) -> LockInfo {
    LockInfo {
        id: text::name(&lock.id),
        hostname: text::name(&lock.hostname),
        username: text::name(&lock.username),
        ..lock.clone()
    }
}
