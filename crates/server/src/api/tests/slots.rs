//! Strips of slots, one day of them, and what happened while nobody looked.

use super::Fleet;
use crate::{
    db::{hosts as host_rows, runs as run_rows, slots as stored},
    events::Topic,
};
use jiff::{SignedDuration, Timestamp};
use protocol::{AwakeInterval, HostId, JobFinished, JobKind, JobStarted, JobStatus, PlanId, RunId};
use serde_json::{Value, json};
use std::sync::Arc;

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
    run_rows::apply_started(
        &mut tx,
        &run_rows::Told::from([((host, started.job_id), started.clone())]),
        fleet.manager.now(),
    )
    .await
    .unwrap();
    run_rows::apply_finished(
        &mut tx,
        &run_rows::Told::from([((host, finished.job_id), finished.clone())]),
        fleet.manager.now(),
    )
    .await
    .unwrap();
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
    let covered = json!([{"plan_id": plan, "at": night(22), "shown": "2026-11-22T02:00:00+00:00",
        "standing": "covered", "run_id": run}]);
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
    fleet.clock.advance(SignedDuration::from_secs(1));
    fleet.post("/api/away/seen", json!({})).await.ok(204);
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

    fleet.clock.advance(SignedDuration::from_mins(1));
    let away = fleet.get("/api/away").await.ok(200);
    assert_eq!(away["since"], json!(left - SignedDuration::from_millis(1)));
    let tally = |succeeded, partial, missed| {
        json!({"succeeded": succeeded, "partial": partial, "failed": 0, "interrupted": 0,
            "cancelled": 0, "missed": missed})
    };
    assert_eq!(away["tally"], tally(2, 1, 2));
    let troubled = json!([{"host_id": web, "name": "web", "tally": tally(0, 1, 2)}]);
    assert_eq!(away["troubled"], troubled);
    // A run that comes after this was read, and before it is put away, is told the next time.
    fleet.clock.advance(SignedDuration::from_mins(1));
    ran(&fleet, nas, nas_plan, night(25), JobStatus::Succeeded).await;
    fleet.post("/api/away/seen", json!({"until": away["until"]})).await.ok(204);
    fleet.clock.advance(SignedDuration::from_mins(1));
    let seen = fleet.get("/api/away").await.ok(200);
    assert_eq!((&seen["tally"], &seen["troubled"]), (&tally(1, 0, 0), &json!([])));
    // Whoever looked on has seen all of it.
    fleet.post("/api/away/seen", json!({})).await.ok(204);
    fleet.clock.advance(SignedDuration::from_mins(1));
    assert_eq!(fleet.get("/api/away").await.ok(200)["tally"], tally(0, 0, 0));
}

#[tokio::test]
async fn what_a_machine_missed_before_a_look_and_told_after_it_is_news() {
    let fleet = Fleet::new().await;
    let (laptop, _) = nightly(&fleet, "laptop").await;
    let began = fleet.manager.now();
    let missed = async || fleet.get("/api/away").await.ok(200)["tally"]["missed"].clone();
    // Two nights pass in which nothing is heard of it, and somebody looks.
    fleet.clock.advance(SignedDuration::from_hours(48));
    fleet.post("/api/away/seen", json!({})).await.ok(204);
    fleet.clock.advance(SignedDuration::from_hours(1));
    assert_eq!(missed().await, 0);
    // Then it tells that it was awake all the time, and did nothing.
    let mut tx = fleet.manager.db().begin().await.unwrap();
    let awake = AwakeInterval { from: began, until: fleet.manager.now() };
    stored::note_awake(&mut tx, laptop, &awake).await.unwrap();
    host_rows::note_seen(&mut tx, laptop, true, fleet.manager.now()).await.unwrap();
    tx.commit().await.unwrap();
    fleet.clock.advance(SignedDuration::from_mins(1));
    assert_eq!(missed().await, 2);
    fleet.post("/api/away/seen", json!({})).await.ok(204);
    fleet.clock.advance(SignedDuration::from_mins(1));
    assert_eq!(missed().await, 0, "and is told once");
}

#[tokio::test]
async fn a_plan_with_times_stands_by_its_slots_and_says_when_it_runs_next() {
    let fleet = Fleet::new().await;
    let host = fleet.host("nas").await;
    let repository = fleet.repository("box").await;
    let plan = fleet.plan("etc", &repository, &[host]).await;
    let form = json!({"cron": "0 2 * * *"});
    fleet.put(&format!("/api/plans/{plan}"), form).await.ok(200);
    let id: PlanId = plan.parse().unwrap();
    let times = [(id, "0 2 * * *".to_owned())].into();
    let week_ago = fleet.manager.now() - SignedDuration::from_hours(7 * 24);
    let mut tx = fleet.manager.db().begin().await.unwrap();
    stored::apply(&mut tx, host, 0, &times, "CET-1CEST,M3.5.0,M10.5.0/3", week_ago).await.unwrap();
    host_rows::note_seen(&mut tx, host, true, fleet.manager.now()).await.unwrap();
    tx.commit().await.unwrap();
    let path = format!("/api/hosts/{host}");
    let stands = async || {
        fleet.clock.advance(SignedDuration::from_secs(11));
        fleet.get(&path).await.ok(200)
    };
    let seen = stands().await;
    assert_eq!(
        (&seen["verdict"], &seen["plans"][0]["verdict"]),
        (&json!("never"), &json!("never"))
    );
    assert_eq!(seen["next_at"], "2026-11-24T02:00:00+01:00", "by the clock of the machine");

    let slot = |day| night(day) - SignedDuration::from_hours(1);
    ran(&fleet, host, id, slot(22), JobStatus::Succeeded).await;
    // It was off last night, as far as it has told; then it says that it was awake.
    assert_eq!(stands().await["verdict"], "asleep");
    let mut tx = fleet.manager.db().begin().await.unwrap();
    let awake = AwakeInterval { from: week_ago, until: fleet.manager.now() };
    stored::note_awake(&mut tx, host, &awake).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(stands().await["verdict"], "late");
    ran(&fleet, host, id, slot(23), JobStatus::Failed).await;
    assert_eq!(stands().await["verdict"], "failed");
    ran(&fleet, host, id, slot(23), JobStatus::Succeeded).await;
    assert_eq!(stands().await["verdict"], "protected");
}

#[tokio::test]
async fn one_computation_serves_all_who_ask_until_something_changes() {
    let fleet = Fleet::new().await;
    let (host, plan) = nightly(&fleet, "nas").await;
    let ask = async || crate::slots::of_all(&fleet.manager).await.unwrap();
    let (one, other) = tokio::join!(ask(), ask());
    assert!(Arc::ptr_eq(&one, &other), "whoever comes meanwhile gets the same");
    let own = crate::slots::of_host(&fleet.manager, host).await.unwrap();
    assert!(Arc::ptr_eq(&one, &own));
    let run = ran(&fleet, host, plan, night(23), JobStatus::Succeeded).await;
    assert!(Arc::ptr_eq(&one, &ask().await), "nobody has said that something changed");
    fleet.manager.events().publish(Topic::Run(run));
    let own = crate::slots::of_host(&fleet.manager, host).await.unwrap();
    let changed = ask().await;
    assert_ne!(one, changed, "an event is never answered with what was before it");
    assert_eq!(own.strips, changed.strips, "one machine is told as in the whole fleet");
    assert_eq!((&own.tracks, &own.next), (&changed.tracks, &changed.next));
    fleet.clock.advance(SignedDuration::from_secs(10));
    assert!(!Arc::ptr_eq(&changed, &ask().await), "time alone changes what is due");
}
