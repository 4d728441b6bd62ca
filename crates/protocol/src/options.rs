//! How the backups of a plan run, beside what they take and when.

use serde::{Deserialize, Serialize};

/// What [`crate::Schedule::options`] says. Everything is optional, and a field that is not known here is
/// passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlanOptions {
    /// Stay on the file systems of the plan's own folders.
    #[serde(skip_serializing_if = "is_false")]
    pub one_file_system: bool,
    /// Leave out folders that say by a `CACHEDIR.TAG` that they can be made again.
    #[serde(skip_serializing_if = "is_false")]
    pub exclude_caches: bool,
    /// The fastest upload, in KiB a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_upload_kib: Option<u32>,
    /// The fastest download, in KiB a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_download_kib: Option<u32>,
    /// How many files are read at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_concurrency: Option<u16>,
    /// How long restic waits for a lock of somebody else, in minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_lock_minutes: Option<u32>,
    /// How long a run may take, in minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_minutes: Option<u32>,
    /// How long neither bytes nor files may move, in minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall_minutes: Option<u32>,
    /// Begin nothing by the clock while the machine runs on its battery.
    #[serde(skip_serializing_if = "is_false")]
    pub not_on_battery: bool,
    /// Begin nothing by the clock while the network is paid for by the byte.
    #[serde(skip_serializing_if = "is_false")]
    pub not_metered: bool,
    /// What runs around a backup.
    #[serde(skip_serializing_if = "Hooks::is_empty")]
    pub hooks: Hooks,
}

/// One hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Hook {
    /// A program in the endpoint's own folder of hooks.
    Named(String),
    /// Text that the plan itself carries.
    Written(HookText),
}

/// The text of a hook. It runs only where the endpoint's own policy allows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookText {
    /// A script of the system's shell, or of the program that its first line names after `#!`.
    pub text: String,
}

/// What runs around a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hooks {
    /// Before it. When this fails there is no backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Hook>,
    /// After it when it wrote its snapshot, complete or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_success: Option<Hook>,
    /// After it when it failed, or when the hook before it did. Not when it was cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<Hook>,
    /// After it in any case, and last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Hook>,
    /// How long each may take, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
}

impl Hooks {
    /// Whether nothing runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { before, on_success, on_failure, after, timeout_seconds: _ } = self;
        [before, on_success, on_failure, after].iter().all(|hook| hook.is_none())
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(it: &bool) -> bool {
    !*it
}
