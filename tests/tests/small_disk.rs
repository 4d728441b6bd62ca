//! A disk that fills up. It is a small one of the test's own: the test starts itself again in a
//! namespace, where it may mount one without being root.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop")]

use protocol::JobKind;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};
use testkit::{
    agent::Rights,
    api::Api,
    fleet::{Fleet, StoreFolder, enrolment_token, text},
    puppet::{Machine, Puppet, Words},
    thief::{Thief, hash},
    tools::Tools,
    tree, wait_for,
};

/// Where the small disk is, for the test that was started again.
const DISK: &str = "RESTIC_MANAGER_SMALL_DISK";
const MIB: u64 = 1024 * 1024;
/// Room for a fleet, and few enough bytes to fill it.
const DISK_MIB: u64 = 640;
const MOUNT: &str = r#"mount -t tmpfs -o "size=$1m" tmpfs "$2" && shift 2 && exec "$@""#;

#[tokio::test(flavor = "multi_thread")]
async fn who_fills_the_disk_of_the_database_is_held_back_and_nothing_is_lost() {
    if let Some(disk) = env::var_os(DISK).map(PathBuf::from) {
        return on_a_small_disk(&disk).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut again = Command::new("unshare");
    again.args(["--map-root-user", "--mount", "sh", "-c", MOUNT, "sh", &DISK_MIB.to_string()]);
    again.arg(dir.path()).arg(env::current_exe().unwrap());
    let own = "who_fills_the_disk_of_the_database_is_held_back_and_nothing_is_lost";
    again.args([own, "--exact", "--nocapture"]).env(DISK, dir.path());
    let output = again.output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&printed));
}

async fn on_a_small_disk(disk: &Path) {
    let source = disk.join("source");
    tree::make_small(&source).unwrap();
    let tools = Tools::of_workspace();
    let mut fleet = Fleet::in_store(disk, &tools, &source).await.unwrap();
    // Before 0.18.1 restic tries again for a quarter of an hour when there is no room.
    fleet.agent.stop().await.unwrap();
    fleet.agent.restic = tools.every_restic().unwrap().pop().unwrap();
    fleet.agent.start(Rights::Full).unwrap();
    fleet.in_sync().await.unwrap();
    fleet.run(&fleet.backup()).await.unwrap().expect("succeeded").unwrap();

    fill_by_uploads(&fleet).await;
    let kept = DISK_MIB * MIB / 20;
    assert!(free(disk) + 8 * MIB >= kept, "{} are left of {kept}", free(disk));

    // Something else takes more, so that the store's own guard does not help any longer.
    let filler = disk.join("filler");
    fs::write(&filler, vec![1; usize::try_from(free(disk) - 20 * MIB).unwrap()]).unwrap();
    let flooding = flood(&fleet).await;
    let left = free(disk);
    assert!(left > 4 * MIB, "{left} bytes are left for the admin");
    assert!(is_told(&fleet.api).await, "the admin does not know");

    // What happens now is kept by the machine, and told when there is room.
    let run = fleet.ask(&fleet.backup()).await.unwrap();
    wait_for("the backup to end on the machine", async || {
        Ok(fleet.agent.printed()?.contains("Failed after").then_some(()))
    })
    .await
    .unwrap();
    assert!(fleet.show(&run).await.unwrap()["finished_at"].is_null());

    let revoke = format!("/api/hosts/{flooding}/revoke");
    fleet.api.post(&revoke, &json!({ "confirm": "flooding" })).await.unwrap();
    fs::remove_file(&filler).unwrap();
    let ended = fleet.reaches(&run, &["failed"]).await.unwrap();
    assert_eq!(ended["code"], "disk_full", "{ended:#}");
    wait_for("the notice to go", async || Ok((!is_told(&fleet.api).await).then_some(())))
        .await
        .unwrap();
}

/// Uploads with the machine's credentials until the store takes no more.
async fn fill_by_uploads(fleet: &Fleet<StoreFolder>) {
    let thief = Thief::of(fleet).unwrap();
    for n in 0_u64.. {
        let mut pack = vec![0; usize::try_from(8 * MIB).unwrap()];
        pack[..8].copy_from_slice(&n.to_be_bytes());
        let answer = thief.send(Method::POST, &format!("data/{}", hash(&pack)), &pack).await;
        match answer.unwrap() {
            StatusCode::OK => assert!(n * 8 < DISK_MIB, "more was taken than there is room"),
            refused => {
                assert_eq!(refused, StatusCode::INSUFFICIENT_STORAGE);
                return;
            }
        }
    }
}

/// Lets a second machine report until the manager hangs up. Its id.
async fn flood(fleet: &Fleet<StoreFolder>) -> String {
    let api = &fleet.api;
    let token = enrolment_token(api, "flooding", Some(&fleet.plan)).await.unwrap();
    let machine = Machine::new(fleet.manager.ready(), "flooding").unwrap();
    let host = machine.enrol(&token).await.unwrap();
    let puppet = Puppet::connect(&machine).await.unwrap();
    puppet.beat().await.unwrap();
    let store = api.get("/api/store").await.unwrap();
    let all = store["repositories"].as_array().unwrap();
    let own = all.iter().find(|one| one["host_id"] == host.as_str()).unwrap();
    let form = json!({ "kind": "init", "repository_id": own["repository_id"] });
    let run = api.post(&format!("/api/hosts/{host}/runs"), &form).await.unwrap();
    let run = text(&run, "id").unwrap().parse().unwrap();
    puppet.say(run, Words { started: Some(JobKind::Init), ..Words::default() }).await.unwrap();
    loop {
        let lines = vec!["x".repeat(4000); 250];
        if puppet.say(run, Words { lines, ..Words::default() }).await.is_err() {
            return host;
        }
    }
}

async fn is_told(api: &Api) -> bool {
    let notices = api.get("/api/notices").await.unwrap();
    let all = notices.as_array().unwrap();
    all.iter().any(|notice: &Value| notice["code"] == "disk_full" && notice["host_id"].is_null())
}

fn free(disk: &Path) -> u64 {
    let space = rustix::fs::statvfs(disk).unwrap();
    space.f_bavail * space.f_frsize
}
