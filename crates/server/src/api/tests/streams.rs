//! Streams: nobody waits for what already happened, and nobody is told twice.

use super::{Fleet, id_of, request};
use crate::{
    auth::Principal,
    db::{
        logs,
        runs::{self as rows, Dispatch},
    },
    events::Topic,
    manager::Manager,
};
use axum::body::{Body, BodyDataStream};
use futures_util::StreamExt as _;
use protocol::{HostId, JobFinished, JobStatus, LogLine, LogStream, RunId};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tower::ServiceExt as _;

/// A server-sent event.
#[derive(Debug)]
struct Told {
    event: String,
    id: Option<String>,
    data: Value,
}

/// The events of a body, one by one.
struct Reader {
    stream: BodyDataStream,
    buffer: String,
}

impl Reader {
    fn new(body: Body) -> Self {
        Self { stream: body.into_data_stream(), buffer: String::new() }
    }

    /// The next event; none when the body has ended.
    async fn next(&mut self) -> Option<Told> {
        let reading = async {
            loop {
                while let Some((block, rest)) = self.buffer.split_once("\n\n") {
                    let event = parse(block);
                    self.buffer = rest.to_owned();
                    if event.is_some() {
                        return event;
                    }
                }
                let bytes = self.stream.next().await?.unwrap();
                self.buffer.push_str(std::str::from_utf8(&bytes).unwrap());
            }
        };
        tokio::time::timeout(Duration::from_secs(60), reading).await.expect("the stream hangs")
    }
}

/// Reads events from a body until the predicate holds for one, or the body ends.
async fn read_until(body: Body, mut is_last: impl FnMut(&Told) -> bool) -> Vec<Told> {
    let mut reader = Reader::new(body);
    let mut told = Vec::new();
    while let Some(event) = reader.next().await {
        let ends = is_last(&event);
        told.push(event);
        if ends {
            break;
        }
    }
    told
}

fn parse(block: &str) -> Option<Told> {
    let field = |name: &str| {
        block.lines().find_map(|line| line.strip_prefix(name)).map(|text| text.trim().to_owned())
    };
    let data = serde_json::from_str(&field("data:")?).unwrap();
    Some(Told { event: field("event:")?, id: field("id:"), data })
}

async fn open(fleet: &Fleet, path: &str, last_id: Option<&str>) -> Body {
    let mut request = request("GET", path, None);
    request.extensions_mut().insert(Principal::LocalUser);
    if let Some(id) = last_id {
        request.headers_mut().insert("last-event-id", id.parse().unwrap());
    }
    let response = fleet.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    response.into_body()
}

/// Commits a line and tells it, as the agents' sessions do.
async fn write_line(manager: &Manager, host: HostId, run: RunId, seq: u64) {
    let line = LogLine {
        job_id: run,
        seq,
        ts: manager.now(),
        stream: LogStream::Stdout,
        payload: format!("line {seq}"),
    };
    let mut tx = manager.db().begin().await.unwrap();
    logs::insert(&mut tx, Some(host), &line).await.unwrap();
    tx.commit().await.unwrap();
    manager.events().lines(run, Arc::from([line]));
}

/// Lines and end of a run, committed and told as the agents' sessions do it.
async fn play(manager: Manager, host: HostId, run: RunId, lines: u64) {
    for seq in 1..=lines {
        write_line(&manager, host, run, seq).await;
    }
    let finished = JobFinished {
        job_id: run,
        status: JobStatus::Succeeded,
        exit_code: 0,
        finished_at: manager.now(),
        stats: None,
        error: None,
        code: None,
        guidance: None,
        snapshot_id: None,
        unreadable: Vec::new(),
        unreadable_count: 0,
        log_lines: lines,
        restore: None,
    };
    let mut tx = manager.db().begin().await.unwrap();
    rows::apply_finished(
        &mut tx,
        &rows::Told::from([((host, finished.job_id), finished.clone())]),
        manager.now(),
    )
    .await
    .unwrap();
    tx.commit().await.unwrap();
    manager.events().publish(Topic::Run(run));
    manager.events().run_ended(run);
}

fn check(told: &[Told], after: u64, lines: u64, round: &str) {
    let seqs: Vec<u64> = told
        .iter()
        .filter(|event| event.event == "line")
        .flat_map(|event| {
            let lines = event.data["lines"].as_array().unwrap();
            let last = lines.last().unwrap()["seq"].to_string();
            assert_eq!(event.id.as_deref(), Some(last.as_str()));
            lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(seqs, (after + 1..=lines).collect::<Vec<_>>(), "{round}");
    let mut states = told.iter().rev().filter(|event| event.event == "state");
    assert_eq!(states.next().unwrap().data["status"], "succeeded", "{round}");
    let end = told.last().unwrap();
    assert_eq!(end.event, "end", "{round}");
    assert_eq!(end.data, json!({"status": "succeeded", "last_line": lines}), "{round}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_run_is_told_whole_and_once_whenever_somebody_begins_to_watch() {
    const LINES: u64 = 6;
    let fleet = Fleet::new().await;
    let host = fleet.host("web-1").await;
    let repository = fleet.repository("nas").await;
    let plan = fleet.plan("etc", &repository, &[host]).await;
    let form = json!({"kind": "backup", "plan_id": plan});
    for round in 0..200_u64 {
        let run = fleet.post(&format!("/api/hosts/{host}/runs"), form.clone()).await.ok(201);
        let id: RunId = id_of(&run).parse().unwrap();
        let after = round % 3;
        let path = format!("/api/runs/{id}/stream?after_line={after}");
        let playing = play(fleet.manager.clone(), host, id, LINES);
        let told = match round % 4 {
            // Finished before anybody watches.
            0 => {
                playing.await;
                read_until(open(&fleet, &path, None).await, |_| false).await
            }
            // Watched before it begins.
            1 => {
                let body = open(&fleet, &path, None).await;
                tokio::join!(read_until(body, |_| false), playing).0
            }
            // It plays while somebody comes.
            _ => {
                let mut tasks = tokio::task::JoinSet::new();
                tasks.spawn(playing);
                for _ in 0..(round % 16) {
                    tokio::task::yield_now().await;
                }
                let told = read_until(open(&fleet, &path, None).await, |_| false).await;
                tasks.join_next().await.unwrap().unwrap();
                told
            }
        };
        check(&told, after, LINES, &format!("round {round}"));
    }
}

#[tokio::test]
async fn a_state_that_looks_as_before_is_not_told_again() {
    let fleet = Fleet::new().await;
    let host = fleet.host("web-1").await;
    let repository = fleet.repository("nas").await;
    let plan = fleet.plan("etc", &repository, &[host]).await;
    let form = json!({"kind": "backup", "plan_id": plan});
    let run = fleet.post(&format!("/api/hosts/{host}/runs"), form).await.ok(201);
    let id: RunId = id_of(&run).parse().unwrap();
    let mut reader = Reader::new(open(&fleet, &format!("/api/runs/{id}/stream"), None).await);
    let manager = fleet.manager.clone();
    let step = async |from, to| {
        let mut tx = manager.db().begin().await.unwrap();
        assert!(rows::advance(&mut tx, id, from, to).await.unwrap());
        tx.commit().await.unwrap();
        manager.events().publish(Topic::Run(id));
    };
    let mut words = async || reader.next().await.unwrap().data["dispatch"]["words"].clone();
    assert_eq!(words().await, "waiting for the machine");
    step(Dispatch::Waiting, Dispatch::Sent).await;
    assert_eq!(words().await, "sent, no answer yet");
    step(Dispatch::Sent, Dispatch::Accepted).await;
    assert_eq!(words().await, "accepted");
    // That it may begin now is nothing that a person sees: the next thing that is told is a line.
    step(Dispatch::Accepted, Dispatch::Going).await;
    write_line(&manager, host, id, 1).await;
    assert_eq!(reader.next().await.unwrap().event, "line");
}

#[tokio::test]
async fn a_watcher_that_fell_behind_reads_on_from_its_last_line() {
    // More than the hub's backlog and more than a page of the database.
    const LINES: u64 = 1500;
    let fleet = Fleet::new().await;
    let host = fleet.host("web-1").await;
    let repository = fleet.repository("nas").await;
    let plan = fleet.plan("etc", &repository, &[host]).await;
    let form = json!({"kind": "backup", "plan_id": plan});
    let run = fleet.post(&format!("/api/hosts/{host}/runs"), form).await.ok(201);
    let id: RunId = id_of(&run).parse().unwrap();
    let body = open(&fleet, &format!("/api/runs/{id}/stream"), None).await;
    play(fleet.manager.clone(), host, id, LINES).await;
    check(&read_until(body, |_| false).await, 0, LINES, "behind");
    // A browser that comes back says which event it has.
    let body = open(&fleet, &format!("/api/runs/{id}/stream"), Some("1490")).await;
    check(&read_until(body, |_| false).await, 1490, LINES, "back");
}

#[tokio::test]
async fn changes_are_told_and_a_watcher_that_missed_some_is_told_to_read_everything() {
    let fleet = Fleet::new().await;
    let body = open(&fleet, "/api/events", None).await;
    let repository = fleet.repository("nas").await;
    let told = read_until(body, |_| true).await;
    assert_eq!(told[0].event, "change");
    assert_eq!(told[0].data, json!({"revision": 1, "topic": "repository", "id": repository}));
    assert_eq!(told[0].id.as_deref(), Some("1"));

    let body = open(&fleet, "/api/events", None).await;
    for _ in 0..2000 {
        fleet.manager.events().publish(Topic::Notices);
    }
    let told = read_until(body, |event| event.event == "change").await;
    let events: Vec<&str> = told.iter().map(|event| event.event.as_str()).collect();
    assert_eq!(events, ["resync", "change"]);

    let body = open(&fleet, "/api/events", Some("7")).await;
    assert_eq!(read_until(body, |_| true).await[0].event, "resync");
}

#[tokio::test]
async fn a_watcher_that_does_not_read_holds_up_none_that_does() {
    // Far more than the hub keeps for who is behind.
    const CHANGES: u64 = 5000;
    let fleet = Fleet::new().await;
    let mut slow = Reader::new(open(&fleet, "/api/events", None).await);
    let mut fast = Reader::new(open(&fleet, "/api/events", None).await);
    for revision in 1..=CHANGES {
        fleet.manager.events().publish(Topic::Notices);
        let told = fast.next().await.unwrap();
        assert_eq!(
            (told.event.as_str(), told.data["revision"].as_u64()),
            ("change", Some(revision))
        );
    }
    assert_eq!(slow.next().await.unwrap().event, "resync");
    let mut revisions = Vec::new();
    while revisions.last() != Some(&CHANGES) {
        let told = slow.next().await.unwrap();
        assert_eq!(told.event, "change", "it is told once that it missed something");
        revisions.push(told.data["revision"].as_u64().unwrap());
    }
    assert!(revisions.windows(2).all(|pair| pair[1] == pair[0] + 1), "{revisions:?}");
}

#[tokio::test]
async fn a_closing_listener_ends_the_streams() {
    let fleet = Fleet::new().await;
    let closing = tokio_util::sync::CancellationToken::new();
    let mut request = request("GET", "/api/events", None);
    request.extensions_mut().insert(Principal::LocalUser);
    request.extensions_mut().insert(crate::api::streams::Closing(closing.clone()));
    let response = fleet.router.clone().oneshot(request).await.unwrap();
    closing.cancel();
    assert!(read_until(response.into_body(), |_| false).await.is_empty());
}
