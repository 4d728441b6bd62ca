//! Why an operation did not do what was asked, and what to do about it.
//!
//! Exit codes differ between releases: before 0.17 nearly everything is 1, and 0.18 ends a forget
//! with 0 although the server refused every deletion. So the verdict is made from the exit code
//! *and* the text. The order of the tests is: whether we ended it ourselves, then the exit codes
//! that mean one thing only, then a table of texts, first over restic's last word and then over
//! the last lines of stderr.

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use jiff::Timestamp;
use regex_lite::Regex;
use serde::Serialize;

use crate::event::ItemErrors;
use crate::messages::{Message, parse_line};
use crate::version::Version;
use crate::watchdog::Notice;

/// An operation that failed. Texts are redacted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What went wrong, to decide by.
    pub kind: FailureKind,
    /// What went wrong, to read: restic's own words where there are any.
    pub message: String,
    /// How the process ended; absent if there was none.
    pub exit: Option<Exit>,
    /// What failed file by file, where the operation got that far.
    pub items: ItemErrors,
    /// Set if restic was killed, by us or by somebody else: its process id. A lock of that process
    /// may be left in the repository; see [`Restic::release_own_locks`](crate::Restic::release_own_locks).
    pub killed_pid: Option<u32>,
}

impl Failure {
    /// What ends work that was cancelled before restic was asked.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(FailureKind::Cancelled, "cancelled")
    }

    /// A failure without a process.
    pub(crate) fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            exit: None,
            items: ItemErrors::default(),
            killed_pid: None,
        }
    }

    /// A request that must not reach restic.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(FailureKind::InvalidRequest, message)
    }

    /// What the reader can do, in whole sentences.
    pub fn guidance(&self) -> &'static str {
        self.kind.guidance()
    }
}

/// The kinds of failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// No restic where it was looked for.
    ProgramNotFound,
    /// A restic older than [`Version::OLDEST`].
    ProgramTooOld {
        /// What was found, as text.
        found: String,
    },
    /// The program could not be started, or is not restic.
    ProgramUnusable,
    /// The request makes no sense or would be dangerous; nothing was started.
    InvalidRequest,
    /// There is no repository at that place.
    NoRepository,
    /// There is one already, so none can be made.
    RepositoryExists,
    /// The place cannot be read as a repository location.
    BadLocation,
    /// The repository does not open with this password.
    WrongPassword,
    /// Somebody else holds a lock.
    Locked(Box<LockHolder>),
    /// The repository did not answer.
    Unreachable,
    /// Neither bytes nor files moved for longer than allowed.
    Stalled,
    /// The server does not know the user or the password.
    Unauthorized,
    /// The server refused to delete or overwrite, as an append-only server does.
    Refused,
    /// Nobody that this machine trusts signed the server's certificate.
    UnknownCertificate,
    /// One side speaks HTTP, the other HTTPS.
    WrongProtocol,
    /// The file with the certificate authority cannot be read.
    CertificateFileUnreadable,
    /// Nothing of what should be backed up exists.
    SourceMissing,
    /// No space is left on a disk of this machine, or of the repository if that is a folder.
    DiskFull,
    /// The server has no space left, or the quota is used up.
    QuotaFull,
    /// The repository is damaged.
    Damaged,
    /// There is no such snapshot.
    SnapshotNotFound,
    /// The snapshot has no such file or folder.
    PathNotFound,
    /// The cache folder cannot be used.
    CacheUnusable,
    /// This machine did not let restic read or write.
    PermissionDenied,
    /// Some of the files could not be restored; see [`Failure::items`].
    RestoreIncomplete,
    /// It was cancelled by the caller.
    Cancelled,
    /// restic ended by a signal that was not ours.
    Killed,
    /// restic said that all is well, but not what was asked for.
    UnexpectedOutput,
    /// Anything else.
    Other,
}

impl FailureKind {
    /// A stable name, for storage and for branching on.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::ProgramNotFound => "program_not_found",
            Self::ProgramTooOld { .. } => "program_too_old",
            Self::ProgramUnusable => "program_unusable",
            Self::InvalidRequest => "invalid_request",
            Self::NoRepository => "no_repository",
            Self::RepositoryExists => "repository_exists",
            Self::BadLocation => "bad_location",
            Self::WrongPassword => "wrong_password",
            Self::Locked(_) => "locked",
            Self::Unreachable => "unreachable",
            Self::Stalled => "stalled",
            Self::Unauthorized => "unauthorized",
            Self::Refused => "refused",
            Self::UnknownCertificate => "unknown_certificate",
            Self::WrongProtocol => "wrong_protocol",
            Self::CertificateFileUnreadable => "certificate_file_unreadable",
            Self::SourceMissing => "source_missing",
            Self::DiskFull => "disk_full",
            Self::QuotaFull => "quota_full",
            Self::Damaged => "damaged",
            Self::SnapshotNotFound => "snapshot_not_found",
            Self::PathNotFound => "path_not_found",
            Self::CacheUnusable => "cache_unusable",
            Self::PermissionDenied => "permission_denied",
            Self::RestoreIncomplete => "restore_incomplete",
            Self::Cancelled => "cancelled",
            Self::Killed => "killed",
            Self::UnexpectedOutput => "unexpected_output",
            Self::Other => "other",
        }
    }

    /// What the reader can do, in whole sentences.
    pub const fn guidance(&self) -> &'static str {
        match self {
            Self::ProgramNotFound => {
                "Install restic 0.17 or newer from your distribution or from \
                 https://github.com/restic/restic/releases, or set RESTIC_MANAGER_RESTIC to its \
                 path and start the program again."
            }
            Self::ProgramTooOld { .. } => {
                "Install restic 0.17 or newer (0.16.1 is the oldest that works) from \
                 https://github.com/restic/restic/releases; distributions often carry older ones."
            }
            Self::ProgramUnusable => {
                "Check that the path leads to restic and that this user may run it."
            }
            Self::InvalidRequest => "Nothing was started. Correct the request and try again.",
            Self::NoRepository => {
                "Check the location. If the repository is new, initialise it first."
            }
            Self::RepositoryExists => {
                "Nothing was changed. Use the repository that is there, or choose another place."
            }
            Self::BadLocation => {
                "Correct the location of the repository. User and password do not belong in it."
            }
            Self::WrongPassword => {
                "Nothing was changed. Enter the password with which the repository was made; \
                 without it the data cannot be read by anybody."
            }
            Self::Locked(_) => {
                "Wait until the other run has ended. If the named process on the named machine has \
                 ended and its lock is still there, a person with the repository's location and \
                 password removes it by hand: restic unlock --remove-all."
            }
            Self::Unreachable => {
                "Check the network and the server. What was uploaded already is not lost, and the \
                 next run tries again."
            }
            Self::Stalled => {
                "Look at what restic was waiting for: the run's log names its connections and open \
                 files. What was uploaded already is not lost, and the next run tries again."
            }
            Self::Unauthorized => {
                "Check the user name and the password for the server, and that this user may use \
                 this path."
            }
            Self::Refused => {
                "The server takes new data only. Forget and prune have to run with credentials \
                 that may delete. Nothing was removed."
            }
            Self::UnknownCertificate => {
                "Give the certificate authority of the server, or correct the server's \
                 certificate. Do not switch the check off."
            }
            Self::WrongProtocol => "Check whether the location has to begin with http or https.",
            Self::CertificateFileUnreadable => {
                "Check that the file with the certificate authority exists and can be read."
            }
            Self::SourceMissing => {
                "No snapshot was made. Check that the folders exist and that their disk is mounted."
            }
            Self::DiskFull => "Free some space and run it again.",
            Self::QuotaFull => {
                "Free space on the server, raise the quota, or keep fewer snapshots and prune."
            }
            Self::Damaged => {
                "Keep the repository as it is, make no new backups into it, and follow \
                 https://restic.readthedocs.io/en/stable/077_troubleshooting.html."
            }
            Self::SnapshotNotFound => {
                "It may have been forgotten since the list was read. Read the list again."
            }
            Self::PathNotFound => "The snapshot has nothing there. Check the spelling.",
            Self::CacheUnusable => "Check that the cache folder exists and can be written.",
            Self::PermissionDenied => {
                "Run it as a user that may read or write there, or change the permissions."
            }
            Self::RestoreIncomplete => {
                "What could be restored is in the target folder. The files listed here are missing \
                 or incomplete."
            }
            Self::Cancelled => "Nothing more was done after that. Run it again when it suits.",
            Self::Killed => {
                "Something else on that machine ended restic, perhaps for want of memory. A lock \
                 may be left in the repository."
            }
            Self::UnexpectedOutput | Self::Other => "See the log of this run for details.",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// Whether all went well.
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// Who holds the lock, as far as restic told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LockHolder {
    /// The machine.
    pub hostname: String,
    /// The user on it.
    pub username: String,
    /// The process.
    pub pid: Option<u32>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// The first digits of the lock's id.
    pub lock_id: String,
    /// Whether it keeps everybody else out, also readers.
    pub exclusive: bool,
}

/// Why we ended the process ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopped {
    Cancelled,
    Unreachable,
    /// Nothing had moved for so long.
    Stalled(Duration),
}

/// What a failed process left to judge by. Not redacted: it never leaves the crate.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    last_word: Option<String>,
    tail: std::collections::VecDeque<String>,
}

/// How many lines of stderr are looked at.
const TAIL: usize = 20;

impl Evidence {
    /// Takes a message from stderr.
    pub(crate) fn add(&mut self, message: &Message) {
        match message {
            Message::ExitError(error) => self.last_word = Some(error.message.clone()),
            // A file that a backup could not read is never why the backup as a whole failed.
            Message::Error(error) if matches!(error.during.as_str(), "scan" | "archival") => {}
            Message::Error(error) => self.push(error.message.clone()),
            Message::Text(line) => self.push(line.clone()),
            Message::Status(_)
            | Message::Summary(_)
            | Message::Initialized(_)
            | Message::Snapshot(_)
            | Message::Node(_)
            | Message::Unknown { .. } => {}
        }
    }

    fn push(&mut self, line: String) {
        if is_stack_trace(&line) {
            return;
        }
        // What was overcome by a retry is not the cause of what came later.
        if Notice::of(&line) == Some(Notice::Recovered) {
            self.tail.retain(|line| Notice::of(line) != Some(Notice::Retry));
            return;
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    /// The lines kept, oldest first.
    pub(crate) fn lines(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.tail.iter().map(String::as_str)
    }

    /// The text to show: restic's last word, or the last lines of stderr, without stack traces.
    fn message(&self) -> String {
        let text = match &self.last_word {
            Some(word) => word.clone(),
            None => {
                let fatal = self.tail.iter().rposition(|line| line.contains("Fatal:"));
                let from = fatal.unwrap_or_else(|| self.tail.len().saturating_sub(3));
                let lines: Vec<&str> = self.lines().skip(from).collect();
                lines.join("\n")
            }
        };
        let kept: Vec<&str> = text.lines().take_while(|line| !is_stack_trace(line)).collect();
        let text = kept.join("\n");
        text.trim().trim_start_matches("Fatal: ").trim().to_owned()
    }

    /// The verdict.
    pub(crate) fn judge(&self, exit: Exit, stopped: Option<Stopped>) -> (FailureKind, String) {
        let kind = self.judge_kind(exit, stopped);
        let mut message = self.message();
        if stopped == Some(Stopped::Cancelled) && kind == FailureKind::Cancelled {
            message = "cancelled".to_owned();
        } else if stopped == Some(Stopped::Unreachable)
            && let Some(line) = self.retry_line()
        {
            message = format!("the repository did not answer: {line}");
        } else if let Some(Stopped::Stalled(quiet)) = stopped {
            message = format!("neither bytes nor files moved for {}", minutes(quiet));
        }
        if message.is_empty() {
            message = format!("restic ended with {exit} and said nothing");
        }
        (kind, message)
    }

    fn retry_line(&self) -> Option<&str> {
        self.lines().rev().find(|line| Notice::of(line) == Some(Notice::Retry))
    }

    fn judge_kind(&self, exit: Exit, stopped: Option<Stopped>) -> FailureKind {
        match stopped {
            Some(Stopped::Cancelled) => return FailureKind::Cancelled,
            Some(Stopped::Unreachable) => {
                return self
                    .retry_line()
                    .and_then(kind_of_text)
                    .unwrap_or(FailureKind::Unreachable);
            }
            Some(Stopped::Stalled(_)) => return FailureKind::Stalled,
            None => {}
        }
        let by_text = || {
            let last_word = self.last_word.as_deref().and_then(kind_of_text);
            last_word.or_else(|| kind_of_lines(&self.tail))
        };
        match exit {
            Exit::Code(10) => FailureKind::NoRepository,
            Exit::Code(11) => FailureKind::Locked(Box::new(self.lock_holder())),
            Exit::Code(12) => FailureKind::WrongPassword,
            Exit::Code(130) => FailureKind::Cancelled,
            Exit::Signal(_) => by_text()
                .filter(|kind| *kind == FailureKind::Cancelled)
                .unwrap_or(FailureKind::Killed),
            Exit::Code(_) => match by_text() {
                Some(FailureKind::Locked(_)) => FailureKind::Locked(Box::new(self.lock_holder())),
                Some(kind) => kind,
                None => FailureKind::Other,
            },
        }
    }

    fn lock_holder(&self) -> LockHolder {
        let mut text = self.last_word.clone().unwrap_or_default();
        for line in &self.tail {
            text.push('\n');
            text.push_str(line);
        }
        parse_lock_holder(&text).unwrap_or_default()
    }
}

fn minutes(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} seconds"),
        seconds => format!("{} minutes", seconds / 60),
    }
}

/// Judges an exit code and the whole of stderr, as an operation does. For tests and fuzzing.
pub fn classify(exit: Exit, stderr: &[u8]) -> Failure {
    let mut evidence = Evidence::default();
    for line in stderr.split(|&byte| byte == b'\n') {
        if let Some(message) = parse_line(line) {
            evidence.add(&message);
        }
    }
    let (kind, message) = evidence.judge(exit, None);
    Failure { exit: Some(exit), ..Failure::new(kind, message) }
}

/// Text to kind, most telling first. Several releases add "Is there a repository at the following
/// location?" to every failure to open one, so that stands behind what has a cause of its own.
const TEXTS: &[(&str, FailureKind)] = &[
    ("parsing repository location failed", FailureKind::BadLocation),
    ("unexpected HTTP response (401)", FailureKind::Unauthorized),
    ("server response unexpected: 401", FailureKind::Unauthorized),
    ("(403): 403 Forbidden", FailureKind::Refused),
    ("server response: 403", FailureKind::Refused),
    ("507 Insufficient Storage", FailureKind::QuotaFull),
    ("no space left on device", FailureKind::DiskFull),
    ("not enough space on the disk", FailureKind::DiskFull),
    ("certificate signed by unknown authority", FailureKind::UnknownCertificate),
    ("failed to verify certificate", FailureKind::UnknownCertificate),
    ("unable to read root certificate", FailureKind::CertificateFileUnreadable),
    ("server gave HTTP response to HTTPS client", FailureKind::WrongProtocol),
    ("unexpected HTTP response (400): 400 Bad Request", FailureKind::WrongProtocol),
    ("unsupported protocol scheme", FailureKind::BadLocation),
    ("invalid backend", FailureKind::BadLocation),
    ("connection refused", FailureKind::Unreachable),
    ("connection reset", FailureKind::Unreachable),
    ("no such host", FailureKind::Unreachable),
    ("network is unreachable", FailureKind::Unreachable),
    ("no route to host", FailureKind::Unreachable),
    ("i/o timeout", FailureKind::Unreachable),
    ("wrong password or no key found", FailureKind::WrongPassword),
    ("an empty password is not", FailureKind::WrongPassword),
    ("unable to open cache", FailureKind::CacheUnusable),
    ("config file already exists", FailureKind::RepositoryExists),
    ("directories/files do not exist", FailureKind::SourceMissing),
    ("nothing to backup", FailureKind::SourceMissing),
    ("no matching ID found for prefix", FailureKind::SnapshotNotFound),
    ("no snapshot found", FailureKind::SnapshotNotFound),
    ("repository contains errors", FailureKind::Damaged),
    ("ciphertext verification failed", FailureKind::Damaged),
    ("is damaged", FailureKind::Damaged),
    ("packs from index missing", FailureKind::Damaged),
    ("unable to remove snapshot/", FailureKind::Refused),
    ("permission denied", FailureKind::PermissionDenied),
    ("Access is denied", FailureKind::PermissionDenied),
    ("Is there a repository at the following location", FailureKind::NoRepository),
    ("repository does not exist", FailureKind::NoRepository),
    ("context canceled", FailureKind::Cancelled),
    ("signal interrupt received", FailureKind::Cancelled),
];

fn kind_of_text(text: &str) -> Option<FailureKind> {
    if text.contains("repository is already locked") {
        return Some(FailureKind::Locked(Box::default()));
    }
    if is_missing_snapshot(text) {
        return Some(FailureKind::SnapshotNotFound);
    }
    TEXTS.iter().find(|(pattern, _)| text.contains(pattern)).map(|(_, kind)| kind.clone())
}

/// Whether the text says that a snapshot is not there. A short id is looked for in the list; a full
/// one is loaded at once, which fails in the words of the back end.
pub(crate) fn is_missing_snapshot(text: &str) -> bool {
    let is_missing = |text: &str| {
        ["no such file or directory", "does not exist", "(404)"]
            .iter()
            .any(|words| text.contains(words))
    };
    text.contains("no matching ID found for prefix")
        || text.split_once("failed to load snapshot").is_some_and(|(_, cause)| is_missing(cause))
}

fn kind_of_lines(lines: &std::collections::VecDeque<String>) -> Option<FailureKind> {
    let all: Vec<&str> = lines.iter().map(String::as_str).collect();
    kind_of_text(&all.join("\n"))
}

/// Unexpected errors come with a stack trace of the Go runtime from the second line on.
fn is_stack_trace(line: &str) -> bool {
    let line = line.trim_start();
    ["github.com/", "main.", "runtime.", "goroutine "].iter().any(|start| line.starts_with(start))
}

/// Reads `repository is already locked exclusively by PID 743 on web-1 by root (UID 0, GID 0)` and
/// the two lines after it. Times are UTC because the child's time zone is.
fn parse_lock_holder(text: &str) -> Option<LockHolder> {
    static HOLDER: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"already locked (exclusively )?by PID (\d+) on (\S+) by ([^\n(]*)").ok()
    });
    static SINCE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"lock was created at (\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)").ok()
    });
    static LOCK_ID: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"storage ID ([0-9a-f]+)").ok());

    let holder = HOLDER.as_ref()?.captures(text)?;
    let group = |n| holder.get(n).map(|m| m.as_str().trim().to_owned());
    let since = SINCE.as_ref().and_then(|pattern| pattern.captures(text));
    let lock_id = LOCK_ID.as_ref().and_then(|pattern| pattern.captures(text));
    Some(LockHolder {
        exclusive: group(1).is_some(),
        pid: group(2).and_then(|pid| pid.parse().ok()),
        hostname: group(3).unwrap_or_default(),
        username: group(4).unwrap_or_default(),
        since: since.and_then(|m| {
            let (date, time) = (m.get(1)?.as_str(), m.get(2)?.as_str());
            format!("{date}T{time}Z").parse().ok()
        }),
        lock_id: lock_id.and_then(|m| Some(m.get(1)?.as_str().to_owned())).unwrap_or_default(),
    })
}

/// The refusal of a release that is too old, or `Ok`.
pub(crate) fn check_version(version: Version) -> Result<(), Failure> {
    if version.is_accepted() {
        return Ok(());
    }
    Err(Failure::new(
        FailureKind::ProgramTooOld { found: version.to_string() },
        format!("restic {version} is too old: {} is the oldest that works", Version::OLDEST),
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Evidence, Exit, FailureKind, Stopped, classify};
    use crate::messages::parse_line;

    #[test]
    fn the_holder_of_a_lock_is_told_by_host_process_and_time() {
        let failure = classify(
            Exit::Code(1),
            b"unable to create lock in backend: repository is already locked exclusively by PID \
              390 on demo-host by root (UID 0, GID 0)\nlock was created at 2026-11-23 12:39:14 \
              (1.603968537s ago)\nstorage ID 9bf35d0b\n",
        );
        let FailureKind::Locked(holder) = failure.kind else {
            panic!("{failure:?}");
        };
        assert_eq!(holder.hostname, "demo-host");
        assert_eq!(holder.username, "root");
        assert_eq!(holder.pid, Some(390));
        assert_eq!(holder.lock_id, "9bf35d0b");
        assert!(holder.exclusive);
        assert_eq!(holder.since.unwrap().to_string(), "2026-11-23T12:39:14Z");
    }

    #[test]
    fn a_stack_trace_is_not_shown() {
        let failure = classify(
            Exit::Code(1),
            br#"{"message_type":"exit_error","code":1,"message":"unable to open cache: no\ngithub.com/restic/restic/internal/cache.New\n\t/build/x.go:1\nruntime.main"}"#,
        );
        assert_eq!(failure.message, "unable to open cache: no");
        assert_eq!(failure.kind, FailureKind::CacheUnusable);
    }

    #[test]
    fn an_unknown_exit_code_is_a_failure_with_that_code() {
        let failure = classify(Exit::Code(77), b"");
        assert_eq!(failure.kind, FailureKind::Other);
        assert_eq!(failure.exit, Some(Exit::Code(77)));
        assert_eq!(failure.message, "restic ended with exit code 77 and said nothing");
    }

    #[test]
    fn what_a_retry_overcame_is_not_the_cause() {
        let failure = classify(
            Exit::Code(1),
            b"Save(<data/1>) returned error, retrying after 1s: connection refused\n\
              Save(<data/1>) operation successful after 1 retries\n\
              Fatal: something new\n",
        );
        assert_eq!(failure.kind, FailureKind::Other);
        assert_eq!(failure.message, "something new");
    }

    #[test]
    fn our_own_stop_comes_before_every_code_and_text() {
        let mut evidence = Evidence::default();
        let line = b"Save(<data/1>) returned error, retrying after 1s: connection refused";
        evidence.add(&parse_line(line).unwrap());
        let judge = |stopped| evidence.judge(Exit::Code(1), Some(stopped)).0;
        assert_eq!(judge(Stopped::Cancelled), FailureKind::Cancelled);
        assert_eq!(judge(Stopped::Unreachable), FailureKind::Unreachable);
        assert_eq!(judge(Stopped::Stalled(Duration::from_mins(60))), FailureKind::Stalled);
    }

    #[test]
    fn every_kind_has_guidance_in_sentences() {
        for kind in
            [FailureKind::ProgramNotFound, FailureKind::Locked(Box::default()), FailureKind::Other]
        {
            assert!(kind.guidance().ends_with('.'), "{kind}");
        }
    }
}
