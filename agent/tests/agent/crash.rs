//! The agent is ended with no chance to say a word, at named points; the next start decides.

use crate::support::{Authority, Bench, FakeManager, Session, backup, run_id};
use protocol::{Code, FromAgent, JobFinished, JobStatus, RunId};
use tokio::process::Child;

/// Runs into the crash, starts the agent again, and gives back the session of the second one.
async fn crash_at(point: &str, bench: &Bench, manager: &FakeManager) -> (Child, Session) {
    manager.enrol(&bench.state).await;
    let mut first = bench.spawn(Some(point));
    let mut session = manager.session().await;
    session.desire(manager, 1, &bench.repository(), &bench.source()).await;
    session.command(run_id(1), manager.number(1), backup()).await;
    if point != "after-accept" {
        session.until_answered(run_id(1)).await;
        session.go(run_id(1)).await;
    }
    let status = first.wait().await.unwrap();
    assert!(!status.success());
    again(bench, manager).await
}

/// The second agent; it ends with its handle.
async fn again(bench: &Bench, manager: &FakeManager) -> (Child, Session) {
    let second = bench.spawn(None);
    let session = manager.session().await;
    (second, session)
}

async fn one_end(session: &mut Session, run: RunId) -> JobFinished {
    session.until_finished(run).await
}

#[tokio::test]
async fn after_the_acceptance_nothing_has_begun_and_the_command_can_come_again() {
    let (manager, bench) = (FakeManager::start(&Authority::new()).await, Bench::new());
    let (_second, mut session) = crash_at("after-accept", &bench, &manager).await;
    assert!(session.hello().open_runs.is_empty());
    session.run(run_id(1), manager.number(1), backup()).await;
    assert_eq!(one_end(&mut session, run_id(1)).await.status, JobStatus::Succeeded);
    assert_eq!(bench.restic.calls("backup"), 1);
}

#[tokio::test]
async fn after_the_beginning_was_written_down_it_is_interrupted_with_words() {
    let (manager, bench) = (FakeManager::start(&Authority::new()).await, Bench::new());
    let (_second, mut session) = crash_at("after-started-journalled", &bench, &manager).await;
    let finished = one_end(&mut session, run_id(1)).await;
    assert_eq!((finished.status, finished.code), (JobStatus::Interrupted, Some(Code::Interrupted)));
    assert!(finished.error.unwrap().contains("no snapshot"));
    // The command is not run again by being delivered again.
    session.run(run_id(1), manager.number(1), backup()).await;
    session.run(run_id(2), manager.number(2), backup()).await;
    one_end(&mut session, run_id(2)).await;
    assert_eq!(bench.restic.calls("backup"), 1);
}

#[tokio::test]
async fn a_snapshot_that_was_finished_is_found_by_its_tag() {
    let (manager, bench) = (FakeManager::start(&Authority::new()).await, Bench::new());
    let (_second, mut session) = crash_at("after-restic-before-finished", &bench, &manager).await;
    let finished = one_end(&mut session, run_id(1)).await;
    assert_eq!(finished.status, JobStatus::Succeeded, "{finished:?}");
    assert!(finished.snapshot_id.is_some());
}

#[tokio::test]
async fn a_killed_agent_leaves_no_restic_behind_and_its_run_ends_once() {
    let (manager, bench) = (FakeManager::start(&Authority::new()).await, Bench::new());
    manager.enrol(&bench.state).await;
    let _hold = bench.restic.hold();
    let mut first = bench.spawn(None);
    let mut session = manager.session().await;
    session.desire(&manager, 1, &bench.repository(), &bench.source()).await;
    session.run(run_id(1), manager.number(1), backup()).await;
    session.until(|what| matches!(what, FromAgent::JobProgress(_)).then_some(())).await;
    first.kill().await.unwrap();
    let (_second, mut session) = again(&bench, &manager).await;
    let finished = one_end(&mut session, run_id(1)).await;
    assert_eq!(finished.status, JobStatus::Interrupted, "{finished:?}");
    assert_eq!(bench.restic.calls("backup"), 1);
}
