//! Repositories through the router.

use super::{Fleet, assert_answer, id_of};
use crate::db::{folders, repositories as rows, snapshots};
use protocol::{RepositoryId, Snapshot};
use serde_json::{Value, json};

async fn stored(fleet: &Fleet, id: &str) -> rows::Repository {
    let id: RepositoryId = id.parse().unwrap();
    rows::find(fleet.manager.db().read(), id).await.unwrap().unwrap()
}

async fn password(fleet: &Fleet, id: &str) -> String {
    let stored = stored(fleet, id).await;
    let place = rows::password_place(stored.id);
    let opened = fleet.manager.vault().unseal_text(&place, &stored.password_sealed).unwrap();
    opened.expose_secret().clone()
}

#[tokio::test]
async fn what_nobody_chose_is_minted_and_told_once() {
    let fleet = Fleet::new().await;
    let form = json!({"name": "nas", "url": "rest:https://nas:8000/web-1/", "username": "web 1"});
    let mut created = fleet.post("/api/repositories", form).await.ok(201);
    let minted = created["minted_password"].as_str().unwrap().to_owned();
    let credential = created["minted_credential"].as_str().unwrap().to_owned();
    assert_eq!((minted.len(), credential.len()), (32, 32));
    assert_eq!(
        created["htpasswd_line"],
        format!("touch .htpasswd && echo '{credential}' | htpasswd -B -i .htpasswd 'web 1'")
    );
    let id = id_of(&created["repository"]);
    assert_eq!(password(&fleet, &id).await, minted);
    for name in ["minted_password", "minted_credential", "htpasswd_line"] {
        created[name] = Value::from("[minted]");
    }
    assert_answer!(created);
    let shown = fleet.get(&format!("/api/repositories/{id}")).await;
    assert_eq!(shown.ok(200)["has_credential"], true);
    assert!(!shown.text().contains(&minted) && !shown.text().contains(&credential));
    assert_eq!(fleet.get("/api/repositories").await.ok(200)[0], shown.json());
    assert_eq!(fleet.audited().await, ["repository.create"]);
}

#[tokio::test]
async fn what_was_chosen_is_not_told_back() {
    let fleet = Fleet::new().await;
    let form = json!({"name": "nas", "url": "rest:https://nas/x/", "username": "web",
        "credential": "canary-credential", "password": "canary-password"});
    let created = fleet.post("/api/repositories", form).await;
    let body = created.ok(201);
    assert!(!created.text().contains("canary"));
    for name in ["minted_password", "minted_credential", "htpasswd_line"] {
        assert!(body.get(name).is_none(), "{name}");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_refused_at_its_field() {
    let fleet = Fleet::new().await;
    let url = "rest:https://nas/x/";
    for (form, code, field) in [
        (json!({"name": " ", "url": url}), "invalid_input", "name"),
        (json!({"name": "x"}), "invalid_input", "url"),
        (json!({"name": "x", "url": "rest:https://u:p@nas/"}), "repository_url_invalid", "url"),
        (json!({"name": "x", "url": "s3:host/bucket"}), "repository_url_invalid", "url"),
        (json!({"name": "x", "url": "rclone::sftp,ssh=x:y"}), "repository_url_invalid", "url"),
        (json!({"name": "x", "url": url, "username": "a:b"}), "invalid_input", "username"),
        (json!({"name": "x", "url": url, "credential": "y"}), "invalid_input", "username"),
        (json!({"name": "x", "url": "/srv/x", "username": "y"}), "invalid_input", "username"),
        (json!({"name": "x", "url": url, "password": ""}), "invalid_input", "password"),
        (json!({"name": "x", "url": url, "password": "a\nb"}), "invalid_input", "password"),
        (json!({"name": "x", "url": url, "ca_pem": "nonsense"}), "invalid_input", "ca_pem"),
        (json!({"name": "x", "url": url, "pasword": "y"}), "invalid_input", "pasword"),
    ] {
        let answer = fleet.post("/api/repositories", form.clone()).await;
        assert_eq!(answer.refused(422), (code.to_owned(), Some(field.to_owned())), "{form}");
    }
    assert_eq!(fleet.get("/api/repositories").await.ok(200), json!([]));
    assert!(fleet.audited().await.is_empty());
}

#[tokio::test]
async fn a_name_is_given_once() {
    let fleet = Fleet::new().await;
    fleet.repository("nas").await;
    let again = fleet.post("/api/repositories", json!({"name": "NAS", "url": "/srv/x"})).await;
    again.is_refused(409, "conflict", Some("name"));
}

#[tokio::test]
async fn a_location_is_given_once_whatever_slashes_end_it() {
    let fleet = Fleet::new().await;
    let create = |name, url| fleet.post("/api/repositories", json!({"name": name, "url": url}));
    let first = id_of(&create("nas", "rest:https://nas/web-1/").await.ok(201)["repository"]);
    let again = create("nas 2", "rest:https://nas/web-1").await;
    again.is_refused(409, "conflict", Some("url"));
    assert!(again.text().contains("The repository nas is at this location already."));
    let other = id_of(&create("nas 2", "rest:https://nas/web-2").await.ok(201)["repository"]);
    let path = format!("/api/repositories/{other}");
    let moved = fleet.put(&path, json!({"url": "rest:https://nas/web-1//"})).await;
    moved.is_refused(409, "conflict", Some("url"));
    fleet.put(&path, json!({"url": "rest:https://nas/web-2/"})).await.ok(200);
    let own = format!("/api/repositories/{first}");
    fleet.put(&own, json!({"url": "rest:https://nas/web-1"})).await.ok(200);
    // A path is another place on each machine.
    create("disk 1", "/srv/backups").await.ok(201);
    create("disk 2", "/srv/backups/").await.ok(201);
}

#[tokio::test]
async fn absent_leaves_null_clears_and_a_value_sets() {
    let fleet = Fleet::new().await;
    let host = fleet.host("web-1").await;
    let form = json!({"name": "nas", "url": "rest:https://nas/x/", "username": "web"});
    let id = id_of(&fleet.post("/api/repositories", form).await.ok(201)["repository"]);
    fleet.plan("etc", &id, &[host]).await;
    let path = format!("/api/repositories/{id}");
    let generation = || async {
        fleet.get(&format!("/api/hosts/{host}")).await.ok(200)["desired_generation"].clone()
    };
    assert_eq!(generation().await, 1);
    let before = password(&fleet, &id).await;
    let same = fleet.put(&path, json!({"name": "nas 2"})).await.ok(200);
    assert_eq!((&same["name"], &same["has_credential"]), (&json!("nas 2"), &json!(true)));
    assert_eq!(password(&fleet, &id).await, before);
    assert_eq!(generation().await, 2);
    let half = fleet.put(&path, json!({"username": null})).await;
    half.is_refused(422, "invalid_input", Some("username"));
    let cleared = fleet.put(&path, json!({"username": null, "credential": null})).await.ok(200);
    assert_eq!((&cleared["username"], &cleared["has_credential"]), (&Value::Null, &json!(false)));
    fleet.put(&path, json!({"password": "another one"})).await.ok(200);
    assert_eq!(password(&fleet, &id).await, "another one");
    // The clock stands still, and yet each change is another desired state.
    assert_eq!(generation().await, 4);
    assert_eq!(fleet.audited().await[0], "repository.update");
}

#[tokio::test]
async fn the_password_of_a_repository_that_exists_is_replaced_only_when_confirmed() {
    let fleet = Fleet::new().await;
    let id = fleet.repository("nas").await;
    let path = format!("/api/repositories/{id}");
    fleet.put(&path, json!({"password": "first"})).await.ok(200);
    let mut tx = fleet.manager.db().begin().await.unwrap();
    let now = fleet.manager.now();
    rows::note_initialised(&mut tx, id.parse().unwrap(), now).await.unwrap();
    tx.commit().await.unwrap();
    for form in [
        json!({"password": "second"}),
        json!({"password": "second", "confirm": "nas 2"}),
        json!({"password": "second", "name": "nas 2", "confirm": "nas 2"}),
    ] {
        fleet.put(&path, form).await.is_refused(422, "not_confirmed", Some("confirm"));
        assert_eq!(password(&fleet, &id).await, "first");
    }
    fleet.put(&path, json!({"append_only": true})).await.ok(200);
    fleet.put(&path, json!({"password": "second", "confirm": "nas"})).await.ok(200);
    assert_eq!(password(&fleet, &id).await, "second");
}

#[tokio::test]
async fn a_repository_goes_only_when_unused_and_confirmed() {
    let fleet = Fleet::new().await;
    let id = fleet.repository("nas").await;
    let plan = fleet.plan("etc", &id, &[]).await;
    let path = format!("/api/repositories/{id}");
    fleet.delete(&path, json!({"confirm": "nas"})).await.is_refused(409, "conflict", None);
    fleet.delete(&format!("/api/plans/{plan}"), Value::Null).await.ok(204);
    let unconfirmed = fleet.delete(&path, json!({"confirm": "NAS"})).await;
    unconfirmed.is_refused(422, "not_confirmed", Some("confirm"));
    fleet.delete(&path, json!({})).await.is_refused(422, "not_confirmed", Some("confirm"));
    fleet.delete(&path, json!({"confirm": "nas"})).await.ok(204);
    fleet.get(&path).await.is_refused(404, "not_found", None);
}

#[tokio::test]
async fn snapshots_come_newest_first_in_pages_and_say_when_they_were_read() {
    let fleet = Fleet::new().await;
    let host = fleet.host("web-1").await;
    let id = fleet.repository("nas").await;
    let path = format!("/api/repositories/{id}/snapshots");
    assert_eq!(
        fleet.get(&path).await.ok(200),
        json!({"snapshots": [], "total": 0, "read_at": null})
    );
    let all: Vec<Snapshot> = (0..5)
        .map(|n| Snapshot {
            id: format!("{n}").repeat(64),
            short_id: format!("{n}").repeat(8),
            time: format!("2026-11-2{n}T00:00:00Z").parse().unwrap(),
            hostname: "web-1".to_owned(),
            paths: vec!["/etc".to_owned()],
            tags: Vec::new(),
            size_bytes: Some(n),
            file_count: None,
            added_bytes: None,
        })
        .collect();
    let repository = id.parse().unwrap();
    let mut tx = fleet.manager.db().begin().await.unwrap();
    snapshots::replace(&mut tx, repository, &all).await.unwrap();
    let now = fleet.manager.now();
    snapshots::note_snapshots(&mut tx, repository, host, "digest", now).await.unwrap();
    tx.commit().await.unwrap();
    let page = fleet.get(&format!("{path}?offset=1&limit=2")).await.ok(200);
    assert_answer!(page);
}

#[tokio::test]
async fn a_folder_that_was_opened_before_is_there_with_no_machine_connected() {
    let fleet = Fleet::new().await;
    let repository = fleet.repository("nas").await;
    let snapshot_id = "ab".repeat(32);
    let stored = protocol::Snapshot {
        id: snapshot_id.clone(),
        short_id: "abababab".to_owned(),
        time: fleet.manager.now(),
        hostname: "web-1".to_owned(),
        paths: vec!["/etc".to_owned()],
        tags: Vec::new(),
        size_bytes: None,
        file_count: None,
        added_bytes: None,
    };
    let want = protocol::TreeWant {
        repository_id: repository.parse().unwrap(),
        snapshot_id: snapshot_id.clone(),
        path: "/etc".to_owned(),
    };
    let entry = |name: &str, kind| protocol::TreeEntry {
        name: name.to_owned(),
        kind,
        size_bytes: None,
        modified_at: None,
        permissions: String::new(),
    };
    let entries =
        vec![entry("hosts", protocol::EntryKind::File), entry("ssh", protocol::EntryKind::Dir)];
    let folder = folders::Folder { entries, read_at: fleet.manager.now() };
    let mut tx = fleet.manager.db().begin().await.unwrap();
    snapshots::add(&mut tx, want.repository_id, &[stored]).await.unwrap();
    folders::keep(&mut tx, &want, &folder).await.unwrap();
    tx.commit().await.unwrap();

    let tree = format!("/api/repositories/{repository}/snapshots/{snapshot_id}/tree");
    let told = fleet.get(&format!("{tree}?path=/etc/")).await.ok(200);
    assert_eq!(told["path"], "/etc");
    let names: Vec<_> = told["entries"].as_array().unwrap().iter().map(|it| &it["path"]).collect();
    assert_eq!(names, ["/etc/ssh", "/etc/hosts"], "folders come first");
    fleet.get(&tree).await.is_refused(409, "host_offline", None);
    fleet.get(&format!("{tree}?path=/../x")).await.is_refused(422, "invalid_input", Some("path"));
    let other = format!("/api/repositories/{repository}/snapshots/{}/tree", "cd".repeat(32));
    fleet.get(&other).await.is_refused(422, "snapshot_unknown", None);
}
