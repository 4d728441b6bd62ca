//! Alarm channels, through the router.

use super::{Fleet, id_of};
use crate::{
    db::hosts::{self, Heard},
    desired::{Sources, compile},
    events::Topic,
};
use protocol::{
    ALARMS, AlarmTarget, ConfigUpdate, Generation, Hello, HostArch, HostId, HostOs, Incarnation,
    PROTOCOL_VERSION,
};
use serde_json::{Value, json};

impl Fleet {
    /// The agent of this host says what it can do.
    async fn says(&self, host: HostId, capabilities: &[&str]) {
        let hello = Hello {
            protocol_version: PROTOCOL_VERSION,
            agent_version: "0".to_owned(),
            restic_version: String::new(),
            hostname: "box".to_owned(),
            os: HostOs::Linux,
            arch: HostArch::Amd64,
            boot_time: None,
            capabilities: capabilities.iter().map(|it| (*it).to_owned()).collect(),
            requires: Vec::new(),
            time_zone: None,
            time_zone_data: None,
            journal: None,
            manager: None,
            ticket: None,
            open_runs: Vec::new(),
            awake_since: None,
            has_battery: None,
        };
        let mut tx = self.manager.db().begin().await.unwrap();
        let heard = Heard { host, hello: &hello, has_told_all: false, tickets: None };
        hosts::note_hellos(&mut tx, &[heard], self.manager.now()).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// The first half of the host's next desired state.
    async fn config(&self, host: HostId) -> ConfigUpdate {
        let mut tx = self.manager.db().begin().await.unwrap();
        let sources = Sources::read(&mut tx, host).await.unwrap();
        let generation = Generation { incarnation: Incarnation::new(1, &[1; 10]), n: 1 };
        let digest = sources.digest();
        compile(&sources, self.manager.vault(), generation, digest).unwrap().config
    }

    /// The channels in it, by name.
    async fn compiled(&self, host: HostId) -> Vec<(String, AlarmTarget)> {
        let channels = self.config(host).await.alarm_channels;
        channels.into_iter().map(|it| (it.name, it.target)).collect()
    }

    async fn generation(&self, host: HostId) -> Value {
        self.get(&format!("/api/hosts/{host}")).await.ok(200)["desired_generation"].clone()
    }
}

fn webhook(name: &str) -> Value {
    json!({"name": name, "kind": "webhook", "url": "https://chat.example/canary-url",
        "token": "canary-token", "all_hosts": true})
}

#[tokio::test]
async fn a_channel_reaches_the_agents_that_send_alarms_and_its_secrets_nobody_else() {
    let fleet = Fleet::new().await;
    let (one, old) = (fleet.host("one").await, fleet.host("old").await);
    fleet.says(one, &["hooks", ALARMS]).await;
    fleet.says(old, &["hooks"]).await;
    let mut events = fleet.manager.events().subscribe();
    let made = fleet.post("/api/alarm-channels", webhook("Chat")).await.ok(201);
    assert_eq!(
        (&made["place"], &made["has_token"]),
        (&json!("https://chat.example"), &json!(true))
    );
    assert_eq!(made["all_host_ids"].as_array().unwrap().len(), 2);
    assert_eq!(events.recv().await.unwrap().topic, Topic::Alarms);
    let compiled = fleet.compiled(one).await;
    let [(name, AlarmTarget::Webhook { url, token })] = compiled.as_slice() else { panic!() };
    assert_eq!(
        (name.as_str(), url.expose_secret().as_str()),
        ("Chat", "https://chat.example/canary-url")
    );
    assert_eq!(token.as_ref().unwrap().expose_secret(), "canary-token");
    assert!(fleet.compiled(old).await.is_empty());
    assert_eq!(fleet.generation(one).await, 1);
    // An agent that learns it gets the channels with its next hello.
    fleet.says(old, &[ALARMS]).await;
    assert_eq!(fleet.compiled(old).await.len(), 1);
    for path in ["/api/alarm-channels", "/api/audit", "/api/alarms"] {
        let answer = fleet.get(path).await;
        assert!(!answer.text().contains("canary"), "{}", answer.text());
    }
    let bytes = std::fs::read(fleet.dir.path().join("server.db-wal")).unwrap_or_default();
    assert!(!bytes.windows(6).any(|window| window == b"canary"));
}

#[tokio::test]
async fn an_agent_that_tells_alarms_hears_what_its_machine_is_called() {
    let fleet = Fleet::new().await;
    let (one, quiet) = (fleet.host("one").await, fleet.host("quiet").await);
    fleet.says(one, &[ALARMS]).await;
    fleet.says(quiet, &[ALARMS]).await;
    let form = json!({"name": "Chat", "kind": "webhook", "url": "https://chat.example/x",
        "host_ids": [one.to_string()]});
    fleet.post("/api/alarm-channels", form).await.ok(201);
    assert_eq!(fleet.generation(one).await, 1);
    // The first that is compiled at all is a generation too.
    let renamed = [(one, "uno", 2), (one, "uno", 2), (quiet, "still", 1), (quiet, "silent", 1)];
    for (host, name, generation) in renamed {
        let path = format!("/api/hosts/{host}");
        fleet.send("PATCH", &path, Some(json!({ "name": name }))).await.ok(200);
        assert_eq!(fleet.generation(host).await, generation, "{name}");
    }
    assert_eq!(fleet.config(one).await.machine.as_deref(), Some("uno"));
    assert_eq!(fleet.config(quiet).await.machine, None);
}

#[tokio::test]
async fn what_an_edit_leaves_out_stays_and_a_secret_never_goes_to_another_server() {
    let fleet = Fleet::new().await;
    let host = fleet.host("one").await;
    fleet.says(host, &[ALARMS]).await;
    let made = fleet.post("/api/alarm-channels", webhook("Chat")).await.ok(201);
    let path = format!("/api/alarm-channels/{}", id_of(&made));
    let renamed = fleet.put(&path, json!({"name": "Room"})).await.ok(200);
    assert_eq!((&renamed["has_token"], &renamed["revision"]), (&json!(true), &json!(1)));
    assert_eq!(fleet.generation(host).await, 2);
    let elsewhere = json!({"url": "https://thief.example/x"});
    fleet.put(&path, elsewhere).await.is_refused(422, "invalid_input", Some("token"));
    let cleared = json!({"url": "https://other.example/x", "token": null});
    assert_eq!(fleet.put(&path, cleared).await.ok(200)["has_token"], false);
    fleet.put(&path, json!({"name": "x", "revision": 0})).await.is_refused(409, "stale", None);
    fleet.post("/api/alarm-channels", webhook("room")).await.is_refused(
        409,
        "conflict",
        Some("name"),
    );
    fleet.delete(&path, json!({})).await.ok(204);
    assert!(fleet.compiled(host).await.is_empty());
    fleet.get("/api/alarm-channels").await.ok(200).as_array().unwrap().is_empty();
    let audited = fleet.audited().await;
    assert_eq!(audited[..2], ["alarm_channel.delete", "alarm_channel.update"]);
}

#[tokio::test]
async fn a_channel_is_for_chosen_machines_and_tags_where_it_is_not_for_all() {
    let fleet = Fleet::new().await;
    let (one, two, three) =
        (fleet.host("one").await, fleet.host("two").await, fleet.host("three").await);
    for host in [one, two, three] {
        fleet.says(host, &[ALARMS]).await;
    }
    let mut form = webhook("Chat");
    form["all_hosts"] = json!(false);
    form["host_ids"] = json!([one]);
    form["host_tags"] = json!(["web"]);
    let made = fleet.post("/api/alarm-channels", form).await.ok(201);
    assert_eq!(made["all_host_ids"], json!([one]));
    fleet.put(&format!("/api/hosts/{two}/tags"), json!({"tags": ["web"]})).await.ok(200);
    for (host, channels) in [(one, 1), (two, 1), (three, 0)] {
        assert_eq!(fleet.compiled(host).await.len(), channels);
        assert_eq!(fleet.generation(host).await, channels);
    }
    let path = format!("/api/alarm-channels/{}", id_of(&made));
    fleet.put(&path, json!({"host_ids": [], "host_tags": []})).await.ok(200);
    assert!(fleet.compiled(two).await.is_empty());
    assert_eq!(fleet.generation(two).await, 2);
}

#[tokio::test]
async fn mail_wants_a_server_addresses_and_no_password_in_the_clear() {
    let fleet = Fleet::new().await;
    let host = fleet.host("one").await;
    fleet.says(host, &[ALARMS]).await;
    let mail = json!({"host": "mail.example", "port": 587, "security": "starttls",
        "username": "box", "from": "box@example.org", "to": ["admin@example.org"]});
    let form = |mail: &Value, token: Option<&str>| json!({"name": "Mail", "kind": "smtp", "mail": mail, "token": token, "all_hosts": true});
    let post =
        async |mail: &Value, token| fleet.post("/api/alarm-channels", form(mail, token)).await;
    post(&mail, None).await.is_refused(422, "invalid_input", Some("token"));
    let with = |field: &str, value: Value| {
        let mut mail = mail.clone();
        mail[field] = value;
        mail
    };
    for (field, value, refused) in [
        ("security", json!("none"), "mail.security"),
        ("to", json!([]), "mail.to"),
        ("to", json!(["a@b\r\nBcc: c@d"]), "mail.to"),
        ("from", json!("nobody"), "mail.from"),
        ("host", json!("mail example"), "mail.host"),
    ] {
        let mail = with(field, value);
        post(&mail, Some("s3cret")).await.is_refused(422, "invalid_input", Some(refused));
    }
    let made = post(&mail, Some("s3cret")).await.ok(201);
    assert_eq!(
        (&made["place"], &made["mail"]["username"]),
        (&json!("admin@example.org"), &json!("box"))
    );
    let path = format!("/api/alarm-channels/{}", id_of(&made));
    let elsewhere = json!({"mail": with("host", json!("thief.example"))});
    fleet.put(&path, elsewhere).await.is_refused(422, "invalid_input", Some("token"));
    let compiled = fleet.compiled(host).await;
    let [(_, AlarmTarget::Smtp { password: Some(password), .. })] = compiled.as_slice() else {
        panic!()
    };
    assert_eq!(password.expose_secret(), "s3cret");
}

#[tokio::test]
async fn only_a_machine_that_is_there_can_try_a_channel() {
    let fleet = Fleet::new().await;
    let host = fleet.host("one").await;
    let made = fleet.post("/api/alarm-channels", webhook("Chat")).await.ok(201);
    let path = format!("/api/alarm-channels/{}/test", id_of(&made));
    fleet.post(&path, json!({"host_id": host})).await.is_refused(409, "host_offline", None);
    let nobody: HostId = fleet.manager.new_id();
    fleet.post(&path, json!({"host_id": nobody})).await.is_refused(404, "not_found", None);
}
