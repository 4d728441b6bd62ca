//! Server-sent events: what all streams of the API share.
//!
//! A stream is pulled by its client: nothing is read or built before the client has taken what came
//! before, so a slow client holds one event and falls behind in the hub's bounded backlog instead of
//! making the server grow. One that takes nothing at all is cut by the listener.

use super::error::ApiError;
use axum::{
    Extension,
    http::{HeaderMap, HeaderValue},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, StreamExt as _};
use std::{convert::Infallible, time::Duration};
use tokio_util::sync::CancellationToken;

const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Ends all streams when the listener closes: they would hold up its shutdown for ever.
#[derive(Clone, Debug)]
pub struct Closing(pub CancellationToken);

/// The number that a returning client sends, `Last-Event-ID`.
#[must_use]
pub fn last_event_id(headers: &HeaderMap) -> Option<u64> {
    headers.get("last-event-id")?.to_str().ok()?.trim().parse().ok()
}

/// A stream as a response. An error ends it; the client comes back from where it was.
pub fn respond(
    events: impl Stream<Item = Result<Event, ApiError>> + Send + 'static,
    closing: Option<Extension<Closing>>,
) -> Response {
    let events = events.scan((), |(), event| {
        std::future::ready(match event {
            Ok(event) => Some(Ok::<_, Infallible>(event)),
            Err(error) => {
                // Turning it into a response logs it once, with its causes.
                let _ = error.into_response();
                None
            }
        })
    });
    let token = closing.map_or_else(CancellationToken::new, |Extension(Closing(token))| token);
    let events = events.take_until(token.cancelled_owned());
    let mut response =
        Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // A proxy that collects the answer first would make it no stream.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
