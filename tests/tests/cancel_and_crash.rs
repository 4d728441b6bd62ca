//! A run that is cancelled, or that loses a program under it, ends in exactly one terminal state
//! with the right words.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop")]

use serde_json::{Value, json};
use std::{fs, path::Path};
use testkit::{
    agent::Rights, fleet::Fleet, proxy::Mode, rest_server::Deletes, tools::Tools, tree, wait_for,
};

/// A fleet whose backup takes its time, with an initialised repository.
async fn fleet(root: &Path) -> Fleet {
    let source = root.join("source");
    tree::make_big(&source).unwrap();
    Fleet::initialised(root, &Tools::of_workspace(), &source, Deletes::Allowed).await.unwrap()
}

async fn cancel(fleet: &Fleet, run: &str) -> Value {
    fleet.api.post(&format!("/api/runs/{run}/cancel"), &json!({})).await.unwrap()
}

fn locks(fleet: &Fleet) -> usize {
    fs::read_dir(fleet.server.folder("machine1").join("locks")).unwrap().count()
}

/// What never changes again: asked once more after the agent was restarted.
async fn stays(fleet: &mut Fleet, run: &str, before: &Value) {
    fleet.agent.stop().await.unwrap();
    fleet.agent.start(Rights::Full).unwrap();
    fleet.in_sync().await.unwrap();
    // The run after it shows that everything before it was taken in.
    fleet.run(&json!({ "kind": "stats", "repository_id": fleet.repository })).await.unwrap();
    let after = fleet.show(run).await.unwrap();
    for field in ["status", "code", "error", "finished_at", "snapshot_id"] {
        assert_eq!(before[field], after[field], "{field}");
    }
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
    fleet.server.network.set(Mode::Silent);
    let first = fleet.ask(&fleet.backup()).await.unwrap();
    fleet.reaches(&first, &["running"]).await.unwrap();
    let second =
        fleet.ask(&json!({ "kind": "check", "repository_id": fleet.repository })).await.unwrap();
    cancel(&fleet, &second).await;
    let shown = fleet.reaches(&second, &["cancelled"]).await.unwrap();
    fleet.server.network.set(Mode::Open);
    fleet.reaches(&first, &["succeeded"]).await.unwrap();
    stays(&mut fleet, &second, &shown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_backup_is_cancelled_and_leaves_no_lock() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(dir.path()).await;
    fleet.server.network.set(Mode::Silent);
    let run = fleet.ask(&fleet.backup()).await.unwrap();
    fleet.reaches(&run, &["running"]).await.unwrap();
    cancel(&fleet, &run).await;
    fleet.server.network.set(Mode::Open);
    let shown = fleet.reaches(&run, &["cancelled"]).await.unwrap();
    assert_eq!(shown["code"], "cancelled");
    wait_for("the lock to be gone", async || Ok((locks(&fleet) == 0).then_some(()))).await.unwrap();
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
    fleet.server.network.set(Mode::Silent);
    let run = fleet.ask(&fleet.backup()).await.unwrap();
    fleet.reaches(&run, &["running"]).await.unwrap();
    fleet.agent.kill_9().await.unwrap();
    fleet.server.network.set(Mode::Open);
    fleet.agent.start(Rights::Full).unwrap();
    let shown = fleet.reaches(&run, &["interrupted"]).await.unwrap();
    // The next one is not stopped by what the killed one left behind.
    fleet
        .run(&json!({ "kind": "check", "repository_id": fleet.repository }))
        .await
        .unwrap()
        .expect("succeeded")
        .unwrap();
    stays(&mut fleet, &run, &shown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_killed_in_the_middle_learns_the_outcome_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(dir.path()).await;
    fleet.server.network.set(Mode::Silent);
    let run = fleet.ask(&fleet.backup()).await.unwrap();
    fleet.reaches(&run, &["running"]).await.unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_server_died_is_cancelled_within_restics_grace() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(dir.path()).await;
    fleet.server.network.set(Mode::Silent);
    let run = fleet.ask(&fleet.backup()).await.unwrap();
    fleet.reaches(&run, &["running"]).await.unwrap();
    fleet.server.network.set(Mode::Cut);
    fleet.server.kill().await.unwrap();
    cancel(&fleet, &run).await;
    let shown = fleet.reaches(&run, &["cancelled"]).await.unwrap();
    fleet.server.restart().await.unwrap();
    fleet.server.network.set(Mode::Open);
    // What restic left behind must not stand in the way of the next check.
    fleet
        .run(&json!({ "kind": "check", "repository_id": fleet.repository }))
        .await
        .unwrap()
        .expect("succeeded")
        .unwrap();
    stays(&mut fleet, &run, &shown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_server_died_fails_by_itself_in_minutes() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(dir.path()).await;
    fleet.agent.stop().await.unwrap();
    fleet.agent.configure("repository_patience_seconds", &json!(10)).unwrap();
    fleet.agent.start(Rights::Full).unwrap();
    fleet.in_sync().await.unwrap();
    fleet.server.network.set(Mode::Silent);
    let run = fleet.ask(&fleet.backup()).await.unwrap();
    fleet.reaches(&run, &["running"]).await.unwrap();
    fleet.server.network.set(Mode::Cut);
    fleet.server.kill().await.unwrap();
    let shown = fleet.reaches(&run, &["failed"]).await.unwrap();
    assert_eq!(shown["code"], "repository_unreachable", "{shown:#}");
    assert!(shown["guidance"].is_string());
    fleet.server.restart().await.unwrap();
    fleet.server.network.set(Mode::Open);
    fleet.run(&fleet.backup()).await.unwrap().expect("succeeded").unwrap();
    stays(&mut fleet, &run, &shown).await;
}
