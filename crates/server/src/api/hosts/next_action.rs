//! The one action that a host's row offers, decided here so that every screen offers the same.

use super::Facts;
use crate::{
    db::{
        hosts::{Host, HostState},
        plans::Plan,
        repositories::Repository,
        runs::Run,
    },
    desired,
};
use protocol::{Code, JobKind, JobStatus, PlanId, RepositoryId, RunId};
use serde::Serialize;
use utoipa::ToSchema;

/// The one action that a host's row offers.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct NextActionView {
    /// What it is.
    pub action: NextAction,
    /// The kind of run that it asks for; absent for `view`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::api::words::KindWord>)]
    pub kind: Option<JobKind>,
    /// The plan to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid)]
    pub plan_id: Option<PlanId>,
    /// The repository to initialise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid)]
    pub repository_id: Option<RepositoryId>,
    /// The run to view, or that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid)]
    pub run_id: Option<RunId>,
}

/// What the action is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NextAction {
    /// Create the repository.
    Initialise,
    /// Run the plan now.
    RunNow,
    /// Do again what did not work.
    Retry,
    /// Look at the run that waits or is going.
    View,
}

/// Decides the action. A host that is revoked, held or without a plan offers none: there a person
/// has to do something else first.
pub(super) fn next_action(host: &Host, facts: &Facts) -> Option<NextActionView> {
    if let Some(run) = open_run(&facts.open) {
        return Some(NextActionView { run_id: Some(run.id), ..action(NextAction::View) });
    }
    if host.state != HostState::Enrolled || host.hold.is_some() {
        return None;
    }
    let can_run = |plan: &&Plan| plan.enabled && desired::can_run(plan, host.runs_hooks);
    let plans = || facts.plans.iter().filter(can_run);
    if let Some(repository) = plans().find_map(|plan| uninitialised(plan, facts)) {
        return Some(initialise(repository, facts));
    }
    let failed =
        plans().find_map(|plan| facts.last_backup(plan).filter(|it| did_not_work(it.status)));
    if let Some(run) = failed {
        let retry = action(NextAction::Retry);
        let kind = Some(JobKind::Backup);
        return Some(NextActionView { kind, plan_id: run.plan_id, run_id: Some(run.id), ..retry });
    }
    let plan = plans().min_by_key(|plan| facts.last_backup(plan).map(|run| run.created_at))?;
    let kind = Some(JobKind::Backup);
    Some(NextActionView { kind, plan_id: Some(plan.id), ..action(NextAction::RunNow) })
}

fn action(action: NextAction) -> NextActionView {
    NextActionView { action, kind: None, plan_id: None, repository_id: None, run_id: None }
}

/// The run that is going, or else the one that waits longest.
fn open_run(open: &[Run]) -> Option<&Run> {
    open.iter().find(|run| run.status == JobStatus::Running).or_else(|| open.first())
}

/// The plan's repository, unless it was initialised, or a run met one that is there already: then a
/// backup tells whether the password fits, and to initialise again would only fail again.
fn uninitialised<'a>(plan: &Plan, facts: &'a Facts) -> Option<&'a Repository> {
    let of_plan = facts.repositories.iter().find(|it| Some(it.id) == plan.repository_id)?;
    let is_met = || met_repository(&facts.runs, of_plan.id) == Some(true);
    (of_plan.initialised_at.is_none() && !is_met()).then_some(of_plan)
}

/// Whether the newest run that tells it met a repository at its place, or none.
fn met_repository(runs: &[Run], repository: RepositoryId) -> Option<bool> {
    let (there, missing) = (Some(Code::RepositoryExists), Some(Code::RepositoryMissing));
    let mut of_it = runs.iter().filter(|run| run.repository_id == Some(repository));
    of_it.find(|run| run.code == there || run.code == missing).map(|run| run.code == there)
}

fn initialise(repository: &Repository, facts: &Facts) -> NextActionView {
    let mut inits = facts.runs.iter().filter(|run| run.kind == JobKind::Init);
    let newest = inits.find(|run| run.repository_id == Some(repository.id));
    // What failed because it was there already did its part when it was missing later.
    let failed =
        newest.filter(|run| did_not_work(run.status) && run.code != Some(Code::RepositoryExists));
    let word = if failed.is_some() { NextAction::Retry } else { NextAction::Initialise };
    NextActionView {
        kind: Some(JobKind::Init),
        repository_id: Some(repository.id),
        run_id: failed.map(|run| run.id),
        ..action(word)
    }
}

/// A cancelled run is what somebody wanted; a partial one has its snapshot.
pub(super) fn did_not_work(status: JobStatus) -> bool {
    match status {
        JobStatus::Failed
        | JobStatus::Interrupted
        | JobStatus::Expired
        | JobStatus::Lost
        | JobStatus::Unknown => true,
        JobStatus::Queued
        | JobStatus::Running
        | JobStatus::Succeeded
        | JobStatus::Cancelled
        | JobStatus::Partial => false,
    }
}
