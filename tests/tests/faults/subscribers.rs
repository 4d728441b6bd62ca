//! Two windows watch the same manager, and one of them does not read: it holds nobody up, and finds
//! everything when it reads again.

use super::lines;
use protocol::JobKind;
use serde_json::{Value, json};
use testkit::{
    PATIENCE,
    api::{Api, Events},
    fleet::{enrolment_token, text},
    manager::Manager,
    puppet::{Machine, Puppet, Words},
    told,
};
use tokio::{task::JoinHandle, time::timeout};

/// Ten megabytes: more than the manager keeps for somebody who is behind.
const LINES: u64 = 5000;
const LINE_BYTES: usize = 2000;
/// So few are carried to who watches; more are read from the database.
const LINES_AT_ONCE: u64 = 100;
/// More than the manager keeps for somebody who is behind.
const CHANGES: u64 = 1500;

/// What a window is told: what changes, and what a run says.
struct Window {
    api: Api,
    path: String,
    changes: Events,
    run: Events,
}

/// What was read.
struct Read {
    revisions: Vec<u64>,
    must_read_again: bool,
    lines: Vec<u64>,
}

impl Window {
    async fn open(manager: &Manager, run: &str) -> Self {
        // Connections of its own, as each window has.
        let api = manager.api().await.unwrap();
        let path = format!("/api/runs/{run}/stream");
        let changes = api.open_unbuffered("/api/events").await.unwrap();
        let run = api.open_unbuffered(&path).await.unwrap();
        Self { api, path, changes, run }
    }

    /// Reads to the end of the run, and at the same time each change of the plan, or the word that some were
    /// missed. Who took nothing for too long was hung up on, and comes back as a page does.
    async fn read(self) -> Read {
        let Self { api, path, mut changes, mut run } = self;
        let (lines, (revisions, must_read_again)) =
            tokio::join!(read_run(&api, &path, &mut run), read_changes(&mut changes));
        Read { revisions, must_read_again, lines }
    }

    /// Reads the changes up to the word that some are missing, which must come before the first that follows.
    /// A page that was hung up on knows it without a word.
    async fn is_told_that_it_is_behind(&mut self) {
        let mut last = None;
        while let Ok(Some((event, data))) = self.changes.next().await {
            if event == "resync" {
                break;
            }
            let revision = data["revision"].as_u64().unwrap();
            let is_next = last.replace(revision).is_none_or(|last| revision == last + 1);
            assert!(is_next, "changes are missing, and nobody says so");
        }
    }
}

/// Reads a run to its end. The numbers of its lines.
async fn read_run(api: &Api, path: &str, run: &mut Events) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        let Ok(Some((event, data))) = run.next().await else {
            let last = numbers.last().copied().unwrap_or(0);
            *run = api.open_unbuffered(&format!("{path}?after_line={last}")).await.unwrap();
            continue;
        };
        numbers.extend(lines(&data));
        if event == "end" {
            assert_eq!(data["status"], "succeeded");
            return numbers;
        }
    }
}

/// Reads all changes of the plan. The revisions of what was told, and whether some were missed.
async fn read_changes(changes: &mut Events) -> (Vec<u64>, bool) {
    let (mut revisions, mut of_the_plan) = (Vec::new(), 0);
    while of_the_plan < CHANGES {
        match changes.next().await {
            Ok(Some((event, data))) if event == "change" => {
                revisions.extend(data["revision"].as_u64());
                of_the_plan += u64::from(data["topic"] == "plan");
            }
            Ok(_) | Err(_) => return (revisions, true),
        }
    }
    (revisions, false)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_does_not_read_holds_nobody_up_and_misses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::create(&dir.path().join("manager")).await.unwrap();
    let api = manager.api().await.unwrap();
    let (puppet, host, plan) = machine(&manager, &api).await;
    let form = json!({ "kind": "backup", "plan_id": plan });
    let run = api.post(&format!("/api/hosts/{host}/runs"), &form).await.unwrap();
    let run = text(&run, "id").unwrap();

    let mut slow = Window::open(&manager, &run).await;
    let first = slow.run.next().await.unwrap().unwrap();
    assert_eq!(first.0, "state", "it is connected, and reads no more");
    let fast = Window::open(&manager, &run).await;
    let fast: JoinHandle<Read> = tokio::spawn(fast.read());

    // Each word is acknowledged, and each change answered, before the next.
    let telling = tell(&puppet, &run);
    let changing = async {
        for n in 1..=CHANGES {
            let form = json!({ "name": format!("name {n}") });
            api.put(&format!("/api/plans/{plan}"), &form).await.unwrap();
        }
    };
    tokio::join!(telling, changing);
    let fast = fast.await.unwrap();
    let all: Vec<u64> = (1..=LINES).collect();
    assert!(!fast.must_read_again, "who reads is not behind");
    assert!(fast.lines == all, "lines are missing, or came twice or out of order");
    assert!(fast.revisions.windows(2).all(|pair| pair[1] == pair[0] + 1), "changes are missing");

    // All of that was before the slow one reads on.
    let lines = read_run(&slow.api, &slow.path, &mut slow.run).await;
    assert!(lines == all, "the slow one misses lines, or has them twice or out of order");
    timeout(PATIENCE, slow.is_told_that_it_is_behind()).await.unwrap();
    assert!(told::lines(&api, &run).await.unwrap() == all);
}

/// A machine that says what it is told to say, its id, and its plan.
async fn machine(manager: &Manager, api: &Api) -> (Puppet, String, String) {
    let form = json!({ "name": "Attic", "url": "/nowhere", "password": "not a secret" });
    let repository = api.post("/api/repositories", &form).await.unwrap();
    let repository: &Value = &repository["repository"];
    let form = json!({
        "name": "Everything", "repository_id": repository["id"], "paths": ["/srv"], "host_ids": [],
    });
    let plan = text(&api.post("/api/plans", &form).await.unwrap(), "id").unwrap();
    let token = enrolment_token(api, "machine", Some(&plan)).await.unwrap();
    let machine = Machine::new(manager.ready(), "machine").unwrap();
    let host = machine.enrol(&token).await.unwrap();
    let puppet = Puppet::connect(&machine).await.unwrap();
    puppet.beat().await.unwrap();
    (puppet, host, plan)
}

/// All that the run says.
async fn tell(puppet: &Puppet, run: &str) {
    let run = run.parse().unwrap();
    let started = Some(JobKind::Backup);
    puppet.say(run, Words { started, ..Words::default() }).await.unwrap();
    for _ in 0..LINES / LINES_AT_ONCE {
        let lines = (0..LINES_AT_ONCE).map(|_| "x".repeat(LINE_BYTES)).collect();
        let progress = Some(json!({}));
        puppet.say(run, Words { lines, progress, ..Words::default() }).await.unwrap();
    }
    let finished = Some(json!({}));
    puppet.say(run, Words { finished, ..Words::default() }).await.unwrap();
}
