//! `restic snapshots`.

use crate::CancelToken;
use crate::call::{Arguments, Call, log};
use crate::environment::Repository;
use crate::event::Sink;
use crate::failure::{Failure, FailureKind};
use crate::messages::Snapshot;
use crate::process::Stdout;
use crate::program::Restic;
use crate::request::{SnapshotId, check_tags, check_text};

/// Which snapshots to list. The default lists all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotFilter {
    /// Only those of this host.
    pub host: Option<String>,
    /// Only those with all of these tags.
    pub tags: Vec<String>,
    /// Only these.
    pub ids: Vec<SnapshotId>,
}

impl SnapshotFilter {
    fn arguments(&self) -> Result<Arguments, Failure> {
        if let Some(host) = &self.host {
            check_text("the host", host)?;
        }
        check_tags(&self.tags)?;
        // In a filter, tags behind one another with commas must all be there.
        let tags = (!self.tags.is_empty()).then(|| self.tags.join(","));
        Ok(Arguments::json("snapshots")
            .flag("--no-lock")
            .options("--host", &self.host)
            .options("--tag", tags)
            .operands(&self.ids))
    }
}

impl Restic {
    /// Lists snapshots, oldest first. Takes no lock.
    ///
    /// # Errors
    /// [`FailureKind::SnapshotNotFound`] if one that was asked for by id is not there, although
    /// restic itself would give the others and say that all is well.
    pub async fn snapshots(
        &self,
        repository: &Repository,
        filter: &SnapshotFilter,
        sink: Sink<'_>,
        cancel: &CancelToken,
    ) -> Result<Vec<Snapshot>, Failure> {
        let call = Call {
            restic: self,
            repository,
            arguments: filter.arguments()?,
            stdout: Stdout::Document,
        };
        let finished = call.run(sink, cancel, &mut log).await?.success()?;
        let snapshots: Vec<Snapshot> = finished.into_answer()?;
        match filter.ids.iter().find(|id| !contains(&snapshots, id)) {
            None => Ok(snapshots),
            Some(id) => Err(Failure::new(
                FailureKind::SnapshotNotFound,
                format!("there is no snapshot {id}"),
            )),
        }
    }
}

fn contains(snapshots: &[Snapshot], id: &SnapshotId) -> bool {
    snapshots.iter().any(|snapshot| snapshot.id.starts_with(id.as_str()))
}

#[cfg(test)]
mod tests {
    use super::SnapshotFilter;
    use crate::request::SnapshotId;

    #[test]
    fn argv() {
        let arguments = |filter: SnapshotFilter| filter.arguments().unwrap().to_text();
        assert_eq!(arguments(SnapshotFilter::default()), "--json snapshots --no-lock");
        assert_eq!(
            arguments(SnapshotFilter {
                host: Some("web-1".to_owned()),
                tags: vec!["plan:1".to_owned(), "run:2".to_owned()],
                ids: vec![SnapshotId::new("36e64d1d").unwrap()],
            }),
            "--json snapshots --no-lock --host=web-1 --tag=plan:1,run:2 -- 36e64d1d"
        );
    }
}
