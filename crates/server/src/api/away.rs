//! `/api/away`: what happened while nobody looked.

use super::{
    error::{ApiResult, ProblemView},
    extract::Body,
};
use crate::{
    auth::Principal,
    db::{
        hosts, manager as stored,
        runs::{self, Ended},
    },
    manager::Manager,
    slots,
};
use anyhow::Context as _;
use axum::{Json, extract::State, http::StatusCode};
use jiff::Timestamp;
use protocol::{HostId, JobStatus};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What happened, in numbers.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct TallyView {
    /// Runs that succeeded.
    pub succeeded: u32,
    /// Runs that wrote a snapshot that lacks something.
    pub partial: u32,
    /// Runs that failed.
    pub failed: u32,
    /// Runs that were cut off, or of which no word came.
    pub interrupted: u32,
    /// Runs that a person cancelled.
    pub cancelled: u32,
    /// Times at which a plan should have run and did not although its machine was awake.
    pub missed: u32,
}

impl TallyView {
    fn add(&mut self, ended: Ended) {
        let count = match ended.status {
            JobStatus::Succeeded => &mut self.succeeded,
            JobStatus::Partial => &mut self.partial,
            JobStatus::Failed | JobStatus::Unknown => &mut self.failed,
            JobStatus::Interrupted | JobStatus::Expired | JobStatus::Lost => &mut self.interrupted,
            JobStatus::Cancelled => &mut self.cancelled,
            JobStatus::Queued | JobStatus::Running => return,
        };
        *count = count.saturating_add(ended.count);
    }

    fn trouble(&self) -> u32 {
        let Self { succeeded: _, cancelled: _, partial, failed, interrupted, missed } = self;
        [partial, failed, interrupted, missed].into_iter().fold(0, |sum, n| sum.saturating_add(*n))
    }
}

/// One machine that had trouble.
#[derive(Debug, Serialize, ToSchema)]
pub struct TroubleView {
    /// The machine.
    #[schema(value_type = String, format = Uuid)]
    pub host_id: HostId,
    /// Its name.
    pub name: String,
    /// What happened on it.
    pub tally: TallyView,
}

/// What happened since the admin last looked.
#[derive(Debug, Serialize, ToSchema)]
pub struct AwayView {
    /// When that was; absent before the first time.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// Up to when it is told here: what comes later is told the next time, once this was seen.
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
    /// What happened on all machines.
    pub tally: TallyView,
    /// The machines that had trouble, the worst first.
    pub troubled: Vec<TroubleView>,
}

/// What happened since the admin last looked.
#[utoipa::path(get, path = "/api/away", operation_id = "show_away", tag = "system",
    responses((status = 200, body = AwayView), (status = "default", body = ProblemView)))]
pub async fn show(_who: Principal, State(manager): State<Manager>) -> ApiResult<Json<AwayView>> {
    let db = manager.db().read();
    let until = until_now(&manager).await?;
    let Some(since) = stored::looked_at(db).await? else {
        return Ok(Json(AwayView {
            since: None,
            until,
            tally: TallyView::default(),
            troubled: Vec::new(),
        }));
    };
    let mut tallies: BTreeMap<HostId, TallyView> = BTreeMap::new();
    for ended in runs::ended_since(db, since, until).await? {
        tallies.entry(ended.host_id).or_default().add(ended);
    }
    for (host, known) in &slots::of_all(&manager).await?.missed {
        let missed = known.iter().filter(|at| **at > since && **at <= until).count();
        if missed > 0 {
            tallies.entry(*host).or_default().missed = u32::try_from(missed).unwrap_or(u32::MAX);
        }
    }
    let mut whole = TallyView::default();
    for tally in tallies.values() {
        let TallyView { succeeded, partial, failed, interrupted, cancelled, missed } = *tally;
        whole.succeeded = whole.succeeded.saturating_add(succeeded);
        whole.partial = whole.partial.saturating_add(partial);
        whole.failed = whole.failed.saturating_add(failed);
        whole.interrupted = whole.interrupted.saturating_add(interrupted);
        whole.cancelled = whole.cancelled.saturating_add(cancelled);
        whole.missed = whole.missed.saturating_add(missed);
    }
    let mut troubled: Vec<TroubleView> = hosts::list(db)
        .await?
        .into_iter()
        .filter_map(|host| {
            let tally = tallies.remove(&host.id).filter(|tally| tally.trouble() > 0)?;
            Some(TroubleView { host_id: host.id, name: host.name, tally })
        })
        .collect();
    // By name among equals: the list came in that order.
    troubled.sort_by_key(|it| std::cmp::Reverse((it.tally.failed, it.tally.trouble())));
    Ok(Json(AwayView { since: Some(since), until, tally: whole, troubled }))
}

/// A moment up to which everything is committed that the manager had learnt by then.
async fn until_now(manager: &Manager) -> ApiResult<Timestamp> {
    // Whoever writes says when within its transaction, so what is committed while nobody else writes was
    // learnt before. The database keeps milliseconds, and this one is not over.
    let _nobody_writes = manager.db().begin().await?;
    let now = manager.now().as_millisecond();
    Ok(Timestamp::from_millisecond(now - 1).unwrap_or(Timestamp::MIN))
}

/// Up to when somebody looked.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SeenForm {
    /// `until` of what was read; now when absent, for one who looked on.
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
}

/// The admin has seen what happened.
#[utoipa::path(post, path = "/api/away/seen", operation_id = "note_seen", tag = "system",
    request_body = SeenForm,
    responses((status = 204), (status = "default", body = ProblemView)))]
pub async fn seen(
    _who: Principal,
    State(manager): State<Manager>,
    Body(form): Body<SeenForm>,
) -> ApiResult<StatusCode> {
    let now = until_now(&manager).await?;
    let until = form.until.map_or(now, |until| until.min(now));
    let mut tx = manager.db().begin().await?;
    stored::look(&mut tx, until).await?;
    tx.commit().await.context("failed to note that somebody looked")?;
    Ok(StatusCode::NO_CONTENT)
}
