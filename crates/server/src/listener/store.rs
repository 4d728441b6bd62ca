//! The store over HTTP: restic's REST protocol, versions 1 and 2 (restic's manual, "REST Backend").
//!
//! restic takes 401, 403, 404, 416 and 507 for final and tries again for a quarter of an hour after
//! anything else, so each refusal has the status that makes restic do the right thing.

use super::{AgentState, Peer};
use crate::store::{
    Refused, Visitor,
    object::{Kind, Name, Object},
};
use axum::{
    Json, Router,
    body::{Body, BodyDataStream},
    extract::{FromRequestParts, Path, Query},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{
            ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE,
            WWW_AUTHENTICATE,
        },
        request::Parts,
    },
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::StreamExt as _;
use http_range_header::parse_range_header;
use protocol::{RepositoryId, Secret};
use std::{collections::HashMap, ops::Range, sync::Arc, time::Duration};
use tokio::sync::SetOnce;
use tokio_util::sync::CancellationToken;

/// What restic asks for when it wants sizes with the names.
const V2: &str = "application/vnd.x.restic.rest.v2";
const V1: &str = "application/vnd.x.restic.rest.v1";

/// What is read of an upload that is refused, and how long: more than a pack of restic's usual size.
const DRAINED_BYTES: usize = 64 * 1024 * 1024;
const DRAINED_WITHIN: Duration = Duration::from_secs(10);

/// The routes, below the id of a repository.
pub(super) fn routes() -> Router<AgentState> {
    Router::new()
        .route("/store/{repository}/", post(create))
        .route("/store/{repository}/config", get(read).post(write).delete(remove))
        .route("/store/{repository}/{kind}/", get(list))
        .route("/store/{repository}/{kind}/{name}", get(read).post(write).delete(remove))
}

/// A connection on which somebody may become known. Until then it is a stranger's, which is short.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(Arc<SetOnce<Guest>>);

/// Who has shown a password on a connection first.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    /// The repository that it was for, if it is its host and not the admin.
    pub repository: Option<RepositoryId>,
    /// Ends when whoever it is may come no longer.
    pub cut: CancellationToken,
}

impl Known {
    /// Waits until the connection has shown a password that fits.
    pub async fn wait(&self) -> Guest {
        self.0.wait().await.clone()
    }
}

/// A refusal as restic understands it.
struct Answer(StatusCode, String);

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let Self(status, words) = self;
        let mut response = (status, format!("{words}\n")).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let headers = response.headers_mut();
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"store\""));
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<Refused> for Answer {
    fn from(refused: Refused) -> Self {
        let status = match &refused {
            Refused::NotFound => StatusCode::NOT_FOUND,
            Refused::Exists | Refused::Forbidden(_) => StatusCode::FORBIDDEN,
            Refused::WrongHash | Refused::Aborted => StatusCode::BAD_REQUEST,
            Refused::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refused::Full(_) => StatusCode::INSUFFICIENT_STORAGE,
            Refused::Busy => StatusCode::TOO_MANY_REQUESTS,
            // To be tried again: "not found" would mean that there is nothing to restore.
            Refused::Away | Refused::Homeless => StatusCode::SERVICE_UNAVAILABLE,
            Refused::Io(_) | Refused::Db(_) => {
                tracing::error!(
                    error = &refused as &dyn std::error::Error,
                    "the store failed to answer"
                );
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        Self(status, refused.to_string())
    }
}

/// Somebody who was let in, with what the path names.
struct Visit {
    visitor: Visitor,
    kind: Option<Kind>,
    object: Option<Object>,
}

impl FromRequestParts<AgentState> for Visit {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, state: &AgentState) -> Result<Self, Answer> {
        let nowhere = || Answer(StatusCode::NOT_FOUND, "There is nothing here.".to_owned());
        let Path(path) = Path::<HashMap<String, String>>::from_request_parts(parts, state)
            .await
            .map_err(|_| nowhere())?;
        // Strangers learn nothing, not even that there is no such repository.
        let id = path.get("repository").and_then(|id| id.parse().ok()).ok_or_else(stranger)?;
        let visitor = let_in(parts, state, id).await?;
        let kind =
            path.get("kind").map(|kind| Kind::parse(kind).ok_or_else(nowhere)).transpose()?;
        let object = match (kind, path.get("name")) {
            (Some(kind), Some(name)) => {
                Some(Object::File(kind, Name::parse(name).ok_or_else(nowhere)?))
            }
            (None, _) => Some(Object::Config),
            (Some(_), None) => None,
        };
        Ok(Self { visitor, kind, object })
    }
}

impl Visit {
    fn object(&self) -> Result<Object, Answer> {
        self.object.clone().ok_or_else(|| Refused::NotFound.into())
    }
}

/// Ends the connection, as every answer to who has shown no password does.
fn stranger() -> Answer {
    Answer(StatusCode::UNAUTHORIZED, "The password does not fit.".to_owned())
}

async fn let_in(parts: &Parts, state: &AgentState, id: RepositoryId) -> Result<Visitor, Answer> {
    let peer = parts.extensions.get::<Peer>().ok_or_else(stranger)?;
    let (user, password) = basic(&parts.headers).ok_or_else(stranger)?;
    if user != id.to_string() {
        return Err(stranger());
    }
    // Wrong passwords are not counted: nobody guesses 192 bits, and a revoked machine that goes on
    // trying must not keep out another at the same address, whose restic would give up.
    let is_local = peer.address.ip().to_canonical().is_loopback();
    let visitor = state.manager().store().let_in(id, &password, is_local).await?;
    let visitor = visitor.ok_or_else(stranger)?;
    if let Some(known) = parts.extensions.get::<Known>() {
        // Only the first one counts.
        let repository = visitor.is_host().then_some(id);
        let _ = known.0.set(Guest { repository, cut: visitor.cut() });
    }
    Ok(visitor)
}

/// User and password of HTTP's basic scheme.
fn basic(headers: &HeaderMap) -> Option<(String, Secret<String>)> {
    let encoded = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = data_encoding::BASE64.decode(encoded.trim().as_bytes()).ok()?;
    let text = Secret::new(String::from_utf8(text).ok()?);
    let (user, password) = text.expose_secret().split_once(':')?;
    Some((user.to_owned(), Secret::new(password.to_owned())))
}

async fn create(
    visit: Visit,
    Query(query): Query<HashMap<String, String>>,
) -> Result<StatusCode, Answer> {
    if query.get("create").is_none_or(|create| create != "true") {
        return Err(Answer(StatusCode::BAD_REQUEST, "Say create=true.".to_owned()));
    }
    visit.visitor.create().await?;
    Ok(StatusCode::OK)
}

async fn list(visit: Visit, headers: HeaderMap) -> Result<Response, Answer> {
    let kind = visit.kind.ok_or(Refused::NotFound)?;
    let entries = visit.visitor.list(kind).await?;
    let is_v2 = headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes() == V2.as_bytes());
    Ok(if is_v2 {
        ([(CONTENT_TYPE, V2)], Json(entries)).into_response()
    } else {
        let names: Vec<String> = entries.into_iter().map(|entry| entry.name).collect();
        ([(CONTENT_TYPE, V1)], Json(names)).into_response()
    })
}

/// GET and HEAD, with ranges.
async fn read(visit: Visit, headers: HeaderMap) -> Result<Response, Answer> {
    let found = visit.visitor.open(&visit.object()?).await?;
    let size = found.size();
    let content = (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    // A host that is revoked in the middle gets no more.
    let cut = visit.visitor.cut().cancelled_owned();
    let Some(range) = headers.get(RANGE) else {
        let whole = Body::from_stream(found.read(0..size).take_until(cut));
        return Ok(([content, (CONTENT_LENGTH, size.into())], whole).into_response());
    };
    let Some(range) = only_range(range, size) else {
        let told = [(CONTENT_RANGE, format!("bytes */{size}"))];
        return Ok((StatusCode::RANGE_NOT_SATISFIABLE, told).into_response());
    };
    let told = format!("bytes {}-{}/{size}", range.start, range.end - 1);
    let length = (CONTENT_LENGTH, (range.end - range.start).into());
    let part = Body::from_stream(found.read(range).take_until(cut));
    Ok((StatusCode::PARTIAL_CONTENT, [(CONTENT_RANGE, told)], [content, length], part)
        .into_response())
}

/// The range of a file of this size that is asked for, if it is one.
fn only_range(header: &HeaderValue, size: u64) -> Option<Range<u64>> {
    let ranges = parse_range_header(header.to_str().ok()?).ok()?.validate(size).ok()?;
    let [range] = ranges.as_slice() else { return None };
    Some(*range.start()..*range.end() + 1)
}

async fn write(visit: Visit, headers: HeaderMap, body: Body) -> Result<StatusCode, Answer> {
    let object = visit.object()?;
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let mut content = body.into_data_stream();
    let received = visit.visitor.put(object, length, &mut content).await;
    if received.is_err() {
        drain(content).await;
    }
    received?;
    Ok(StatusCode::OK)
}

/// Reads what is refused to its end, within bounds: a client that is still sending when the connection
/// ends never sees the answer, and tries again for a quarter of an hour.
async fn drain(mut content: BodyDataStream) {
    let reading = async {
        let mut left = DRAINED_BYTES;
        while let Some(Ok(piece)) = content.next().await {
            left = left.saturating_sub(piece.len());
            if left == 0 {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(DRAINED_WITHIN, reading).await;
}

async fn remove(visit: Visit) -> Result<StatusCode, Answer> {
    visit.visitor.delete(&visit.object()?).await?;
    Ok(StatusCode::OK)
}
