//! Frames from the other side of the link: each is understood or refused, and what was understood
//! means the same when it goes around once more.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::{Frame, FromAgent, MAX_LOG_LINE_BYTES, ToAgent, cut_text};

fuzz_target!(|text: &str| {
    assert!(cut_text(text, MAX_LOG_LINE_BYTES).len() <= MAX_LOG_LINE_BYTES);
    let Ok(frame) = Frame::decode(text) else { return };
    if let Ok(message) = FromAgent::decode(&frame) {
        let again = message.encode().expect("what was read can be written");
        assert_eq!(FromAgent::decode(&again).expect("what was written can be read"), message);
    }
    if let Ok(message) = ToAgent::decode(&frame) {
        let again = message.encode().expect("what was read can be written");
        assert_eq!(ToAgent::decode(&again).expect("what was written can be read"), message);
    }
    let again = Frame::decode(&frame.encode().unwrap_or_else(|_| "{\"type\":\"x\"}".to_owned()));
    assert!(again.is_ok());
});
