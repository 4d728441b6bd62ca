//! A run that is cancelled, or that loses a program under it, ends in exactly one terminal state
//! with the right words.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop")]

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{path::Path, time::Duration};
use testkit::{
    agent::Rights,
    fleet::{Fleet, MACHINE},
    process::Orphan,
    proxy::Mode,
    rest_server::Deletes,
    told,
    tools::Tools,
    tree, wait_for,
};
use tokio::time::Instant;

/// A fleet whose backup takes its time, with an initialised repository.
async fn fleet(root: &Path) -> Fleet {
    fleet_with(root, Deletes::Allowed).await
}

async fn fleet_with(root: &Path, deletes: Deletes) -> Fleet {
    let source = root.join("source");
    tree::make_big(&source).unwrap();
    Fleet::initialised(root, &Tools::of_workspace(), &source, deletes).await.unwrap()
}

async fn cancel(fleet: &Fleet, run: &str) -> Value {
    fleet.api.post(&format!("/api/runs/{run}/cancel"), &json!({})).await.unwrap()
}

fn locks(fleet: &Fleet) -> usize {
    fleet.server.locks(MACHINE).unwrap()
}

fn check(fleet: &Fleet) -> Value {
    json!({ "kind": "check", "repository_id": fleet.repository })
}

async fn succeeds(fleet: &Fleet, request: &Value) {
    fleet.run(request).await.unwrap().expect("succeeded").unwrap();
}

/// What needs the repository for itself, and so is stopped by any lock, can be done.
async fn nothing_stands_in_the_way(fleet: &Fleet) {
    succeeds(fleet, &check(fleet)).await;
    let forget = json!({ "kind": "forget", "plan_id": fleet.plan, "confirm": MACHINE });
    succeeds(fleet, &forget).await;
    let prune = json!({ "kind": "prune", "repository_id": fleet.repository, "confirm": MACHINE });
    succeeds(fleet, &prune).await;
    assert_eq!(locks(fleet), 0);
}

/// The restic that the agent runs now. There is one as long as a run goes on.
fn restic(fleet: &mut Fleet) -> Pid {
    let children = fleet.agent.process().unwrap().children().unwrap();
    let backups = children.iter().filter(|(_, line)| line.iter().any(|word| word == "backup"));
    let ids: Vec<Pid> = backups.map(|(id, _)| *id).collect();
    assert_eq!(ids.len(), 1, "{children:?}");
    ids[0]
}

/// The lines of a run's log.
async fn log(fleet: &Fleet, run: &str) -> Vec<String> {
    let path = format!("/api/runs/{run}/log?after_line=0&limit=1000");
    let log = fleet.api.get(&path).await.unwrap();
    let lines = log["lines"].as_array().unwrap().iter();
    lines.map(|line| line["text"].as_str().unwrap().to_owned()).collect()
}

/// What never changes again: asked once more after the agent was restarted.
async fn stays(fleet: &mut Fleet, run: &str, before: &Value) {
    let lines = log(fleet, run).await;
    fleet.agent.stop().await.unwrap();
    fleet.agent.start(Rights::Full).unwrap();
    fleet.in_sync().await.unwrap();
    // The run after it shows that everything before it was taken in.
    succeeds(fleet, &json!({ "kind": "stats", "repository_id": fleet.repository })).await;
    let after = fleet.show(run).await.unwrap();
    for field in [
        "status",
        "code",
        "error",
        "guidance",
        "exit_code",
        "started_at",
        "finished_at",
        "snapshot_id",
        "log_lines",
    ] {
        assert_eq!(before[field], after[field], "{field}");
    }
    assert_eq!(log(fleet, run).await, lines);
}

/// Ended because a person asked for it, and says so.
fn is_cancelled(shown: &Value) {
    assert_eq!(shown["code"], "cancelled", "{shown:#}");
    assert!(shown["cancel_requested_at"].is_string(), "{shown:#}");
    assert!(shown["snapshot_id"].is_null(), "{shown:#}");
}

/// Ended because the agent was not there any more, and says so.
fn is_interrupted(shown: &Value) {
    assert_eq!(shown["code"], "interrupted", "{shown:#}");
    let error = shown["error"].as_str().unwrap();
    assert!(
        error.contains("ended while the run went on") && error.contains("no snapshot"),
        "{error}"
    );
    assert!(shown["snapshot_id"].is_null(), "{shown:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_for_its_machine_is_cancelled_by_the_manager_and_never_runs() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(dir.path()).await;
    fleet.agent.stop().await.unwrap();
    let run = fleet.ask(&fleet.backup()).await.unwrap();
    cancel(&fleet, &run).await;
    let shown = fleet.reaches(&run, &["cancelled"]).await.unwrap();
    cancel(&fleet, &run).await;
    fleet.agent.start(Rights::Full).unwrap();
    fleet.in_sync().await.unwrap();
    assert!(shown["started_at"].is_null());
    stays(&mut fleet, &run, &shown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_for_its_turn_is_cancelled_and_the_one_before_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(dir.path()).await;
    let first = fleet.in_the_middle().await.unwrap();
    let second = fleet.ask(&check(&fleet)).await.unwrap();
    cancel(&fleet, &second).await;
    let shown = fleet.reaches(&second, &["cancelled"]).await.unwrap();
    is_cancelled(&shown);
    assert!(shown["started_at"].is_null(), "{shown:#}");
    assert_eq!(fleet.show(&first).await.unwrap()["status"], "running");
    fleet.server.network.set(Mode::Open);
    fleet.reaches(&first, &["succeeded"]).await.unwrap();
    stays(&mut fleet, &second, &shown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_backup_is_cancelled_and_leaves_no_lock() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(dir.path()).await;
    let run = fleet.in_the_middle().await.unwrap();
    cancel(&fleet, &run).await;
    let shown = fleet.reaches(&run, &["cancelled"]).await.unwrap();
    assert_eq!(locks(&fleet), 0, "restic had the time to remove its lock");
    is_cancelled(&shown);
    let lines = log(&fleet, &run).await;
    let ends = lines.iter().filter(|line| line.starts_with("Stopped after")).count();
    assert_eq!(ends, 1, "{lines:#?}");
    fleet.server.network.set(Mode::Open);
    nothing_stands_in_the_way(&fleet).await;
    stays(&mut fleet, &run, &shown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_what_has_ended_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(dir.path()).await;
    let run = fleet.run(&fleet.backup()).await.unwrap().expect("succeeded").unwrap().run;
    let id = run["id"].as_str().unwrap().to_owned();
    cancel(&fleet, &id).await;
    stays(&mut fleet, &id, &run).await;
}

/// Crashes the agent at a named point of a backup, starts it again and returns how the run ended.
async fn crash_agent_at(fleet: &mut Fleet, point: &str) -> Value {
    fleet.agent.stop().await.unwrap();
    fleet.agent.environment = vec![("RESTIC_MANAGER_TEST_CRASH_AT".to_owned(), point.to_owned())];
    fleet.agent.start(Rights::Full).unwrap();
    fleet.in_sync().await.unwrap();
    let run = fleet.ask(&fleet.backup()).await.unwrap();
    fleet.agent.crashed().await.unwrap();
    fleet.agent.environment.clear();
    fleet.agent.start(Rights::Full).unwrap();
    let shown = fleet.reaches(&run, &["succeeded", "interrupted"]).await.unwrap();
    stays(fleet, &run, &shown).await;
    shown
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dies_after_it_accepted_runs_the_command_once_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(dir.path()).await;
    let shown = crash_agent_at(&mut fleet, "after-accept").await;
    assert_eq!(shown["status"], "succeeded", "{shown:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dies_before_restic_runs_says_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(dir.path()).await;
    let shown = crash_agent_at(&mut fleet, "after-started-journalled").await;
    assert_eq!(shown["status"], "interrupted", "{shown:#}");
    assert_eq!(shown["code"], "interrupted");
    assert!(shown["error"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dies_after_its_first_lines_writes_none_of_them_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(dir.path()).await;
    let shown = crash_agent_at(&mut fleet, "after-lines-journalled").await;
    let run = shown["id"].as_str().unwrap();
    let written = told::written(&fleet.agent).await.unwrap();
    told::agree(&fleet.api, run, &written).await.unwrap();
    nothing_stands_in_the_way(&fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dies_with_an_outcome_that_nobody_heard_tells_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(dir.path()).await;
    let shown = crash_agent_at(&mut fleet, "after-finished-journalled").await;
    assert_eq!(shown["status"], "succeeded", "{shown:#}");
    let written = told::written(&fleet.agent).await.unwrap();
    told::agree(&fleet.api, shown["id"].as_str().unwrap(), &written).await.unwrap();
    fleet.lists(shown["snapshot_id"].as_str().unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dies_after_restic_is_done_finds_the_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(dir.path()).await;
    let shown = crash_agent_at(&mut fleet, "after-restic-before-finished").await;
    assert_eq!(shown["status"], "succeeded", "{shown:#}");
    assert!(shown["snapshot_id"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_in_the_middle_ends_its_restic_and_says_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(dir.path()).await;
    let run = fleet.in_the_middle().await.unwrap();
    let orphan = Orphan::of(restic(&mut fleet)).unwrap();
    fleet.agent.kill_9().await.unwrap();
    fleet.agent.start(Rights::Full).unwrap();
    let shown = fleet.reaches(&run, &["interrupted"]).await.unwrap();
    is_interrupted(&shown);
    orphan.buried().await.unwrap();
    assert_eq!(locks(&fleet), 0, "neither restic nor its lock outlives the agent");
    fleet.server.network.set(Mode::Open);
    nothing_stands_in_the_way(&fleet).await;
    stays(&mut fleet, &run, &shown).await;
}

/// Ends agent and restic in the same moment, as a loss of power does, and starts the agent again.
/// The lock of the dead restic is in the repository then.
async fn lose_power(fleet: &mut Fleet) {
    let restic = restic(fleet);
    let orphan = Orphan::of(restic).unwrap();
    // restic would hear that its agent is gone, and remove its lock.
    kill_process(restic, Signal::STOP).unwrap();
    fleet.agent.kill_9().await.unwrap();
    kill_process(restic, Signal::KILL).unwrap();
    assert_eq!(locks(fleet), 1, "nobody was left to remove the lock");
    // A machine that starts again knows nothing of its earlier processes.
    orphan.buried().await.unwrap();
    fleet.server.network.set(Mode::Open);
    fleet.agent.start(Rights::Full).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_loses_power_in_the_middle_says_interrupted_and_clears_its_lock() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(dir.path()).await;
    let run = fleet.in_the_middle().await.unwrap();
    lose_power(&mut fleet).await;
    let shown = fleet.reaches(&run, &["interrupted"]).await.unwrap();
    is_interrupted(&shown);
    nothing_stands_in_the_way(&fleet).await;
    stays(&mut fleet, &run, &shown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_only_repository_is_usable_after_a_loss_of_power() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet_with(dir.path(), Deletes::Refused).await;
    let run = fleet.in_the_middle().await.unwrap();
    lose_power(&mut fleet).await;
    let shown = fleet.reaches(&run, &["interrupted"]).await.unwrap();
    is_interrupted(&shown);
    // Such a server refuses all deletions but those of locks.
    succeeds(&fleet, &json!({ "kind": "unlock", "repository_id": fleet.repository })).await;
    assert_eq!(locks(&fleet), 0);
    succeeds(&fleet, &check(&fleet)).await;
    stays(&mut fleet, &run, &shown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restic_that_is_killed_fails_its_run_and_leaves_no_lock() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(dir.path()).await;
    let run = fleet.in_the_middle().await.unwrap();
    kill_process(restic(&mut fleet), Signal::KILL).unwrap();
    let shown = fleet.reaches(&run, &["failed"]).await.unwrap();
    assert_eq!(shown["code"], "restic_failed", "{shown:#}");
    assert!(shown["error"].is_string() && shown["guidance"].is_string(), "{shown:#}");
    assert_eq!(locks(&fleet), 0);
    fleet.server.network.set(Mode::Open);
    nothing_stands_in_the_way(&fleet).await;
    stays(&mut fleet, &run, &shown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_killed_in_the_middle_learns_the_outcome_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(dir.path()).await;
    let run = fleet.in_the_middle().await.unwrap();
    fleet.manager.kill_9().await.unwrap();
    fleet.server.network.set(Mode::Open);
    wait_for("the agent to finish by itself", async || {
        Ok(fleet.agent.status()?["open_runs"].as_array().is_some_and(Vec::is_empty).then_some(()))
    })
    .await
    .unwrap();
    fleet.manager.start().await.unwrap();
    fleet.api = fleet.manager.api().await.unwrap();
    let shown = fleet.reaches(&run, &["succeeded"]).await.unwrap();
    fleet.lists(shown["snapshot_id"].as_str().unwrap()).await.unwrap();
    stays(&mut fleet, &run, &shown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_dies_at_any_named_point_of_a_run_ends_it_once_and_rightly() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(dir.path()).await;
    for point in [
        "after-sent-before-write",
        "after-going-before-write",
        "after-outcome-before-commit",
        "after-outcome-before-ack",
    ] {
        fleet.manager.stop().await.unwrap();
        fleet.manager.environment =
            vec![("RESTIC_MANAGER_TEST_CRASH_AT".to_owned(), point.to_owned())];
        fleet.manager.start().await.unwrap();
        fleet.api = fleet.manager.api().await.unwrap();
        fleet.in_sync().await.unwrap();
        // The crash may be faster than the answer, so the run is looked up afterwards.
        let _ = fleet.ask(&fleet.backup()).await;
        fleet.manager.crashed().await.unwrap();
        fleet.manager.environment.clear();
        fleet.manager.start().await.unwrap();
        fleet.api = fleet.manager.api().await.unwrap();
        let runs = fleet.api.get(&format!("/api/hosts/{}/runs", fleet.host)).await.unwrap();
        assert_eq!(runs[0]["kind"], "backup", "{runs:#}");
        let run = runs[0]["id"].as_str().unwrap().to_owned();
        let shown = fleet.reaches(&run, &["succeeded"]).await.unwrap();
        stays(&mut fleet, &run, &shown).await;
        // Once: the snapshots of this run are one.
        let snapshot = shown["snapshot_id"].as_str().unwrap();
        fleet.lists(snapshot).await.unwrap();
        let path = format!("/api/repositories/{}/snapshots", fleet.repository);
        let list = fleet.api.get(&path).await.unwrap();
        let tag = json!(format!("run:{run}"));
        let of_run = list["snapshots"].as_array().unwrap().iter();
        let of_run = of_run.filter(|one| one["tags"].as_array().unwrap().contains(&tag));
        assert_eq!(of_run.count(), 1, "{point}: {list:#}");
    }
}

/// Kills the rest-server under a backup.
async fn lose_server(fleet: &mut Fleet) {
    fleet.server.network.set(Mode::Cut);
    fleet.server.kill().await.unwrap();
}

async fn server_is_back(fleet: &mut Fleet) {
    fleet.server.restart().await.unwrap();
    fleet.server.network.set(Mode::Open);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_outlives_a_restart_of_its_server() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(dir.path()).await;
    let run = fleet.in_the_middle().await.unwrap();
    lose_server(&mut fleet).await;
    wait_for("the run to say that the repository does not answer", async || {
        Ok(fleet.show(&run).await?["progress"]["unreachable"].is_string().then_some(()))
    })
    .await
    .unwrap();
    server_is_back(&mut fleet).await;
    let shown = fleet.reaches(&run, &["succeeded"]).await.unwrap();
    nothing_stands_in_the_way(&fleet).await;
    stays(&mut fleet, &run, &shown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_server_died_is_cancelled_within_restics_grace_or_fails_in_minutes() {
    // Beside each other, since both do little but wait.
    let (cancelled, left) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    tokio::join!(
        is_cancelled_within_restics_grace(cancelled.path()),
        fails_by_itself_in_minutes(left.path())
    );
}

async fn is_cancelled_within_restics_grace(root: &Path) {
    let mut fleet = fleet(root).await;
    let run = fleet.in_the_middle().await.unwrap();
    lose_server(&mut fleet).await;
    let asked = Instant::now();
    cancel(&fleet, &run).await;
    let shown = fleet.reaches(&run, &["cancelled"]).await.unwrap();
    let took = asked.elapsed();
    is_cancelled(&shown);
    // A restic that was killed has no exit code. This one tried for a minute to remove its lock, and
    // then ended by itself.
    assert!(shown["exit_code"].as_i64().is_some_and(|code| code > 0), "{shown:#}");
    assert!(took > Duration::from_secs(50), "it ended after {took:?} already");
    server_is_back(&mut fleet).await;
    assert_eq!(locks(&fleet), 1, "it could not remove its lock");
    nothing_stands_in_the_way(&fleet).await;
    stays(&mut fleet, &run, &shown).await;
}

async fn fails_by_itself_in_minutes(root: &Path) {
    let mut fleet = fleet(root).await;
    fleet.agent.stop().await.unwrap();
    fleet.agent.configure("repository_patience_seconds", &json!(10)).unwrap();
    fleet.agent.start(Rights::Full).unwrap();
    fleet.in_sync().await.unwrap();
    let run = fleet.in_the_middle().await.unwrap();
    lose_server(&mut fleet).await;
    let shown = fleet.reaches(&run, &["failed"]).await.unwrap();
    assert_eq!(shown["code"], "repository_unreachable", "{shown:#}");
    assert!(shown["error"].is_string() && shown["guidance"].is_string(), "{shown:#}");
    server_is_back(&mut fleet).await;
    succeeds(&fleet, &fleet.backup()).await;
    nothing_stands_in_the_way(&fleet).await;
    stays(&mut fleet, &run, &shown).await;
}
