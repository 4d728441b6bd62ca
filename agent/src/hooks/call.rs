//! One hook from its start to its end. This part runs in the helper.

use super::{
    LONGEST, Moment, called, folder, platform,
    policy::{self, Policy},
};
use crate::{
    core::{Process, RunEvent},
    identity::Settings,
    paths::{StateDir, create_private_dir},
    runner::process::start_of,
};
use outcome::{
    LogCap, Outcome,
    words::{one_line, span},
};
use protocol::{
    Code, Hook, JobStatus, LogStream, MAX_LOG_LINE_BYTES, PlanId, Problem, RunId, cut_text,
};
use restic::{
    CancelToken,
    lines::{LineSplitter, clean},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    sync::mpsc,
    task::JoinSet,
    time::Instant,
};

/// How long a hook that is told to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// How long its output may stay open after it has ended: what it started may have inherited it.
const PIPE_PATIENCE: Duration = Duration::from_secs(2);

/// How many lines may wait. When nobody takes them the hook waits.
const WAITING_LINES: usize = 256;

/// How many of its last lines stand in an error.
const LAST_LINES: usize = 5;

/// The most bytes of them.
const LAST_BYTES: usize = 1024;

/// Where programs are looked for when the agent itself was not told.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a hook has of the agent's own environment, which holds nothing secret. All else stays there.
const INHERITED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
];

/// Without these next to nothing runs on Windows.
const INHERITED_ON_WINDOWS: &[&str] = &[
    "SystemRoot",
    "SystemDrive",
    "windir",
    "ComSpec",
    "PATHEXT",
    "TEMP",
    "TMP",
    "USERPROFILE",
    "USERNAME",
    "COMPUTERNAME",
    "APPDATA",
    "LOCALAPPDATA",
    "ProgramData",
    "ProgramFiles",
];

/// A hook to be run. Whoever asks says what it is told, and neither under which names nor where it lies.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Call {
    /// The hook.
    pub hook: Hook,
    /// The run that it belongs to.
    pub run_id: RunId,
    /// When in the run.
    pub moment: Moment,
    /// The plan and its name.
    pub plan: Option<(PlanId, String)>,
    /// The repository's name.
    pub repository: String,
    /// How the run stands, once it has a result.
    pub so_far: Option<JobStatus>,
    /// How long it may take; never more than a day.
    pub timeout: Duration,
}

impl Call {
    /// What it is told by its environment.
    fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("RESTIC_MANAGER_RUN_ID", self.run_id.to_string()),
            ("RESTIC_MANAGER_REPOSITORY", one_line(&self.repository)),
            ("RESTIC_MANAGER_HOOK", self.moment.word().to_owned()),
        ];
        if let Some((plan, name)) = &self.plan {
            variables.push(("RESTIC_MANAGER_PLAN_ID", plan.to_string()));
            variables.push(("RESTIC_MANAGER_PLAN", one_line(name)));
        }
        if let Some(status) = self.so_far {
            variables.push(("RESTIC_MANAGER_OUTCOME", status.as_str().to_owned()));
        }
        variables
    }
}

/// The text of a hook, and a folder for it that nobody else may enter. Both go with this value; what a
/// killed helper leaves is swept at the agent's next start.
#[derive(Debug)]
pub(super) struct Script {
    pub text: String,
    pub folder: PathBuf,
}

impl Script {
    fn new(text: &str, temporary: &Path, run_id: RunId) -> io::Result<Self> {
        let folder = temporary.join(format!("hook-{run_id}"));
        // A helper of the same run that was killed leaves its own behind, and the hook that cleans up must
        // run all the same. Where it cannot be removed, writing the text fails and says so.
        let _ = fs::remove_dir_all(&folder);
        create_private_dir(&folder)?;
        Ok(Self { text: text.to_owned(), folder })
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::warn!(folder = %self.folder.display(), %error, "A hook's text stays behind");
        }
    }
}

/// Why it ended.
enum End {
    Itself(ExitStatus),
    Cancelled,
    TimedOut,
}

/// Runs the hook, tells what it says, and ends it when it is cancelled or takes too long. The end is one
/// of *succeeded*, *cancelled*, and *failed* with the reason.
///
/// It changes the working directory of the process.
pub async fn run(
    call: &Call,
    settings: &Settings,
    state: &StateDir,
    cancel: &CancelToken,
    tell: &mut (dyn FnMut(RunEvent) + Send),
) -> Outcome {
    if cancel.is_cancelled() {
        return Outcome::plain(JobStatus::Cancelled, None);
    }
    let hooks = folder::folder(settings, state);
    let timeout = call.timeout.min(LONGEST);
    let (mut child, _script) = match start(call, &hooks, settings, state) {
        Ok(started) => started,
        Err(problem) => return Outcome::plain(JobStatus::Failed, Some(problem)),
    };
    if let Some(pid) = child.id() {
        tell(RunEvent::Spawned(Process { pid, start: start_of(pid).unwrap_or_default() }));
    }
    let mut listener = Listener::new(&call.hook, tell);
    let (sender, mut lines) = mpsc::channel(WAITING_LINES);
    // Whoever still writes when this is over is not listened to any more.
    let mut readers = JoinSet::new();
    if let Some(pipe) = child.stdout.take() {
        readers.spawn(read(pipe, LogStream::Stdout, sender.clone()));
    }
    if let Some(pipe) = child.stderr.take() {
        readers.spawn(read(pipe, LogStream::Stderr, sender.clone()));
    }
    drop(sender);
    let ending = ending(&mut child, timeout, cancel);
    tokio::pin!(ending);
    let mut end = None;
    let mut over = None;
    loop {
        tokio::select! {
            line = lines.recv() => match line {
                Some((stream, line)) => listener.hear(stream, &line),
                None => break,
            },
            ended = &mut ending, if end.is_none() => {
                end = Some(ended);
                over = Some(Instant::now() + PIPE_PATIENCE);
            }
            () = until(over) => break,
        }
    }
    let end = match end {
        Some(end) => end,
        // It has closed its output and goes on.
        None => ending.await,
    };
    listener.finish();
    outcome(call, end, &hooks, timeout, &listener.last)
}

/// Starts it. The text of a hook lies in a folder for as long as the second value lives.
fn start(
    call: &Call,
    hooks: &Path,
    settings: &Settings,
    state: &StateDir,
) -> Result<(Child, Option<Script>), Problem> {
    let spawn = |command: io::Result<std::process::Command>| -> io::Result<Child> {
        let mut command = Command::from(command?);
        command
            .env_clear()
            .envs(environment())
            .envs(call.variables())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn()
    };
    let not_started = |what: &str, error: io::Error| {
        let guidance = "A script begins with a line that says what runs it, such as #!/bin/sh.";
        folder::refused(what, &format!("could not be started: {error}"), guidance)
    };
    match &call.hook {
        Hook::Named(name) => {
            let opened = folder::open(hooks, name)?;
            let what = format!("The hook {}", hooks.join(name).display());
            let child = spawn(platform::command(&opened));
            Ok((child.map_err(|error| not_started(&what, error))?, None))
        }
        Hook::Written(script) => {
            // The agent looked before the backup began; this process is the one that answers for it.
            Policy::allow_text(&policy::path(settings, state))?;
            let what = format!("The hook {}", called(&call.hook));
            let started = Script::new(&script.text, &state.temporary(), call.run_id)
                .and_then(|script| Ok((spawn(platform::write_script(&script))?, Some(script))));
            started.map_err(|error| not_started(&what, error))
        }
    }
}

fn environment() -> Vec<(String, std::ffi::OsString)> {
    let windows = if cfg!(windows) { INHERITED_ON_WINDOWS } else { &[] };
    let mut environment: Vec<_> = INHERITED
        .iter()
        .chain(windows)
        .filter_map(|name| Some(((*name).to_owned(), std::env::var_os(name)?)))
        .collect();
    if cfg!(unix) && environment.iter().all(|(name, _)| name != "PATH") {
        environment.push(("PATH".to_owned(), PATH.into()));
    }
    environment
}

async fn ending(child: &mut Child, timeout: Duration, cancel: &CancelToken) -> io::Result<End> {
    let end = tokio::select! {
        status = child.wait() => return Ok(End::Itself(status?)),
        () = cancel.cancelled() => End::Cancelled,
        () = tokio::time::sleep(timeout) => End::TimedOut,
    };
    platform::end(child, GRACE).await?;
    Ok(end)
}

async fn until(over: Option<Instant>) {
    match over {
        Some(over) => tokio::time::sleep_until(over).await,
        None => std::future::pending().await,
    }
}

async fn read(
    mut pipe: impl AsyncRead + Unpin,
    stream: LogStream,
    sender: mpsc::Sender<(LogStream, Vec<u8>)>,
) {
    let mut splitter = LineSplitter::new(MAX_LOG_LINE_BYTES);
    let mut buffer = vec![0; 16 * 1024];
    let mut lines = Vec::new();
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        splitter.push(buffer.get(..count).unwrap_or_default(), |line| lines.push(line));
        for line in lines.drain(..) {
            let _ = sender.send((stream, line)).await;
        }
    }
    if let Some(line) = splitter.finish() {
        let _ = sender.send((stream, line)).await;
    }
}

/// Tells what the hook says, within the bounds of a run's log, and keeps its last words.
struct Listener<'a> {
    /// What stands before each line.
    name: &'a str,
    tell: &'a mut (dyn FnMut(RunEvent) + Send),
    cap: LogCap<LogStream>,
    last: VecDeque<String>,
}

impl<'a> Listener<'a> {
    fn new(hook: &'a Hook, tell: &'a mut (dyn FnMut(RunEvent) + Send)) -> Self {
        let name = match hook {
            Hook::Named(name) => name,
            Hook::Written(_) => "hook",
        };
        Self { name, tell, cap: LogCap::default(), last: VecDeque::new() }
    }

    fn hear(&mut self, stream: LogStream, line: &[u8]) {
        let line = clean(line);
        if line.is_empty() {
            return;
        }
        let text = format!("{}: {line}", self.name);
        if let Some((stream, text)) = self.cap.push(stream, text) {
            (self.tell)(RunEvent::Log(stream, text));
        }
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(cut_text(&one_line(&line), LAST_BYTES / LAST_LINES));
    }

    fn finish(&mut self) {
        let (left_out, last) = self.cap.end();
        if let Some(words) = left_out {
            (self.tell)(RunEvent::Log(LogStream::Event, format!("{}: {words}", self.name)));
        }
        for (stream, text) in last {
            (self.tell)(RunEvent::Log(stream, text));
        }
    }
}

fn outcome(
    call: &Call,
    end: io::Result<End>,
    hooks: &Path,
    timeout: Duration,
    last: &VecDeque<String>,
) -> Outcome {
    let how = match end {
        Ok(End::Itself(status)) if status.success() => {
            return Outcome::plain(JobStatus::Succeeded, None);
        }
        Ok(End::Cancelled) => return Outcome::plain(JobStatus::Cancelled, None),
        Ok(End::Itself(status)) => platform::ended_how(status),
        Ok(End::TimedOut) => {
            format!("was ended after {}, the longest it may take", span(timeout))
        }
        Err(error) => format!("was lost: {error}"),
    };
    let said = match last.is_empty() {
        true => "It said nothing.".to_owned(),
        false => {
            format!("Its last words: “{}”.", last.iter().cloned().collect::<Vec<_>>().join(" / "))
        }
    };
    let lies = match call.hook {
        Hook::Named(_) => format!("lies on the machine in {}", hooks.display()),
        Hook::Written(_) => "stands in the plan".to_owned(),
    };
    let problem =
        Problem::new(Code::HookFailed, format!("The hook {} {how}. {said}", called(&call.hook)))
            .guidance(format!("The run's log has what it said; the hook itself {lies}."));
    Outcome::plain(JobStatus::Failed, Some(problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_helper_left_is_in_no_later_hooks_way() {
        let (base, run) = (tempfile::tempdir().unwrap(), RunId::new(1, &[1; 10]));
        let killed = Script::new("before", base.path(), run).unwrap();
        fs::write(killed.folder.join("hook"), "before").unwrap();
        std::mem::forget(killed);
        let after = Script::new("after", base.path(), run).unwrap();
        assert!(!after.folder.join("hook").exists());
    }
}
