//! Tests of the bridge, over a small router.

use super::*;
use axum::{
    Extension, Json,
    response::sse::{Event, Sse},
    routing::{get, post},
};
use std::{convert::Infallible, pin::pin};

fn bridge() -> Bridge {
    let events = || {
        let texts = ["one", "zwei, mit ü", "three"].map(|text| Event::default().data(text));
        futures_util::stream::iter(texts.map(Ok::<_, Infallible>))
    };
    Bridge::new(
        Router::new()
            .route("/api/who", get(async |Extension(who): Extension<Principal>| who.as_str()))
            .route("/api/echo", post(async |Json(body): Json<serde_json::Value>| Json(body)))
            .route("/api/events", get(async move || Sse::new(events())))
            .route("/private", get(async || "not for the window")),
    )
}

fn asks(method: &str, path: &str, body: Option<&str>) -> Request {
    Request { method: method.to_owned(), path: path.to_owned(), body: body.map(str::to_owned) }
}

#[tokio::test]
async fn the_person_at_the_screen_is_the_local_user() {
    let answer = bridge().request(asks("GET", "/api/who", None)).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "local_user"));
}

#[tokio::test]
async fn a_body_goes_both_ways() {
    let body = r#"{"name":"Zoë"}"#;
    let answer = bridge().request(asks("POST", "/api/echo", Some(body))).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, body));
    assert_eq!(answer.headers["content-type"], "application/json");
}

#[tokio::test]
async fn nothing_but_the_api_is_admitted() {
    for (method, path) in [
        ("GET", "/private"),
        ("GET", "/api"),
        ("GET", "/api/../private"),
        ("GET", "private"),
        ("GET", "https://example.org/api/who"),
        ("GET", "//example.org/api/who"),
        ("GET", ""),
        ("NO METHOD", "/api/who"),
        // A stream has no end that an answer could wait for.
        ("GET", "/api/events"),
    ] {
        let answer = bridge().request(asks(method, path, None)).await;
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.body);
        assert!(!answer.body.contains("not for the window"), "{method} {path}");
    }
}

#[tokio::test]
async fn a_stream_comes_in_whole_events() {
    let mut texts = pin!(bridge().stream("/api/events").await.unwrap());
    assert_eq!(texts.next().await.as_deref(), Some("data: one\n\n"));
    assert_eq!(texts.next().await.as_deref(), Some("data: zwei, mit ü\n\n"));
    assert_eq!(texts.next().await.as_deref(), Some("data: three\n\n"));
    assert_eq!(texts.next().await, None);
}

#[tokio::test]
async fn what_is_no_stream_comes_back_as_an_answer() {
    let refusal = bridge().stream("/api/nothing").await.err().unwrap();
    assert_eq!(refusal.status, 404);
    let refusal = bridge().stream("/private").await.err().unwrap();
    assert_eq!(refusal.status, 404);
}
