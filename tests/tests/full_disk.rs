//! The disk of an agent's state that is full to the last byte, in a namespace of the test's own, where it may
//! mount a small one without being root.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop")]

use serde_json::{Value, json};
use std::{
    env,
    fs::{self, File},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use testkit::{
    agent::Rights, fleet::Fleet, proxy::Mode, rest_server::Deletes, tools::Tools, tree, wait_for,
};

/// Where the test works, for the one that was started again.
const WORK: &str = "RESTIC_MANAGER_FULL_DISK";
/// What a hook prints: more than the disk would have room for in its log.
const LINES: usize = 9_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_to_the_last_byte_stops_no_backup_and_loses_no_outcome() {
    if let Some(work) = env::var_os(WORK).map(PathBuf::from) {
        return on_a_full_disk(&work).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut again = Command::new("unshare");
    again.args(["--map-root-user", "--mount"]).arg(env::current_exe().unwrap());
    let own = "a_disk_that_is_full_to_the_last_byte_stops_no_backup_and_loses_no_outcome";
    again.args([own, "--exact", "--nocapture"]).env(WORK, dir.path());
    let output = again.output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&printed));
}

async fn on_a_full_disk(work: &Path) {
    let state = work.join("agent/state");
    mount(&["-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs"], &state);
    // What restic needs lies elsewhere, so that the backup itself can go on.
    for name in ["tmp", "cache"] {
        let elsewhere = work.join(name);
        fs::create_dir_all(&elsewhere).unwrap();
        mount(&["--bind", &elsewhere.display().to_string()], &state.join(name));
    }
    let source = work.join("source");
    tree::make_big(&source).unwrap();
    let tools = Tools::of_workspace();
    let mut fleet = Fleet::initialised(work, &tools, &source, Deletes::Allowed).await.unwrap();
    let hooks = hooks(work);
    fleet.agent.stop().await.unwrap();
    fleet.agent.configure("hooks_folder", &json!(hooks)).unwrap();
    fleet.agent.start(Rights::Full).unwrap();
    let plan = format!("/api/plans/{}", fleet.plan);
    fleet.api.put(&plan, &json!({ "options": { "hooks": { "after": "chatter" } } })).await.unwrap();
    fleet.in_sync().await.unwrap();

    let run = fleet.in_the_middle().await.unwrap();
    // Somebody takes every byte that is free, and every one that becomes free.
    let greed = Greed::new(state.join("filler"));
    assert_eq!(free(&state), 0);
    fleet.server.network.set(Mode::Open);
    let ended = fleet.reaches(&run, &["succeeded"]).await.unwrap();
    let log = log(&fleet, &run).await;
    let last = log.last().unwrap();
    assert_eq!(ended["log_lines"], last.0, "{last:?}");
    let missing: usize = log.iter().filter_map(|(_, text)| left_out(text)).sum();
    assert!(missing > 0, "nothing was left out: {} lines", log.len());
    let chatter = log.iter().filter(|(_, text)| text.contains("chatter chatter")).count();
    assert!(chatter < LINES && chatter + missing >= LINES, "{chatter} and {missing}");
    let status = fleet.agent.status_in_words().unwrap();
    assert!(status.contains("The disk of the state folder is full"), "{status}");

    // Another one ends too: outcomes still have room.
    let second = fleet.ask(&fleet.backup()).await.unwrap();
    let ended = fleet.reaches(&second, &["succeeded"]).await;
    ended.unwrap_or_else(|error| panic!("{error:#}\n{}", fleet.agent.printed().unwrap()));
    assert_eq!(free(&state), 0, "the disk is not full any more, and the test proves nothing");
    // What restic needs is gone as well: that is said, and nothing is begun.
    umount(&state.join("tmp"));
    wait_for("a run to be refused", async || {
        let run = fleet.ask(&fleet.backup()).await?;
        let ended = fleet.reaches(&run, &["failed", "succeeded"]).await?;
        let is_told = ended["error"].as_str().is_some_and(|why| why.contains("was not begun"));
        Ok((ended["code"] == "disk_full" && is_told).then_some(()))
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", fleet.agent.printed().unwrap()));

    drop(greed);
    fs::remove_file(state.join("filler")).unwrap();
    wait_for("the agent to take what it keeps for outcomes", async || {
        let is_taken = state.join("reserve").exists();
        let is_told = !fleet.agent.status_in_words()?.contains("is full");
        Ok((is_taken && is_told).then_some(()))
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", fleet.agent.printed().unwrap()));
    let last = fleet.ask(&fleet.backup()).await.unwrap();
    fleet.reaches(&last, &["succeeded"]).await.unwrap();
    let log = self::log(&fleet, &last).await;
    assert!(log.iter().all(|(_, text)| left_out(text).is_none()), "the log is whole again");
    assert_eq!(log.iter().filter(|(_, text)| text.contains("chatter chatter")).count(), LINES);
    let numbers: Vec<u64> = log.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(numbers, (1..=log.len() as u64).collect::<Vec<_>>());

    // Nothing has failed yet, and still the agent acts: what is in the log beside its database may need more.
    let most = usize::try_from(free(&state) - 256 * 1024).unwrap();
    fs::write(state.join("filler"), vec![1; most]).unwrap();
    fleet.ask(&fleet.backup()).await.unwrap();
    wait_for("the agent to act on a disk that is nearly full", async || {
        Ok(fleet.agent.status_in_words()?.contains("is full").then_some(()))
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{}", fleet.agent.printed().unwrap()));
    assert!(free(&state) > 1024 * 1024, "the reserve was not given back");
}

/// A folder with a hook that talks.
fn hooks(work: &Path) -> PathBuf {
    let folder = work.join("hooks.d");
    fs::create_dir_all(&folder).unwrap();
    let hook = folder.join("chatter");
    let line = "chatter ".repeat(16);
    fs::write(&hook, format!("#!/bin/sh\nyes '{line}' | head -n {LINES}\n")).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// The lines of a run's log, by their numbers.
async fn log(fleet: &Fleet, run: &str) -> Vec<(u64, String)> {
    let (mut lines, mut after) = (Vec::new(), 0);
    loop {
        let path = format!("/api/runs/{run}/log?after_line={after}&limit=1000");
        let page: Value = fleet.api.get(&path).await.unwrap();
        let all = page["lines"].as_array().unwrap();
        if all.is_empty() {
            return lines;
        }
        lines.extend(all.iter().map(|line| {
            (line["seq"].as_u64().unwrap(), line["text"].as_str().unwrap().to_owned())
        }));
        after = page["last_line"].as_u64().unwrap();
    }
}

/// How many lines a line of a log stands for.
fn left_out(text: &str) -> Option<usize> {
    let words = text.strip_prefix("[…")?;
    if let Some(count) = words.strip_suffix(" lines]") {
        return count.rsplit(' ').next()?.parse().ok();
    }
    if words.starts_with("line ") {
        return Some(1);
    }
    words.split(' ').next()?.parse().ok()
}

/// Whoever fills a disk and goes on filling it.
struct Greed {
    is_over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Greed {
    fn new(path: PathBuf) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut file = File::create(path).unwrap();
        let mut fill = move || while file.write(&[1; 4096]).is_ok_and(|written| written > 0) {};
        fill();
        let stop = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                fill();
                thread::park_timeout(Duration::from_millis(5));
            }
        });
        Self { is_over, thread: Some(thread) }
    }
}

impl Drop for Greed {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn mount(what: &[&str], place: &Path) {
    fs::create_dir_all(place).unwrap();
    let status = Command::new("mount").args(what).arg(place).status().unwrap();
    assert!(status.success(), "{what:?} cannot be mounted");
}

fn umount(place: &Path) {
    let status = Command::new("umount").arg("--lazy").arg(place).status().unwrap();
    assert!(status.success(), "{} cannot be unmounted", place.display());
}

fn free(disk: &Path) -> u64 {
    let space = rustix::fs::statvfs(disk).unwrap();
    space.f_bavail * space.f_frsize
}
