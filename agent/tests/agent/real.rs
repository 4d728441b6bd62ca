//! The whole way with the real restic that `cargo xtask tools` fetches.

use crate::support::{Authority, Bench, FakeManager, backup, plan_id, repository_id, run_id};
use agent::identity::Settings;
use protocol::{Code, FromAgent, JobStatus, RunSpec};
use std::path::{Path, PathBuf};

#[tokio::test]
async fn a_real_restic_initialises_backs_up_checks_forgets_and_restores() {
    let tools = std::env::var_os("RESTIC_MANAGER_TEST_TOOLS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools"),
        PathBuf::from,
    );
    let restic = tools.join("bin/restic");
    assert!(restic.is_file(), "{} is missing: run `cargo xtask tools` first", restic.display());
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    let settings = Settings { restic: Some(restic), ..Settings::default() };
    settings.save(&bench.state).unwrap();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    session.desire(&manager, 1, &bench.repository(), &bench.source()).await;

    session.run(run_id(1), manager.number(1), backup()).await;
    let early = session.until_finished(run_id(1)).await;
    assert_eq!((early.status, early.code), (JobStatus::Failed, Some(Code::RepositoryMissing)));

    let repository_id = Some(repository_id());
    session.run(run_id(2), manager.number(2), RunSpec::Init { repository_id }).await;
    assert_eq!(session.until_finished(run_id(2)).await.status, JobStatus::Succeeded);
    session.run(run_id(3), manager.number(3), backup()).await;
    let done = session.until_finished(run_id(3)).await;
    assert_eq!(done.status, JobStatus::Succeeded, "{done:?}");
    let snapshot_id = done.snapshot_id.unwrap();
    let stats = session
        .until(|what| match what {
            FromAgent::RepoStats(stats) if stats.snapshot_count == 1 => Some(stats),
            _ => None,
        })
        .await;
    assert!(stats.size_bytes > 0, "{stats:?}");

    let specs = [
        RunSpec::Check { repository_id, read_data: false },
        RunSpec::Forget { schedule_id: Some(plan_id()), dry_run: false },
        RunSpec::Prune { repository_id, dry_run: false },
        RunSpec::Unlock { repository_id },
        RunSpec::Stats { repository_id },
    ];
    for (n, spec) in (4..).zip(specs) {
        let kind = spec.kind();
        session.run(run_id(n), manager.number(n.into()), spec).await;
        let finished = session.until_finished(run_id(n)).await;
        assert_eq!(finished.status, JobStatus::Succeeded, "{kind:?}: {finished:?}");
    }
    let file = bench.source().join("file").display().to_string();
    let include = vec![file.clone()];
    let spec = RunSpec::Restore { repository_id, snapshot_id, include };
    session.run(run_id(20), manager.number(20), spec).await;
    let restored = session.until_finished(run_id(20)).await;
    assert_eq!(restored.status, JobStatus::Succeeded, "{restored:?}");
    let target = restored.restore.unwrap().target;
    assert_eq!(std::fs::read_to_string(format!("{target}{file}")).unwrap(), "content");
    let left: Vec<_> = std::fs::read_dir(bench.state.temporary()).unwrap().collect();
    assert!(left.is_empty(), "the check left its cache behind: {left:?}");
    agent.stop().await;
}
