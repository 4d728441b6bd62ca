//! `POST /api/hosts/{id}/runs`

use super::find;
use crate::{
    api::{
        change::Change,
        check,
        error::{ApiError, ApiResult, ProblemView},
        extract::{Body, PathId},
        runs::{
            RunView,
            request::{Resolved, RunRequest, resolve},
            view_of,
        },
    },
    auth::Principal,
    db::{
        hosts::{Host, HostState},
        runs::{self, Dispatch, NewRun},
    },
    events::Topic,
    manager::Manager,
};
use axum::{Json, extract::State, http::StatusCode};
use jiff::{SignedDuration, Timestamp};
use protocol::{Code, HostId, Problem, RunId};
use serde::Deserialize;
use utoipa::ToSchema;

const DEFAULT_EXPIRY: u32 = 24 * 60 * 60;
const MAX_EXPIRY: u32 = 30 * DEFAULT_EXPIRY;

/// A run that is asked for.
#[derive(Debug, Deserialize, ToSchema)]
pub struct StartRunForm {
    /// What to do.
    #[serde(flatten)]
    run: RunRequest,
    /// How long it may wait for the machine, 60 seconds to 30 days; a day when absent. What was not
    /// started by then never is.
    expires_in_seconds: Option<u32>,
    /// The host's name; `forget` and `prune` want it unless they are a `dry_run`.
    confirm: Option<String>,
}

/// Asks for a run. It waits until the machine is there and has its turn; forget, prune and check of a
/// repository in the store are done by the manager itself, without the machine. What waits or is going
/// already is not asked for twice: the answer is then `conflict` with the open run's id.
#[utoipa::path(post, path = "/api/hosts/{id}/runs", operation_id = "start_run", tag = "runs",
    params(("id" = String, Path, format = Uuid)), request_body = StartRunForm,
    responses((status = 201, body = RunView), (status = "default", body = ProblemView)))]
pub async fn start_run(
    who: Principal,
    State(manager): State<Manager>,
    PathId(id): PathId<HostId>,
    Body(form): Body<StartRunForm>,
) -> ApiResult<(StatusCode, Json<RunView>)> {
    let mut change = Change::begin(&manager, who).await?;
    let host = find(&mut *change.tx, id).await?;
    let expires_at = expiry(change.now, form.expires_in_seconds)?;
    let run = resolve(&mut change.tx, id, form.run).await?;
    if run.dispatch == Dispatch::Waiting {
        check_host(&host)?;
    }
    if run.is_destructive {
        check::confirmed(form.confirm.as_deref(), &host.name)?;
    }
    check_not_open(&mut change, id, &run).await?;
    let run_id: RunId = manager.new_id();
    insert(&mut change, run_id, id, &run, expires_at).await?;
    let detail = format!("{} on {}", run.spec.kind().as_str(), host.name);
    change.commit("run.start", &format!("run:{run_id}"), &detail).await?;
    manager.events().publish(Topic::Run(run_id));
    crate::api::wake(&manager, &[id]).await;
    Ok((StatusCode::CREATED, Json(view_of(&manager, run_id).await?)))
}

async fn insert(
    change: &mut Change,
    id: RunId,
    host_id: HostId,
    run: &Resolved,
    expires_at: Timestamp,
) -> ApiResult<()> {
    let new = NewRun {
        id,
        host_id,
        plan_id: run.plan_id,
        repository_id: Some(run.repository_id),
        spec: &run.spec,
        dispatch: run.dispatch,
        requested_by: change.who.as_str(),
        created_at: change.now,
        // What the manager does itself waits for nobody.
        expires_at: Some(expires_at).filter(|_| run.dispatch == Dispatch::Waiting),
    };
    Ok(runs::insert(&mut change.tx, &new).await?)
}

fn check_host(host: &Host) -> ApiResult<()> {
    if host.state == HostState::Revoked {
        return Err(ApiError::refused(Code::HostRevoked, "This machine was revoked."));
    }
    if let Some(hold) = &host.hold {
        return Err(Problem::new(
            Code::Conflict,
            format!("This machine waits for your decision: {}", hold.message),
        )
        .guidance("Decide about it first; then run it.")
        .into());
    }
    Ok(())
}

fn expiry(now: Timestamp, seconds: Option<u32>) -> ApiResult<Timestamp> {
    let seconds = seconds.unwrap_or(DEFAULT_EXPIRY);
    if !(60..=MAX_EXPIRY).contains(&seconds) {
        return Err(ApiError::invalid(
            "expires_in_seconds",
            "A run may wait between one minute and 30 days.",
        ));
    }
    Ok(now + SignedDuration::from_secs(seconds.into()))
}

/// Refuses what is open already; a restore is the same only when it restores the same.
async fn check_not_open(change: &mut Change, host: HostId, run: &Resolved) -> ApiResult<()> {
    let kind = run.spec.kind();
    let is_restore = kind == protocol::JobKind::Restore;
    let open = runs::open_of_host(&mut *change.tx, host).await?;
    let same = open.iter().find(|other| {
        other.kind == kind
            && other.plan_id == run.plan_id
            && other.repository_id == Some(run.repository_id)
            && (!is_restore || other.spec == run.spec)
    });
    same.map_or(Ok(()), |other| Err(ApiError::RunOpen(other.id)))
}
