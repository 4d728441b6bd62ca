//! Runs through the router.

use super::{Answer, Fleet, assert_answer, id_of};
use crate::db::{
    logs,
    runs::{self as rows, Dispatch},
    snapshots,
};
use protocol::{HostId, JobProgress, LogLine, LogStream, RunId, Snapshot};
use serde_json::{Value, json};

struct Ready {
    fleet: Fleet,
    host: HostId,
    repository: String,
    plan: String,
}

impl Ready {
    async fn new() -> Self {
        let fleet = Fleet::new().await;
        let host = fleet.host("web-1").await;
        let repository = fleet.repository("nas").await;
        let plan = fleet.plan("etc", &repository, &[host]).await;
        Self { fleet, host, repository, plan }
    }

    async fn start(&self, form: Value) -> Answer {
        self.fleet.post(&format!("/api/hosts/{}/runs", self.host), form).await
    }

    fn backup(&self) -> Value {
        json!({"kind": "backup", "plan_id": self.plan})
    }

    fn on_repository(&self, kind: &str) -> Value {
        json!({"kind": kind, "repository_id": self.repository})
    }
}

#[tokio::test]
async fn a_run_that_waits_is_not_asked_for_twice() {
    let it = Ready::new().await;
    let run = it.start(it.backup()).await.ok(201);
    assert_answer!(run);
    let again = it.start(it.backup()).await;
    again.is_refused(409, "conflict", None);
    assert_eq!(again.json()["run_id"], run["id"]);
    // Another kind is another run.
    it.start(it.on_repository("check")).await.ok(201);
    let cancelled = it.fleet.post(&format!("/api/runs/{}/cancel", id_of(&run)), json!({})).await;
    assert_eq!(cancelled.ok(200)["status"], "cancelled");
    it.start(it.backup()).await.ok(201);
    assert_eq!(it.fleet.audited().await[..2], ["run.start", "run.cancel"]);
}

#[tokio::test]
async fn many_requests_at_once_make_one_run() {
    let it = Ready::new().await;
    let answers = futures_util::future::join_all((0..16).map(|_| it.start(it.backup()))).await;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    let refused = answers.iter().filter(|answer| answer.status == 409).count();
    assert_eq!((made, refused), (1, 15));
    assert_eq!(it.fleet.get("/api/runs").await.ok(200).as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn every_kind_is_taken_and_keeps_what_it_was_asked_for() {
    let it = Ready::new().await;
    let snapshot = "a".repeat(64);
    let mut tx = it.fleet.manager.db().begin().await.unwrap();
    let stored = Snapshot {
        id: snapshot.clone(),
        short_id: "aaaaaaaa".to_owned(),
        time: it.fleet.manager.now(),
        hostname: "web-1".to_owned(),
        paths: vec!["/etc".to_owned()],
        tags: Vec::new(),
        size_bytes: None,
        file_count: None,
        added_bytes: None,
    };
    snapshots::add(&mut tx, it.repository.parse().unwrap(), &[stored]).await.unwrap();
    tx.commit().await.unwrap();
    let plan = &it.plan;
    for form in [
        it.backup(),
        it.on_repository("init"),
        json!({"kind": "forget", "plan_id": plan, "dry_run": true}),
        json!({"kind": "prune", "repository_id": it.repository, "dry_run": true}),
        json!({"kind": "check", "repository_id": it.repository, "read_data": true}),
        it.on_repository("unlock"),
        it.on_repository("stats"),
        json!({"kind": "restore", "repository_id": it.repository, "snapshot_id": snapshot,
            "include": ["/etc/hosts"]}),
    ] {
        let run = it.start(form.clone()).await.ok(201);
        for (name, value) in form.as_object().unwrap() {
            let option = run["options"].get(name);
            let told = option.unwrap_or(&run[name]);
            assert_eq!(told, value, "{form}");
        }
        assert_eq!(run["repository_id"], it.repository, "{form}");
        assert_eq!(run["expires_at"], "2026-11-24T12:00:00Z");
    }
    let restore = json!({"kind": "restore", "repository_id": it.repository,
        "snapshot_id": snapshot, "include": ["/etc/passwd"]});
    it.start(restore.clone()).await.ok(201);
    it.start(restore).await.is_refused(409, "conflict", None);
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let it = Ready::new().await;
    let nobody = "00000000-0000-7000-8000-000000000000";
    let other = it.fleet.repository("other").await;
    let restore = |snapshot: &str| {
        json!({"kind": "restore", "repository_id": it.repository,
        "snapshot_id": snapshot, "include": []})
    };
    for (form, code, field) in [
        (json!({"kind": "shell"}), "invalid_input", None),
        (json!({"kind": "backup"}), "invalid_input", Some("plan_id")),
        (json!({"kind": "backup", "plan_id": nobody}), "plan_unknown", Some("plan_id")),
        (
            json!({"kind": "check", "repository_id": other}),
            "repository_unknown",
            Some("repository_id"),
        ),
        (restore("latest"), "snapshot_unknown", Some("snapshot_id")),
        (
            json!({"kind": "backup", "plan_id": it.plan, "expires_in_seconds": 1}),
            "invalid_input",
            Some("expires_in_seconds"),
        ),
    ] {
        let answer = it.start(form.clone()).await;
        let expected = (code.to_owned(), field.map(str::to_owned));
        assert_eq!(answer.refused(422), expected, "{form}");
    }
    it.fleet.put(&format!("/api/plans/{}", it.plan), json!({"enabled": false})).await.ok(200);
    it.start(it.backup()).await.is_refused(409, "conflict", None);
}

#[tokio::test]
async fn deleting_wants_the_name_and_something_to_keep() {
    let it = Ready::new().await;
    for form in [json!({"kind": "forget", "plan_id": it.plan}), it.on_repository("prune")] {
        it.start(form.clone()).await.is_refused(422, "not_confirmed", Some("confirm"));
        let mut confirmed = form;
        confirmed["confirm"] = json!("web-1");
        it.start(confirmed).await.ok(201);
    }
    it.fleet.put(&format!("/api/plans/{}", it.plan), json!({"retention": null})).await.ok(200);
    let form = json!({"kind": "forget", "plan_id": it.plan, "dry_run": true});
    it.start(form).await.is_refused(422, "retention_empty", None);
}

#[tokio::test]
async fn machines_do_not_delete_in_an_append_only_repository() {
    let it = Ready::new().await;
    let path = format!("/api/repositories/{}", it.repository);
    it.fleet.put(&path, json!({"append_only": true})).await.ok(200);
    for form in [
        json!({"kind": "forget", "plan_id": it.plan, "confirm": "web-1"}),
        json!({"kind": "prune", "repository_id": it.repository, "confirm": "web-1"}),
    ] {
        it.start(form).await.is_refused(409, "repository_append_only", None);
    }
    // What an agent's own runs left behind is its own to remove.
    it.start(it.on_repository("unlock")).await.ok(201);
    it.start(it.backup()).await.ok(201);
    it.start(it.on_repository("check")).await.ok(201);
}

#[tokio::test]
async fn the_way_of_a_run_is_told_in_words_and_cancelling_waits_for_the_machine() {
    let it = Ready::new().await;
    let id = id_of(&it.start(it.backup()).await.ok(201));
    let run: RunId = id.parse().unwrap();
    let path = format!("/api/runs/{id}");
    let words = || async { it.fleet.get(&path).await.ok(200)["dispatch"]["words"].clone() };
    assert_eq!(words().await, "waiting for the machine");
    for (from, to, expected) in [
        (Dispatch::Waiting, Dispatch::Sent, "sent, no answer yet"),
        (Dispatch::Sent, Dispatch::Accepted, "accepted"),
    ] {
        let mut tx = it.fleet.manager.db().begin().await.unwrap();
        rows::advance(&mut tx, run, from, to).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(words().await, expected);
    }
    for _ in 0..2 {
        let asked = it.fleet.post(&format!("{path}/cancel"), json!({})).await.ok(200);
        assert_eq!(asked["status"], "queued");
        assert_eq!(asked["cancel_requested_at"], "2026-11-23T12:00:00Z");
    }
    let audited = it.fleet.audited().await;
    assert_eq!(audited.iter().filter(|action| *action == "run.cancel").count(), 1);
}

#[tokio::test]
async fn runs_are_found_by_what_they_are() {
    let it = Ready::new().await;
    let mut ids = Vec::new();
    for kind in ["check", "stats", "init"] {
        it.fleet.clock.advance(jiff::SignedDuration::from_secs(1));
        ids.push(id_of(&it.start(it.on_repository(kind)).await.ok(201)));
    }
    it.fleet.post(&format!("/api/runs/{}/cancel", ids[0]), json!({})).await.ok(200);
    let found = async |query: String| -> Vec<usize> {
        let found = it.fleet.get(&format!("/api/runs?{query}")).await.ok(200);
        let found = found.as_array().unwrap().iter();
        found.map(|run| ids.iter().position(|id| run["id"] == **id).unwrap()).collect()
    };
    assert_eq!(found(String::new()).await, [2, 1, 0]);
    assert_eq!(found("open=true".to_owned()).await, [2, 1]);
    assert_eq!(found("open=false".to_owned()).await, [0]);
    assert_eq!(found("kind=stats".to_owned()).await, [1]);
    assert_eq!(found("limit=2".to_owned()).await, [2, 1]);
    assert_eq!(found(format!("before={}", ids[1])).await, [0]);
    assert_eq!(
        found(format!("repository_id={}&host_id={}", it.repository, it.host)).await.len(),
        3
    );
    assert!(found(format!("plan_id={}", it.plan)).await.is_empty());
}

#[tokio::test]
async fn a_log_comes_in_pages_and_as_text() {
    let it = Ready::new().await;
    let id = id_of(&it.start(it.backup()).await.ok(201));
    let run: RunId = id.parse().unwrap();
    let mut tx = it.fleet.manager.db().begin().await.unwrap();
    for seq in 1..=5 {
        let line = LogLine {
            job_id: run,
            seq,
            ts: it.fleet.manager.now(),
            stream: LogStream::Stdout,
            payload: format!("line {seq} \u{1b}[31mred"),
        };
        logs::insert(&mut tx, Some(it.host), &line).await.unwrap();
    }
    tx.commit().await.unwrap();
    let page = it.fleet.get(&format!("/api/runs/{id}/log?after_line=1&limit=2")).await.ok(200);
    assert_eq!((&page["last_line"], &page["is_complete"]), (&json!(3), &json!(false)));
    assert_eq!(page["lines"][0]["seq"], 2);
    let text = it.fleet.get(&format!("/api/runs/{id}/log.txt")).await;
    assert_eq!(text.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(text.text().lines().count(), 5);
    assert_eq!(text.text().lines().next(), Some("2026-11-23T12:00:00Z stdout line 1 red"));
}

#[tokio::test]
async fn the_log_of_a_run_that_never_began_says_why() {
    let it = Ready::new().await;
    let id = id_of(&it.start(it.backup()).await.ok(201));
    let path = format!("/api/runs/{id}/log.txt");
    assert_eq!(it.fleet.get(&path).await.text(), "");
    let end = rows::EndHere {
        status: protocol::JobStatus::Failed,
        code: protocol::Code::ResticMissing,
        error: "There is no restic on this machine.".to_owned(),
        guidance: Some("Install restic 0.17 or newer.".to_owned()),
    };
    let mut tx = it.fleet.manager.db().begin().await.unwrap();
    let now = it.fleet.manager.now();
    rows::finish_here(&mut tx, id.parse().unwrap(), &end, now).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(
        it.fleet.get(&path).await.text(),
        "2026-11-23T12:00:00Z event  It never began. There is no restic on this machine. \
         Install restic 0.17 or newer.\n"
    );
}

#[tokio::test]
async fn the_newest_progress_is_there_while_a_run_is_open() {
    let it = Ready::new().await;
    let id = id_of(&it.start(it.backup()).await.ok(201));
    it.fleet.manager.events().progress(JobProgress {
        job_id: id.parse().unwrap(),
        percent_done: 0.5,
        files_done: 1,
        total_files: 2,
        bytes_done: 3,
        total_bytes: 6,
        eta_seconds: 7,
        throughput_bps: 8,
        current_files: vec!["/etc/hosts".to_owned()],
        unreachable: None,
    });
    let path = format!("/api/runs/{id}");
    assert_eq!(it.fleet.get(&path).await.ok(200)["progress"]["percent_done"], 0.5);
    it.fleet.post(&format!("{path}/cancel"), json!({})).await.ok(200);
    assert_eq!(it.fleet.get(&path).await.ok(200)["progress"], Value::Null);
}
