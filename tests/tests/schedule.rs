//! Plans run on time on their own machines, whoever listens: with real programs, a real restic and the
//! clock of this computer.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop")]

use serde_json::{Value, json};
use testkit::{
    agent::Rights,
    fleet::{Fleet, MACHINE},
    rest_server::Deletes,
    tools::Tools,
    tree, wait_for,
};

/// The runs of the plan that served a slot, newest first.
async fn served(fleet: &Fleet) -> Vec<Value> {
    let runs = fleet.api.get(&format!("/api/runs?plan_id={}&limit=200", fleet.plan)).await.unwrap();
    let runs = runs.as_array().unwrap().iter();
    runs.filter(|run| run["slot"].is_string()).cloned().collect()
}

async fn set_times(fleet: &Fleet, cron: Option<&str>) {
    let plan = format!("/api/plans/{}", fleet.plan);
    fleet.api.put(&plan, &json!({ "cron": cron })).await.unwrap();
    fleet.in_sync().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_runs_with_the_manager_away_and_is_told_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    tree::make_small(&source).unwrap();
    let tools = Tools::of_workspace();
    let mut fleet =
        Fleet::initialised(dir.path(), &tools, &source, Deletes::Refused).await.unwrap();
    set_times(&fleet, Some("* * * * *")).await;
    fleet.manager.stop().await.unwrap();
    wait_for("a snapshot with nobody listening", async || {
        Ok((fleet.server.snapshots(MACHINE)? > 0).then_some(()))
    })
    .await
    .unwrap();
    // What the agent knows, it still knows after it was killed, and does not do it again.
    fleet.agent.kill_9().await.unwrap();
    fleet.agent.start(Rights::Full).unwrap();
    fleet.manager.start().await.unwrap();
    fleet.in_sync().await.unwrap();
    let runs = wait_for("the runs to be told", async || {
        let runs = served(&fleet).await;
        let is_told = runs.iter().any(|run| run["is_terminal"] == true);
        Ok(is_told.then_some(runs))
    })
    .await
    .unwrap();
    let slots: Vec<&str> = runs.iter().map(|run| run["slot"].as_str().unwrap()).collect();
    let mut once = slots.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), slots.len(), "a slot was served twice: {slots:?}");
    for run in runs.iter().filter(|run| run["is_terminal"] == true) {
        assert_eq!((&run["requested_by"], &run["kind"]), (&json!("agent"), &json!("backup")));
        assert!(run["slot"].as_str() <= run["started_at"].as_str(), "{run:#}");
        // Perhaps one was killed with its agent.
        assert!(run["status"] == "succeeded" || run["code"] == "interrupted", "{run:#}");
    }
    // A plan without times runs by hand only.
    set_times(&fleet, None).await;
    let plan = fleet.api.get(&format!("/api/plans/{}", fleet.plan)).await.unwrap();
    assert!(plan["cron"].is_null());
}
