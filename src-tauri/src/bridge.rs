//! The bridge between the window and the router: one request in, one answer out, or a stream.
//!
//! It admits `/api` alone, and it is the one place that makes the person in front of the screen
//! [`Principal::LocalUser`].

use axum::{
    Router,
    body::{Body, BodyDataStream},
    http::{self, HeaderMap, Method, StatusCode, Uri, header},
};
use futures_util::{Stream, StreamExt as _};
use protocol::{Code, Problem};
use serde::{Deserialize, Serialize};
use server::{api::error::status, auth::Principal};
use std::collections::BTreeMap;
use tower::ServiceExt as _;

/// The largest answer that is handed over at once. A run's log as text is the largest there is, and
/// logs are capped far below.
const ANSWER_LIMIT: usize = 64 * 1024 * 1024;

/// What the page asks.
#[derive(Debug, Deserialize)]
pub struct Request {
    /// The HTTP method.
    pub method: String,
    /// Path and query, below `/api`.
    pub path: String,
    /// JSON text, if there is any.
    pub body: Option<String>,
}

/// What came back.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Header names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body as text; empty when there is none.
    pub body: String,
}

impl Answer {
    /// A refusal that did not come from the router.
    #[must_use]
    pub fn refusal(problem: &Problem) -> Self {
        let headers = BTreeMap::from([("content-type".to_owned(), "application/json".to_owned())]);
        let body = serde_json::to_string(problem).unwrap_or_default();
        Self { status: status(problem.code).as_u16(), headers, body }
    }
}

/// The way into the router.
#[derive(Clone, Debug)]
pub struct Bridge {
    router: Router,
}

impl Bridge {
    /// Into this router.
    #[must_use]
    pub fn new(router: Router) -> Self {
        Self { router }
    }

    /// Asks, and collects the whole answer. Refusals are answers.
    pub async fn request(&self, request: Request) -> Answer {
        let Request { method, path, body } = request;
        let asked = match Method::from_bytes(method.as_bytes()) {
            Ok(method) => self.ask(method, &path, body, "application/json").await,
            Err(_) => return not_admitted(),
        };
        match asked {
            // It would never end here.
            Ok(response) if is_stream(response.headers()) => not_admitted(),
            Ok(response) => collect(response).await,
            Err(refusal) => refusal,
        }
    }

    /// Opens a stream of server-sent events: its text, in whole events.
    ///
    /// # Errors
    /// The answer, when it is no stream.
    pub async fn stream(&self, path: &str) -> Result<impl Stream<Item = String> + use<>, Answer> {
        let response = self.ask(Method::GET, path, None, "text/event-stream").await?;
        if response.status() != StatusCode::OK || !is_stream(response.headers()) {
            return Err(collect(response).await);
        }
        Ok(texts(response.into_body().into_data_stream()))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
        accept: &str,
    ) -> Result<http::Response<Body>, Answer> {
        let uri: Uri = path.parse().map_err(|_| not_admitted())?;
        // A URI with a host is a request to somewhere else.
        if uri.host().is_some() || !uri.path().starts_with("/api/") {
            return Err(not_admitted());
        }
        let mut request = http::Request::builder().method(method).uri(uri);
        request = request.header(header::ACCEPT, accept).extension(Principal::LocalUser);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Body::empty, Body::from);
        let request = request.body(body).map_err(|_| not_admitted())?;
        let Ok(response) = self.router.clone().oneshot(request).await;
        Ok(response)
    }
}

fn not_admitted() -> Answer {
    let problem = Problem::new(Code::NotFound, "The window may only ask what is under /api.");
    Answer::refusal(&problem)
}

fn is_stream(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

async fn collect(response: http::Response<Body>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, ANSWER_LIMIT).await.ok();
    let Some(body) = body.and_then(|body| String::from_utf8(body.into()).ok()) else {
        let problem = Problem::new(Code::TooLarge, "The answer is too large for the window.");
        return Answer::refusal(&problem);
    };
    let headers = parts.headers.iter().filter_map(|(name, value)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    });
    Answer { status: parts.status.as_u16(), headers: headers.collect(), body }
}

/// The pieces of a body as text, as long as they are that.
fn texts(body: BodyDataStream) -> impl Stream<Item = String> {
    // The router writes whole events, so a piece never ends within a character.
    let pieces = body.map(|piece| String::from_utf8(piece.ok()?.into()).ok());
    pieces.take_while(|piece| std::future::ready(piece.is_some())).filter_map(std::future::ready)
}

#[cfg(test)]
mod tests;
