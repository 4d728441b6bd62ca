//! The store through the API: its folder, its repositories, its trash.

use super::{Fleet, id_of};
use crate::{
    db::{
        logs,
        runs::{self as rows, Reported},
    },
    desired::Sources,
    store::{
        Refused,
        object::{Kind, Name, Object},
        trash,
    },
};
use bytes::Bytes;
use futures_util::stream;
use jiff::SignedDuration;
use protocol::{
    HostId, JobFinished, JobKind, JobStarted, JobStatus, LogLine, LogStream, RepositoryId, RunId,
};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::{convert::Infallible, fs};

/// A fleet with a store, a plan that goes there, and a host that has it.
async fn stored() -> (Fleet, HostId, RepositoryId) {
    let fleet = Fleet::new().await;
    let folder = fleet.dir.path().join("store");
    fleet.put("/api/store", json!({ "folder": folder })).await.ok(200);
    let host = fleet.host("atlas").await;
    let form = json!({ "name": "all", "paths": ["/etc"], "host_ids": [host] });
    fleet.post("/api/plans", form).await.ok(201);
    let store = fleet.get("/api/store").await.ok(200);
    let repository = store["repositories"][0]["repository_id"].as_str().unwrap().parse().unwrap();
    (fleet, host, repository)
}

/// Puts a file into the repository.
async fn upload(fleet: &Fleet, repository: RepositoryId, content: &'static str) {
    let pass = fleet.manager.store().issue(repository).unwrap().unwrap();
    let visitor = fleet.manager.store().let_in(repository, &pass.password, true).await.unwrap();
    let visitor = visitor.unwrap();
    visitor.create().await.unwrap();
    let hash = data_encoding::HEXLOWER.encode(digest(&SHA256, content.as_bytes()).as_ref());
    let object = Object::File(Kind::Index, Name::parse(&hash).unwrap());
    let body = stream::iter([Ok::<_, Infallible>(Bytes::from_static(content.as_bytes()))]);
    visitor.put(object, None, body).await.unwrap();
}

#[tokio::test]
async fn without_a_folder_no_plan_goes_to_the_store() {
    let fleet = Fleet::new().await;
    let store = fleet.get("/api/store").await.ok(200);
    assert_eq!(store["state"], "homeless");
    assert_eq!(store["default_folder"], json!(fleet.dir.path().join("store")));
    let form = json!({ "name": "all", "paths": ["/etc"] });
    let refused = fleet.post("/api/plans", form).await;
    refused.is_refused(422, "store_homeless", Some("repository_id"));
}

#[tokio::test]
async fn a_folder_is_chosen_once_and_only_the_store_itself_can_take_its_place() {
    let fleet = Fleet::new().await;
    let at = |name: &str| fleet.dir.path().join(name);
    for wrong in ["", "relative/folder", "/proc/no/such"] {
        let refused = fleet.put("/api/store", json!({ "folder": wrong })).await;
        refused.is_refused(422, "invalid_input", Some("folder"));
    }
    fleet.put("/api/store", json!({ "folder": at("one") })).await.ok(200);
    let refused = fleet.put("/api/store", json!({ "folder": at("two") })).await;
    refused.is_refused(422, "invalid_input", Some("folder"));
    assert!(!at("two").exists());
    fs::rename(at("one"), at("two")).unwrap();
    assert_eq!(fleet.get("/api/store").await.ok(200)["state"], "away");
    let moved = fleet.put("/api/store", json!({ "folder": at("two") })).await.ok(200);
    assert_eq!(
        (moved["state"].clone(), moved["folder"].clone()),
        (json!("here"), json!(at("two")))
    );
}

#[tokio::test]
async fn each_host_of_a_plan_gets_one_repository_of_its_own() {
    let (fleet, host, repository) = stored().await;
    let other = fleet.host("boreas").await;
    let form = json!({ "name": "more", "paths": ["/srv"], "host_ids": [host, other] });
    let plan = fleet.post("/api/plans", form).await.ok(201);
    assert_eq!(plan["repository_id"], Value::Null);
    let store = fleet.get("/api/store").await.ok(200);
    assert_eq!(store["repositories"].as_array().unwrap().len(), 2);

    let mut db = fleet.manager.db().read().acquire().await.unwrap();
    let sources = Sources::read(&mut db, host).await.unwrap();
    let used: Vec<_> = sources.plans.iter().map(|plan| plan.repository_id).collect();
    assert_eq!(used, [Some(repository); 2]);
    let only: Vec<_> = sources.repositories.iter().map(|it| it.url.clone()).collect();
    assert_eq!(only, [format!("store:{repository}")]);

    let shown = fleet.get(&format!("/api/hosts/{host}")).await.ok(200);
    assert_eq!(shown["repository_ids"], json!([repository]));
    let next = &shown["next_action"];
    assert_eq!(
        (&next["action"], &next["repository_id"]),
        (&json!("initialise"), &json!(repository))
    );
    let listed = fleet.get("/api/hosts").await.ok(200);
    assert_eq!(listed[0]["next_action"], shown["next_action"]);
}

#[tokio::test]
async fn a_hosts_own_repository_is_nobody_elses_and_is_not_edited() {
    let (fleet, host, repository) = stored().await;
    let form =
        json!({ "name": "b", "repository_id": repository, "paths": ["/srv"], "host_ids": [] });
    let refused = fleet.post("/api/plans", form).await;
    refused.is_refused(422, "invalid_input", Some("repository_id"));
    let path = format!("/api/repositories/{repository}");
    let refused = fleet.put(&path, json!({ "url": "rest:https://elsewhere/" })).await;
    refused.is_refused(409, "conflict", None);
    fleet.delete(&path, json!({ "confirm": "atlas on this computer" })).await.refused(409);
    let runs = format!("/api/hosts/{host}/runs");
    let prune = json!({ "kind": "prune", "repository_id": repository, "confirm": "boreas" });
    fleet.post(&runs, prune).await.is_refused(422, "not_confirmed", Some("confirm"));
}

#[tokio::test]
async fn a_plan_moves_from_the_store_and_back() {
    let (fleet, host, _) = stored().await;
    let elsewhere = fleet.repository("nas").await;
    let plan = id_of(&fleet.get("/api/plans").await.ok(200)[0]);
    let path = format!("/api/plans/{plan}");
    fleet.put(&path, json!({ "repository_id": elsewhere })).await.ok(200);
    let shown = fleet.get(&format!("/api/hosts/{host}")).await.ok(200);
    assert_eq!(shown["repository_ids"], json!([elsewhere]));
    fleet.put(&path, json!({ "name": "renamed" })).await.ok(200);
    assert_eq!(fleet.get(&path).await.ok(200)["repository_id"], json!(elsewhere));
    fleet.put(&path, json!({ "repository_id": null })).await.ok(200);
    assert_eq!(fleet.get(&path).await.ok(200)["repository_id"], Value::Null);
}

#[tokio::test]
async fn what_was_deleted_is_listed_and_comes_back() {
    let (fleet, _, repository) = stored().await;
    let place = fleet.manager.store().place().await.unwrap();
    let root = place.repository(repository);
    let snapshot = Object::File(Kind::Snapshots, Name::parse(&"a".repeat(64)).unwrap());
    let file = root.join(snapshot.path());
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "a snapshot").unwrap();
    let pass = fleet.manager.store().issue(repository).unwrap().unwrap();
    let bin = trash::folder(&place, repository, pass.at);
    trash::throw(&root, &snapshot, &bin).unwrap();
    // Pruned later than the snapshot that needs it.
    let pack = Object::File(Kind::Data, Name::parse(&"b".repeat(64)).unwrap());
    let data = root.join(pack.path());
    fs::create_dir_all(data.parent().unwrap()).unwrap();
    fs::write(&data, "a pack").unwrap();
    let later = pass.at + SignedDuration::from_secs(1);
    trash::throw(&root, &pack, &trash::folder(&place, repository, later)).unwrap();

    let store = fleet.get("/api/store").await.ok(200);
    let deletion = &store["repositories"][0]["deletions"][1];
    assert_eq!((&deletion["files"], &deletion["snapshots"]), (&json!(1), &json!(1)), "{store}");
    let path = format!("/api/store/repositories/{repository}/bring-back");
    let body = json!({ "at": deletion["at"] });
    // The operation that deletes still goes on.
    fleet.post(&path, body.clone()).await.is_refused(409, "conflict", None);
    drop(pass);
    assert_eq!(fleet.post(&path, body.clone()).await.ok(200)["files"], 2);
    assert_eq!(fs::read_to_string(file).unwrap(), "a snapshot");
    assert_eq!(fs::read_to_string(data).unwrap(), "a pack");
    fleet.post(&path, body).await.is_refused(404, "not_found", None);
    assert_eq!(fleet.audited().await[0], "store.bring_back");
}

#[tokio::test]
async fn a_limit_that_what_is_there_exceeds_is_refused() {
    let (fleet, _, repository) = stored().await;
    upload(&fleet, repository, "12345678").await;
    let path = format!("/api/store/repositories/{repository}");
    for wrong in [0, 7] {
        let refused = fleet.put(&path, json!({ "quota_bytes": wrong })).await;
        refused.is_refused(422, "invalid_input", Some("quota_bytes"));
    }
    let store = fleet.put(&path, json!({ "quota_bytes": 8 })).await.ok(200);
    assert_eq!(store["repositories"][0]["quota_bytes"], 8);
    // Nobody knows what a store that is away holds, and a limit may be set all the same.
    let folder = fleet.dir.path().join("store");
    fs::rename(&folder, folder.with_extension("away")).unwrap();
    fleet.put(&path, json!({ "quota_bytes": 7 })).await.ok(200);
}

#[tokio::test]
async fn what_is_free_is_told_before_a_folder_is_chosen() {
    let fleet = Fleet::new().await;
    let space =
        async |folder: &str| fleet.get(&format!("/api/store/space?folder={folder}")).await.ok(200);
    let there = space(&fleet.dir.path().display().to_string()).await;
    assert!(there["free_bytes"].as_u64().unwrap() <= there["total_bytes"].as_u64().unwrap());
    let not_made = space(&fleet.dir.path().join("not/made").display().to_string()).await;
    assert_eq!(not_made["total_bytes"], there["total_bytes"]);
    for typing in ["", "not/whole"] {
        assert_eq!(space(typing).await, json!({ "total_bytes": null, "free_bytes": null }));
    }
}

#[tokio::test]
async fn each_day_has_one_size_of_the_store() {
    let (fleet, _, repository) = stored().await;
    let store = fleet.manager.store();
    store.note_size(&[repository]).await.unwrap();
    fleet.clock.advance(SignedDuration::from_hours(11));
    upload(&fleet, repository, "12345678").await;
    store.note_size(&[repository]).await.unwrap();
    let shown = fleet.get("/api/store").await.ok(200);
    assert_eq!(shown["sizes"], json!([{ "at": "2026-11-23T23:00:00Z", "bytes": 8 }]));
    fleet.clock.advance(SignedDuration::from_hours(11));
    store.note_size(&[repository]).await.unwrap();
    let shown = fleet.get("/api/store").await.ok(200);
    assert_eq!(shown["sizes"].as_array().unwrap().len(), 2, "{shown}");
    assert_eq!(shown["sizes"][1]["at"], "2026-11-24T10:00:00Z");

    let folder = fleet.dir.path().join("store");
    fs::rename(&folder, folder.with_extension("away")).unwrap();
    assert!(matches!(store.note_size(&[repository]).await, Err(Refused::Away)));
}

#[tokio::test]
async fn what_a_machine_that_left_has_stays_and_is_told() {
    let (fleet, host, repository) = stored().await;
    fleet.delete(&format!("/api/hosts/{host}"), json!({ "confirm": "atlas" })).await.ok(200);
    let store = fleet.get("/api/store").await.ok(200);
    let kept = &store["repositories"][0];
    assert_eq!(kept["repository_id"], json!(repository));
    assert_eq!((&kept["host_name"], &kept["has_left"]), (&json!("atlas"), &json!(true)));
}

#[tokio::test]
async fn a_limit_is_set_and_lifted() {
    let (fleet, _, repository) = stored().await;
    let path = format!("/api/store/repositories/{repository}");
    for quota in [json!(1_000_000), Value::Null] {
        let store = fleet.put(&path, json!({ "quota_bytes": quota })).await.ok(200);
        assert_eq!(store["repositories"][0]["quota_bytes"], quota);
    }
    let elsewhere = fleet.repository("nas").await;
    let path = format!("/api/store/repositories/{elsewhere}");
    fleet.put(&path, json!({ "quota_bytes": 1 })).await.is_refused(404, "not_found", None);
}

#[tokio::test]
async fn what_the_manager_does_itself_no_machine_reports_on() {
    let (fleet, host, repository) = stored().await;
    let runs = format!("/api/hosts/{host}/runs");
    let prune = json!({ "kind": "prune", "repository_id": repository, "dry_run": true });
    let run = fleet.post(&runs, prune).await.ok(201);
    assert_eq!(run["dispatch"]["words"], "waiting for its turn on this computer");
    let id: RunId = id_of(&run).parse().unwrap();
    let now = fleet.manager.now();
    let started = JobStarted {
        job_id: id,
        kind: JobKind::Prune,
        started_at: now,
        schedule_id: None,
        repository_id: Some(repository),
        command: None,
        slot: None,
        attempt: None,
    };
    let finished = JobFinished {
        job_id: id,
        status: JobStatus::Succeeded,
        exit_code: 0,
        finished_at: now,
        stats: None,
        error: None,
        code: None,
        guidance: None,
        snapshot_id: None,
        unreadable: Vec::new(),
        unreadable_count: 0,
        log_lines: 0,
        restore: None,
    };
    let payload = "all is well".to_owned();
    let line = LogLine { job_id: id, seq: 1, ts: now, stream: LogStream::Stdout, payload };
    let mut tx = fleet.manager.db().begin().await.unwrap();
    let told = rows::apply_started(
        &mut tx,
        &rows::Told::from([((host, started.job_id), started.clone())]),
        now,
    )
    .await
    .unwrap();
    assert_eq!(told.into_values().collect::<Vec<_>>(), [Reported::Foreign]);
    let told = rows::apply_finished(
        &mut tx,
        &rows::Told::from([((host, finished.job_id), finished.clone())]),
        now,
    )
    .await
    .unwrap();
    assert_eq!(told.into_values().collect::<Vec<_>>(), [Reported::Foreign]);
    assert!(!logs::insert(&mut tx, Some(host), &line).await.unwrap());
    assert!(logs::insert(&mut tx, None, &line).await.unwrap());
    tx.commit().await.unwrap();

    let path = format!("/api/runs/{id}/cancel");
    let cancelled = fleet.post(&path, json!({})).await.ok(200);
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(cancelled["error"], "Cancelled before it began; nothing was done.");
}
