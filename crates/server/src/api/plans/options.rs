//! How the backups of a plan run, as the API has it, and what that must be like.

use crate::api::error::{ApiError, ApiResult};
use protocol::{Hook, HookText, Hooks, PlanOptions};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use utoipa::ToSchema;

/// How the backups of a plan run, beside what they take and when. What is absent is restic's or the
/// agent's own choice.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanOptionsView {
    /// Stay on the file systems of the plan's own folders.
    #[serde(default)]
    pub one_file_system: bool,
    /// Leave out folders that say by a `CACHEDIR.TAG` that they can be made again.
    #[serde(default)]
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
    #[serde(default)]
    pub not_on_battery: bool,
    /// Begin nothing by the clock while the network is paid for by the byte.
    #[serde(default)]
    pub not_metered: bool,
    /// What runs around a backup.
    #[serde(default)]
    pub hooks: HooksView,
}

/// One hook: the name of a program in the endpoint's own folder of hooks, or text.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum HookView {
    /// The name.
    Named(String),
    /// Text, which runs only where the endpoint's own policy allows it.
    Written(HookTextView),
}

/// The text of a hook.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HookTextView {
    /// A script of the system's shell, or of the program that its first line names after `#!`. Whoever
    /// may read plans reads it: it is no place for a password.
    pub text: String,
}

impl From<Hook> for HookView {
    fn from(hook: Hook) -> Self {
        match hook {
            Hook::Named(name) => Self::Named(name),
            Hook::Written(HookText { text }) => Self::Written(HookTextView { text }),
        }
    }
}

impl From<HookView> for Hook {
    fn from(hook: HookView) -> Self {
        match hook {
            HookView::Named(name) => Self::Named(name),
            HookView::Written(HookTextView { text }) => Self::Written(HookText { text }),
        }
    }
}

/// What runs around a backup.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HooksView {
    /// Before it. When this fails there is no backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<HookView>,
    /// After it when it wrote its snapshot, complete or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_success: Option<HookView>,
    /// After it when it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<HookView>,
    /// After it in any case, and last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<HookView>,
    /// How long each may take, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
}

macro_rules! same_fields {
    ($from:ty => $to:ident { $($field:ident),* }, $part:ident) => {
        impl From<$from> for $to {
            fn from(it: $from) -> Self {
                Self { $($field: it.$field,)* $part: it.$part.into() }
            }
        }
    };
}
macro_rules! option_fields {
    ($from:ty => $to:ident) => {
        same_fields!($from => $to {
            one_file_system, exclude_caches, limit_upload_kib, limit_download_kib, read_concurrency,
            retry_lock_minutes, timeout_minutes, stall_minutes, not_on_battery, not_metered
        }, hooks);
    };
}
macro_rules! hook_fields {
    ($from:ty => $to:ident) => {
        impl From<$from> for $to {
            fn from(it: $from) -> Self {
                Self {
                    before: it.before.map(Into::into),
                    on_success: it.on_success.map(Into::into),
                    on_failure: it.on_failure.map(Into::into),
                    after: it.after.map(Into::into),
                    timeout_seconds: it.timeout_seconds,
                }
            }
        }
    };
}
option_fields!(PlanOptions => PlanOptionsView);
option_fields!(PlanOptionsView => PlanOptions);
hook_fields!(Hooks => HooksView);
hook_fields!(HooksView => Hooks);

/// The largest limit of a transfer, in KiB a second: more than any network, and fit for every restic.
const MAX_LIMIT_KIB: u32 = 100_000_000;
const MAX_READERS: u16 = 128;
/// A day.
const MAX_LOCK_MINUTES: u32 = 24 * 60;
/// Thirty days: a first backup over a thin line takes long.
const MAX_RUN_MINUTES: u32 = 30 * 24 * 60;
/// A day.
const MAX_STALL_MINUTES: u32 = 24 * 60;
/// A day.
const MAX_HOOK_SECONDS: u32 = 24 * 60 * 60;
const MAX_HOOK_NAME: usize = 64;
/// A script that is longer belongs into the machine's folder of hooks.
const MAX_HOOK_TEXT: usize = 16 * 1024;

/// Reads the options of a form.
///
/// # Errors
/// Why they are refused.
pub fn read(form: PlanOptionsView) -> ApiResult<PlanOptions> {
    let mut options = PlanOptions::from(form);
    let kib = 1..=MAX_LIMIT_KIB;
    within("limit_upload_kib", "KiB a second", options.limit_upload_kib, kib.clone())?;
    within("limit_download_kib", "KiB a second", options.limit_download_kib, kib)?;
    within(
        "read_concurrency",
        "files",
        options.read_concurrency.map(u32::from),
        1..=MAX_READERS.into(),
    )?;
    within("retry_lock_minutes", "minutes", options.retry_lock_minutes, 1..=MAX_LOCK_MINUTES)?;
    within("timeout_minutes", "minutes", options.timeout_minutes, 1..=MAX_RUN_MINUTES)?;
    within("stall_minutes", "minutes", options.stall_minutes, 1..=MAX_STALL_MINUTES)?;
    let hooks = &options.hooks;
    within("hooks.timeout_seconds", "seconds", hooks.timeout_seconds, 1..=MAX_HOOK_SECONDS)?;
    for (field, hook) in [
        ("before", &hooks.before),
        ("on_success", &hooks.on_success),
        ("on_failure", &hooks.on_failure),
        ("after", &hooks.after),
    ] {
        if let Some(message) = hook.as_ref().and_then(wrong) {
            return Err(ApiError::invalid(&format!("options.hooks.{field}"), message));
        }
    }
    if hooks.is_empty() {
        // A time for nothing is not kept.
        options.hooks = Hooks::default();
    }
    Ok(options)
}

fn within(
    field: &str,
    unit: &str,
    value: Option<u32>,
    bounds: RangeInclusive<u32>,
) -> ApiResult<()> {
    match value {
        Some(value) if !bounds.contains(&value) => {
            let (least, most) = bounds.into_inner();
            let message = format!("It must be between {least} and {most} {unit}, or left out.");
            Err(ApiError::invalid(&format!("options.{field}"), message))
        }
        _ => Ok(()),
    }
}

/// Why this cannot be a hook.
fn wrong(hook: &Hook) -> Option<&'static str> {
    match hook {
        Hook::Named(name) if !is_hook_name(name) => Some(
            "The name of a hook has 1 to 64 letters, digits, dots, dashes and underscores, and does \
             not begin with a dot or a dash.",
        ),
        Hook::Written(HookText { text }) if text.trim().is_empty() || text.contains('\0') => {
            Some("The text of a hook is a script, and not empty.")
        }
        Hook::Written(HookText { text }) if text.len() > MAX_HOOK_TEXT => Some(
            "The text of a hook has at most 16 KiB. Put a longer one into the machine's folder of hooks.",
        ),
        Hook::Named(_) | Hook::Written(_) => None,
    }
}

/// Whether a hook may have this name: it is a plain file in one folder, and never an option or hidden.
fn is_hook_name(name: &str) -> bool {
    (1..=MAX_HOOK_NAME).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_have_names_and_no_paths() {
        for good in ["a", "dump-database", "9.sh", "_x", &"x".repeat(64)] {
            assert!(is_hook_name(good), "{good}");
        }
        for bad in ["", ".hidden", "-x", "..", "a/b", "a\\b", "a b", "ä", "a;b", &"x".repeat(65)] {
            assert!(!is_hook_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn the_text_of_a_hook_is_a_script_of_bounded_length() {
        let text = |text: String| Hook::Written(HookText { text });
        assert_eq!(wrong(&text("echo hello\n".to_owned())), None);
        assert_eq!(wrong(&text("x".repeat(16 * 1024))), None);
        for bad in [String::new(), " \n".to_owned(), "a\0".to_owned(), "x".repeat(16 * 1024 + 1)] {
            assert!(wrong(&text(bad.clone())).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn a_time_for_hooks_without_a_hook_is_not_kept() {
        let hooks = HooksView { timeout_seconds: Some(5), ..HooksView::default() };
        let read = read(PlanOptionsView { hooks, ..PlanOptionsView::default() }).unwrap();
        assert_eq!(read, PlanOptions::default());
    }
}
