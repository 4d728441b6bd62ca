//! The built-in store between real processes: restic goes through it, and who has only the credentials
//! of a machine can add and nothing else.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop")]

use reqwest::{Method, StatusCode};
use serde_json::json;
use std::{fs, path::Path, process::Command};
use testkit::{
    agent::{Agent, Rights},
    fleet::{Fleet, MACHINE, StoreFolder, enrolment_token},
    thief::{Thief, hash},
    tools::Tools,
    tree,
};

type InStore = Fleet<StoreFolder>;

/// A small source, and a fleet that backs it up into the store.
async fn fleet(root: &Path) -> InStore {
    let source = root.join("source");
    tree::make_small(&source).unwrap();
    Fleet::in_store(root, &Tools::of_workspace(), &source).await.unwrap()
}

async fn backup(fleet: &InStore) -> String {
    let run = fleet.run(&fleet.backup()).await.unwrap().expect("succeeded").unwrap();
    run.snapshot().unwrap()
}

fn restic() -> std::path::PathBuf {
    Tools::of_workspace().restic().unwrap()
}

/// Runs a command to its end; what it printed, and whether it went well.
fn run(mut command: Command) -> (bool, String) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn succeed(command: Command) -> String {
    let (is_good, printed) = run(command);
    assert!(is_good, "{printed}");
    printed
}

/// Ids of the snapshots that lie in the folder.
fn snapshots(fleet: &InStore) -> Vec<String> {
    names(&fleet.server.repository.join("snapshots"))
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn every_restic_backs_up_and_restores_and_the_folder_is_a_repository() {
    for restic in Tools::of_workspace().every_restic().unwrap() {
        let dir = tempfile::tempdir().unwrap();
        let mut fleet = fleet(dir.path()).await;
        fleet.agent.stop().await.unwrap();
        fleet.agent.restic.clone_from(&restic);
        fleet.agent.start(Rights::Full).unwrap();
        fleet.in_sync().await.unwrap();

        let snapshot = backup(&fleet).await;
        fleet.lists(&snapshot).await.unwrap();
        let restored = fleet.run(&fleet.restore(&snapshot)).await.unwrap();
        let restored = restored.expect("succeeded").unwrap().target().unwrap();
        let source = dir.path().join("source");
        let target = restored.join(source.strip_prefix("/").unwrap());
        assert_eq!(tree::differences(&source, &target).unwrap(), Vec::<String>::new());
        for request in [
            json!({ "kind": "check", "repository_id": fleet.repository, "read_data": true }),
            json!({ "kind": "stats", "repository_id": fleet.repository }),
        ] {
            fleet.run(&request).await.unwrap().expect("succeeded").unwrap();
        }

        let found = fleet.agent.doctor().unwrap();
        assert!(found.contains("1 snapshot"), "{found}");

        let mut plain = fleet.plain(&restic);
        plain.args(["check", "--read-data"]);
        succeed(plain);
        assert_eq!(snapshots(&fleet), [snapshot]);
        let store = fleet.api.get("/api/store").await.unwrap();
        let shown = &store["repositories"][0];
        assert_eq!(store["state"], "here");
        assert!(shown["used_bytes"].as_u64().unwrap() > 0, "{store}");
        assert!(shown["last_arrival_at"].is_string(), "{store}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thief_of_the_agents_credentials_can_add_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = fleet(dir.path()).await;
    let first = backup(&fleet).await;
    fs::write(dir.path().join("source/new"), "more").unwrap();
    let second = backup(&fleet).await;
    let before = names(&fleet.server.repository.join("keys"));
    for arguments in [
        &["forget", "--keep-last", "1", "--group-by", ""][..],
        &["prune"],
        &["key", "remove", "00"],
        &["key", "passwd", "--new-password-file", "/etc/hostname"],
    ] {
        let mut stolen = fleet.stolen(&restic()).unwrap();
        stolen.args(arguments);
        // Some versions say that it went well.
        run(stolen);
    }
    let mut both = vec![first, second];
    both.sort();
    assert_eq!(snapshots(&fleet), both);
    assert_eq!(names(&fleet.server.repository.join("keys")), before);
    let mut plain = fleet.plain(&restic());
    plain.args(["check", "--read-data"]);
    succeed(plain);
}

/// A file that an upload writes: its path below the repository, and what is in it.
fn blob(n: u64) -> (String, Vec<u8>) {
    let bytes: Vec<u8> = n.to_le_bytes().into_iter().cycle().take(200_000).collect();
    (hash(&bytes), bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_read_whole_or_in_part_and_not_beyond_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = fleet(dir.path()).await;
    let thief = Thief::of(&fleet).unwrap();
    let (name, content) = blob(7);
    let path = format!("data/{name}");
    assert_eq!(thief.send(Method::POST, &path, &content).await.unwrap(), StatusCode::OK);
    let ask = async |method: Method, range: Option<&str>| {
        let url = format!("{}{path}", fleet.address());
        let request = thief.client.request(method, url);
        let request = request.basic_auth(&fleet.repository, Some(&fleet.secrets.credential));
        let request = range.into_iter().fold(request, |it, range| it.header("range", range));
        let answer = request.send().await.unwrap();
        let headers = answer.headers();
        let text = |name| headers.get(name).map(|it| it.to_str().unwrap().to_owned());
        let told = (text("content-length"), text("content-range"));
        (answer.status(), told, answer.bytes().await.unwrap())
    };
    let (status, (length, _), whole) = ask(Method::GET, None).await;
    assert_eq!((status, length.as_deref()), (StatusCode::OK, Some("200000")));
    assert!(whole == content);
    let (status, (length, _), nothing) = ask(Method::HEAD, None).await;
    assert_eq!((status, length.as_deref()), (StatusCode::OK, Some("200000")));
    assert!(nothing.is_empty());
    for (range, told, part) in [
        ("bytes=0-0", "bytes 0-0/200000", 0..1),
        ("bytes=131000-131999", "bytes 131000-131999/200000", 131_000..132_000),
        ("bytes=199990-", "bytes 199990-199999/200000", 199_990..200_000),
        ("bytes=199990-300000", "bytes 199990-199999/200000", 199_990..200_000),
    ] {
        let (status, (length, told_range), got) = ask(Method::GET, Some(range)).await;
        assert_eq!(status, StatusCode::PARTIAL_CONTENT, "{range}");
        assert_eq!(told_range.as_deref(), Some(told));
        assert_eq!(length.unwrap(), part.len().to_string());
        assert!(got == content[part], "{range}");
    }
    for range in ["bytes=200000-", "bytes=5-4", "bytes=0-1,4-5", "lines=1-2", ""] {
        let (status, (_, told), _) = ask(Method::GET, Some(range)).await;
        assert_eq!(status, StatusCode::RANGE_NOT_SATISFIABLE, "{range}");
        assert_eq!(told.as_deref(), Some("bytes */200000"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_machine_may_not_do_is_refused_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = fleet(dir.path()).await;
    let snapshot = backup(&fleet).await;
    let thief = Thief::of(&fleet).unwrap();
    let pack = names(&fleet.server.repository.join("data")).into_iter().find_map(|folder| {
        names(&fleet.server.repository.join("data").join(folder)).into_iter().next()
    });
    let pack = pack.unwrap();
    let config = fs::read(fleet.server.repository.join("config")).unwrap();

    let content: &[u8] = b"nothing that restic wrote";
    let (right, wrong) = (hash(content), hash(b"something else"));
    let (no, gone) = (StatusCode::FORBIDDEN, StatusCode::NOT_FOUND);
    for (method, path, body, expected) in [
        // Nothing is deleted.
        (Method::DELETE, format!("snapshots/{snapshot}"), &b""[..], no),
        (Method::DELETE, format!("data/{pack}"), b"", no),
        (Method::DELETE, "config".to_owned(), b"", no),
        // Nothing is overwritten, and the configuration stays what it is.
        (Method::POST, "config".to_owned(), content, no),
        (Method::POST, format!("data/{pack}"), content, no),
        // A name is the hash of what it names.
        (Method::POST, format!("data/{wrong}"), content, StatusCode::BAD_REQUEST),
        (Method::GET, format!("data/{wrong}"), b"", gone),
        // Keys would lock the right password out.
        (Method::POST, format!("keys/{right}"), content, no),
        // Paths do not leave the repository.
        (Method::GET, "data/..%2f..%2fconfig".to_owned(), b"", gone),
        (Method::GET, "../".to_owned(), b"", gone),
        (Method::POST, format!("secrets/{right}"), content, gone),
        (Method::GET, format!("data/{}", right.to_uppercase()), b"", gone),
        // A lock that is not there is no error: restic tries again after a lost answer.
        (Method::DELETE, format!("locks/{right}"), b"", StatusCode::OK),
    ] {
        let status = thief.send(method.clone(), &path, body).await.unwrap();
        assert_eq!(status, expected, "{method} {path}");
    }
    assert_eq!(fs::read(fleet.server.repository.join("config")).unwrap(), config);
    let incoming = fleet.server.folder.join(".restic-manager/incoming");
    assert_eq!(names(&incoming), Vec::<String>::new(), "nothing that was refused stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_locks_ends_before_it_hurts() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = fleet(dir.path()).await;
    let thief = Thief::of(&fleet).unwrap();
    let mut taken = Vec::new();
    for n in 0..200_u32 {
        let lock = n.to_le_bytes();
        let path = format!("locks/{}", hash(&lock));
        match thief.send(Method::POST, &path, &lock).await.unwrap() {
            StatusCode::OK => taken.push(path),
            status => assert_eq!(status, StatusCode::FORBIDDEN),
        }
    }
    assert!((1..=64).contains(&taken.len()), "{}", taken.len());
    let large = vec![0; 128 * 1024];
    let path = format!("locks/{}", hash(&large));
    assert_eq!(
        thief.send(Method::POST, &path, &large).await.unwrap(),
        StatusCode::PAYLOAD_TOO_LARGE
    );
    for path in taken {
        assert_eq!(thief.send(Method::DELETE, &path, b"").await.unwrap(), StatusCode::OK);
    }
    backup(&fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_reaches_its_own_repository_only_and_a_revoked_one_none() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = fleet(dir.path()).await;
    backup(&fleet).await;
    // A second machine with the same plan has a repository of its own.
    let token = enrolment_token(&fleet.api, "machine2", Some(&fleet.plan)).await.unwrap();
    let other = Agent::new(&dir.path().join("agent2"), restic());
    other.enrol(fleet.manager.ready(), &token).unwrap();
    let store = fleet.api.get("/api/store").await.unwrap();
    let all = store["repositories"].as_array().unwrap();
    assert_eq!(all.len(), 2);
    let theirs = all.iter().find(|one| one["repository_id"] != fleet.repository).unwrap();
    let theirs = theirs["repository_id"].as_str().unwrap();

    let thief = Thief::of(&fleet).unwrap();
    let own = fleet.address();
    let foreign = own.replace(&fleet.repository, theirs);
    let password = Some(&fleet.secrets.credential);
    for (url, user, password, expected) in [
        (&own, fleet.repository.as_str(), password, StatusCode::OK),
        (&foreign, &fleet.repository, password, StatusCode::UNAUTHORIZED),
        (&foreign, theirs, password, StatusCode::UNAUTHORIZED),
        (&own, &fleet.repository, None, StatusCode::UNAUTHORIZED),
        (&own, &fleet.repository, Some(&fleet.secrets.repository), StatusCode::UNAUTHORIZED),
    ] {
        let request = thief.client.get(format!("{url}config")).basic_auth(user, password);
        assert_eq!(request.send().await.unwrap().status(), expected, "{url} as {user}");
    }
    // The store answers under its own name only, and agents' routes never as an admin's.
    let named = own.replace("localhost", "127.0.0.1");
    let request = thief.client.get(format!("{named}config"));
    let request = request.basic_auth(&fleet.repository, password);
    assert_eq!(request.send().await.unwrap().status(), StatusCode::NOT_FOUND);

    let revoke = format!("/api/hosts/{}/revoke", fleet.host);
    let left = fleet.api.post(&revoke, &json!({ "confirm": MACHINE })).await.unwrap();
    assert_eq!(left["rotate"], json!([]), "the manager has cut it off itself");
    assert_eq!(thief.send(Method::GET, "config", b"").await.unwrap(), StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_takes_every_place_it_gets_leaves_some_to_the_manager() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = fleet(dir.path()).await;
    backup(&fleet).await;
    let mut held = Vec::new();
    loop {
        // A client of its own has a connection of its own, and keeps it.
        let thief = Thief::of(&fleet).unwrap();
        let Ok(status) = thief.send(Method::GET, "config", b"").await else { break };
        assert_eq!(status, StatusCode::OK);
        held.push(thief);
        assert!(held.len() < 1000, "one machine got all places");
    }
    let check = json!({ "kind": "check", "repository_id": fleet.repository });
    fleet.run(&check).await.unwrap().expect("succeeded").unwrap();
    held.clear();
    backup(&fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_and_a_disk_that_is_away_are_told_as_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(dir.path()).await;
    // Before 0.18.1 restic tries again for a quarter of an hour when there is no room.
    fleet.agent.stop().await.unwrap();
    fleet.agent.restic = Tools::of_workspace().every_restic().unwrap().pop().unwrap();
    fleet.agent.start(Rights::Full).unwrap();
    fleet.in_sync().await.unwrap();
    backup(&fleet).await;
    let thief = Thief::of(&fleet).unwrap();
    let limit = format!("/api/store/repositories/{}", fleet.repository);
    let used = fleet.api.get("/api/store").await.unwrap()["repositories"][0]["used_bytes"].clone();
    let less = json!({ "quota_bytes": used.as_u64().unwrap() - 1 });
    let refused = fleet.api.refused(Method::PUT, &limit, &less).await.unwrap();
    assert_eq!(refused["field"], "quota_bytes", "{refused}");
    fleet.api.put(&limit, &json!({ "quota_bytes": used })).await.unwrap();
    let content = b"more than nothing";
    let path = format!("data/{}", hash(content));
    assert_eq!(
        thief.send(Method::POST, &path, content).await.unwrap(),
        StatusCode::INSUFFICIENT_STORAGE
    );
    let full = fleet.run(&fleet.backup()).await.unwrap();
    // The lock of the first run needs room as well.
    assert_eq!(full.run["code"], "disk_full", "{:#}", full.run);
    fleet.api.put(&limit, &json!({ "quota_bytes": null })).await.unwrap();
    backup(&fleet).await;

    let elsewhere = dir.path().join("elsewhere");
    fs::rename(&fleet.server.folder, &elsewhere).unwrap();
    fs::create_dir(&fleet.server.folder).unwrap();
    assert_eq!(
        thief.send(Method::GET, "config", b"").await.unwrap(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(
        thief.send(Method::POST, &path, content).await.unwrap(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(fleet.api.get("/api/store").await.unwrap()["state"], "away");
    let wrong = json!({ "folder": dir.path().join("nowhere") });
    let refused = fleet.api.refused(Method::PUT, "/api/store", &wrong).await.unwrap();
    assert_eq!(refused["field"], "folder", "{refused}");
    // It has moved: the machines need not be told.
    fleet.api.put("/api/store", &json!({ "folder": elsewhere })).await.unwrap();
    backup(&fleet).await;
}

/// What a round of uploads and deletions was told to be done.
#[derive(Default)]
struct Told {
    uploaded: Vec<String>,
    unlocked: Vec<String>,
}

/// Uploads and deletes until the manager is killed, which is after so many answers.
async fn until_killed(fleet: &mut InStore, round: u64, answers: usize) -> Told {
    let told = std::sync::Mutex::new(Told::default());
    {
        let thief = Thief::of(fleet).unwrap();
        let told = &told;
        let work = (0..20_u64).map(|n| {
            let thief = &thief;
            async move {
                let (name, bytes) = blob(round * 100 + n);
                let path = format!("data/{name}");
                let lock = (round * 100 + n).to_be_bytes();
                let at = format!("locks/{}", hash(&lock));
                if thief.send(Method::POST, &path, &bytes).await.is_ok_and(|it| it == 200) {
                    told.lock().unwrap().uploaded.push(name);
                }
                let is_locked = thief.send(Method::POST, &at, &lock).await.is_ok();
                if is_locked && thief.send(Method::DELETE, &at, b"").await.is_ok_and(|it| it == 200)
                {
                    told.lock().unwrap().unlocked.push(at);
                }
            }
        });
        let enough = testkit::wait_for("some answers", async || {
            let told = told.lock().unwrap();
            Ok((told.uploaded.len() + told.unlocked.len() >= answers).then_some(()))
        });
        tokio::select! {
            _ = futures_util::future::join_all(work) => {}
            done = enough => done.unwrap(),
        }
    }
    fleet.manager.kill_9().await.unwrap();
    fleet.manager.start().await.unwrap();
    told.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_a_kill_and_what_was_not_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(dir.path()).await;
    backup(&fleet).await;
    let data = fleet.server.repository.join("data");
    for (round, answers) in [0, 1, 3, 7, 12, 18, 22, 27, 31, 36].into_iter().enumerate() {
        let told = until_killed(&mut fleet, round as u64, answers).await;
        for name in &told.uploaded {
            assert!(data.join(&name[..2]).join(name).is_file(), "{name} was acknowledged");
        }
        for path in &told.unlocked {
            assert!(!fleet.server.repository.join(path).exists(), "{path} was taken back");
        }
    }
    for folder in names(&data) {
        for name in names(&data.join(&folder)) {
            let content = fs::read(data.join(&folder).join(&name)).unwrap();
            assert_eq!(hash(&content), name, "a file is whole or not there");
        }
    }
    let incoming = fleet.server.folder.join(".restic-manager/incoming");
    assert_eq!(names(&incoming), Vec::<String>::new());
    // What was locked and not unlocked is there still, and is no lock that restic could read.
    for lock in names(&fleet.server.repository.join("locks")) {
        let thief = Thief::of(&fleet).unwrap();
        let path = format!("locks/{lock}");
        assert_eq!(thief.send(Method::DELETE, &path, b"").await.unwrap(), StatusCode::OK);
    }
    fleet.in_sync().await.unwrap();
    backup(&fleet).await;
    let mut plain = fleet.plain(&restic());
    plain.arg("check");
    succeed(plain);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_clients_at_once_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = fleet(dir.path()).await;
    let clients: Vec<_> = (0..20)
        .map(|n| {
            let source = dir.path().join(format!("client{n}"));
            fs::create_dir(&source).unwrap();
            fs::write(source.join("file"), blob(n).1).unwrap();
            let mut stolen = fleet.stolen(&restic()).unwrap();
            stolen.arg("backup").arg(source);
            std::thread::spawn(move || run(stolen))
        })
        .collect();
    for client in clients {
        let (is_good, printed) = client.join().unwrap();
        assert!(is_good, "{printed}");
    }
    assert_eq!(snapshots(&fleet).len(), 20);
    let mut plain = fleet.plain(&restic());
    plain.args(["check", "--read-data"]);
    succeed(plain);
}
