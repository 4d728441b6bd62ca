//! The made fleet: it is the same each time, and a manager takes its machines for real ones.

#![expect(clippy::expect_used, reason = "a test that meets the unexpected stops")]

use protocol::{JobStatus, Secret};
use server::{
    db::{Db, hosts, runs, snapshots},
    headless,
    server::{Config, Deps, Server},
    vault::FileKeyStore,
};
use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};
use testkit::{
    made::{Wanted, fill, player},
    wait_for,
};

/// Enough for one of every fate.
const MACHINES: usize = 24;

/// The present of a fleet, if nothing else matters.
const NOON: &str = "2026-11-24T12:00:00Z";

async fn filled(dir: &Path, machines: usize) -> Wanted {
    filled_at(dir, machines, NOON).await
}

async fn filled_at(dir: &Path, machines: usize, now: &str) -> Wanted {
    let password = Secret::new("a password for a test".to_owned());
    headless::init(dir, Vec::new(), &password).await.expect("a manager is made");
    let now = now.parse().expect("a time");
    let wanted = Wanted { machines, now, seed: 7 };
    fill(dir, &wanted).await.expect("it is filled");
    wanted
}

/// Ids and states of all runs, and how many snapshots there are.
async fn told(dir: &Path) -> (BTreeSet<String>, usize) {
    let db = Db::open(&dir.join("server.db")).await.expect("the database opens");
    let all = runs::list(db.read(), None, None, 100_000).await.expect("runs");
    let words = all.iter().map(|run| format!("{} {:?} {:?}", run.id, run.kind, run.status));
    let mut count = 0;
    for host in hosts::list(db.read()).await.expect("hosts") {
        let places = server::db::repositories::of_host(db.read(), host.id).await.expect("places");
        for place in places {
            count += snapshots::count_of(db.read(), place.id).await.expect("snapshots");
        }
    }
    let told = (words.collect(), count);
    db.close().await;
    told
}

#[tokio::test]
async fn the_same_seed_makes_the_same_fleet() {
    let (one, two) =
        (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("another"));
    filled(one.path(), MACHINES).await;
    filled(two.path(), MACHINES).await;
    let told = told(one.path()).await;
    assert_eq!(told, self::told(two.path()).await);
    let has = |status: JobStatus| told.0.iter().any(|run| run.ends_with(&format!("{status:?}")));
    for status in [
        JobStatus::Queued,
        JobStatus::Succeeded,
        JobStatus::Partial,
        JobStatus::Failed,
        JobStatus::Interrupted,
        JobStatus::Cancelled,
        JobStatus::Expired,
    ] {
        assert!(has(status), "no run is {status:?}");
    }
    assert!(told.1 > MACHINES * 20, "{} snapshots are no history", told.1);
}

#[tokio::test]
async fn an_empty_fleet_has_no_machine_and_a_filled_one_is_not_filled_again() {
    let dir = tempfile::tempdir().expect("a folder");
    filled(dir.path(), 0).await;
    assert_eq!(told(dir.path()).await, (BTreeSet::new(), 0));
    let wanted = Wanted { machines: 1, now: NOON.parse().expect("a time"), seed: 1 };
    fill(dir.path(), &wanted).await.expect("there is nothing yet");
    assert!(fill(dir.path(), &wanted).await.is_err());
}

#[tokio::test]
async fn whenever_somebody_looks_the_newest_night_is_over() {
    // All plans are at two by the clock in Berlin, and a quarter of an hour later a run is late.
    for (now, newest) in [
        ("2026-11-24T00:30:00Z", "2026-11-23T01:00:00Z"),
        ("2026-11-24T01:10:00Z", "2026-11-23T01:00:00Z"),
        ("2026-11-24T01:16:00Z", "2026-11-24T01:00:00Z"),
        ("2026-11-24T03:30:00Z", "2026-11-24T01:00:00Z"),
        ("2026-11-24T23:30:00Z", "2026-11-24T01:00:00Z"),
        ("2026-07-24T00:20:00Z", "2026-07-24T00:00:00Z"),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        let wanted = filled_at(dir.path(), 2, now).await;
        let db = Db::open(&dir.path().join("server.db")).await.expect("the database opens");
        let all = runs::list(db.read(), None, None, 100_000).await.expect("runs");
        for run in all.iter().filter(|run| run.status != JobStatus::Queued) {
            assert!(run.finished_at.expect("it is over") <= wanted.now, "{now}: {run:#?}");
        }
        for host in hosts::list(db.read()).await.expect("hosts") {
            let own = all.iter().filter(|run| run.host_id == host.id);
            let served = own.filter_map(|run| run.slot).max().expect("a run by the clock");
            assert_eq!(served, newest.parse().expect("a time"), "{now}: {}", host.name);
        }
        db.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_machines_connect_and_one_of_them_is_at_work() {
    let dir = tempfile::tempdir().expect("a folder");
    let wanted = filled(dir.path(), MACHINES).await;
    let config = Config {
        data_dir: dir.path().to_owned(),
        agent_listen: "127.0.0.1:0".parse().expect("an address"),
        agent_addresses: Vec::new(),
        programs: None,
        found_addresses: Vec::new(),
    };
    let key_store = Arc::new(FileKeyStore::new(dir.path().join("vault.key")));
    let now = wanted.now;
    let clock = Arc::new(schedule::ManualClock::new(now));
    let server = Server::start(config, Deps { clock, key_store }).await.expect("it starts");
    let manager = server.manager().clone();
    let pem = manager.identity().root_cert_pem();
    let address = server.agent_addr();
    let (sender, connected) = tokio::sync::oneshot::channel();
    let playing = tokio::spawn(async move {
        player::play(address, &pem, &wanted, |machines| {
            let _ = sender.send(machines);
        })
        .await
    });
    let connected = connected.await.expect("all that shall connect do");
    assert_eq!(manager.links().online().await.len(), connected);
    wait_for("a run to be at work", async || {
        let open = runs::open(manager.db().read()).await?;
        Ok(open.iter().any(|run| run.status == JobStatus::Running).then_some(()))
    })
    .await
    .expect("it is at work");
    server.shutdown(Duration::from_secs(10)).await;
    playing.await.expect("no machine panics").expect("they end with their manager");
}
