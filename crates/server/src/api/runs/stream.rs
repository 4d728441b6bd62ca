//! `GET /api/runs/{id}/stream`

use super::{
    LogLineView, ProgressView, find, view,
    watch::{Signal, Watch},
};
use crate::{
    api::{
        error::{ApiResult, ProblemView},
        extract::{Params, PathId},
        streams::{Until, last_event_id, respond},
    },
    manager::Manager,
};
use axum::{
    extract::State,
    http::HeaderMap,
    response::{Response, sse::Event},
};
use futures_util::stream;
use protocol::{JobStatus, RunId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// From where.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StreamQuery {
    /// Only lines after this one; 0 when absent.
    after_line: Option<u64>,
}

/// The data of an event `line`; its event id is the last line's number.
#[derive(Debug, Serialize, ToSchema)]
pub struct LinesView {
    /// The next lines.
    pub lines: Vec<LogLineView>,
}

/// The data of the event `end`.
#[derive(Debug, Serialize, ToSchema)]
pub struct EndView {
    /// How the run ended.
    #[schema(value_type = crate::api::words::StatusWord)]
    pub status: JobStatus,
    /// The last line that was told.
    pub last_line: u64,
}

/// Follows a run as server-sent events: `line` (`LinesView`), `progress` (`ProgressView`), `state`
/// (`RunView`) and at last `end` (`EndView`), after all lines. No line is missing or comes twice.
/// A client that comes back sends `Last-Event-ID`, or `after_line`.
#[utoipa::path(get, path = "/api/runs/{id}/stream", operation_id = "stream_run", tag = "runs",
    params(("id" = String, Path, format = Uuid), StreamQuery),
    responses((status = 200, body = String, content_type = "text/event-stream"),
        (status = "default", body = ProblemView)))]
pub async fn stream(
    State(manager): State<Manager>,
    until: Until,
    headers: HeaderMap,
    PathId(id): PathId<RunId>,
    Params(query): Params<StreamQuery>,
) -> ApiResult<Response> {
    find(&manager, id).await?;
    let after = query.after_line.unwrap_or(0).max(last_event_id(&headers).unwrap_or(0));
    let watch = Watch::new(manager.clone(), id, after);
    let events = stream::try_unfold((watch, manager, JobStatus::Queued), next);
    Ok(respond(events, until))
}

type Following = (Watch, Manager, JobStatus);

async fn next((mut watch, manager, status): Following) -> ApiResult<Option<(Event, Following)>> {
    let Some(signal) = watch.next().await? else { return Ok(None) };
    let (event, status) = match signal {
        Signal::Lines(lines) => {
            let id = lines.last().map_or(0, |line| line.seq).to_string();
            let lines = lines.into_iter().map(LogLineView::from).collect();
            (json("line", &LinesView { lines })?.id(id), status)
        }
        Signal::Progress(progress) => (json("progress", &ProgressView::from(&*progress))?, status),
        Signal::State(run) => {
            let status = run.status;
            (json("state", &view(&manager, *run).await?)?, status)
        }
        Signal::End => (json("end", &EndView { status, last_line: watch.last_line() })?, status),
    };
    Ok(Some((event, (watch, manager, status))))
}

fn json(name: &str, data: &impl Serialize) -> ApiResult<Event> {
    use anyhow::Context as _;
    Ok(Event::default().event(name).json_data(data).context("failed to write an event")?)
}
