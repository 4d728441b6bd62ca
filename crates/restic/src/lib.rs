//! One typed operation per restic command.
//!
//! restic has no library interface, so it is run as a process. This crate is everything that the
//! rest of the product knows about that process: where it is, what its releases can do, how
//! secrets reach it, what its output means, how it is cancelled, and what went wrong. Callers see
//! typed requests, a stream of [`Event`]s, and an outcome or a [`Failure`] with guidance.
//!
//! ```no_run
//! # async fn example() -> Result<(), restic::Failure> {
//! use restic::{BackupOutcome, BackupRequest, CancelToken, LocateOptions, Repository, Restic};
//!
//! let restic = Restic::locate(&LocateOptions::from_environment(None)).await?;
//! let repository = Repository::new("/srv/repo", "password", "/var/cache/restic");
//! let request = BackupRequest::new("web-1", ["/etc"]);
//! let outcome = restic
//!     .backup(&repository, &request, &mut |event| drop(event), &CancelToken::new())
//!     .await?;
//! match outcome {
//!     BackupOutcome::Completed(summary) => drop(summary.snapshot_id),
//!     BackupOutcome::Partial { unreadable, .. } => drop(unreadable.items),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Rules that hold everywhere:
//! - The exit code and the errors are the truth; a summary may say that all is well when it is not.
//! - What is unknown in restic's output is kept and never fatal.
//! - Secrets go by environment only, into a child whose environment was cleared first. Free text
//!   is redacted before it leaves the crate.
//! - Views that only read take no lock in the repository. A restore does: it reads for long.

mod backup;
mod call;
mod cat_config;
mod check;
mod environment;
mod event;
mod failure;
mod forget;
mod init;
pub mod lines;
mod locate;
mod location;
mod locks;
mod ls;
mod master_key;
pub mod messages;
mod process;
mod program;
mod prune;
mod redact;
#[doc(hidden)]
pub mod replay;
mod request;
mod restore;
mod secret;
mod snapshots;
mod stall;
mod stats;
mod traces;
mod unlock;
mod version;
mod watchdog;

pub use backup::{BackupOutcome, BackupRequest, BackupSummary};
pub use cat_config::RepositoryConfig;
pub use check::{CheckOutcome, CheckReport, CheckRequest, ReadData};
pub use environment::Repository;
pub use event::{Event, ItemError, ItemErrors, Progress, Sink, Step, Stream};
pub use failure::{Exit, Failure, FailureKind, LockHolder, classify};
pub use forget::{
    Bucket, ForgetGroup, ForgetOutcome, ForgetRequest, GroupBy, Keep, Reason, Within,
};
pub use init::InitOutcome;
pub use locate::{LocateOptions, VARIABLE};
pub use location::{LocationError, check_location, is_absolute_path};
pub use locks::Lock;
pub use ls::{Listing, LsRequest};
pub use master_key::{MasterKey, Sealed, Unreadable};
pub use messages::{Node, Snapshot, SnapshotSummary};
pub use program::{Restic, Timing};
pub use prune::{Amount, MaxUnused, PruneOutcome, PruneRequest};
pub use redact::Redactor;
pub use request::SnapshotId;
pub use restore::{RestoreOutcome, RestoreRequest, RestoreSummary, escape_glob};
pub use secret::Secret;
pub use snapshots::SnapshotFilter;
pub use stats::RawDataStats;
/// Cancels an operation: restic is interrupted, given time to remove its lock, then killed.
pub use tokio_util::sync::CancellationToken as CancelToken;
pub use unlock::{OurProcess, OurProcesses, UnlockOutcome};
pub use version::{Feature, Version};
