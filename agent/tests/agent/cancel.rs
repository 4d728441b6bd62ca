//! Cancelling in each state ends in exactly one way.

use crate::support::{Authority, Bench, FakeManager, Session, backup, run_id, status_when};
use protocol::{CancelReason, Code, CommandCancel, FromAgent, JobStatus, RunId};

fn cancel(manager: &FakeManager, run: RunId, n: u64, reason: CancelReason) -> CommandCancel {
    CommandCancel { job_id: run, number: Some(manager.number(n)), reason }
}

async fn begin() -> (FakeManager, Bench, crate::support::Agent, Session) {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    session.desire(&manager, 1, &bench.repository(), &bench.source()).await;
    (manager, bench, agent, session)
}

#[tokio::test]
async fn a_command_that_never_came_is_struck_off() {
    let (manager, bench, agent, mut session) = begin().await;
    session.cancel(cancel(&manager, run_id(1), 1, CancelReason::Expired)).await;
    let finished = session.until_finished(run_id(1)).await;
    assert_eq!((finished.status, finished.code), (JobStatus::Expired, Some(Code::Expired)));
    // It comes after all: it is answered, and never runs.
    session.run(run_id(1), manager.number(1), backup()).await;
    session.run(run_id(2), manager.number(2), backup()).await;
    session.until_finished(run_id(2)).await;
    agent.stop().await;
    assert_eq!(bench.restic.calls("backup"), 1);
}

#[tokio::test]
async fn an_accepted_command_ends_before_it_begins() {
    let (manager, bench, agent, mut session) = begin().await;
    session.command(run_id(1), manager.number(1), backup()).await;
    session.until_answered(run_id(1)).await;
    session.cancel(cancel(&manager, run_id(1), 1, CancelReason::Admin)).await;
    let finished = session.until_finished(run_id(1)).await;
    assert_eq!((finished.status, finished.exit_code), (JobStatus::Cancelled, -1));
    session.go(run_id(1)).await;
    agent.stop().await;
    assert_eq!(bench.restic.calls("backup"), 0);
}

#[tokio::test]
async fn a_queued_run_ends_before_it_begins() {
    let (manager, bench, agent, mut session) = begin().await;
    let hold = bench.restic.hold();
    session.run(run_id(1), manager.number(1), backup()).await;
    session.until_started(run_id(1)).await;
    session.run(run_id(2), manager.number(2), backup()).await;
    let status = status_when(&bench.state, |status| status.open_runs.len() == 2).await;
    let words = status.to_string();
    assert!(words.contains("backup of store, going on"), "{words}");
    assert!(words.contains("backup of store, waiting for its repository"), "{words}");
    session.cancel(cancel(&manager, run_id(2), 2, CancelReason::Admin)).await;
    assert_eq!(session.until_finished(run_id(2)).await.status, JobStatus::Cancelled);
    std::fs::remove_file(hold).unwrap();
    assert_eq!(session.until_finished(run_id(1)).await.status, JobStatus::Succeeded);
    agent.stop().await;
    assert_eq!(bench.restic.calls("backup"), 1);
}

#[tokio::test]
async fn a_running_run_is_interrupted_and_says_who_did_it() {
    let (manager, bench, agent, mut session) = begin().await;
    let _hold = bench.restic.hold();
    session.run(run_id(1), manager.number(1), backup()).await;
    session.until(|what| matches!(what, FromAgent::JobProgress(_)).then_some(())).await;
    session.cancel(cancel(&manager, run_id(1), 1, CancelReason::Admin)).await;
    let finished = session.until_finished(run_id(1)).await;
    assert_eq!((finished.status, finished.code), (JobStatus::Cancelled, Some(Code::Cancelled)));
    agent.stop().await;
}

#[tokio::test]
async fn a_finished_run_stays_as_it_is() {
    let (manager, bench, agent, mut session) = begin().await;
    session.run(run_id(1), manager.number(1), backup()).await;
    session.until_finished(run_id(1)).await;
    session.cancel(cancel(&manager, run_id(1), 1, CancelReason::Admin)).await;
    session.run(run_id(2), manager.number(2), backup()).await;
    let finished = session
        .until(|what| match what {
            FromAgent::JobFinished(finished) => Some(*finished),
            _ => None,
        })
        .await;
    assert_eq!(finished.job_id, run_id(2), "the first run ended twice");
    agent.stop().await;
    drop(bench);
}

#[tokio::test]
async fn an_agent_that_is_stopped_ends_its_run_as_interrupted() {
    let (manager, bench, agent, mut session) = begin().await;
    let _hold = bench.restic.hold();
    session.run(run_id(1), manager.number(1), backup()).await;
    session.until(|what| matches!(what, FromAgent::JobProgress(_)).then_some(())).await;
    let (finished, ()) = tokio::join!(session.until_finished(run_id(1)), agent.stop());
    assert_eq!((finished.status, finished.code), (JobStatus::Interrupted, Some(Code::Interrupted)));
    drop((manager, bench));
}
