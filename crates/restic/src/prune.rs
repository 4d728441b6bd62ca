//! `restic prune`: removes the data that no snapshot uses. It prints text, whatever is asked for.

use serde::Serialize;

use crate::CancelToken;
use crate::call::{self, Arguments, Call, log};
use crate::environment::Repository;
use crate::event::{Event, Sink, Stream};
use crate::failure::Failure;
use crate::messages::{Message, parse_text_progress};
use crate::process::Stdout;
use crate::program::Restic;
use crate::replay::Recorded;

/// How thoroughly to prune.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PruneRequest {
    /// How much unused data may stay because removing it would cost more than it saves.
    pub max_unused: MaxUnused,
    /// Only says what would go.
    pub dry_run: bool,
}

/// How much unused data may stay in a repository.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MaxUnused {
    /// restic's own limit: 5 percent.
    #[default]
    ResticsOwn,
    /// This many percent of the repository, 0 to 100.
    Percent(u8),
    /// Any amount: only packs that are wholly unused go. The cheapest.
    Unlimited,
}

impl PruneRequest {
    fn arguments(self) -> Result<Arguments, Failure> {
        let max_unused = match self.max_unused {
            MaxUnused::ResticsOwn => None,
            MaxUnused::Percent(percent) if percent > 100 => {
                return Err(Failure::invalid(format!(
                    "{percent} percent unused data is more than all"
                )));
            }
            MaxUnused::Percent(percent) => Some(format!("{percent}%")),
            MaxUnused::Unlimited => Some("unlimited".to_owned()),
        };
        let arguments = Arguments::json("prune").options("--max-unused", max_unused);
        Ok(if self.dry_run { arguments.flag("--dry-run") } else { arguments })
    }
}

/// What a prune did, or would do. A figure that restic did not print is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PruneOutcome {
    /// What was written anew, because it shared its pack with something unused.
    pub repacked: Option<Amount>,
    /// What the writing anew removed.
    pub removed_by_repack: Option<Amount>,
    /// What was deleted with its whole pack.
    pub deleted: Option<Amount>,
    /// What was removed in all.
    pub total_removed: Option<Amount>,
    /// What is left.
    pub remaining: Option<Amount>,
    /// Bytes that are unused and stay.
    pub unused_bytes: Option<u64>,
}

/// An amount of data. restic prints it with three decimals, so the bytes are rounded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Pieces of data.
    pub blobs: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Restic {
    /// Prunes the repository, under an exclusive lock.
    ///
    /// # Errors
    /// [`Refused`](crate::FailureKind::Refused) by an append-only server, which leaves some data
    /// stored twice until somebody may delete; and all that can keep a repository from being
    /// written.
    pub async fn prune(
        &self,
        repository: &Repository,
        request: PruneRequest,
        sink: Sink<'_>,
        cancel: &CancelToken,
    ) -> Result<PruneOutcome, Failure> {
        let mut outcome = PruneOutcome::default();
        let call = Call {
            restic: self,
            repository,
            arguments: request.arguments()?,
            stdout: Stdout::Lines,
        };
        call.run(sink, cancel, &mut |stream, message| outcome.handle(stream, message))
            .await?
            .success()?;
        Ok(outcome)
    }
}

/// What the operation makes of an output; see [`crate::replay`].
pub(crate) fn replay(recorded: &Recorded<'_>) -> Result<PruneOutcome, Failure> {
    let mut outcome = PruneOutcome::default();
    let finished = call::replay(recorded, Stdout::Lines, &mut |stream, message| {
        outcome.handle(stream, message)
    });
    finished.success()?;
    Ok(outcome)
}

impl PruneOutcome {
    fn handle(&mut self, stream: Stream, message: Message) -> Option<Event> {
        if let Message::Text(line) = &message
            && stream == Stream::Stdout
        {
            if let Some(progress) = parse_text_progress(line) {
                return Some(Event::Progress(progress));
            }
            self.read_figure(line);
        }
        log(stream, message)
    }

    fn read_figure(&mut self, line: &str) {
        let Some((name, figure)) = line.split_once(':') else {
            return;
        };
        match name {
            "to repack" => self.repacked = parse_amount(figure),
            "this removes" => self.removed_by_repack = parse_amount(figure),
            "to delete" => self.deleted = parse_amount(figure),
            "total prune" => self.total_removed = parse_amount(figure),
            "remaining" => self.remaining = parse_amount(figure),
            "unused size after prune" => {
                let size = figure.split('(').next().unwrap_or(figure);
                self.unused_bytes = parse_size(size);
            }
            _ => {}
        }
    }
}

/// `180 blobs / 200.985 MiB`.
fn parse_amount(figure: &str) -> Option<Amount> {
    let (blobs, size) = figure.split_once(" blobs / ")?;
    Some(Amount { blobs: blobs.trim().parse().ok()?, bytes: parse_size(size)? })
}

/// `200.985 MiB`.
fn parse_size(size: &str) -> Option<u64> {
    let (number, unit) = size.trim().split_once(' ')?;
    let number: f64 = number.parse().ok()?;
    let factor = match unit {
        "B" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        "TiB" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    Some((number * factor).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::{Amount, MaxUnused, PruneOutcome, PruneRequest};

    fn argv(max_unused: MaxUnused, dry_run: bool) -> String {
        let request = PruneRequest { max_unused, dry_run };
        request.arguments().unwrap().to_text()
    }

    #[test]
    fn argv_names_the_limit_only_if_it_is_not_restics_own() {
        assert_eq!(argv(MaxUnused::ResticsOwn, false), "--json prune");
        assert_eq!(argv(MaxUnused::Percent(0), true), "--json prune --max-unused=0% --dry-run");
        assert_eq!(argv(MaxUnused::Unlimited, false), "--json prune --max-unused=unlimited");
    }

    #[test]
    fn figures_are_read_from_text() {
        let mut outcome = PruneOutcome::default();
        for line in [
            "to repack:            12 blobs / 1.500 KiB",
            "remaining:           180 blobs / 200.985 MiB",
            "unused size after prune: 114 B (0.00% of remaining size)",
            "to delete: nonsense",
            "",
        ] {
            outcome.read_figure(line);
        }
        assert_eq!(outcome.repacked, Some(Amount { blobs: 12, bytes: 1536 }));
        assert_eq!(outcome.remaining.unwrap().bytes, 210_748_047);
        assert_eq!(outcome.unused_bytes, Some(114));
        assert_eq!(outcome.deleted, None);
    }
}
