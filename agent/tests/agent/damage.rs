//! A database that is not as it was written is found, kept and told of, and never stops an agent.

use crate::support::{Authority, Bench, FakeManager, backup, run_id, status_when};
use agent::{
    core::{Change, Run, RunState},
    journal::{Journal, Record, Room},
    store::{Begin, Opened, Store},
};
use jiff::Timestamp;
use protocol::{
    Code, FromAgent, Incarnation, JobStatus, JournalId, RunId, RunSpec, Secret,
    journal::{ChainHash, JournalGap},
};
use std::{
    fs,
    path::{Path, PathBuf},
};

const ALL: Room = Room { after: 0, up_to: 1_000_000, records: 1_000_000, bytes: 1 << 30 };

fn id(n: u8) -> JournalId {
    JournalId::new(n.into(), &[n; 10])
}

fn begin(has_run: bool) -> Begin {
    Begin {
        fresh: id(2),
        now: Timestamp::UNIX_EPOCH,
        stamp: "20261129T231000Z".to_owned(),
        has_run,
    }
}

async fn open(path: &Path) -> Opened {
    Store::open_or_begin_anew(path, &begin(true)).await.unwrap()
}

/// A database with three acknowledged records and three that are not, a run, a ticket and numbers.
async fn fill(path: &Path) -> Vec<Record> {
    let mut store = Store::open(path, id(1)).await.unwrap();
    let mut journal = Journal::new(&store.journal().await.unwrap());
    let run = RunId::new(4, &[4; 10]);
    let records: Vec<Record> = (1..=6)
        .map(|n| {
            let text = format!(r#"{{"n":{n},"text":"{}"}}"#, "record ".repeat(20));
            journal.append("job.finished", text, Some(run), Timestamp::UNIX_EPOCH)
        })
        .collect();
    let incarnation = Incarnation::new(1, &[9; 10]);
    let mut changes = vec![
        Change::Run(Box::new(Run {
            id: run,
            state: RunState::Running,
            spec: RunSpec::Backup { schedule_id: None },
            number: None,
            slot: None,
            attempt: 1,
            refusal: None,
            repository_id: None,
            log_lines: 0,
            had_item_error: false,
            process: None,
            created_at: Timestamp::UNIX_EPOCH,
            finished_at: None,
        })),
        Change::Ticket(Secret::new("ticket".to_owned())),
        Change::Incarnation(incarnation),
        Change::Epoch(3),
        Change::Numbers { incarnation, watermark: 4, highest: 9, struck: Some(7) },
        Change::Acked(3),
    ];
    changes.extend(records.iter().map(|record| Change::Append(record.clone(), None)));
    store.commit(&changes).await.unwrap();
    store.close().await.unwrap();
    records
}

async fn records(store: &mut Store) -> Vec<Record> {
    let records = store.fetch(ALL).await.unwrap();
    let mut hash = ChainHash::START;
    for (n, record) in (1..).zip(&records) {
        hash = hash.next(n, &record.kind, &record.payload);
        assert_eq!((record.seq, record.hash), (n, hash));
    }
    records
}

fn gap(record: &Record) -> JournalGap {
    assert_eq!(record.kind, "journal.gap");
    serde_json::from_str(&record.payload).unwrap()
}

fn payloads(records: &[Record]) -> Vec<&str> {
    records.iter().map(|record| record.payload.as_str()).collect()
}

fn change(path: &Path, find: &[u8], flip: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.windows(find.len()).position(|window| window == find).unwrap();
    bytes[at + flip] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_whole_database_is_opened_as_it_is() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("journal.db");
    let before = fill(&path).await;
    let Opened { mut store, memory, damage } = open(&path).await;
    assert_eq!((damage, memory.journal.id), (None, id(1)));
    assert_eq!(store.fetch(ALL).await.unwrap(), before);
}

#[tokio::test]
async fn a_first_start_is_no_damage_and_a_file_that_is_gone_or_empty_is() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("journal.db");
    let opened = Store::open_or_begin_anew(&path, &begin(false)).await.unwrap();
    assert_eq!((opened.damage, opened.memory.journal.head), (None, 0));
    drop(opened.store);
    for is_there in [false, true] {
        let path = base.path().join(format!("{is_there}.db"));
        if is_there {
            fs::write(&path, b"").unwrap();
        }
        let Opened { mut store, memory, damage } = open(&path).await;
        assert_eq!(damage.unwrap().why, "its file is gone or empty");
        assert_eq!((memory.journal.id, memory.journal.head), (id(2), 1));
        let gap = gap(&records(&mut store).await[0]);
        assert_eq!((gap.reason, gap.after_seq), (Code::JournalDamaged, 0));
    }
}

#[tokio::test]
async fn a_record_that_was_changed_is_left_out_and_all_others_are_told() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("journal.db");
    let before = fill(&path).await;
    change(&path, br#"{"n":5,"text":"record"#, 5);
    let Opened { mut store, memory, damage } = open(&path).await;
    let damage = damage.unwrap();
    assert!(damage.why.contains("record.hash of 5"), "{}", damage.why);
    assert!(damage.kept.unwrap().exists());
    let after = records(&mut store).await;
    let gap = gap(&after[0]);
    assert_eq!((gap.journal_id, gap.after_seq, gap.reason), (id(1), 3, Code::JournalDamaged));
    assert_eq!(payloads(&after[1..]), [before[3].payload.as_str(), before[5].payload.as_str()]);
    // What else the agent knew is there, so its manager takes it for what it is.
    assert_eq!(memory.ticket.unwrap().expose_secret(), "ticket");
    assert_eq!((memory.runs.len(), memory.journal.acked), (1, 0));
    let (_, series) = memory.series[0].clone();
    assert_eq!((series.watermark, series.highest, series.struck), (4, 9, vec![7]));
    assert_eq!(store.epoch().await.unwrap(), 3);
    store.close().await.unwrap();
    // The next start finds nothing to complain of.
    assert_eq!(open(&path).await.damage, None);
}

#[tokio::test]
async fn whatever_is_cut_or_written_over_ends_in_a_new_journal_with_a_gap() {
    let base = tempfile::tempdir().unwrap();
    let whole = base.path().join("whole.db");
    fill(&whole).await;
    let bytes = fs::read(&whole).unwrap();
    let pages = bytes.len() / 4096;
    let mut found = 0;
    for page in 0..pages {
        for way in ["noise", "zeros", "cut"] {
            let path = base.path().join(format!("{page}-{way}.db"));
            let mut bytes = bytes.clone();
            let at = page * 4096;
            match way {
                "noise" => bytes[at..at + 4096].iter_mut().for_each(|byte| *byte ^= 0x5a),
                "zeros" => bytes[at..at + 4096].fill(0),
                _ => bytes.truncate(at + 100),
            }
            fs::write(&path, bytes).unwrap();
            let Opened { mut store, memory, damage } = open(&path).await;
            if damage.is_some() {
                found += 1;
                assert_eq!(gap(&records(&mut store).await[0]).reason, Code::JournalDamaged);
                assert_eq!(memory.journal.id, id(2));
            }
            store.close().await.unwrap();
            assert_eq!(open(&path).await.damage, None, "page {page}, {way}");
        }
    }
    assert!(found >= pages * 2, "{found} damages were found in {pages} pages");
}

#[tokio::test]
async fn a_missing_table_is_damage_and_not_a_reason_to_stop() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("journal.db");
    let before = fill(&path).await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut raw =
        <sqlx::SqliteConnection as sqlx::Connection>::connect_with(&options).await.unwrap();
    sqlx::query("DROP TABLE run").execute(&mut raw).await.unwrap();
    sqlx::Connection::close(raw).await.unwrap();
    let Opened { mut store, memory, damage } = open(&path).await;
    assert!(damage.unwrap().why.contains("no such table"));
    assert!(memory.runs.is_empty());
    assert_eq!(payloads(&records(&mut store).await[1..]), payloads(&before[3..]));
}

#[tokio::test]
async fn a_log_that_is_gone_after_a_crash_is_told_and_one_that_was_closed_is_not() {
    let base = tempfile::tempdir().unwrap();
    let (path, copy) = (base.path().join("journal.db"), base.path().join("copy.db"));
    fill(&path).await;
    let beside = |path: &Path, end: &str| PathBuf::from(format!("{}{end}", path.display()));
    // A killed agent leaves its files as they are while it runs.
    let store = open(&path).await.store;
    assert!(beside(&path, "-wal").exists());
    for end in ["", "-open"] {
        fs::copy(beside(&path, end), beside(&copy, end)).unwrap();
    }
    store.close().await.unwrap();
    assert_eq!(open(&path).await.damage, None);
    let Opened { mut store, damage, .. } = open(&copy).await;
    assert_eq!(damage.unwrap().why, "the log beside its file is gone");
    let after = records(&mut store).await;
    assert_eq!((gap(&after[0]).after_seq, after.len()), (3, 4));
}

#[tokio::test]
async fn an_agent_whose_journal_was_damaged_tells_both_sides_and_goes_on() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    session.desire(&manager, 1, &bench.repository(), &bench.source()).await;
    session.run(run_id(1), manager.number(1), backup()).await;
    session.until_finished(run_id(1)).await;
    agent.stop().await;
    // Every page of it but the first, which says that it is a database.
    let mut bytes = fs::read(bench.state.database()).unwrap();
    bytes[4096..].iter_mut().for_each(|byte| *byte ^= 0x5a);
    fs::write(bench.state.database(), bytes).unwrap();

    let agent = bench.start().await;
    let mut session = manager.session().await;
    let told = session
        .until(|what| match what {
            FromAgent::JournalGap(gap) => Some(gap),
            _ => None,
        })
        .await;
    assert_eq!(told.reason, Code::JournalDamaged);
    session.run(run_id(2), manager.number(2), backup()).await;
    assert_eq!(session.until_finished(run_id(2)).await.status, JobStatus::Succeeded);
    let status = status_when(&bench.state, |status| !status.connection.warnings.is_empty()).await;
    let warning = &status.connection.warnings[0];
    assert!(warning.contains("was damaged") && warning.contains("damaged-"), "{warning}");
    agent.stop().await;
}

#[tokio::test]
async fn one_damaged_file_is_kept_and_not_all_of_them() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("journal.db");
    for n in 0..3 {
        fs::write(&path, b"this was a database").unwrap();
        let begin = Begin { stamp: n.to_string(), ..begin(true) };
        let opened = Store::open_or_begin_anew(&path, &begin).await.unwrap();
        assert!(opened.damage.unwrap().kept.unwrap().ends_with(format!("journal.db.damaged-{n}")));
        opened.store.close().await.unwrap();
    }
    let names = fs::read_dir(base.path()).unwrap().flatten().map(|entry| entry.file_name());
    let kept = names.filter(|name| name.to_string_lossy().contains("damaged")).count();
    assert_eq!(kept, 1);
}

/// The files of a database whose agent was killed after several commits.
async fn kill(base: &Path) -> PathBuf {
    let path = base.join("journal.db");
    let mut store = Store::open(&path, id(1)).await.unwrap();
    let mut journal = Journal::new(&store.journal().await.unwrap());
    for n in 1..=6 {
        let text = format!(r#"{{"n":{n}}}"#);
        let record = journal.append("job.finished", text, None, Timestamp::UNIX_EPOCH);
        store.commit(&[Change::Append(record, None)]).await.unwrap();
    }
    let killed = base.join("killed");
    fs::create_dir(&killed).unwrap();
    for end in ["", "-wal", "-open"] {
        let name = format!("journal.db{end}");
        fs::copy(base.join(&name), killed.join(&name)).unwrap();
    }
    killed.join("journal.db")
}

#[tokio::test]
async fn a_log_that_is_not_as_it_was_written_is_damage_and_one_that_is_goes_on() {
    let base = tempfile::tempdir().unwrap();
    let path = kill(base.path()).await;
    let log = base.path().join("killed/journal.db-wal");
    let whole = fs::read(&log).unwrap();
    // The frame of the third record: six commits have one page each, or some more at the first.
    let mut wrong = whole.clone();
    let at = whole.len() - 4 * 4120;
    wrong[at + 1_000] ^= 1;
    fs::write(&log, wrong).unwrap();
    let Opened { mut store, memory, damage } = open(&path).await;
    let damage = damage.expect("commits are gone");
    assert!(damage.why.contains("not as it was written"), "{damage:?}");
    assert_eq!(memory.journal.id, id(2));
    let left = records(&mut store).await;
    assert_eq!(gap(&left[0]).reason, Code::JournalDamaged);
    assert!((1..6).contains(&left.len()), "{left:?}");
    drop(store);
    assert_eq!(open(&path).await.damage, None, "it is told once");

    let other = tempfile::tempdir().unwrap();
    let path = kill(other.path()).await;
    let Opened { mut store, damage, .. } = open(&path).await;
    assert_eq!((damage, store.fetch(ALL).await.unwrap().len()), (None, 6));
}

#[tokio::test]
async fn a_database_with_nothing_in_it_is_damage_where_an_agent_has_run() {
    let base = tempfile::tempdir().unwrap();
    let path = kill(base.path()).await;
    // Nothing of the log fits, and all of the journal was there.
    let log = base.path().join("killed/journal.db-wal");
    let mut wrong = fs::read(&log).unwrap();
    wrong.truncate(20_000);
    fs::write(&log, wrong).unwrap();
    let Opened { mut store, damage, .. } = open(&path).await;
    assert!(damage.is_some());
    assert_eq!(gap(&records(&mut store).await[0]).reason, Code::JournalDamaged);
}

#[tokio::test]
async fn what_sqlx_noted_of_a_migration_and_the_version_in_the_header_can_be_damaged_too() {
    for what in ["migration", "header"] {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("journal.db");
        fill(&path).await;
        if what == "header" {
            let mut bytes = fs::read(&path).unwrap();
            bytes[18] = 9;
            fs::write(&path, bytes).unwrap();
        } else {
            use sqlx::Connection as _;
            let name = format!("sqlite://{}", path.display());
            let mut connection = sqlx::SqliteConnection::connect(&name).await.unwrap();
            let wrong = "UPDATE _sqlx_migrations SET checksum = x'00'";
            sqlx::raw_sql(wrong).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
        let Opened { mut store, damage, .. } = open(&path).await;
        assert!(damage.is_some(), "{what}");
        let left = records(&mut store).await;
        assert_eq!(payloads(&left[1..]).len(), 3, "{what}: what was not acknowledged is there");
    }
}
