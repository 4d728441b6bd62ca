//! Plans through the router.

use super::{Fleet, assert_answer, id_of};
use protocol::HostId;
use serde_json::{Value, json};

async fn generation(fleet: &Fleet, host: HostId) -> Value {
    fleet.get(&format!("/api/hosts/{host}")).await.ok(200)["desired_generation"].clone()
}

#[tokio::test]
async fn a_plan_reaches_its_hosts_and_no_others() {
    let fleet = Fleet::new().await;
    let (one, two, three) =
        (fleet.host("one").await, fleet.host("two").await, fleet.host("three").await);
    let repository = fleet.repository("nas").await;
    let form = json!({"name": "etc", "repository_id": repository, "paths": ["/etc", "C:\\Users"],
        "excludes": ["*.tmp"], "tags": ["nightly"], "retention": {"keep_daily": 7},
        "host_ids": [two, one, two]});
    let created = fleet.post("/api/plans", form).await.ok(201);
    assert_answer!(created);
    let path = format!("/api/plans/{}", id_of(&created));
    assert_eq!(fleet.get(&path).await.ok(200), created);
    assert_eq!(fleet.get("/api/plans").await.ok(200), json!([created]));
    let all = || async {
        [
            generation(&fleet, one).await,
            generation(&fleet, two).await,
            generation(&fleet, three).await,
        ]
    };
    assert_eq!(all().await, [1, 1, 0]);
    // A host that leaves and one that comes both get a new desired state.
    fleet.put(&path, json!({"host_ids": [two, three]})).await.ok(200);
    assert_eq!(all().await, [2, 1, 1]);
    let kept = fleet.put(&path, json!({"retention": null})).await.ok(200);
    assert_eq!((&kept["retention"], &kept["excludes"]), (&Value::Null, &json!(["*.tmp"])));
    assert_eq!(all().await, [2, 2, 2]);
    // Nothing that an agent must know changed.
    fleet.put(&path, json!({})).await.ok(200);
    assert_eq!(all().await, [2, 2, 2]);
    fleet.delete(&path, Value::Null).await.ok(204);
    assert_eq!(all().await, [2, 3, 3]);
    fleet.get(&path).await.is_refused(404, "not_found", None);
    assert_eq!(fleet.audited().await[0], "plan.delete");
}

#[tokio::test]
async fn what_does_not_fit_is_refused_at_its_field() {
    let fleet = Fleet::new().await;
    let repository = fleet.repository("nas").await;
    let nobody = "00000000-0000-7000-8000-000000000000";
    let good = json!({"name": "etc", "repository_id": repository, "paths": ["/etc"]});
    let with = |field: &str, value: Value| {
        let mut form = good.clone();
        form[field] = value;
        form
    };
    for (form, code, field) in [
        (with("name", json!("")), "invalid_input", "name"),
        (with("paths", json!([])), "invalid_input", "paths"),
        (with("paths", json!(["etc"])), "invalid_input", "paths"),
        (with("excludes", json!([""])), "invalid_input", "excludes"),
        (with("tags", json!(["a,b"])), "invalid_input", "tags"),
        (with("tags", json!(["plan:x"])), "invalid_input", "tags"),
        (with("tags", json!(["run:x"])), "invalid_input", "tags"),
        (with("retention", json!({})), "retention_empty", "retention"),
        (with("retention", json!({"keep_last": 0})), "retention_empty", "retention"),
        (with("retention", json!({"keep_within": "x"})), "invalid_input", "retention.keep_within"),
        (with("cron", json!("61 * * * *")), "invalid_input", "cron"),
        (with("cron", json!("")), "invalid_input", "cron"),
        (with("repository_id", json!(nobody)), "repository_unknown", "repository_id"),
        (with("host_ids", json!([nobody])), "invalid_input", "host_ids"),
    ] {
        let answer = fleet.post("/api/plans", form.clone()).await;
        assert_eq!(answer.refused(422), (code.to_owned(), Some(field.to_owned())), "{form}");
    }
    let id = id_of(&fleet.post("/api/plans", good.clone()).await.ok(201));
    fleet.post("/api/plans", good.clone()).await.is_refused(409, "conflict", Some("name"));
    let emptied = fleet.put(&format!("/api/plans/{id}"), json!({"paths": []})).await;
    emptied.is_refused(422, "invalid_input", Some("paths"));
    let emptied = fleet.put(&format!("/api/plans/{id}"), json!({"retention": {}})).await;
    emptied.is_refused(422, "retention_empty", Some("retention"));
}

#[tokio::test]
async fn the_times_of_a_plan_reach_its_hosts_and_can_be_taken_away() {
    let fleet = Fleet::new().await;
    let host = fleet.host("one").await;
    let repository = fleet.repository("nas").await;
    let form = json!({"name": "etc", "repository_id": repository, "paths": ["/etc"],
        "cron": " 0 2 * * * ", "host_ids": [host]});
    let created = fleet.post("/api/plans", form).await.ok(201);
    assert_eq!(created["cron"], "0 2 * * *");
    let path = format!("/api/plans/{}", id_of(&created));
    let mut tx = fleet.manager.db().begin().await.unwrap();
    let sources = crate::desired::Sources::read(&mut tx, host).await.unwrap();
    drop(tx);
    assert_eq!(sources.plans[0].cron, "0 2 * * *");
    assert_eq!(generation(&fleet, host).await, 1);
    let word = fleet.put(&path, json!({"cron": "@daily"})).await.ok(200);
    assert_eq!(word["cron"], "@daily");
    assert_eq!(generation(&fleet, host).await, 2);
    let refused = fleet.put(&path, json!({"cron": "@reboot"})).await;
    refused.is_refused(422, "invalid_input", Some("cron"));
    let by_hand = fleet.put(&path, json!({"cron": null})).await.ok(200);
    assert_eq!(by_hand["cron"], Value::Null);
    assert_eq!(generation(&fleet, host).await, 3);
}

#[tokio::test]
async fn the_next_times_are_those_of_the_machines_own_clock() {
    let fleet = Fleet::new().await;
    let host = fleet.host("one").await;
    let zone = |zone: &'static str| {
        let db = fleet.manager.db();
        async move {
            let mut tx = db.begin().await.unwrap();
            sqlx::query("UPDATE hosts SET time_zone = ?")
                .bind(zone)
                .execute(&mut *tx)
                .await
                .unwrap();
            tx.commit().await.unwrap();
        }
    };
    let times = |cron: &'static str| {
        let path = format!("/api/plans/times?cron={cron}&host_id={host}");
        let fleet = &fleet;
        async move { fleet.get(&path).await }
    };
    fleet.clock.set("2026-03-28T12:00:00Z".parse().unwrap());
    zone("Europe/Berlin").await;
    // The night in which two o'clock is left out.
    assert_eq!(
        times("30%202%20*%20*%20*").await.ok(200),
        json!({"time_zone": "Europe/Berlin", "times": [
            "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00", "2026-03-31T02:30:00+02:00",
            "2026-04-01T02:30:00+02:00", "2026-04-02T02:30:00+02:00"]})
    );
    zone("Nowhere/Land").await;
    assert_eq!(times("@yearly").await.ok(200)["times"][0], "2027-01-01T00:00:00+00:00");
    times("never").await.is_refused(422, "invalid_input", Some("cron"));
    let own = fleet.get("/api/plans/times?cron=@daily").await.ok(200);
    assert_eq!(own["times"].as_array().unwrap().len(), 5);
    let nobody = "00000000-0000-7000-8000-000000000000";
    let path = format!("/api/plans/times?cron=@daily&host_id={nobody}");
    fleet.get(&path).await.is_refused(404, "not_found", None);
}
