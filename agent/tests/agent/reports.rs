//! What the manager is told of a repository: digest, delta, pages.

use crate::support::{Authority, Bench, FakeManager, Session, backup, repository_id, run_id};
use protocol::{FromAgent, SnapshotsReport, SnapshotsWant, ToAgent, snapshots_digest};

async fn report(session: &mut Session) -> SnapshotsReport {
    session
        .until(|what| match what {
            FromAgent::SnapshotsReport(report) => Some(report),
            _ => None,
        })
        .await
}

#[tokio::test]
async fn digest_then_delta_then_pages_on_demand() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    session.desire(&manager, 1, &bench.repository(), &bench.source()).await;
    session.run(run_id(1), manager.number(1), backup()).await;
    let first = report(&mut session).await;
    assert!(first.snapshots.is_empty() && first.base.is_none() && first.page.is_none());

    session.run(run_id(2), manager.number(2), backup()).await;
    let second = report(&mut session).await;
    assert_eq!(second.base, first.digest);
    assert_eq!(second.snapshots.len(), 1);

    session
        .send(ToAgent::SnapshotsWant(SnapshotsWant { repository_id: repository_id(), anew: false }))
        .await;
    let page = report(&mut session).await;
    assert_eq!((page.page, page.last, page.snapshots.len()), (Some(1), true, 2));
    let ids = page.snapshots.iter().map(|snapshot| snapshot.id.as_str());
    assert_eq!(page.digest, Some(snapshots_digest(ids)));
    let stats = session.until(|what| match what {
        FromAgent::RepoStats(stats) => Some(stats),
        _ => None,
    });
    drop(stats);
    agent.stop().await;

    // After a restart the digest is told as it was known; the repository is read once beside that, since
    // the agent before may have ended without reading what it did last.
    let agent = bench.start().await;
    let calls = bench.restic.calls("snapshots");
    let mut session = manager.session().await;
    assert_eq!(report(&mut session).await.digest, page.digest);
    assert!(bench.restic.calls("snapshots") <= calls + 1);
    agent.stop().await;
}
