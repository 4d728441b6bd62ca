//! `restic backup`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::CancelToken;
use crate::call::{self, Arguments, Call, Finished, log};
use crate::environment::Repository;
use crate::event::{Event, ItemError, ItemErrorCollector, ItemErrors, Progress, Sink, Stream};
use crate::failure::{Exit, Failure, FailureKind};
use crate::messages::Message;
use crate::process::Stdout;
use crate::program::Restic;
use crate::replay::Recorded;
use crate::request::{check_path, check_tags, check_text};
use crate::stall;

/// What to back up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackupRequest {
    /// The host under which the snapshot is filed. Always told, so that a machine that is renamed
    /// keeps its history.
    pub host: String,
    /// Absolute paths.
    pub paths: Vec<PathBuf>,
    /// Tags for the snapshot. No commas.
    pub tags: Vec<String>,
    /// Patterns of what to leave out, in restic's form.
    pub excludes: Vec<String>,
    /// Stay on the file systems of the paths.
    pub one_file_system: bool,
    /// Leave out folders with a `CACHEDIR.TAG`.
    pub exclude_caches: bool,
    /// How many files are read at once; restic's own number if absent.
    pub read_concurrency: Option<u16>,
    /// How long to wait for somebody else's lock. restic is silent while it does.
    pub retry_lock: Option<Duration>,
    /// How long neither bytes nor files may move before restic is ended. Waiting for a lock and a slow
    /// upload are allowed for beside it.
    pub stall: Option<Duration>,
}

impl BackupRequest {
    /// A backup of these paths, without tags and excludes.
    pub fn new<P: Into<PathBuf>>(
        host: impl Into<String>,
        paths: impl IntoIterator<Item = P>,
    ) -> Self {
        Self {
            host: host.into(),
            paths: paths.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    fn arguments(&self) -> Result<Arguments, Failure> {
        check_text("the host", &self.host)?;
        check_tags(&self.tags)?;
        for exclude in &self.excludes {
            check_text("an exclude pattern", exclude)?;
        }
        if self.paths.is_empty() {
            return Err(Failure::invalid("no path to back up is given"));
        }
        for path in &self.paths {
            check_path("a path to back up", path)?;
        }
        if self.read_concurrency == Some(0) {
            return Err(Failure::invalid("no file at once cannot be read"));
        }
        let mut arguments = Arguments::json("backup")
            .option("--host", &self.host)
            .options("--tag", &self.tags)
            .options("--exclude", &self.excludes);
        if self.one_file_system {
            arguments = arguments.flag("--one-file-system");
        }
        if self.exclude_caches {
            arguments = arguments.flag("--exclude-caches");
        }
        let at_once = self.read_concurrency.map(|files| files.to_string());
        let wait = self.retry_lock.filter(|wait| !wait.is_zero());
        Ok(arguments
            .options("--read-concurrency", at_once)
            .options("--retry-lock", wait.map(|wait| format!("{}s", wait.as_secs())))
            .operands(&self.paths))
    }

    /// How long nothing may move in all.
    fn patience(&self, repository: &Repository) -> Option<Duration> {
        let upload = repository.limit_upload_kib;
        self.stall.map(|stall| stall::patience(stall, self.retry_lock, upload))
    }
}

/// A backup that wrote a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "completion", rename_all = "snake_case")]
pub enum BackupOutcome {
    /// Everything is in it.
    Completed(BackupSummary),
    /// Some of it is not.
    Partial {
        /// The figures of what is in it.
        summary: BackupSummary,
        /// What is not: unreadable, or a path that does not exist.
        unreadable: ItemErrors,
    },
}

impl BackupOutcome {
    /// The figures.
    pub fn summary(&self) -> &BackupSummary {
        match self {
            Self::Completed(summary) | Self::Partial { summary, .. } => summary,
        }
    }
}

/// The figures of a backup.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BackupSummary {
    /// The new snapshot, 64 hex digits.
    pub snapshot_id: Option<String>,
    /// Files that were not in the snapshot before.
    pub files_new: u64,
    /// Files that had changed.
    pub files_changed: u64,
    /// Files that had not.
    pub files_unmodified: u64,
    /// Files in all.
    pub total_files_processed: u64,
    /// Their bytes.
    pub total_bytes_processed: u64,
    /// Bytes new to the repository, before compression.
    pub data_added: u64,
    /// Bytes new to the repository as stored. Since 0.17.
    pub data_added_packed: Option<u64>,
    /// Seconds.
    pub total_duration: f64,
    /// The whole message as restic wrote it.
    #[serde(skip_deserializing)]
    pub raw: Value,
}

impl BackupSummary {
    fn from_raw(raw: Value) -> Option<Self> {
        let summary = Self::deserialize(&raw).ok()?;
        Some(Self { raw, ..summary })
    }
}

impl Restic {
    /// Makes a snapshot.
    ///
    /// # Errors
    /// [`FailureKind::SourceMissing`] if none of the paths exists, and whatever else kept restic
    /// from writing a snapshot. Files that could not be read are not a failure but
    /// [`BackupOutcome::Partial`].
    pub async fn backup(
        &self,
        repository: &Repository,
        request: &BackupRequest,
        sink: Sink<'_>,
        cancel: &CancelToken,
    ) -> Result<BackupOutcome, Failure> {
        let mut reading = Reading::default();
        let call = Call {
            restic: self,
            repository,
            arguments: request.arguments()?,
            stdout: Stdout::Lines,
        };
        let finished = call
            .run_watched(request.patience(repository), sink, cancel, &mut |stream, message| {
                reading.handle(stream, message)
            })
            .await?;
        reading.conclude(finished)
    }
}

/// What the operation makes of an output; see [`crate::replay`].
pub(crate) fn replay(recorded: &Recorded<'_>) -> Result<BackupOutcome, Failure> {
    let mut reading = Reading::default();
    let finished = call::replay(recorded, Stdout::Lines, &mut |stream, message| {
        reading.handle(stream, message)
    });
    reading.conclude(finished)
}

/// What was read so far.
#[derive(Default)]
struct Reading {
    summary: Option<Value>,
    errors: ItemErrorCollector,
}

impl Reading {
    fn handle(&mut self, stream: Stream, message: Message) -> Option<Event> {
        match message {
            Message::Status(status) => Some(Event::Progress(Progress::of_backup(status))),
            Message::Summary(summary) => {
                self.summary = Some(summary);
                None
            }
            Message::Error(error) => match error.to_item_error() {
                Some(item) => self.errors.add(&item).then_some(Event::ItemError(item)),
                None => log(stream, Message::Error(error)),
            },
            Message::Text(line) => match missing_source(stream, &line) {
                Some(item) => self.errors.add(&item).then_some(Event::ItemError(item)),
                None => log(stream, Message::Text(line)),
            },
            other @ (Message::ExitError(_)
            | Message::Initialized(_)
            | Message::Snapshot(_)
            | Message::Node(_)
            | Message::Unknown { .. }) => log(stream, other),
        }
    }

    /// Exit 3 means that a snapshot was written without some files. Before 0.19 it does not cover
    /// a path that does not exist; there the exit code is 0, and the notice on stderr decides.
    fn conclude(self, finished: Finished) -> Result<BackupOutcome, Failure> {
        let unreadable = self.errors.finish();
        if !matches!(finished.exit, Exit::Code(0 | 3)) {
            return Err(finished.into_failure(unreadable));
        }
        let Some(summary) = self.summary.and_then(BackupSummary::from_raw) else {
            return Err(finished.into_other_failure(
                FailureKind::UnexpectedOutput,
                "restic ended well but did not say which snapshot it made",
            ));
        };
        if finished.is_success() && unreadable.is_empty() {
            Ok(BackupOutcome::Completed(summary))
        } else {
            Ok(BackupOutcome::Partial { summary, unreadable })
        }
    }
}

/// `/path does not exist, skipping`.
fn missing_source(stream: Stream, line: &str) -> Option<ItemError> {
    let path = line.strip_suffix(" does not exist, skipping")?;
    (stream == Stream::Stderr).then(|| ItemError {
        path: path.to_owned(),
        message: "does not exist".to_owned(),
        during: "archival".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::BackupRequest;
    use crate::failure::FailureKind;

    fn request() -> BackupRequest {
        BackupRequest {
            tags: vec!["plan:1".to_owned(), "run:2".to_owned()],
            excludes: vec!["*.tmp".to_owned(), "--x".to_owned()],
            ..BackupRequest::new("web-1", ["/etc", "/srv/-odd name"])
        }
    }

    #[test]
    fn argv() {
        assert_eq!(
            request().arguments().unwrap().to_text(),
            "--json backup --host=web-1 --tag=plan:1 --tag=run:2 --exclude=*.tmp --exclude=--x \
             -- /etc /srv/-odd name"
        );
    }

    #[test]
    fn argv_with_everything() {
        let request = BackupRequest {
            one_file_system: true,
            exclude_caches: true,
            read_concurrency: Some(4),
            retry_lock: Some(Duration::from_mins(10)),
            stall: Some(Duration::from_mins(60)),
            ..BackupRequest::new("web-1", ["/etc"])
        };
        assert_eq!(
            request.arguments().unwrap().to_text(),
            "--json backup --host=web-1 --one-file-system --exclude-caches --read-concurrency=4 \
             --retry-lock=600s -- /etc"
        );
        let unhurried = BackupRequest { retry_lock: Some(Duration::ZERO), ..request };
        assert!(!unhurried.arguments().unwrap().to_text().contains("--retry-lock"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anything_is_started() {
        for request in [
            BackupRequest::new("web-1", Vec::<String>::new()),
            BackupRequest::new("", ["/etc"]),
            BackupRequest::new("web-1", ["etc"]),
            BackupRequest::new("web-1", ["--password-command=x"]),
            BackupRequest { tags: vec!["a,b".to_owned()], ..request() },
            BackupRequest { excludes: vec![String::new()], ..request() },
            BackupRequest { read_concurrency: Some(0), ..request() },
        ] {
            let failure = request.arguments().unwrap_err();
            assert_eq!(failure.kind, FailureKind::InvalidRequest, "{request:?}");
        }
    }
}
