//! Whatever restic prints, and however it ends: no panic, and no operation takes a bad exit status for
//! a success.
#![no_main]

use libfuzzer_sys::fuzz_target;
use restic::{
    Exit, classify, messages,
    replay::{Operation, Recorded},
};

fuzz_target!(|data: &[u8]| {
    let (code, output) = data.split_first().unwrap_or((&0, &[]));
    for line in output.split(|&byte| byte == b'\n') {
        let _ = messages::parse_line(line);
        let _ = messages::parse_text_progress(&String::from_utf8_lossy(line));
    }
    let failure = classify(Exit::Code(i32::from(*code)), output);
    assert!(!failure.message.is_empty());

    // What stands behind the first NUL, which restic never prints, is standard error.
    let end = output.iter().position(|&byte| byte == 0).unwrap_or(output.len());
    let (stdout, stderr) = output.split_at(end);
    for exit in [Exit::Code(i32::from(*code)), Exit::Code(0), Exit::Code(3), Exit::Signal(9)] {
        let recorded = Recorded { exit, stdout, stderr };
        for operation in Operation::ALL {
            let verdict = operation.judge(&recorded);
            assert!(
                operation.may_be(&verdict, exit),
                "{operation:?} with {exit:?} is {verdict:?}"
            );
        }
    }
});
