//! A program that does not run for minutes and does not know of it, as on a machine that is out of memory
//! or was paused. Nobody tells the other side: it notices by itself, after the time that the link allows.

use super::watch;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::path::Path;
use testkit::{
    agent::Rights,
    counted::Counted,
    fleet::{Fleet, MACHINE, text},
    proxy::Mode,
    rest_server::Deletes,
    told,
    tools::Tools,
    tree, wait_for,
};

#[tokio::test(flavor = "multi_thread")]
async fn who_is_stopped_for_minutes_does_nothing_twice_and_misses_nothing() {
    // Beside each other, since both do little but wait.
    let (agent, manager) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    tokio::join!(stop_the_agent(agent.path()), stop_the_manager(manager.path()));
}

/// A fleet whose backup takes its time, and a restic that counts.
async fn fleet(root: &Path) -> (Fleet, Counted) {
    let source = root.join("source");
    tree::make_big(&source).unwrap();
    let tools = Tools::of_workspace();
    let mut fleet = Fleet::initialised(root, &tools, &source, Deletes::Allowed).await.unwrap();
    let restic = Counted::new(&root.join("counted"), &tools.restic().unwrap()).unwrap();
    fleet.agent.stop().await.unwrap();
    fleet.agent.restic.clone_from(&restic.program);
    fleet.agent.start(Rights::Full).unwrap();
    fleet.in_sync().await.unwrap();
    (fleet, restic)
}

async fn stop_the_agent(root: &Path) {
    let (mut fleet, restic) = fleet(root).await;
    let run = fleet.in_the_middle().await.unwrap();
    let watching = watch(&fleet.api, &run);
    fleet.agent.process().unwrap().signal(Signal::STOP).unwrap();
    // restic goes on alone.
    fleet.server.network.set(Mode::Open);
    // What is asked for now is written to a connection on which nobody listens.
    let check = json!({ "kind": "check", "repository_id": fleet.repository });
    let asked = fleet.ask(&check).await.unwrap();
    wait_for("the machine to be away", async || {
        let hosts = fleet.api.get("/api/hosts").await?;
        Ok((hosts[0]["is_online"] == false).then_some(()))
    })
    .await
    .unwrap();
    let words = async |run: &str| fleet.show(run).await.unwrap()["dispatch"]["words"].clone();
    assert_eq!(words(&run).await, "running, no contact now");
    assert_eq!(words(&asked).await, "sent, no answer yet");
    fleet.agent.process().unwrap().signal(Signal::CONT).unwrap();
    fleet.reaches(&run, &["succeeded"]).await.unwrap();
    fleet.reaches(&asked, &["succeeded"]).await.unwrap();
    all_is_told(&fleet, &[&run, &asked]).await;
    assert_eq!(restic.backups(&run).unwrap(), 1);
    assert_eq!(restic.times(&["check"]).unwrap(), 1);
    assert_eq!(fleet.server.snapshots(MACHINE).unwrap(), 1);
    let last = told::lines(&fleet.api, &run).await.unwrap();
    assert_eq!(watching.await.unwrap(), last, "lines of the live view");
}

async fn stop_the_manager(root: &Path) {
    let (fleet, restic) = fleet(root).await;
    let run = fleet.in_the_middle().await.unwrap();
    let watching = watch(&fleet.api, &run);
    let manager = Pid::from_raw(fleet.manager.id().unwrap().cast_signed()).unwrap();
    kill_process(manager, Signal::STOP).unwrap();
    fleet.server.network.set(Mode::Open);
    wait_for("the agent to miss its manager, and to be done", async || {
        let status = fleet.agent.status()?;
        let link = text(&status["connection"], "link")?;
        let is_away = link == "waiting" || link == "dialling";
        Ok((is_away && status["open_runs"] == json!([])).then_some(()))
    })
    .await
    .unwrap();
    let status = fleet.agent.status().unwrap();
    assert!(status["connection"]["problem"]["message"].is_string(), "{status:#}");
    kill_process(manager, Signal::CONT).unwrap();
    fleet.reaches(&run, &["succeeded"]).await.unwrap();
    all_is_told(&fleet, &[&run]).await;
    assert_eq!(restic.backups(&run).unwrap(), 1);
    let shown = fleet.show(&run).await.unwrap();
    fleet.lists(shown["snapshot_id"].as_str().unwrap()).await.unwrap();
    let last = told::lines(&fleet.api, &run).await.unwrap();
    assert_eq!(watching.await.unwrap(), last, "lines of the live view");
}

async fn all_is_told(fleet: &Fleet, runs: &[&str]) {
    told::idle(&fleet.agent, &fleet.api).await.unwrap();
    let written = told::written(&fleet.agent).await.unwrap();
    for run in runs {
        let shown: Value = told::agree(&fleet.api, run, &written).await.unwrap();
        assert_eq!(shown["status"], "succeeded", "{shown:#}");
        assert_eq!(written[*run].started, 1);
    }
}
