//! How hosts stand by their runs: the last good backup, and each plan's last run.

use super::{Fleet, hosts::finish_with, id_of};
use jiff::SignedDuration;
use protocol::{Code, HostId, JobStatus};
use serde_json::{Value, json};

/// The view of a host, which the list of all must tell alike.
async fn view(fleet: &Fleet, host: HostId) -> Value {
    let view = fleet.get(&format!("/api/hosts/{host}")).await.ok(200);
    let listed = fleet.get("/api/hosts").await.ok(200);
    let same = listed.as_array().unwrap().iter().find(|other| other["id"] == view["id"]);
    assert_eq!(same, Some(&view), "the list and the page say the same");
    view
}

/// A run that has ended so, an hour after what was before it.
async fn ran(
    fleet: &Fleet,
    host: HostId,
    what: Value,
    status: JobStatus,
    code: Option<Code>,
) -> String {
    fleet.clock.advance(SignedDuration::from_hours(1));
    let run = id_of(&fleet.post(&format!("/api/hosts/{host}/runs"), what).await.ok(201));
    finish_with(fleet, host, &run, status, code, fleet.manager.now()).await;
    run
}

async fn backup(fleet: &Fleet, host: HostId, plan: &str, status: JobStatus) -> String {
    ran(fleet, host, json!({"kind": "backup", "plan_id": plan}), status, None).await
}

fn plan_in<'a>(view: &'a Value, plan: &str) -> &'a Value {
    view["plans"].as_array().unwrap().iter().find(|it| it["plan_id"] == plan).unwrap()
}

#[tokio::test]
async fn a_host_tells_its_last_good_backup_and_how_each_plan_stands() {
    let fleet = Fleet::new().await;
    let (host, other) = (fleet.host("web-1").await, fleet.host("web-2").await);
    let repository = fleet.repository("nas").await;
    let etc = fleet.plan("etc", &repository, &[host, other]).await;
    let srv = fleet.plan("srv", &repository, &[host]).await;
    let fresh = view(&fleet, host).await;
    assert_eq!(fresh["last_good"], Value::Null);
    let never = json!({"plan_id": srv, "enabled": true, "last_run": null, "last_good": null,
        "verdict": "never"});
    assert_eq!(plan_in(&fresh, &srv), &never);

    let good = backup(&fleet, host, &etc, JobStatus::Succeeded).await;
    let good_at = fleet.manager.now();
    let partial = backup(&fleet, host, &srv, JobStatus::Partial).await;
    let partial_at = fleet.manager.now();
    let cancelled = backup(&fleet, host, &etc, JobStatus::Cancelled).await;
    let failed = backup(&fleet, host, &srv, JobStatus::Failed).await;
    // What others did, and what is no backup, says nothing of it.
    backup(&fleet, other, &etc, JobStatus::Succeeded).await;
    let check = json!({"kind": "check", "repository_id": repository});
    ran(&fleet, host, check, JobStatus::Succeeded, None).await;

    let seen = view(&fleet, host).await;
    let partial = json!({"run_id": partial, "at": partial_at, "is_partial": true});
    let good = json!({"run_id": good, "at": good_at, "is_partial": false});
    assert_eq!(seen["last_good"], partial);
    let (etc_stands, srv_stands) = (plan_in(&seen, &etc), plan_in(&seen, &srv));
    assert_eq!(etc_stands["last_good"], good);
    assert_eq!(etc_stands["last_run"]["id"], cancelled);
    assert_eq!(etc_stands["last_run"]["status"], "cancelled");
    assert_eq!(srv_stands["last_good"], partial);
    assert_eq!(srv_stands["last_run"]["id"], failed);
    assert_eq!((&srv_stands["verdict"], &seen["verdict"]), (&json!("failed"), &json!("failed")));
    let kinds: Vec<&Value> =
        seen["last_runs"].as_array().unwrap().iter().map(|run| &run["kind"]).collect();
    assert_eq!(kinds, ["check", "backup"]);

    fleet.delete(&format!("/api/plans/{srv}"), json!({"confirm": "srv"})).await;
    let seen = view(&fleet, host).await;
    assert_eq!(seen["plans"].as_array().unwrap().len(), 1, "a removed plan stands nowhere");
    assert_eq!(seen["last_good"], partial, "but its backup was one");
}

#[tokio::test]
async fn a_failure_stands_until_a_backup_worked_whatever_was_asked_for_meanwhile() {
    let fleet = Fleet::new().await;
    let host = fleet.host("web-1").await;
    let repository = fleet.repository("nas").await;
    let plan = fleet.plan("etc", &repository, &[host]).await;
    let verdict = async || view(&fleet, host).await["verdict"].clone();
    backup(&fleet, host, &plan, JobStatus::Succeeded).await;
    // The machine has never connected here, which is better than failed.
    assert_eq!(verdict().await, "silent");
    backup(&fleet, host, &plan, JobStatus::Failed).await;
    for ended in [JobStatus::Cancelled, JobStatus::Expired] {
        fleet.clock.advance(SignedDuration::from_hours(1));
        let form = json!({"kind": "backup", "plan_id": plan});
        let run = id_of(&fleet.post(&format!("/api/hosts/{host}/runs"), form).await.ok(201));
        assert_eq!(verdict().await, "failed", "one waits");
        finish_with(&fleet, host, &run, ended, None, fleet.manager.now()).await;
        assert_eq!(verdict().await, "failed", "one is {ended:?}");
    }
    backup(&fleet, host, &plan, JobStatus::Succeeded).await;
    assert_eq!(verdict().await, "silent");
}

#[tokio::test]
async fn a_plan_that_moved_to_another_repository_has_no_good_backup_there() {
    let fleet = Fleet::new().await;
    let host = fleet.host("web-1").await;
    let (old, new) = (fleet.repository("old").await, fleet.repository("new").await);
    let plan = fleet.plan("etc", &old, &[host]).await;
    let run = backup(&fleet, host, &plan, JobStatus::Succeeded).await;
    assert_eq!(plan_in(&view(&fleet, host).await, &plan)["last_good"]["run_id"], run);
    let form = json!({"name": "etc", "repository_id": new, "paths": ["/etc"], "host_ids": [host],
        "retention": {"keep_daily": 7}});
    fleet.put(&format!("/api/plans/{plan}"), form).await.ok(200);
    let seen = view(&fleet, host).await;
    assert_eq!(plan_in(&seen, &plan)["last_good"], Value::Null);
    assert_eq!(plan_in(&seen, &plan)["last_run"], Value::Null);
    assert_eq!(seen["last_good"]["run_id"], run);
}

#[tokio::test]
async fn a_clock_that_is_ahead_makes_no_backup_younger() {
    let fleet = Fleet::new().await;
    let host = fleet.host("web-1").await;
    let repository = fleet.repository("nas").await;
    let plan = fleet.plan("etc", &repository, &[host]).await;
    let path = format!("/api/hosts/{host}/runs");
    let form = json!({"kind": "backup", "plan_id": plan});
    let run = id_of(&fleet.post(&path, form).await.ok(201));
    let (asked, ahead) =
        (fleet.manager.now(), fleet.manager.now() + SignedDuration::from_hours(9000));
    finish_with(&fleet, host, &run, JobStatus::Succeeded, None, ahead).await;
    fleet.clock.advance(SignedDuration::from_hours(48));
    assert_eq!(view(&fleet, host).await["last_good"]["at"], json!(asked));
}

#[tokio::test]
async fn a_repository_that_was_there_already_is_not_offered_to_be_initialised() {
    let fleet = Fleet::new().await;
    let host = fleet.host("web-1").await;
    let repository = fleet.repository("nas").await;
    let plan = fleet.plan("etc", &repository, &[host]).await;
    let init = json!({"kind": "init", "repository_id": repository});
    let backup = json!({"kind": "backup", "plan_id": plan});
    let next = async || view(&fleet, host).await["next_action"].clone();

    let exists = Some(Code::RepositoryExists);
    ran(&fleet, host, init.clone(), JobStatus::Failed, exists).await;
    let run_now = json!({"action": "run_now", "kind": "backup", "plan_id": plan});
    assert_eq!(next().await, run_now);

    let wrong = Some(Code::WrongPassword);
    let run = ran(&fleet, host, backup.clone(), JobStatus::Failed, wrong).await;
    let retry = json!({"action": "retry", "kind": "backup", "plan_id": plan, "run_id": run});
    assert_eq!(next().await, retry);

    let missing = Some(Code::RepositoryMissing);
    ran(&fleet, host, backup, JobStatus::Failed, missing).await;
    let initialise = json!({"action": "initialise", "kind": "init", "repository_id": repository});
    assert_eq!(next().await, initialise, "somebody removed it since");

    let away = Some(Code::RepositoryUnreachable);
    let run = ran(&fleet, host, init, JobStatus::Failed, away).await;
    let retry = json!({"action": "retry", "kind": "init", "repository_id": repository,
        "run_id": run});
    assert_eq!(next().await, retry);
}
