//! Server-sent events: what all streams of the API share.
//!
//! A stream is pulled by its client: nothing is read or built before the client has taken what came
//! before, so a slow client holds one event and falls behind in the hub's bounded backlog instead of
//! making the server grow. One that takes nothing at all is cut by the listener.

use super::error::ApiError;
use crate::{auth::Principal, db::sessions, manager::Manager};
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, request::Parts},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, StreamExt as _, stream};
use std::{convert::Infallible, time::Duration};
use tokio_util::sync::CancellationToken;

const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How often a stream looks whether its session has ended.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Ends all streams when the listener closes: they would hold up its shutdown for ever.
#[derive(Clone, Debug)]
pub struct Closing(pub CancellationToken);

/// The number that a returning client sends, `Last-Event-ID`.
#[must_use]
pub fn last_event_id(headers: &HeaderMap) -> Option<u64> {
    headers.get("last-event-id")?.to_str().ok()?.trim().parse().ok()
}

/// What may end a stream from outside.
#[derive(Debug)]
pub struct Until {
    manager: Manager,
    who: Principal,
    closing: CancellationToken,
}

impl Until {
    async fn over(self) {
        tokio::select! {
            () = self.closing.cancelled() => {}
            () = session_over(&self.manager, self.who, LOOK_EVERY) => {}
        }
    }
}

impl FromRequestParts<Manager> for Until {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, manager: &Manager) -> Result<Self, ApiError> {
        let who = Principal::from_request_parts(parts, manager).await?;
        let closing = parts.extensions.get::<Closing>().map(|Closing(token)| token.clone());
        Ok(Self { manager: manager.clone(), who, closing: closing.unwrap_or_default() })
    }
}

/// Waits until the session behind a stream has ended: signing out must also end what an open page
/// is still told.
async fn session_over(manager: &Manager, who: Principal, every: Duration) {
    let Principal::Admin { session } = who else { return std::future::pending().await };
    loop {
        tokio::time::sleep(every).await;
        match sessions::find(manager.db().read(), &session.0).await {
            Ok(Some(session)) if session.expires_at > manager.now() => {}
            // What cannot be checked is not trusted; the client comes back and is asked again.
            Ok(_) | Err(_) => return,
        }
    }
}

/// A stream as a response. An error ends it; the client comes back from where it was.
pub fn respond(
    events: impl Stream<Item = Result<Event, ApiError>> + Send + 'static,
    until: Until,
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
    // The answer's head travels with the first bytes: without some, a client would not know for as
    // long as nothing happens whether it is heard.
    let begins = stream::once(std::future::ready(Ok(Event::default().comment("begins"))));
    let events = begins.chain(events).take_until(until.over());
    let mut response =
        Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // A proxy that collects the answer first would make it no stream.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

#[cfg(test)]
mod tests {
    use super::session_over;
    use crate::{
        api::tests::Fleet,
        auth::{Principal, SessionKey},
        db::sessions::{self, Session},
    };
    use std::time::Duration;

    #[tokio::test]
    async fn a_stream_ends_with_its_session() {
        let fleet = Fleet::new().await;
        let (db, now) = (fleet.manager.db(), fleet.manager.now());
        let who = Principal::Admin { session: SessionKey([7; 32]) };
        let expires_at = now + jiff::SignedDuration::from_hours(12);
        let session = Session { created_at: now, last_used_at: now, expires_at };
        let mut tx = db.begin().await.unwrap();
        sessions::insert(&mut tx, &[7; 32], &session).await.unwrap();
        tx.commit().await.unwrap();
        let over = session_over(&fleet.manager, who, Duration::from_millis(5));
        let mut over = std::pin::pin!(over);
        let early = tokio::time::timeout(Duration::from_millis(50), over.as_mut()).await;
        assert!(early.is_err(), "the session is there");
        let mut tx = db.begin().await.unwrap();
        sessions::delete(&mut tx, &[7; 32]).await.unwrap();
        tx.commit().await.unwrap();
        tokio::time::timeout(Duration::from_secs(20), over).await.expect("it goes on");
    }
}
