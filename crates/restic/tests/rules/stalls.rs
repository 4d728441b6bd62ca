//! What stands still is ended, with what was seen of it; and the options of a backup reach restic.

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use restic::{BackupRequest, CancelToken, Event, Exit, FailureKind, Repository, Restic, Timing};
use rustix::process::{Pid, Signal};

fn hasty(restic: &Restic) -> Restic {
    let grace = Duration::from_millis(300);
    restic.clone().with_timing(Timing { grace, ..Timing::default() })
}

/// What was told of a stall.
fn traces(events: &[Event]) -> Vec<&str> {
    let stalls = events.iter().filter_map(|event| match event {
        Event::Stalled { traces, .. } => Some(traces),
        _ => None,
    });
    let stalls: Vec<_> = stalls.collect();
    assert_eq!(stalls.len(), 1, "{events:?}");
    stalls[0].iter().map(String::as_str).collect()
}

with_each_restic! {
    /// It accepts connections, and that is all.
    async fn a_server_that_never_answers_is_a_stall(bench) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let repository = Repository {
            location: format!("rest:http://{address}/repo/"),
            ..bench.repository.clone()
        };
        let stall = Some(Duration::from_secs(2));
        let request = BackupRequest { stall, ..BackupRequest::new("web-1", [bench.source()]) };
        let mut events = Vec::new();
        let failure = hasty(&bench.restic)
            .backup(&repository, &request, &mut |event| events.push(event), &CancelToken::new())
            .await
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::Stalled, "{failure:?}");
        assert_eq!(failure.message, "neither bytes nor files moved for 2 seconds");
        if cfg!(target_os = "linux") {
            let connection = format!("Connection to 127.0.0.1 port {}", address.port());
            let seen = traces(&events);
            assert!(seen.iter().any(|line| line.starts_with(&connection)), "{seen:?}");
        }
    }

    /// Gently does not help there, so it is killed.
    async fn a_restic_that_somebody_stopped_is_a_stall(bench) {
        let (repository, request) = bench.slow_backup(&bench.repository);
        // What may trickle through a low limit would be waited for.
        let repository = Repository { limit_upload_kib: Some(512 * 1024), ..repository };
        let request = BackupRequest { stall: Some(Duration::from_secs(2)), ..request };
        let mut events = Vec::new();
        let mut sink = |event| {
            if let Event::Started { pid } = &event {
                let pid = Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap();
                rustix::process::kill_process(pid, Signal::STOP).unwrap();
            }
            events.push(event);
        };
        let failure = hasty(&bench.restic)
            .backup(&repository, &request, &mut sink, &CancelToken::new())
            .await
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::Stalled, "{failure:?}");
        assert_eq!(failure.exit, Some(Exit::Signal(9)));
        assert!(failure.killed_pid.is_some());
        if cfg!(target_os = "linux") {
            let seen = traces(&events);
            assert!(seen.iter().any(|line| line.contains("T (stopped)")), "{seen:?}");
        }
    }

    async fn what_moves_is_not_ended(bench) {
        let request = BackupRequest {
            stall: Some(Duration::from_secs(20)),
            ..BackupRequest::new("web-1", [bench.source()])
        };
        bench.backup(&request).await.unwrap();
    }

    async fn every_option_of_a_backup_is_one_of_restics(bench) {
        let source = bench.source();
        fs::write(source.join("sub/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55")
            .unwrap();
        let request = BackupRequest {
            one_file_system: true,
            exclude_caches: true,
            read_concurrency: Some(3),
            retry_lock: Some(Duration::from_secs(1)),
            ..BackupRequest::new("web-1", [&source])
        };
        let repository = Repository {
            limit_upload_kib: Some(100_000),
            limit_download_kib: Some(100_000),
            ..bench.repository.clone()
        };
        let done = bench
            .restic
            .backup(&repository, &request, &mut |_| {}, &CancelToken::new())
            .await
            .unwrap();
        // The one beside the cache, and the cache's own tag.
        assert_eq!(done.summary().total_files_processed, 2, "{done:?}");
    }
}
