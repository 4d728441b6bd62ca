//! Strips of slots, one day of them, and what happened while nobody looked.

use super::Fleet;
use crate::db::{hosts as host_rows, runs as run_rows, slots as stored};
use jiff::{SignedDuration, Timestamp};
use protocol::{AwakeInterval, HostId, JobFinished, JobKind, JobStarted, JobStatus, PlanId, RunId};
use serde_json::{Value, json};

/// A machine with a nightly plan, which it has had for a week.
async fn nightly(fleet: &Fleet, name: &str) -> (HostId, PlanId) {
    let (host, plan): (HostId, PlanId) = (fleet.host(name).await, fleet.manager.new_id());
    let week_ago = fleet.manager.now() - SignedDuration::from_hours(7 * 24);
    let times = [(plan, "0 2 * * *".to_owned())].into();
    let mut tx = fleet.manager.db().begin().await.unwrap();
    stored::apply(&mut tx, host, 1, &times, "UTC", week_ago).await.unwrap();
    host_rows::note_seen(&mut tx, host, true, fleet.manager.now()).await.unwrap();
    tx.commit().await.unwrap();
    (host, plan)
}

fn night(day: u8) -> Timestamp {
    format!("2026-11-{day:02}T02:00:00Z").parse().unwrap()
}

/// A run of the schedule that ended so, of which the manager hears now.
async fn ran(
    fleet: &Fleet,
    host: HostId,
    plan: PlanId,
    slot: Timestamp,
    status: JobStatus,
) -> RunId {
    let id: RunId = fleet.manager.new_id();
    let started = JobStarted {
        job_id: id,
        kind: JobKind::Backup,
        started_at: slot + SignedDuration::from_mins(1),
        schedule_id: Some(plan),
        repository_id: None,
        command: None,
        slot: Some(slot),
        attempt: None,
    };
    let finished = JobFinished {
        job_id: id,
        status,
        exit_code: 0,
        finished_at: slot + SignedDuration::from_mins(9),
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
    let mut tx = fleet.manager.db().begin().await.unwrap();
    run_rows::apply_started(&mut tx, host, &started, fleet.manager.now()).await.unwrap();
    run_rows::apply_finished(&mut tx, host, &finished, fleet.manager.now()).await.unwrap();
    tx.commit().await.unwrap();
    id
}

#[tokio::test]
async fn a_strip_has_thirty_days_each_with_its_worst_first() {
    let fleet = Fleet::new().await;
    fleet.host("without-plans").await;
    let (host, plan) = nightly(&fleet, "nas").await;
    ran(&fleet, host, plan, night(21), JobStatus::Failed).await;
    let run = ran(&fleet, host, plan, night(23), JobStatus::Succeeded).await;
    let strips = fleet.get("/api/slots").await.ok(200);
    let strips = strips.as_array().unwrap();
    assert_eq!(strips.len(), 1, "a machine without times has no strip");
    assert_eq!((&strips[0]["host_id"], &strips[0]["first"]), (&json!(host), &json!("2026-10-25")));
    let days = strips[0]["days"].as_array().unwrap();
    assert_eq!(days.len(), 30);
    let word = |day: &Value| day.as_array().unwrap().first().map(|it| it["standing"].clone());
    let newest: Vec<Option<Value>> = days[22..].iter().map(word).collect();
    let expected = [
        None,
        Some("asleep"),
        Some("asleep"),
        Some("asleep"),
        Some("asleep"),
        Some("failed"),
        Some("covered"),
        Some("ran"),
    ];
    assert_eq!(newest, expected.map(|it| it.map(|word| json!(word))));
    let own = fleet.get(&format!("/api/slots?host_id={host}")).await.ok(200);
    assert_eq!(own.as_array().unwrap(), strips);

    let day = fleet.get(&format!("/api/hosts/{host}/slots?day=2026-11-22")).await.ok(200);
    let covered = json!([{"plan_id": plan, "at": night(22), "standing": "covered", "run_id": run}]);
    assert_eq!(day, covered);
    let refused = fleet.get(&format!("/api/hosts/{host}/slots?day=yesterday")).await;
    assert_eq!(refused.status.as_u16(), 422, "{}", refused.text());
}

#[tokio::test]
async fn what_happened_while_nobody_looked_is_told_once() {
    let fleet = Fleet::new().await;
    let (nas, nas_plan) = nightly(&fleet, "nas").await;
    let (web, web_plan) = nightly(&fleet, "web").await;
    ran(&fleet, nas, nas_plan, night(23), JobStatus::Failed).await;
    let first = fleet.get("/api/away").await.ok(200);
    assert_eq!(
        (&first["since"], &first["troubled"]),
        (&Value::Null, &json!([])),
        "nobody was away yet"
    );
    fleet.send("POST", "/api/away/seen", None).await.ok(204);
    let left = fleet.manager.now();

    fleet.clock.advance(SignedDuration::from_hours(48));
    ran(&fleet, nas, nas_plan, night(24), JobStatus::Succeeded).await;
    ran(&fleet, nas, nas_plan, night(25), JobStatus::Succeeded).await;
    // This one ended before, and is new all the same: word of it came only now.
    ran(&fleet, web, web_plan, night(22), JobStatus::Partial).await;
    let mut tx = fleet.manager.db().begin().await.unwrap();
    let awake = AwakeInterval { from: left, until: fleet.manager.now() };
    stored::note_awake(&mut tx, web, &awake).await.unwrap();
    host_rows::note_seen(&mut tx, web, true, fleet.manager.now()).await.unwrap();
    tx.commit().await.unwrap();

    let away = fleet.get("/api/away").await.ok(200);
    assert_eq!(away["since"], json!(left));
    let tally = |succeeded, partial, missed| {
        json!({"succeeded": succeeded, "partial": partial, "failed": 0, "interrupted": 0,
            "cancelled": 0, "missed": missed})
    };
    assert_eq!(away["tally"], tally(2, 1, 2));
    let troubled = json!([{"host_id": web, "name": "web", "tally": tally(0, 1, 2)}]);
    assert_eq!(away["troubled"], troubled);
    fleet.send("POST", "/api/away/seen", None).await.ok(204);
    let seen = fleet.get("/api/away").await.ok(200);
    assert_eq!((&seen["tally"], &seen["troubled"]), (&tally(0, 0, 0), &json!([])));
}
