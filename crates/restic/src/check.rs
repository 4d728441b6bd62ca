//! `restic check`.
//!
//! Reading all data takes hours, and restic shows progress of that only in text; the quick check
//! is asked for JSON, which names the broken packs. Releases before 0.18 know text only.

use serde::{Deserialize, Serialize};

use crate::CancelToken;
use crate::call::{self, Arguments, Call, Finished, log, notice_in};
use crate::environment::Repository;
use crate::event::{Event, ItemErrors, Sink, Stream};
use crate::failure::{Failure, FailureKind};
use crate::messages::{Message, null_is_default, parse_text_progress};
use crate::process::Stdout;
use crate::program::Restic;
use crate::replay::Recorded;
use crate::version::{Feature, Version};

/// How thoroughly to check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckRequest {
    /// Which of the stored data to read.
    pub read_data: ReadData,
}

/// Which of the stored data a check reads. Only what is read can be found to be corrupted; that a
/// pack is missing is always found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReadData {
    /// None: only the structure is checked.
    #[default]
    None,
    /// One of several equal parts; the parts together are everything.
    Part {
        /// From 1 to `of`.
        part: u32,
        /// How many parts there are.
        of: u32,
    },
    /// Everything.
    All,
}

impl CheckRequest {
    fn uses_json(self, version: Version) -> bool {
        self.read_data == ReadData::None && version.supports(Feature::CheckJson)
    }

    fn arguments(self, version: Version) -> Result<Arguments, Failure> {
        let arguments = if self.uses_json(version) {
            Arguments::json("check")
        } else {
            Arguments::text("check")
        };
        match self.read_data {
            ReadData::None => Ok(arguments),
            ReadData::All => Ok(arguments.flag("--read-data")),
            ReadData::Part { part, of } if (1..=of).contains(&part) => {
                Ok(arguments.option("--read-data-subset", format!("{part}/{of}")))
            }
            ReadData::Part { part, of } => {
                Err(Failure::invalid(format!("part {part} of {of} does not exist")))
            }
        }
    }
}

/// The verdict of a check that ran to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum CheckOutcome {
    /// No errors were found, as far as was looked.
    Sound(CheckReport),
    /// The repository is damaged.
    Damaged(CheckReport),
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// What is wrong, and restic's advice, in its words. At most [`CheckReport::KEPT`].
    pub findings: Vec<String>,
    /// Damaged packs by id, where restic names them.
    pub broken_packs: Vec<String>,
    /// restic suggests to repair the index.
    pub suggest_repair_index: bool,
    /// There is data that no snapshot needs, as after a cancelled backup. Not an error.
    pub suggest_prune: bool,
}

impl CheckReport {
    /// How many findings are kept; all of them are in the log.
    pub const KEPT: usize = 200;
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Summary {
    #[serde(deserialize_with = "null_is_default")]
    broken_packs: Vec<String>,
    suggest_repair_index: bool,
    suggest_prune: bool,
}

impl Restic {
    /// Checks the repository, under an exclusive lock.
    ///
    /// # Errors
    /// Whatever kept the check from running to its end. A damaged repository is not a failure of
    /// the check but its verdict.
    pub async fn check(
        &self,
        repository: &Repository,
        request: CheckRequest,
        sink: Sink<'_>,
        cancel: &CancelToken,
    ) -> Result<CheckOutcome, Failure> {
        let mut report = CheckReport::default();
        let call = Call {
            restic: self,
            repository,
            arguments: request.arguments(self.version())?,
            stdout: Stdout::Lines,
        };
        let finished =
            call.run(sink, cancel, &mut |stream, message| report.handle(stream, message)).await?;
        report.conclude(finished)
    }
}

/// What the operation makes of an output; see [`crate::replay`].
pub(crate) fn replay(recorded: &Recorded<'_>) -> Result<CheckOutcome, Failure> {
    let mut report = CheckReport::default();
    let finished = call::replay(recorded, Stdout::Lines, &mut |stream, message| {
        report.handle(stream, message)
    });
    report.conclude(finished)
}

impl CheckReport {
    fn handle(&mut self, stream: Stream, message: Message) -> Option<Event> {
        match &message {
            Message::Summary(raw) => {
                let summary = Summary::deserialize(raw).unwrap_or_default();
                self.broken_packs = summary.broken_packs;
                self.suggest_repair_index = summary.suggest_repair_index;
                self.suggest_prune = summary.suggest_prune;
                return None;
            }
            Message::Text(line) if stream == Stream::Stdout => {
                if let Some(progress) = parse_text_progress(line) {
                    return Some(Event::Progress(progress));
                }
            }
            Message::Text(line) => self.add_finding(&message, line),
            Message::Error(error) => self.add_finding(&message, &error.message),
            Message::Status(_)
            | Message::ExitError(_)
            | Message::Initialized(_)
            | Message::Snapshot(_)
            | Message::Node(_)
            | Message::Unknown { .. } => {}
        }
        log(stream, message)
    }

    /// A server that did not answer at first is not a finding.
    fn add_finding(&mut self, message: &Message, text: &str) {
        let is_finding = notice_in(message).is_none() && !text.starts_with("Fatal:");
        if is_finding && self.findings.len() < Self::KEPT {
            self.findings.push(text.to_owned());
        }
    }

    /// The figures come also when the lock was refused, so the exit code is looked at first.
    fn conclude(self, finished: Finished) -> Result<CheckOutcome, Failure> {
        if finished.is_success() {
            return Ok(CheckOutcome::Sound(self));
        }
        let failure = finished.into_failure(ItemErrors::default());
        if failure.kind == FailureKind::Damaged {
            return Ok(CheckOutcome::Damaged(self));
        }
        Err(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::{CheckRequest, ReadData};
    use crate::version::Version;

    const NEW: Version = Version::new(0, 18, 0);

    fn argv(read_data: ReadData, version: Version) -> String {
        let arguments = CheckRequest { read_data }.arguments(version);
        arguments.unwrap().to_text()
    }

    #[test]
    fn argv_is_json_for_the_quick_check_and_text_where_progress_matters() {
        assert_eq!(argv(ReadData::None, NEW), "--json check");
        assert_eq!(argv(ReadData::None, Version::OLDEST), "check");
        assert_eq!(argv(ReadData::All, NEW), "check --read-data");
        assert_eq!(argv(ReadData::Part { part: 2, of: 7 }, NEW), "check --read-data-subset=2/7");
    }

    #[test]
    fn a_part_that_does_not_exist_is_refused() {
        for (part, of) in [(0, 1), (2, 1), (0, 0)] {
            let read_data = ReadData::Part { part, of };
            assert!(CheckRequest { read_data }.arguments(NEW).is_err());
        }
    }
}
