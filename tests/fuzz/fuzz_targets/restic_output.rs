//! Whatever restic prints, and however it ends: no panic, and no operation takes a bad exit status for
//! a success.
#![no_main]

use libfuzzer_sys::fuzz_target;
use restic::{
    Exit, classify, messages,
    replay::{Operation, Recorded},
};

fuzz_target!(|data: &[u8]| {
    let (choice, output) = data.split_first().unwrap_or((&0, &[]));
    for line in output.split(|&byte| byte == b'\n') {
        let _ = messages::parse_line(line);
        let _ = messages::parse_text_progress(&String::from_utf8_lossy(line));
    }
    let exit = exit(choice / 6);
    let failure = classify(exit, output);
    assert!(!failure.message.is_empty());

    // What stands behind the first NUL, which restic never prints, is standard error.
    let end = output.iter().position(|&byte| byte == 0).unwrap_or(output.len());
    let (stdout, stderr) = output.split_at(end);
    let recorded = Recorded { exit, stdout, stderr };
    let operation = Operation::ALL[usize::from(choice % 6)];
    let verdict = operation.judge(&recorded);
    assert!(operation.may_be(&verdict, exit), "{operation:?} with {exit:?} is {verdict:?}");
});

/// Those with a meaning of their own as often as all others together.
fn exit(choice: u8) -> Exit {
    match choice {
        0..4 => Exit::Code(0),
        4..8 => Exit::Code(1),
        8..12 => Exit::Code(3),
        12..16 => Exit::Signal(9),
        other => Exit::Code(i32::from(other)),
    }
}
