//! A manager that went mad, a restic that will not stop talking, and secrets that must not be seen.

use crate::support::{Authority, Bench, FakeManager, backup, repository_id, run_id};
use protocol::{FromAgent, JobStatus, MAX_FRAME_BYTES, MAX_LOG_LINE_BYTES, RunSpec};
use std::path::Path;

#[tokio::test]
async fn an_unreadable_or_endless_frame_ends_the_connection_and_nothing_else() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    for text in [
        "x".repeat(MAX_FRAME_BYTES + 1),
        "no json".to_owned(),
        format!(r#"{{"type":"command.run","payload":{}1{}}}"#, "[".repeat(1000), "]".repeat(1000)),
        r#"{"type":"command.run","payload":{"job_id":"nonsense","kind":"backup"}}"#.to_owned(),
    ] {
        let mut session = manager.session().await;
        session.send_text(text).await;
        while session.next_frame().await.is_some() {}
    }
    let mut session = manager.session().await;
    session.send_text(r#"{"type":"from.the.future","payload":{"x":1}}"#.to_owned()).await;
    session.desire(&manager, 1, &bench.repository(), &bench.source()).await;
    agent.stop().await;
}

/// restic would hand the host to ssh as an option, and the remote to rclone as a command.
#[tokio::test]
async fn a_manager_cannot_run_programs_by_way_of_a_location() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    let locations = [
        "sftp:-oProxyCommand=touch${IFS}trap:/srv",
        "sftp://u@-oProxyCommand=trap/srv",
        "rclone::sftp,ssh=trap:srv",
        "rclone:-trap:srv",
        "trap",
    ];
    for (n, location) in (1..).zip(locations) {
        session.desire(&manager, n, Path::new(location), &bench.source()).await;
        session.run(run_id(n as u8), manager.number(n), backup()).await;
        let finished = session.until_finished(run_id(n as u8)).await;
        assert_eq!(finished.status, JobStatus::Failed, "{location}: {finished:?}");
        assert_eq!(finished.code, Some(protocol::Code::RepositoryUrlInvalid), "{location}");
    }
    agent.stop().await;
    assert!(!bench.restic.read("environment").contains("trap"), "restic was asked");
}

/// What is missing is told, so a path that leads out would tell which files the machine has.
#[tokio::test]
async fn a_restore_is_asked_for_paths_of_the_snapshot_only() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    session.desire(&manager, 1, &bench.repository(), &bench.source()).await;
    let ids = [("latest", "/a"), ("--target=/", "/a")];
    let paths = ["../../etc/passwd", "/../etc/passwd", "/a/./b", "etc", "/a\0", "", "--target=/"];
    let whole = "ab".repeat(32);
    let cases = ids.into_iter().chain(paths.iter().map(|path| (whole.as_str(), *path)));
    for (n, (snapshot, path)) in (1_u64..).zip(cases) {
        let spec = RunSpec::Restore {
            repository_id: Some(repository_id()),
            snapshot_id: snapshot.to_owned(),
            include: vec![path.to_owned()],
        };
        session.command(run_id(n as u8), manager.number(n), spec).await;
        let answer = session.until_answered(run_id(n as u8)).await;
        assert!(!answer.accepted, "{snapshot} {path:?}");
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_line_of_a_megabyte_is_cut_with_a_mark() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    bench.restic.switch("long", "");
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    session.desire(&manager, 1, &bench.repository(), &bench.source()).await;
    session.run(run_id(1), manager.number(1), backup()).await;
    let line = session
        .until(|what| match what {
            FromAgent::LogLine(line) if line.payload.starts_with("xxx") => Some(line),
            _ => None,
        })
        .await;
    assert!(line.payload.len() <= MAX_LOG_LINE_BYTES);
    assert!(line.payload.ends_with("cut]"), "{}", &line.payload[line.payload.len() - 60..]);
    assert_eq!(session.until_finished(run_id(1)).await.status, JobStatus::Succeeded);
    agent.stop().await;
}

#[tokio::test]
async fn a_failure_has_its_words_and_no_secret_is_anywhere_but_in_its_place() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    bench.restic.switch("fail", "Fatal: wrong password or no key found: canary-password\n");
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    session.desire(&manager, 1, &bench.repository(), &bench.source()).await;
    session.run(run_id(1), manager.number(1), backup()).await;
    let mut told = String::new();
    let finished = session
        .until(|what| {
            told.push_str(&format!("{what:?}"));
            match what {
                FromAgent::JobFinished(finished) => Some(*finished),
                _ => None,
            }
        })
        .await;
    assert_eq!(finished.status, JobStatus::Failed);
    assert_eq!(finished.code, Some(protocol::Code::WrongPassword));
    assert!(finished.guidance.is_some());
    agent.stop().await;

    assert!(!told.contains("canary"), "{told}");
    assert!(bench.restic.read("environment").contains("canary-password"), "the test tests nothing");
    assert!(!bench.restic.read("calls").contains("canary"));
    let mut places = Vec::new();
    find_canaries(bench.state.path(), &mut places);
    assert_eq!(places, ["desired.json"]);
}

fn find_canaries(folder: &Path, places: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find_canaries(&path, places);
        } else if let Ok(bytes) = std::fs::read(&path)
            && bytes.windows(6).any(|window| window == b"canary")
        {
            places.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
}
