//! Whatever a program prints: nothing panics, nothing is lost that decides.

use proptest::collection::vec;
use proptest::prelude::*;
use restic::messages::{Message, parse_line, parse_text_progress};
use restic::{
    BackupRequest, CancelToken, Event, Exit, FailureKind, SnapshotFilter, classify, lines,
};

use crate::bench::{fake_restic, log_lines, no_repository};

/// Bytes that are likely to be something: pieces of real messages between arbitrary ones.
fn output() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        vec(any::<u8>(), 0..20),
        prop_oneof![
            Just("{\"message_type\":\"status\","),
            Just("{\"message_type\":\"error\",\"error\":{\"Op\":1,\"Err\":1e99},"),
            Just("{\"message_type\":\"exit_error\",\"code\":3,\"message\":\"Fatal: "),
            Just("\"percent_done\":-1e308,\"files_done\":18446744073709551615"),
            Just("repository is already locked by PID 99999999999 on "),
            Just("lock was created at 9999-99-99 99:99:99"),
            Just("[0:00] 1e999%  1 / 0 packs"),
            Just("Ignoring \"x\": "),
            Just("\u{1b}[2K"),
            Just("}\n"),
            Just("\n"),
        ]
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_a_line_or_none(bytes in output()) {
        if let Some(Message::Text(text)) = parse_line(&bytes) {
            let _ = parse_text_progress(&text);
        }
    }

    #[test]
    fn a_failure_keeps_its_exit_code_whatever_was_printed(code in 1_i32..256, bytes in output()) {
        let failure = classify(Exit::Code(code), &bytes);
        prop_assert_eq!(failure.exit, Some(Exit::Code(code)));
        prop_assert!(!failure.message.is_empty());
        match code {
            10 => prop_assert_eq!(failure.kind, FailureKind::NoRepository),
            11 => prop_assert!(matches!(failure.kind, FailureKind::Locked(_))),
            12 => prop_assert_eq!(failure.kind, FailureKind::WrongPassword),
            _ => {}
        }
    }

    #[test]
    fn lines_are_the_same_however_the_bytes_are_cut(bytes in output(), at in any::<prop::sample::Index>()) {
        let split = |chunks: &[&[u8]]| {
            let mut splitter = lines::LineSplitter::new(16);
            let mut found = Vec::new();
            for chunk in chunks {
                splitter.push(chunk, |line| found.push(line));
            }
            found.extend(splitter.finish());
            found
        };
        let (head, tail) = bytes.split_at(at.index(bytes.len() + 1));
        prop_assert_eq!(split(&[&bytes]), split(&[head, tail]));
    }
}

/// The same through a whole operation: a program that prints arbitrary bytes on both streams.
#[tokio::test]
async fn an_operation_keeps_the_exit_code_whatever_is_printed() {
    use proptest::strategy::ValueTree;

    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for code in [1, 2, 3, 77, 130, 255] {
        let bytes = output().new_tree(&mut runner).unwrap().current();
        std::fs::write(&out, bytes).unwrap();
        let out = out.display();
        let script = format!("cat '{out}'; cat '{out}' >&2; exit {code}");
        let restic = fake_restic(folder.path(), "0.18.0", &script).await;
        let repository = no_repository(folder.path());
        let request = BackupRequest::new("web-1", ["/etc"]);
        let cancel = CancelToken::new();
        let failure = restic.backup(&repository, &request, &mut |_| {}, &cancel).await.unwrap_err();
        assert_eq!(failure.exit, Some(Exit::Code(code)));
    }
}

#[tokio::test]
async fn a_line_without_end_costs_no_more_memory_than_its_cap() {
    let folder = tempfile::tempdir().unwrap();
    let script = "head -c 8000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo after >&2; exit 1";
    let restic = fake_restic(folder.path(), "0.18.0", script).await;
    let mut events = Vec::new();
    let failure = restic
        .cat_config(
            &no_repository(folder.path()),
            &mut |event| events.push(event),
            &CancelToken::new(),
        )
        .await;
    assert!(failure.is_err());
    let lines = log_lines(&events);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0].len(), 64 * 1024 + lines::CUT_MARK.len());
    assert!(lines[0].ends_with(lines::CUT_MARK));
    assert_eq!(lines[1], "after");
}

#[tokio::test]
async fn a_document_that_is_too_large_is_refused_and_not_half_read() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo '['; head -c 68000000 /dev/zero | tr '\\0' ' '; echo ']'";
    let restic = fake_restic(folder.path(), "0.18.0", script).await;
    let everything = SnapshotFilter::default();
    let failure = restic
        .snapshots(&no_repository(folder.path()), &everything, &mut |_| {}, &CancelToken::new())
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::UnexpectedOutput);
    assert!(failure.message.contains("64 MiB"), "{failure}");
}

/// A success that does not say what was done is not taken for one.
#[tokio::test]
async fn a_backup_without_a_summary_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let restic = fake_restic(folder.path(), "0.18.0", "exit 0").await;
    let request = BackupRequest::new("web-1", ["/etc"]);
    let repository = no_repository(folder.path());
    let failure =
        restic.backup(&repository, &request, &mut |_| {}, &CancelToken::new()).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::UnexpectedOutput);
    assert_eq!(failure.exit, Some(Exit::Code(0)));
}

#[tokio::test]
async fn what_a_newer_restic_has_to_say_goes_into_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"echo '{"message_type":"hint","text":"well done"}'
        echo '{"message_type":"summary","snapshot_id":"ab","mood":"good"}'"#;
    let restic = fake_restic(folder.path(), "9.0.0", script).await;
    let request = BackupRequest::new("web-1", ["/etc"]);
    let repository = no_repository(folder.path());
    let mut events = Vec::new();
    let outcome = restic
        .backup(&repository, &request, &mut |event: Event| events.push(event), &CancelToken::new())
        .await
        .unwrap();
    assert_eq!(outcome.summary().raw["mood"], "good");
    assert!(log_lines(&events)[0].contains("well done"), "{events:?}");
}
