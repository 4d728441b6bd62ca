//! Every frame that a released version ever sent must decode for ever. The files under
//! `tests/golden/v<version>` hold one frame each; they are added to and never changed.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop")]

use protocol::{Frame, FromAgent, Hook, HookText, ToAgent};
use std::{fs, path::PathBuf};

fn files() -> Vec<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<PathBuf> = fs::read_dir(root)
        .unwrap()
        .flat_map(|version| fs::read_dir(version.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files
}

#[test]
fn every_golden_frame_decodes_to_its_type() {
    let files = files();
    assert!(files.len() > 30, "the golden frames are gone: {}", files.len());
    for file in files {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&file).unwrap();
        let frame =
            Frame::decode(text.trim()).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        assert!(name.starts_with(&frame.kind), "{} holds a {}", file.display(), frame.kind);
        let from_agent =
            FromAgent::decode(&frame).unwrap_or_else(|e| panic!("{}: {e:?}", file.display()));
        let to_agent =
            ToAgent::decode(&frame).unwrap_or_else(|e| panic!("{}: {e:?}", file.display()));
        let unknown =
            matches!(from_agent, FromAgent::Unknown(_)) && matches!(to_agent, ToAgent::Unknown(_));
        assert!(!unknown, "{} is not understood any more", file.display());
    }
}

#[test]
fn what_is_written_again_says_the_same() {
    for file in files() {
        let text = fs::read_to_string(&file).unwrap();
        let frame = Frame::decode(text.trim()).unwrap();
        let again = match (FromAgent::decode(&frame).unwrap(), ToAgent::decode(&frame).unwrap()) {
            (FromAgent::Unknown(_), to_agent) => to_agent.encode().unwrap(),
            (from_agent, _) => from_agent.encode().unwrap(),
        };
        let before: serde_json::Value = serde_json::from_str(frame.payload.get()).unwrap();
        let after: serde_json::Value = serde_json::from_str(again.payload.get()).unwrap();
        assert_eq!(before, after, "{}", file.display());
    }
}

#[test]
fn options_are_read_as_they_were_written() {
    let file =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v2/schedule.set-options.json");
    let frame = Frame::decode(fs::read_to_string(file).unwrap().trim()).unwrap();
    let ToAgent::ScheduleSet(set) = ToAgent::decode(&frame).unwrap() else { panic!() };
    let schedule = &set.schedules[0];
    let options = schedule.options().unwrap();
    assert_eq!(serde_json::to_value(&options).unwrap(), schedule.options.clone().unwrap());
    assert_eq!(options.hooks.before, Some(Hook::Named("dump-database".to_owned())));
    let text = "echo it failed".to_owned();
    assert_eq!(options.hooks.on_failure, Some(Hook::Written(HookText { text })));
}

#[test]
fn frames_of_the_future_are_tolerated() {
    let frame = Frame::decode(r#"{"type":"telepathy","id":"1","mood":"blue","payload":{"x":[1]}}"#)
        .unwrap();
    assert_eq!(FromAgent::decode(&frame).unwrap(), FromAgent::Unknown("telepathy".to_owned()));
    assert_eq!(ToAgent::decode(&frame).unwrap(), ToAgent::Unknown("telepathy".to_owned()));
    let frame = Frame::decode(
        r#"{"type":"heartbeat","payload":{"sent_at":"2026-11-23T00:00:00Z","load":3}}"#,
    )
    .unwrap();
    assert!(matches!(FromAgent::decode(&frame).unwrap(), FromAgent::Heartbeat(_)));
}
