//! What a report of snapshots changes: pages are put together within a bound, and nothing is swapped
//! before all of them are there and agree with the digest.

use jiff::Timestamp;
use protocol::{RepositoryId, Snapshot, SnapshotsReport, snapshots_digest};

/// The longest list that is taken in.
pub const MAX_SNAPSHOTS: usize = 200_000;

/// What the manager has of the repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The digest of its list.
    pub digest: Option<String>,
    /// When this host last read it, by the host's clock.
    pub read_at: Option<Timestamp>,
}

/// What a report changes.
#[derive(Clone, Debug, PartialEq)]
pub enum SnapshotsStep {
    /// Nothing, or nothing yet.
    Nothing,
    /// Both sides agree: note when it was read.
    Agree {
        /// The digest of the list.
        digest: String,
    },
    /// The list is this one.
    Replace {
        /// All snapshots.
        snapshots: Vec<Snapshot>,
        /// Their digest.
        digest: String,
    },
    /// Some came and some went. If the result has another digest, ask for the full list.
    Delta {
        /// What came.
        snapshots: Vec<Snapshot>,
        /// What went.
        removed: Vec<String>,
        /// The digest afterwards.
        digest: String,
    },
    /// Ask for the full list.
    Want,
}

#[derive(Debug)]
struct Pages {
    repository: RepositoryId,
    digest: String,
    next: u32,
    snapshots: Vec<Snapshot>,
}

/// The pages that have come so far; of one list at a time.
#[derive(Debug, Default)]
pub struct Assembly(Option<Pages>);

impl Assembly {
    /// Takes in a report of version 2.
    pub fn handle(
        &mut self,
        repository: RepositoryId,
        report: SnapshotsReport,
        stored: &Stored,
    ) -> SnapshotsStep {
        let is_old = match (report.read_at, stored.read_at) {
            (Some(read_at), Some(stored)) => read_at < stored,
            _ => false,
        };
        let is_sound = report.snapshots.iter().all(has_full_id);
        let Some(digest) = report.digest.clone().filter(|_| !is_old && is_sound) else {
            return SnapshotsStep::Nothing;
        };
        if let Some(page) = report.page.filter(|page| *page > 0) {
            return self.handle_page(repository, report, page, digest);
        }
        let agrees = stored.digest.as_ref() == Some(&digest);
        match report.base {
            _ if agrees => SnapshotsStep::Agree { digest },
            Some(base) if stored.digest.as_ref() == Some(&base) => SnapshotsStep::Delta {
                snapshots: report.snapshots,
                removed: report.removed,
                digest,
            },
            Some(_) | None => SnapshotsStep::Want,
        }
    }

    fn handle_page(
        &mut self,
        repository: RepositoryId,
        report: SnapshotsReport,
        page: u32,
        digest: String,
    ) -> SnapshotsStep {
        if page == 1 {
            let snapshots = Vec::new();
            self.0 = Some(Pages { repository, digest: digest.clone(), next: 1, snapshots });
        }
        let Some(mut pages) = self.0.take() else { return SnapshotsStep::Nothing };
        let fits = pages.repository == repository && pages.digest == digest && pages.next == page;
        if !fits || pages.snapshots.len() + report.snapshots.len() > MAX_SNAPSHOTS {
            return SnapshotsStep::Nothing;
        }
        pages.snapshots.extend(report.snapshots);
        if !report.last {
            pages.next += 1;
            self.0 = Some(pages);
            return SnapshotsStep::Nothing;
        }
        let found = snapshots_digest(pages.snapshots.iter().map(|one| one.id.as_str()));
        // Asking again would get the same list again: the next reading decides.
        if found != pages.digest {
            return SnapshotsStep::Nothing;
        }
        SnapshotsStep::Replace { snapshots: pages.snapshots, digest }
    }
}

/// restic's ids are 64 hex digits; what is none would reach command lines as one.
fn has_full_id(snapshot: &Snapshot) -> bool {
    snapshot.id.len() == 64 && snapshot.id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What a version 1 report changes: it always is the whole list.
#[must_use]
pub fn whole_list(report: SnapshotsReport) -> SnapshotsStep {
    if report.snapshots.len() > MAX_SNAPSHOTS || !report.snapshots.iter().all(has_full_id) {
        return SnapshotsStep::Nothing;
    }
    let digest = snapshots_digest(report.snapshots.iter().map(|one| one.id.as_str()));
    SnapshotsStep::Replace { snapshots: report.snapshots, digest }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> RepositoryId {
        RepositoryId::new(1, &[1; 10])
    }

    fn snapshot(n: u8) -> Snapshot {
        let id = format!("{n:064x}");
        Snapshot {
            short_id: id[..8].to_owned(),
            id,
            time: Timestamp::UNIX_EPOCH,
            hostname: "box".to_owned(),
            paths: Vec::new(),
            tags: Vec::new(),
            size_bytes: None,
            file_count: None,
            added_bytes: None,
        }
    }

    fn digest(snapshots: &[Snapshot]) -> String {
        snapshots_digest(snapshots.iter().map(|one| one.id.as_str()))
    }

    fn page(snapshots: &[Snapshot], page: u32, last: bool, digest: &str) -> SnapshotsReport {
        SnapshotsReport {
            snapshots: snapshots.to_vec(),
            digest: Some(digest.to_owned()),
            page: Some(page),
            last,
            ..SnapshotsReport::default()
        }
    }

    #[test]
    fn pages_are_swapped_in_only_when_all_came_in_order_and_fit_the_digest() {
        let all = [snapshot(1), snapshot(2), snapshot(3)];
        let whole = digest(&all);
        let stored = Stored::default();
        let mut assembly = Assembly::default();
        let mut step = |report| assembly.handle(repository(), report, &stored);
        assert_eq!(step(page(&all[..2], 1, false, &whole)), SnapshotsStep::Nothing);
        let replace = SnapshotsStep::Replace { snapshots: all.to_vec(), digest: whole.clone() };
        assert_eq!(step(page(&all[2..], 2, true, &whole)), replace);
        // A repeated last page has nothing to be the last of.
        assert_eq!(step(page(&all[2..], 2, true, &whole)), SnapshotsStep::Nothing);
        // A page is missing.
        step(page(&all[..1], 1, false, &whole));
        assert_eq!(step(page(&all[2..], 3, true, &whole)), SnapshotsStep::Nothing);
        // The list does not fit its digest.
        assert_eq!(step(page(&all[..2], 1, true, &whole)), SnapshotsStep::Nothing);
        // The list changed between the pages.
        step(page(&all[..1], 1, false, &whole));
        assert_eq!(step(page(&all[1..], 2, true, &digest(&all[1..]))), SnapshotsStep::Nothing);
    }

    #[test]
    fn a_digest_agrees_or_asks_for_the_list() {
        let stored = Stored { digest: Some("a".to_owned()), read_at: None };
        let report = |digest: &str| SnapshotsReport {
            digest: Some(digest.to_owned()),
            ..SnapshotsReport::default()
        };
        let mut assembly = Assembly::default();
        let agreed = SnapshotsStep::Agree { digest: "a".to_owned() };
        assert_eq!(assembly.handle(repository(), report("a"), &stored), agreed);
        assert_eq!(assembly.handle(repository(), report("b"), &stored), SnapshotsStep::Want);
    }

    #[test]
    fn a_delta_needs_the_list_that_it_starts_from() {
        let stored = Stored { digest: Some("a".to_owned()), read_at: None };
        let report = |base: &str| SnapshotsReport {
            base: Some(base.to_owned()),
            digest: Some("c".to_owned()),
            removed: vec!["x".to_owned()],
            ..SnapshotsReport::default()
        };
        let mut assembly = Assembly::default();
        let step = assembly.handle(repository(), report("a"), &stored);
        assert!(matches!(step, SnapshotsStep::Delta { .. }), "{step:?}");
        assert_eq!(assembly.handle(repository(), report("b"), &stored), SnapshotsStep::Want);
    }

    #[test]
    fn an_older_reading_changes_nothing() {
        let now = Timestamp::from_second(100).unwrap();
        let stored = Stored { digest: Some("a".to_owned()), read_at: Some(now) };
        let mut report = page(&[snapshot(1)], 1, true, &digest(&[snapshot(1)]));
        report.read_at = Timestamp::from_second(99).ok();
        let mut assembly = Assembly::default();
        assert_eq!(assembly.handle(repository(), report.clone(), &stored), SnapshotsStep::Nothing);
        report.read_at = Some(now);
        let step = assembly.handle(repository(), report, &stored);
        assert!(matches!(step, SnapshotsStep::Replace { .. }), "{step:?}");
    }
}
