//! The fourteen ways in which restic surprises those who run it as a program, each with the rule
//! by which this crate answers it. Real restics where they are installed, recorded output of
//! others.

use std::fs;
use std::net::TcpListener;

use crate::bench::{
    PASSWORD, Server, fake_restic, fixture, log_lines, no_repository, ours, replay,
};
use crate::processes::{last_words, make_fifo};
use restic::{
    BackupOutcome, BackupRequest, Bucket, CancelToken, CheckOutcome, CheckRequest, Event, Exit,
    Failure, FailureKind, ForgetRequest, GroupBy, Keep, LsRequest, PruneRequest, ReadData,
    Repository, Restic, RestoreRequest, Secret, SnapshotFilter, SnapshotId, UnlockOutcome,
    classify,
};

fn keep_last(count: i64) -> ForgetRequest {
    ForgetRequest::Policy {
        host: Some("web-1".to_owned()),
        tags: Vec::new(),
        group_by: GroupBy::HOST_AND_PATHS,
        keep: Keep::new().with(Bucket::Last, count).unwrap(),
        dry_run: false,
    }
}

async fn forget(restic: &Restic, repository: &Repository) -> Result<Vec<String>, Failure> {
    let cancel = CancelToken::new();
    let outcome = restic.forget(repository, &keep_last(1), &mut |_| {}, &cancel).await?;
    Ok(outcome.removed().map(str::to_owned).collect())
}

/// An address at which nobody listens.
fn dead_location() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("rest:http://{}/repo/", listener.local_addr().unwrap())
}

with_each_restic! {
    /// Prune prints text although JSON was asked for; its figures and progress are read from that.
    async fn point_01_figures_are_read_from_text_where_json_is_ignored(bench) {
        bench.snapshot().await;
        let mut events = Vec::new();
        let cancel = CancelToken::new();
        let request = PruneRequest::default();
        let pruned = bench
            .restic
            .prune(&bench.repository, request, &mut |event| events.push(event), &cancel)
            .await
            .unwrap();
        assert!(pruned.remaining.unwrap().blobs >= 4, "{pruned:?}");
        assert_eq!(pruned.total_removed.unwrap().blobs, 0);
        assert!(events.iter().any(|event| matches!(event, Event::Progress(p) if p.step.is_some())));

        let request = CheckRequest { read_data: ReadData::All };
        let mut events = Vec::new();
        let checked = bench
            .restic
            .check(&bench.repository, request, &mut |event| events.push(event), &cancel)
            .await
            .unwrap();
        assert!(matches!(checked, CheckOutcome::Sound(_)), "{checked:?}");
        assert!(events.iter().any(|event| matches!(event, Event::Progress(p) if p.step.is_some())));
    }

    /// A forget never prunes, so its answer is one document; the prune is a call of its own.
    async fn point_02_forget_and_prune_are_two_calls(bench) {
        let first = bench.snapshot().await;
        fs::write(bench.path("source/a.txt"), "changed").unwrap();
        let second = bench
            .backup(&BackupRequest::new("web-1", [bench.path("source")]))
            .await
            .unwrap();
        let removed = forget(&bench.restic, &bench.repository).await.unwrap();
        assert_eq!(removed, [first.as_str()]);
        let cancel = CancelToken::new();
        let everything = SnapshotFilter::default();
        let left = bench
            .restic
            .snapshots(&bench.repository, &everything, &mut |_| {}, &cancel)
            .await
            .unwrap();
        assert_eq!(Some(&left[0].id), second.summary().snapshot_id.as_ref());
        let pruned = bench
            .restic
            .prune(&bench.repository, PruneRequest::default(), &mut |_| {}, &cancel)
            .await
            .unwrap();
        assert!(pruned.total_removed.unwrap().blobs > 0, "{pruned:?}");
    }

    /// restic would go on for half an hour.
    async fn point_03_a_dead_server_is_noticed_within_the_watchdogs_patience(bench) {
        let mut server = Server::start(&bench, &["--no-auth"]);
        let (repository, request) = bench.slow_backup(&bench.behind(&server));
        let restic = bench.impatient();
        let mut notices = 0;
        let mut is_killed = false;
        let failure = restic
            .backup(
                &repository,
                &request,
                &mut |event| match event {
                    Event::Progress(progress) if progress.bytes_done > 0 && !is_killed => {
                        server.kill();
                        is_killed = true;
                    }
                    Event::Unreachable { line } => {
                        assert!(line.contains("retrying after"), "{line}");
                        notices += 1;
                    }
                    _ => {}
                },
                &CancelToken::new(),
            )
            .await
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::Unreachable, "{failure:?}");
        assert_eq!(notices, 1);
        // Its lock is still on the server, and only ours may be taken away.
        let pid = failure.killed_pid.expect("an impatient restic is killed");
        let server = Server::restart(&bench, server.address, &["--no-auth"]);
        let cancel = CancelToken::new();
        let repository = bench.behind(&server);
        let unlocked = bench
            .restic
            .release_own_locks(&repository, &ours([pid]), &mut |_| {}, &cancel)
            .await
            .unwrap();
        assert!(matches!(&unlocked, UnlockOutcome::Removed { locks } if locks[0].pid == pid), "{unlocked:?}");
    }

    /// Also at the very start, where nothing was reached yet.
    async fn point_03_a_server_that_never_answers_is_noticed_too(bench) {
        let repository = Repository { location: dead_location(), ..bench.repository.clone() };
        let cancel = CancelToken::new();
        let failure = bench
            .impatient()
            .cat_config(&repository, &mut |_| {}, &cancel)
            .await
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::Unreachable, "{failure:?}");
        assert!(failure.message.contains("connection refused"), "{failure:?}");
    }

    /// 0.18 ends a cancelled backup with 1, as it does after any failure.
    async fn point_04_cancelled_is_cancelled_whatever_the_exit_code_and_leaves_no_lock(bench) {
        let server = Server::start(&bench, &["--no-auth"]);
        let (repository, request) = bench.slow_backup(&bench.behind(&server));
        let cancel = CancelToken::new();
        let failure = bench
            .restic
            .backup(
                &repository,
                &request,
                &mut |event| {
                    if matches!(event, Event::Progress(progress) if progress.bytes_done > 0) {
                        cancel.cancel();
                    }
                },
                &cancel,
            )
            .await
            .unwrap_err();
        let exit = if bench.is_version("0.18.0") { 1 } else { 130 };
        assert_eq!(failure.kind, FailureKind::Cancelled, "{failure:?}");
        assert_eq!(failure.exit, Some(Exit::Code(exit)));
        assert_eq!(failure.killed_pid, None);
        let locks = bench
            .restic
            .locks(&bench.behind(&server), &mut |_| {}, &CancelToken::new())
            .await;
        assert_eq!(locks, Ok(Vec::new()));
    }

    /// An append-only server refuses; 0.18 says 0 and lists the snapshots as removed.
    async fn point_06_a_refused_forget_is_a_failure_whatever_the_exit_code(bench) {
        let first = bench.snapshot().await;
        bench.snapshot().await;
        let server = Server::start(&bench, &["--no-auth", "--append-only"]);
        let failure = forget(&bench.restic, &bench.behind(&server)).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused, "{failure:?}");
        assert_eq!(failure.items.items[0].path, first.as_str());
        let exit = if bench.is_version("0.18.0") { 0 } else { 3 };
        assert_eq!(failure.exit, Some(Exit::Code(exit)));

        let id = ForgetRequest::Snapshots(vec![first]);
        let failure = bench
            .restic
            .forget(&bench.behind(&server), &id, &mut |_| {}, &CancelToken::new())
            .await
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused, "{failure:?}");
    }

    /// 0.19 dies of a missing cache folder, so there always is one, and one that cannot be made is
    /// named as the cause.
    async fn point_08_the_cache_folder_is_always_given_and_named_when_it_is_the_cause(bench) {
        let snapshots = async |repository: &Repository| {
            let everything = SnapshotFilter::default();
            bench
                .restic
                .snapshots(repository, &everything, &mut |_| {}, &CancelToken::new())
                .await
        };
        assert_eq!(snapshots(&bench.repository).await, Ok(Vec::new()));
        assert!(bench.repository.cache_dir.is_dir());

        fs::write(bench.path("file"), "").unwrap();
        let repository = Repository {
            cache_dir: bench.path("file").join("cache"),
            ..bench.repository.clone()
        };
        let listed = snapshots(&repository).await;
        if bench.is_version("0.18.0") {
            assert_eq!(listed, Ok(Vec::new()));
        } else {
            let failure = listed.unwrap_err();
            assert_eq!(failure.kind, FailureKind::CacheUnusable, "{failure:?}");
            assert!(!failure.message.contains("github.com/"), "{failure:?}");
        }
    }

    /// 0.18 says 0 when one of two sources is missing, 0.19 says 3.
    async fn point_09_a_missing_source_makes_a_backup_partial_whatever_the_exit_code(bench) {
        let gone = bench.path("gone");
        let request = BackupRequest::new("web-1", [bench.source(), gone.clone()]);
        let outcome = bench.backup(&request).await.unwrap();
        let BackupOutcome::Partial { unreadable, summary } = outcome else {
            panic!("{outcome:?}");
        };
        assert!(summary.snapshot_id.is_some());
        assert_eq!(unreadable.total, 1);
        assert_eq!(unreadable.items[0].path, gone.to_str().unwrap());

        let failure = bench.backup(&BackupRequest::new("web-1", [gone])).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::SourceMissing, "{failure:?}");
    }

    /// Every snapshot that such a release wrote has its size in it; an older one has none.
    async fn point_12_the_size_of_a_snapshot_is_unknown_where_the_writer_did_not_tell(bench) {
        let id = bench.snapshot().await;
        let filter = SnapshotFilter { ids: vec![id], ..SnapshotFilter::default() };
        let listed = bench
            .restic
            .snapshots(&bench.repository, &filter, &mut |_| {}, &CancelToken::new())
            .await
            .unwrap();
        let summary = listed[0].summary.as_ref().unwrap();
        assert_eq!(summary.total_bytes_processed, 11);
        assert_eq!(summary.total_files_processed, 2);

        let old: Vec<restic::Snapshot> =
            serde_json::from_slice(&fixture("0.14.0/snapshots-one.jsonl")).unwrap();
        assert_eq!(old[0].summary, None);
    }

    /// The default mode would walk every file of every snapshot.
    async fn point_13_the_size_of_a_repository_is_that_of_its_raw_data(bench) {
        bench.snapshot().await;
        bench.snapshot().await;
        let stats = bench
            .restic
            .raw_data_stats(&bench.repository, &mut |_| {}, &CancelToken::new())
            .await
            .unwrap();
        assert_eq!(stats.snapshots_count, 2);
        assert!(stats.total_size > 0 && stats.total_blob_count > 0, "{stats:?}");
    }

    /// restic answers with nothing, and 0.
    async fn point_14_an_empty_answer_to_a_question_by_name_is_not_found(bench) {
        let snapshot = bench.snapshot().await;
        let cancel = CancelToken::new();
        let ls = LsRequest { snapshot, folder: "/no/such/folder".to_owned() };
        let failure = bench
            .restic
            .ls(&bench.repository, &ls, &mut |_| {}, &cancel)
            .await
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::PathNotFound, "{failure:?}");

        let unknown = SnapshotId::new("deadbeef".repeat(8)).unwrap();
        let filter = SnapshotFilter { ids: vec![unknown.clone()], ..SnapshotFilter::default() };
        let failure = bench
            .restic
            .snapshots(&bench.repository, &filter, &mut |_| {}, &cancel)
            .await
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::SnapshotNotFound, "{failure:?}");

        // A full id is not looked up but loaded, and fails in the words of the back end.
        let server = Server::start(&bench, &["--no-auth"]);
        for repository in [&bench.repository, &bench.behind(&server)] {
            let request = ForgetRequest::Snapshots(vec![unknown.clone()]);
            let forgotten = bench
                .restic
                .forget(repository, &request, &mut |_| {}, &cancel)
                .await
                .unwrap();
            assert_eq!(forgotten.not_found, std::slice::from_ref(&unknown));
            let ls = LsRequest { snapshot: unknown.clone(), folder: "/".to_owned() };
            let failure =
                bench.restic.ls(repository, &ls, &mut |_| {}, &cancel).await.unwrap_err();
            assert_eq!(failure.kind, FailureKind::SnapshotNotFound, "{failure:?}");
        }
    }
}

#[tokio::test]
async fn point_01_a_check_in_text_finds_the_same_as_one_in_json() {
    let folder = tempfile::tempdir().unwrap();
    let check = async |version, case| {
        let restic = replay(folder.path(), version, case, 1).await;
        let request = CheckRequest::default();
        let repository = no_repository(folder.path());
        let outcome = restic.check(&repository, request, &mut |_| {}, &CancelToken::new()).await;
        match outcome.unwrap() {
            CheckOutcome::Damaged(report) => report,
            CheckOutcome::Sound(report) => panic!("{report:?}"),
        }
    };
    let json = check("0.18.0", "0.18.0/check-missing-pack").await;
    let text = check("0.17.0", "0.18.0/check-missing-pack-plain").await;
    assert!(json.findings[0].ends_with("does not exist"), "{json:?}");
    assert_eq!(json.findings, text.findings);
    let corrupted = check("0.18.0", "0.18.0/check-damaged-pack-read-data").await;
    assert_eq!(corrupted.broken_packs.len(), 1);
}

/// The summary that a check prints even then says "1 error".
#[tokio::test]
async fn point_01_a_check_that_got_no_lock_is_not_a_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let case = "0.18.0/check-with-stale-nonexclusive-lock";
    let restic = replay(folder.path(), "0.18.0", case, 11).await;
    let request = CheckRequest::default();
    let repository = no_repository(folder.path());
    let failure =
        restic.check(&repository, request, &mut |_| {}, &CancelToken::new()).await.unwrap_err();
    let FailureKind::Locked(holder) = failure.kind else {
        panic!("{failure:?}");
    };
    assert_eq!(holder.hostname, "demo-host");
}

/// Up to 0.18 the text of a prune follows the answer of a forget on the same stream.
#[tokio::test]
async fn point_02_text_behind_the_document_does_not_spoil_it() {
    let folder = tempfile::tempdir().unwrap();
    let restic = replay(folder.path(), "0.18.0", "0.18.0/forget-prune", 0).await;
    let removed = forget(&restic, &no_repository(folder.path())).await.unwrap();
    assert_eq!(removed.len(), 4);
}

/// A restic that cannot end by itself, as 0.18 while the server is gone.
#[tokio::test]
async fn point_04_after_the_grace_the_whole_group_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    // The sleep inherits the pipe: it stays open until the whole group is gone.
    let fifo = make_fifo(folder.path());
    let script = format!("exec 9> '{fifo}'\ntrap '' INT\necho ready >&2\nsleep 1000");
    let restic = fake_restic(folder.path(), "0.18.0", &script).await.with_timing(restic::Timing {
        grace: std::time::Duration::from_millis(50),
        ..restic::Timing::default()
    });
    let words = tokio::spawn({
        let folder = folder.path().to_owned();
        async move { last_words(&folder).await }
    });
    let cancel = CancelToken::new();
    let mut started = None;
    let failure = restic
        .cat_config(
            &no_repository(folder.path()),
            &mut |event| match event {
                Event::Started { pid } => started = Some(pid),
                Event::Log { .. } => cancel.cancel(),
                _ => {}
            },
            &cancel,
        )
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Cancelled);
    assert_eq!(failure.exit, Some(Exit::Signal(9)));
    assert_eq!(failure.killed_pid, started);
    assert_eq!(words.await.unwrap(), "");
}

/// One release takes a negative count for "delete everything" and reports success.
#[tokio::test]
async fn point_05_a_policy_that_keeps_nothing_never_reaches_restic() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!("touch '{}/started'", folder.path().display());
    let restic = fake_restic(folder.path(), "0.18.0", &script).await;
    assert!(Keep::new().with(Bucket::Last, -1).is_err());
    let request = ForgetRequest::Policy {
        host: None,
        tags: Vec::new(),
        group_by: GroupBy::default(),
        keep: Keep::new().with(Bucket::Daily, 0).unwrap(),
        dry_run: false,
    };
    let repository = no_repository(folder.path());
    let failure =
        restic.forget(&repository, &request, &mut |_| {}, &CancelToken::new()).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::InvalidRequest);
    assert!(!folder.path().join("started").exists());
}

/// With the disk full it says that every file was restored.
#[tokio::test]
async fn point_07_a_restore_is_judged_by_exit_code_and_errors_not_by_its_summary() {
    let folder = tempfile::tempdir().unwrap();
    for version in ["0.14.0", "0.18.0"] {
        let case = format!("{version}/err-disk-full-restore");
        let restic = replay(folder.path(), "0.16.1", &case, 1).await;
        let request = RestoreRequest {
            snapshot: SnapshotId::new("deadbeef").unwrap(),
            target: folder.path().join("target"),
            includes: Vec::new(),
        };
        let mut told = 0;
        let failure = restic
            .restore(
                &no_repository(folder.path()),
                &request,
                &mut |event| told += usize::from(matches!(event, Event::ItemError(_))),
                &CancelToken::new(),
            )
            .await
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::DiskFull, "{failure:?}");
        assert_eq!(failure.items.total, 1, "one file, however many pieces of it");
        assert_eq!(failure.items.items[0].path, "/srv/demo/big.bin");
        assert_eq!(told, 1);
    }
}

#[test]
fn point_09_the_same_failure_has_the_same_kind_in_every_release() {
    for (case, old_exit, new_exit, kind) in [
        ("err-wrong-password-snapshots", 1, 12, "wrong_password"),
        ("err-repo-missing-snapshots", 1, 10, "no_repository"),
        ("err-locked-prune", 1, 11, "locked"),
        ("backup-source-missing", 1, 1, "source_missing"),
        ("err-disk-full-restore", 1, 1, "disk_full"),
        ("rest-err-401-backup", 1, 1, "unauthorized"),
        ("rest-err-connection-refused", 1, 1, "unreachable"),
        ("rest-append-only-forget", 1, 0, "refused"),
    ] {
        for (version, exit) in [("0.14.0", old_exit), ("0.18.0", new_exit)] {
            let stderr = fixture(&format!("{version}/{case}.stderr"));
            let failure = classify(Exit::Code(exit), &stderr);
            assert_eq!(failure.kind.code(), kind, "{version} {case}: {failure:?}");
            assert!(!failure.message.is_empty());
        }
    }
}

/// A URL that cannot be parsed is printed whole, with the password in it.
#[tokio::test]
async fn point_10_a_password_that_restic_prints_does_not_leave_the_crate() {
    let folder = tempfile::tempdir().unwrap();
    for (case, secret) in [
        ("rest-err-bad-url", "fake%zzURLpw"),
        ("rest-err-bad-port", "fakeURLpw"),
        ("rest-err-bad-url-2", "fakeURLpw"),
    ] {
        let leaked = fixture(&format!("0.18.0/{case}.stderr"));
        assert!(String::from_utf8_lossy(&leaked).contains(secret));
        let restic = replay(folder.path(), "0.18.0", &format!("0.18.0/{case}"), 1).await;
        let repository =
            Repository { rest_password: Some(Secret::new(secret)), ..no_repository(folder.path()) };
        let mut seen = String::new();
        let failure = restic
            .cat_config(
                &repository,
                &mut |event| seen.push_str(&format!("{event:?}")),
                &CancelToken::new(),
            )
            .await
            .unwrap_err();
        seen.push_str(&format!("{failure:?}{failure}"));
        assert!(seen.contains("***"), "{seen}");
        assert!(!seen.contains(secret), "{seen}");
        assert_eq!(failure.kind, FailureKind::BadLocation);
    }
    let failure = replay(folder.path(), "0.18.0", "none", 0)
        .await
        .cat_config(
            &Repository::new("rest:http://u:p@host/", PASSWORD, "/cache"),
            &mut |_| {},
            &CancelToken::new(),
        )
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::BadLocation);
}

/// What restic starts inherits what restic has, so it has nothing but what it needs.
#[tokio::test]
async fn point_11_restic_gets_its_secrets_by_a_cleared_environment_and_never_as_arguments() {
    let folder = tempfile::tempdir().unwrap();
    // The values are kept out of the log by the redactor, so the script compares them itself.
    let script = format!(
        "[ \"$RESTIC_PASSWORD\" = '{PASSWORD}' ] && [ \"$RESTIC_REST_PASSWORD\" = rest-canary ] \
         && echo 'secrets arrived' >&2\n\
         echo \"arguments: $*\" >&2\nenv | sed 's/=.*//; s/^/variable: /' >&2\nexit 1"
    );
    let restic = fake_restic(folder.path(), "0.18.0", &script).await;
    let repository = Repository {
        rest_username: Some("web1".to_owned()),
        rest_password: Some(Secret::new("rest-canary")),
        ..no_repository(folder.path())
    };
    let mut events = Vec::new();
    let request = BackupRequest::new("web-1", ["/etc"]);
    let cancel = CancelToken::new();
    let failure =
        restic.backup(&repository, &request, &mut |event| events.push(event), &cancel).await;
    assert!(failure.is_err());
    let lines = log_lines(&events);
    assert!(lines.contains(&"secrets arrived"), "{lines:?}");
    assert!(lines.contains(&"arguments: --json backup --host=web-1 -- /etc"), "{lines:?}");
    let variables: Vec<&str> =
        lines.iter().filter_map(|line| line.strip_prefix("variable: ")).collect();
    assert!(variables.contains(&"RESTIC_CACHE_DIR"), "{variables:?}");
    // Cargo sets these for every test; one that got through would show that the rest does.
    let foreign = variables.iter().find(|name| name.starts_with("CARGO"));
    assert_eq!(foreign, None);
}
