//! `restic restore`, into a folder that the caller names.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::CancelToken;
use crate::call::{self, Arguments, Call, Finished, log};
use crate::environment::Repository;
use crate::event::{Event, ItemError, ItemErrorCollector, Progress, Sink, Stream};
use crate::failure::{Failure, FailureKind};
use crate::messages::Message;
use crate::process::Stdout;
use crate::program::Restic;
use crate::replay::Recorded;
use crate::request::{SnapshotId, check_path, check_snapshot_path};

/// What to restore, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreRequest {
    /// From which snapshot.
    pub snapshot: SnapshotId,
    /// An absolute path. Everything lands below it under its full path inside the snapshot.
    pub target: PathBuf,
    /// Files and folders, by their paths inside the snapshot; all of it if there is none. They
    /// are taken literally.
    pub includes: Vec<String>,
}

impl RestoreRequest {
    fn arguments(&self) -> Result<Arguments, Failure> {
        check_path("the target of the restore", &self.target)?;
        for include in &self.includes {
            check_snapshot_path(include)?;
        }
        let includes = self.includes.iter().map(|path| escape_glob(path));
        Ok(Arguments::json("restore")
            .option("--target", &self.target)
            .options("--include", includes)
            .operands([&self.snapshot]))
    }
}

/// Escapes a path so that restic takes every character of it literally and not as a pattern.
pub fn escape_glob(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for character in path.chars() {
        if matches!(character, '\\' | '[' | ']' | '*' | '?') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// A restore that restic ended without an error.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RestoreOutcome {
    /// The figures.
    pub summary: RestoreSummary,
    /// What was asked for by name and is not in the target folder now.
    pub missing: Vec<String>,
}

/// The figures of a restore. They are only to be believed when it did not fail: with a full disk
/// restic counts every file as restored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestoreSummary {
    /// Files and folders restored.
    pub files_restored: u64,
    /// Files that were in place already.
    pub files_skipped: u64,
    /// Bytes restored.
    pub bytes_restored: u64,
    /// Bytes that were in place already.
    pub bytes_skipped: u64,
    /// Files to restore.
    pub total_files: u64,
    /// Their bytes.
    pub total_bytes: u64,
    /// The whole message as restic wrote it.
    #[serde(skip_deserializing)]
    pub raw: Value,
}

impl Restic {
    /// Restores into the target folder, under a shared lock: without it a prune could take the
    /// data away half-way.
    ///
    /// # Errors
    /// [`FailureKind::RestoreIncomplete`], [`FailureKind::DiskFull`] or [`FailureKind::Damaged`]
    /// with [`Failure::items`] naming what is not as it was; [`FailureKind::PathNotFound`] if
    /// nothing of what was asked for by name is in the snapshot.
    pub async fn restore(
        &self,
        repository: &Repository,
        request: &RestoreRequest,
        sink: Sink<'_>,
        cancel: &CancelToken,
    ) -> Result<RestoreOutcome, Failure> {
        let mut reading = Reading::default();
        let call = Call {
            restic: self,
            repository,
            arguments: request.arguments()?,
            stdout: Stdout::Lines,
        };
        let finished =
            call.run(sink, cancel, &mut |stream, message| reading.handle(stream, message)).await?;
        reading.conclude(finished, request).await
    }
}

/// What the operation makes of an output; see [`crate::replay`].
pub(crate) fn replay(recorded: &Recorded<'_>) -> Result<RestoreSummary, Failure> {
    let mut reading = Reading::default();
    let finished = call::replay(recorded, Stdout::Lines, &mut |stream, message| {
        reading.handle(stream, message)
    });
    Ok(reading.verdict(finished)?.0)
}

#[derive(Default)]
struct Reading {
    summary: RestoreSummary,
    errors: ItemErrorCollector,
}

impl Reading {
    fn handle(&mut self, stream: Stream, message: Message) -> Option<Event> {
        match message {
            Message::Status(status) => Some(Event::Progress(Progress::of_restore(&status))),
            Message::Summary(raw) => {
                let summary = RestoreSummary::deserialize(&raw).unwrap_or_default();
                self.summary = RestoreSummary { raw, ..summary };
                None
            }
            Message::Error(error) => match error.to_item_error() {
                Some(item) => self.errors.add(&item).then_some(Event::ItemError(item)),
                None => log(stream, Message::Error(error)),
            },
            Message::Text(line) => match failed_item(&line) {
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

    async fn conclude(
        self,
        finished: Finished,
        request: &RestoreRequest,
    ) -> Result<RestoreOutcome, Failure> {
        let (summary, finished) = self.verdict(finished)?;
        let missing = missing(&request.target, &request.includes).await;
        if !request.includes.is_empty() && missing.len() == request.includes.len() {
            let text = format!("snapshot {} has nothing of that", request.snapshot);
            return Err(finished.into_other_failure(FailureKind::PathNotFound, &text));
        }
        Ok(RestoreOutcome { summary, missing })
    }

    /// What restic says; whether all that was asked for is there is another matter.
    fn verdict(self, finished: Finished) -> Result<(RestoreSummary, Finished), Failure> {
        let items = self.errors.finish();
        if !finished.is_success() || !items.is_empty() {
            let has_items = !items.is_empty();
            let mut failure = finished.into_failure(items);
            if has_items && failure.kind == FailureKind::Other {
                failure.kind = FailureKind::RestoreIncomplete;
            }
            return Err(failure);
        }
        Ok((self.summary, finished))
    }
}

/// Compares what was asked for with what is there.
async fn missing(target: &Path, includes: &[String]) -> Vec<String> {
    let mut missing = Vec::new();
    for include in includes {
        let path = target.join(include.trim_start_matches('/'));
        if tokio::fs::symlink_metadata(path).await.is_err() {
            missing.push(include.clone());
        }
    }
    missing
}

/// `ignoring error for /path: cause`, as releases before 0.17.1 tell it.
fn failed_item(line: &str) -> Option<ItemError> {
    let (path, message) = line.strip_prefix("ignoring error for ")?.split_once(": ")?;
    Some(ItemError {
        path: path.to_owned(),
        message: message.to_owned(),
        during: "restore".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::{RestoreRequest, escape_glob};
    use crate::request::SnapshotId;

    fn request(target: &str, includes: &[&str]) -> RestoreRequest {
        RestoreRequest {
            snapshot: SnapshotId::new("36e64d1d").unwrap(),
            target: target.into(),
            includes: includes.iter().map(|&path| path.to_owned()).collect(),
        }
    }

    #[test]
    fn argv() {
        assert_eq!(
            request("/restore/1", &["/srv/a*b", "/etc"]).arguments().unwrap().to_text(),
            r"--json restore --target=/restore/1 --include=/srv/a\*b --include=/etc -- 36e64d1d"
        );
        assert!(request("restore", &[]).arguments().is_err());
        assert!(request("/restore", &["etc"]).arguments().is_err());
    }

    #[test]
    fn every_character_with_a_meaning_is_escaped() {
        assert_eq!(escape_glob(r"/we[ird]*\name?"), r"/we\[ird\]\*\\name\?");
        assert_eq!(escape_glob("/plain (1)/{a}!"), "/plain (1)/{a}!");
    }
}
