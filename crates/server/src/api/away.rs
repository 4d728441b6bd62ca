//! `/api/away`: what happened while nobody looked.

use super::error::{ApiResult, ProblemView};
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
use schedule::slots::Standing;
use serde::Serialize;
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
    let Some(since) = stored::looked_at(db).await? else {
        return Ok(Json(AwayView {
            since: None,
            tally: TallyView::default(),
            troubled: Vec::new(),
        }));
    };
    let mut tallies: BTreeMap<HostId, TallyView> = BTreeMap::new();
    for ended in runs::ended_since(db, since).await? {
        tallies.entry(ended.host_id).or_default().add(ended);
    }
    for (host, day) in slots::between(&manager, since).await? {
        let missed = day.counts.get(&Standing::Missed).copied().unwrap_or(0);
        if missed > 0 {
            tallies.entry(host).or_default().missed = missed;
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
    Ok(Json(AwayView { since: Some(since), tally: whole, troubled }))
}

/// The admin has seen everything up to now.
#[utoipa::path(post, path = "/api/away/seen", operation_id = "note_seen", tag = "system",
    responses((status = 204), (status = "default", body = ProblemView)))]
pub async fn seen(_who: Principal, State(manager): State<Manager>) -> ApiResult<StatusCode> {
    let mut tx = manager.db().begin().await?;
    stored::look(&mut tx, manager.now()).await?;
    tx.commit().await.context("failed to note that somebody looked")?;
    Ok(StatusCode::NO_CONTENT)
}
