//! A thousand simulated worlds in which all holds that must hold, and mistakes that are found there.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop")]

use agent::{core::Memory, journal::Room, store::Store};
use testkit::world::{
    disk::{Disk, Written},
    simulate::{Mistake, Wanted, replay, simulate},
};

#[test]
fn all_that_must_hold_holds_in_a_thousand_worlds() {
    let wanted = Wanted { first: 1, seeds: 1_000, threads: 2, mistake: None };
    let report = simulate(wanted, |_| {}).unwrap();
    assert_eq!(
        report.violations,
        [],
        "`cargo xtask simulate --replay <seed>` tells what led to it"
    );
    assert_eq!(report.seeds, 1_000);
    let never = report.met.iter().filter(|(_, count)| *count == 0).map(|(kind, _)| kind);
    assert_eq!(never.collect::<Vec<_>>(), [""; 0], "no world has met these");
}

#[test]
fn a_seed_tells_the_same_story_each_time() {
    for seed in [3, 4, 5] {
        let (once, again) = (replay(seed, None).unwrap(), replay(seed, None).unwrap());
        assert!(once.trace.len() > 50, "next to nothing happens in world {seed}");
        assert_eq!(once.trace, again.trace);
    }
}

#[test]
fn every_planted_mistake_is_found() {
    for (name, mistake) in Mistake::ALL {
        let wanted = Wanted { first: 1, seeds: 1_000, threads: 2, mistake: Some(mistake) };
        let report = simulate(wanted, |_| {}).unwrap();
        assert!(!report.violations.is_empty(), "{name} is not found in a thousand worlds");
    }
}

#[test]
fn the_disk_of_a_simulated_machine_keeps_what_the_real_store_keeps() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut made_room = 0;
    for seed in [3, 4, 10, 21] {
        for disk in replay(seed, None).unwrap().disks {
            assert!(!disk.history().is_empty());
            let written = disk.history().iter();
            made_room += written.filter(|it| matches!(it, Written::Elided(..))).count();
            runtime.block_on(compare(&disk));
        }
    }
    assert!(made_room > 0, "in none of these worlds a journal is over its bound");
}

async fn compare(disk: &Disk) {
    let folder = tempfile::tempdir().unwrap();
    let mut store =
        Store::open(&folder.path().join("agent.db"), disk.first_journal()).await.unwrap();
    for written in disk.history() {
        match written {
            Written::Changes(changes) => store.commit(changes).await.unwrap(),
            Written::Elided(turn, after, most) => {
                store.elide_some(*turn, *after, *most).await.map(drop).unwrap();
            }
            Written::Renewed(id, reason, after_seq, now) => {
                store.renew(*id, *reason, *after_seq, *now).await.map(drop).unwrap();
            }
        }
    }
    let (stored, kept) = (sorted(store.load().await.unwrap()), sorted(disk.memory()));
    assert_eq!(format!("{stored:#?}"), format!("{kept:#?}"));
    assert_eq!(stored.ticket, kept.ticket, "which does not show in the text");
    for records in [1_000, 7] {
        let room = Room { after: 2, up_to: disk.journal().head, records, bytes: 4_000 };
        assert_eq!(store.fetch(room).await.unwrap(), disk.fetch(room));
    }
    assert_eq!(store.kept_at(3).await.unwrap(), disk.kept_at(3));
    store.close().await.unwrap();
}

fn sorted(mut memory: Memory) -> Memory {
    memory.series.sort_by_key(|(life, _)| *life);
    memory.series.iter_mut().for_each(|(_, series)| series.struck.sort_unstable());
    memory.runs.sort_by_key(|run| run.id);
    memory.views.sort_by_key(|(id, _)| *id);
    memory.marks.sort_by_key(|(plan, _)| *plan);
    memory.alarms.sort_by_key(|(plan, _)| *plan);
    memory.deliveries.sort_by_key(agent::core::Delivery::key);
    memory
}
