//! Plans that go by the tags of hosts, through the router.

use super::{Fleet, id_of};
use crate::{
    db::{plans, repositories, store},
    desired::Sources,
    events::Topic,
};
use protocol::{HostId, PlanId, RepositoryId};
use serde_json::{Value, json};

async fn tag(fleet: &Fleet, host: HostId, tags: &[&str]) -> Value {
    fleet.put(&format!("/api/hosts/{host}/tags"), json!({ "tags": tags })).await.ok(200)
}

async fn generation(fleet: &Fleet, host: HostId) -> u64 {
    let host = fleet.get(&format!("/api/hosts/{host}")).await.ok(200);
    host["desired_generation"].as_u64().unwrap()
}

/// A plan for these tags.
async fn plan(fleet: &Fleet, name: &str, repository: Value, tags: &[&str]) -> String {
    let form = json!({"name": name, "repository_id": repository, "paths": ["/etc"],
        "retention": {"keep_daily": 7}, "host_tags": tags});
    id_of(&fleet.post("/api/plans", form).await.ok(201))
}

/// The plans that the host's next desired state has.
async fn compiled(fleet: &Fleet, host: HostId) -> Vec<String> {
    let mut tx = fleet.manager.db().begin().await.unwrap();
    let sources = Sources::read(&mut tx, host).await.unwrap();
    sources.plans.iter().map(|plan| plan.id.to_string()).collect()
}

#[tokio::test]
async fn a_host_gets_and_loses_a_plan_with_its_tag() {
    let fleet = Fleet::new().await;
    let (one, two) = (fleet.host("one").await, fleet.host("two").await);
    let repository = fleet.repository("nas").await;
    let plan = plan(&fleet, "web", json!(repository), &["Web", "web", "db"]).await;
    let path = format!("/api/plans/{plan}");
    let view = fleet.get(&path).await.ok(200);
    assert_eq!(view["host_tags"], json!(["db", "web"]));
    assert_eq!((&view["host_ids"], &view["all_host_ids"]), (&json!([]), &json!([])));
    assert_eq!(compiled(&fleet, one).await, Vec::<String>::new());

    // Both tags at once make it no twofold.
    let host = tag(&fleet, one, &["WEB", "db", "berlin"]).await;
    assert_eq!(host["tags"], json!(["berlin", "db", "web"]));
    assert_eq!(host["plan_ids"], json!([plan]));
    assert_eq!(host["repository_ids"], json!([repository]));
    assert_eq!(compiled(&fleet, one).await, [plan.as_str()]);
    assert_eq!((generation(&fleet, one).await, generation(&fleet, two).await), (1, 0));
    let listed = fleet.get("/api/hosts").await.ok(200);
    assert_eq!(listed[0], host, "the list and the page say the same");
    let view = fleet.get(&path).await.ok(200);
    assert_eq!((&view["host_ids"], &view["all_host_ids"]), (&json!([]), &json!([one])));
    assert_eq!(fleet.get("/api/plans").await.ok(200), json!([view]));
    assert_eq!(fleet.audited().await[0], "host.tags");

    // A tag that no plan goes by, and one of two that give the same plan, change nothing for the agent.
    tag(&fleet, one, &["web"]).await;
    assert_eq!(generation(&fleet, one).await, 1);
    let audited = fleet.audited().await.len();
    tag(&fleet, one, &["web"]).await;
    assert_eq!(fleet.audited().await.len(), audited);

    tag(&fleet, one, &[]).await;
    assert_eq!(compiled(&fleet, one).await, Vec::<String>::new());
    assert_eq!(generation(&fleet, one).await, 2);
}

#[tokio::test]
async fn a_plan_that_takes_or_drops_a_tag_reaches_its_hosts_and_takes_nothing_else_away() {
    let fleet = Fleet::new().await;
    let (one, two) = (fleet.host("one").await, fleet.host("two").await);
    let repository = fleet.repository("nas").await;
    tag(&fleet, one, &["web"]).await;
    tag(&fleet, two, &["web"]).await;
    let plan = plan(&fleet, "web", json!(repository), &[]).await;
    let path = format!("/api/plans/{plan}");
    let all = || async { (generation(&fleet, one).await, generation(&fleet, two).await) };
    assert_eq!(all().await, (0, 0));
    let form = json!({"host_tags": ["web"], "host_ids": [two]});
    let view = fleet.put(&path, form).await.ok(200);
    assert_eq!(view["all_host_ids"].as_array().unwrap().len(), 2);
    assert_eq!(all().await, (1, 1));
    // Two was also chosen by itself, so it keeps the plan.
    let view = fleet.put(&path, json!({"host_tags": []})).await.ok(200);
    assert_eq!(view["all_host_ids"], json!([two]));
    assert_eq!(all().await, (2, 1));
    assert_eq!(compiled(&fleet, one).await, Vec::<String>::new());
    // What is not named stays as it is.
    fleet.put(&path, json!({"host_tags": ["web"]})).await.ok(200);
    let view = fleet.put(&path, json!({"host_ids": []})).await.ok(200);
    assert_eq!(view["host_tags"], json!(["web"]));
    assert_eq!(view["all_host_ids"].as_array().unwrap().len(), 2);
    assert_eq!(all().await, (3, 1));
    fleet.delete(&path, Value::Null).await.ok(204);
    assert_eq!(all().await, (4, 2));
    assert_eq!(compiled(&fleet, two).await, Vec::<String>::new());
}

#[tokio::test]
async fn whatever_asks_who_has_a_plan_sees_those_with_a_tag() {
    let fleet = Fleet::new().await;
    let host = fleet.host("one").await;
    let repository = fleet.repository("nas").await;
    let plan = plan(&fleet, "web", json!(repository), &["web"]).await;
    let run = json!({"kind": "backup", "plan_id": plan});
    let runs = format!("/api/hosts/{host}/runs");
    fleet.post(&runs, run.clone()).await.is_refused(422, "plan_unknown", Some("plan_id"));
    let init = json!({"kind": "init", "repository_id": repository});
    let refused = fleet.post(&runs, init.clone()).await;
    refused.is_refused(422, "repository_unknown", Some("repository_id"));

    tag(&fleet, host, &["web"]).await;
    fleet.post(&runs, run).await.ok(201);
    fleet.post(&runs, init).await.ok(201);
    let repository_view = fleet.get(&format!("/api/repositories/{repository}")).await.ok(200);
    assert_eq!(repository_view["host_ids"], json!([host]));
    let form = json!({"confirm": "nas"});
    let in_use = fleet.delete(&format!("/api/repositories/{repository}"), form).await;
    in_use.is_refused(409, "conflict", None);
    let db = fleet.manager.db().read();
    let (plan_id, repository_id): (PlanId, RepositoryId) =
        (plan.parse().unwrap(), repository.parse().unwrap());
    assert_eq!(plans::hosts(db, plan_id).await.unwrap(), [host]);
    assert_eq!(plans::chosen_hosts(db, plan_id).await.unwrap(), []);
    assert_eq!(plans::of_host(db, host).await.unwrap()[0].repository_id, Some(repository_id));
    assert_eq!(repositories::of_host(db, host).await.unwrap()[0].id, repository_id);
    assert_eq!(repositories::hosts(db, repository_id).await.unwrap(), [host]);

    // A machine that leaves leaves its tags, and what it knew is told.
    let left = fleet.delete(&format!("/api/hosts/{host}"), json!({"confirm": "one"})).await.ok(200);
    assert_eq!(left["rotate"][0]["repository_id"], repository);
    assert_eq!(plans::hosts(db, plan_id).await.unwrap(), []);
}

#[tokio::test]
async fn a_tag_brings_a_repository_in_the_store_with_it() {
    let fleet = Fleet::new().await;
    let (one, two) = (fleet.host("one").await, fleet.host("two").await);
    let folder = fleet.dir.path().join("store");
    fleet.put("/api/store", json!({ "folder": folder })).await.ok(200);
    let plan = plan(&fleet, "web", Value::Null, &["web"]).await;
    let host = tag(&fleet, one, &["web"]).await;
    let own = host["repository_ids"][0].as_str().unwrap().to_owned();
    let db = fleet.manager.db().read();
    assert_eq!(store::hosts_without_repository(db).await.unwrap(), []);
    let all = repositories::list(db).await.unwrap();
    assert_eq!(all.iter().map(|it| it.store_host_id).collect::<Vec<_>>(), [Some(one)]);
    let view = fleet.get(&format!("/api/repositories/{own}")).await.ok(200);
    assert_eq!((&view["plan_ids"], &view["host_ids"]), (&json!([plan]), &json!([one])));
    // A plan that takes the tag of a further host provides for that one too.
    tag(&fleet, two, &["db"]).await;
    fleet.put(&format!("/api/plans/{plan}"), json!({"host_tags": ["web", "db"]})).await.ok(200);
    assert_eq!(store::hosts_without_repository(db).await.unwrap(), []);
    assert_eq!(repositories::list(db).await.unwrap().len(), 2);
}

#[tokio::test]
async fn tags_that_are_none_are_refused_and_a_revoked_host_gets_no_further_ones() {
    let fleet = Fleet::new().await;
    let host = fleet.host("one").await;
    let repository = fleet.repository("nas").await;
    let path = format!("/api/hosts/{host}/tags");
    for bad in ["", "a b", "a,b", "plan:x"] {
        let answer = fleet.put(&path, json!({"tags": [bad]})).await;
        answer.is_refused(422, "invalid_input", Some("tags"));
        let form = json!({"name": "etc", "repository_id": repository, "paths": ["/etc"],
            "host_tags": [bad]});
        let answer = fleet.post("/api/plans", form).await;
        answer.is_refused(422, "invalid_input", Some("host_tags"));
    }
    let nobody = "/api/hosts/00000000-0000-7000-8000-000000000000/tags";
    fleet.put(nobody, json!({"tags": []})).await.is_refused(404, "not_found", None);
    tag(&fleet, host, &["db", "web"]).await;
    let revoke = format!("/api/hosts/{host}/revoke");
    fleet.post(&revoke, json!({"confirm": "one"})).await.ok(200);
    fleet.put(&path, json!({"tags": ["db", "x"]})).await.is_refused(403, "host_revoked", None);
    assert_eq!(tag(&fleet, host, &[]).await["tags"], json!([]), "it has left those that it had");
}

#[tokio::test]
async fn who_watches_hears_of_the_host_and_of_the_plans_that_it_got_or_lost() {
    let fleet = Fleet::new().await;
    let host = fleet.host("one").await;
    let repository = fleet.repository("nas").await;
    let plan: PlanId = plan(&fleet, "web", json!(repository), &["web"]).await.parse().unwrap();
    for tags in [&["web"][..], &[]] {
        let mut watcher = fleet.manager.events().subscribe();
        tag(&fleet, host, tags).await;
        let mut heard = Vec::new();
        while let Ok(event) = watcher.try_recv() {
            heard.push(event.topic);
        }
        assert!(heard.contains(&Topic::Host(host)) && heard.contains(&Topic::Plan(plan)));
    }
}

#[tokio::test]
async fn a_revoked_host_keeps_the_plans_that_it_had_and_counts_in_no_new_one() {
    let fleet = Fleet::new().await;
    let (gone, stays) = (fleet.host("gone").await, fleet.host("stays").await);
    let repository = fleet.repository("nas").await;
    tag(&fleet, gone, &["web"]).await;
    tag(&fleet, stays, &["web"]).await;
    let old = plan(&fleet, "old", json!(repository), &["web"]).await;
    fleet.post(&format!("/api/hosts/{gone}/revoke"), json!({"confirm": "gone"})).await.ok(200);
    let new = plan(&fleet, "new", json!(repository), &["web"]).await;
    let seen = fleet.get(&format!("/api/hosts/{gone}")).await.ok(200);
    assert_eq!((&seen["tags"], &seen["plan_ids"]), (&json!([]), &json!([old])));
    assert_eq!(seen["repository_ids"], json!([repository]), "its snapshots are still found");
    let new = fleet.get(&format!("/api/plans/{new}")).await.ok(200);
    assert_eq!(new["all_host_ids"], json!([stays]));
}
