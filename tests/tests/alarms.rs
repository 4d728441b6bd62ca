//! Alarms reach people with the manager away, once for each change: with real programs, a real restic, real
//! TLS and the clock of this computer.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop")]

use agent::{
    core::{Memory, RunState},
    paths::StateDir,
    points,
    store::Store,
};
use serde_json::{Value, json};
use std::{path::Path, time::Duration};
use testkit::{
    agent::Rights,
    fleet::{Fleet, MACHINE},
    rest_server::Deletes,
    tools::Tools,
    tree, wait_for, wait_for_within,
    webhook::Webhook,
};

/// A slot a minute: what depends on two of them.
const WAITS: Duration = Duration::from_mins(5);

const TOKEN: &str = "canary-t0ken";

/// A fleet with a plan of every minute, whose machine tells its alarms to a webhook.
async fn fleet(root: &Path, hook: &Webhook) -> Fleet {
    let source = root.join("source");
    tree::make_small(&source).unwrap();
    let mut fleet =
        Fleet::initialised(root, &Tools::of_workspace(), &source, Deletes::Refused).await.unwrap();
    // The authority is one that the machine's admin has added to its list.
    fleet.agent.stop().await.unwrap();
    let trusted = hook.ca_file.display().to_string();
    fleet.agent.environment.push(("SSL_CERT_FILE".to_owned(), trusted));
    fleet.agent.start(Rights::Full).unwrap();
    let form = json!({"name": "Chat", "kind": "webhook", "url": hook.url, "token": TOKEN, "all_hosts": true});
    fleet.api.post("/api/alarm-channels", &form).await.unwrap();
    let plan = format!("/api/plans/{}", fleet.plan);
    fleet.api.put(&plan, &json!({ "cron": "* * * * *" })).await.unwrap();
    fleet.in_sync().await.unwrap();
    fleet
}

async fn wait_for_states(hook: &Webhook, wanted: &[&str]) {
    wait_for_within(&format!("the webhook to hear {wanted:?}"), WAITS, async || {
        Ok((hook.states() == wanted).then_some(()))
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}: {:#?}", hook.told()));
}

async fn alarms(fleet: &Fleet) -> Vec<Value> {
    fleet.api.get("/api/alarms").await.unwrap().as_array().unwrap().clone()
}

/// What the agent has on its disk.
async fn memory(fleet: &Fleet) -> Memory {
    let path = StateDir::new(fleet.agent.state()).database();
    Store::open_to_read(&path).await.unwrap().load().await.unwrap()
}

/// How many runs the agent knows that have ended.
async fn ended(fleet: &Fleet) -> usize {
    let runs = memory(fleet).await.runs;
    runs.iter().filter(|run| run.state == RunState::Finished).count()
}

/// Waits until the agent has written down what became of all that it told.
async fn wait_for_noted(fleet: &Fleet) {
    wait_for("the agent to note what came of it", async || {
        Ok(memory(fleet).await.deliveries.is_empty().then_some(()))
    })
    .await
    .unwrap();
}

async fn wait_for_another_end(fleet: &Fleet) {
    let before = ended(fleet).await;
    wait_for_within("another run to end", WAITS, async || {
        Ok((ended(fleet).await > before).then_some(()))
    })
    .await
    .unwrap();
}

async fn wait_for_crash(fleet: &mut Fleet) {
    wait_for_within("the agent to die", WAITS, async || {
        Ok((!fleet.agent.process()?.is_running()?).then_some(()))
    })
    .await
    .unwrap();
    fleet.agent.crashed().await.unwrap();
}

/// Starts the agent so that it ends at this point, as by a loss of power; or not at all.
fn start_until(fleet: &mut Fleet, point: Option<&str>) {
    fleet.agent.environment.retain(|(name, _)| name != points::VARIABLE);
    let variable = point.map(|point| (points::VARIABLE.to_owned(), point.to_owned()));
    fleet.agent.environment.extend(variable);
    fleet.agent.start(Rights::Full).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_and_its_end_are_told_once_each_with_nobody_listening() {
    let dir = tempfile::tempdir().unwrap();
    let hook = Webhook::start(dir.path()).await.unwrap();
    let mut fleet = fleet(dir.path(), &hook).await;
    let channels = fleet.api.get("/api/alarm-channels").await.unwrap();
    assert!(!channels.to_string().contains(TOKEN) && !channels.to_string().contains(&hook.url));
    let test = format!("/api/alarm-channels/{}/test", channels[0]["id"].as_str().unwrap());
    let tried = fleet.api.post(&test, &json!({ "host_id": fleet.host })).await.unwrap();
    assert_eq!(tried["machine"], MACHINE);
    assert_eq!(hook.states(), ["test"]);
    fleet.manager.stop().await.unwrap();
    let place = fleet.server.folder(MACHINE);
    let aside = dir.path().join("aside");
    std::fs::rename(&place, &aside).unwrap();
    wait_for_states(&hook, &["test", "failed"]).await;
    let told = &hook.told()[1..];
    assert_eq!(told[0].line, "POST /hook");
    assert!(told[0].head.contains(&format!("authorization: bearer {TOKEN}")), "{}", told[0].head);
    let body = &told[0].body;
    assert_eq!(
        (&body["plan"], &body["repository"]),
        (&json!("Everything that matters"), &json!("Attic"))
    );
    assert_eq!(body["code"], "repository_missing");
    let text = body.to_string();
    for secret in [&fleet.secrets.repository, &fleet.secrets.credential, "source", TOKEN] {
        assert!(!text.contains(secret), "{text}");
    }
    // It fails once more, in an agent that was killed meanwhile, and nobody is told again.
    wait_for_noted(&fleet).await;
    fleet.agent.kill_9().await.unwrap();
    fleet.agent.start(Rights::Full).unwrap();
    wait_for_another_end(&fleet).await;
    std::fs::rename(&aside, &place).unwrap();
    wait_for_states(&hook, &["test", "failed", "good"]).await;
    fleet.manager.start().await.unwrap();
    fleet.in_sync().await.unwrap();
    let mut seen = Vec::new();
    let alarms = wait_for("the manager to hear of both", async || {
        seen = alarms(&fleet).await;
        let sent = |alarm: &Value| alarm["deliveries"][0]["result"] == "sent";
        Ok((seen.len() == 2 && seen.iter().all(sent)).then_some(seen.clone()))
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}: {seen:#?}"));
    assert_eq!((&alarms[0]["state"], &alarms[0]["was"]), (&json!("good"), &json!("failed")));
    assert_eq!(
        (&alarms[1]["state"], &alarms[1]["code"]),
        (&json!("failed"), &json!("repository_missing"))
    );
    assert_eq!(alarms[1]["deliveries"][0]["channel_name"], "Chat");
    assert_eq!(hook.states(), ["test", "failed", "good"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dies_while_it_tells_loses_a_message_and_never_doubles_one() {
    let dir = tempfile::tempdir().unwrap();
    let hook = Webhook::start(dir.path()).await.unwrap();
    let mut fleet = fleet(dir.path(), &hook).await;
    fleet.manager.stop().await.unwrap();
    fleet.agent.stop().await.unwrap();
    let place = fleet.server.folder(MACHINE);
    let aside = dir.path().join("aside");
    std::fs::rename(&place, &aside).unwrap();
    start_until(&mut fleet, Some("before-alarm-sent"));
    wait_for_crash(&mut fleet).await;
    assert_eq!(hook.states(), [""; 0]);
    start_until(&mut fleet, Some("after-alarm-sent"));
    wait_for_another_end(&fleet).await;
    std::fs::rename(&aside, &place).unwrap();
    wait_for_crash(&mut fleet).await;
    assert_eq!(hook.states(), ["good"]);
    start_until(&mut fleet, None);
    wait_for_another_end(&fleet).await;
    assert_eq!(hook.states(), ["good"]);
    fleet.manager.start().await.unwrap();
    wait_for("the manager to hear that nobody knows", async || {
        let alarms = alarms(&fleet).await;
        let unsure = |alarm: &Value| alarm["deliveries"][0]["result"] == "uncertain";
        Ok((alarms.len() == 2 && alarms.iter().all(unsure)).then_some(()))
    })
    .await
    .unwrap();
}
