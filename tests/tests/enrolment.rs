//! Who is let in, who is not, and what a person is told.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop")]

use reqwest::Method;
use serde_json::{Value, json};
use std::{path::Path, process::Command};
use testkit::{
    agent::{Agent, Rights},
    api::Api,
    clock::Ahead,
    fleet::{Fleet, enrolment_token},
    manager::{Manager, Ready},
    rest_server::Deletes,
    tools::Tools,
    tree, wait_for,
};

fn agent(root: &Path) -> Agent {
    Agent::new(root, Tools::of_workspace().restic().unwrap())
}

/// Enrolment that must fail, and whose message must hold these words.
fn refused(agent: &Agent, ready: &Ready, token: &str, words: &[&str]) {
    let (status, printed) = agent.try_enrol(ready, token, &[]).unwrap();
    assert!(!status.success(), "{printed}");
    for word in words {
        assert!(printed.contains(word), "«{word}» is not in: {printed}");
    }
    assert!(!printed.contains(token), "the message shows the token: {printed}");
}

async fn notice(api: &Api, code: &str) -> Value {
    wait_for(&format!("a notice {code}"), async || {
        let notices = api.get("/api/notices").await?;
        let all = notices.as_array().unwrap();
        Ok(all.iter().find(|notice| notice["code"] == code).cloned())
    })
    .await
    .unwrap()
}

async fn hosts(api: &Api) -> Vec<Value> {
    api.get("/api/hosts").await.unwrap().as_array().unwrap().clone()
}

async fn fleet(root: &Path) -> Fleet {
    let source = root.join("source");
    tree::make_small(&source).unwrap();
    Fleet::initialised(root, &Tools::of_workspace(), &source, Deletes::Allowed).await.unwrap()
}

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::create(&dir.path().join("manager")).await.unwrap();
    refused(&agent(&dir.path().join("agent")), manager.ready(), "not-a-token-at-all", &["token"]);
    assert!(hosts(&manager.api().await.unwrap()).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_use_of_a_token_holds_both_machines_and_tells_the_admin() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::create(&dir.path().join("manager")).await.unwrap();
    let api = manager.api().await.unwrap();
    let token = enrolment_token(&api, "first", None).await.unwrap();
    let mut first = agent(&dir.path().join("first"));
    first.enrol(manager.ready(), &token).unwrap();
    first.start(Rights::Full).unwrap();
    wait_for("the first to be online", async || {
        Ok((hosts(&api).await[0]["is_online"] == true).then_some(()))
    })
    .await
    .unwrap();
    refused(&agent(&dir.path().join("second")), manager.ready(), &token, &["used"]);
    notice(&api, "enrolment_suspect").await;
    let hosts = hosts(&api).await;
    assert_eq!(hosts.len(), 1, "the second machine is no host");
    assert_eq!(hosts[0]["hold"]["code"], "enrolment_suspect", "{:#}", hosts[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_with_another_key_gets_nothing_not_even_the_token() {
    let dir = tempfile::tempdir().unwrap();
    let real = Manager::create(&dir.path().join("real")).await.unwrap();
    let other = Manager::create(&dir.path().join("other")).await.unwrap();
    let token = enrolment_token(&other.api().await.unwrap(), "x", None).await.unwrap();
    // The right address with a wrong key: the server there is not the one that was meant.
    let mixed = Ready { manager_key: real.ready().manager_key.clone(), ..other.ready().clone() };
    refused(&agent(&dir.path().join("agent")), &mixed, &token, &["not the manager"]);
    assert!(hosts(&other.api().await.unwrap()).await.is_empty(), "the token was not used");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawn_token_is_worth_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::create(&dir.path().join("manager")).await.unwrap();
    let api = manager.api().await.unwrap();
    let enrolment = api.post("/api/enrolments", &json!({ "name": "x" })).await.unwrap();
    let path = format!("/api/enrolments/{}", enrolment["id"].as_str().unwrap());
    let (status, _) = api.call(Method::DELETE, &path, None).await.unwrap();
    assert!(status.is_success());
    let token = enrolment["token"].as_str().unwrap();
    refused(&agent(&dir.path().join("agent")), manager.ready(), token, &["token"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_whose_hour_is_over_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    // Minted an hour and a second ago, by the manager's clock.
    let clock = Ahead::new(&dir.path().join("clock")).unwrap();
    clock.set(-3601).unwrap();
    let late = vec![clock.environment()];
    let mut manager = Manager::create_with(&dir.path().join("manager"), late).await.unwrap();
    let api = manager.api().await.unwrap();
    let token = enrolment_token(&api, "x", None).await.unwrap();
    manager.stop().await.unwrap();
    manager.environment.clear();
    manager.start().await.unwrap();
    let api = manager.api().await.unwrap();
    let mut machine = agent(&dir.path().join("agent"));
    let words = ["This token is too old.", "Make a new install line for this machine"];
    refused(&machine, manager.ready(), &token, &words);
    assert!(hosts(&api).await.is_empty());
    assert_eq!(api.get("/api/enrolments").await.unwrap()[0]["state"], "expired");

    // What to do helps, on the same machine.
    let token = enrolment_token(&api, "x", None).await.unwrap();
    machine.enrol(manager.ready(), &token).unwrap();
    machine.start(Rights::Full).unwrap();
    wait_for("the machine to be online", async || {
        Ok((hosts(&api).await[0]["is_online"] == true).then_some(()))
    })
    .await
    .unwrap();
}

/// The protocol from before the first that a manager understands.
fn of_an_older_age() -> Vec<(String, String)> {
    vec![("RESTIC_MANAGER_TEST_PROTOCOL".to_owned(), "0".to_owned())]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_too_old_is_not_enrolled_and_keeps_its_token() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::create(&dir.path().join("manager")).await.unwrap();
    let api = manager.api().await.unwrap();
    let token = enrolment_token(&api, "x", None).await.unwrap();
    let mut machine = agent(&dir.path().join("agent"));
    machine.environment = of_an_older_age();
    let words = ["The agent speaks protocol 0", "Update the agent on this machine."];
    refused(&machine, manager.ready(), &token, &words);
    assert!(hosts(&api).await.is_empty());
    machine.environment.clear();
    machine.enrol(manager.ready(), &token).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_too_old_says_in_status_and_log_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(dir.path()).await;
    fleet.agent.stop().await.unwrap();
    fleet.agent.environment = of_an_older_age();
    fleet.agent.start(Rights::Full).unwrap();
    let problem = wait_for("the agent to know that it is too old", async || {
        let problem = fleet.agent.status()?["connection"]["problem"].clone();
        Ok((problem["code"] == "agent_too_old").then_some(problem))
    })
    .await
    .unwrap();
    let said = [fleet.agent.status_in_words().unwrap(), fleet.agent.printed().unwrap()];
    for words in ["The agent speaks protocol 0", "Update the agent on this machine."] {
        assert!(problem.to_string().contains(words), "{problem:#}");
        for text in &said {
            assert!(text.contains(words), "«{words}» is not in: {text}");
        }
    }
    // Nothing is asked of it meanwhile, and once it is updated it is as before.
    wait_for("the manager to know that it is away", async || {
        Ok((hosts(&fleet.api).await[0]["is_online"] == false).then_some(()))
    })
    .await
    .unwrap();
    fleet.agent.stop().await.unwrap();
    fleet.agent.environment.clear();
    fleet.agent.start(Rights::Full).unwrap();
    fleet.in_sync().await.unwrap();
    fleet.run(&fleet.backup()).await.unwrap().expect("succeeded").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_agent_is_cut_and_told_why() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = fleet(dir.path()).await;
    let host = fleet.in_sync().await.unwrap();
    let path = format!("/api/hosts/{}/revoke", fleet.host);
    let wrong =
        fleet.api.refused(Method::POST, &path, &json!({ "confirm": "another" })).await.unwrap();
    assert_eq!(wrong["code"], "not_confirmed");
    let answer = fleet.api.post(&path, &json!({ "confirm": host["name"] })).await.unwrap();
    assert!(
        answer.to_string().contains(&fleet.repository),
        "the credentials to rotate are listed: {answer}"
    );
    wait_for("the agent to know that it is revoked", async || {
        Ok(fleet.agent.status()?.to_string().contains("host_revoked").then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_state_folder_is_noticed_and_both_are_held() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(dir.path()).await;
    fleet.agent.stop().await.unwrap();
    let copied = dir.path().join("copy");
    std::fs::create_dir_all(&copied).unwrap();
    copy(&fleet.agent.state(), &copied.join("state"));
    fleet.agent.start(Rights::Full).unwrap();
    fleet.in_sync().await.unwrap();
    let mut clone = agent(&copied);
    clone.start(Rights::Full).unwrap();
    notice(&fleet.api, "clone_suspected").await;
    let host = &hosts(&fleet.api).await[0];
    assert_eq!(host["hold"]["code"], "clone_suspected", "{host:#}");
    // Held means held: nothing is even queued for it.
    let runs = format!("/api/hosts/{}/runs", fleet.host);
    let problem = fleet.api.refused(Method::POST, &runs, &fleet.backup()).await.unwrap();
    assert_eq!(problem["code"], "conflict");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_folder_restored_from_an_older_copy_is_never_silent() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(dir.path()).await;
    fleet.agent.stop().await.unwrap();
    let copied = dir.path().join("older");
    copy(&fleet.agent.state(), &copied);
    fleet.agent.start(Rights::Full).unwrap();
    fleet.in_sync().await.unwrap();
    fleet.run(&fleet.backup()).await.unwrap().expect("succeeded").unwrap();
    fleet.agent.stop().await.unwrap();
    copy(&copied, &fleet.agent.state());
    fleet.agent.start(Rights::Full).unwrap();
    // Its ticket is old, which cannot be told from a clone: the admin decides.
    notice(&fleet.api, "clone_suspected").await;
    fleet.api.post(&format!("/api/hosts/{}/release", fleet.host), &json!({})).await.unwrap();
    notice(&fleet.api, "agent_behind").await;
    fleet.in_sync().await.unwrap();
    let again = fleet.run(&fleet.backup()).await.unwrap().expect("succeeded").unwrap();
    fleet.lists(&again.snapshot().unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_restored_from_an_older_copy_gets_its_history_back_and_asks_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(dir.path()).await;
    fleet.manager.stop().await.unwrap();
    let copied = dir.path().join("older");
    copy(&fleet.manager.data(), &copied);
    fleet.manager.start().await.unwrap();
    fleet.api = fleet.manager.api().await.unwrap();
    fleet.in_sync().await.unwrap();
    let lost = fleet.run(&fleet.backup()).await.unwrap().expect("succeeded").unwrap();
    let lost = lost.run["id"].as_str().unwrap().to_owned();
    fleet.manager.stop().await.unwrap();
    copy(&copied, &fleet.manager.data());
    fleet.manager.start().await.unwrap();
    fleet.api = fleet.manager.api().await.unwrap();
    notice(&fleet.api, "manager_behind").await;
    assert_eq!(hosts(&fleet.api).await[0]["hold"]["code"], "manager_behind");
    fleet.api.post(&format!("/api/hosts/{}/release", fleet.host), &json!({})).await.unwrap();
    fleet.in_sync().await.unwrap();
    wait_for("the forgotten run to be back", async || {
        let (status, run) = fleet.api.call(Method::GET, &format!("/api/runs/{lost}"), None).await?;
        Ok((status.is_success() && run["status"] == "succeeded").then_some(()))
    })
    .await
    .unwrap();
    fleet.run(&fleet.backup()).await.unwrap().expect("succeeded").unwrap();
}
