//! The headless server as a process: how it is set up, started, stopped, and what it refuses.
#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    reason = "a test that meets the unexpected should stop, and say where"
)]

use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

const PASSWORD: &str = "canary horse battery";

fn headless(arguments: &[&str], data_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_restic-manager-headless"));
    command.args(arguments).arg("--data-dir").arg(data_dir);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(arguments: &[&str], data_dir: &Path, input: &str) -> Output {
    let mut child = headless(arguments, data_dir).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn init(data_dir: &Path) {
    let made = run(&["init", "--password-stdin"], data_dir, &format!("{PASSWORD}\n"));
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert!(made.stdout.is_empty(), "what was given is not told back");
}

fn serve(data_dir: &Path) -> (Child, serde_json::Value) {
    let listen = ["serve", "--ui-listen", "127.0.0.1:0", "--agent-listen", "127.0.0.1:0"];
    let mut child = headless(&listen, data_dir).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (child, serde_json::from_str(&line).unwrap())
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn it_says_when_it_is_ready_and_stops_on_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    init(&data);
    for stop in [Signal::TERM, Signal::INT] {
        let (child, ready) = serve(&data);
        assert_eq!(ready["ready"], true);
        assert!(ready["ui"].as_str().unwrap().starts_with("https://127.0.0.1:"), "{ready}");
        assert!(ready["agent"].as_str().unwrap().starts_with("127.0.0.1:"), "{ready}");
        assert_eq!(ready["manager_key"].as_str().unwrap().len(), 43);
        for file in ["ca_file", "ui_ca_file"] {
            let ca = std::fs::read_to_string(ready[file].as_str().unwrap()).unwrap();
            assert!(ca.starts_with("-----BEGIN CERTIFICATE-----"), "{ca}");
        }
        signal(&child, stop);
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.success(), "{}", text(&ended.stderr));
        assert!(!text(&ended.stderr).contains(PASSWORD));
    }
}

#[test]
fn its_folder_is_the_owners_and_holds_no_password() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    init(&data);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("vault.key")), 0o600);
    for entry in std::fs::read_dir(&data).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes()));
    }
}

/// Runs under a mask that takes no right away, so that every right that is there was chosen.
#[test]
fn its_files_are_the_owners_whatever_the_mask_says() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let unmasked = |arguments: &[&str]| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "umask 000; exec \"$0\" \"$@\""]);
        command.arg(env!("CARGO_BIN_EXE_restic-manager-headless")).args(arguments);
        command.arg("--data-dir").arg(&data);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
    };
    assert!(unmasked(&["init"]).wait_with_output().unwrap().status.success());
    let listen = ["serve", "--ui-listen", "127.0.0.1:0", "--agent-listen", "127.0.0.1:0"];
    let mut child = unmasked(&listen);
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let is_public = ["ca.pem", "ui.pem"].contains(&name.as_str());
        let expected = if is_public { 0o644 } else { 0o600 };
        assert_eq!(mode(&path), expected, "{name}");
        seen.push(name);
    }
    signal(&child, Signal::TERM);
    assert!(child.wait().unwrap().success());
    assert_eq!(mode(&data), 0o700);
    for name in [
        "server.db",
        "server.db-wal",
        "server.db-shm",
        "vault.key",
        "ca.pem",
        "ui.pem",
        "ui-certificate.json",
    ] {
        assert!(seen.iter().any(|one| one == name), "{name}: {seen:?}");
    }
}

#[test]
fn it_refuses_what_would_end_badly_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let refused = |arguments: &[&str], input: &str, words: &str| {
        let output = run(arguments, &data, input);
        assert!(!output.status.success());
        assert!(text(&output.stderr).contains(words), "{}", text(&output.stderr));
        assert!(output.stdout.is_empty());
    };
    refused(&["serve"], "", "restic-manager-headless init");
    refused(&["password", "--password-stdin"], PASSWORD, "restic-manager-headless init");
    refused(&["init", "--password-stdin"], "short", "at least 12 characters");
    assert!(!data.exists(), "nothing was made");
    init(&data);
    refused(&["init", "--password-stdin"], PASSWORD, "there is a manager in");
    refused(&["password", "--password-stdin"], "short", "at least 12 characters");
}

#[test]
fn without_a_terminal_a_password_is_made_and_printed_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let made = run(&["init"], &data, "");
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert!(text(&made.stdout).trim().len() >= 20, "{}", text(&made.stdout));
    let changed = run(&["password"], &data, "");
    assert!(changed.status.success(), "{}", text(&changed.stderr));
    assert_ne!(made.stdout, changed.stdout);
}
