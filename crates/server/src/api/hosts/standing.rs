//! How a host stands: its newest runs, its last good backup, and the same for each of its plans, with the verdict.
//! Derived from the runs each time; nothing of it is stored.

use super::{Facts, next_action::did_not_work};
use crate::{
    db::{hosts::Host, plans::Plan, runs::Run},
    desired,
    verdict::{Evidence, Good, Verdict, verdict},
};
use jiff::Timestamp;
use protocol::{Code, JobKind, JobStatus, PlanId, RunId};
use serde::Serialize;
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// The newest run of a kind or of a plan.
#[derive(Debug, Serialize, ToSchema)]
pub struct LastRunView {
    /// The run.
    #[schema(value_type = String, format = Uuid)]
    pub id: RunId,
    /// Its kind.
    #[schema(value_type = crate::api::words::KindWord)]
    pub kind: JobKind,
    /// Its state.
    #[schema(value_type = crate::api::words::StatusWord)]
    pub status: JobStatus,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// The stable reason of its end.
    #[schema(value_type = Option<crate::api::words::CodeWord>)]
    pub code: Option<Code>,
}

impl From<&Run> for LastRunView {
    fn from(run: &Run) -> Self {
        Self {
            id: run.id,
            kind: run.kind,
            status: run.status,
            created_at: run.created_at,
            finished_at: run.finished_at,
            code: run.code,
        }
    }
}

/// The newest backup that left a snapshot.
#[derive(Debug, Serialize, ToSchema)]
pub struct LastGoodView {
    /// The run.
    #[schema(value_type = String, format = Uuid)]
    pub run_id: RunId,
    /// When it ended, by the endpoint's clock; when it was asked for, where that clock is ahead.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Whether files could not be read.
    pub is_partial: bool,
}

/// How a plan stands on a host.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlanStandView {
    /// The plan.
    #[schema(value_type = String, format = Uuid)]
    pub plan_id: PlanId,
    /// Whether it may run.
    pub enabled: bool,
    /// Its newest backup into the repository that it has now.
    pub last_run: Option<LastRunView>,
    /// The newest of these backups that left a snapshot.
    pub last_good: Option<LastGoodView>,
    /// How it stands; absent for a plan that may not run.
    pub verdict: Option<VerdictView>,
}

/// How a plan stands on a machine, or a machine with its plans; from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerdictView {
    /// Its backups come as the plan says.
    Protected,
    /// Its machine is off or asleep, and may be for now.
    Asleep,
    /// Something stood in the way, its repository or a gate; it goes on by itself.
    Waiting,
    /// Its newest backup lacks something.
    Partial,
    /// It never had a good backup.
    Never,
    /// Its machine has not told for too long what it did.
    Silent,
    /// A backup was due, and there was none.
    Late,
    /// The machine did not get the plan: its agent does not run hooks, and the plan has some.
    Refused,
    /// Its newest backup failed.
    Failed,
}

impl From<Verdict> for VerdictView {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Protected => Self::Protected,
            Verdict::Asleep => Self::Asleep,
            Verdict::Waiting => Self::Waiting,
            Verdict::Partial => Self::Partial,
            Verdict::Never => Self::Never,
            Verdict::Silent => Self::Silent,
            Verdict::Late => Self::Late,
            Verdict::Refused => Self::Refused,
            Verdict::Failed => Self::Failed,
        }
    }
}

impl Facts {
    /// The newest run of each kind, newest first.
    pub(super) fn last_runs(&self) -> Vec<LastRunView> {
        let mut seen = BTreeSet::new();
        self.runs
            .iter()
            .filter(|run| seen.insert(run.kind.as_str()))
            .map(LastRunView::from)
            .collect()
    }

    /// The newest backup that left a snapshot, of whatever plan it was.
    pub(super) fn last_good(&self) -> Option<LastGoodView> {
        self.good(|_| true)
    }

    /// How one of the host's plans stands.
    pub(super) fn stand(&self, host: &Host, plan: &Plan) -> PlanStandView {
        PlanStandView {
            plan_id: plan.id,
            enabled: plan.enabled,
            last_run: self.last_backup(plan).map(LastRunView::from),
            last_good: self.good(|run| serves(run, plan)),
            verdict: plan.enabled.then(|| self.verdict(host, plan).into()),
        }
    }

    fn verdict(&self, host: &Host, plan: &Plan) -> Verdict {
        let good = self.good_run(|run| serves(run, plan)).map(|(run, ended)| Good {
            began: run.started_at.filter(|at| *at <= self.now).unwrap_or(run.created_at),
            ended,
            is_partial: run.status == JobStatus::Partial,
        });
        let newest = self.backups(plan).find(|run| is_telling(run.status));
        let track = self.ledger.tracks.get(&(host.id, plan.id));
        verdict(&Evidence {
            now: self.now,
            patience: host.patience,
            is_online: self.is_online,
            last_seen: host.last_seen_at,
            track: track.filter(|_| !plan.cron.is_empty()),
            good,
            has_failed: newest.is_some_and(|run| did_not_work(run.status)),
            can_run: desired::can_run(plan, host.runs_hooks),
        })
    }

    /// The newest backup of a plan.
    pub(super) fn last_backup(&self, plan: &Plan) -> Option<&Run> {
        self.backups(plan).next()
    }

    fn backups(&self, plan: &Plan) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| run.kind == JobKind::Backup && serves(run, plan))
    }

    fn good(&self, wanted: impl Fn(&Run) -> bool) -> Option<LastGoodView> {
        let (run, at) = self.good_run(wanted)?;
        Some(LastGoodView { run_id: run.id, at, is_partial: run.status == JobStatus::Partial })
    }

    /// The newest backup that left a snapshot, and when it ended.
    fn good_run(&self, wanted: impl Fn(&Run) -> bool) -> Option<(&Run, Timestamp)> {
        let has_snapshot = |run: &&Run| {
            run.kind == JobKind::Backup
                && matches!(run.status, JobStatus::Succeeded | JobStatus::Partial)
        };
        let run = self.runs.iter().filter(has_snapshot).find(|run| wanted(run))?;
        // A clock that runs ahead must not make a machine look protected for ever.
        let at = run.finished_at.filter(|at| *at <= self.now).unwrap_or(run.created_at);
        Some((run, at))
    }
}

/// Whether a backup says how its plan stands. One that waits, goes on or was cancelled does not, or asking for one
/// would hide that the last one failed; nor does what nobody began in time, since the machine makes others by itself.
fn is_telling(status: JobStatus) -> bool {
    match status {
        JobStatus::Succeeded
        | JobStatus::Partial
        | JobStatus::Failed
        | JobStatus::Interrupted
        | JobStatus::Lost
        | JobStatus::Unknown => true,
        JobStatus::Queued | JobStatus::Running | JobStatus::Cancelled | JobStatus::Expired => false,
    }
}

/// Whether a run is the plan's as the plan is now: what lies in a repository that it had before
/// says nothing of the one that it has. Agents of version 1 do not name the repository.
fn serves(run: &Run, plan: &Plan) -> bool {
    run.plan_id == Some(plan.id)
        && run.repository_id.is_none_or(|it| Some(it) == plan.repository_id)
}
