//! Tests of the whole router: requests go in as a desktop or a listener sends them, and whole
//! answers are looked at.

mod alarms;
mod announcements;
mod document;
mod enrolments;
mod hosts;
mod network;
mod plans;
mod repositories;
mod runs;
mod secrets;
mod slots;
mod standing;
mod store;
mod streams;
mod tags;
mod uploads;

use crate::{
    api::ui_router,
    auth::Principal,
    db::{
        Db,
        hosts::{self as host_rows, NewHost},
    },
    events::Events,
    identity::{Identity, NewIdentity},
    links::LinksHandle,
    manager::{Manager, Parts},
    programs::Programs,
    vault::{FileKeyStore, Vault},
};
use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, Method, Request, StatusCode, header::CONTENT_TYPE},
};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use protocol::{HostArch, HostId, HostOs, Incarnation, PROTOCOL_VERSION};
use schedule::{Clock, ManualClock};
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc};
use tower::ServiceExt as _;

/// When all tests begin.
const START: &str = "2026-11-23T12:00:00Z";

/// A manager in a folder of its own, with its router.
pub struct Fleet {
    pub dir: tempfile::TempDir,
    pub manager: Manager,
    pub clock: Arc<ManualClock>,
    pub router: Router,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Bytes,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }

    /// The JSON of an answer that must have this status.
    #[track_caller]
    pub fn ok(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        if self.bytes.is_empty() { Value::Null } else { self.json() }
    }

    /// The code and the field of a refusal.
    #[track_caller]
    pub fn refused(&self, status: u16) -> (String, Option<String>) {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        let body = self.json();
        assert!(!body["message"].as_str().unwrap().is_empty());
        let text = |name: &str| body[name].as_str().map(str::to_owned);
        (text("code").unwrap(), text("field"))
    }

    /// That it was refused with this code, and for this field or none.
    #[track_caller]
    pub fn is_refused(&self, status: u16, code: &str, field: Option<&str>) {
        assert_eq!(self.refused(status), (code.to_owned(), field.map(str::to_owned)));
    }
}

impl Fleet {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let start: Timestamp = START.parse().unwrap();
        let clock = Arc::new(ManualClock::new(start));
        let db = Db::open(&dir.path().join("server.db")).await.unwrap();
        let vault = Vault::open(&FileKeyStore::new(dir.path().join("vault.key")), true).unwrap();
        let new = NewIdentity {
            incarnation: Incarnation::new(0, &[7; 10]),
            names: BTreeSet::new(),
            now: start,
        };
        let identity = Identity::load_or_create(&db, &vault, new).await.unwrap();
        let manager = Manager::new(Parts {
            db,
            vault: Arc::new(vault),
            identity: Arc::new(identity),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            events: Events::default(),
            // Without its actor nobody is connected.
            links: LinksHandle::new().0,
            store_folder: dir.path().join("store"),
            programs: Programs::default(),
        });
        let router = ui_router(manager.clone());
        Self { dir, manager, clock, router }
    }

    /// A request of the person at the desktop.
    pub async fn send(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let mut request = request(method, path, body);
        request.extensions_mut().insert(Principal::LocalUser);
        send(&self.router, request).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, Some(body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send("PUT", path, Some(body)).await
    }

    pub async fn delete(&self, path: &str, body: Value) -> Answer {
        self.send("DELETE", path, Some(body)).await
    }

    /// A host that came in.
    pub async fn host(&self, name: &str) -> HostId {
        let id: HostId = self.manager.new_id();
        let mut key = [0; 32];
        key[..16].copy_from_slice(id.as_uuid().as_bytes());
        let new = NewHost {
            id,
            name,
            hostname: name,
            os: HostOs::Linux,
            arch: HostArch::Amd64,
            agent_version: "0.1.0",
            protocol_version: PROTOCOL_VERSION,
            key_fingerprint: key,
            enrolled_at: self.manager.now(),
        };
        let mut tx = self.manager.db().begin().await.unwrap();
        host_rows::insert(&mut tx, &new).await.unwrap();
        tx.commit().await.unwrap();
        id
    }

    /// A repository, entered through the API.
    pub async fn repository(&self, name: &str) -> String {
        let url = format!("rest:https://nas.example:8000/{name}/");
        let answer = self.post("/api/repositories", json!({"name": name, "url": url})).await;
        id_of(&answer.ok(201)["repository"])
    }

    /// A plan for these hosts, made through the API.
    pub async fn plan(&self, name: &str, repository: &str, hosts: &[HostId]) -> String {
        let form = json!({"name": name, "repository_id": repository, "paths": ["/etc"],
            "retention": {"keep_daily": 7}, "host_ids": hosts});
        id_of(&self.post("/api/plans", form).await.ok(201))
    }

    /// The actions in the audit log, newest first.
    pub async fn audited(&self) -> Vec<String> {
        let entries = self.get("/api/audit").await.ok(200);
        let entries = entries.as_array().unwrap().iter();
        entries.map(|entry| entry["action"].as_str().unwrap().to_owned()).collect()
    }
}

pub fn id_of(view: &Value) -> String {
    view["id"].as_str().unwrap().to_owned()
}

pub fn request(method: &str, path: &str, body: Option<Value>) -> Request<Body> {
    let method: Method = method.parse().unwrap();
    let request = Request::builder().method(method).uri(path);
    match body {
        Some(body) => request
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))
            .unwrap(),
        None => request.body(Body::empty()).unwrap(),
    }
}

pub async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status, headers: parts.headers, bytes }
}

/// The answer with its ids put aside: they differ each time.
pub fn without_ids(value: &Value) -> Value {
    match value {
        Value::String(text) if text.parse::<uuid::Uuid>().is_ok() => Value::from("[id]"),
        Value::Array(items) => items.iter().map(without_ids).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), without_ids(value))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// A whole answer as a snapshot.
macro_rules! assert_answer {
    ($json:expr) => {
        insta::assert_json_snapshot!(crate::api::tests::without_ids(&$json))
    };
}
use assert_answer;
