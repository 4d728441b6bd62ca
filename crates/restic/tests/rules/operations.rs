//! Every operation against real restics: a repository's whole life, and what the user gets wrong.

use std::fs;
use std::path::Path;

use crate::bench::{Bench, Server, ours};
use restic::{
    BackupOutcome, BackupRequest, Bucket, CancelToken, CheckOutcome, CheckRequest, Event,
    FailureKind, ForgetRequest, GroupBy, Keep, LsRequest, PruneRequest, Repository, RestoreRequest,
    Secret, SnapshotFilter, SnapshotId, UnlockOutcome, Within,
};
use rustix::process::{Pid, Signal};

async fn open(bench: &Bench, repository: &Repository) -> FailureKind {
    let cancel = CancelToken::new();
    let opened = bench.restic.cat_config(repository, &mut |_| {}, &cancel).await;
    opened.unwrap_err().kind
}

/// Leaves a lock of a process that is gone. It cannot be forged without the key, so a real restic
/// is killed while it holds one.
async fn killed_backup(bench: &Bench, repository: &Repository) -> u32 {
    let (repository, request) = bench.slow_backup(repository);
    let mut group = None;
    let mut sink = |event| match event {
        Event::Started { pid } => group = Some(pid),
        Event::Progress(progress) if progress.bytes_done > 0 => {
            let group = Pid::from_raw(group.unwrap() as i32).unwrap();
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
        _ => {}
    };
    let killed = bench
        .restic
        .backup(&repository, &request, &mut sink, &CancelToken::new())
        .await
        .unwrap_err();
    assert_eq!(killed.kind, FailureKind::Killed, "{killed:?}");
    assert_eq!(killed.killed_pid, group);
    group.unwrap()
}

with_each_restic! {
    async fn a_file_goes_in_is_found_and_comes_out_as_it_was(bench) {
        let source = bench.source();
        let odd = source.join("we[ird]*");
        fs::create_dir(&odd).unwrap();
        let path = format!("{}/\\name?", odd.display());
        fs::write(&path, "odd").unwrap();
        // What the pattern would also match if it were one.
        fs::create_dir(source.join("weird-too")).unwrap();
        fs::write(source.join("weird-too").join("names"), "must stay out").unwrap();
        let request = BackupRequest {
            tags: vec!["plan:1".to_owned()],
            excludes: vec!["*.txt".to_owned()],
            ..BackupRequest::new("web-1", [&source])
        };
        let cancel = CancelToken::new();
        let outcome = bench.backup(&request).await.unwrap();
        let BackupOutcome::Completed(summary) = outcome else { panic!("{outcome:?}") };
        assert_eq!(summary.total_files_processed, 2, "the text files are left out");
        assert_eq!(summary.raw["message_type"], "summary");
        let snapshot = SnapshotId::new(summary.snapshot_id.unwrap()).unwrap();

        let ours = SnapshotFilter {
            host: Some("web-1".to_owned()),
            tags: vec!["plan:1".to_owned()],
            ids: Vec::new(),
        };
        let listed = bench
            .restic
            .snapshots(&bench.repository, &ours, &mut |_| {}, &cancel)
            .await
            .unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].id, snapshot.as_str());
        assert_eq!(listed[0].hostname, "web-1");

        let ls = LsRequest { snapshot: snapshot.clone(), folder: odd.to_str().unwrap().to_owned() };
        let listing =
            bench.restic.ls(&bench.repository, &ls, &mut |_| {}, &cancel).await.unwrap();
        assert!(listing.itself.unwrap().is_dir());
        assert_eq!(listing.entries.len(), 1);
        assert_eq!(listing.entries[0].path, path);
        assert_eq!(listing.entries[0].size, Some(3));

        let target = bench.path("target");
        let request = RestoreRequest {
            snapshot,
            target: target.clone(),
            includes: vec![path.clone(), "/not/there".to_owned()],
        };
        let restored = bench
            .restic
            .restore(&bench.repository, &request, &mut |_| {}, &cancel)
            .await
            .unwrap();
        assert_eq!(restored.missing, ["/not/there"]);
        let below = |path: &Path| target.join(path.strip_prefix("/").unwrap());
        assert_eq!(fs::read_to_string(below(Path::new(&path))).unwrap(), "odd");
        assert!(!below(&source).join("weird-too").exists());
    }

    async fn the_root_of_a_snapshot_can_be_listed(bench) {
        let snapshot = bench.snapshot().await;
        let ls = LsRequest { snapshot, folder: "/".to_owned() };
        let cancel = CancelToken::new();
        let listing =
            bench.restic.ls(&bench.repository, &ls, &mut |_| {}, &cancel).await.unwrap();
        let first = bench.folder.path().components().nth(1).unwrap();
        let names: Vec<&str> = listing.entries.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, [first.as_os_str().to_str().unwrap()]);
    }

    async fn a_restore_of_what_the_snapshot_has_not_is_a_failure(bench) {
        let request = RestoreRequest {
            snapshot: bench.snapshot().await,
            target: bench.path("target"),
            includes: vec!["/not/there".to_owned()],
        };
        let failure = bench
            .restic
            .restore(&bench.repository, &request, &mut |_| {}, &CancelToken::new())
            .await
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::PathNotFound, "{failure:?}");
    }

    /// Root may read everything but this.
    async fn what_cannot_be_read_makes_a_backup_partial_and_is_named_once(bench) {
        let request = BackupRequest::new("web-1", [bench.source(), "/proc/self/mem".into()]);
        let mut told = 0;
        let outcome = bench
            .restic
            .backup(
                &bench.repository,
                &request,
                &mut |event| told += usize::from(matches!(event, Event::ItemError(_))),
                &CancelToken::new(),
            )
            .await
            .unwrap();
        let BackupOutcome::Partial { unreadable, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!((unreadable.total, told), (1, 1));
        assert_eq!(unreadable.items[0].path, "/proc/self/mem");
        assert!(unreadable.items[0].message.contains("input/output error"), "{unreadable:?}");
    }

    async fn what_keeps_a_repository_closed_is_told_apart(bench) {
        let with = |location: String| Repository { location, ..bench.repository.clone() };
        let wrong = Repository {
            password: Secret::new("wrong"),
            ..bench.repository.clone()
        };
        assert_eq!(open(&bench, &wrong).await, FailureKind::WrongPassword);
        let nowhere = with(bench.path("nowhere").to_str().unwrap().to_owned());
        assert_eq!(open(&bench, &nowhere).await, FailureKind::NoRepository);
        let unknown = with("gopher://host/".to_owned());
        assert_eq!(open(&bench, &unknown).await, FailureKind::BadLocation);

        let plain = Server::start(&bench, &["--no-auth"]);
        let missing = with(format!("rest:http://{}/nowhere/", plain.address));
        assert_eq!(open(&bench, &missing).await, FailureKind::NoRepository);
        let encrypted = with(format!("rest:https://{}/repo/", plain.address));
        assert_eq!(open(&bench, &encrypted).await, FailureKind::WrongProtocol);

        let cancel = CancelToken::new();
        let again = bench.restic.init(&bench.repository, &mut |_| {}, &cancel).await;
        assert_eq!(again.unwrap_err().kind, FailureKind::RepositoryExists);
    }

    async fn a_server_opens_to_the_right_credentials_only(bench) {
        // SHA-1 of "rest-pw": a form that the server takes beside bcrypt.
        let htpasswd = bench.path("htpasswd");
        fs::write(&htpasswd, "web1:{SHA}YNVt/fpOS2jYmAOxBDrVviQSwhY=\n").unwrap();
        let server = Server::start(&bench, &["--htpasswd-file", htpasswd.to_str().unwrap()]);
        let repository = bench.behind(&server);
        assert_eq!(open(&bench, &repository).await, FailureKind::Unauthorized);
        let repository = Repository {
            rest_username: Some("web1".to_owned()),
            rest_password: Some(Secret::new("rest-pw")),
            ..repository
        };
        let cancel = CancelToken::new();
        let config = bench.restic.cat_config(&repository, &mut |_| {}, &cancel).await.unwrap();
        assert_eq!(config.version, 2);
    }

    /// restic would try for a quarter of an hour.
    async fn a_certificate_that_nobody_signed_is_told_at_once_and_the_right_authority_opens(bench) {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let (certificate, key) = (bench.path("cert.pem"), bench.path("key.pem"));
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let server = Server::start(
            &bench,
            &[
                "--no-auth",
                "--tls",
                "--tls-cert",
                certificate.to_str().unwrap(),
                "--tls-key",
                key.to_str().unwrap(),
            ],
        );
        let repository = Repository {
            location: format!("rest:https://{}/repo/", server.address),
            ..bench.repository.clone()
        };
        assert_eq!(open(&bench, &repository).await, FailureKind::UnknownCertificate);
        let trusting = Repository { ca_file: Some(certificate), ..repository.clone() };
        let cancel = CancelToken::new();
        assert!(bench.restic.cat_config(&trusting, &mut |_| {}, &cancel).await.is_ok());
        let missing = Repository { ca_file: Some(bench.path("none.pem")), ..repository };
        assert_eq!(open(&bench, &missing).await, FailureKind::CertificateFileUnreadable);
    }

    async fn a_lock_is_removed_only_if_every_lock_is_ours(bench) {
        let cancel = CancelToken::new();
        let pid = killed_backup(&bench, &bench.repository).await;
        let locks = bench.restic.locks(&bench.repository, &mut |_| {}, &cancel).await.unwrap();
        assert_eq!(locks.len(), 1);
        assert_eq!((locks[0].pid, locks[0].exclusive), (pid, false));
        assert_eq!(locks[0].id.len(), 64);

        let release = async |ours| {
            bench
                .restic
                .release_own_locks(&bench.repository, &ours, &mut |_| {}, &cancel)
                .await
                .unwrap()
        };
        let elsewhere = restic::OurProcesses { hostname: "elsewhere".to_owned(), ..ours([pid]) };
        for others in [elsewhere, ours([pid + 1])] {
            let left = release(others).await;
            assert_eq!(left, UnlockOutcome::LeftToOthers { locks: locks.clone() });
        }
        // Who wants it alone is kept out, and told by whom.
        let failure = bench
            .restic
            .check(&bench.repository, CheckRequest::default(), &mut |_| {}, &cancel)
            .await
            .unwrap_err();
        let FailureKind::Locked(holder) = failure.kind else { panic!("{failure:?}") };
        assert_eq!(holder.pid, Some(pid));
        assert!(holder.since.is_some(), "{holder:?}");

        assert_eq!(release(ours([pid])).await, UnlockOutcome::Removed { locks });
        assert_eq!(release(ours([pid])).await, UnlockOutcome::NothingToRemove);
    }

    async fn damage_is_the_verdict_of_a_check_and_not_its_failure(bench) {
        bench.snapshot().await;
        let cancel = CancelToken::new();
        let check = async || {
            let request = CheckRequest::default();
            bench.restic.check(&bench.repository, request, &mut |_| {}, &cancel).await.unwrap()
        };
        assert!(matches!(check().await, CheckOutcome::Sound(_)));
        remove_first_pack(&bench.path("repo/data"));
        let outcome = check().await;
        let CheckOutcome::Damaged(report) = outcome else { panic!("{outcome:?}") };
        assert!(report.findings[0].contains("does not exist"), "{report:?}");
    }

    async fn a_policy_over_everything_says_what_would_go_and_then_lets_it_go(bench) {
        bench.snapshot().await;
        let newest = bench.snapshot().await;
        let cancel = CancelToken::new();
        let forget = async |keep: Keep, dry_run| {
            let request = ForgetRequest::Policy {
                host: None,
                tags: Vec::new(),
                group_by: GroupBy::default(),
                keep,
                dry_run,
            };
            bench.restic.forget(&bench.repository, &request, &mut |_| {}, &cancel).await.unwrap()
        };
        let within = Within { days: 1, ..Within::default() };
        let kept = forget(Keep::new().with_within(within), false).await;
        assert_eq!((kept.kept_count(), kept.removed().count()), (2, 0));
        let last = || Keep::new().with(Bucket::Last, 1).unwrap();
        let planned = forget(last(), true).await;
        let done = forget(last(), false).await;
        assert_eq!(planned.removed().collect::<Vec<_>>(), done.removed().collect::<Vec<_>>());
        assert_eq!(done.removed().count(), 1);
        assert_eq!(done.groups[0].reasons[0].matches, ["last snapshot"]);

        let exactly = ForgetRequest::Snapshots(vec![newest]);
        bench
            .restic
            .forget(&bench.repository, &exactly, &mut |_| {}, &cancel)
            .await
            .unwrap();
        let everything = SnapshotFilter::default();
        let left =
            bench.restic.snapshots(&bench.repository, &everything, &mut |_| {}, &cancel).await;
        assert_eq!(left, Ok(Vec::new()));

        let server = Server::start(&bench, &["--no-auth", "--append-only"]);
        let failure = bench
            .restic
            .prune(&bench.behind(&server), PruneRequest::default(), &mut |_| {}, &cancel)
            .await
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused, "{failure:?}");
    }
}

fn remove_first_pack(data: &Path) {
    let folders = fs::read_dir(data).unwrap().map(|folder| folder.unwrap());
    let mut packs = folders.flat_map(|folder| fs::read_dir(folder.path()).unwrap());
    fs::remove_file(packs.next().unwrap().unwrap().path()).unwrap();
}
