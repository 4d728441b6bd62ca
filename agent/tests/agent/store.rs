//! The store on real files: what was committed is there, what makes no sense is named, and old
//! history goes without a hole.

use agent::{
    core::{Awake, Change, Mark, Retry, Run, RunState},
    journal::{Journal, Kept, Record, Room},
    store::{HISTORY, Store, StoreError},
};
use jiff::{SignedDuration, Timestamp};
use protocol::{Code, JournalId, PlanId, RunId, RunSpec, journal::ChainHash};

const ALL: Room = Room { after: 0, up_to: 1_000_000, records: 1_000_000, bytes: 1 << 30 };

fn id(n: u8) -> JournalId {
    JournalId::new(n.into(), &[n; 10])
}

fn run(state: RunState, finished_at: Option<Timestamp>) -> Run {
    Run {
        id: RunId::new(4, &[4; 10]),
        state,
        spec: RunSpec::Backup { schedule_id: None },
        number: None,
        slot: Some(Timestamp::UNIX_EPOCH),
        attempt: 2,
        refusal: None,
        repository_id: None,
        log_lines: 0,
        had_item_error: false,
        process: None,
        created_at: Timestamp::UNIX_EPOCH,
        finished_at,
    }
}

async fn write(store: &mut Store, count: u64, at: impl Fn(u64) -> Timestamp) -> Vec<Record> {
    let mut journal = Journal::new(&store.journal().await.unwrap());
    let records: Vec<Record> = (1..=count)
        .map(|n| journal.append("log.stream", format!("{{\"n\":{n}}}"), None, at(n)))
        .collect();
    let changes: Vec<Change> =
        records.iter().map(|record| Change::Append(record.clone(), None)).collect();
    store.commit(&changes).await.unwrap();
    records
}

#[tokio::test]
async fn what_was_committed_is_there_after_the_file_is_opened_again() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("journal.db");
    let mut store = Store::open(&path, id(1)).await.unwrap();
    let records = write(&mut store, 3, |_| Timestamp::UNIX_EPOCH).await;
    let change = Change::Run(Box::new(run(RunState::Running, None)));
    store.commit(&[change, Change::Acked(2)]).await.unwrap();
    let retry = Retry { slot: Timestamp::UNIX_EPOCH, attempt: 3, at: Timestamp::UNIX_EPOCH };
    let mark = Mark {
        cron: "@daily".to_owned(),
        served: Timestamp::UNIX_EPOCH,
        deferred: Some(Code::OnBattery),
        retry: Some(retry),
    };
    let (plan, gone) = (PlanId::new(5, &[5; 10]), PlanId::new(6, &[6; 10]));
    let marks = [(plan, Some(mark.clone())), (gone, Some(mark.clone())), (gone, None)];
    store.commit(&marks.map(|(plan, mark)| Change::Mark(plan, mark))).await.unwrap();
    let awake = Awake { since: Timestamp::UNIX_EPOCH, until: Timestamp::UNIX_EPOCH };
    let zone = Some("Europe/Berlin".to_owned());
    store.commit(&[Change::Awake(awake), Change::ToldZone(zone.clone())]).await.unwrap();
    // No close: a killed agent has none either.
    drop(store);

    let mut store = Store::open(&path, id(2)).await.unwrap();
    let memory = store.load().await.unwrap();
    assert_eq!(memory.journal.id, id(1), "a journal is not begun anew by opening it");
    assert_eq!((memory.journal.head, memory.journal.acked), (3, 2));
    assert_eq!(memory.journal.head_hash, records[2].hash);
    assert_eq!(memory.runs, [run(RunState::Running, None)]);
    assert_eq!(memory.marks, [(plan, mark)]);
    assert_eq!((memory.awake, memory.told_zone), (Some(awake), zone));
    assert_eq!(store.fetch(ALL).await.unwrap(), records);
}

#[tokio::test]
async fn a_batch_is_written_as_a_whole_or_not_at_all() {
    let base = tempfile::tempdir().unwrap();
    let mut store = Store::open(&base.path().join("journal.db"), id(1)).await.unwrap();
    let records = write(&mut store, 1, |_| Timestamp::UNIX_EPOCH).await;
    // The second of the two stands there already.
    let fresh = Change::Run(Box::new(run(RunState::Running, None)));
    let twice = Change::Append(records[0].clone(), None);
    let error = store.commit(&[fresh, twice]).await.unwrap_err();
    assert!(!error.is_passing(), "{error:?}");
    assert!(store.load().await.unwrap().runs.is_empty());
}

#[tokio::test]
async fn a_renewed_journal_tells_its_gap_and_keeps_what_was_not_acknowledged() {
    let base = tempfile::tempdir().unwrap();
    let mut store = Store::open(&base.path().join("journal.db"), id(1)).await.unwrap();
    let old = write(&mut store, 5, |_| Timestamp::UNIX_EPOCH).await;
    store.commit(&[Change::Acked(3)]).await.unwrap();
    let state = store.renew(id(2), Code::AgentBehind, 50, Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!((state.id, state.first, state.head, state.acked), (id(2), 1, 3, 0));
    let new = store.fetch(ALL).await.unwrap();
    assert_eq!(new[0].kind, "journal.gap");
    assert!(new[0].payload.contains(&id(1).to_string()));
    let payloads: Vec<&str> = new[1..].iter().map(|record| record.payload.as_str()).collect();
    assert_eq!(payloads, [old[3].payload.as_str(), old[4].payload.as_str()]);
    let mut hash = ChainHash::START;
    for record in &new {
        hash = hash.next(record.seq, &record.kind, &record.payload);
        assert_eq!(record.hash, hash);
    }
    assert_eq!(store.journal().await.unwrap(), state);
}

#[tokio::test]
async fn old_history_goes_from_the_front_and_only_what_was_acknowledged() {
    let base = tempfile::tempdir().unwrap();
    let mut store = Store::open(&base.path().join("journal.db"), id(1)).await.unwrap();
    let day = |n: u64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * n as i64);
    let records = write(&mut store, 10, day).await;
    let ended = Change::Run(Box::new(run(RunState::Finished, Some(day(1)))));
    store.commit(&[ended, Change::Acked(4)]).await.unwrap();
    // Records up to the sixth are too old, and the manager has four of them.
    let now = day(7).checked_add(HISTORY).unwrap();
    let (state, gone) = store.prune(now).await.unwrap();
    assert_eq!((state.first, state.base_hash), (5, records[3].hash));
    assert_eq!((state.head, state.acked), (10, 4));
    assert_eq!(gone, [RunId::new(4, &[4; 10])]);
    assert_eq!(store.fetch(ALL).await.unwrap(), records[4..]);
    assert_eq!(store.kept_at(4).await.unwrap(), Kept::Nothing);
    let (again, _) = store.prune(now).await.unwrap();
    assert_eq!(again, state);
}

#[tokio::test]
async fn a_database_of_a_newer_agent_is_not_touched() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("journal.db");
    Store::open(&path, id(1)).await.unwrap().close().await.unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut raw =
        <sqlx::SqliteConnection as sqlx::Connection>::connect_with(&options).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (99990101000000, 'from the future', TRUE, x'00', 0)",
    )
    .execute(&mut raw)
    .await
    .unwrap();
    let error = Store::open(&path, id(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Migrate(_)), "{error:?}");
    assert!(error.to_string().contains("does not fit this agent"));
}
