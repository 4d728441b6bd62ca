//! Extractors whose refusals are problems: bodies, paths and queries.

use super::{BODY_LIMIT, error::ApiError};
use axum::{
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{header, request::Parts},
};
use futures_util::StreamExt as _;
use protocol::{Code, Problem};
use serde::de::DeserializeOwned;
use std::str::FromStr;

/// So much of a body is read before its sender is cut off.
const MOST_READ: usize = 16 * BODY_LIMIT;

/// A JSON body. It must say that it is JSON: a form of another site cannot.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let kind = request.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|value| value.to_str().ok()).unwrap_or_default();
        if kind.split(';').next().unwrap_or_default().trim() != "application/json" {
            return Err(ApiError::refused(
                Code::InvalidInput,
                "The request's body must be application/json.",
            ));
        }
        let bytes = whole(request.into_body()).await?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| malformed(&error).into())
    }
}

/// Reads a body. Of one that is too large the rest is read as well, up to a point, and thrown away: a
/// client that is cut off while it sends never gets to hear why.
async fn whole(body: axum::body::Body) -> Result<Vec<u8>, ApiError> {
    let mut pieces = body.into_data_stream();
    let (mut bytes, mut length) = (Vec::new(), 0);
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| {
            ApiError::refused(Code::InvalidInput, "The request's body could not be read.")
        })?;
        length += piece.len();
        if length > MOST_READ {
            break;
        }
        if length <= BODY_LIMIT {
            bytes.extend_from_slice(&piece);
        }
    }
    if length > BODY_LIMIT {
        return Err(ApiError::refused(Code::TooLarge, "The request is larger than 1 MiB."));
    }
    Ok(bytes)
}

/// serde's words name fields and types. They quote a value only where it has the wrong type, and a
/// secret given as a number is cut off with the quote.
fn malformed(error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    let quoted = ["invalid type: ", "invalid value: "].iter().any(|start| text.starts_with(start));
    // The last one: what was sent may hold these very words.
    let message = match text.rsplit_once(", expected ") {
        Some((_, expected)) if quoted => format!("a value has the wrong type, expected {expected}"),
        _ => text.clone(),
    };
    let problem = Problem::new(Code::InvalidInput, format!("The request does not fit: {message}."));
    match text.split('`').nth(1) {
        Some(field) if text.starts_with("missing field") || text.starts_with("unknown field") => {
            problem.field(field)
        }
        _ => problem,
    }
}

/// An id in the path. Text that is none names nothing.
#[derive(Debug)]
pub struct PathId<T>(pub T);

impl<S: Send + Sync, T: FromStr + Send> FromRequestParts<S> for PathId<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| ApiError::not_found("thing"))?;
        text.parse().map(Self).map_err(|_| ApiError::not_found("thing"))
    }
}

/// The query of the URL.
#[derive(Debug)]
pub struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(params) = Query::<T>::from_request_parts(parts, state).await.map_err(|_| {
            ApiError::refused(Code::InvalidInput, "The parameters of the URL do not fit.")
        })?;
        Ok(Self(params))
    }
}

#[cfg(test)]
mod tests {
    use super::malformed;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Form {
        #[expect(dead_code, reason = "only its type matters")]
        password: String,
    }

    #[derive(Debug, Deserialize)]
    struct Switch {
        #[expect(dead_code, reason = "only its type matters")]
        append_only: bool,
    }

    #[test]
    fn a_value_of_the_wrong_type_is_not_quoted() {
        let error = serde_json::from_str::<Form>(r#"{"password": 748201}"#).unwrap_err();
        let problem = malformed(&error);
        assert!(!problem.message.contains("748201"), "{}", problem.message);
        assert!(problem.message.contains("expected a string"), "{}", problem.message);
    }

    #[test]
    fn a_value_that_looks_like_the_end_of_the_quote_is_not_quoted_either() {
        let sent = r#"{"append_only": "hunter1, expected hunter2"}"#;
        let error = serde_json::from_str::<Switch>(sent).unwrap_err();
        let problem = malformed(&error);
        assert!(!problem.message.contains("hunter"), "{}", problem.message);
        assert!(problem.message.contains("expected a boolean"), "{}", problem.message);
    }

    #[test]
    fn a_missing_or_unknown_field_is_named() {
        let error = serde_json::from_str::<Form>("{}").unwrap_err();
        assert_eq!(malformed(&error).field.as_deref(), Some("password"));
        let error = serde_json::from_str::<Form>(r#"{"pasword": ""}"#).unwrap_err();
        assert_eq!(malformed(&error).field.as_deref(), Some("pasword"));
    }
}
