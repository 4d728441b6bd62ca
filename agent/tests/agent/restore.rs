//! Restores: in a process of their own, into a fresh folder, and they end when they are told to.

use crate::support::{Authority, Bench, FakeManager, repository_id, run_id};
use protocol::{CommandCancel, FromAgent, JobStatus, RunSpec};
use std::os::unix::fs::PermissionsExt;

fn restore(include: &[&str]) -> RunSpec {
    RunSpec::Restore {
        repository_id: Some(repository_id()),
        snapshot_id: "ab".repeat(32),
        include: include.iter().map(|&path| path.to_owned()).collect(),
    }
}

#[tokio::test]
async fn a_restore_lands_in_a_fresh_closed_folder_and_what_is_missing_is_named() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    session.desire(&manager, 1, &bench.repository(), &bench.source()).await;
    session.run(run_id(1), manager.number(1), restore(&["/source/file", "/gone"])).await;
    let finished = session.until_finished(run_id(1)).await;
    assert_eq!(finished.status, JobStatus::Partial, "{finished:?}");
    let report = finished.restore.unwrap();
    assert_eq!(report.missing, ["/gone"]);
    let target = bench.state.restores().join(run_id(1).to_string());
    assert_eq!(report.target, target.display().to_string());
    assert_eq!(std::fs::read_to_string(target.join("source/file")).unwrap(), "content\n");
    let mode = std::fs::metadata(&target).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    agent.stop().await;
}

#[tokio::test]
async fn a_restore_of_nothing_but_missing_names_fails_and_names_them() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    session.desire(&manager, 1, &bench.repository(), &bench.source()).await;
    session.run(run_id(1), manager.number(1), restore(&["/gone"])).await;
    let finished = session.until_finished(run_id(1)).await;
    assert_eq!(finished.status, JobStatus::Failed, "{finished:?}");
    assert_eq!(finished.restore.unwrap().missing, ["/gone"]);
    agent.stop().await;
}

#[tokio::test]
async fn a_restore_is_cancelled() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    let hold = bench.restic.hold();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    session.desire(&manager, 1, &bench.repository(), &bench.source()).await;
    session.run(run_id(1), manager.number(1), restore(&[])).await;
    session.until_started(run_id(1)).await;
    let cancel = CommandCancel {
        job_id: run_id(1),
        number: Some(manager.number(1)),
        reason: protocol::CancelReason::Admin,
    };
    session.cancel(cancel).await;
    let finished = session.until_finished(run_id(1)).await;
    assert_eq!(finished.status, JobStatus::Cancelled, "{finished:?}");
    drop(hold);
    agent.stop().await;
}

#[tokio::test]
async fn what_is_no_snapshot_is_refused_before_anything_is_made() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    session.desire(&manager, 1, &bench.repository(), &bench.source()).await;
    let spec = RunSpec::Restore {
        repository_id: Some(repository_id()),
        snapshot_id: "latest --target=/".to_owned(),
        include: Vec::new(),
    };
    session.command(run_id(1), manager.number(1), spec).await;
    let answer = session
        .until(|what| match what {
            FromAgent::CommandResult(answer) => Some(answer),
            _ => None,
        })
        .await;
    assert!(!answer.accepted);
    assert!(!bench.state.restores().exists());
    agent.stop().await;
}
