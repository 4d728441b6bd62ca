//! The cable between two machines is pulled in the middle of a backup into the manager's store, and
//! plugged in again: nobody is told of either. The test starts itself again in a network of its own,
//! where it may pull a cable without being root.

use super::watch;
use serde_json::json;
use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use testkit::{
    fleet::{Fleet, StoreFolder},
    namespace::{NEAR, Switch},
    told,
    tools::Tools,
    tree, wait_for,
};

/// Where the fleet is, for the test that was started again.
const FOLDER: &str = "RESTIC_MANAGER_CUT_FOLDER";
/// How long the cable is out: several times what TCP waits before it tries again, and less than either
/// side waits before it gives the other up.
const OUT: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn a_cable_that_is_pulled_in_the_middle_of_a_backup_costs_nothing_but_time() {
    if let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) {
        return in_a_network_of_its_own(&folder).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut again = Command::new("unshare");
    again.args(["--map-root-user", "--net"]).arg(env::current_exe().unwrap());
    let own =
        "faults::cut::a_cable_that_is_pulled_in_the_middle_of_a_backup_costs_nothing_but_time";
    again.args([own, "--exact", "--nocapture"]).env(FOLDER, dir.path());
    let output = again.output().unwrap();
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains("1 passed"), "it was not started again: {printed}");
}

async fn in_a_network_of_its_own(folder: &Path) {
    let source = folder.join("source");
    tree::make_big(&source).unwrap();
    let far = Switch::new().unwrap().plug_in(folder).await.unwrap();
    let tools = Tools::of_workspace();
    let fleet = Fleet::in_store_at(folder, &tools, &source, NEAR, far.enter()).await.unwrap();
    // So slow that it is still going on when the cable is out.
    let plan = format!("/api/plans/{}", fleet.plan);
    let options = json!({ "limit_upload_kib": 12 * 1024 });
    fleet.api.put(&plan, &json!({ "options": options })).await.unwrap();
    fleet.in_sync().await.unwrap();
    let run = fleet.ask(&fleet.backup()).await.unwrap();
    let watching = watch(&fleet.api, &run);
    wait_for("the backup to be in the middle", async || {
        let shown = fleet.show(&run).await?;
        let bytes = shown["progress"]["bytes_done"].as_u64();
        Ok((bytes > Some(0) && packs(&fleet) > 0).then_some(()))
    })
    .await
    .unwrap();

    far.set_cable(false).unwrap();
    // What was on its way has arrived by half of that time; in the other half several packs would come.
    tokio::time::sleep(OUT / 2).await;
    let arrived = packs(&fleet);
    tokio::time::sleep(OUT / 2).await;
    assert_eq!(packs(&fleet), arrived, "the cable is not out, and the test proves nothing");
    let shown = fleet.show(&run).await.unwrap();
    assert_eq!(shown["status"], "running", "{shown:#}");
    far.set_cable(true).unwrap();

    let ended = fleet.reaches(&run, &["succeeded"]).await.unwrap();
    fleet.lists(ended["snapshot_id"].as_str().unwrap()).await.unwrap();
    told::idle(&fleet.agent, &fleet.api).await.unwrap();
    let written = told::written(&fleet.agent).await.unwrap();
    told::agree(&fleet.api, &run, &written).await.unwrap();
    assert_eq!(written[&run].started, 1);
    let lines = told::lines(&fleet.api, &run).await.unwrap();
    assert_eq!(watching.await.unwrap(), lines, "lines of the live view");
    let check = json!({ "kind": "check", "repository_id": fleet.repository });
    fleet.run(&check).await.unwrap().expect("succeeded").unwrap();
}

/// How many packs of data have come.
fn packs(fleet: &Fleet<StoreFolder>) -> usize {
    let all = walkdir::WalkDir::new(fleet.server.repository.join("data"));
    all.into_iter().flatten().filter(|entry| entry.file_type().is_file()).count()
}
