//! `restic ls`: one folder of a snapshot.

use serde::Serialize;

use crate::CancelToken;
use crate::call::{Arguments, Call, log};
use crate::environment::Repository;
use crate::event::Sink;
use crate::failure::{Failure, FailureKind};
use crate::messages::{Message, Node};
use crate::process::Stdout;
use crate::program::Restic;
use crate::request::{SnapshotId, check_snapshot_path};

/// Which folder to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LsRequest {
    /// In which snapshot.
    pub snapshot: SnapshotId,
    /// Its path from the root of the snapshot, `/` for the root itself.
    pub folder: String,
}

impl LsRequest {
    /// The path without slashes at its end.
    fn path(&self) -> &str {
        match self.folder.trim_end_matches('/') {
            "" => "/",
            path => path,
        }
    }

    fn arguments(&self) -> Result<Arguments, Failure> {
        check_snapshot_path(&self.folder)?;
        Ok(Arguments::json("ls").flag("--no-lock").operands([self.snapshot.as_str(), self.path()]))
    }
}

/// One folder of a snapshot. It never changes, so it may be kept for ever.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Listing {
    /// The folder, or the file, that was asked for; absent for the root.
    pub itself: Option<Node>,
    /// What is directly inside.
    pub entries: Vec<Node>,
}

impl Restic {
    /// Lists one folder of a snapshot. Takes no lock.
    ///
    /// # Errors
    /// [`FailureKind::SnapshotNotFound`]; [`FailureKind::PathNotFound`] where restic itself would
    /// give an empty answer and say that all is well.
    pub async fn ls(
        &self,
        repository: &Repository,
        request: &LsRequest,
        sink: Sink<'_>,
        cancel: &CancelToken,
    ) -> Result<Listing, Failure> {
        let path = request.path();
        let mut listing = Listing::default();
        let call = Call {
            restic: self,
            repository,
            arguments: request.arguments()?,
            stdout: Stdout::Lines,
        };
        let finished = call
            .run(sink, cancel, &mut |stream, message| {
                if let Message::Node(node) = message {
                    if node.path == path {
                        listing.itself = Some(*node);
                    } else if is_directly_in(&node.path, path) {
                        listing.entries.push(*node);
                    }
                    return None;
                }
                log(stream, message)
            })
            .await?
            .success()?;
        if listing.itself.is_none() && path != "/" {
            let text = format!("snapshot {} has no {path}", request.snapshot);
            return Err(finished.into_other_failure(FailureKind::PathNotFound, &text));
        }
        Ok(listing)
    }
}

/// restic also prints the folders on the way down to the one that was asked for.
fn is_directly_in(path: &str, folder: &str) -> bool {
    path.rsplit_once('/').is_some_and(|(parent, name)| {
        !name.is_empty() && (parent == folder || (parent.is_empty() && folder == "/"))
    })
}

#[cfg(test)]
mod tests {
    use super::{LsRequest, is_directly_in};
    use crate::request::SnapshotId;

    fn request(folder: &str) -> LsRequest {
        LsRequest { snapshot: SnapshotId::new("36e64d1d").unwrap(), folder: folder.to_owned() }
    }

    #[test]
    fn argv() {
        let arguments = |folder| request(folder).arguments().unwrap().to_text();
        assert_eq!(arguments("/srv/we[ird]*/"), "--json ls --no-lock -- 36e64d1d /srv/we[ird]*");
        assert_eq!(arguments("/"), "--json ls --no-lock -- 36e64d1d /");
        assert!(request("srv").arguments().is_err());
    }

    #[test]
    fn only_direct_children_are_in_a_folder() {
        assert!(is_directly_in("/srv/a", "/srv"));
        assert!(is_directly_in("/srv", "/"));
        for path in ["/srv", "/srv/a/b", "/srvx/a", "/", ""] {
            assert!(!is_directly_in(path, "/srv"), "{path}");
        }
        assert!(!is_directly_in("/", "/"));
    }
}
