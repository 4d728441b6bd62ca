//! Whatever comes over the wire, the manager stays up and says why it hangs up.

use crate::double::{Fleet, Link, run_id, soon, started};
use jiff::Timestamp;
use protocol::{
    Code, FromAgent, Heartbeat, Hello, JobProgress, JobStarted, JournalId, MAX_FRAME_BYTES,
    ProtocolVersion, RunId, journal::JournalGap,
};
use server::db::{hosts, runs};
use tokio_tungstenite::tungstenite::{
    Message, Utf8Bytes,
    protocol::frame::{
        Frame as WireFrame,
        coding::{Data, OpCode},
    },
};

async fn refusal(link: &mut Link) -> Code {
    link.ended().await.expect("the manager says why").code
}

#[tokio::test]
async fn only_the_agents_routes_answer_on_the_agents_listener() {
    let fleet = Fleet::start().await;
    let agent = fleet.agent("box").await;
    let paths = [
        "/",
        "/api",
        "/api/hosts",
        "/api/session",
        "/api/openapi.json",
        "/index.html",
        "/assets/app.js",
        "/agent",
        "/agent/",
        "/agent/../api/hosts",
        "//api/hosts",
        "/agent/connect/x",
        "/events",
    ];
    for path in paths {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            let (status, body) = agent.http(true, &format!("{method} {path}"), "").await;
            assert_eq!(status, 404, "{method} {path}");
            assert!(body.contains("not_found"), "{method} {path}: {body}");
        }
    }
    let (status, _) = agent.http(true, "GET /agent/enrol", "").await;
    assert_eq!(status, 404);
    let (status, _) = agent.http(true, "GET /agent/connect", "").await;
    assert_eq!(status, 400, "without an upgrade there is nothing to see");
}

#[tokio::test]
async fn an_agent_that_is_not_enrolled_is_told_so() {
    let fleet = Fleet::start().await;
    let agent = crate::double::Agent::new(&fleet);
    let mut link = agent.dial().await;
    assert_eq!(refusal(&mut link).await, Code::HostUnknown);
}

#[tokio::test]
async fn the_first_frame_is_hello_and_of_a_version_that_is_understood() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let mut link = agent.dial().await;
    link.say(&FromAgent::Heartbeat(Heartbeat { sent_at: crate::double::at(0) })).await;
    assert_eq!(refusal(&mut link).await, Code::HelloExpected);

    let mut link = agent.dial().await;
    let mut hello = agent.hello();
    hello.requires = vec!["time travel".to_owned()];
    assert_eq!(link.greet(hello).await.unwrap_err().code, Code::CapabilityMissing);

    agent.version = ProtocolVersion(0);
    let mut link = agent.dial().await;
    assert_eq!(link.greet(agent.hello()).await.unwrap_err().code, Code::AgentTooOld);

    // A newer agent is answered in the newest version that both speak.
    agent.version = ProtocolVersion(77);
    let mut link = agent.dial().await;
    let welcome = link.greet(agent.hello()).await.unwrap();
    assert_eq!(welcome.protocol_version, protocol::PROTOCOL_VERSION);
}

#[tokio::test]
async fn frames_that_break_the_rules_are_refused_by_name() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let nested = format!(
        r#"{{"type":"heartbeat","payload":{}1{}}}"#,
        "[".repeat(200_000),
        "]".repeat(200_000)
    );
    let invalid_text =
        Message::Frame(WireFrame::message(vec![b'{', 0xff, 0xfe], OpCode::Data(Data::Text), true));
    let cases = [
        (Message::binary(vec![1, 2, 3]), Code::FrameInvalid),
        (Message::text("x".repeat(MAX_FRAME_BYTES + 1)), Code::FrameTooLarge),
        (Message::text("x".repeat(3 * MAX_FRAME_BYTES)), Code::FrameTooLarge),
        (Message::text(nested), Code::FrameInvalid),
        (invalid_text, Code::FrameInvalid),
        (Message::text("no json"), Code::FrameInvalid),
        (Message::text(r#"{"type":"heartbeat","payload":{"sent_at":7}}"#), Code::FrameInvalid),
        (Message::text(r#"{"type":"job.started","payload":{}}"#), Code::FrameInvalid),
        (Message::text(r#"{"type":"log.stream","seq":-1,"payload":{}}"#), Code::FrameInvalid),
    ];
    for (number, (message, code)) in cases.into_iter().enumerate() {
        let (mut link, _) = agent.connect().await;
        // A large message may meet a connection that is closed before all of it is through.
        let _ = link.send(message).await;
        let why = link.ended().await.map(|problem| problem.code);
        let may_be_cut_off = number == 2;
        assert!(why == Some(code) || (may_be_cut_off && why.is_none()), "case {number}: {why:?}");
    }
    let (mut link, _) = agent.connect().await;
    let run = fleet.request(agent.host(), None).await;
    assert_eq!(link.command().await.job_id, run, "the next connection is as good as any");
}

#[tokio::test]
async fn notices_that_a_machine_makes_itself_do_not_hide_why_it_is_held() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let thief = agent.clone();
    let (mut link, _) = agent.connect().await;
    for n in 0..120 {
        let journal_id = JournalId::new(5, &[n; 10]);
        let gap = JournalGap { journal_id, after_seq: 1, reason: Code::AgentBehind };
        let frame = agent.journal.push(&FromAgent::JournalGap(gap));
        link.send_frame(&frame).await;
    }
    link.until_acked(120).await;
    assert_eq!(fleet.notices().await.len(), 100, "a machine does not bury the admin");
    let mut link = thief.dial().await;
    let welcome = link.greet(thief.hello()).await.unwrap();
    assert_eq!(welcome.hold.unwrap().code, Code::CloneSuspected);
    assert!(fleet.notices().await.iter().any(|notice| notice.code == Code::CloneSuspected));
}

#[tokio::test]
async fn who_tells_of_very_many_runs_that_begin_comes_back_and_is_met_anew() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let (mut link, _) = agent.connect().await;
    for n in 0..4_001 {
        let run = RunId::new(1_790_000_000_000 + n, &[7; 10]);
        let frame = agent.journal.push(&started(run, None));
        link.send_frame(&frame).await;
    }
    assert!(link.ended().await.is_none(), "nothing is wrong with what it said");
    let (mut link, welcome) = agent.connect().await;
    for frame in agent.journal.after(welcome.cursor.unwrap().seq) {
        link.send_frame(&frame).await;
    }
    link.until_acked(4_001).await;
}

#[tokio::test]
async fn the_last_moment_of_the_calendar_hides_no_machine_and_no_run() {
    let fleet = Fleet::start().await;
    let (mut agent, mut other) = (fleet.agent("box").await, fleet.agent("other").await);
    let (boot_time, awake_since) = (Some(Timestamp::MAX), Some(Timestamp::MAX));
    let mut link = agent.dial().await;
    link.greet(Hello { boot_time, awake_since, ..agent.hello() }).await.unwrap();
    let FromAgent::JobStarted(begun) = started(run_id(1), None) else { panic!("it has begun") };
    let begun = JobStarted { started_at: Timestamp::MAX, ..begun };
    let frame = agent.journal.push(&FromAgent::JobStarted(begun));
    link.send_frame(&frame).await;
    link.until_acked(1).await;
    assert_eq!(hosts::list(fleet.db().read()).await.unwrap().len(), 2);
    assert_eq!(runs::list(fleet.db().read(), None, None, 10).await.unwrap().len(), 1);
    server::slots::of_all(fleet.manager()).await.unwrap();
    let (mut link, _) = other.connect().await;
    link.settle(&mut other).await;
}

#[tokio::test]
async fn unknown_types_are_let_pass() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let (mut link, _) = agent.connect().await;
    link.send(Message::text(r#"{"type":"weather.report","payload":{"sun":true}}"#)).await.unwrap();
    link.send(Message::text(Utf8Bytes::from_static(r#"{"type":"weather"}"#))).await.unwrap();
    link.settle(&mut agent).await;
}

#[tokio::test]
async fn a_flood_of_progress_is_thinned_and_the_rest_goes_on() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let (mut link, _) = agent.connect().await;
    let run = fleet.request(agent.host(), None).await;
    link.command().await;
    let mut news = fleet.manager().events().subscribe_run(run);
    let count = 20_000_u64;
    for files_done in 0..count {
        link.say(&FromAgent::JobProgress(JobProgress {
            job_id: run,
            percent_done: 0.5,
            files_done,
            total_files: count,
            bytes_done: 0,
            total_bytes: 0,
            eta_seconds: 0,
            throughput_bps: 0,
            current_files: Vec::new(),
            unreachable: None,
        }))
        .await;
    }
    // What is durable is behind all of it and arrives.
    let frame = agent.journal.push(&crate::double::started(run, None));
    link.send_frame(&frame).await;
    link.until_acked(1).await;
    let mut passed = 0_u64;
    loop {
        match news.try_recv() {
            Ok(_) => passed += 1,
            Err(tokio::sync::broadcast::error::TryRecvError::Lagged(n)) => passed += n,
            Err(_) => break,
        }
    }
    assert!(passed > 0 && passed < count, "{passed}");
}

#[tokio::test]
async fn a_client_that_never_speaks_does_not_keep_others_out() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let address = fleet.handle().agent_addr();
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    let (mut link, _) = agent.connect().await;
    let run = fleet.request(agent.host(), None).await;
    assert_eq!(link.command().await.job_id, run);
}

#[tokio::test]
async fn shutdown_says_goodbye_and_waits_for_nobody_who_is_deaf() {
    let mut fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let (mut link, _) = agent.connect().await;
    let deaf = agent.dial().await;
    fleet.stop().await;
    assert!(link.ended().await.is_none());
    drop(deaf);
}

#[tokio::test]
async fn plain_text_on_the_agents_port_gets_nothing() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let fleet = Fleet::start().await;
    let mut stream = tokio::net::TcpStream::connect(fleet.handle().agent_addr()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = soon(stream.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}
