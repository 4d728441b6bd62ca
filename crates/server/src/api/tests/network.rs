//! The guard of the network before the router: sessions, hosts and origins, attempts.

use super::{Answer, Fleet, request, send};
use crate::{
    auth::{network::Network, password},
    db::{manager as rows, sessions},
};
use axum::{
    Router,
    extract::ConnectInfo,
    http::{Request, header},
};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::net::SocketAddr;

const HOST: &str = "box:9780";
const PASSWORD: &str = "correct horse battery";

struct Guarded {
    fleet: Fleet,
    router: Router,
}

impl Guarded {
    async fn new() -> Self {
        let fleet = Fleet::new().await;
        let hash = password::hash(&PASSWORD.to_owned().into()).unwrap();
        let mut tx = fleet.manager.db().begin().await.unwrap();
        rows::set_password_hash(&mut tx, &hash).await.unwrap();
        tx.commit().await.unwrap();
        let network = Network::new(fleet.manager.clone(), [HOST.to_owned()]);
        let router = network.guard(fleet.router.clone());
        Self { fleet, router }
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        let mut request: Request<_> = request(method, path, body);
        request.headers_mut().insert(header::HOST, HOST.parse().unwrap());
        for (name, value) in headers {
            let name: header::HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let peer: SocketAddr = "192.0.2.7:4711".parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        send(&self.router, request).await
    }

    async fn try_password(&self, text: &str) -> Answer {
        self.send("POST", "/api/session", &[], Some(json!({"password": text}))).await
    }

    /// Signs in, and returns the cookie as a browser sends it back.
    async fn cookie(&self) -> String {
        let answer = self.try_password(PASSWORD).await;
        assert_eq!(answer.ok(200)["principal"], "admin");
        let set = answer.headers[header::SET_COOKIE].to_str().unwrap();
        assert!(set.starts_with("__Host-restic-manager="), "{set}");
        assert!(set.ends_with("; Path=/; Secure; HttpOnly; SameSite=Strict"), "{set}");
        set.split(';').next().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_session_lives_while_it_is_used_and_ends_by_signing_out() {
    let it = Guarded::new().await;
    let cookie = it.cookie().await;
    let with = [("cookie", cookie.as_str())];
    for _ in 0..3 {
        it.fleet.clock.advance(SignedDuration::from_hours(11));
        it.send("GET", "/api/system", &with, None).await.ok(200);
    }
    let shown = it.send("GET", "/api/session", &with, None).await.ok(200);
    assert_eq!(shown["expires_at"], "2026-11-25T09:00:00Z");
    it.send("DELETE", "/api/session", &with, None).await.ok(204);
    it.send("GET", "/api/system", &with, None).await.is_refused(401, "unauthenticated", None);
    let cookie = it.cookie().await;
    it.fleet.clock.advance(SignedDuration::from_hours(12));
    let old = it.send("GET", "/api/system", &[("cookie", &cookie)], None).await;
    old.is_refused(401, "unauthenticated", None);
    let shown = it.send("GET", "/api/session", &[], None).await.ok(200);
    assert_eq!(shown, json!({"signed_in": false}));
}

#[tokio::test]
async fn only_the_right_cookie_opens_a_session() {
    let it = Guarded::new().await;
    let cookie = it.cookie().await;
    let (name, value) = cookie.split_once('=').unwrap();
    for wrong in [
        format!("{name}="),
        format!("{name}={}", &value[1..]),
        format!("other={value}"),
        format!("{name}={}", data_encoding::HEXLOWER.encode(&crate::auth::token::hash(value))),
    ] {
        let answer = it.send("GET", "/api/system", &[("cookie", &wrong)], None).await;
        answer.is_refused(401, "unauthenticated", None);
    }
    let among = format!("a=b; {cookie}; c=d");
    it.send("GET", "/api/system", &[("cookie", &among)], None).await.ok(200);
    let file = std::fs::read(it.fleet.dir.path().join("server.db-wal")).unwrap();
    assert!(!file.windows(value.len()).any(|part| part == value.as_bytes()));
    assert!(
        sessions::find(it.fleet.manager.db().read(), value.as_bytes()).await.unwrap().is_none()
    );
}

#[tokio::test]
async fn wrong_passwords_wait_after_a_few() {
    let it = Guarded::new().await;
    for _ in 0..5 {
        it.try_password("wrong horse battery").await.is_refused(403, "sign_in_failed", None);
    }
    let sixth = it.try_password(PASSWORD).await;
    sixth.is_refused(429, "too_many_attempts", None);
    assert_eq!(sixth.headers[header::RETRY_AFTER], "300");
    assert_eq!(sixth.json()["guidance"], "Try again in 5 minutes.");
    it.fleet.clock.advance(SignedDuration::from_mins(5));
    it.cookie().await;
}

#[tokio::test]
async fn another_host_or_origin_is_not_answered() {
    let it = Guarded::new().await;
    let cookie = it.cookie().await;
    for foreign in [
        ("host", "evil.example"),
        ("host", "box"),
        ("host", "box:9781"),
        ("origin", "https://evil.example"),
        ("origin", "http://box:9780"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        for method in ["GET", "DELETE"] {
            let headers = [("cookie", cookie.as_str()), foreign];
            let answer = it.send(method, "/api/session", &headers, None).await;
            assert_eq!(answer.refused(403).0, "foreign_origin", "{foreign:?}");
        }
    }
    for own in [
        ("host", "BOX:9780"),
        ("origin", "https://box:9780"),
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-site", "none"),
    ] {
        it.send("GET", "/api/system", &[("cookie", &cookie), own], None).await.ok(200);
    }
}

#[tokio::test]
async fn the_desktop_has_nothing_to_sign_in_to() {
    let fleet = Fleet::new().await;
    let shown = fleet.get("/api/session").await.ok(200);
    assert_eq!(shown, json!({"signed_in": true, "principal": "local_user"}));
    let answer = fleet.post("/api/session", json!({"password": "x"})).await;
    answer.is_refused(409, "conflict", None);
    fleet.delete("/api/session", Value::Null).await.ok(204);
}
