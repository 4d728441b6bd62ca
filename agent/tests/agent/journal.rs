//! The journal across restarts, lost acknowledgements and restored copies.

use crate::support::{Authority, Bench, FakeManager, backup, run_id, status_when};
use protocol::{Code, Cursor, FromAgent, JobStatus, ToAgent, Welcome, journal::ChainHash};

#[tokio::test]
async fn what_was_not_acknowledged_is_told_again_after_a_restart_and_the_rest_is_not() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    session.desire(&manager, 1, &bench.repository(), &bench.source()).await;
    session.run(run_id(1), manager.number(1), backup()).await;
    session.until_finished(run_id(1)).await;
    agent.stop().await;
    let status = status_when(&bench.state, |status| !status.is_running).await;
    assert!(status.open_runs.is_empty());
    assert!(status.journal.unwrap().head >= 3);

    let agent = bench.start().await;
    let mut session = manager.accept().await;
    let journal = session.hello().journal.clone().unwrap();
    let seen = session.hello().manager.unwrap();
    assert_eq!((seen.command, seen.generation), (1, 1));
    assert_eq!(session.hello().ticket.as_ref().unwrap().expose_secret(), "ticket");
    // The manager has two records; the hash of the second is not at either end of the journal.
    let records = records(&bench).await;
    let cursor = Cursor { journal_id: journal.id, seq: 2, hash: records[1].1 };
    let welcome = Welcome { cursor: Some(cursor), ..manager.welcome() };
    session.send(ToAgent::Welcome(Box::new(welcome))).await;
    let mut told = Vec::new();
    while told.last() != Some(&journal.head) {
        let (frame, _) = session.next().await;
        told.extend(frame.seq);
    }
    assert_eq!(told, (3..=journal.head).collect::<Vec<_>>());
    agent.stop().await;
}

async fn records(bench: &Bench) -> Vec<(u64, ChainHash)> {
    let mut store = agent::store::Store::open_to_read(&bench.state.database()).await.unwrap();
    let room = agent::journal::Room { after: 0, up_to: 10_000, records: 10_000, bytes: 1 << 30 };
    store.fetch(room).await.unwrap().iter().map(|record| (record.seq, record.hash)).collect()
}

#[tokio::test]
async fn a_forked_journal_is_renewed_with_a_visible_gap_and_nothing_is_lost() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    session.desire(&manager, 1, &bench.repository(), &bench.source()).await;
    session.run(run_id(1), manager.number(1), backup()).await;
    session.until_started(run_id(1)).await;
    drop(session);

    // The manager holds other records under the same numbers.
    let mut session = manager.accept().await;
    let old = session.hello().journal.clone().unwrap();
    let cursor = Cursor { journal_id: old.id, seq: 1, hash: ChainHash::from([7; 16]) };
    let welcome = Welcome { cursor: Some(cursor), ..manager.welcome() };
    session.send(ToAgent::Welcome(Box::new(welcome))).await;

    let mut session = manager.session().await;
    let new = session.hello().journal.clone().unwrap();
    assert_ne!(new.id, old.id);
    let gap = session
        .until(|what| match what {
            FromAgent::JournalGap(gap) => Some(gap),
            _ => None,
        })
        .await;
    assert_eq!((gap.journal_id, gap.after_seq, gap.reason), (old.id, 1, Code::JournalForked));
    let finished = session.until_finished(run_id(1)).await;
    assert_eq!(finished.status, JobStatus::Succeeded);
    agent.stop().await;
}

#[tokio::test]
async fn a_restored_state_folder_says_so_and_begins_a_new_journal() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    session.desire(&manager, 1, &bench.repository(), &bench.source()).await;
    drop(session);

    let mut session = manager.accept().await;
    let old = session.hello().journal.clone().unwrap();
    let cursor = Cursor { journal_id: old.id, seq: 500, hash: ChainHash::from([7; 16]) };
    let welcome = Welcome {
        cursor: Some(cursor),
        renew_journal: Some(Code::AgentBehind),
        ..manager.welcome()
    };
    session.send(ToAgent::Welcome(Box::new(welcome))).await;

    let mut session = manager.session().await;
    let (frame, first) = loop {
        let (frame, what) = session.next().await;
        if frame.seq.is_some() {
            break (frame, what);
        }
    };
    let FromAgent::JournalGap(gap) = first else { panic!("{first:?}") };
    assert_eq!(frame.seq, Some(1));
    assert_eq!((gap.journal_id, gap.after_seq, gap.reason), (old.id, 500, Code::AgentBehind));
    agent.stop().await;
}

#[tokio::test]
async fn a_rebuilt_manager_gets_everything_from_the_beginning() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    session.desire(&manager, 1, &bench.repository(), &bench.source()).await;
    session.run(run_id(1), manager.number(1), backup()).await;
    session.until_finished(run_id(1)).await;
    drop(session);
    let mut session = manager.accept().await;
    session.send(ToAgent::Welcome(Box::new(manager.welcome()))).await;
    session.until_started(run_id(1)).await;
    session.until_finished(run_id(1)).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_slow_manager_is_not_flooded() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    bench.restic.switch("flood", "");
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    session.desire(&manager, 1, &bench.repository(), &bench.source()).await;
    session.run(run_id(1), manager.number(1), backup()).await;
    let mut lines = 0;
    let (mut left_out, mut last) = (None, String::new());
    let finished = session
        .until(|what| match what {
            FromAgent::LogLine(line) => {
                lines += 1;
                assert_eq!(line.seq, lines);
                left_out = left_out.or(line.payload.contains("were left out").then_some(line.seq));
                last = line.payload;
                None
            }
            FromAgent::JobFinished(finished) => Some(*finished),
            _ => None,
        })
        .await;
    assert_eq!(finished.log_lines, lines);
    assert_eq!(lines, 10_002);
    assert_eq!(left_out, Some(9_801), "then come the last two hundred, and the end");
    assert!(last.starts_with("Done after"), "{last}");
    agent.stop().await;
}
