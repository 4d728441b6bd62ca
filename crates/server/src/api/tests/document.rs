//! The document and what it promises of every route.

use super::{super::Document, Fleet, request, send};
use serde_json::{Value, json};
use utoipa::OpenApi as _;

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");

#[test]
fn the_committed_document_is_not_stale() {
    let mut document = serde_json::to_string_pretty(&Document::openapi()).unwrap();
    document.push('\n');
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(COMMITTED, &document).unwrap();
    }
    let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
    assert!(
        committed == document,
        "crates/server/openapi.json is stale; run this test with UPDATE_OPENAPI=1"
    );
}

/// Every method and path of the document, with ids filled in.
fn routes() -> Vec<(String, String)> {
    let document = serde_json::to_value(Document::openapi()).unwrap();
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.replace("{id}", "00000000-0000-7000-8000-000000000000");
        for method in ["get", "put", "post", "delete", "patch"] {
            if item.get(method).is_some() {
                routes.push((method.to_uppercase(), path.clone()));
            }
        }
    }
    routes
}

#[tokio::test]
async fn every_route_but_sign_in_asks_who_it_is() {
    let fleet = Fleet::new().await;
    let routes = routes();
    assert!(routes.len() >= 38, "{}", routes.len());
    for (method, path) in routes {
        if path == "/api/session" && (method == "GET" || method == "POST") {
            continue;
        }
        let answer = send(&fleet.router, request(&method, &path, Some(json!({})))).await;
        assert_eq!(answer.status.as_u16(), 401, "{method} {path}: {}", answer.text());
        answer.is_refused(401, "unauthenticated", None);
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
}

#[tokio::test]
async fn every_refusal_is_a_problem_in_json() {
    let fleet = Fleet::new().await;
    fleet.get("/api/nothing").await.is_refused(404, "not_found", None);
    fleet.send("PATCH", "/api/system", Some(json!({}))).await.is_refused(404, "not_found", None);
    fleet.get("/api/runs/not-an-id").await.is_refused(404, "not_found", None);
    fleet.get("/api/runs?limit=many").await.is_refused(422, "invalid_input", None);
    for (method, path) in routes().iter().filter(|(_, path)| path.contains("00000000")) {
        let answer = fleet
            .send(
                method,
                path,
                Some(json!({"name": "x", "confirm": "x",
            "kind": "stats", "repository_id": "00000000-0000-7000-8000-000000000000"})),
            )
            .await;
        // Either the thing is not there, or the form does not fit it.
        assert!(matches!(answer.status.as_u16(), 404 | 422), "{method} {path} {}", answer.text());
        assert!(answer.json()["code"].is_string(), "{method} {path}");
    }
}

#[tokio::test]
async fn a_body_must_say_that_it_is_json_and_be_small() {
    let fleet = Fleet::new().await;
    let mut form = request("POST", "/api/plans", Some(json!({})));
    form.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    form.extensions_mut().insert(crate::auth::Principal::LocalUser);
    send(&fleet.router, form).await.is_refused(422, "invalid_input", None);
    let huge = fleet.post("/api/plans", json!({"name": "x".repeat(2_000_000)})).await;
    huge.is_refused(413, "too_large", None);
}

#[tokio::test]
async fn the_system_tells_what_there_is_and_takes_addresses() {
    let fleet = Fleet::new().await;
    let host = fleet.host("web-1").await;
    let generation = async || {
        fleet.get(&format!("/api/hosts/{host}")).await.ok(200)["desired_generation"].clone()
    };
    let before = generation().await;
    let bad = fleet.put("/api/system/addresses", json!({"addresses": ["a b:1"]})).await;
    bad.is_refused(422, "invalid_input", Some("addresses"));
    assert_eq!(generation().await, before);
    fleet.put("/api/system/addresses", json!({"addresses": ["box:9781"]})).await.ok(200);
    assert_ne!(generation().await, before, "agents are told");
    let mut system = fleet.get("/api/system").await.ok(200);
    assert!(system["root_certificate_pem"].as_str().unwrap().starts_with("-----BEGIN"));
    assert_eq!(system["manager_key"].as_str().unwrap().len(), 43);
    system["root_certificate_pem"] = Value::from("[pem]");
    system["manager_key"] = Value::from("[key]");
    super::assert_answer!(system);
    assert_eq!(fleet.audited().await, ["system.addresses"]);
    assert_eq!(fleet.get("/api/openapi.json").await.ok(200)["openapi"], "3.1.0");
}
