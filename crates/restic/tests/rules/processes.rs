//! No process is left behind, however its operation ends.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use restic::{CancelToken, Event, FailureKind, Restic};
use rustix::process::{Pid, Signal};

use crate::bench::{fake_restic, no_repository};

/// Holds the pipe at `$FIFO` open until it ends, and says there what ended it.
const OBEDIENT: &str = "exec 9> \"$FIFO\"
trap 'echo interrupted >&9; kill $!; exit 130' INT
sleep 1000 9>&- &
echo ready >&2
wait";

async fn obedient(folder: &Path) -> Restic {
    let fifo = make_fifo(folder);
    fake_restic(folder, "0.18.0", &format!("FIFO='{fifo}'\n{OBEDIENT}")).await
}

/// Makes the pipe that tells when a process is gone.
pub fn make_fifo(folder: &Path) -> String {
    let fifo = fifo(folder);
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    fifo
}

fn fifo(folder: &Path) -> String {
    folder.join("fifo").display().to_string()
}

/// What was said into the pipe. Blocks until every process that held it has ended.
pub async fn last_words(folder: &Path) -> String {
    let fifo = fifo(folder);
    let read = move || std::io::read_to_string(File::open(fifo).unwrap()).unwrap();
    tokio::task::spawn_blocking(read).await.unwrap()
}

#[tokio::test]
async fn an_operation_that_is_dropped_interrupts_its_process() {
    let folder = tempfile::tempdir().unwrap();
    let restic = obedient(folder.path()).await;
    let words = tokio::spawn({
        let folder = folder.path().to_owned();
        async move { last_words(&folder).await }
    });
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let mut ready = Some(ready);
    let repository = no_repository(folder.path());
    let cancel = CancelToken::new();
    let mut sink = |event| {
        if matches!(event, Event::Log { .. }) {
            let _ = ready.take().unwrap().send(());
        }
    };
    tokio::select! {
        outcome = restic.cat_config(&repository, &mut sink, &cancel) => panic!("{outcome:?}"),
        _ = is_ready => {}
    }
    assert_eq!(words.await.unwrap(), "interrupted\n");
    restic.settled().await;
}

#[test]
fn an_interrupt_reaches_restic_even_where_its_parent_ignores_interrupts() {
    let test = "processes::an_operation_that_is_dropped_interrupts_its_process";
    let ended = Command::new("/bin/sh")
        .args(["-c", "trap '' INT; exec \"$0\" --exact \"$1\""])
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(ended.success());
}

#[tokio::test]
async fn nothing_is_started_for_an_operation_that_was_cancelled_before() {
    let folder = tempfile::tempdir().unwrap();
    let restic = fake_restic(folder.path(), "0.18.0", "exit 0").await;
    let cancel = CancelToken::new();
    cancel.cancel();
    let mut events = 0;
    let failure = restic
        .cat_config(&no_repository(folder.path()), &mut |_| events += 1, &cancel)
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Cancelled);
    assert_eq!((failure.exit, events), (None, 0));
}

/// A helper that keeps the pipes open must not hold up the operation.
#[tokio::test]
async fn a_helper_that_outlives_restic_does_not_hold_up_the_operation() {
    let folder = tempfile::tempdir().unwrap();
    let script = "sleep 1000 & echo \"{\\\"id\\\":\\\"ab\\\",\\\"version\\\":$!}\"";
    let restic = fake_restic(folder.path(), "0.18.0", script).await;
    let config = restic
        .cat_config(&no_repository(folder.path()), &mut |_| {}, &CancelToken::new())
        .await
        .unwrap();
    let helper = Pid::from_raw(config.version as i32).unwrap();
    rustix::process::kill_process(helper, Signal::KILL).unwrap();
}

/// The signal of a dying parent follows the thread that started the child, which here is not the
/// thread that the operation runs on.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_process_whose_parent_was_killed_is_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    obedient(folder.path()).await;
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::a_parent_to_be_killed", "--nocapture"])
        .env(PARENT, folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(parent.stderr.take().unwrap());
    let words = tokio::spawn({
        let folder = folder.path().to_owned();
        async move { last_words(&folder).await }
    });
    tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        while !line.contains("the child is ready") {
            line.clear();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "the parent ended");
        }
        parent.kill().unwrap();
        parent.wait().unwrap();
        let _ = stderr.read_to_string(&mut line);
    })
    .await
    .unwrap();
    assert_eq!(words.await.unwrap(), "interrupted\n");
}

const PARENT: &str = "RESTIC_MANAGER_TEST_PARENT";

/// Not a test by itself: the parent for the test above, which runs this binary once more.
#[tokio::test]
async fn a_parent_to_be_killed() {
    let Some(folder) = std::env::var_os(PARENT) else {
        return;
    };
    let folder = Path::new(&folder);
    let options = restic::LocateOptions {
        configured: Some(folder.join("restic")),
        ..restic::LocateOptions::default()
    };
    let restic = Restic::locate(&options).await.unwrap();
    let mut sink = |event| {
        if matches!(event, Event::Log { .. }) {
            eprintln!("the child is ready");
        }
    };
    let cancel = CancelToken::new();
    let repository = no_repository(folder);
    let outcome = restic.cat_config(&repository, &mut sink, &cancel).await;
    panic!("the child ended by itself: {outcome:?}");
}
