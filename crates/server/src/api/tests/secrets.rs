//! Planted secrets: no answer and no file gives one away.

use super::Fleet;
use serde_json::json;

#[tokio::test]
async fn no_answer_and_no_file_contains_a_secret() {
    let fleet = Fleet::new().await;
    let host = fleet.host("web-1").await;
    fleet.put("/api/system/addresses", json!({"addresses": ["box:9781"]})).await.ok(200);
    let form = json!({"name": "given", "url": "rest:https://nas/x/", "username": "web",
        "password": "canary-password-1", "credential": "canary-credential-2"});
    let given = fleet.post("/api/repositories", form).await;
    let form = json!({"name": "minted", "url": "rest:https://nas/y/", "username": "web"});
    let minted = fleet.post("/api/repositories", form).await.ok(201);
    let id = super::id_of(&minted["repository"]);
    let plan = fleet.plan("etc", &id, &[host]).await;
    let enrolled = fleet.post("/api/enrolments", json!({"name": "web-2"})).await.ok(201);
    let refused = fleet
        .post("/api/repositories", json!({"name": "x", "url": "rest:https://u:canary-url-3@nas/"}))
        .await;
    let changed = fleet
        .put(&format!("/api/repositories/{id}"), json!({"password": "canary-password-4"}))
        .await;
    let wrong = fleet.put(&format!("/api/repositories/{id}"), json!({"password": 748_201})).await;
    assert!(!wrong.text().contains("748201"), "{}", wrong.text());

    let mut secrets: Vec<String> =
        ["canary-password-1", "canary-credential-2", "canary-url-3", "canary-password-4"]
            .map(str::to_owned)
            .to_vec();
    for text in [&minted["minted_password"], &minted["minted_credential"], &enrolled["token"]] {
        secrets.push(text.as_str().unwrap().to_owned());
    }
    let mut answers = vec![given, refused, changed];
    for path in [
        "/api/session".to_owned(),
        "/api/system".to_owned(),
        "/api/repositories".to_owned(),
        format!("/api/repositories/{id}"),
        format!("/api/repositories/{id}/snapshots"),
        "/api/plans".to_owned(),
        format!("/api/plans/{plan}"),
        "/api/enrolments".to_owned(),
        "/api/hosts".to_owned(),
        format!("/api/hosts/{host}"),
        "/api/runs".to_owned(),
        "/api/notices".to_owned(),
        "/api/audit".to_owned(),
    ] {
        answers.push(fleet.get(&path).await);
    }
    let revoke = format!("/api/hosts/{host}/revoke");
    answers.push(fleet.post(&revoke, json!({"confirm": "web-1"})).await);
    for (answer, secret) in answers.iter().flat_map(|a| secrets.iter().map(move |s| (a, s))) {
        assert!(!answer.text().contains(secret.as_str()), "{secret} in {}", answer.text());
    }
    for entry in std::fs::read_dir(fleet.dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        for secret in &secrets {
            let is_there = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!is_there, "{secret} in {}", path.display());
        }
    }
}
