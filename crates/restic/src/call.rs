//! One call of restic: the part that every operation shares.
//!
//! It builds the command line, runs the process, keeps the evidence, watches the repository's
//! reachability, and tells the sink. What the lines mean is the operation's own business.

use std::ffi::{OsStr, OsString};
use std::process::Command;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::environment::Repository;
use crate::event::{Event, ItemErrors, Sink, Stream};
use crate::failure::{Evidence, Exit, Failure, FailureKind, Stopped};
use crate::messages::{Message, parse_line};
use crate::process::{self, Output, Running, Stdout};
use crate::program::Restic;
use crate::redact::Redactor;
use crate::replay::Recorded;
use crate::stall::Stall;
use crate::traces;
use crate::watchdog::{Change, Notice, Watchdog};

/// The arguments of a call. No secret may enter here: every user of the machine can read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arguments {
    options: Vec<OsString>,
    operands: Vec<OsString>,
}

impl Arguments {
    /// The arguments of a command that prints JSON. `--json` stands first, because an error that
    /// is found further left is reported as text.
    pub(crate) fn json(command: &str) -> Self {
        Self::text("--json").flag(command)
    }

    /// The arguments of a command that prints text.
    pub(crate) fn text(command: &str) -> Self {
        Self { options: vec![command.into()], operands: Vec::new() }
    }

    /// Adds `--name`.
    pub(crate) fn flag(mut self, name: &str) -> Self {
        self.options.push(name.into());
        self
    }

    /// Adds `--name=value`. In one piece, so that no value can be taken for an option.
    pub(crate) fn option(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let mut argument = OsString::from(name);
        argument.push("=");
        argument.push(value);
        self.options.push(argument);
        self
    }

    /// Adds the option once for each value.
    pub(crate) fn options<T: AsRef<OsStr>>(
        self,
        name: &str,
        values: impl IntoIterator<Item = T>,
    ) -> Self {
        values.into_iter().fold(self, |arguments, value| arguments.option(name, value))
    }

    /// Adds what stands behind `--`, where nothing is taken for an option.
    pub(crate) fn operands<T: AsRef<OsStr>>(mut self, values: impl IntoIterator<Item = T>) -> Self {
        let values = values.into_iter().map(|value| value.as_ref().to_owned());
        self.operands.extend(values);
        self
    }

    /// Adds the limits of the repository.
    fn limited(self, repository: &Repository) -> Self {
        let text = |limit: Option<u32>| limit.map(|kib| kib.to_string());
        self.options("--limit-upload", text(repository.limit_upload_kib))
            .options("--limit-download", text(repository.limit_download_kib))
    }

    /// All of them, in order.
    fn into_words(self) -> Vec<OsString> {
        let mut words = self.options;
        if !self.operands.is_empty() {
            words.push("--".into());
            words.extend(self.operands);
        }
        words
    }

    #[cfg(test)]
    pub(crate) fn to_text(&self) -> String {
        let words = self.clone().into_words();
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }
}

/// What an operation wants done with a message: `Some` event for the sink, or nothing.
pub(crate) type OnMessage<'a> = &'a mut (dyn FnMut(Stream, Message) -> Option<Event> + Send);

/// One call, ready to run.
pub(crate) struct Call<'a> {
    pub(crate) restic: &'a Restic,
    pub(crate) repository: &'a Repository,
    pub(crate) arguments: Arguments,
    pub(crate) stdout: Stdout,
}

/// What came of a call that was started.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) exit: Exit,
    /// Everything on stderr that may matter. Not redacted.
    pub(crate) evidence: Evidence,
    stopped: Option<Stopped>,
    killed_pid: Option<u32>,
    document: Option<Vec<u8>>,
    redactor: Redactor,
}

impl Call<'_> {
    /// Runs it to its end.
    pub(crate) async fn run(
        self,
        sink: Sink<'_>,
        cancel: &CancellationToken,
        on_message: OnMessage<'_>,
    ) -> Result<Finished, Failure> {
        self.run_watched(None, sink, cancel, on_message).await
    }

    /// Runs it to its end, and ends it once neither bytes nor files have moved for as long as `stall`.
    pub(crate) async fn run_watched(
        self,
        stall: Option<Duration>,
        sink: Sink<'_>,
        cancel: &CancellationToken,
        on_message: OnMessage<'_>,
    ) -> Result<Finished, Failure> {
        self.repository.validate()?;
        if cancel.is_cancelled() {
            return Err(Failure::cancelled());
        }
        let redactor = self.repository.redactor();
        let patience = self.restic.timing.patience;
        let stop = cancel.child_token();
        let mut running = self.start(stop.clone()).await?;
        let pid = running.pid;
        sink(Event::Started { pid });

        let mut conversation = Conversation {
            redactor: &redactor,
            watchdog: Watchdog::new(patience, Instant::now()),
            stall: Stall::new(stall, Instant::now()),
            evidence: Evidence::default(),
            document: None,
            sink,
            on_message,
        };
        let gave_up = conversation.follow(&mut running, &stop).await;
        let Conversation { evidence, document, .. } = conversation;
        let ended = running.wait().await.map_err(|error| {
            Failure::new(FailureKind::Other, format!("lost sight of restic: {error}"))
        })?;
        Ok(Finished {
            exit: ended.exit,
            evidence,
            stopped: if cancel.is_cancelled() { Some(Stopped::Cancelled) } else { gave_up },
            killed_pid: matches!(ended.exit, Exit::Signal(_)).then_some(pid).or_else(|| {
                // On Windows a kill shows in no exit status.
                ended.was_killed.then_some(pid)
            }),
            document,
            redactor,
        })
    }

    async fn start(self, stop: CancellationToken) -> Result<Running, Failure> {
        let Restic { program, timing, processes, .. } = self.restic;
        let mut command = Command::new(program);
        command
            .args(self.arguments.limited(self.repository).into_words())
            .env_clear()
            .envs(self.repository.environment());
        process::start(command, self.stdout, stop, timing.grace, processes).await.map_err(|error| {
            let text = format!("failed to start {}: {error}", program.display());
            Failure::new(FailureKind::ProgramUnusable, text)
        })
    }
}

/// An ended process that there never was, for [`crate::replay`]: all of standard output came before
/// standard error.
pub(crate) fn replay(
    recorded: &Recorded<'_>,
    stdout: Stdout,
    on_message: OnMessage<'_>,
) -> Finished {
    let repository = Repository::new("/srv/repo", "password", "/var/cache/restic");
    let redactor = repository.redactor();
    let mut sink = |event| drop(event);
    let mut conversation = Conversation {
        redactor: &redactor,
        watchdog: Watchdog::new(Duration::from_mins(5), Instant::now()),
        stall: Stall::new(None, Instant::now()),
        evidence: Evidence::default(),
        document: None,
        sink: &mut sink,
        on_message,
    };
    match stdout {
        Stdout::Lines => conversation.handle_lines(Stream::Stdout, recorded.stdout),
        Stdout::Document => conversation.document = Some(recorded.stdout.to_vec()),
    }
    conversation.handle_lines(Stream::Stderr, recorded.stderr);
    let Conversation { evidence, document, .. } = conversation;
    let (exit, stopped, killed_pid) = (recorded.exit, None, None);
    Finished { exit, evidence, stopped, killed_pid, document, redactor }
}

/// What is said while the process runs.
struct Conversation<'a> {
    redactor: &'a Redactor,
    watchdog: Watchdog,
    stall: Stall,
    evidence: Evidence,
    document: Option<Vec<u8>>,
    sink: Sink<'a>,
    on_message: OnMessage<'a>,
}

impl Conversation<'_> {
    /// Reads to the end of the output. Returns why the process was stopped, if it was.
    async fn follow(&mut self, running: &mut Running, stop: &CancellationToken) -> Option<Stopped> {
        let mut gave_up = None;
        loop {
            let deadline = self.poll_deadline().filter(|_| gave_up.is_none());
            let output = tokio::select! {
                output = running.next_output() => output,
                () = sleep_until(deadline.map(|(at, _)| at)) => {
                    gave_up = deadline.map(|(_, why)| why);
                    if let Some(Stopped::Stalled(quiet)) = gave_up {
                        let traces = traces::of(running.pid);
                        (self.sink)(Event::Stalled { quiet, traces });
                    }
                    stop.cancel();
                    continue;
                }
            };
            match output {
                Some(Output::Line(stream, line)) => self.handle_line(stream, &line),
                Some(Output::Document(document)) => self.document = document,
                None => return gave_up,
            }
        }
    }

    /// When to stop the process, as things stand, and why.
    fn poll_deadline(&self) -> Option<(Instant, Stopped)> {
        let unreachable = self.watchdog.poll_deadline().map(|at| (at, Stopped::Unreachable));
        let stalled = self.stall.poll_deadline().map(|(at, quiet)| (at, Stopped::Stalled(quiet)));
        unreachable.into_iter().chain(stalled).min_by_key(|(at, _)| *at)
    }

    fn handle_lines(&mut self, stream: Stream, text: &[u8]) {
        for line in text.split(|&byte| byte == b'\n') {
            self.handle_line(stream, line);
        }
    }

    fn handle_line(&mut self, stream: Stream, line: &[u8]) {
        let Some(mut message) = parse_line(line) else {
            return;
        };
        if stream == Stream::Stderr {
            self.evidence.add(&message);
            self.handle_notice(&message);
        }
        redact(&mut message, self.redactor);
        let Some(event) = (self.on_message)(stream, message) else {
            return;
        };
        if let Event::Progress(progress) = &event {
            self.watchdog.handle_progress(progress.mark(), Instant::now());
            self.stall.handle_progress(progress, Instant::now());
        }
        if let Event::ItemError(_) = &event {
            self.stall.handle_step(Instant::now());
        }
        (self.sink)(event);
    }

    /// Retry notices are text, or an error without an item where a check prints JSON.
    fn handle_notice(&mut self, message: &Message) {
        let Some((line, notice)) = notice_in(message) else {
            return;
        };
        let now = Instant::now();
        match self.watchdog.handle_notice(notice, line, now) {
            Some(Change::BecameUnreachable) => {
                let line = self.redactor.redact(line);
                (self.sink)(Event::Unreachable { line });
            }
            Some(Change::BecameReachable) => (self.sink)(Event::Reachable),
            None => {}
        }
    }
}

/// The retry notice in a message, if it is one.
pub(crate) fn notice_in(message: &Message) -> Option<(&str, Notice)> {
    let line = match message {
        Message::Text(line) => line,
        Message::Error(error) if error.item.is_none() => &error.message,
        Message::Error(_)
        | Message::Status(_)
        | Message::Summary(_)
        | Message::ExitError(_)
        | Message::Initialized(_)
        | Message::Snapshot(_)
        | Message::Node(_)
        | Message::Unknown { .. } => return None,
    };
    Notice::of(line).map(|notice| (line.as_str(), notice))
}

/// The event for a message that the operation has no use for: text goes into the log, and so does
/// what a newer restic may have to say.
pub(crate) fn log(stream: Stream, message: Message) -> Option<Event> {
    let line = match message {
        Message::Text(line) => line,
        Message::Error(error) => match error.item {
            Some(item) => format!("{item}: {}", error.message),
            None => error.message,
        },
        Message::ExitError(error) => error.message.trim().to_owned(),
        Message::Unknown { raw, .. } => raw.to_string(),
        Message::Status(_)
        | Message::Summary(_)
        | Message::Initialized(_)
        | Message::Snapshot(_)
        | Message::Node(_) => return None,
    };
    Some(Event::Log { stream, line })
}

/// Only free text: paths and the like are data. See [`crate::redact`].
fn redact(message: &mut Message, redactor: &Redactor) {
    match message {
        Message::Text(line) => *line = redactor.redact(line),
        Message::Error(error) => error.message = redactor.redact(&error.message),
        Message::ExitError(error) => error.message = redactor.redact(&error.message),
        Message::Initialized(new) => new.repository = redactor.redact(&new.repository),
        Message::Unknown { raw, .. } => redactor.redact_json(raw),
        Message::Status(_) | Message::Summary(_) | Message::Snapshot(_) | Message::Node(_) => {}
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

impl Finished {
    /// Whether restic says that all is well. It does also when it was cancelled too late.
    pub(crate) fn is_success(&self) -> bool {
        self.exit.is_success()
    }

    /// Itself if restic says that all is well, else the failure.
    pub(crate) fn success(self) -> Result<Self, Failure> {
        if self.is_success() { Ok(self) } else { Err(self.into_failure(ItemErrors::default())) }
    }

    /// The failure that the exit code and the text tell of.
    pub(crate) fn into_failure(self, items: ItemErrors) -> Failure {
        let (kind, message) = self.evidence.judge(self.exit, self.stopped);
        Failure {
            kind,
            message: self.redactor.redact(&message),
            exit: Some(self.exit),
            items,
            killed_pid: self.killed_pid,
        }
    }

    /// The failure of a restic that ended well without doing or saying what was asked.
    pub(crate) fn into_other_failure(self, kind: FailureKind, message: &str) -> Failure {
        Failure {
            kind,
            message: self.redactor.redact(message),
            exit: Some(self.exit),
            items: ItemErrors::default(),
            killed_pid: self.killed_pid,
        }
    }

    /// The first JSON value on standard output; `None` if there was no output at all. What stands
    /// behind it is text that some releases add.
    pub(crate) fn into_document<T: serde::de::DeserializeOwned>(
        self,
    ) -> Result<Option<T>, Failure> {
        let Some(bytes) = &self.document else {
            return Err(self.into_other_failure(
                FailureKind::UnexpectedOutput,
                "restic's answer is larger than 64 MiB",
            ));
        };
        match serde_json::Deserializer::from_slice(bytes).into_iter().next() {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(error)) => {
                let text = format!("restic's answer cannot be read: {error}");
                Err(self.into_other_failure(FailureKind::UnexpectedOutput, &text))
            }
        }
    }

    /// As [`Finished::into_document`], where an answer must be there.
    pub(crate) fn into_answer<T: serde::de::DeserializeOwned>(self) -> Result<T, Failure> {
        let exit = self.exit;
        self.into_document()?.ok_or_else(|| Failure {
            exit: Some(exit),
            ..Failure::new(FailureKind::UnexpectedOutput, "restic ended well but gave no answer")
        })
    }
}
