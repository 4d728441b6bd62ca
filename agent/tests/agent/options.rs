//! What a plan says of how its backups run reaches the real restic.

use crate::{
    real::{begin, is_locked, restic, succeed},
    support::{
        Authority, Bench, FakeManager, PATIENCE, Session, backup, plan, repository_id, run_id,
    },
};
use protocol::{Code, FromAgent, JobStatus, RunSpec, Schedule};
use serde_json::{Value, json};
use std::path::Path;

async fn desire(
    session: &mut Session,
    manager: &FakeManager,
    n: u64,
    bench: &Bench,
    options: Value,
) {
    let plan = Schedule { options: Some(options), ..plan(&bench.source()) };
    session.desire_plan(manager, n, &bench.repository(), plan, Vec::new()).await;
}

#[tokio::test]
async fn what_a_plan_leaves_out_is_left_out_and_options_that_cannot_be_read_are_refused() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    let (agent, mut session) = begin(&manager, &bench, &bench.repository()).await;
    let init = RunSpec::Init { repository_id: Some(repository_id()) };
    succeed(&manager, &mut session, 1, init).await;
    let cache = bench.source().join("cache");
    std::fs::create_dir(&cache).unwrap();
    std::fs::write(cache.join("CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55")
        .unwrap();
    std::fs::write(cache.join("made again"), "x").unwrap();
    let options = json!({
        "one_file_system": true,
        "exclude_caches": true,
        "limit_upload_kib": 100_000,
        "limit_download_kib": 100_000,
        "read_concurrency": 2,
        "timeout_minutes": 60,
        "of_a_newer_manager": true,
    });
    desire(&mut session, &manager, 2, &bench, options).await;
    let stats = succeed(&manager, &mut session, 2, backup()).await.stats.unwrap();
    // The file beside the cache, and the tag.
    assert_eq!(stats["total_files_processed"], 2, "{stats}");

    desire(&mut session, &manager, 3, &bench, json!({ "read_concurrency": "many" })).await;
    session.command(run_id(3), manager.number(3), backup()).await;
    let answer = session.until_answered(run_id(3)).await;
    assert_eq!((answer.accepted, answer.code), (false, Some(Code::InvalidInput)));
    agent.stop().await;
}

/// A restic of somebody else that has the repository for itself for a while.
fn foreign_check(bench: &Bench) -> tokio::process::Child {
    tokio::process::Command::new(restic())
        .args(["check", "--read-data", "--limit-download=256"])
        .env("RESTIC_REPOSITORY", bench.repository())
        .env("RESTIC_PASSWORD", "canary-password")
        .env("RESTIC_CACHE_DIR", bench.base.path().join("foreign-cache"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

fn noise(path: &Path) {
    let mut state = 1_u64;
    let bytes: Vec<u8> = (0..8 * 1024 * 1024 / 8)
        .flat_map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_le_bytes()
        })
        .collect();
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_lock_of_somebody_else_is_waited_for_where_the_plan_says_so_and_the_log_tells() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    let (agent, mut session) = begin(&manager, &bench, &bench.repository()).await;
    let init = RunSpec::Init { repository_id: Some(repository_id()) };
    succeed(&manager, &mut session, 1, init).await;
    noise(&bench.source().join("noise"));
    desire(&mut session, &manager, 2, &bench, json!({ "retry_lock_minutes": 5 })).await;
    succeed(&manager, &mut session, 2, backup()).await;

    let mut check = foreign_check(&bench);
    let locks = bench.repository().join("locks");
    let locked = tokio::time::timeout(PATIENCE, async {
        while !is_locked(&locks) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    });
    locked.await.expect("the check never took its lock");
    session.run(run_id(3), manager.number(3), backup()).await;
    let waits = session.until(|what| match what {
        FromAgent::LogLine(line) if line.payload.contains("Waiting for up to") => {
            Some(line.payload)
        }
        FromAgent::JobFinished(finished) if finished.job_id == run_id(3) => {
            panic!("{finished:?}")
        }
        _ => None,
    });
    let words = waits.await;
    assert!(words.contains("locked") && words.contains("5 min 0 s"), "{words}");
    let pid = rustix::process::Pid::from_raw(check.id().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    check.wait().await.unwrap();
    let finished = session.until_finished(run_id(3)).await;
    assert_eq!(finished.status, JobStatus::Succeeded, "{finished:?}");
    agent.stop().await;
}
