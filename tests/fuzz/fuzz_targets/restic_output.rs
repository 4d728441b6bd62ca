//! Whatever restic prints, and however it ends: no panic, and never a success that was none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use restic::{Exit, classify, messages};

fuzz_target!(|data: &[u8]| {
    let (code, output) = data.split_first().unwrap_or((&0, &[]));
    for line in output.split(|&byte| byte == b'\n') {
        let _ = messages::parse_line(line);
        let _ = messages::parse_text_progress(&String::from_utf8_lossy(line));
    }
    let failure = classify(Exit::Code(i32::from(*code)), output);
    assert!(!failure.message.is_empty());
});
