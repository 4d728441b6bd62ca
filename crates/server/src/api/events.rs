//! `GET /api/events`

use super::{
    error::{ApiError, ApiResult, ProblemView},
    streams::{Until, last_event_id, respond},
};
use crate::{events::Event as Change, manager::Manager};
use anyhow::Context as _;
use axum::{
    extract::State,
    http::HeaderMap,
    response::{Response, sse::Event},
};
use futures_util::stream;
use tokio::sync::broadcast::{Receiver, error::RecvError};

/// What changed, as server-sent events: `change` (`Event`, whose revision is the event id), and
/// `resync` when some were missed and everything must be read again. Subscribe first, then read.
#[utoipa::path(get, path = "/api/events", operation_id = "stream_events", tag = "system",
    responses((status = 200, body = String, content_type = "text/event-stream"),
        (status = "default", body = ProblemView)))]
pub async fn events(State(manager): State<Manager>, until: Until, headers: HeaderMap) -> Response {
    let receiver = manager.events().subscribe();
    // A client that comes back missed what was told in between, and perhaps a restart.
    let is_back = last_event_id(&headers).is_some();
    respond(stream::try_unfold((receiver, is_back), next), until)
}

type Following = (Receiver<Change>, bool);

async fn next((mut receiver, must_resync): Following) -> ApiResult<Option<(Event, Following)>> {
    let resync = || Event::default().event("resync").data("{}");
    if must_resync {
        return Ok(Some((resync(), (receiver, false))));
    }
    let event = match receiver.recv().await {
        Ok(change) => write(change)?,
        Err(RecvError::Lagged(_)) => resync(),
        Err(RecvError::Closed) => return Ok(None),
    };
    Ok(Some((event, (receiver, false))))
}

fn write(change: Change) -> Result<Event, ApiError> {
    let event = Event::default().event("change").id(change.revision.to_string());
    Ok(event.json_data(change).context("failed to write an event")?)
}
