//! What the manager itself does with repositories in the store: it deletes, machines do not; and who
//! has a machine's credentials cannot make it delete what is genuine.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop")]

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::{fs, path::Path, process::Command};
use testkit::{
    fleet::{Fleet, MACHINE, StoreFolder, Watched},
    thief::Thief,
    tools::Tools,
    tree, wait_for,
};

type InStore = Fleet<StoreFolder>;

fn restic() -> std::path::PathBuf {
    Tools::of_workspace().restic().unwrap()
}

/// A small source, and a fleet that backs it up into the store, keeping this.
async fn fleet(root: &Path, retention: Value) -> InStore {
    let source = root.join("source");
    tree::make_small(&source).unwrap();
    let fleet = Fleet::in_store(root, &Tools::of_workspace(), &source).await.unwrap();
    let plan = format!("/api/plans/{}", fleet.plan);
    fleet.api.put(&plan, &json!({ "retention": retention })).await.unwrap();
    fleet.in_sync().await.unwrap();
    fleet
}

async fn backup(fleet: &InStore) -> String {
    let run = fleet.run(&fleet.backup()).await.unwrap().expect("succeeded").unwrap();
    run.snapshot().unwrap()
}

fn forget(fleet: &InStore, dry_run: bool) -> Value {
    json!({ "kind": "forget", "plan_id": fleet.plan, "dry_run": dry_run, "confirm": MACHINE })
}

fn prune(fleet: &InStore) -> Value {
    json!({ "kind": "prune", "repository_id": fleet.repository, "confirm": MACHINE })
}

fn check(fleet: &InStore) -> Value {
    json!({ "kind": "check", "repository_id": fleet.repository, "read_data": true })
}

async fn done(fleet: &InStore, request: &Value) -> Watched {
    fleet.run(request).await.unwrap().expect("succeeded").unwrap()
}

/// The names in a folder of the repository.
fn names(fleet: &InStore, kind: &str) -> Vec<String> {
    let entries = fs::read_dir(fleet.server.repository.join(kind)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn packs(fleet: &InStore) -> usize {
    let folders = names(fleet, "data");
    folders.iter().map(|folder| names(fleet, &format!("data/{folder}")).len()).sum()
}

/// What a restic prints that goes well.
fn succeed(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{printed}");
    printed
}

fn sound(fleet: &InStore) {
    let mut plain = fleet.plain(&restic());
    plain.args(["check", "--read-data"]);
    succeed(plain);
}

async fn deletions(fleet: &InStore) -> Vec<Value> {
    let store = fleet.api.get("/api/store").await.unwrap();
    store["repositories"][0]["deletions"].as_array().unwrap().clone()
}

/// Brings all of the trash back, the newest first, as somebody who wants everything would.
async fn bring_all_back(fleet: &InStore) {
    let path = format!("/api/store/repositories/{}/bring-back", fleet.repository);
    // The oldest brings all later ones along.
    let oldest = deletions(fleet).await.pop().unwrap();
    fleet.api.post(&path, &json!({ "at": oldest["at"] })).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manager_forgets_and_prunes_while_the_machine_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(dir.path(), json!({ "keep_last": 1 })).await;
    let mut all = Vec::new();
    for n in 0..3_u8 {
        fs::write(dir.path().join("source/changing"), vec![n; 300_000]).unwrap();
        all.push(backup(&fleet).await);
    }
    let newest = all.last().unwrap().clone();
    fleet.lists(&newest).await.unwrap();
    fleet.agent.stop().await.unwrap();

    let preview = done(&fleet, &forget(&fleet, true)).await;
    assert_eq!(preview.run["stats"]["removed_count"], 2, "{:#}", preview.run);
    assert_eq!(names(&fleet, "snapshots").len(), 3);
    let forgotten = done(&fleet, &forget(&fleet, false)).await;
    assert_eq!(forgotten.run["stats"]["kept_count"], 1, "{:#}", forgotten.run);
    assert_eq!(names(&fleet, "snapshots"), std::slice::from_ref(&newest));
    let path = format!("/api/repositories/{}/snapshots", fleet.repository);
    let listed = fleet.api.get(&path).await.unwrap();
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 1, "{listed}");

    let before = packs(&fleet);
    let pruned = done(&fleet, &prune(&fleet)).await;
    assert!(packs(&fleet) < before, "{:#}", pruned.run);
    let log = pruned.lines.join("\n");
    assert!(log.contains("All data is verified before"), "{log}");
    assert!(log.contains("Done after"), "{log}");
    sound(&fleet);

    assert_eq!(deletions(&fleet).await.len(), 2);
    bring_all_back(&fleet).await;
    all.sort();
    assert_eq!(names(&fleet, "snapshots"), all);
    sound(&fleet);
    assert_eq!(names(&fleet, "locks"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_packs_and_index_stop_a_prune_before_anything_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = fleet(dir.path(), json!({ "keep_last": 1 })).await;
    let snapshot = backup(&fleet).await;
    let before = packs(&fleet);
    done(&fleet, &check(&fleet)).await;
    Thief::of(&fleet).unwrap().forge(&restic()).await.unwrap();
    // The structure is sound, as the thief made it.
    let mut plain = fleet.plain(&restic());
    plain.arg("check");
    succeed(plain);

    let stopped = fleet.run(&prune(&fleet)).await.unwrap();
    assert_eq!(stopped.run["status"], "failed", "{:#}", stopped.run);
    assert_eq!(stopped.run["code"], "repository_damaged", "{:#}", stopped.run);
    assert!(stopped.run["error"].as_str().unwrap().starts_with("Nothing was deleted."));
    assert_eq!(packs(&fleet), before + 1, "the genuine packs are there, and the forged one");
    assert_eq!(deletions(&fleet).await, Vec::<Value>::new());
    assert_eq!(names(&fleet, "snapshots"), [snapshot]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_restic_can_make_nothing_of_is_named_and_a_check_takes_it_away() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = fleet(dir.path(), json!({ "keep_last": 1 })).await;
    let genuine = backup(&fleet).await;
    let litter = Thief::of(&fleet).unwrap().litter(&restic()).await.unwrap();
    let lies_there =
        || litter.iter().filter(|it| fleet.server.repository.join(it).exists()).count();
    let mut plain = fleet.plain(&restic());
    plain.arg("check");
    assert!(!plain.output().unwrap().status.success(), "this keeps restic out");

    let stopped = fleet.run(&forget(&fleet, true)).await.unwrap();
    assert_eq!(stopped.run["code"], "repository_damaged", "{:#}", stopped.run);
    let error = stopped.run["error"].as_str().unwrap();
    assert!(error.starts_with("4 files") && error.ends_with("Nothing was changed."), "{error}");
    assert_eq!(lies_there(), litter.len());

    let cleared = fleet.run(&check(&fleet)).await.unwrap();
    assert_eq!(cleared.run["code"], "repository_damaged", "{:#}", cleared.run);
    let log = cleared.lines.join("\n");
    for path in &litter {
        assert!(log.contains(path), "{path} is not in {log}");
    }
    assert_eq!(lies_there(), 0);
    let deletions = deletions(&fleet).await;
    assert_eq!(deletions.len(), 1);
    assert_eq!(deletions[0]["files"], 4, "locks are for nobody to bring back");

    done(&fleet, &check(&fleet)).await;
    assert_eq!(names(&fleet, "snapshots"), [genuine]);
    sound(&fleet);
    backup(&fleet).await;
    done(&fleet, &prune(&fleet)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_flood_of_snapshots_pushed_out_comes_back_from_the_trash() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = fleet(dir.path(), json!({ "keep_last": 2 })).await;
    let genuine = backup(&fleet).await;
    let junk = dir.path().join("junk");
    fs::create_dir(&junk).unwrap();
    for n in 0..3_u8 {
        fs::write(junk.join("file"), vec![n; 1_000]).unwrap();
        let mut stolen = fleet.stolen(&restic()).unwrap();
        let tags = format!("plan:{},host:{}", fleet.plan, fleet.host);
        stolen.args(["backup", "--tag", &tags]).arg(&junk);
        succeed(stolen);
    }
    done(&fleet, &forget(&fleet, false)).await;
    done(&fleet, &prune(&fleet)).await;
    assert!(!names(&fleet, "snapshots").contains(&genuine));
    bring_all_back(&fleet).await;
    assert!(names(&fleet, "snapshots").contains(&genuine));
    sound(&fleet);
    let target = dir.path().join("target");
    let mut plain = fleet.plain(&restic());
    plain.args(["restore", &genuine, "--target"]).arg(&target);
    succeed(plain);
    let source = dir.path().join("source");
    let restored = target.join(source.strip_prefix("/").unwrap());
    assert_eq!(tree::differences(&source, &restored).unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_from_the_future_or_of_others_stop_a_forget_with_a_reason() {
    for (time, tag) in [("2099-01-01 00:00:00", true), ("2020-01-01 00:00:00", false)] {
        let dir = tempfile::tempdir().unwrap();
        let fleet = fleet(dir.path(), json!({ "keep_last": 1 })).await;
        let genuine = backup(&fleet).await;
        backup(&fleet).await;
        let host = if tag { fleet.host.clone() } else { fleet.plan.clone() };
        let mut stolen = fleet.stolen(&restic()).unwrap();
        let tags = format!("plan:{},host:{host}", fleet.plan);
        stolen.args(["backup", "--time", time, "--tag", &tags]).arg(dir.path().join("source"));
        succeed(stolen);
        for dry_run in [true, false] {
            let stopped = fleet.run(&forget(&fleet, dry_run)).await.unwrap();
            assert_eq!(stopped.run["code"], "snapshots_suspect", "{:#}", stopped.run);
        }
        let all = names(&fleet, "snapshots");
        assert_eq!(all.len(), 3);
        // Without it, the older of the two genuine ones goes.
        let mut request = forget(&fleet, false);
        request["keep_suspects"] = json!(true);
        let run = fleet.run(&request).await.unwrap().expect("succeeded").unwrap().run;
        assert_eq!(run["stats"]["removed"], json!([genuine]), "{run:#}");
        assert_eq!(run["stats"]["suspect_count"], 1, "{run:#}");
        assert_eq!(names(&fleet, "snapshots").len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_snapshot_arrived_decides_and_not_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = fleet(dir.path(), json!({ "keep_daily": 3 })).await;
    let write = |time: &str| {
        let mut stolen = fleet.stolen(&restic()).unwrap();
        let tags = format!("plan:{},host:{}", fleet.plan, fleet.host);
        stolen.args(["backup", "--time", time, "--tag", &tags]).arg(dir.path().join("source"));
        succeed(stolen);
    };
    // By their own dates these three are the newest of three days, and the last one is years older.
    for hours in [25, 49, 73] {
        let time = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours);
        write(&time.strftime("%Y-%m-%d %H:%M:%S").to_string());
    }
    let before = names(&fleet, "snapshots");
    write("2020-01-01 00:00:00");
    let mut last = names(&fleet, "snapshots");
    last.retain(|name| !before.contains(name));
    done(&fleet, &forget(&fleet, false)).await;
    let stayed = names(&fleet, "snapshots");
    assert!(stayed.contains(&last[0]), "{stayed:?} without {last:?}");
}

/// Waits until the manager's restic holds a lock, and says which; none when its run ended before.
async fn admins_lock(fleet: &InStore, run: &str) -> Option<String> {
    wait_for("a lock, or the end", async || {
        if let Some(lock) = names(fleet, "locks").into_iter().next() {
            return Ok(Some(Some(lock)));
        }
        let run = fleet.show(run).await?;
        Ok(run["is_terminal"].as_bool().unwrap().then_some(None))
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_managers_live_lock_is_its_own_and_goes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut fleet = fleet(dir.path(), json!({ "keep_last": 1 })).await;
    let noise: Vec<u8> =
        (0..20_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(dir.path().join("source/large"), noise).unwrap();
    backup(&fleet).await;

    // Nobody else removes it.
    let run = fleet.ask(&check(&fleet)).await.unwrap();
    let lock = admins_lock(&fleet, &run).await.expect("a check takes a lock");
    let thief = Thief::of(&fleet).unwrap();
    let status = thief.send(Method::DELETE, &format!("locks/{lock}"), b"").await.unwrap();
    assert_eq!(status, StatusCode::FORBIDDEN);
    // Cancelled, it takes its lock along.
    fleet.api.post(&format!("/api/runs/{run}/cancel"), &json!({})).await.unwrap();
    wait_for("the end", async || {
        Ok(fleet.show(&run).await?["is_terminal"].as_bool().unwrap().then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(fleet.show(&run).await.unwrap()["status"], "cancelled");
    assert_eq!(names(&fleet, "locks"), Vec::<String>::new());

    // So it does when the manager is killed, as far as the next start.
    let run = fleet.ask(&check(&fleet)).await.unwrap();
    admins_lock(&fleet, &run).await.expect("a check takes a lock");
    fleet.manager.kill_9().await.unwrap();
    fleet.manager.start().await.unwrap();
    let ended = fleet.show(&run).await.unwrap();
    assert_eq!(
        (&ended["status"], &ended["code"]),
        (&json!("interrupted"), &json!("interrupted")),
        "{ended:#}"
    );
    fleet.in_sync().await.unwrap();
    backup(&fleet).await;
    done(&fleet, &check(&fleet)).await;
}
