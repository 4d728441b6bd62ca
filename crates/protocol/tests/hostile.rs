//! Whatever arrives, decoding ends in a value or an error: never in a panic, never in a value that
//! says something else than the bytes.

use proptest::prelude::*;
use protocol::{Frame, FromAgent, ToAgent, journal::ChainHash};

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,20}".prop_map(Into::into),
        Just("01890a5d-ac96-774b-bcce-b302099a8057".into()),
        Just("2026-11-23T00:00:00Z".into()),
    ];
    let field = prop_oneof![
        Just("job_id".to_owned()),
        Just("kind".to_owned()),
        Just("status".to_owned()),
        Just("snapshots".to_owned()),
        Just("protocol_version".to_owned()),
        Just("journal".to_owned()),
        Just("ticket".to_owned()),
        ".{0,8}",
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
            prop::collection::btree_map(field.clone(), inner, 0..8)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

fn kind() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "hello",
        "heartbeat",
        "command.run",
        "command.go",
        "command.cancel",
        "command.result",
        "job.started",
        "job.progress",
        "job.finished",
        "log.stream",
        "snapshots.report",
        "repo.stats",
        "schedule.set",
        "schedule.ack",
        "config.update",
        "agent.update_available",
        "welcome",
        "refused",
        "journal.ack",
        "journal.gap",
        "ticket.confirm",
        "snapshots.want",
    ])
}

proptest! {
    #[test]
    fn any_text_is_a_frame_or_an_error(text in ".{0,300}") {
        let _ = Frame::decode(&text);
    }

    #[test]
    fn any_payload_is_understood_or_refused(kind in kind(), payload in json()) {
        let text = serde_json::json!({ "type": kind, "payload": payload }).to_string();
        let frame = Frame::decode(&text).unwrap();
        if let Ok(message) = FromAgent::decode(&frame) {
            let again = message.encode().unwrap();
            // What was understood stays the same when it goes around once more.
            prop_assert_eq!(FromAgent::decode(&again).unwrap(), message);
        }
        if let Ok(message) = ToAgent::decode(&frame) {
            let again = message.encode().unwrap();
            prop_assert_eq!(ToAgent::decode(&again).unwrap(), message);
        }
    }

    #[test]
    fn a_frame_keeps_its_payload_byte_for_byte(payload in json(), seq in any::<u64>()) {
        let raw = serde_json::to_string_pretty(&payload).unwrap();
        let text = format!(r#"{{"type":"x","seq":{seq},"hash":"{}","payload":{raw}}}"#, ChainHash::START);
        let frame = Frame::decode(&text).unwrap();
        prop_assert_eq!(frame.payload.get(), raw.as_str());
        let again = Frame::decode(&frame.encode().unwrap()).unwrap();
        prop_assert_eq!(again.payload.get(), raw.as_str());
        prop_assert_eq!(again.seq, Some(seq));
    }
}

#[test]
fn a_number_keeps_its_value_however_often_it_goes_around() {
    for number in ["5555555555555555555555555555555.5", "31.245270191439438", "1e308", "0.1"] {
        let text = format!(
            r#"{{"type":"schedule.set","payload":{{"version":1,"schedules":[{{"id":
            "01890a5d-ac96-774b-bcce-b302099a8058","kind":"backup","cron_expr":"","enabled":true,
            "options":{{"x":{number}}}}}]}}}}"#
        );
        let message = ToAgent::decode(&Frame::decode(&text).unwrap()).unwrap();
        let again = ToAgent::decode(&message.encode().unwrap()).unwrap();
        assert_eq!(again, message, "{number}");
    }
}
