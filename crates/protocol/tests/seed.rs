//! An agent that speaks protocol 1 must be understood field by field: every payload of the first
//! implementation, written with its own names, reads and writes back without loss.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop")]

use protocol::{
    AgentUpdateAvailable, CommandCancel, CommandResult, CommandRun, ConfigUpdate, Heartbeat, Hello,
    JobFinished, JobKind, JobProgress, JobStarted, JobStatus, LogLine, Patch, RepoStats, RunSpec,
    ScheduleAck, ScheduleSet, SnapshotsReport,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

const RUN: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
const PLAN: &str = "01890a5d-ac96-774b-bcce-b302099a8058";
const TIME: &str = "2026-05-02T10:02:12.123456789Z";

/// Reads `wire`, writes it again and expects the same JSON, field by field.
fn round_trip<T: Serialize + DeserializeOwned>(wire: &Value) -> T {
    let value: T = serde_json::from_value(wire.clone()).unwrap();
    assert_eq!(&serde_json::to_value(&value).unwrap(), wire);
    value
}

#[test]
fn hello() {
    let hello: Hello = round_trip(&json!({
        "protocol_version": 1, "agent_version": "0.1.0", "restic_version": "0.16.4",
        "hostname": "web1", "os": "linux", "arch": "amd64", "boot_time": TIME,
    }));
    assert!(!hello.protocol_version.has_journal());
    assert!(hello.journal.is_none());
    for (os, arch) in [("windows", "arm64"), ("darwin", "amd64")] {
        round_trip::<Hello>(&json!({
            "protocol_version": 1, "agent_version": "", "restic_version": "",
            "hostname": "", "os": os, "arch": arch,
        }));
    }
}

#[test]
fn a_boot_time_of_year_one_is_absent() {
    let hello: Hello = serde_json::from_value(json!({
        "protocol_version": 1, "agent_version": "0.1.0", "restic_version": "0.16.4",
        "hostname": "web1", "os": "linux", "arch": "amd64", "boot_time": "0001-01-01T00:00:00Z",
    }))
    .unwrap();
    assert_eq!(hello.boot_time, None);
    assert!(serde_json::to_value(&hello).unwrap().get("boot_time").is_none());
}

#[test]
fn heartbeat() {
    round_trip::<Heartbeat>(&json!({ "sent_at": TIME }));
}

#[test]
fn command_run() {
    for kind in ["backup", "init", "forget", "prune", "check", "unlock"] {
        let command: CommandRun = round_trip(&json!({ "job_id": RUN, "kind": kind }));
        assert_eq!(command.spec.kind().as_str(), kind);
        assert_eq!(command.number, None);
        round_trip::<CommandRun>(&json!({ "job_id": RUN, "kind": kind, "args": ["--verbose"] }));
    }
}

#[test]
fn a_kind_that_nobody_knows_is_read_and_not_run() {
    let command: CommandRun =
        serde_json::from_value(json!({ "job_id": RUN, "kind": "defrag", "args": ["x"] })).unwrap();
    assert_eq!(command.spec, RunSpec::Unknown);
    assert_eq!(command.job_id.to_string(), RUN);
}

#[test]
fn command_cancel() {
    let cancel: CommandCancel = serde_json::from_value(json!({ "job_id": RUN })).unwrap();
    assert_eq!(cancel.job_id.to_string(), RUN);
    assert_eq!(cancel.number, None);
}

#[test]
fn command_result() {
    round_trip::<CommandResult>(&json!({ "job_id": RUN, "accepted": true }));
    round_trip::<CommandResult>(&json!({ "job_id": RUN, "accepted": false, "error": "busy" }));
}

#[test]
fn job_started() {
    round_trip::<JobStarted>(&json!({ "job_id": RUN, "kind": "backup", "started_at": TIME }));
}

#[test]
fn job_progress() {
    round_trip::<JobProgress>(&json!({
        "job_id": RUN, "percent_done": 0.5, "files_done": 10, "total_files": 20, "bytes_done": 1,
        "total_bytes": 9_000_000_000_000_u64, "eta_seconds": 3, "throughput_bps": 4,
    }));
}

#[test]
fn job_finished() {
    for status in ["succeeded", "failed", "cancelled"] {
        let finished: JobFinished = round_trip(&json!({
            "job_id": RUN, "status": status, "exit_code": 3, "finished_at": TIME,
            "stats": { "files_new": 3, "total_duration": 0.25, "snapshot_id": "abc", "nested": [1, null] },
            "error": "no",
        }));
        assert!(finished.status.is_terminal());
    }
    round_trip::<JobFinished>(
        &json!({ "job_id": RUN, "status": "succeeded", "exit_code": 0, "finished_at": TIME }),
    );
    let null: JobFinished = serde_json::from_value(json!({
        "job_id": RUN, "status": "succeeded", "exit_code": 0, "finished_at": TIME, "stats": null,
    }))
    .unwrap();
    assert_eq!(null.stats, None);
    for (word, terminal) in
        [("queued", false), ("running", false), ("succeeded", true), ("from_the_future", true)]
    {
        let status: JobStatus = serde_json::from_value(json!(word)).unwrap();
        assert_eq!(status.is_terminal(), terminal, "{word}");
    }
}

#[test]
fn log_stream() {
    for stream in ["stdout", "stderr", "event"] {
        round_trip::<LogLine>(
            &json!({ "job_id": RUN, "seq": 7, "ts": TIME, "stream": stream, "payload": "a\nb" }),
        );
    }
}

#[test]
fn snapshots_report() {
    let report: SnapshotsReport = round_trip(&json!({ "snapshots": [{
        "id": "ab".repeat(32), "short_id": "abababab", "time": TIME, "hostname": "web1",
        "paths": ["/etc", "/srv"], "tags": ["nightly"], "size_bytes": 5, "file_count": 2,
    }, {
        "id": "cd".repeat(32), "short_id": "cdcdcdcd", "time": TIME, "hostname": "web1", "paths": ["/"],
    }] }));
    assert_eq!(report.snapshots[1].size_bytes, None);
}

#[test]
fn lists_that_go_writes_as_null_are_empty() {
    let report: SnapshotsReport = serde_json::from_value(json!({ "snapshots": null })).unwrap();
    assert!(report.snapshots.is_empty());
    let report: SnapshotsReport = serde_json::from_value(json!({ "snapshots": [{
        "id": "a", "short_id": "a", "time": TIME, "hostname": "h", "paths": null,
    }] }))
    .unwrap();
    assert!(report.snapshots[0].paths.is_empty());
    let set: ScheduleSet =
        serde_json::from_value(json!({ "version": 1, "schedules": null })).unwrap();
    assert!(set.schedules.is_empty());
}

#[test]
fn repo_stats() {
    round_trip::<RepoStats>(&json!({
        "size_bytes": 1, "snapshot_count": 2, "dedup_ratio": 1.5, "last_check_at": TIME,
        "last_check_status": "ok", "lock_state": "unlocked",
    }));
    let stats: RepoStats = serde_json::from_value(json!({
        "size_bytes": 1, "snapshot_count": 2, "dedup_ratio": 1.5,
        "last_check_at": "0001-01-01T00:00:00Z", "lock_state": "locked",
    }))
    .unwrap();
    assert_eq!(stats.last_check_at, None);
}

#[test]
fn schedule_set_and_ack() {
    let set: ScheduleSet = round_trip(&json!({ "version": 3, "schedules": [{
        "id": PLAN, "kind": "backup", "cron_expr": "0 2 * * *", "paths": ["/etc"], "excludes": ["*.tmp"],
        "tags": ["a"], "retention_policy": { "keep_daily": 7, "keep_what": "ever" }, "options": { "x": 1 },
        "pre_hook": "true", "post_hook": "false", "enabled": true,
    }, { "id": PLAN, "kind": "check", "cron_expr": "", "enabled": false }] }));
    // The raw policy survives, and cannot be taken for one that keeps less than it says.
    assert!(set.schedules[0].retention().is_err());
    assert_eq!(set.schedules[1].kind, JobKind::Check);
    let mut known = set.schedules[0].clone();
    known.retention_policy = Some(json!({ "keep_daily": 7 }));
    assert_eq!(known.retention().unwrap().unwrap().keep_daily, Some(7));
    round_trip::<ScheduleAck>(&json!({ "version": 3, "applied_at": TIME }));
}

#[test]
fn config_update() {
    let config: ConfigUpdate = round_trip(&json!({
        "repo_url": "rest:https://b.example/", "repo_password": "p", "repo_username": "u",
        "repo_credential": "c", "hook_shell": "/bin/sh",
    }));
    assert_eq!(config.repo_url, Patch::Set("rest:https://b.example/".to_owned()));
    assert!(!format!("{config:?}").contains("\"p\""), "secrets are redacted");
    let config: ConfigUpdate = round_trip(&json!({ "repo_username": null }));
    assert_eq!(config.repo_username, Patch::Clear);
    assert_eq!(config.repo_url, Patch::Leave);
}

#[test]
fn agent_update_available() {
    round_trip::<AgentUpdateAvailable>(
        &json!({ "latest_version": "2", "package_url": "u", "changelog": "c" }),
    );
    round_trip::<AgentUpdateAvailable>(&json!({ "latest_version": "2", "package_url": "u" }));
}
