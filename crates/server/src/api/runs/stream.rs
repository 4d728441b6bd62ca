//! `GET /api/runs/{id}/stream`

use super::{
    LogLineView, ProgressView, RunView, find, view,
    watch::{Signal, Watch},
};
use crate::{
    api::{
        error::{ApiResult, ProblemView},
        extract::{Params, PathId},
        streams::{Until, last_event_id, respond},
    },
    db::runs::Run,
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
    let following = Following { watch, manager, status: JobStatus::Queued, told: String::new() };
    let events = stream::try_unfold(following, |mut following| async {
        Ok(following.next().await?.map(|event| (event, following)))
    });
    Ok(respond(events, until))
}

struct Following {
    watch: Watch,
    manager: Manager,
    status: JobStatus,
    /// The state that was told last, as JSON without the progress, which has an event of its own.
    told: String,
}

impl Following {
    async fn next(&mut self) -> ApiResult<Option<Event>> {
        while let Some(signal) = self.watch.next().await? {
            return Ok(Some(match signal {
                Signal::Lines(lines) => {
                    let id = lines.last().map_or(0, |line| line.seq).to_string();
                    let lines = lines.into_iter().map(LogLineView::from).collect();
                    event("line", json(&LinesView { lines })?).id(id)
                }
                Signal::Progress(progress) => {
                    event("progress", json(&ProgressView::from(&*progress))?)
                }
                Signal::State(run) => match self.news_of(*run).await? {
                    Some(event) => event,
                    None => continue,
                },
                Signal::End => {
                    let last_line = self.watch.last_line();
                    event("end", json(&EndView { status: self.status, last_line })?)
                }
            }));
        }
        Ok(None)
    }

    /// Not every step of a run can be seen from outside: a state that looks as before is no news.
    async fn news_of(&mut self, run: Run) -> ApiResult<Option<Event>> {
        self.status = run.status;
        let seen = view(&self.manager, run).await?;
        let whole = json(&seen)?;
        let state = json(&RunView { progress: None, ..seen })?;
        let is_news = self.told != state;
        self.told = state;
        Ok(is_news.then(|| event("state", whole)))
    }
}

fn event(name: &str, data: String) -> Event {
    Event::default().event(name).data(data)
}

fn json(data: &impl Serialize) -> ApiResult<String> {
    use anyhow::Context as _;
    Ok(serde_json::to_string(data).context("failed to write an event")?)
}
