//! What runs around a backup: programs of this machine's own folder of hooks, by name, and the text of
//! hooks where this machine's own policy allows it.
//!
//! ```text
//!   before ──▶ backup ──snapshot──▶ on_success ──▶ after
//!     │          ├─────no snapshot─▶ on_failure ──▶ after
//!     │          └─────cancelled──────────────────▶ after
//!     ├─failed───────────────────▶ on_failure ──▶ after      and there is no backup
//!     └─cancelled────────────────────────────────▶ after
//! ```
//!
//! Each hook runs in a helper of its own ([`crate::helper`]): when the agent dies the helper ends the hook
//! and all that it started.

mod call;
pub mod folder;
#[cfg(unix)]
#[path = "hooks/unix.rs"]
mod platform;
#[cfg(windows)]
#[path = "hooks/windows.rs"]
mod platform;
pub mod policy;

pub use call::{Call, run};

use crate::{
    core::{Order, RunEvent, Task},
    helper,
    runner::{Tools, Voice, perform},
};
use folder::shown;
use outcome::{
    Outcome,
    words::{one_line, span},
};
use protocol::{Code, Hook, HookText, Hooks, JobStatus, LogStream, Problem, Schedule};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{path::Path, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a hook may take when the plan does not say.
const TIMEOUT: Duration = Duration::from_mins(10);

/// The longest that a plan may say.
const LONGEST: Duration = Duration::from_hours(24);

/// How long the last hook of a cancelled run may take: whoever cancels waits for it.
const AFTER_CANCEL: Duration = Duration::from_mins(5);

/// The fields that this agent knows.
const KNOWN: [&str; 5] = ["before", "on_success", "on_failure", "after", "timeout_seconds"];

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Before the backup.
    Before,
    /// After it, when there is a snapshot.
    OnSuccess,
    /// After it, when there is none.
    OnFailure,
    /// At the end, whatever came.
    After,
}

impl Moment {
    fn word(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::OnSuccess => "on_success",
            Self::OnFailure => "on_failure",
            Self::After => "after",
        }
    }

    fn hook(self, hooks: &Hooks) -> Option<&Hook> {
        match self {
            Self::Before => hooks.before.as_ref(),
            Self::OnSuccess => hooks.on_success.as_ref(),
            Self::OnFailure => hooks.on_failure.as_ref(),
            Self::After => hooks.after.as_ref(),
        }
    }
}

/// The hooks of a plan.
///
/// # Errors
/// When it asks for something that this agent does not run. What is set and cannot be read is never
/// passed over: a backup without its hook may look right and be useless.
pub fn of(plan: &Schedule) -> Result<Hooks, Problem> {
    let mut hooks = named(plan)?;
    for (moment, text) in [(&mut hooks.before, &plan.pre_hook), (&mut hooks.after, &plan.post_hook)]
    {
        if text.trim().is_empty() {
            continue;
        }
        if moment.is_some() {
            return Err(unreadable("there are two for the same moment"));
        }
        *moment = Some(Hook::Written(HookText { text: text.clone() }));
    }
    Ok(hooks)
}

fn named(plan: &Schedule) -> Result<Hooks, Problem> {
    let told = match &plan.options {
        None | Some(Value::Null) => return Ok(Hooks::default()),
        Some(Value::Object(options)) => options.get("hooks").filter(|hooks| !hooks.is_null()),
        Some(_) => return Err(unreadable("its options are of another kind")),
    };
    let Some(told) = told else { return Ok(Hooks::default()) };
    let Value::Object(fields) = told else { return Err(unreadable("they are of another kind")) };
    let is_new =
        |(name, value): &(&String, &Value)| !KNOWN.contains(&name.as_str()) && !value.is_null();
    if let Some((name, _)) = fields.iter().find(is_new) {
        return Err(unreadable(&format!("“{}” is not known here", shown(name))));
    }
    // serde would take a list for the fields of a script in their order.
    if fields.values().any(Value::is_array) {
        return Err(unreadable("a value is of another kind"));
    }
    serde_json::from_value(told.clone()).map_err(|_| unreadable("a value is of another kind"))
}

/// Whether everything in it may run here, as far as the machine's policy says.
///
/// # Errors
/// When it carries text and the policy forbids that.
pub fn allowed(hooks: &Hooks, policy: &Path) -> Result<(), Problem> {
    let Hooks { before, on_success, on_failure, after, timeout_seconds: _ } = hooks;
    let has_text = [before, on_success, on_failure, after]
        .iter()
        .any(|hook| matches!(hook, Some(Hook::Written(_))));
    if has_text { policy::Policy::allow_text(policy) } else { Ok(()) }
}

/// A hook as it may stand in a sentence after "the hook".
fn called(hook: &Hook) -> String {
    match hook {
        Hook::Named(name) => shown(name),
        Hook::Written(_) => "that is written in the plan".to_owned(),
    }
}

fn unreadable(why: &str) -> Problem {
    Problem::new(
        Code::HookFailed,
        format!("The plan's hooks cannot be read by this agent ({why}); nothing was done."),
    )
    .guidance("Update the agent on this machine, or set the plan's hooks anew.")
}

/// Does a backup with its hooks around it.
pub async fn around(
    order: &Order,
    hooks: &Hooks,
    tools: &Tools,
    voice: &mut Voice,
    cancel: &CancellationToken,
) -> Outcome {
    // What is forbidden is found before anything is done, and not by the hook that would come last.
    if let Err(problem) = allowed(hooks, &policy::path(&tools.settings, &tools.state)) {
        let problem =
            Problem { message: format!("{} Nothing was done.", problem.message), ..problem };
        return Outcome::plain(JobStatus::Failed, Some(problem));
    }
    let round = Round { order, hooks, tools };
    let done = round.hook(Moment::Before, None, voice, cancel).await;
    let outcome = match done {
        Done::Nothing | Done::Well => perform(order, tools, voice, cancel).await,
        Done::Cancelled(_) => Outcome::plain(JobStatus::Cancelled, None),
        Done::Failed(problem) => Outcome::plain(
            JobStatus::Failed,
            Some(Problem {
                message: format!("{} No backup was made.", problem.message),
                ..problem
            }),
        ),
    };
    let outcome = match outcome.status {
        JobStatus::Succeeded | JobStatus::Partial => {
            round.follow(Moment::OnSuccess, outcome, voice, cancel).await
        }
        // A person or a shutdown ended it: that is no failure, and whoever did it waits.
        JobStatus::Cancelled => outcome,
        JobStatus::Failed
        | JobStatus::Queued
        | JobStatus::Running
        | JobStatus::Interrupted
        | JobStatus::Expired
        | JobStatus::Lost
        | JobStatus::Unknown => round.follow(Moment::OnFailure, outcome, voice, cancel).await,
    };
    if cancel.is_cancelled() {
        let round = Round { hooks: &hurried(hooks), ..round };
        round.follow(Moment::After, outcome, voice, &CancellationToken::new()).await
    } else {
        round.follow(Moment::After, outcome, voice, cancel).await
    }
}

fn hurried(hooks: &Hooks) -> Hooks {
    let seconds = timeout(hooks).min(AFTER_CANCEL).as_secs();
    Hooks { timeout_seconds: u32::try_from(seconds).ok(), ..hooks.clone() }
}

fn timeout(hooks: &Hooks) -> Duration {
    let told = hooks.timeout_seconds.map(|seconds| Duration::from_secs(seconds.max(1).into()));
    told.unwrap_or(TIMEOUT).min(LONGEST)
}

/// What came of a hook.
enum Done {
    /// The plan has none.
    Nothing,
    Well,
    Cancelled(Problem),
    Failed(Problem),
}

/// One backup and its hooks.
#[derive(Clone, Copy)]
struct Round<'a> {
    order: &'a Order,
    hooks: &'a Hooks,
    tools: &'a Tools,
}

impl Round<'_> {
    /// Runs a hook that comes after the backup. When it fails, what was done stays done, and is no longer
    /// everything that was asked for.
    async fn follow(
        &self,
        moment: Moment,
        so_far: Outcome,
        voice: &mut Voice,
        cancel: &CancellationToken,
    ) -> Outcome {
        match self.hook(moment, Some(so_far.status), voice, cancel).await {
            Done::Nothing | Done::Well => so_far,
            Done::Cancelled(problem) | Done::Failed(problem) => with(so_far, problem),
        }
    }

    async fn hook(
        &self,
        moment: Moment,
        so_far: Option<JobStatus>,
        voice: &mut Voice,
        cancel: &CancellationToken,
    ) -> Done {
        let Some(hook) = moment.hook(self.hooks) else { return Done::Nothing };
        let (word, shown) = (moment.word(), called(hook));
        if cancel.is_cancelled() {
            let words = format!("The hook {shown} was not run: the run was told to end.");
            say(voice, words.clone());
            return Done::Cancelled(Problem::new(Code::HookFailed, words));
        }
        say(voice, format!("Running the hook {shown} ({word})."));
        let began = Instant::now();
        let call = self.call(moment, hook, so_far);
        let ended = helper::hook(call, self.tools, voice, cancel).await;
        voice.name_restic_again();
        let took = span(began.elapsed());
        match (ended.status, ended.problem) {
            (JobStatus::Succeeded, _) => {
                say(voice, format!("The hook {shown} is done after {took}."));
                Done::Well
            }
            (JobStatus::Cancelled, _) => {
                say(voice, format!("The hook {shown} was told to end, after {took}."));
                Done::Cancelled(Problem::new(
                    Code::HookFailed,
                    format!("The hook {shown} was told to end before it was done."),
                ))
            }
            (_, Some(problem)) => {
                say(voice, problem.message.clone());
                Done::Failed(problem)
            }
            (_, None) => Done::Failed(Problem::new(
                Code::HookFailed,
                format!("The hook {shown} failed without a word."),
            )),
        }
    }

    fn call(&self, moment: Moment, hook: &Hook, so_far: Option<JobStatus>) -> Call {
        let plan = if let Task::Backup { plan, name, .. } = &self.order.task {
            Some((*plan, name.clone()))
        } else {
            None
        };
        Call {
            hook: hook.clone(),
            run_id: self.order.run_id,
            moment,
            plan,
            repository: self.order.repository.name.clone(),
            so_far,
            timeout: timeout(self.hooks),
        }
    }
}

fn say(voice: &mut Voice, words: String) {
    voice.say(RunEvent::Log(LogStream::Event, one_line(&words)));
}

/// The outcome of a run one of whose later hooks failed. A run that failed itself keeps its own reason.
pub(crate) fn with(outcome: Outcome, hook: Problem) -> Outcome {
    match (outcome.status, outcome.problem) {
        (JobStatus::Succeeded, _) => Outcome {
            status: JobStatus::Partial,
            problem: Some(Problem {
                code: Code::HookFailed,
                message: format!("The snapshot was written. {}", hook.message),
                ..hook
            }),
            ..outcome
        },
        (JobStatus::Partial, Some(problem)) => Outcome {
            problem: Some(Problem {
                message: format!("{} {}", problem.message, hook.message),
                ..problem
            }),
            ..outcome
        },
        (_, problem) => Outcome { problem, ..outcome },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{JobKind, PlanId};
    use serde_json::json;

    fn plan(options: Option<Value>) -> Schedule {
        Schedule {
            id: PlanId::new(3, &[3; 10]),
            kind: JobKind::Backup,
            cron_expr: String::new(),
            paths: vec!["/home".to_owned()],
            excludes: Vec::new(),
            tags: Vec::new(),
            retention_policy: None,
            options,
            pre_hook: String::new(),
            post_hook: String::new(),
            enabled: true,
            name: "home".to_owned(),
            repository_id: None,
        }
    }

    #[test]
    fn hooks_are_read_from_the_options_of_a_plan() {
        for options in [None, Some(Value::Null), Some(json!({})), Some(json!({ "hooks": null }))] {
            assert!(of(&plan(options)).unwrap().is_empty());
        }
        let options = json!({
            "one_file_system": true,
            "hooks": { "before": "dump", "after": "clean", "timeout_seconds": 5, "on_moon": null },
        });
        let hooks = of(&plan(Some(options))).unwrap();
        assert_eq!(
            (hooks.before.clone(), hooks.after.clone()),
            (Some(Hook::Named("dump".to_owned())), Some(Hook::Named("clean".to_owned())))
        );
        assert_eq!(timeout(&hooks), Duration::from_secs(5));
    }

    #[test]
    fn what_is_set_and_cannot_be_read_fails() {
        for options in [
            json!([]),
            json!({ "hooks": ["dump"] }),
            json!({ "hooks": { "before": ["dump"] } }),
            json!({ "hooks": { "before": { "text": "dump", "as": "root" } } }),
            json!({ "hooks": { "timeout_seconds": "long" } }),
            json!({ "hooks": { "on_moon": "dump" } }),
        ] {
            let problem = of(&plan(Some(options.clone()))).unwrap_err();
            assert_eq!(problem.code, Code::HookFailed, "{options}");
        }
    }

    #[test]
    fn the_text_of_a_hook_is_read_wherever_it_stands_and_asks_for_leave() {
        let written = |text: &str| Some(Hook::Written(HookText { text: text.to_owned() }));
        let of_version_1 = Schedule {
            pre_hook: "pg_dumpall > /x".to_owned(),
            post_hook: "rm /x".to_owned(),
            ..plan(None)
        };
        let hooks = of(&of_version_1).unwrap();
        assert_eq!(
            (hooks.before.clone(), hooks.after.clone()),
            (written("pg_dumpall > /x"), written("rm /x"))
        );
        let nowhere = Path::new("/nowhere/policy.json");
        assert_eq!(allowed(&hooks, nowhere).unwrap_err().code, Code::PolicyForbids);

        let options = json!({ "hooks": { "before": "dump", "on_failure": { "text": "tell" } } });
        let hooks = of(&plan(Some(options.clone()))).unwrap();
        assert_eq!(hooks.on_failure, written("tell"));
        assert_eq!(allowed(&hooks, nowhere).unwrap_err().code, Code::PolicyForbids);

        let twice = Schedule { pre_hook: "x".to_owned(), ..plan(Some(options)) };
        assert_eq!(of(&twice).unwrap_err().code, Code::HookFailed);
        let blank = Schedule { pre_hook: " \n".to_owned(), ..plan(None) };
        assert!(of(&blank).unwrap().is_empty());
        assert!(allowed(&Hooks::default(), nowhere).is_ok());
    }

    #[test]
    fn a_hook_takes_ten_minutes_a_day_at_most_and_five_minutes_after_a_cancel() {
        let of = |seconds| Hooks { timeout_seconds: seconds, ..Hooks::default() };
        assert_eq!(timeout(&of(None)), Duration::from_secs(600));
        assert_eq!(timeout(&of(Some(0))), Duration::from_secs(1));
        assert_eq!(timeout(&of(Some(u32::MAX))), Duration::from_secs(24 * 3600));
        assert_eq!(timeout(&hurried(&of(None))), Duration::from_secs(300));
        assert_eq!(timeout(&hurried(&of(Some(7)))), Duration::from_secs(7));
    }

    #[test]
    fn a_failed_hook_takes_nothing_from_what_was_done() {
        let hook = || Problem::new(Code::HookUnknown, "The hook is gone.").guidance("Look.");
        let done = Outcome {
            snapshot_id: Some("aa".to_owned()),
            ..Outcome::plain(JobStatus::Succeeded, None)
        };
        let partial = with(done, hook());
        let problem = partial.problem.clone().unwrap();
        assert_eq!((partial.status, problem.code), (JobStatus::Partial, Code::HookFailed));
        assert_eq!(problem.to_string(), "The snapshot was written. The hook is gone. Look.");
        assert_eq!(partial.snapshot_id.as_deref(), Some("aa"));

        let twice = with(partial, Problem::new(Code::HookFailed, "Another failed."));
        assert!(twice.problem.unwrap().message.ends_with("The hook is gone. Another failed."));

        for status in [JobStatus::Failed, JobStatus::Cancelled] {
            let own = Problem::new(Code::WrongPassword, "Wrong.");
            let failed = with(Outcome::plain(status, Some(own.clone())), hook());
            assert_eq!((failed.status, failed.problem), (status, Some(own)));
        }
    }
}
