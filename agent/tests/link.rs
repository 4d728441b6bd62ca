//! The agent against a manager in miniature: enrolment, connection, commands.

#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests stop at the unexpected")]

mod support;

use protocol::{FromAgent, JobStatus};
use support::{Authority, Bench, FakeManager, backup, run_id};

#[tokio::test]
async fn a_backup_runs_from_enrolment_to_report() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    session.until(|what| matches!(what, FromAgent::TicketConfirm(_)).then_some(())).await;
    session.desire(&manager, 1, &bench.repository(), &bench.source()).await;
    session.run(run_id(1), manager.number(1), backup()).await;
    let started = session.until_started(run_id(1)).await;
    assert_eq!(started.command, Some(manager.number(1)));
    let finished = session.until_finished(run_id(1)).await;
    assert_eq!(finished.status, JobStatus::Succeeded, "{finished:?}");
    assert!(finished.snapshot_id.is_some());
    let report = session
        .until(|what| match what {
            FromAgent::SnapshotsReport(report) => Some(report),
            _ => None,
        })
        .await;
    assert_eq!(report.digest.unwrap().len(), 64);
    agent.stop().await;
}
