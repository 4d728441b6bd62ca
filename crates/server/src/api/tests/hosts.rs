//! Hosts through the router.

use super::{Fleet, assert_answer};
use crate::db::{hosts as rows, repositories, runs};
use jiff::Timestamp;
use protocol::{
    Code, Hello, Hold, HostArch, HostId, HostOs, JobFinished, JobStatus, PROTOCOL_VERSION, RunId,
};
use serde_json::{Value, json};

async fn next_action(fleet: &Fleet, host: HostId) -> Value {
    let host = fleet.get(&format!("/api/hosts/{host}")).await.ok(200);
    let listed = fleet.get("/api/hosts").await.ok(200);
    let same = listed.as_array().unwrap().iter().find(|other| other["id"] == host["id"]);
    assert_eq!(same, Some(&host), "the list and the page say the same");
    host["next_action"].clone()
}

async fn finish(fleet: &Fleet, host: HostId, run: &str, status: JobStatus) {
    finish_with(fleet, host, run, status, None, fleet.manager.now()).await;
}

/// Ends a run as its agent would tell it.
pub async fn finish_with(
    fleet: &Fleet,
    host: HostId,
    run: &str,
    status: JobStatus,
    code: Option<Code>,
    finished_at: Timestamp,
) {
    let finished = JobFinished {
        job_id: run.parse().unwrap(),
        status,
        exit_code: 1,
        finished_at,
        stats: None,
        error: None,
        code,
        guidance: None,
        snapshot_id: None,
        unreadable: Vec::new(),
        unreadable_count: 0,
        log_lines: 0,
        restore: None,
    };
    let mut tx = fleet.manager.db().begin().await.unwrap();
    runs::apply_finished(
        &mut tx,
        &runs::Told::from([((host, finished.job_id), finished.clone())]),
        fleet.manager.now(),
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn the_row_offers_one_action_that_follows_what_happened() {
    let fleet = Fleet::new().await;
    let host = fleet.host("web-1").await;
    assert_eq!(next_action(&fleet, host).await, Value::Null);
    let repository = fleet.repository("nas").await;
    let plan = fleet.plan("etc", &repository, &[host]).await;
    let init = json!({"action": "initialise", "kind": "init", "repository_id": repository});
    assert_eq!(next_action(&fleet, host).await, init);

    let path = format!("/api/hosts/{host}/runs");
    let start = |kind: Value| async { super::id_of(&fleet.post(&path, kind).await.ok(201)) };
    let run = start(json!({"kind": "init", "repository_id": repository})).await;
    assert_eq!(next_action(&fleet, host).await, json!({"action": "view", "run_id": run}));
    finish(&fleet, host, &run, JobStatus::Failed).await;
    let retry = json!({"action": "retry", "kind": "init", "repository_id": repository,
        "run_id": run});
    assert_eq!(next_action(&fleet, host).await, retry);

    let mut tx = fleet.manager.db().begin().await.unwrap();
    let (id, now) = (repository.parse().unwrap(), fleet.manager.now());
    repositories::note_initialised(&mut tx, id, now).await.unwrap();
    tx.commit().await.unwrap();
    let run_now = json!({"action": "run_now", "kind": "backup", "plan_id": plan});
    assert_eq!(next_action(&fleet, host).await, run_now);
    for (status, is_retry) in [
        (JobStatus::Failed, true),
        (JobStatus::Interrupted, true),
        (JobStatus::Cancelled, false),
        (JobStatus::Partial, false),
        (JobStatus::Succeeded, false),
    ] {
        fleet.clock.advance(jiff::SignedDuration::from_secs(1));
        let run = start(json!({"kind": "backup", "plan_id": plan})).await;
        assert_eq!(next_action(&fleet, host).await["action"], "view");
        finish(&fleet, host, &run, status).await;
        let action = next_action(&fleet, host).await;
        assert_eq!(action["action"], if is_retry { "retry" } else { "run_now" }, "{status:?}");
        assert_eq!(action["plan_id"], plan);
    }
}

#[tokio::test]
async fn a_host_tells_what_it_is_and_whether_it_knows_its_plans() {
    let fleet = Fleet::new().await;
    let host = fleet.host("web-1").await;
    let repository = fleet.repository("nas").await;
    fleet.plan("etc", &repository, &[host]).await;
    let path = format!("/api/hosts/{host}");
    let view = fleet.get(&path).await.ok(200);
    assert_eq!(view["in_sync"], false);
    assert_answer!(view);
    let stored = rows::find(fleet.manager.db().read(), host).await.unwrap().unwrap();
    let digest = stored.desired_digest.unwrap();
    let mut tx = fleet.manager.db().begin().await.unwrap();
    rows::acknowledge(&mut tx, host, 1, &digest, fleet.manager.now()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(fleet.get(&path).await.ok(200)["in_sync"], true);
}

#[tokio::test]
async fn a_host_is_renamed_to_a_name_of_its_own() {
    let fleet = Fleet::new().await;
    let (one, _) = (fleet.host("one").await, fleet.host("two").await);
    let path = format!("/api/hosts/{one}");
    let rename = |name: &str| fleet.send("PATCH", &path, Some(json!({"name": name})));
    rename("Two").await.is_refused(409, "conflict", Some("name"));
    rename("a\u{202e}b").await.is_refused(422, "invalid_input", Some("name"));
    assert_eq!(rename("uno").await.ok(200)["name"], "uno");
    assert_eq!(fleet.audited().await, ["host.rename"]);
}

#[tokio::test]
async fn revoking_and_removing_want_the_name_and_end_open_runs_as_lost() {
    for (method, suffix, action) in
        [("POST", "/revoke", "host.revoke"), ("DELETE", "", "host.remove")]
    {
        let fleet = Fleet::new().await;
        let host = fleet.host("web-1").await;
        let repository = fleet.repository("nas").await;
        let plan = fleet.plan("etc", &repository, &[host]).await;
        let form = json!({"kind": "backup", "plan_id": plan});
        let run = fleet.post(&format!("/api/hosts/{host}/runs"), form.clone()).await.ok(201);
        let path = format!("/api/hosts/{host}{suffix}");
        for wrong in [json!({}), json!({"confirm": "web-2"}), json!({"confirm": ""})] {
            let answer = fleet.send(method, &path, Some(wrong)).await;
            answer.is_refused(422, "not_confirmed", Some("confirm"));
        }
        let left = fleet.send(method, &path, Some(json!({"confirm": "web-1"}))).await.ok(200);
        assert_eq!(left["rotate"][0]["repository_id"], repository);
        assert_eq!(left["lost_runs"], json!([run["id"]]));
        let run = fleet.get(&format!("/api/runs/{}", super::id_of(&run))).await.ok(200);
        assert_eq!((&run["status"], &run["host_name"]), (&json!("lost"), &json!("web-1")));
        assert_eq!(fleet.audited().await[0], action);
        let again = fleet.post(&format!("/api/hosts/{host}/runs"), form).await;
        let gone = method == "DELETE";
        let (status, code) = if gone { (404, "not_found") } else { (403, "host_revoked") };
        again.is_refused(status, code, None);
        assert_eq!(fleet.get("/api/hosts").await.ok(200).as_array().unwrap().is_empty(), gone);
    }
}

#[tokio::test]
async fn a_held_host_runs_nothing_until_it_is_released() {
    let fleet = Fleet::new().await;
    let host = fleet.host("web-1").await;
    let repository = fleet.repository("nas").await;
    let plan = fleet.plan("etc", &repository, &[host]).await;
    let release = format!("/api/hosts/{host}/release");
    fleet.post(&release, json!({})).await.is_refused(409, "conflict", None);
    for (code, action) in
        [(Code::CloneSuspected, "host.release"), (Code::ManagerBehind, "host.adopt")]
    {
        let hold = Hold { code, message: "Look at it.".to_owned() };
        let mut tx = fleet.manager.db().begin().await.unwrap();
        rows::set_hold(&mut tx, host, &hold).await.unwrap();
        tx.commit().await.unwrap();
        let held = fleet.get(&format!("/api/hosts/{host}")).await.ok(200);
        assert_eq!(held["hold"], json!({"code": code.as_str(), "message": "Look at it."}));
        assert_eq!(held["next_action"], Value::Null);
        let form = json!({"kind": "backup", "plan_id": plan});
        let refused = fleet.post(&format!("/api/hosts/{host}/runs"), form).await;
        refused.is_refused(409, "conflict", None);
        let released = fleet.post(&release, json!({})).await.ok(200);
        assert_eq!(released["hold"], Value::Null);
        assert_eq!(fleet.audited().await[0], action);
    }
    let path = format!("/api/hosts/{host}/runs");
    let run: RunId =
        super::id_of(&fleet.post(&path, json!({"kind": "backup", "plan_id": plan})).await.ok(201))
            .parse()
            .unwrap();
    assert_eq!(fleet.get(&path).await.ok(200)[0]["id"], run.to_string());
}

#[tokio::test]
async fn a_machine_is_always_on_or_intermittent_as_somebody_says_or_else_by_its_battery() {
    let fleet = Fleet::new().await;
    let host = fleet.host("web-1").await;
    let path = format!("/api/hosts/{host}");
    let mode = async || {
        let seen = fleet.get(&path).await.ok(200);
        (seen["mode"].as_str().unwrap().to_owned(), seen["stale_after_days"].as_u64().unwrap())
    };
    assert_eq!(mode().await, ("always_on".to_owned(), 14));
    says_hello(&fleet, host, Some(true), &["hooks"]).await;
    assert_eq!(mode().await, ("intermittent".to_owned(), 14));
    let set = async |form: Value| fleet.put(&format!("{path}/mode"), form).await;
    set(json!({"mode": "always_on"})).await.ok(200);
    // An agent that comes again does not know better than a person.
    says_hello(&fleet, host, Some(true), &["hooks"]).await;
    assert_eq!(mode().await, ("always_on".to_owned(), 14));
    let generation =
        async || fleet.get(&path).await.ok(200)["desired_generation"].as_u64().unwrap();
    let before = generation().await;
    let seen = set(json!({"mode": "intermittent", "stale_after_days": 30})).await.ok(200);
    assert!(generation().await > before, "its agent hears of it");
    assert_eq!((&seen["mode"], &seen["stale_after_days"]), (&json!("intermittent"), &json!(30)));
    set(json!({"mode": "intermittent"})).await.ok(200);
    assert_eq!(mode().await, ("intermittent".to_owned(), 30), "what is not named stays");
    let entry = fleet.get("/api/audit").await.ok(200)[0].clone();
    assert_eq!(entry["action"], "host.mode");
    assert_eq!(entry["detail"], "web-1 is intermittent, and late after 30 days");
    for days in [0, 91] {
        let refused = set(json!({"mode": "intermittent", "stale_after_days": days})).await;
        refused.is_refused(422, "invalid_input", Some("stale_after_days"));
    }
}

#[tokio::test]
async fn a_plan_with_hooks_is_refused_by_name_where_the_agent_runs_none() {
    let fleet = Fleet::new().await;
    let host = fleet.host("web-1").await;
    let repository = fleet.repository("nas").await;
    let plan = fleet.plan("etc", &repository, &[host]).await;
    let mut tx = fleet.manager.db().begin().await.unwrap();
    let (id, now) = (repository.parse().unwrap(), fleet.manager.now());
    repositories::note_initialised(&mut tx, id, now).await.unwrap();
    tx.commit().await.unwrap();
    let hooks = json!({"options": {"hooks": {"before": "dump"}}});
    fleet.put(&format!("/api/plans/{plan}"), hooks).await.ok(200);
    let seen = async || fleet.get(&format!("/api/hosts/{host}")).await.ok(200);
    assert_eq!(seen().await["verdict"], "never", "what it can do is not known yet");
    says_hello(&fleet, host, None, &["stats"]).await;
    let refused = seen().await;
    assert_eq!((&refused["verdict"], &refused["next_action"]), (&json!("refused"), &Value::Null));
    let run = json!({"kind": "backup", "plan_id": plan});
    let answer = fleet.post(&format!("/api/hosts/{host}/runs"), run.clone()).await;
    answer.is_refused(409, "capability_missing", None);
    says_hello(&fleet, host, None, &["stats", "hooks"]).await;
    assert_eq!(seen().await["verdict"], "never");
    fleet.post(&format!("/api/hosts/{host}/runs"), run).await.ok(201);
}

/// What its agent says of a machine when it connects.
async fn says_hello(fleet: &Fleet, host: HostId, has_battery: Option<bool>, can: &[&str]) {
    let hello = Hello {
        protocol_version: PROTOCOL_VERSION,
        agent_version: "0.1.0".to_owned(),
        restic_version: "0.18.0".to_owned(),
        hostname: "web-1".to_owned(),
        os: HostOs::Linux,
        arch: HostArch::Amd64,
        boot_time: None,
        capabilities: can.iter().map(|it| (*it).to_owned()).collect(),
        requires: Vec::new(),
        time_zone: None,
        time_zone_data: None,
        journal: None,
        manager: None,
        ticket: None,
        open_runs: Vec::new(),
        awake_since: None,
        has_battery,
    };
    let mut tx = fleet.manager.db().begin().await.unwrap();
    let heard = rows::Heard { host, hello: &hello, has_told_all: false, tickets: None };
    rows::note_hellos(&mut tx, &[heard], fleet.manager.now()).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_host_that_cannot_be_read_hides_no_other_and_is_counted() {
    let fleet = Fleet::new().await;
    let sound = fleet.host("web-1").await;
    let broken = fleet.host("web-2").await;
    let mut tx = fleet.manager.db().begin().await.unwrap();
    sqlx::query("UPDATE hosts SET boot_time = ? WHERE id = ?")
        .bind(i64::MAX)
        .bind(broken.to_string())
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let listed = fleet.get("/api/hosts").await.ok(200);
    let ids: Vec<_> = listed.as_array().unwrap().iter().map(|it| it["id"].as_str()).collect();
    assert_eq!(ids, [Some(sound.to_string().as_str())]);
    let counts = fleet.get("/api/system").await.ok(200)["counts"].clone();
    assert_eq!((&counts["hosts"], &counts["unreadable_hosts"]), (&json!(2), &json!(1)));
    for path in ["/api/slots", "/api/away", "/api/announcements"] {
        fleet.get(path).await.ok(200);
    }
    fleet.get(&format!("/api/hosts/{broken}")).await.is_refused(500, "internal", None);
}
