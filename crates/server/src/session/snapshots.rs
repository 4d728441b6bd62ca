//! What a report of snapshots changes: pages are put together within a bound, and nothing is swapped
//! before all of them are there and agree with the digest, nor by a list that may be older.

use crate::{
    db::snapshots::Facts,
    hooks::{Mistake, is_planted},
    text,
};
use jiff::Timestamp;
use protocol::{HostId, RepositoryId, Snapshot, SnapshotsReport, snapshots_digest};
use std::collections::BTreeMap;

/// The longest list that is taken in.
pub const MAX_SNAPSHOTS: usize = 200_000;
/// The memory that a list may take while its pages come in.
const MAX_LIST_BYTES: usize = 64 * 1024 * 1024;
/// The longest paths or tags of one snapshot that are kept, in bytes.
const MAX_TEXTS_BYTES: usize = 16 * 1024;

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
    bytes: usize,
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
            let digest = digest.clone();
            self.0 = Some(Pages { repository, digest, next: 1, snapshots, bytes: 0 });
        }
        let Some(mut pages) = self.0.take() else { return SnapshotsStep::Nothing };
        let fits = pages.repository == repository && pages.digest == digest && pages.next == page;
        pages.bytes += report.snapshots.iter().map(bytes_of).sum::<usize>();
        let is_too_long = pages.snapshots.len() + report.snapshots.len() > MAX_SNAPSHOTS
            || pages.bytes > MAX_LIST_BYTES;
        if !fits || is_too_long {
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

/// What is to be done with a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It counts.
    Counts,
    /// It may be older than what another machine has told: ask for a reading that begins now.
    Ask,
    /// The same, and such a reading was asked for.
    Asked,
}

/// Which list is stored.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    digest: Option<String>,
    teller: Option<HostId>,
    read_at: Option<Timestamp>,
}

/// The repositories that a host was asked to read anew. Where several hosts have one, who tells last need not
/// have looked last, and their clocks cannot say: a list other than what another host has told counts only if it
/// was read after that was known here.
#[derive(Debug, Default)]
pub struct Tellers(
    /// What was stored when it was asked, and when it had read the repository before that.
    BTreeMap<RepositoryId, (Told, Option<Timestamp>)>,
);

impl Tellers {
    /// Whether a host's report counts beside what is stored.
    pub fn judge(
        &mut self,
        host: HostId,
        repository: RepositoryId,
        report: &SnapshotsReport,
        stored: &Facts,
    ) -> Judgement {
        let is_of_another = stored.snapshots_host_id.is_some_and(|teller| teller != host);
        if !is_of_another
            || stored.snapshots_digest == report.digest
            || is_planted(Mistake::BelieveAnyone)
        {
            return Judgement::Counts;
        }
        let now = Told {
            digest: stored.snapshots_digest.clone(),
            teller: stored.snapshots_host_id,
            read_at: stored.snapshots_read_at,
        };
        match self.0.get(&repository) {
            // An agent dates each reading after the one before.
            Some((told, before)) if *told == now && report.read_at > *before => Judgement::Counts,
            Some((told, _)) if *told == now => Judgement::Asked,
            Some(_) | None => {
                self.0.insert(repository, (now, report.read_at));
                Judgement::Ask
            }
        }
    }
}

/// The memory that a snapshot takes.
fn bytes_of(snapshot: &Snapshot) -> usize {
    let texts = snapshot.paths.iter().chain(&snapshot.tags);
    let texts: usize = texts.map(|text| size_of::<String>() + text.len()).sum();
    let names = snapshot.id.len() + snapshot.short_id.len() + snapshot.hostname.len();
    size_of::<Snapshot>() + names + texts
}

/// A report whose texts are safe to show, and of which no snapshot is out of proportion.
#[must_use]
pub fn cleaned(report: SnapshotsReport) -> SnapshotsReport {
    let clean = |snapshot: Snapshot| Snapshot {
        short_id: text::name(&snapshot.short_id),
        hostname: text::name(&snapshot.hostname),
        paths: texts(&snapshot.paths),
        tags: texts(&snapshot.tags),
        ..snapshot
    };
    SnapshotsReport { snapshots: report.snapshots.into_iter().map(clean).collect(), ..report }
}

fn texts(texts: &[String]) -> Vec<String> {
    let mut room = MAX_TEXTS_BYTES;
    let mut kept = Vec::new();
    for text in texts {
        let text = text::sentence(text);
        let Some(left) = room.checked_sub(size_of::<String>() + text.len()) else {
            kept.push(format!("[… {} more]", texts.len() - kept.len()));
            break;
        };
        room = left;
        kept.push(text);
    }
    kept
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
    fn a_list_that_outgrows_its_memory_is_dropped_whatever_its_pages_hold() {
        let stored = Stored::default();
        let mut assembly = Assembly::default();
        let large = Snapshot { paths: vec!["x".repeat(1_000_000)], ..snapshot(1) };
        let pages = (MAX_LIST_BYTES / 1_000_000) as u32 + 1;
        for number in 1..=pages {
            let step = assembly.handle(
                repository(),
                page(std::slice::from_ref(&large), number, false, "d"),
                &stored,
            );
            assert_eq!(step, SnapshotsStep::Nothing);
            assert_eq!(assembly.0.is_some(), number < pages, "page {number}");
        }
    }

    #[test]
    fn the_texts_of_a_snapshot_are_harmless_and_in_proportion() {
        let paths: Vec<String> = (0..10_000).map(|n| format!("/srv/{n}\u{1b}[2J")).collect();
        let wild = Snapshot { hostname: "box\u{202e}".to_owned(), paths, ..snapshot(1) };
        let report = SnapshotsReport { snapshots: vec![wild], ..SnapshotsReport::default() };
        let kept = &cleaned(report).snapshots[0];
        assert_eq!((kept.hostname.as_str(), kept.paths[0].as_str()), ("box", "/srv/0"));
        assert!(bytes_of(kept) < 2 * MAX_TEXTS_BYTES);
        let (last, shown) = kept.paths.split_last().unwrap();
        assert_eq!(last, &format!("[… {} more]", 10_000 - shown.len()));
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
