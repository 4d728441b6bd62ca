//! The rules of one connection, without a connection.

use super::*;
use proptest::prelude::*;
use protocol::{
    Heartbeat, HostArch, HostOs, LogLine, LogStream, PROTOCOL_VERSION, RunId, TicketConfirm,
};

const START: Duration = Duration::ZERO;

fn text(message: &FromAgent) -> String {
    message.encode().unwrap().encode().unwrap()
}

fn hello() -> String {
    text(&FromAgent::Hello(Box::new(Hello {
        protocol_version: PROTOCOL_VERSION,
        agent_version: "0.1.0".to_owned(),
        restic_version: String::new(),
        hostname: "box".to_owned(),
        os: HostOs::Linux,
        arch: HostArch::Amd64,
        boot_time: None,
        capabilities: Vec::new(),
        requires: Vec::new(),
        time_zone: None,
        time_zone_data: None,
        journal: None,
        manager: None,
        ticket: None,
        open_runs: Vec::new(),
        awake_since: None,
        has_battery: None,
    })))
}

fn record(seq: u64) -> String {
    let line = LogLine {
        job_id: RunId::new(1, &[1; 10]),
        seq,
        ts: jiff::Timestamp::UNIX_EPOCH,
        stream: LogStream::Stdout,
        payload: "x".to_owned(),
    };
    let mut frame = FromAgent::LogLine(line).encode().unwrap();
    frame.seq = Some(seq);
    frame.hash = Some(ChainHash::START);
    frame.encode().unwrap()
}

fn heartbeat() -> String {
    text(&FromAgent::Heartbeat(Heartbeat { sent_at: jiff::Timestamp::UNIX_EPOCH }))
}

fn met(met: Met) -> AgentSession {
    let mut session = AgentSession::new(START);
    assert!(matches!(session.handle_text(&hello(), START), Some(Effect::Meet(_))));
    session.handle_met(met);
    session
}

fn live(seq: u64) -> AgentSession {
    met(Met::Live { version: PROTOCOL_VERSION, seq })
}

fn closed_with(effect: Option<Effect>) -> Option<Code> {
    match effect {
        Some(Effect::Close(problem)) => problem.map(|problem| problem.code),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_says_no_hello_in_time_is_cut_off() {
    let mut session = AgentSession::new(START);
    assert_eq!(session.poll_timeout(), HELLO_WITHIN);
    assert!(session.handle_timeout(HELLO_WITHIN - Duration::from_millis(1)).is_none());
    // A ping is no hello.
    session.handle_sign_of_life(HELLO_WITHIN / 2);
    assert_eq!(closed_with(session.handle_timeout(HELLO_WITHIN)), Some(Code::HelloExpected));
    assert!(session.handle_timeout(Duration::from_secs(3600)).is_none());
    assert!(session.handle_text(&hello(), START).is_none(), "what is closed stays closed");
}

#[test]
fn pings_go_out_and_silence_ends_the_connection() {
    let mut session = live(0);
    assert_eq!(session.poll_timeout(), PING_EVERY);
    assert!(matches!(session.handle_timeout(PING_EVERY), Some(Effect::Ping)));
    session.handle_text(&heartbeat(), PING_EVERY);
    let silent = PING_EVERY + SILENCE;
    assert!(matches!(
        session.handle_timeout(silent - Duration::from_millis(1)),
        Some(Effect::Ping)
    ));
    assert_eq!(closed_with(session.handle_timeout(silent)), None);
}

#[test]
fn a_pong_is_a_sign_of_life() {
    let mut session = live(0);
    session.handle_sign_of_life(SILENCE);
    assert!(matches!(session.handle_timeout(SILENCE), Some(Effect::Ping)));
}

#[test]
fn records_pass_in_order_and_again_but_never_with_a_hole() {
    let mut session = live(4);
    for seq in [5, 6, 3, 6, 7] {
        let effect = session.handle_text(&record(seq), START);
        assert!(matches!(effect, Some(Effect::Record(one)) if one.seq == seq));
    }
    assert_eq!(closed_with(session.handle_text(&record(9), START)), Some(Code::FrameInvalid));
}

#[test]
fn nothing_durable_passes_without_number_and_hash() {
    let frame = Frame::new("job.finished", &serde_json::json!({})).unwrap();
    let effect = live(0).handle_text(&frame.encode().unwrap(), START);
    assert_eq!(closed_with(effect), Some(Code::FrameInvalid));
    let mut frame = Frame::new("of.the.future", &serde_json::json!({})).unwrap();
    frame.seq = Some(1);
    let effect = live(0).handle_text(&frame.encode().unwrap(), START);
    assert_eq!(closed_with(effect), Some(Code::FrameInvalid));
}

#[test]
fn a_held_or_renewing_connection_takes_nothing_in() {
    for state in [Met::Held, Met::Renewing] {
        let mut session = met(state);
        for seq in [1, 2, 50] {
            assert!(session.handle_text(&record(seq), START).is_none());
        }
        let confirm = TicketConfirm { ticket: Secret::new("x".to_owned()) };
        let confirm = text(&FromAgent::TicketConfirm(confirm));
        assert!(session.handle_text(&confirm, START).is_none());
        assert!(!session.is_live());
    }
}

#[test]
fn a_bucket_holds_so_many_reports_and_fills_again() {
    let mut session = live(0);
    let report = text(&FromAgent::SnapshotsReport(SnapshotsReport::default()));
    let mut pass = |now| session.handle_text(&report, now).is_some();
    let passed = (0..1000).filter(|_| pass(START)).count();
    assert_eq!(passed, 400);
    assert!(!pass(Duration::from_millis(1)));
    let passed = (0..1000).filter(|_| pass(Duration::from_secs(1))).count();
    assert_eq!(passed, 200);
    assert!(session.dropped() > 0);
}

proptest! {
    #[test]
    fn no_text_in_any_order_makes_the_rules_stumble(
        texts in proptest::collection::vec(
            prop_oneof![
                Just(hello()),
                Just(heartbeat()),
                (0u64..6).prop_map(record),
                any::<String>(),
                Just(r#"{"type":"job.progress","payload":{}}"#.to_owned()),
            ],
            0..20,
        ),
    ) {
        let mut session = AgentSession::new(START);
        let mut is_closed = false;
        let mut newest = 0;
        for text in texts {
            let effect = session.handle_text(&text, START);
            prop_assert!(!is_closed || effect.is_none());
            match effect {
                Some(Effect::Meet(_)) => {
                    session.handle_met(Met::Live { version: PROTOCOL_VERSION, seq: 0 });
                }
                Some(Effect::Record(record)) => {
                    prop_assert!(record.seq <= newest + 1);
                    newest = newest.max(record.seq);
                }
                Some(Effect::Close(_)) => is_closed = true,
                _ => {}
            }
        }
    }
}
