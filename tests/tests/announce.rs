//! A machine without a token asks to join: who gets in, who does not, and what is seen when somebody
//! stands between it and the manager.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop")]

use reqwest::Method;
use schedule::ManualClock;
use serde_json::{Value, json};
use server::{
    announcements::VALID,
    server::{Config, Deps, Server},
    vault::FileKeyStore,
};
use std::{path::Path, sync::Arc};
use testkit::{
    agent::{Agent, Announcing, Rights},
    api::Api,
    manager::Manager,
    relay::{Relay, Trick},
    tools::Tools,
    wait_for,
};

fn agent(root: &Path) -> Agent {
    Agent::new(root, Tools::of_workspace().restic().unwrap())
}

/// The machines that ask, once there are so many.
async fn asking(api: &Api, count: usize) -> Vec<Value> {
    wait_for(&format!("{count} machines to ask"), async || {
        let all = api.get("/api/announcements").await?;
        let all = all.as_array().unwrap();
        Ok((all.len() == count).then(|| all.clone()))
    })
    .await
    .unwrap()
}

/// The only machine that asks, once root has confirmed it.
async fn confirmed(api: &Api) -> Value {
    wait_for("the machine to be confirmed", async || {
        let first = api.get("/api/announcements").await?[0].clone();
        Ok((first["is_confirmed"] == true).then_some(first))
    })
    .await
    .unwrap()
}

async fn hosts(api: &Api) -> Vec<Value> {
    api.get("/api/hosts").await.unwrap().as_array().unwrap().clone()
}

fn path(announcement: &Value, act: &str) -> String {
    format!("/api/announcements/{}/{act}", announcement["id"].as_str().unwrap())
}

/// That it ended without success, with these words, and left nothing of an identity behind.
async fn came_to_nothing(announcing: Announcing, agent: &Agent, words: &[&str]) {
    let (status, printed) = announcing.ended().await.unwrap();
    assert!(!status.success(), "{printed}");
    for word in words {
        assert!(printed.contains(word), "«{word}» is not in: {printed}");
    }
    let left: Vec<_> = std::fs::read_dir(agent.state()).unwrap().map(|it| it.unwrap()).collect();
    for name in ["agent.key", "agent.crt", "enrolment.json", "agent.json"] {
        assert!(left.iter().all(|it| it.file_name() != name), "{name} was written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_asks_is_confirmed_approved_and_connected() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::create(&dir.path().join("manager")).await.unwrap();
    let api = manager.api().await.unwrap();
    let mut machine = agent(&dir.path().join("agent"));
    let mut announcing = machine.announce(&manager.ready().agent).unwrap();
    let code = announcing.code().await.unwrap();
    let shown = asking(&api, 1).await.remove(0);
    assert_eq!(shown["code"], code.as_str());
    assert_eq!((&shown["is_confirmed"], &shown["is_name_taken"]), (&json!(false), &json!(false)));

    let form = json!({ "name": "web-1", "code": code });
    let early = api.refused(Method::POST, &path(&shown, "approve"), &form).await.unwrap();
    assert_eq!(early["code"], "conflict", "the admin alone does not let it in: {early}");
    // As a person types it.
    announcing.type_code(&code.to_lowercase().replace('-', "")).unwrap();
    let shown = confirmed(&api).await;
    let other = json!({ "name": "web-1", "code": "AAAA-AAAA" });
    let wrong = api.refused(Method::POST, &path(&shown, "approve"), &other).await.unwrap();
    assert_eq!((&wrong["code"], &wrong["field"]), (&json!("not_confirmed"), &json!("code")));
    let approved = api.post(&path(&shown, "approve"), &form).await.unwrap();
    let (status, printed) = announcing.ended().await.unwrap();
    assert!(status.success(), "{printed}");

    machine.start(Rights::Full).unwrap();
    let host = wait_for("the machine to be online and in sync", async || {
        let host = api.get("/api/hosts").await?[0].clone();
        Ok((host["is_online"] == true && host["in_sync"] == true).then_some(host))
    })
    .await
    .unwrap();
    assert_eq!((&host["id"], &host["name"]), (&approved["host_id"], &json!("web-1")));
    asking(&api, 0).await;
    let enrolment = std::fs::read_to_string(machine.state().join("enrolment.json")).unwrap();
    let enrolment: Value = serde_json::from_str(&enrolment).unwrap();
    assert_eq!(enrolment["manager_key"], manager.ready().manager_key.as_str());
    let entries = api.get("/api/audit").await.unwrap();
    let entries = entries.as_array().unwrap().iter();
    let done: Vec<_> = entries.map(|it| it["action"].as_str().unwrap().to_owned()).collect();
    let mut told = done.iter().rev().filter(|it| !it.starts_with("session"));
    for action in ["announcement.create", "host.enrol", "announcement.approve"] {
        assert!(told.any(|it| it == action), "{action} is not in {done:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_code_writes_nothing_and_approves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::create(&dir.path().join("manager")).await.unwrap();
    let api = manager.api().await.unwrap();
    for (at, typed) in ["AAAA-AAAA", ""].into_iter().enumerate() {
        let machine = agent(&dir.path().join(format!("agent {at}")));
        let mut announcing = machine.announce(&manager.ready().agent).unwrap();
        announcing.code().await.unwrap();
        announcing.type_code(typed).unwrap();
        came_to_nothing(announcing, &machine, &["Nothing was written"]).await;
        let shown = asking(&api, at + 1).await.remove(at);
        assert_eq!(shown["is_confirmed"], false);
        let form = json!({ "name": "x", "code": shown["code"] });
        let refused = api.refused(Method::POST, &path(&shown, "approve"), &form).await.unwrap();
        assert_eq!(refused["code"], "conflict");
    }
    assert!(hosts(&api).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_refused_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::create(&dir.path().join("manager")).await.unwrap();
    let api = manager.api().await.unwrap();
    let machine = agent(&dir.path().join("agent"));
    let mut announcing = machine.announce(&manager.ready().agent).unwrap();
    let code = announcing.code().await.unwrap();
    announcing.type_code(&code).unwrap();
    let shown = confirmed(&api).await;
    api.post(&path(&shown, "refuse"), &json!({})).await.unwrap();
    came_to_nothing(announcing, &machine, &["admin refused this machine", "Ask why"]).await;
    asking(&api, 0).await;
    let form = json!({ "name": "x", "code": code });
    let late = api.refused(Method::POST, &path(&shown, "approve"), &form).await.unwrap();
    assert_eq!(late["code"], "announcement_over");
    assert!(hosts(&api).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announcement_that_nobody_approves_is_over_after_a_quarter_of_an_hour() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new("2026-11-23T12:00:00Z".parse().unwrap()));
    let config = Config {
        data_dir: dir.path().join("manager"),
        agent_listen: "127.0.0.1:0".parse().unwrap(),
        agent_addresses: Vec::new(),
        programs: None,
        found_addresses: Vec::new(),
    };
    let key_store = Arc::new(FileKeyStore::new(dir.path().join("vault.key")));
    let deps = Deps { clock: clock.clone(), key_store };
    let server = Server::start(config, deps).await.unwrap();
    let announcements = server.manager().announcements();
    let machine = agent(&dir.path().join("agent"));
    let mut announcing = machine.announce(&server.agent_addr().to_string()).unwrap();
    let code = announcing.code().await.unwrap();
    announcing.type_code(&code).unwrap();
    let now = || server.manager().now();
    wait_for("the machine to be confirmed", async || {
        Ok(announcements.list(now()).iter().any(|it| it.is_confirmed).then_some(()))
    })
    .await
    .unwrap();
    clock.advance(VALID);
    announcements.sweep(now());
    let words = ["announcement is over", "quarter of an hour", "Announce the machine again"];
    came_to_nothing(announcing, &machine, &words).await;
    assert!(server::db::hosts::list(server.manager().db().read()).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announcement_ends_with_the_manager_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let mut manager = Manager::create(&dir.path().join("manager")).await.unwrap();
    let machine = agent(&dir.path().join("agent"));
    let mut announcing = machine.announce(&manager.ready().agent).unwrap();
    let code = announcing.code().await.unwrap();
    manager.stop().await.unwrap();
    // It is not there any more, and then it is and remembers nothing.
    announcing.type_code(&code).unwrap();
    manager.start().await.unwrap();
    let words = ["announcement is over", "quarter of an hour", "Announce the machine again"];
    came_to_nothing(announcing, &machine, &words).await;
    assert!(hosts(&manager.api().await.unwrap()).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_address_may_ask_for_more_than_three_machines_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::create(&dir.path().join("manager")).await.unwrap();
    let api = manager.api().await.unwrap();
    let mut waiting = Vec::new();
    for at in 0..3 {
        let mut announcing = agent(&dir.path().join(format!("agent {at}")))
            .announce(&manager.ready().agent)
            .unwrap();
        announcing.code().await.unwrap();
        waiting.push(announcing);
    }
    let first = asking(&api, 3).await.remove(0);
    let machine = agent(&dir.path().join("one too many"));
    let announcing = machine.announce(&manager.ready().agent).unwrap();
    came_to_nothing(announcing, &machine, &["Too many machines ask", "Approve or refuse"]).await;
    assert_eq!(asking(&api, 3).await[0], first, "whoever came first stays");
    // What to do helps.
    api.post(&path(&first, "refuse"), &json!({})).await.unwrap();
    machine.announce(&manager.ready().agent).unwrap().code().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_in_the_middle_makes_the_codes_differ() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::create(&dir.path().join("manager")).await.unwrap();
    let api = manager.api().await.unwrap();
    let relay = Relay::start(manager.ready(), Trick::SwapsKeys).await.unwrap();
    let machine = agent(&dir.path().join("agent"));
    let mut announcing = machine.announce(&relay.address()).unwrap();
    let on_machine = announcing.code().await.unwrap();
    let shown = asking(&api, 1).await.remove(0);
    let in_app = shown["code"].as_str().unwrap();
    assert_ne!(in_app, on_machine);
    // Root types what the app shows, as it is told to.
    announcing.type_code(in_app).unwrap();
    came_to_nothing(announcing, &machine, &["somebody may be between", "use an install line"])
        .await;
    assert_eq!(asking(&api, 1).await[0]["is_confirmed"], false);
    assert!(hosts(&api).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_in_the_middle_can_neither_change_a_nonce_nor_pass_a_commitment_on() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::create(&dir.path().join("manager")).await.unwrap();
    let api = manager.api().await.unwrap();
    for (at, trick) in [Trick::SwapsKeysAndNonce, Trick::Listens].into_iter().enumerate() {
        let relay = Relay::start(manager.ready(), trick).await.unwrap();
        let machine = agent(&dir.path().join(format!("agent {at}")));
        let announcing = machine.announce(&relay.address()).unwrap();
        let words = ["not what it had committed to", "Somebody between"];
        came_to_nothing(announcing, &machine, &words).await;
        asking(&api, 0).await;
    }
}
