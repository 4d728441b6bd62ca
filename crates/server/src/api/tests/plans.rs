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
async fn what_a_machine_could_not_be_told_is_refused_and_can_be_taken_away() {
    let fleet = Fleet::new().await;
    let host = fleet.host("web-1").await;
    let repository = fleet.repository("nas").await;
    let form = |name: &str| {
        json!({"name": name, "repository_id": repository, "paths": ["/srv"], "host_ids": [host],
            "excludes": vec!["x".repeat(4000); 150]})
    };
    let one = format!("/api/plans/{}", id_of(&fleet.post("/api/plans", form("one")).await.ok(201)));
    fleet.post("/api/plans", form("two")).await.is_refused(422, "plans_too_large", None);
    let long = json!({"excludes": vec!["x".repeat(4000); 220]});
    fleet.put(&one, long).await.is_refused(422, "plans_too_large", None);
    assert_eq!(generation(&fleet, host).await, 1, "nothing was changed");
    // Nor does it come by a tag.
    let mut tagged = form("two");
    (tagged["host_ids"], tagged["host_tags"]) = (json!([]), json!(["web"]));
    fleet.post("/api/plans", tagged).await.ok(201);
    let tags = format!("/api/hosts/{host}/tags");
    let web = json!({"tags": ["web"]});
    fleet.put(&tags, web.clone()).await.is_refused(422, "plans_too_large", None);
    fleet.delete(&one, Value::Null).await.ok(204);
    fleet.put(&tags, web).await.ok(200);
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
        (with("host_tags", json!(["a b"])), "invalid_input", "host_tags"),
        (with("presets", json!(["everything"])), "invalid_input", "presets"),
        (with("presets", json!(["trash", "trash"])), "invalid_input", "presets"),
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

#[tokio::test]
async fn the_options_of_a_plan_reach_its_hosts_and_can_be_taken_away() {
    let fleet = Fleet::new().await;
    let host = fleet.host("one").await;
    let repository = fleet.repository("nas").await;
    let options = json!({"one_file_system": true, "exclude_caches": true, "limit_upload_kib": 1024,
        "limit_download_kib": 2048, "read_concurrency": 4, "retry_lock_minutes": 30,
        "timeout_minutes": 720, "stall_minutes": 60, "not_on_battery": true, "not_metered": true,
        "hooks": {"before": "dump-database", "on_success": "tell", "on_failure": "tell",
            "after": "clean", "timeout_seconds": 600}});
    let form = json!({"name": "etc", "repository_id": repository, "paths": ["/etc"],
        "options": options, "host_ids": [host]});
    let created = fleet.post("/api/plans", form).await.ok(201);
    assert_eq!(created["options"], options);
    let path = format!("/api/plans/{}", id_of(&created));
    assert_eq!(fleet.get(&path).await.ok(200), created);
    let compiled = || async {
        let mut tx = fleet.manager.db().begin().await.unwrap();
        let sources = crate::desired::Sources::read(&mut tx, host).await.unwrap();
        sources.plans[0].options.clone()
    };
    assert_eq!(serde_json::to_value(compiled().await).unwrap(), options);
    assert_eq!(generation(&fleet, host).await, 1);
    // What is not named stays, and another document takes the place of the whole.
    fleet.put(&path, json!({"enabled": true})).await.ok(200);
    assert_eq!(generation(&fleet, host).await, 1);
    let less = fleet.put(&path, json!({"options": {"read_concurrency": 2}})).await.ok(200);
    assert_eq!(less["options"]["read_concurrency"], 2);
    assert_eq!(less["options"]["hooks"], json!({}));
    assert_eq!(generation(&fleet, host).await, 2);
    fleet.put(&path, json!({"options": null})).await.ok(200);
    assert_eq!(compiled().await, protocol::PlanOptions::default());
    assert_eq!(generation(&fleet, host).await, 3);
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused_at_their_field() {
    let fleet = Fleet::new().await;
    let repository = fleet.repository("nas").await;
    for (options, field) in [
        (json!({"limit_upload_kib": 0}), "options.limit_upload_kib"),
        (json!({"limit_download_kib": 0}), "options.limit_download_kib"),
        (json!({"limit_download_kib": 4_000_000_000_u32}), "options.limit_download_kib"),
        (json!({"read_concurrency": 0}), "options.read_concurrency"),
        (json!({"read_concurrency": 129}), "options.read_concurrency"),
        (json!({"retry_lock_minutes": 0}), "options.retry_lock_minutes"),
        (json!({"retry_lock_minutes": 1441}), "options.retry_lock_minutes"),
        (json!({"timeout_minutes": 0}), "options.timeout_minutes"),
        (json!({"timeout_minutes": 43_201}), "options.timeout_minutes"),
        (json!({"stall_minutes": 0}), "options.stall_minutes"),
        (json!({"stall_minutes": 1441}), "options.stall_minutes"),
        (json!({"hooks": {"before": "a/b"}}), "options.hooks.before"),
        (json!({"hooks": {"on_success": "-x"}}), "options.hooks.on_success"),
        (json!({"hooks": {"on_failure": ".x"}}), "options.hooks.on_failure"),
        (json!({"hooks": {"after": ""}}), "options.hooks.after"),
        (json!({"hooks": {"after": {"text": " "}}}), "options.hooks.after"),
        (json!({"hooks": {"after": "x", "timeout_seconds": 0}}), "options.hooks.timeout_seconds"),
    ] {
        let form = json!({"name": "etc", "repository_id": repository, "paths": ["/etc"],
            "options": options});
        let answer = fleet.post("/api/plans", form).await;
        answer.is_refused(422, "invalid_input", Some(field));
    }
    let form = json!({"name": "etc", "repository_id": repository, "paths": ["/etc"],
        "options": {"nice": 19}});
    fleet.post("/api/plans", form).await.refused(422);
    assert_eq!(fleet.get("/api/plans").await.ok(200), json!([]));
}

#[tokio::test]
async fn a_plan_keeps_the_names_of_its_presets_and_its_hosts_get_the_patterns() {
    let fleet = Fleet::new().await;
    let host = fleet.host("one").await;
    let repository = fleet.repository("nas").await;
    let presets = fleet.get("/api/plans/presets").await.ok(200);
    let trash = presets.as_array().unwrap().iter().find(|it| it["name"] == "trash").unwrap();
    let form = json!({"name": "etc", "repository_id": repository, "paths": ["/etc"],
        "excludes": ["*.tmp"], "presets": ["trash"], "host_ids": [host]});
    let created = fleet.post("/api/plans", form).await.ok(201);
    assert_eq!((&created["presets"], &created["excludes"]), (&json!(["trash"]), &json!(["*.tmp"])));
    let before = generation(&fleet, host).await;
    let mut tx = fleet.manager.db().begin().await.unwrap();
    let sources = crate::desired::Sources::read(&mut tx, host).await.unwrap();
    drop(tx);
    let state = crate::desired::compile(
        &sources,
        fleet.manager.vault(),
        protocol::Generation { incarnation: protocol::Incarnation::new(0, &[7; 10]), n: 1 },
        sources.digest(),
    );
    let sent = state.unwrap().schedules.schedules[0].excludes.clone();
    assert_eq!(sent[0], "*.tmp");
    assert_eq!(json!(sent[1..]), trash["linux"]);
    let path = format!("/api/plans/{}", id_of(&created));
    fleet.put(&path, json!({"presets": []})).await.ok(200);
    assert_eq!(generation(&fleet, host).await, before.as_u64().unwrap() + 1);
}

#[tokio::test]
async fn a_change_based_on_an_earlier_plan_is_refused_and_changes_nothing() {
    let fleet = Fleet::new().await;
    let host = fleet.host("one").await;
    let repository = fleet.repository("nas").await;
    let id = fleet.plan("etc", &repository, &[host]).await;
    let path = format!("/api/plans/{id}");
    let opened = fleet.get(&path).await.ok(200)["revision"].clone();
    let other = json!({"paths": ["/srv"], "revision": opened});
    let saved = fleet.put(&path, other).await.ok(200);
    assert_ne!(saved["revision"], opened);
    assert_eq!(fleet.get(&path).await.ok(200), saved);
    let mine = json!({"paths": ["/home"], "host_ids": [], "revision": opened});
    fleet.put(&path, mine.clone()).await.is_refused(409, "stale", None);
    assert_eq!(fleet.get(&path).await.ok(200), saved);
    // Who has seen what it is now may change it, and so may who does not care.
    let mut again = mine;
    again["revision"] = saved["revision"].clone();
    fleet.put(&path, again).await.ok(200);
    fleet.put(&path, json!({"enabled": false})).await.ok(200);
}
