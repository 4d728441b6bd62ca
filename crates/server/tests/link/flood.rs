//! Floods against a manager that is a process of its own, so that its memory can be measured.

use crate::double::{Agent, Fleet, Link, at, finished, line, run_id, soon, started};
use protocol::{
    Frame, FromAgent, JobProgress, JobStatus, MAX_FRAME_BYTES, MAX_LOG_LINE_BYTES, ProtocolVersion,
    RepositoryId, RunId, Snapshot, SnapshotsReport,
};
use rustix::process::{Pid, Signal, kill_process};
use server::db::logs;
use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::Instant};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame as WireFrame,
        coding::{Data, OpCode},
    },
};

/// What the manager may take beside what it takes idle: 32 MiB of records that wait to be stored,
/// 64 MiB of a list of snapshots that comes in, 16 sockets of a host with a frame of 1 MiB each
/// half-way in, and half as much again for what is being decoded, written or not given back yet.
const BOUND_KIB: u64 = 168 * 1024;
/// Almost as much text as a frame holds.
const LARGE: usize = 1_000_000;
/// How long an honest agent may wait while the floods go on.
const SERVED_WITHIN: Duration = Duration::from_secs(10);

/// The manager as a process.
struct Process(Child);

impl Process {
    fn start(data_dir: &Path) -> (Self, SocketAddr) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_restic-manager-headless"));
        command.args(["serve", "--ui-listen", "127.0.0.1:0", "--agent-listen", "127.0.0.1:0"]);
        command.arg("--data-dir").arg(data_dir).env("RUST_LOG", "error");
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        let ready: serde_json::Value = serde_json::from_str(&said).unwrap();
        let address = ready["agent"].as_str().unwrap().parse().unwrap();
        (Self(child), address)
    }

    /// A figure of `/proc/<pid>/status`, in KiB.
    fn kib(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let found = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        found.trim_matches([':', '\t', ' ', 'k', 'B']).parse().unwrap()
    }

    fn stop(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An agent that does nothing wrong, and is served all the time.
struct Honest {
    agent: Agent,
    link: Link,
    waited: Duration,
}

impl Honest {
    async fn is_served(&mut self) {
        let began = Instant::now();
        self.link.settle(&mut self.agent).await;
        self.waited = self.waited.max(began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_are_cut_slowed_or_refused_and_memory_stays_bounded() {
    let mut fleet = Fleet::start().await;
    let (plan, repository) = fleet.plan().await;
    let mut agents = Vec::new();
    for name in ["honest", "hostile", "old"] {
        let agent = fleet.agent(name).await;
        fleet.assign(plan, agent.host()).await;
        agents.push(agent);
    }
    fleet.stop().await;
    let (process, address) = Process::start(&fleet.dir);
    for agent in &mut agents {
        agent.dials(address);
    }
    let mut old = agents.pop().unwrap();
    let mut hostile = agents.pop().unwrap();
    let mut agent = agents.pop().unwrap();
    let (link, _) = agent.connect().await;
    let mut honest = Honest { agent, link, waited: Duration::ZERO };
    honest.is_served().await;
    let idle = process.kib("VmRSS");

    let run = run_id(1);
    records(&mut hostile, run).await;
    honest.is_served().await;
    version_1(&mut old).await;
    honest.is_served().await;
    progress(&mut hostile, run).await;
    honest.is_served().await;
    snapshots(&mut hostile, repository).await;
    honest.is_served().await;
    broken(&mut hostile).await;
    honest.is_served().await;
    let held = half_open(&hostile, address).await;
    honest.is_served().await;
    let peak = process.kib("VmHWM");
    drop(held);

    let used = peak.saturating_sub(idle);
    assert!(used < BOUND_KIB, "idle {idle} KiB, peak {peak} KiB");
    assert!(honest.waited < SERVED_WITHIN, "{:?}", honest.waited);
    drop(honest);
    process.stop();

    fleet.resume().await;
    let lines = logs::lines(fleet.db().read(), run, 0, 5).await.unwrap();
    assert_eq!(lines.len(), 5);
    for line in lines {
        assert!(line.payload.len() <= MAX_LOG_LINE_BYTES);
        assert!(line.payload.ends_with("bytes cut]"), "{}", &line.payload[..80]);
    }
}

/// Log lines of a megabyte, records whose type has a megabyte, and an outcome nested without end.
async fn records(agent: &mut Agent, run: RunId) {
    let (mut link, _) = agent.connect().await;
    let frame = agent.journal.push(&started(run, None));
    link.send_frame(&frame).await;
    let text = "x".repeat(LARGE);
    for number in 1..=25 {
        let frame = agent.journal.push(&line(run, number, &text));
        link.send_frame(&frame).await;
    }
    for _ in 0..25 {
        let frame = Frame::new(&text, &serde_json::json!({})).unwrap();
        let frame = agent.journal.push_raw(frame);
        link.send_frame(&frame).await;
    }
    let outcome = finished(run_id(2), JobStatus::Succeeded).encode().unwrap();
    let stats = format!("{}{}", "[".repeat(LARGE / 2), "]".repeat(LARGE / 2));
    let nested = outcome.payload.get().replacen('{', &format!(r#"{{"stats":{stats},"#), 1);
    let payload = serde_json::value::RawValue::from_string(nested).unwrap();
    let frame = agent.journal.push_raw(Frame { payload, ..outcome });
    link.send_frame(&frame).await;
    link.settle(agent).await;
}

/// An agent of version 1 says all of it without numbers.
async fn version_1(agent: &mut Agent) {
    agent.version = ProtocolVersion(1);
    let mut link = agent.dial().await;
    link.say(&FromAgent::Hello(Box::new(agent.hello()))).await;
    let run = run_id(3);
    link.say(&started(run, None)).await;
    let text = "y".repeat(LARGE);
    for number in 1..=70 {
        link.say(&line(run, number, &text)).await;
    }
}

/// Progress of one run, and of thousands of runs that do not exist.
async fn progress(agent: &mut Agent, run: RunId) {
    let (mut link, _) = agent.connect().await;
    let report = |job_id, n| JobProgress {
        job_id,
        percent_done: 0.5,
        files_done: n,
        total_files: n,
        bytes_done: 0,
        total_bytes: 0,
        eta_seconds: 0,
        throughput_bps: 0,
        current_files: vec!["z".repeat(2_000); 8],
        unreachable: None,
    };
    for n in 0..500 {
        let invented = RunId::new(at(0).as_millisecond().unsigned_abs() + n, &[7; 10]);
        let frame = agent.journal.push(&started(invented, None));
        link.send_frame(&frame).await;
        link.say(&FromAgent::JobProgress(report(invented, n))).await;
        link.say(&FromAgent::JobProgress(report(run, n))).await;
    }
    link.settle(agent).await;
}

/// Pages of a list that never ends: of many snapshots, and of few that are very large.
async fn snapshots(agent: &mut Agent, repository: RepositoryId) {
    let (mut link, _) = agent.connect().await;
    let snapshot = |n: usize, path: usize| Snapshot {
        id: format!("{n:064x}"),
        short_id: format!("{n:08x}"),
        time: at(0),
        hostname: "box".to_owned(),
        paths: vec!["p".repeat(path)],
        tags: Vec::new(),
        size_bytes: None,
        file_count: None,
        added_bytes: None,
    };
    let mut page = SnapshotsReport {
        repository_id: Some(repository),
        digest: Some("d".to_owned()),
        ..SnapshotsReport::default()
    };
    for number in 1..=90 {
        page.page = Some(number);
        page.snapshots = match number % 8 {
            0 => vec![snapshot(0, LARGE)],
            _ => (0..500).map(|n| snapshot(n, 1_800)).collect(),
        };
        link.say(&FromAgent::SnapshotsReport(page.clone())).await;
    }
    link.settle(agent).await;
}

/// Messages for which the connection ends.
async fn broken(agent: &mut Agent) {
    let text = |bytes| Message::Frame(WireFrame::message(bytes, OpCode::Data(Data::Text), true));
    for message in [
        Message::text("x".repeat(8 * MAX_FRAME_BYTES)),
        Message::binary(vec![0; LARGE]),
        text(vec![0xff; LARGE]),
        Message::text("[".repeat(LARGE)),
    ] {
        let (mut link, _) = agent.connect().await;
        // A large message may meet a connection that is closed before all of it is through.
        let _ = link.send(message).await;
        link.ended().await;
    }
}

/// Connections that begin and do not go on: as TCP, as TLS, and as a WebSocket with a frame half-way
/// in.
async fn half_open(agent: &Agent, address: SocketAddr) -> Vec<Box<dyn Send>> {
    let mut held: Vec<Box<dyn Send>> = Vec::new();
    for _ in 0..80 {
        let mut tcp = soon(TcpStream::connect(address)).await.unwrap();
        tcp.write_all(&[0x16, 3, 1]).await.unwrap();
        held.push(Box::new(tcp));
    }
    for _ in 0..40 {
        let mut tls = agent.tls(true).await;
        tls.write_all(b"GET /agent/connect HTTP/1.1\r\nHost: ").await.unwrap();
        held.push(Box::new(tls));
    }
    let mut taken = 0;
    for _ in 0..100 {
        let mut link = agent.dial().await;
        let part = WireFrame::message(vec![b'['; LARGE], OpCode::Data(Data::Text), false);
        // Beyond the limit the manager says so and closes.
        taken += u32::from(link.send(Message::Frame(part)).await.is_ok());
        held.push(Box::new(link));
    }
    assert!(taken > 0);
    held
}
