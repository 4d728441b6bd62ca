//! Machines that ask to join, through the router.

use super::Fleet;
use crate::{
    announcements::{Answer, NewAnnouncement, Unheard, VALID},
    newcomer::Newcomer,
};
use jiff::SignedDuration;
use protocol::{Commitment, HostArch, HostOs, Nonce, PROTOCOL_VERSION};
use serde_json::{Value, json};
use uuid::Uuid;

/// A machine that asks, with its key.
struct Asking {
    id: Uuid,
    key: [u8; 32],
    code: String,
}

impl Asking {
    fn path(&self, act: &str) -> String {
        format!("/api/announcements/{}/{act}", self.id)
    }

    /// The form that approves it under this name.
    fn form(&self, name: &str) -> Value {
        json!({"name": name, "code": self.code})
    }

    fn confirm(&self, fleet: &Fleet) -> Result<Answer, Unheard> {
        fleet.manager.announcements().confirm(self.id, &self.key, fleet.manager.now())
    }
}

/// A machine whose code is shown, and confirmed by its root or not.
fn asking(fleet: &Fleet, seed: u8, hostname: &str, is_confirmed: bool) -> Asking {
    let (manager, key, nonce) = (&fleet.manager, [seed; 32], Nonce::from([seed; 32]));
    let address = [192, 0, 2, seed].into();
    let newcomer = Newcomer {
        key,
        hostname: hostname.to_owned(),
        os: HostOs::Linux,
        arch: HostArch::Amd64,
        agent_version: "0.1.0".to_owned(),
        protocol_version: PROTOCOL_VERSION,
    };
    let id = manager.new_id();
    let (commitment, manager_nonce) = (Commitment::to(&key, nonce), Nonce::from([9; 32]));
    let network = address;
    let new = NewAnnouncement { id, commitment, manager_nonce, newcomer, address, network };
    let announcements = manager.announcements();
    announcements.announce(new, manager.now()).unwrap();
    let root = manager.identity().root_public_key();
    let shown = announcements.reveal(id, &key, nonce, root, manager.now()).unwrap().unwrap();
    let asking = Asking { id, key, code: shown.code.to_string() };
    if is_confirmed {
        assert_eq!(asking.confirm(fleet), Ok(Answer::Waiting));
    }
    asking
}

#[tokio::test]
async fn who_asks_is_listed_with_its_code_until_its_time_is_over() {
    let fleet = Fleet::new().await;
    fleet.host("Web-1").await;
    let first = asking(&fleet, 1, "web-1", false);
    fleet.clock.advance(SignedDuration::from_secs(1));
    asking(&fleet, 2, "web-2", true);
    let list = fleet.get("/api/announcements").await.ok(200);
    let said = json!({"id": first.id, "code": first.code, "hostname": "web-1", "os": "linux",
        "arch": "amd64", "agent_version": "0.1.0", "address": "192.0.2.1",
        "announced_at": "2026-11-23T12:00:00Z", "expires_at": "2026-11-23T12:15:00Z",
        "is_confirmed": false, "is_name_taken": true});
    assert_eq!(list[0], said);
    assert_eq!(
        (&list[1]["is_confirmed"], &list[1]["is_name_taken"]),
        (&json!(true), &json!(false))
    );
    let mut events = fleet.manager.events().subscribe();
    fleet.clock.advance(VALID - SignedDuration::from_secs(1));
    fleet.manager.announcements().sweep(fleet.manager.now());
    assert_eq!(events.try_recv().unwrap().topic, crate::events::Topic::Announcements);
    assert_eq!(fleet.get("/api/announcements").await.ok(200).as_array().unwrap().len(), 1);
    let late = fleet.post(&first.path("approve"), first.form("web-3")).await;
    late.is_refused(404, "announcement_over", None);
    fleet.post(&first.path("refuse"), Value::Null).await.is_refused(404, "announcement_over", None);
}

#[tokio::test]
async fn an_approved_machine_is_a_host_with_its_plan() {
    let fleet = Fleet::new().await;
    let repository = fleet.repository("nas").await;
    let plan = fleet.plan("etc", &repository, &[]).await;
    let machine = asking(&fleet, 1, "web-1", true);
    let mut form = machine.form("Web server");
    form["plan_id"] = json!(plan);
    let approved = fleet.post(&machine.path("approve"), form.clone()).await.ok(201);
    let host = approved["host_id"].as_str().unwrap();
    assert_eq!(machine.confirm(&fleet), Ok(Answer::Approved(host.parse().unwrap())));
    let shown = fleet.get(&format!("/api/hosts/{host}")).await.ok(200);
    assert_eq!((&shown["name"], &shown["hostname"]), (&json!("Web server"), &json!("web-1")));
    assert_eq!(shown["plan_ids"], json!([plan]));
    assert_eq!(shown["desired_generation"], 1);
    assert_eq!(fleet.get("/api/announcements").await.ok(200), json!([]));
    assert_eq!(fleet.audited().await[..2], ["announcement.approve", "host.enrol"]);
    let twice = fleet.post(&machine.path("approve"), form).await;
    twice.is_refused(404, "announcement_over", None);
}

#[tokio::test]
async fn a_machine_is_approved_with_a_plan_and_a_repository_that_are_new() {
    let fleet = Fleet::new().await;
    let machine = asking(&fleet, 1, "web-1", true);
    let mut form = machine.form("web-1");
    form["plan"] = json!({"name": "web-1 files", "paths": ["/etc"], "retention": {"keep_daily": 7},
        "repository": {"name": "web-1", "url": "rest:https://nas:8000/web-1/"}});
    let mut wrong = form.clone();
    wrong["plan"]["repository"]["url"] = json!("x");
    let refused = fleet.post(&machine.path("approve"), wrong).await;
    refused.is_refused(422, "repository_url_invalid", Some("plan.repository.url"));
    assert_eq!(fleet.get("/api/plans").await.ok(200), json!([]), "nothing is kept");
    let approved = fleet.post(&machine.path("approve"), form).await.ok(201);
    assert_eq!(approved["repository"]["minted_password"].as_str().unwrap().len(), 32);
    let shown = fleet.get(&format!("/api/hosts/{}", approved["host_id"].as_str().unwrap())).await;
    assert_eq!(shown.ok(200)["plan_ids"], json!([approved["plan"]["id"]]));
}

#[tokio::test]
async fn only_the_machine_with_the_code_is_approved_and_only_once_root_confirmed_it() {
    let fleet = Fleet::new().await;
    fleet.host("taken").await;
    let (meant, other) = (asking(&fleet, 1, "web-1", true), asking(&fleet, 2, "web-1", true));
    let unconfirmed = asking(&fleet, 3, "web-1", false);
    for (machine, form, status, code, field) in [
        (&meant, other.form("x"), 422, "not_confirmed", Some("code")),
        (&meant, json!({"name": "x", "code": "nothing"}), 422, "not_confirmed", Some("code")),
        (&unconfirmed, unconfirmed.form("x"), 409, "conflict", None),
        (&meant, meant.form("TAKEN"), 409, "conflict", Some("name")),
        (&meant, meant.form(" "), 422, "invalid_input", Some("name")),
    ] {
        fleet.post(&machine.path("approve"), form).await.is_refused(status, code, field);
    }
    assert_eq!(fleet.get("/api/announcements").await.ok(200).as_array().unwrap().len(), 3);
    assert_eq!(fleet.get("/api/hosts").await.ok(200).as_array().unwrap().len(), 1);
    assert!(fleet.audited().await.is_empty());
    // As a person would type it.
    let typed = json!({"name": "x", "code": meant.code.to_lowercase().replace('-', "")});
    fleet.post(&meant.path("approve"), typed).await.ok(201);
}

#[tokio::test]
async fn a_refused_machine_is_told_so_and_no_host() {
    let fleet = Fleet::new().await;
    let machine = asking(&fleet, 1, "web-1", true);
    let mut decisions = fleet.manager.announcements().watch();
    fleet.post(&machine.path("refuse"), Value::Null).await.ok(204);
    assert!(decisions.has_changed().unwrap(), "whoever waits is woken");
    decisions.mark_unchanged();
    assert_eq!(machine.confirm(&fleet), Err(Unheard::Refused));
    fleet.post(&machine.path("refuse"), Value::Null).await.is_refused(
        404,
        "announcement_over",
        None,
    );
    assert_eq!(fleet.get("/api/hosts").await.ok(200), json!([]));
    assert_eq!(fleet.audited().await, ["announcement.refuse"]);
}

#[tokio::test]
async fn of_two_decisions_at_once_one_counts() {
    let fleet = Fleet::new().await;
    let machine = asking(&fleet, 1, "web-1", true);
    let (approve, refuse) = (machine.path("approve"), machine.path("refuse"));
    let (approved, refused) =
        tokio::join!(fleet.post(&approve, machine.form("web-1")), fleet.post(&refuse, Value::Null));
    let hosts = fleet.get("/api/hosts").await.ok(200).as_array().unwrap().len();
    assert_eq!(approved.status.is_success(), hosts == 1);
    assert_ne!(approved.status.is_success(), refused.status.is_success());
    assert_eq!(machine.confirm(&fleet).is_ok(), hosts == 1);
}
