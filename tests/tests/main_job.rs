//! The main job between real processes, and what an admin does around it.

use reqwest::Method;
use serde_json::json;
use std::fs;
use testkit::{
    agent::Rights,
    arguments::ArgumentWatch,
    fleet::{Fleet, Logs, text},
    planted::escaped,
    proxy::Mode,
    rest_server::Deletes,
    tools::Tools,
    tree,
};

#[tokio::test(flavor = "multi_thread")]
async fn every_pinned_restic_backs_up_and_restores_through_the_whole_chain() {
    for restic in Tools::of_workspace().every_restic().unwrap() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        tree::make_small(&source).unwrap();
        let tools = Tools::of_workspace();
        let mut fleet = Fleet::start(dir.path(), &tools, &source, Deletes::Allowed).await.unwrap();
        fleet.agent.stop().await.unwrap();
        fleet.agent.restic = restic;
        fleet.agent.start(Rights::Full).unwrap();
        fleet.in_sync().await.unwrap();

        fleet.run(&fleet.init()).await.unwrap().expect("succeeded").unwrap();
        let backup = fleet.run(&fleet.backup()).await.unwrap().expect("succeeded").unwrap();
        let snapshot = backup.snapshot().unwrap();
        fleet.lists(&snapshot).await.unwrap();
        let restored =
            fleet.run(&fleet.restore(&snapshot)).await.unwrap().expect("succeeded").unwrap();
        let target = restored.target().unwrap().join(source.strip_prefix("/").unwrap());
        assert_eq!(tree::differences(&source, &target).unwrap(), Vec::<String>::new());
        for request in [
            json!({ "kind": "check", "repository_id": fleet.repository }),
            json!({ "kind": "check", "repository_id": fleet.repository, "read_data": true }),
            json!({ "kind": "stats", "repository_id": fleet.repository }),
            json!({ "kind": "unlock", "repository_id": fleet.repository }),
        ] {
            fleet.run(&request).await.unwrap().expect("succeeded").unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chosen_names_are_restored_literally_and_nothing_else_is() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    tree::make_small(&source).unwrap();
    let fleet = Fleet::initialised(dir.path(), &Tools::of_workspace(), &source, Deletes::Allowed)
        .await
        .unwrap();
    let backup = fleet.run(&fleet.backup()).await.unwrap().expect("succeeded").unwrap();
    let mut request = fleet.restore(&backup.snapshot().unwrap());
    request["include"] = json!([source.join("we[ird]*na?me")]);
    let restored = fleet.run(&request).await.unwrap().expect("succeeded").unwrap();
    let target = restored.target().unwrap().join(source.strip_prefix("/").unwrap());
    assert_eq!(tree::names(&target).unwrap(), ["we[ird]*na?me"]);

    request["include"] = json!([source.join("never was here")]);
    let restored = fleet.run(&request).await.unwrap();
    assert_ne!(restored.run["status"], "succeeded", "{:#}", restored.run);
    let missing = &restored.run["restore"]["missing"][0];
    assert_eq!(missing.as_str(), source.join("never was here").to_str(), "{:#}", restored.run);
}

#[tokio::test(flavor = "multi_thread")]
async fn forget_keeps_what_the_plan_keeps_and_prune_follows() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    tree::make_small(&source).unwrap();
    let fleet = Fleet::initialised(dir.path(), &Tools::of_workspace(), &source, Deletes::Allowed)
        .await
        .unwrap();
    let plan = format!("/api/plans/{}", fleet.plan);
    fleet
        .api
        .call(Method::PUT, &plan, Some(&json!({ "retention": { "keep_last": 1 } })))
        .await
        .unwrap();
    let mut newest = String::new();
    for round in 0..3 {
        fs::write(source.join("one"), format!("round {round}")).unwrap();
        newest = fleet
            .run(&fleet.backup())
            .await
            .unwrap()
            .expect("succeeded")
            .unwrap()
            .snapshot()
            .unwrap();
    }
    let host = fleet.in_sync().await.unwrap();
    let forget = json!({ "kind": "forget", "plan_id": fleet.plan, "confirm": host["name"] });
    fleet.run(&forget).await.unwrap().expect("succeeded").unwrap();
    let prune =
        json!({ "kind": "prune", "repository_id": fleet.repository, "confirm": host["name"] });
    fleet.run(&prune).await.unwrap().expect("succeeded").unwrap();
    let path = format!("/api/repositories/{}/snapshots", fleet.repository);
    testkit::wait_for("the list to shrink to the newest", async || {
        let list = fleet.api.get(&path).await?;
        let ids: Vec<_> =
            list["snapshots"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
        Ok((ids == [json!(newest)]).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_only_server_takes_backups_and_nothing_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    tree::make_small(&source).unwrap();
    let fleet = Fleet::initialised(dir.path(), &Tools::of_workspace(), &source, Deletes::Refused)
        .await
        .unwrap();
    fleet.run(&fleet.backup()).await.unwrap().expect("succeeded").unwrap();
    let second = fleet.run(&fleet.backup()).await.unwrap().expect("succeeded").unwrap();
    fleet.lists(&second.snapshot().unwrap()).await.unwrap();

    // The manager knows that this repository is append-only, and does not even ask.
    let host = fleet.in_sync().await.unwrap();
    let runs = format!("/api/hosts/{}/runs", fleet.host);
    let forget = json!({ "kind": "forget", "plan_id": fleet.plan, "confirm": host["name"] });
    fleet.api.refused(Method::POST, &runs, &forget).await.unwrap();

    // Told otherwise it asks, and the server's refusal comes back in words.
    let repository = format!("/api/repositories/{}", fleet.repository);
    fleet.api.call(Method::PUT, &repository, Some(&json!({ "append_only": false }))).await.unwrap();
    let plan = format!("/api/plans/{}", fleet.plan);
    fleet
        .api
        .call(Method::PUT, &plan, Some(&json!({ "retention": { "keep_last": 1 } })))
        .await
        .unwrap();
    let refused = fleet.run(&forget).await.unwrap().expect("failed").unwrap();
    assert_eq!(refused.run["code"], "repository_append_only", "{:#}", refused.run);
    assert!(refused.run["guidance"].is_string());
    fleet.lists(&second.snapshot().unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_come_back_with_a_code_and_with_guidance() {
    let watch = ArgumentWatch::start();
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    tree::make_small(&source).unwrap();
    let mut fleet =
        Fleet::start(dir.path(), &Tools::of_workspace(), &source, Deletes::Allowed).await.unwrap();
    let expect = async |request: serde_json::Value, code: &str| {
        let run = fleet.run(&request).await.unwrap().run;
        assert_eq!(run["status"], "failed", "{run:#}");
        assert_eq!(run["code"], code, "{run:#}");
        assert!(run["error"].is_string() && run["guidance"].is_string(), "{run:#}");
    };
    expect(fleet.backup(), "repository_missing").await;
    fleet.run(&fleet.init()).await.unwrap().expect("succeeded").unwrap();
    expect(fleet.init(), "repository_exists").await;
    let runs = format!("/api/hosts/{}/runs", fleet.host);
    let unknown = fleet.restore(&"0".repeat(64));
    let problem = fleet.api.refused(Method::POST, &runs, &unknown).await.unwrap();
    assert_eq!(problem["code"], "snapshot_unknown");

    let repository = format!("/api/repositories/{}", fleet.repository);
    let name = fleet.api.get(&repository).await.unwrap()["name"].clone();
    for (change, code) in [
        (json!({ "password": "another %zz/# password", "confirm": name }), "wrong_password"),
        (json!({ "credential": "another" }), "repository_auth"),
        (json!({ "ca_pem": null }), "certificate_unknown"),
    ] {
        fleet.api.call(Method::PUT, &repository, Some(&change)).await.unwrap();
        fleet.in_sync().await.unwrap();
        expect(fleet.backup(), code).await;
    }
    fs::remove_dir_all(&source).unwrap();
    let restored = json!({
        "password": fleet.secrets.repository, "confirm": name,
        "credential": fleet.secrets.credential, "ca_pem": fleet.server.ca_pem,
    });
    fleet.api.call(Method::PUT, &repository, Some(&restored)).await.unwrap();
    fleet.in_sync().await.unwrap();
    expect(fleet.backup(), "source_missing").await;
    // A folder whose disk is not mounted is there, and there is nothing in it.
    fs::create_dir(&source).unwrap();
    expect(fleet.backup(), "source_empty").await;

    // None of these failures carried a secret away.
    fleet.agent.stop().await.unwrap();
    fleet.manager.stop().await.unwrap();
    assert_eq!(escaped(dir.path(), &fleet, watch).await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_leaves_its_place_even_when_everything_is_logged() {
    let watch = ArgumentWatch::start();
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    tree::make_small(&source).unwrap();
    let tools = Tools::of_workspace();
    let mut fleet =
        Fleet::start_logging(dir.path(), &tools, &source, Deletes::Allowed, Logs::Everything)
            .await
            .unwrap();
    fleet.run(&fleet.init()).await.unwrap().expect("succeeded").unwrap();
    let backup = fleet.run(&fleet.backup()).await.unwrap().expect("succeeded").unwrap();
    let snapshot = backup.snapshot().unwrap();
    fleet.lists(&snapshot).await.unwrap();
    fleet.run(&fleet.restore(&snapshot)).await.unwrap().expect("succeeded").unwrap();
    // Everything that can be read is read, for what the answers may show.
    for path in [
        "/api/hosts",
        "/api/repositories",
        "/api/plans",
        "/api/enrolments",
        "/api/notices",
        "/api/audit",
    ] {
        fleet.api.get(path).await.unwrap();
    }
    fleet.agent.status_in_words().unwrap();
    fleet.agent.stop().await.unwrap();
    fleet.manager.stop().await.unwrap();
    for log in ["manager/manager.log", "agent/agent.log"] {
        let text = fs::read_to_string(dir.path().join(log)).unwrap();
        assert!(text.contains("TRACE"), "{log} has not everything");
    }
    assert_eq!(escaped(dir.path(), &fleet, watch).await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn asking_twice_is_one_run_and_a_run_asked_of_an_absent_machine_waits() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    tree::make_small(&source).unwrap();
    let mut fleet =
        Fleet::initialised(dir.path(), &Tools::of_workspace(), &source, Deletes::Allowed)
            .await
            .unwrap();
    fleet.agent.stop().await.unwrap();
    let run = fleet.ask(&fleet.backup()).await.unwrap();
    let runs = format!("/api/hosts/{}/runs", fleet.host);
    let problem = fleet.api.refused(Method::POST, &runs, &fleet.backup()).await.unwrap();
    assert_eq!(problem["code"], "conflict");
    assert_eq!(text(&fleet.show(&run).await.unwrap(), "status").unwrap(), "queued");
    fleet.agent.start(Rights::Full).unwrap();
    fleet.reaches(&run, &["succeeded"]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_of_a_cut_link_arrives_when_the_link_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    tree::make_big(&source).unwrap();
    let fleet = Fleet::initialised(dir.path(), &Tools::of_workspace(), &source, Deletes::Allowed)
        .await
        .unwrap();
    let run = fleet.in_the_middle().await.unwrap();
    fleet.manager.network.set(Mode::Cut);
    fleet.server.network.set(Mode::Open);
    testkit::wait_for("the agent to finish by itself", async || {
        let status = fleet.agent.status()?;
        Ok(status["open_runs"].as_array().is_some_and(Vec::is_empty).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(fleet.show(&run).await.unwrap()["status"], "running", "the manager cannot know yet");
    fleet.manager.network.set(Mode::Open);
    let shown = fleet.reaches(&run, &["succeeded"]).await.unwrap();
    let lines = shown["log_lines"].as_u64().unwrap();
    let log = fleet.api.get(&format!("/api/runs/{run}/log?after_line=0&limit=1000")).await.unwrap();
    let seqs: Vec<u64> =
        log["lines"].as_array().unwrap().iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=lines).collect::<Vec<_>>(), "every line, once, in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_asked_before_it_is_saved() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    tree::make_small(&source).unwrap();
    let tools = Tools::of_workspace();
    let mut fleet = Fleet::start(dir.path(), &tools, &source, Deletes::Allowed).await.unwrap();
    let shown = fleet.api.get(&format!("/api/repositories/{}", fleet.repository)).await.unwrap();
    let test = "/api/repositories/test";
    let whole = json!({
        "url": shown["url"],
        "username": shown["username"],
        "credential": fleet.secrets.credential,
        "ca_pem": fleet.server.ca_pem,
    });
    let with = |name: &str, value: serde_json::Value| {
        let mut form = whole.clone();
        form[name] = value;
        form
    };
    assert_eq!(fleet.api.post(test, &whole).await.unwrap()["state"], "empty");
    let open = fleet.api.post(test, &with("credential", json!(null))).await.unwrap();
    assert_eq!(open["state"], "password_needed");
    let folder = fleet.api.post(test, &with("url", json!("/srv/box"))).await.unwrap();
    assert_eq!(folder["state"], "not_asked");
    for (form, code, field) in [
        (with("credential", json!("wrong")), "repository_auth", "credential"),
        (with("ca_pem", json!(null)), "certificate_unknown", "ca_pem"),
        (with("url", json!("rest:https://localhost:1/box/")), "repository_unreachable", "url"),
        (with("url", json!("s3:host/bucket")), "repository_url_invalid", "url"),
        (with("url", json!("sftp:-oProxyCommand=x:/y")), "repository_url_invalid", "url"),
    ] {
        let refusal = fleet.api.refused(Method::POST, test, &form).await.unwrap();
        assert_eq!(
            (&refusal["code"], &refusal["field"]),
            (&json!(code), &json!(field)),
            "{refusal}"
        );
        assert!(!refusal.to_string().contains(&fleet.secrets.credential));
    }
    fleet.run(&fleet.init()).await.unwrap().expect("succeeded").unwrap();
    assert_eq!(fleet.api.post(test, &whole).await.unwrap()["state"], "repository");
    fleet.server.kill().await.unwrap();
    let refusal = fleet.api.refused(Method::POST, test, &whole).await.unwrap();
    assert_eq!(refusal["code"], "repository_unreachable", "{refusal}");
}
