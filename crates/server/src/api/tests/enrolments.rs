//! Enrolments and notices through the router.

use super::{Fleet, id_of};
use crate::{
    auth::token,
    db::{
        enrolments as rows,
        notices::{self, NewNotice},
    },
};
use jiff::SignedDuration;
use protocol::Code;
use serde_json::{Value, json};

#[tokio::test]
async fn a_token_is_told_once_and_only_its_hash_is_kept() {
    let fleet = Fleet::new().await;
    let without = fleet.post("/api/enrolments", json!({"name": "web-1"})).await;
    without.is_refused(409, "conflict", None);
    fleet.put("/api/system/addresses", json!({"addresses": ["box:9781"]})).await.ok(200);
    let created = fleet.post("/api/enrolments", json!({"name": "web-1"})).await.ok(201);
    let token = created["token"].as_str().unwrap();
    assert!(token.len() >= 32);
    assert_eq!(created["expires_at"], "2026-11-23T13:00:00Z");
    let block = created["install"]["unix"].as_str().unwrap();
    let mut lines = block.lines();
    let command = lines.next().unwrap();
    assert!(command.contains("--address='box:9781'") && !command.contains(token), "{command}");
    assert_eq!(lines.next(), Some(token));
    let found = rows::find_by_token(fleet.manager.db().read(), &token::hash(token)).await.unwrap();
    assert_eq!(found.unwrap().name, "web-1");
    let list = fleet.get("/api/enrolments").await;
    assert!(!list.text().contains(token));
    assert_eq!(list.ok(200)[0]["state"], "waiting");
    fleet.clock.advance(SignedDuration::from_hours(1));
    assert_eq!(fleet.get("/api/enrolments").await.ok(200)[0]["state"], "expired");
}

#[tokio::test]
async fn an_enrolment_is_withdrawn_until_it_was_used() {
    let fleet = Fleet::new().await;
    fleet.put("/api/system/addresses", json!({"addresses": ["box:9781"]})).await.ok(200);
    let id = id_of(&fleet.post("/api/enrolments", json!({"name": "web-1"})).await.ok(201));
    let path = format!("/api/enrolments/{id}");
    for _ in 0..2 {
        fleet.delete(&path, Value::Null).await.ok(204);
    }
    assert_eq!(fleet.get("/api/enrolments").await.ok(200)[0]["state"], "withdrawn");
    let other = id_of(&fleet.post("/api/enrolments", json!({"name": "web-2"})).await.ok(201));
    let host = fleet.host("web-2").await;
    let mut tx = fleet.manager.db().begin().await.unwrap();
    let now = fleet.manager.now();
    rows::mark_used(&mut tx, other.parse().unwrap(), host, now).await.unwrap();
    tx.commit().await.unwrap();
    let used = fleet.delete(&format!("/api/enrolments/{other}"), Value::Null).await;
    used.is_refused(409, "token_used", None);
    let audited = fleet.audited().await;
    assert_eq!(audited.iter().filter(|action| *action == "enrolment.withdraw").count(), 1);
}

#[tokio::test]
async fn a_name_or_plan_that_does_not_fit_is_refused() {
    let fleet = Fleet::new().await;
    fleet.put("/api/system/addresses", json!({"addresses": ["box:9781"]})).await.ok(200);
    fleet.host("web-1").await;
    let taken = fleet.post("/api/enrolments", json!({"name": "WEB-1"})).await;
    taken.is_refused(409, "conflict", Some("name"));
    let form = json!({"name": "x", "plan_id": "00000000-0000-7000-8000-000000000000"});
    let unknown = fleet.post("/api/enrolments", form).await;
    unknown.is_refused(422, "plan_unknown", Some("plan_id"));
    let repository = fleet.repository("nas").await;
    let plan = fleet.plan("etc", &repository, &[]).await;
    fleet.post("/api/enrolments", json!({"name": "x", "plan_id": plan})).await.ok(201);
    assert_eq!(fleet.get("/api/enrolments").await.ok(200)[0]["plan_id"], plan);
}

/// A machine with a plan and a repository of its own, all of them new.
fn whole() -> Value {
    json!({"name": "web-1", "plan": {"name": "web-1 files", "paths": ["/etc"],
        "retention": {"keep_daily": 7},
        "repository": {"name": "web-1", "url": "rest:https://nas:8000/web-1/", "username": "web-1"}}})
}

#[tokio::test]
async fn a_machine_comes_with_its_plan_and_its_repository() {
    let fleet = Fleet::new().await;
    fleet.put("/api/system/addresses", json!({"addresses": ["box:9781"]})).await.ok(200);
    let created = fleet.post("/api/enrolments", whole()).await.ok(201);
    let made = &created["repository"];
    for minted in ["minted_password", "minted_credential"] {
        assert_eq!(made[minted].as_str().unwrap().len(), 32, "{minted}");
    }
    assert!(made["htpasswd_line"].as_str().unwrap().ends_with("htpasswd -B -i .htpasswd web-1"));
    assert_eq!(fleet.get("/api/repositories").await.ok(200), json!([made["repository"]]));
    assert_eq!(fleet.get("/api/plans").await.ok(200), json!([created["plan"]]));
    assert_eq!(created["plan"]["repository_id"], made["repository"]["id"]);
    assert_eq!(fleet.get("/api/enrolments").await.ok(200)[0]["plan_id"], created["plan"]["id"]);
    let audited = fleet.audited().await;
    assert_eq!(audited[..3], ["enrolment.create", "plan.create", "repository.create"]);
    // A second machine writes into the same repository by a plan of its own.
    let mut second = whole();
    second["name"] = json!("web-2");
    let plan = json!({"name": "web-2 files", "paths": ["/srv"],
        "repository_id": made["repository"]["id"]});
    second["plan"] = plan;
    let created = fleet.post("/api/enrolments", second).await.ok(201);
    assert!(created.get("repository").is_none(), "nothing was minted: {created}");
    assert_eq!(created["plan"]["repository_id"], made["repository"]["id"]);
}

#[tokio::test]
async fn where_one_part_is_refused_nothing_is_kept() {
    let fleet = Fleet::new().await;
    fleet.post("/api/enrolments", whole()).await.is_refused(409, "conflict", None);
    fleet.put("/api/system/addresses", json!({"addresses": ["box:9781"]})).await.ok(200);
    fleet.host("taken").await;
    let other = fleet.repository("other").await;
    let plan = fleet.plan("other files", &other, &[]).await;
    let nobody = "00000000-0000-7000-8000-000000000000";
    let before = fleet.audited().await;
    for (part, value, status, code, field) in [
        ("/name", json!(""), 422, "invalid_input", "name"),
        ("/name", json!("taken"), 409, "conflict", "name"),
        ("/plan_id", json!(plan), 422, "invalid_input", "plan_id"),
        ("/plan/name", json!(""), 422, "invalid_input", "plan.name"),
        ("/plan/name", json!("other files"), 409, "conflict", "plan.name"),
        ("/plan/paths", json!(["docs"]), 422, "invalid_input", "plan.paths"),
        ("/plan/retention", json!({}), 422, "retention_empty", "plan.retention"),
        ("/plan/repository", json!(null), 422, "store_homeless", "plan.repository_id"),
        ("/plan/repository_id", json!(other), 422, "invalid_input", "plan.repository_id"),
        ("/plan/repository/name", json!("other"), 409, "conflict", "plan.repository.name"),
        ("/plan/repository/url", json!("x"), 422, "repository_url_invalid", "plan.repository.url"),
        ("/plan/repository/password", json!(""), 422, "invalid_input", "plan.repository.password"),
    ] {
        let mut form = whole();
        let (parent, name) = part.rsplit_once('/').unwrap();
        form.pointer_mut(parent).unwrap()[name] = value;
        let answer = fleet.post("/api/enrolments", form.clone()).await;
        assert_eq!(answer.refused(status), (code.to_owned(), Some(field.to_owned())), "{form}");
    }
    let mut unknown = whole();
    unknown["plan"]["repository"] = Value::Null;
    unknown["plan"]["repository_id"] = json!(nobody);
    let answer = fleet.post("/api/enrolments", unknown).await;
    answer.is_refused(422, "repository_unknown", Some("plan.repository_id"));
    for (path, kept) in [("/api/repositories", 1), ("/api/plans", 1), ("/api/enrolments", 0)] {
        assert_eq!(fleet.get(path).await.ok(200).as_array().unwrap().len(), kept, "{path}");
    }
    assert_eq!(fleet.audited().await, before);
    fleet.post("/api/enrolments", whole()).await.ok(201);
}

#[tokio::test]
async fn a_notice_is_put_away_once() {
    let fleet = Fleet::new().await;
    let host = fleet.host("web-1").await;
    let mut tx = fleet.manager.db().begin().await.unwrap();
    let notice = NewNotice::of_host(host, Code::CloneSuspected, "Two of them.").guidance("Look.");
    let now = fleet.manager.now();
    notices::open(&mut tx, fleet.manager.new_id(), &notice, now).await.unwrap();
    tx.commit().await.unwrap();
    let open = fleet.get("/api/notices").await.ok(200);
    super::assert_answer!(open);
    let path = format!("/api/notices/{}/resolve", id_of(&open[0]));
    fleet.post(&path, Value::Null).await.ok(204);
    fleet.post(&path, Value::Null).await.is_refused(404, "not_found", None);
    assert_eq!(fleet.get("/api/notices").await.ok(200), json!([]));
    assert_eq!(fleet.audited().await, ["notice.resolve"]);
}
