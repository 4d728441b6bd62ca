//! `restic forget`: removes snapshots. The data stays until a prune.
//!
//! This is the most dangerous of the commands: with a policy that keeps nothing, some releases
//! delete every snapshot and report success. So a policy that keeps nothing cannot be made to
//! reach restic, and the answer is not believed when the server refused.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::CancelToken;
use crate::call::{self, Arguments, Call, Finished, log};
use crate::environment::Repository;
use crate::event::{Event, ItemError, ItemErrorCollector, Sink, Stream};
use crate::failure::{Failure, is_missing_snapshot};
use crate::messages::{Message, Snapshot, null_is_default};
use crate::process::Stdout;
use crate::program::Restic;
use crate::replay::Recorded;
use crate::request::{SnapshotId, check_tags, check_text};

/// What to forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForgetRequest {
    /// What a policy does not keep.
    Policy {
        /// Only snapshots of this host.
        host: Option<String>,
        /// Only snapshots with all of these tags.
        tags: Vec<String>,
        /// The policy holds for each group by itself.
        group_by: GroupBy,
        /// What stays.
        keep: Keep,
        /// Only says what would go.
        dry_run: bool,
    },
    /// Exactly these, by their full ids.
    Snapshots(Vec<SnapshotId>),
}

/// Which snapshots belong together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupBy {
    /// Same host.
    pub host: bool,
    /// Same paths.
    pub paths: bool,
    /// Same tags.
    pub tags: bool,
}

impl GroupBy {
    /// restic's own default.
    pub const HOST_AND_PATHS: Self = Self { host: true, paths: true, tags: false };

    fn to_argument(self) -> String {
        let parts = [(self.host, "host"), (self.paths, "paths"), (self.tags, "tags")];
        let chosen: Vec<&str> =
            parts.into_iter().filter_map(|(is_chosen, name)| is_chosen.then_some(name)).collect();
        chosen.join(",")
    }
}

/// Spans of which the last snapshot of each is kept. Days and the like are those of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bucket {
    /// Not a span: the newest snapshots.
    Last,
    /// Hours.
    Hourly,
    /// Days.
    Daily,
    /// Weeks from Monday to Sunday.
    Weekly,
    /// Months.
    Monthly,
    /// Years.
    Yearly,
}

impl Bucket {
    const fn option(self) -> &'static str {
        match self {
            Self::Last => "--keep-last",
            Self::Hourly => "--keep-hourly",
            Self::Daily => "--keep-daily",
            Self::Weekly => "--keep-weekly",
            Self::Monthly => "--keep-monthly",
            Self::Yearly => "--keep-yearly",
        }
    }
}

/// A span back from the newest snapshot of the group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Within {
    /// Years.
    pub years: u32,
    /// Months.
    pub months: u32,
    /// Days.
    pub days: u32,
    /// Hours.
    pub hours: u32,
}

impl Within {
    /// Reads restic's own form: numbers, each with `y`, `m`, `d` or `h`, such as `1y5m7d2h`.
    ///
    /// # Errors
    /// [`InvalidRequest`](crate::FailureKind::InvalidRequest) if it is none, or no time at all.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        Self::read(text).ok_or_else(|| {
            Failure::invalid(format!("{text:?} is no span of time such as 1y5m7d2h"))
        })
    }

    fn read(text: &str) -> Option<Self> {
        let mut span = Self::default();
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            let number: u32 = rest.get(..digits)?.parse().ok()?;
            let field = match rest.as_bytes().get(digits)? {
                b'y' => &mut span.years,
                b'm' => &mut span.months,
                b'd' => &mut span.days,
                b'h' => &mut span.hours,
                _ => return None,
            };
            *field = field.checked_add(number)?;
            rest = rest.get(digits + 1..)?;
        }
        (span != Self::default()).then_some(span)
    }

    fn to_argument(self) -> Option<String> {
        let parts = [(self.years, 'y'), (self.months, 'm'), (self.days, 'd'), (self.hours, 'h')];
        let mut text = String::new();
        for (count, unit) in parts.into_iter().filter(|(count, _)| *count > 0) {
            // Writing into a string cannot fail.
            let _ = write!(text, "{count}{unit}");
        }
        (!text.is_empty()).then_some(text)
    }
}

/// What a policy keeps. One that keeps nothing is refused wherever it is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keep {
    counts: BTreeMap<Bucket, u32>,
    within: Within,
}

impl Keep {
    /// Keeps nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Also keeps `count` snapshots of this kind; zero adds nothing.
    ///
    /// # Errors
    /// [`InvalidRequest`](crate::FailureKind::InvalidRequest) if the count is negative, which some releases take for
    /// "delete everything", or too large.
    pub fn with(mut self, bucket: Bucket, count: i64) -> Result<Self, Failure> {
        let count = u32::try_from(count).map_err(|_| {
            let option = bucket.option().trim_start_matches("--");
            Failure::invalid(format!("{option} cannot be {count}"))
        })?;
        if count > 0 {
            self.counts.insert(bucket, count);
        }
        Ok(self)
    }

    /// Also keeps everything within this span.
    #[must_use]
    pub fn with_within(mut self, within: Within) -> Self {
        self.within = within;
        self
    }

    /// Whether it keeps nothing, so that every snapshot would go.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.within == Within::default()
    }
}

impl ForgetRequest {
    fn arguments(&self) -> Result<Arguments, Failure> {
        match self {
            Self::Policy { host, tags, group_by, keep, dry_run } => {
                if keep.is_empty() {
                    return Err(Failure::invalid(
                        "the policy keeps nothing: every snapshot would be deleted",
                    ));
                }
                if let Some(host) = host {
                    check_text("the host", host)?;
                }
                check_tags(tags)?;
                let tags = (!tags.is_empty()).then(|| tags.join(","));
                let mut arguments = Arguments::json("forget")
                    .options("--host", host)
                    .options("--tag", tags)
                    .option("--group-by", group_by.to_argument());
                for (bucket, count) in &keep.counts {
                    arguments = arguments.option(bucket.option(), count.to_string());
                }
                arguments = arguments.options("--keep-within", keep.within.to_argument());
                Ok(if *dry_run { arguments.flag("--dry-run") } else { arguments })
            }
            Self::Snapshots(ids) => {
                if ids.is_empty() {
                    return Err(Failure::invalid("no snapshot to forget is given"));
                }
                if let Some(id) = ids.iter().find(|id| !id.is_full()) {
                    return Err(Failure::invalid(format!(
                        "{id} is not a full id: another snapshot may begin like it"
                    )));
                }
                Ok(Arguments::json("forget").operands(ids))
            }
        }
    }
}

/// What was forgotten, or would be.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ForgetOutcome {
    /// One for each group; none where exact snapshots were named.
    pub groups: Vec<ForgetGroup>,
    /// Snapshots that were named and are not there.
    pub not_found: Vec<SnapshotId>,
}

impl ForgetOutcome {
    /// The ids of the snapshots that went, by policy.
    pub fn removed(&self) -> impl Iterator<Item = &str> {
        let removed = self.groups.iter().flat_map(|group| &group.remove);
        removed.map(|snapshot| snapshot.id.as_str())
    }

    /// How many snapshots stayed, of those that the policy looked at.
    pub fn kept_count(&self) -> usize {
        self.groups.iter().map(|group| group.keep.len()).sum()
    }
}

/// A group of snapshots that a policy looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ForgetGroup {
    /// Their host, if grouped by that.
    #[serde(default)]
    pub host: String,
    /// Their paths, if grouped by that.
    #[serde(default, deserialize_with = "null_is_default")]
    pub paths: Vec<String>,
    /// Their tags, if grouped by that.
    #[serde(default, deserialize_with = "null_is_default")]
    pub tags: Vec<String>,
    /// Those that stay.
    #[serde(default, deserialize_with = "null_is_default")]
    pub keep: Vec<Snapshot>,
    /// Those that go.
    #[serde(default, deserialize_with = "null_is_default")]
    pub remove: Vec<Snapshot>,
    /// Why those that stay do.
    #[serde(default, deserialize_with = "null_is_default")]
    pub reasons: Vec<Reason>,
}

/// Why a snapshot stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// The snapshot, as restic describes it here.
    pub snapshot: Value,
    /// The rules that keep it, in restic's words, such as `last snapshot`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub matches: Vec<String>,
}

impl Restic {
    /// Forgets snapshots. What they alone used is removed by [`Restic::prune`].
    ///
    /// # Errors
    /// [`InvalidRequest`](crate::FailureKind::InvalidRequest) for a policy that keeps nothing.
    /// [`Refused`](crate::FailureKind::Refused) from an append-only server, also where restic says that all is
    /// well; [`Failure::items`] then names the snapshots that are still there.
    pub async fn forget(
        &self,
        repository: &Repository,
        request: &ForgetRequest,
        sink: Sink<'_>,
        cancel: &CancelToken,
    ) -> Result<ForgetOutcome, Failure> {
        let mut reading = Reading::default();
        let call = Call {
            restic: self,
            repository,
            arguments: request.arguments()?,
            stdout: Stdout::Document,
        };
        let finished =
            call.run(sink, cancel, &mut |stream, message| reading.handle(stream, message)).await?;
        reading.conclude(finished, request)
    }
}

/// What the operation makes of an output; see [`crate::replay`].
pub(crate) fn replay(recorded: &Recorded<'_>) -> Result<ForgetOutcome, Failure> {
    let mut reading = Reading::default();
    let finished = call::replay(recorded, Stdout::Document, &mut |stream, message| {
        reading.handle(stream, message)
    });
    reading.conclude(finished, &ForgetRequest::Snapshots(Vec::new()))
}

#[derive(Default)]
struct Reading {
    refused: ItemErrorCollector,
    not_found: Vec<String>,
}

impl Reading {
    fn handle(&mut self, stream: Stream, message: Message) -> Option<Event> {
        if let Message::Text(line) = &message {
            self.read_line(line);
        }
        log(stream, message)
    }

    fn read_line(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("unable to remove snapshot/") {
            let id = rest.split_whitespace().next().unwrap_or(rest);
            self.refuse(id, "is still there");
        }
        // `Ignoring "<id>": <why>`: passed over, which is no failure to restic.
        if let Some(rest) = line.strip_prefix("Ignoring \"")
            && let Some((id, why)) = rest.split_once("\": ")
        {
            if is_missing_snapshot(why) {
                self.not_found.push(id.to_owned());
            } else {
                self.refuse(id, why);
            }
        }
    }

    fn refuse(&mut self, id: &str, why: &str) {
        self.refused.add(&ItemError {
            path: id.to_owned(),
            message: why.to_owned(),
            during: "forget".to_owned(),
        });
    }

    /// 0.18 ends with 0 although the server refused every deletion, and lists the snapshots as
    /// removed all the same; so the notices on stderr come before the exit code.
    fn conclude(
        self,
        finished: Finished,
        request: &ForgetRequest,
    ) -> Result<ForgetOutcome, Failure> {
        let refused = self.refused.finish();
        if !finished.is_success() || !refused.is_empty() {
            return Err(finished.into_failure(refused));
        }
        let not_found = match request {
            ForgetRequest::Policy { .. } => Vec::new(),
            ForgetRequest::Snapshots(ids) => ids
                .iter()
                .filter(|id| self.not_found.iter().any(|missing| missing == id.as_str()))
                .cloned()
                .collect(),
        };
        Ok(ForgetOutcome { groups: finished.into_document()?.unwrap_or_default(), not_found })
    }
}

#[cfg(test)]
mod tests {
    use super::{Bucket, ForgetRequest, GroupBy, Keep, Within};
    use crate::failure::FailureKind;
    use crate::request::SnapshotId;

    fn policy(keep: Keep) -> ForgetRequest {
        ForgetRequest::Policy {
            host: Some("web-1".to_owned()),
            tags: vec!["plan:1".to_owned()],
            group_by: GroupBy::HOST_AND_PATHS,
            keep,
            dry_run: false,
        }
    }

    fn argv(request: &ForgetRequest) -> String {
        request.arguments().unwrap().to_text()
    }

    #[test]
    fn a_span_of_time_is_read_in_restics_form() {
        let span = Within::parse("1y5m7d2h").unwrap();
        assert_eq!((span.years, span.months, span.days, span.hours), (1, 5, 7, 2));
        for wrong in ["", "7", "7x", "d", "-1d", "1d ", "99999999999d", "0d"] {
            assert!(Within::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn argv_of_a_policy() {
        let keep = Keep::new()
            .with(Bucket::Daily, 7)
            .unwrap()
            .with(Bucket::Last, 3)
            .unwrap()
            .with(Bucket::Yearly, 0)
            .unwrap();
        assert_eq!(
            argv(&policy(keep)),
            "--json forget --host=web-1 --tag=plan:1 --group-by=host,paths --keep-last=3 \
             --keep-daily=7"
        );
        let within = Within { years: 1, days: 5, ..Within::default() };
        assert_eq!(
            argv(&ForgetRequest::Policy {
                host: None,
                tags: Vec::new(),
                group_by: GroupBy::default(),
                keep: Keep::new().with_within(within),
                dry_run: true,
            }),
            "--json forget --group-by= --keep-within=1y5d --dry-run"
        );
    }

    #[test]
    fn argv_of_exact_snapshots() {
        let id = "a".repeat(64);
        assert_eq!(
            argv(&ForgetRequest::Snapshots(vec![SnapshotId::new(&id).unwrap()])),
            format!("--json forget -- {id}")
        );
    }

    #[test]
    fn a_policy_that_keeps_nothing_is_refused() {
        let zeros = Keep::new().with(Bucket::Last, 0).unwrap().with_within(Within::default());
        for keep in [Keep::new(), zeros] {
            let failure = policy(keep).arguments().unwrap_err();
            assert_eq!(failure.kind, FailureKind::InvalidRequest);
        }
    }

    #[test]
    fn a_negative_count_is_refused() {
        for count in [-1, i64::MIN, i64::MAX] {
            assert!(Keep::new().with(Bucket::Last, count).is_err());
        }
    }

    #[test]
    fn a_short_id_is_not_enough_to_delete_by() {
        let short = vec![SnapshotId::new("36e64d1d").unwrap()];
        assert!(ForgetRequest::Snapshots(short).arguments().is_err());
        assert!(ForgetRequest::Snapshots(Vec::new()).arguments().is_err());
    }
}
