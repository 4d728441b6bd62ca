//! Hooks: real scripts around a backup, in their order, with their bounds, and none left behind.

use crate::support::{
    Agent, Authority, Bench, FakeManager, PATIENCE, Session, backup, plan, plan_id, run_id,
};
use agent::{doctor, identity::Settings};
use protocol::{
    CancelReason, Code, CommandCancel, FromAgent, JobFinished, JobStatus, LogStream, RunSpec,
    Schedule,
};
use schedule::SystemClock;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// What a hook may find in its environment beside what a shell adds.
const ALLOWED: [&str; 20] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "RESTIC_MANAGER_RUN_ID",
    "RESTIC_MANAGER_PLAN_ID",
    "RESTIC_MANAGER_PLAN",
    "RESTIC_MANAGER_REPOSITORY",
    "RESTIC_MANAGER_HOOK",
    "RESTIC_MANAGER_OUTCOME",
    "PWD",
    "OLDPWD",
    "SHLVL",
    "_",
];

/// Says which hook it is, how often restic had backed something up by then, and what it is told.
const TRACE: &str = r#"
echo "$RESTIC_MANAGER_HOOK $(cat ../bin/calls 2>/dev/null | grep -c ' backup ') ${RESTIC_MANAGER_OUTCOME-none}" >> ../trace
env > "../environment-$RESTIC_MANAGER_HOOK"
"#;

/// Says its number, and goes on until it is told to end, as does what it has started.
const HANG: &str = r#"
sleep 600 &
trap 'echo ended gently >> ../trace; exit 1' TERM
echo $! > ../child
echo $PPID > ../helper
echo $$ > ../pid.new; mv ../pid.new ../pid
echo hanging
wait
"#;

struct Scene {
    manager: FakeManager,
    bench: Bench,
    agent: Agent,
    session: Session,
}

fn with_hooks(bench: &Bench, hooks: Value) -> Schedule {
    Schedule { options: Some(json!({ "hooks": hooks })), ..plan(&bench.source()) }
}

/// Written by another process: a file that this one has open for writing could not be run by a child
/// that another test's thread has just forked.
fn write_hook(bench: &Bench, name: &str, script: &str) -> PathBuf {
    let folder = bench.base.path().join("hooks.d");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let path = folder.join(name);
    let words = "printf '%s\\n' '#!/bin/sh' \"$2\" > \"$1\" && chmod 755 \"$1\"";
    let status =
        Command::new("sh").args(["-c", words, "sh"]).arg(&path).arg(script).status().unwrap();
    assert!(status.success());
    path
}

impl Scene {
    async fn new(scripts: &[(&str, &str)], hooks: Value) -> Self {
        let manager = FakeManager::start(&Authority::new()).await;
        let bench = Bench::new();
        for (name, script) in scripts {
            write_hook(&bench, name, script);
        }
        manager.enrol(&bench.state).await;
        let agent = bench.start().await;
        let mut session = manager.session().await;
        let plan = with_hooks(&bench, hooks);
        session.desire_plan(&manager, 1, &bench.repository(), plan, Vec::new()).await;
        Self { manager, bench, agent, session }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.bench.base.path().join(name)).unwrap_or_default()
    }

    fn trace(&self) -> Vec<String> {
        self.read("trace").lines().map(str::to_owned).collect()
    }

    async fn begin(&mut self) {
        self.session.run(run_id(1), self.manager.number(1), backup()).await;
    }

    /// Runs to the end; gives back the end and the lines of the log.
    async fn run(&mut self) -> (JobFinished, Vec<(LogStream, String)>) {
        self.begin().await;
        self.end().await
    }

    async fn end(&mut self) -> (JobFinished, Vec<(LogStream, String)>) {
        let mut lines = Vec::new();
        let finished = self
            .session
            .until(|what| match what {
                FromAgent::LogLine(line) => {
                    lines.push((line.stream, line.payload));
                    None
                }
                FromAgent::JobFinished(finished) if finished.job_id == run_id(1) => Some(*finished),
                _ => None,
            })
            .await;
        (finished, lines)
    }

    async fn cancel(&mut self) {
        let number = Some(self.manager.number(1));
        let cancel = CommandCancel { job_id: run_id(1), number, reason: CancelReason::Admin };
        self.session.cancel(cancel).await;
    }

    async fn hangs(&self) -> u32 {
        number_in(&self.bench.base.path().join("pid")).await
    }

    /// Stops the agent; whatever it had still to tell was told once.
    async fn stop(self) -> Bench {
        self.agent.stop().await;
        self.bench
    }
}

/// Waits for a file with a number.
async fn number_in(path: &Path) -> u32 {
    let waiting = async {
        loop {
            if let Some(number) =
                fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok())
            {
                return number;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the hook did not come so far")
}

/// Waits until a process is gone, or is nothing but an entry that nobody has collected.
async fn gone(pid: u32) {
    let waiting = async {
        while agent::runner::process::start_of(pid).is_some() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the process goes on");
}

#[tokio::test]
async fn hooks_run_in_their_order_around_the_backup_and_know_where_they_are() {
    let scripts = [("one", TRACE), ("two.sh", TRACE), ("3", TRACE), ("four", TRACE)];
    let hooks =
        json!({ "before": "one", "on_success": "two.sh", "on_failure": "3", "after": "four" });
    let mut scene = Scene::new(&scripts, hooks).await;
    let (finished, lines) = scene.run().await;
    assert_eq!((finished.status, finished.code), (JobStatus::Succeeded, None), "{lines:?}");
    assert_eq!(
        scene.trace(),
        ["before 0 none", "on_success 1 succeeded", "after 1 succeeded"],
        "{lines:?}"
    );
    let environment = scene.read("environment-after");
    let folder = scene.bench.base.path().join("hooks.d").canonicalize().unwrap();
    for line in [
        format!("RESTIC_MANAGER_RUN_ID={}", run_id(1)),
        format!("RESTIC_MANAGER_PLAN_ID={}", plan_id()),
        "RESTIC_MANAGER_PLAN=home".to_owned(),
        "RESTIC_MANAGER_REPOSITORY=store".to_owned(),
        "RESTIC_MANAGER_HOOK=after".to_owned(),
        "RESTIC_MANAGER_OUTCOME=succeeded".to_owned(),
        format!("PWD={}", folder.display()),
    ] {
        assert!(environment.lines().any(|it| it == line), "{line} is not in {environment}");
    }
    scene.stop().await;
}

#[tokio::test]
async fn a_hook_finds_no_secret_in_its_environment() {
    let hooks = json!({ "before": "one", "after": "one" });
    let mut scene = Scene::new(&[("one", TRACE)], hooks).await;
    scene.run().await;
    // Cargo sets this for every test: a variable of the agent's that must not get through.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    // restic had the secrets.
    assert!(scene.bench.restic.read("environment").contains("canary-password"));
    for moment in ["before", "after"] {
        let environment = scene.read(&format!("environment-{moment}"));
        assert!(!environment.contains("canary"), "{environment}");
        let names: BTreeSet<&str> =
            environment.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        assert!(names.contains("PATH"), "{environment}");
        let stray: Vec<_> = names.iter().filter(|name| !ALLOWED.contains(name)).collect();
        assert!(stray.is_empty(), "{stray:?}");
    }
    scene.stop().await;
}

#[tokio::test]
async fn a_failing_before_hook_ends_the_run_with_its_last_words_and_no_backup_is_made() {
    let fail = "echo looking; echo 'the database is away' >&2; exit 3";
    let hooks = json!({ "before": "dump", "on_success": "t", "on_failure": "t", "after": "t" });
    let mut scene = Scene::new(&[("dump", fail), ("t", TRACE)], hooks).await;
    let (finished, lines) = scene.run().await;
    assert_eq!((finished.status, finished.code), (JobStatus::Failed, Some(Code::HookFailed)));
    let words = finished.error.unwrap();
    for part in ["dump failed with exit code 3", "the database is away", "No backup was made."] {
        assert!(words.contains(part), "{part}: {words}");
    }
    for line in [
        (LogStream::Stdout, "dump: looking".to_owned()),
        (LogStream::Stderr, "dump: the database is away".to_owned()),
    ] {
        assert!(lines.contains(&line), "{line:?} is not in {lines:?}");
    }
    assert_eq!(scene.trace(), ["on_failure 0 failed", "after 0 failed"]);
    assert_eq!(scene.bench.restic.calls("backup"), 0);
    scene.stop().await;
}

#[tokio::test]
async fn a_before_hook_that_may_not_run_is_a_failure_and_never_passed_over() {
    let scripts = [("t", TRACE), ("open", TRACE), ("plain", TRACE)];
    for (name, code, why) in [
        ("missing", Code::HookUnknown, "has no hook missing"),
        ("../bin/restic", Code::HookUnknown, "cannot be the name of a hook"),
        ("open", Code::HookFailed, "others may change it"),
        ("plain", Code::HookFailed, "cannot be run"),
    ] {
        let mut scene = Scene::new(&scripts, json!({ "before": name, "after": "t" })).await;
        let folder = scene.bench.base.path().join("hooks.d");
        fs::set_permissions(folder.join("open"), fs::Permissions::from_mode(0o777)).unwrap();
        fs::set_permissions(folder.join("plain"), fs::Permissions::from_mode(0o644)).unwrap();
        let (finished, _) = scene.run().await;
        assert_eq!((finished.status, finished.code), (JobStatus::Failed, Some(code)), "{name}");
        let words = finished.error.unwrap();
        assert!(words.contains(why), "{name}: {words}");
        assert_eq!(scene.trace(), ["after 0 failed"], "{name}");
        assert_eq!(scene.bench.restic.calls("backup"), 0);
        scene.stop().await;
    }
}

#[tokio::test]
async fn a_failing_later_hook_makes_a_succeeded_run_partial_and_the_next_still_runs() {
    for (hooks, trace) in [
        (json!({ "on_success": "fail", "after": "t" }), &["after 1 partial"][..]),
        (json!({ "after": "fail" }), &[]),
        (json!({ "after": "missing" }), &[]),
    ] {
        let scripts = [("fail", "echo no room; exit 1"), ("t", TRACE)];
        let mut scene = Scene::new(&scripts, hooks).await;
        let (finished, _) = scene.run().await;
        assert_eq!((finished.status, finished.code), (JobStatus::Partial, Some(Code::HookFailed)));
        assert!(finished.snapshot_id.is_some());
        let words = finished.error.unwrap();
        assert!(words.contains("The snapshot was written."), "{words}");
        assert_eq!(scene.trace(), trace);
        scene.stop().await;
    }
}

#[tokio::test]
async fn a_failed_backup_keeps_its_own_reason_whatever_hooks_do() {
    let hooks = json!({ "on_success": "t", "on_failure": "fail", "after": "fail" });
    let mut scene = Scene::new(&[("fail", "echo oh; exit 9"), ("t", TRACE)], hooks).await;
    scene.bench.restic.switch("fail", "Fatal: wrong password or no key found\n");
    let (finished, lines) = scene.run().await;
    assert_eq!(finished.status, JobStatus::Failed);
    assert_ne!(finished.code, Some(Code::HookFailed));
    assert!(finished.error.unwrap().contains("password"));
    let failures = lines.iter().filter(|(_, line)| line.contains("failed with exit code 9"));
    assert_eq!(failures.count(), 2, "{lines:?}");
    assert_eq!(scene.trace(), [""; 0]);
    scene.stop().await;
}

#[tokio::test]
async fn a_hook_that_takes_too_long_is_ended_gently_with_all_that_it_started() {
    let hooks = json!({ "before": "hang", "timeout_seconds": 1 });
    let mut scene = Scene::new(&[("hang", HANG)], hooks).await;
    let (finished, _) = scene.run().await;
    assert_eq!((finished.status, finished.code), (JobStatus::Failed, Some(Code::HookFailed)));
    let words = finished.error.unwrap();
    assert!(words.contains("was ended after 1.0 s, the longest it may take"), "{words}");
    assert_eq!(scene.trace(), ["ended gently"]);
    gone(scene.hangs().await).await;
    gone(number_in(&scene.bench.base.path().join("child")).await).await;
    assert_eq!(scene.bench.restic.calls("backup"), 0);
    scene.stop().await;
}

#[tokio::test]
async fn cancel_ends_a_running_before_hook_and_the_last_hook_still_runs() {
    let hooks = json!({ "before": "hang", "on_success": "t", "on_failure": "t", "after": "t" });
    let mut scene = Scene::new(&[("hang", HANG), ("t", TRACE)], hooks).await;
    scene.begin().await;
    let pid = scene.hangs().await;
    scene.cancel().await;
    let (finished, _) = scene.end().await;
    assert_eq!((finished.status, finished.code), (JobStatus::Cancelled, Some(Code::Cancelled)));
    gone(pid).await;
    assert_eq!(scene.trace(), ["ended gently", "after 0 cancelled"]);
    assert_eq!(scene.bench.restic.calls("backup"), 0);
    scene.stop().await;
}

#[tokio::test]
async fn cancel_in_the_backup_lets_the_last_hook_run_and_no_other() {
    let hooks = json!({ "on_success": "t", "on_failure": "t", "after": "t" });
    let mut scene = Scene::new(&[("t", TRACE)], hooks).await;
    let _hold = scene.bench.restic.hold();
    scene.begin().await;
    scene.session.until(|what| matches!(what, FromAgent::JobProgress(_)).then_some(())).await;
    scene.cancel().await;
    let (finished, _) = scene.end().await;
    assert_eq!((finished.status, finished.code), (JobStatus::Cancelled, Some(Code::Cancelled)));
    assert_eq!(scene.trace(), ["after 1 cancelled"]);
    scene.stop().await;
}

#[tokio::test]
async fn cancel_in_a_later_hook_leaves_the_snapshot_and_one_end() {
    for (hooks, trace) in [
        (json!({ "on_success": "hang", "after": "t" }), &["ended gently", "after 1 partial"][..]),
        (
            json!({ "on_success": "t", "after": "hang" }),
            &["on_success 1 succeeded", "ended gently"],
        ),
    ] {
        let mut scene = Scene::new(&[("hang", HANG), ("t", TRACE)], hooks).await;
        scene.begin().await;
        let pid = scene.hangs().await;
        scene.cancel().await;
        let (finished, _) = scene.end().await;
        assert_eq!((finished.status, finished.code), (JobStatus::Partial, Some(Code::HookFailed)));
        assert!(finished.snapshot_id.is_some());
        let words = finished.error.unwrap();
        assert!(words.contains("told to end before it was done"), "{words}");
        gone(pid).await;
        assert_eq!(scene.trace(), trace);
        // The next end is the next run's.
        let number = scene.manager.number(2);
        scene.session.run(run_id(2), number, RunSpec::Stats { repository_id: None }).await;
        let next = scene.session.until(|what| match what {
            FromAgent::JobFinished(finished) => Some(*finished),
            _ => None,
        });
        assert_eq!(next.await.job_id, run_id(2));
        scene.stop().await;
    }
}

#[tokio::test]
async fn cancel_in_the_hook_of_a_failure_leaves_the_failure() {
    let hooks = json!({ "on_failure": "hang", "after": "t" });
    let mut scene = Scene::new(&[("hang", HANG), ("t", TRACE)], hooks).await;
    scene.bench.restic.switch("fail", "Fatal: something else\n");
    scene.begin().await;
    scene.hangs().await;
    scene.cancel().await;
    let (finished, _) = scene.end().await;
    assert_eq!(finished.status, JobStatus::Failed);
    assert_ne!(finished.code, Some(Code::HookFailed));
    assert_eq!(scene.trace(), ["ended gently", "after 1 failed"]);
    scene.stop().await;
}

#[tokio::test]
async fn an_agent_that_is_stopped_ends_a_hook_and_the_last_one_still_runs() {
    let hooks = json!({ "before": "hang", "after": "t" });
    let mut scene = Scene::new(&[("hang", HANG), ("t", TRACE)], hooks).await;
    scene.begin().await;
    let pid = scene.hangs().await;
    let Scene { agent, mut session, bench, manager } = scene;
    let (finished, ()) = tokio::join!(session.until_finished(run_id(1)), agent.stop());
    assert_eq!((finished.status, finished.code), (JobStatus::Interrupted, Some(Code::Interrupted)));
    gone(pid).await;
    let trace = fs::read_to_string(bench.base.path().join("trace")).unwrap();
    assert_eq!(trace, "ended gently\nafter 0 cancelled\n");
    drop(manager);
}

fn allow_text(bench: &Bench) {
    fs::write(bench.base.path().join("policy.json"), r#"{"inline_hooks": true}"#).unwrap();
}

#[tokio::test]
async fn the_text_of_a_hook_runs_where_the_machine_allows_it_and_leaves_nothing_behind() {
    let hooks = json!({
        "before": { "text": "echo \"first $RESTIC_MANAGER_HOOK\"; pwd; cat; exec 1>&2; echo oops\r\n" },
        "on_success": { "text": "#!/usr/bin/env -S sh -e\necho \"$0\" > ../../../script\nls -l \"$0\"" },
        "after": "t",
    });
    let mut scene = Scene::new(&[("t", TRACE)], hooks).await;
    allow_text(&scene.bench);
    let (finished, lines) = scene.run().await;
    assert_eq!((finished.status, finished.code), (JobStatus::Succeeded, None), "{lines:?}");
    let said = |stream, line: &str| lines.iter().any(|it| *it == (stream, line.to_owned()));
    assert!(said(LogStream::Stdout, "hook: first before"), "{lines:?}");
    assert!(said(LogStream::Stderr, "hook: oops"), "{lines:?}");
    assert!(
        said(LogStream::Event, "Running the hook that is written in the plan (before)."),
        "{lines:?}"
    );
    // Nobody else may read or run it.
    assert!(lines.iter().any(|(_, line)| line.starts_with("hook: -rwx------")), "{lines:?}");
    let script = scene.read("script");
    assert!(Path::new(script.trim()).starts_with(scene.bench.state.temporary()), "{script}");
    assert_eq!(scene.trace(), ["after 1 succeeded"]);
    assert_eq!(fs::read_dir(scene.bench.state.temporary()).unwrap().count(), 0);
    scene.stop().await;
}

#[tokio::test]
async fn text_that_the_machine_does_not_allow_stops_everything_before_it_begins() {
    let text = json!({ "text": "touch ../ran" });
    for hooks in [json!({ "before": text }), json!({ "before": "t", "after": text })] {
        let mut scene = Scene::new(&[("t", TRACE)], hooks).await;
        let (finished, lines) = scene.run().await;
        assert_eq!(
            (finished.status, finished.code),
            (JobStatus::Failed, Some(Code::PolicyForbids)),
            "{lines:?}"
        );
        assert!(finished.error.unwrap().contains("Nothing was done."));
        assert!(scene.trace().is_empty());
        assert!(!scene.bench.base.path().join("ran").exists());
        assert!(!scene.bench.restic.read("calls").contains(" backup "));
        scene.stop().await;
    }
}

#[tokio::test]
async fn text_that_fails_is_a_hook_that_fails() {
    let hooks = json!({ "before": { "text": "echo the database is away; exit 4" } });
    let mut scene = Scene::new(&[], hooks).await;
    allow_text(&scene.bench);
    let (finished, lines) = scene.run().await;
    assert_eq!((finished.status, finished.code), (JobStatus::Failed, Some(Code::HookFailed)));
    let words = finished.error.unwrap();
    assert!(words.contains("written in the plan failed with exit code 4"), "{words} {lines:?}");
    assert!(words.contains("the database is away"), "{words}");
    assert_eq!(fs::read_dir(scene.bench.state.temporary()).unwrap().count(), 0);
    scene.stop().await;
}

#[tokio::test]
async fn a_hook_that_says_too_much_is_cut_like_the_rest_of_the_log() {
    let flood =
        "yes 'a line of the flood' | head -n 12000; head -c 1048576 /dev/zero | tr '\\0' x; exit 1";
    let mut scene = Scene::new(&[("flood", flood)], json!({ "after": "flood" })).await;
    let (finished, lines) = scene.run().await;
    assert_eq!(finished.code, Some(Code::HookFailed));
    assert!(finished.error.unwrap().len() < 2_000);
    assert!(lines.iter().any(|(_, line)| line == "flood: a line of the flood"));
    assert!(lines.len() <= 10_010, "{}", lines.len());
    assert!(lines.iter().any(|(_, line)| line.contains("more lines were left out")));
    scene.stop().await;
}

#[tokio::test]
async fn what_a_hook_leaves_in_the_background_holds_up_nobody() {
    let hooks = json!({ "before": "leave" });
    let leave = "sleep 600 & echo $! > ../child";
    let mut scene = Scene::new(&[("leave", leave)], hooks).await;
    let (finished, lines) = scene.run().await;
    assert_eq!(finished.status, JobStatus::Succeeded, "{lines:?}");
    let left = number_in(&scene.bench.base.path().join("child")).await;
    assert!(agent::runner::process::start_of(left).is_some());
    Command::new("kill").arg(left.to_string()).status().unwrap();
    gone(left).await;
    scene.stop().await;
}

#[tokio::test]
async fn a_killed_agent_takes_its_hook_with_it_and_the_run_is_interrupted_once() {
    let (manager, bench) = (FakeManager::start(&Authority::new()).await, Bench::new());
    write_hook(&bench, "hang", HANG);
    write_hook(&bench, "t", TRACE);
    manager.enrol(&bench.state).await;
    let mut first = bench.spawn(None);
    let mut session = manager.session().await;
    let plan = with_hooks(&bench, json!({ "before": "hang", "after": "t" }));
    session.desire_plan(&manager, 1, &bench.repository(), plan, Vec::new()).await;
    session.run(run_id(1), manager.number(1), backup()).await;
    let pid = number_in(&bench.base.path().join("pid")).await;
    first.kill().await.unwrap();
    // Nobody has to start again for that.
    gone(pid).await;
    gone(number_in(&bench.base.path().join("child")).await).await;
    let _second = bench.spawn(None);
    let mut session = manager.session().await;
    let finished = session.until_finished(run_id(1)).await;
    assert_eq!((finished.status, finished.code), (JobStatus::Interrupted, Some(Code::Interrupted)));
    assert_eq!(bench.restic.calls("backup"), 0);
}

#[tokio::test]
async fn a_hook_whose_agent_and_helper_were_killed_is_ended_at_the_next_start() {
    let (manager, bench) = (FakeManager::start(&Authority::new()).await, Bench::new());
    write_hook(&bench, "hang", HANG);
    manager.enrol(&bench.state).await;
    let mut first = bench.spawn(None);
    let mut session = manager.session().await;
    let plan = with_hooks(&bench, json!({ "before": "hang" }));
    session.desire_plan(&manager, 1, &bench.repository(), plan, Vec::new()).await;
    session.run(run_id(1), manager.number(1), backup()).await;
    let pid = number_in(&bench.base.path().join("pid")).await;
    let child = number_in(&bench.base.path().join("child")).await;
    let helper = number_in(&bench.base.path().join("helper")).await;
    // What the hook says comes after the note that it was started.
    let said = session.until(|what| match what {
        FromAgent::LogLine(line) => (line.payload == "hang: hanging").then_some(()),
        _ => None,
    });
    said.await;
    // The helper would end the hook, so it must not notice that the agent is gone.
    let victims = [first.id().unwrap().to_string(), helper.to_string()];
    Command::new("kill").arg("-STOP").arg(&victims[1]).status().unwrap();
    Command::new("kill").arg("-KILL").args(&victims).status().unwrap();
    first.wait().await.unwrap();
    assert!(agent::runner::process::start_of(pid).is_some());
    let _second = bench.spawn(None);
    let mut session = manager.session().await;
    let finished = session.until_finished(run_id(1)).await;
    assert_eq!((finished.status, finished.code), (JobStatus::Interrupted, Some(Code::Interrupted)));
    gone(pid).await;
    gone(child).await;
}

#[tokio::test]
async fn a_hook_whose_helper_was_killed_is_ended_and_the_run_fails() {
    let mut scene = Scene::new(&[("hang", HANG)], json!({ "before": "hang" })).await;
    scene.begin().await;
    let pid = scene.hangs().await;
    let helper = number_in(&scene.bench.base.path().join("helper")).await;
    Command::new("kill").arg("-KILL").arg(helper.to_string()).status().unwrap();
    let (finished, _) = scene.end().await;
    assert_eq!(finished.status, JobStatus::Failed);
    gone(pid).await;
    assert_eq!(scene.bench.restic.calls("backup"), 0);
    scene.stop().await;
}

#[tokio::test]
async fn the_text_of_version_1_is_under_the_same_policy() {
    let mut scene = Scene::new(&[], json!({})).await;
    let plan =
        Schedule { pre_hook: "touch ../../../it-ran".to_owned(), ..plan(&scene.bench.source()) };
    scene.session.desire_plan(&scene.manager, 2, &scene.bench.repository(), plan, Vec::new()).await;
    let (finished, _) = scene.run().await;
    assert_eq!((finished.status, finished.code), (JobStatus::Failed, Some(Code::PolicyForbids)));
    assert_eq!(scene.bench.restic.calls("backup"), 0);
    assert!(!scene.bench.base.path().join("it-ran").exists());
    allow_text(&scene.bench);
    scene.session.run(run_id(2), scene.manager.number(2), backup()).await;
    assert_eq!(scene.session.until_finished(run_id(2)).await.status, JobStatus::Succeeded);
    assert!(scene.bench.base.path().join("it-ran").exists());
    scene.stop().await;
}

#[tokio::test]
async fn the_doctor_names_the_folder_and_what_would_be_refused_and_why() {
    let hooks = json!({ "before": "good", "after": "missing" });
    let scene = Scene::new(&[("good", "true"), ("open", "true")], hooks).await;
    let folder = scene.bench.base.path().join("hooks.d");
    fs::set_permissions(folder.join("open"), fs::Permissions::from_mode(0o666)).unwrap();
    let (findings, _) = tokio::join!(
        doctor::examine(&scene.bench.state, scene.bench.state.path(), &SystemClock),
        // Its look at the manager.
        scene.manager.accept_tls(),
    );
    let words: String = findings.iter().map(ToString::to_string).collect();
    for part in [
        format!("ok   Hooks: 2 files in {}", folder.display()),
        "ok   Hooks: good can run".to_owned(),
        "ok   Policy: plans run hooks of this machine only".to_owned(),
        format!("look Hooks: refused: The hook {}", folder.join("open").display()),
        "BAD  Hooks of the plan home: This machine has no hook missing".to_owned(),
    ] {
        assert!(words.contains(&part), "{part}\n{words}");
    }
    scene.stop().await;
}

#[tokio::test]
async fn a_dump_that_a_hook_makes_is_in_the_snapshot_of_a_real_restic_and_nowhere_else() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    let dump = bench.source().join("dump.sql");
    let (make, clear) = (
        format!("{TRACE}\necho 'insert everything' > '{}'", dump.display()),
        format!("{TRACE}\nrm '{}'", dump.display()),
    );
    write_hook(&bench, "dump", &make);
    write_hook(&bench, "clear", &clear);
    let settings = Settings {
        restic: Some(crate::real::restic()),
        hooks_folder: Some(bench.base.path().join("hooks.d")),
        ..Settings::default()
    };
    settings.save(bench.state.path()).unwrap();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    let plan = with_hooks(&bench, json!({ "before": "dump", "after": "clear" }));
    session.desire_plan(&manager, 1, &bench.repository(), plan, Vec::new()).await;
    session.run(run_id(1), manager.number(1), RunSpec::Init { repository_id: None }).await;
    assert_eq!(session.until_finished(run_id(1)).await.status, JobStatus::Succeeded);
    session.run(run_id(2), manager.number(2), backup()).await;
    let done = session.until_finished(run_id(2)).await;
    assert_eq!((done.status, done.code), (JobStatus::Succeeded, None), "{done:?}");
    assert!(!dump.exists());
    for moment in ["before", "after"] {
        let environment = bench.base.path().join(format!("environment-{moment}"));
        let environment = fs::read_to_string(environment).unwrap();
        assert!(!environment.contains("canary"), "{environment}");
    }
    let restore = RunSpec::Restore {
        repository_id: None,
        snapshot_id: done.snapshot_id.unwrap(),
        include: vec![dump.display().to_string()],
    };
    session.run(run_id(3), manager.number(3), restore).await;
    let restored = session.until_finished(run_id(3)).await;
    assert_eq!(restored.status, JobStatus::Succeeded, "{restored:?}");
    let target = restored.restore.unwrap().target;
    let text = fs::read_to_string(format!("{target}{}", dump.display())).unwrap();
    assert_eq!(text, "insert everything\n");
    agent.stop().await;
}
