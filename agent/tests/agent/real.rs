//! The whole way with the real restic that `cargo xtask tools` fetches.

use crate::support::{
    Agent, Authority, Bench, FakeManager, PATIENCE, Session, backup, plan_id, repository_id, run_id,
};
use agent::identity::Settings;
use protocol::{
    Code, FromAgent, HostId, JobFinished, JobStatus, LogLine, RunId, RunSpec, ToAgent, TreeWant,
};
use std::path::{Path, PathBuf};

pub fn restic() -> PathBuf {
    let tools = std::env::var_os("RESTIC_MANAGER_TEST_TOOLS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools"),
        PathBuf::from,
    );
    let restic = tools.join("bin/restic");
    assert!(restic.is_file(), "{} is missing: run `cargo xtask tools` first", restic.display());
    restic
}

/// An enrolled agent that runs a real restic, and its session.
pub async fn begin(manager: &FakeManager, bench: &Bench, repository: &Path) -> (Agent, Session) {
    let settings = Settings { restic: Some(restic()), ..Settings::default() };
    settings.save(bench.state.path()).unwrap();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    session.desire(manager, 1, repository, &bench.source()).await;
    (agent, session)
}

pub async fn succeed(
    manager: &FakeManager,
    session: &mut Session,
    n: u8,
    spec: RunSpec,
) -> JobFinished {
    session.run(run_id(n), manager.number(n.into()), spec).await;
    let finished = session.until_finished(run_id(n)).await;
    assert_eq!(finished.status, JobStatus::Succeeded, "{finished:?}");
    finished
}

#[tokio::test]
async fn a_real_restic_initialises_backs_up_checks_forgets_and_restores() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    let (agent, mut session) = begin(&manager, &bench, &bench.repository()).await;

    session.run(run_id(1), manager.number(1), backup()).await;
    let early = session.until_finished(run_id(1)).await;
    assert_eq!((early.status, early.code), (JobStatus::Failed, Some(Code::RepositoryMissing)));

    let repository = repository_id();
    let repository_id = Some(repository);
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

    let want = TreeWant {
        repository_id: repository,
        snapshot_id: snapshot_id.clone(),
        path: bench.source().display().to_string(),
    };
    session.send(ToAgent::TreeWant(want.clone())).await;
    let told = session.until(|what| match what {
        FromAgent::TreeReport(report) if report.want == want => Some(report),
        _ => None,
    });
    let told = told.await;
    let names: Vec<&str> = told.entries.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!((names.as_slice(), told.last, told.problem), (&["file"][..], true, None));
    assert_eq!(told.entries[0].size_bytes, Some("content".len() as u64));
    let nowhere = TreeWant { path: "/nowhere".to_owned(), ..want.clone() };
    let outside = TreeWant { path: "/../etc".to_owned(), ..want };
    for (want, code) in [(nowhere, Code::SnapshotUnknown), (outside, Code::InvalidInput)] {
        session.send(ToAgent::TreeWant(want.clone())).await;
        let refused = session.until(|what| match what {
            FromAgent::TreeReport(report) if report.want == want => report.problem,
            _ => None,
        });
        assert_eq!(refused.await.code, code);
    }

    let specs = [
        RunSpec::Check { repository_id, read_data: false },
        RunSpec::Forget { schedule_id: Some(plan_id()), dry_run: false, keep_suspects: false },
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

#[tokio::test]
async fn retention_removes_nothing_of_another_machine_of_the_same_name() {
    let authority = Authority::new();
    let one = FakeManager::start(&authority).await;
    let mut two = FakeManager::start(&authority).await;
    two.host_id = HostId::new(1, &[2; 10]);
    let (bench, other) = (Bench::new(), Bench::new());
    // Both agents are on one machine, so their names are the same; plan and repository are too.
    let (agent, mut session) = begin(&one, &bench, &bench.repository()).await;
    let (neighbour, mut theirs) = begin(&two, &other, &bench.repository()).await;
    let init = RunSpec::Init { repository_id: Some(repository_id()) };
    succeed(&one, &mut session, 1, init).await;
    let kept = succeed(&one, &mut session, 2, backup()).await.snapshot_id.unwrap();
    for n in 1..=4 {
        std::fs::write(other.source().join("file"), format!("version {n}")).unwrap();
        succeed(&two, &mut theirs, n, backup()).await;
    }
    // The plan keeps three.
    let forget =
        RunSpec::Forget { schedule_id: Some(plan_id()), dry_run: false, keep_suspects: false };
    let forgot = succeed(&two, &mut theirs, 5, forget.clone()).await.stats.unwrap();
    assert_eq!((&forgot["removed_count"], &forgot["kept_count"]), (&1.into(), &3.into()));
    let forgot = succeed(&one, &mut session, 3, forget).await.stats.unwrap();
    assert_eq!((&forgot["removed_count"], &forgot["kept_count"]), (&0.into(), &1.into()));
    let spec = RunSpec::Restore {
        repository_id: Some(repository_id()),
        snapshot_id: kept,
        include: Vec::new(),
    };
    succeed(&one, &mut session, 4, spec).await;
    agent.stop().await;
    neighbour.stop().await;
}

#[tokio::test]
async fn a_lock_that_a_dead_run_left_behind_keeps_no_later_run_out() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    let (agent, mut session) = begin(&manager, &bench, &bench.repository()).await;
    let repository_id = Some(repository_id());
    succeed(&manager, &mut session, 1, RunSpec::Init { repository_id }).await;
    // Zeros take long to read and no room.
    let big = std::fs::File::create(bench.source().join("zeros")).unwrap();
    big.set_len(64 * 1024 * 1024 * 1024).unwrap();
    session.run(run_id(2), manager.number(2), backup()).await;
    let locks = bench.repository().join("locks");
    let away = bench.base.path().join("away");
    let killed = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(pid) = restic_of(run_id(2)).filter(|_| is_locked(&locks)) {
                // The repository is away at the end, so nobody can clear up there.
                std::fs::rename(bench.repository(), &away).unwrap();
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    });
    killed.await.expect("restic never took its lock");
    assert_eq!(session.until_finished(run_id(2)).await.status, JobStatus::Failed);
    std::fs::rename(&away, bench.repository()).unwrap();
    assert_eq!(std::fs::read_dir(&locks).unwrap().count(), 1, "the lock is left");
    std::fs::remove_file(bench.source().join("zeros")).unwrap();

    // A check wants the repository for itself.
    let check = RunSpec::Check { repository_id, read_data: false };
    session.run(run_id(3), manager.number(3), check).await;
    let (lines, finished) = lines_and_end(&mut session, run_id(3)).await;
    assert_eq!(finished.status, JobStatus::Succeeded, "{finished:?}");
    assert!(lines.iter().any(|line| line.starts_with("Removed 1 lock")), "{lines:?}");
    assert_eq!(std::fs::read_dir(&locks).unwrap().count(), 0);

    // Somebody else's lock stays, whatever stands in it.
    let foreign = std::process::Command::new("sh")
        .arg("-c")
        .arg(HOLD_A_LOCK)
        .env("RESTIC", restic())
        .env("RESTIC_REPOSITORY", bench.repository())
        .env("RESTIC_PASSWORD", "canary-password")
        .env("RESTIC_CACHE_DIR", bench.base.path().join("foreign-cache"))
        .env("SOURCE", bench.base.path())
        .env("LOCKS", &locks)
        .status()
        .unwrap();
    assert!(foreign.success());
    let check = RunSpec::Check { repository_id, read_data: false };
    session.run(run_id(4), manager.number(4), check).await;
    let finished = session.until_finished(run_id(4)).await;
    assert_eq!(finished.code, Some(Code::RepositoryLocked), "{finished:?}");
    assert_eq!(std::fs::read_dir(&locks).unwrap().count(), 1, "it is not ours");
    agent.stop().await;
}

/// Leaves the lock of a restic behind that no agent started.
const HOLD_A_LOCK: &str = r#"
truncate -s 64G "$SOURCE/more-zeros"
"$RESTIC" backup "$SOURCE/more-zeros" >/dev/null 2>&1 &
pid=$!
until ls "$LOCKS" | grep -qx "[0-9a-f]\{64\}"; do
  kill -0 $pid || exit 1
  sleep 0.05
done
kill -9 $pid
"#;

/// Whether there is a lock, and not only the file that becomes one.
pub fn is_locked(locks: &Path) -> bool {
    let Ok(mut found) = std::fs::read_dir(locks) else { return false };
    found.any(|lock| lock.unwrap().file_name().len() == 64)
}

/// The restic that carries this run out.
fn restic_of(run: RunId) -> Option<rustix::process::Pid> {
    let tag = run.tag();
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let words = std::fs::read(entry.path().join("cmdline")).ok()?;
        let is_it = String::from_utf8_lossy(&words).contains(&tag);
        is_it.then(|| rustix::process::Pid::from_raw(pid)).flatten()
    })
}

async fn lines_and_end(session: &mut Session, run: RunId) -> (Vec<String>, JobFinished) {
    let mut lines = Vec::new();
    let finished = session
        .until(|what| match what {
            FromAgent::LogLine(LogLine { job_id, payload, .. }) if job_id == run => {
                lines.push(payload);
                None
            }
            FromAgent::JobFinished(finished) if finished.job_id == run => Some(*finished),
            _ => None,
        })
        .await;
    (lines, finished)
}
