//! The one action that a host's row offers, decided here so that every screen offers the same.

use super::Facts;
use crate::db::{
    hosts::{Host, HostState},
    plans::Plan,
    repositories::Repository,
    runs::Run,
};
use protocol::{HostId, JobKind, JobStatus, PlanId, RepositoryId, RunId};
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
    if let Some(run) = open_run(&facts.open, host.id) {
        return Some(NextActionView { run_id: Some(run.id), ..action(NextAction::View) });
    }
    if host.state != HostState::Enrolled || host.hold.is_some() {
        return None;
    }
    let plans = || facts.plans.iter().filter(|plan| plan.enabled);
    if let Some(repository) = plans().find_map(|plan| uninitialised(plan, &facts.repositories)) {
        return Some(initialise(repository, &facts.newest, host.id));
    }
    let last = |plan: &Plan| {
        let mut of_it = facts.newest_backups.iter().filter(|run| run.host_id == host.id);
        of_it.find(|run| run.plan_id == Some(plan.id))
    };
    let failed = plans().find_map(|plan| last(plan).filter(|run| did_not_work(run.status)));
    if let Some(run) = failed {
        let retry = action(NextAction::Retry);
        let kind = Some(JobKind::Backup);
        return Some(NextActionView { kind, plan_id: run.plan_id, run_id: Some(run.id), ..retry });
    }
    let plan = plans().min_by_key(|plan| last(plan).map(|run| run.created_at))?;
    let kind = Some(JobKind::Backup);
    Some(NextActionView { kind, plan_id: Some(plan.id), ..action(NextAction::RunNow) })
}

fn action(action: NextAction) -> NextActionView {
    NextActionView { action, kind: None, plan_id: None, repository_id: None, run_id: None }
}

/// The run that is going, or else the one that waits longest.
fn open_run(open: &[Run], host: HostId) -> Option<&Run> {
    let of_host = || open.iter().filter(|run| run.host_id == host);
    of_host().find(|run| run.status == JobStatus::Running).or_else(|| of_host().next())
}

fn uninitialised<'a>(plan: &Plan, repositories: &'a [Repository]) -> Option<&'a Repository> {
    let of_plan = repositories.iter().find(|repository| repository.id == plan.repository_id)?;
    of_plan.initialised_at.is_none().then_some(of_plan)
}

fn initialise(repository: &Repository, newest: &[Run], host: HostId) -> NextActionView {
    let failed = newest.iter().find(|run| {
        run.host_id == host
            && run.kind == JobKind::Init
            && run.repository_id == Some(repository.id)
            && did_not_work(run.status)
    });
    let word = if failed.is_some() { NextAction::Retry } else { NextAction::Initialise };
    NextActionView {
        kind: Some(JobKind::Init),
        repository_id: Some(repository.id),
        run_id: failed.map(|run| run.id),
        ..action(word)
    }
}

/// A cancelled run is what somebody wanted; a partial one has its snapshot.
fn did_not_work(status: JobStatus) -> bool {
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
