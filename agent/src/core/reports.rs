//! What the repositories hold, told to the manager: a digest after each reconnect, a delta after a
//! change, the full list in pages when the two sides disagree.

use super::{Brain, Change, Effect, Now, Outcome, send};
use jiff::{SignedDuration, Timestamp};
use protocol::{
    Code, FromAgent, JobKind, JobStatus, RepoStats, RepositoryId, Snapshot, SnapshotsReport,
    snapshots_digest,
};
use std::{collections::BTreeSet, time::Duration};

/// The most bytes of snapshots in one report: well below the largest frame, with its envelope.
const PAGE_BYTES: usize = 600 * 1024;

/// The most bytes of paths that one snapshot tells; a list of folders that is longer is cut.
const PATHS_BYTES: usize = 32 * 1024;

/// The pause before a reading that failed is made again; twice as long each time, up to an hour.
const READ_AGAIN: Duration = Duration::from_mins(1);

/// The least by which one reading is newer than another: as exact as times are stored.
const MOMENT: SignedDuration = SignedDuration::from_millis(1);

/// A reading that failed.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// When it is made again; none while it is.
    again: Option<Duration>,
    failures: u32,
}

/// What a repository held when it was last read.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// When.
    pub read_at: Timestamp,
    /// All snapshots.
    pub snapshots: Vec<Snapshot>,
    /// Its facts.
    pub stats: Option<RepoStats>,
}

/// What came of reading a repository.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// When the reading began: what came later may be missing in it.
    pub read_at: Timestamp,
    /// All snapshots; absent when they could not be read.
    pub snapshots: Option<Vec<Snapshot>>,
    /// Its facts; absent when they could not be read.
    pub stats: Option<RepoStats>,
}

/// What the manager was told over this connection.
#[derive(Debug)]
pub(super) struct Told {
    digest: String,
    ids: BTreeSet<String>,
}

impl View {
    fn digest(&self) -> String {
        snapshots_digest(self.snapshots.iter().map(|snapshot| snapshot.id.as_str()))
    }

    fn told(&self) -> Told {
        Told {
            digest: self.digest(),
            ids: self.snapshots.iter().map(|snapshot| snapshot.id.clone()).collect(),
        }
    }
}

impl Brain {
    /// Asks for a repository to be read; while it is, one more reading is remembered.
    pub(super) fn read(&mut self, id: RepositoryId) -> Option<Effect> {
        let repository = self.desired.as_ref()?.repository(Some(id))?.clone();
        if let Some(again) = self.reading.get_mut(&id) {
            *again = true;
            return None;
        }
        self.reading.insert(id, false);
        Some(Effect::Read(Box::new(repository)))
    }

    /// What came of an [`Effect::Read`].
    pub fn handle_reading(
        &mut self,
        id: RepositoryId,
        reading: Option<Reading>,
        now: Now,
    ) -> Vec<Effect> {
        let again = self.reading.remove(&id).unwrap_or(false);
        if reading.as_ref().is_some_and(|reading| reading.snapshots.is_some()) {
            self.unread.remove(&id);
        } else {
            let unread = self.unread.entry(id).or_default();
            let pause = READ_AGAIN * (1 << unread.failures.min(6));
            unread.again = Some(now.mono + pause.min(Duration::from_hours(1)));
            unread.failures += 1;
        }
        let mut effects = Vec::new();
        if let Some(reading) = reading {
            effects.extend(self.take_reading(id, reading));
        }
        if again {
            effects.extend(self.read(id));
        }
        effects
    }

    /// When a reading that failed is made again.
    pub(super) fn due_reading(&self) -> Option<Duration> {
        self.unread.values().filter_map(|unread| unread.again).min()
    }

    /// Makes readings again that failed: the manager's list would stay wrong until the next run.
    pub(super) fn read_again(&mut self, now: Now) -> Vec<Effect> {
        let is_due = |unread: &Unread| unread.again.is_some_and(|again| again <= now.mono);
        let due: Vec<RepositoryId> =
            self.unread.iter().filter(|(_, unread)| is_due(unread)).map(|(id, _)| *id).collect();
        let mut effects = Vec::new();
        for id in due {
            match self.read(id) {
                Some(effect) => effects.push(effect),
                // It is being read, or not one of this machine's any more.
                None if !self.reading.contains_key(&id) => {
                    self.unread.remove(&id);
                    continue;
                }
                None => {}
            }
            self.unread.entry(id).or_default().again = None;
        }
        effects
    }

    /// Reads everything, if what was read may not be what there is. After a hold, or in a new journal, this
    /// state or a copy of it was somewhere else meanwhile. An agent that has just started knows of neither
    /// what the one before it did last nor whether that one was held: it may have ended before it read.
    pub(super) fn read_what_is_doubtful(&mut self) -> Vec<Effect> {
        if !std::mem::take(&mut self.is_view_doubtful) {
            return Vec::new();
        }
        let all = self.desired.as_ref().map_or(&[][..], |desired| &desired.repositories);
        let all: Vec<RepositoryId> = all.iter().map(|repository| repository.id).collect();
        all.into_iter().filter_map(|id| self.read(id)).collect()
    }

    fn take_reading(&mut self, id: RepositoryId, reading: Reading) -> Vec<Effect> {
        let before = self.views.get(&id);
        // The manager takes no reading that is older than the one it has. This one is newer, whatever the
        // clock shows since it was put back.
        let after = before.and_then(|view| view.read_at.checked_add(MOMENT).ok());
        let read_at = after.map_or(reading.read_at, |after| after.max(reading.read_at));
        let known = before.and_then(|view| view.stats.as_ref());
        let stats = reading.stats.map(|mut stats| {
            stats.read_at = stats.read_at.map(|_| read_at);
            // restic does not know when a check ended; the run that did it told.
            let told = self.checks.get(&id).cloned();
            let stored = known.and_then(|known| {
                Some((known.last_check_at?, known.last_check_status.clone().unwrap_or_default()))
            });
            if let Some((at, word)) = told.or(stored) {
                stats.last_check_at = Some(at);
                stats.last_check_status = Some(word);
            }
            stats
        });
        let has_list = reading.snapshots.is_some();
        let snapshots = reading.snapshots.map(|list| list.into_iter().map(shorten).collect());
        let view = View {
            read_at,
            snapshots: snapshots
                .or_else(|| before.map(|view| view.snapshots.clone()))
                .unwrap_or_default(),
            stats: stats.clone().or_else(|| known.cloned()),
        };
        self.views.insert(id, view.clone());
        let mut effects = vec![Effect::Store(Change::View(id, Box::new(view)))];
        if has_list {
            effects.extend(self.tell_change(id));
        }
        if self.is_open()
            && let Some(stats) = stats
        {
            effects.extend(send(&FromAgent::RepoStats(stats)));
        }
        effects
    }

    /// A check ended: that is a fact of the repository which restic itself does not keep. One that
    /// never came to look, because of a lock, the network or a password, proves nothing of the data:
    /// what the check before it found stands.
    pub(super) fn note_check(
        &mut self,
        id: Option<RepositoryId>,
        kind: Option<JobKind>,
        outcome: &Outcome,
        now: Now,
    ) {
        let (Some(id), Some(JobKind::Check)) = (id, kind) else { return };
        let code = outcome.problem.as_ref().map(|problem| problem.code);
        let word = match (outcome.status, code) {
            (JobStatus::Succeeded, _) => "ok",
            (JobStatus::Failed, Some(Code::RepositoryDamaged)) => "failed",
            _ => return,
        };
        self.checks.insert(id, (now.wall, word.to_owned()));
    }

    /// After a reconnect: do both sides hold the same lists?
    pub(super) fn tell_digests(&mut self) -> Vec<Effect> {
        let ours: Vec<RepositoryId> = self
            .desired
            .iter()
            .flat_map(|desired| &desired.repositories)
            .map(|repository| repository.id)
            .filter(|id| self.views.contains_key(id))
            .collect();
        ours.into_iter().flat_map(|id| self.tell_digest(id)).collect()
    }

    fn tell_digest(&mut self, id: RepositoryId) -> Vec<Effect> {
        let (Some(view), Some(session)) = (self.views.get(&id), self.link.session()) else {
            return Vec::new();
        };
        let told = view.told();
        let report = SnapshotsReport {
            repository_id: Some(id),
            read_at: Some(view.read_at),
            digest: Some(told.digest.clone()),
            ..SnapshotsReport::default()
        };
        session.told.insert(id, told);
        send(&FromAgent::SnapshotsReport(report)).into_iter().collect()
    }

    fn tell_change(&mut self, id: RepositoryId) -> Vec<Effect> {
        let (Some(view), Some(session)) = (self.views.get(&id), self.link.session()) else {
            return Vec::new();
        };
        let Some(before) = session.told.get(&id) else { return self.tell_digest(id) };
        let told = view.told();
        let removed: Vec<String> = before.ids.difference(&told.ids).cloned().collect();
        let added: Vec<Snapshot> = view
            .snapshots
            .iter()
            .filter(|snapshot| !before.ids.contains(&snapshot.id))
            .cloned()
            .collect();
        let bytes = added.iter().map(size).sum::<usize>() + removed.len() * 70;
        if bytes > PAGE_BYTES || added.len() > SnapshotsReport::PAGE {
            return self.tell_digest(id);
        }
        let report = SnapshotsReport {
            snapshots: added,
            repository_id: Some(id),
            read_at: Some(view.read_at),
            digest: Some(told.digest.clone()),
            base: Some(before.digest.clone()),
            removed,
            page: None,
            last: false,
        };
        session.told.insert(id, told);
        send(&FromAgent::SnapshotsReport(report)).into_iter().collect()
    }

    /// The manager's list differs: it gets the whole one.
    pub(super) fn snapshots_wanted(&mut self, id: RepositoryId) -> Vec<Effect> {
        let (Some(view), Some(session)) = (self.views.get(&id), self.link.session()) else {
            return self.read(id).into_iter().collect();
        };
        let told = view.told();
        let pages = pages(&view.snapshots);
        let count = pages.len();
        let reports = pages.into_iter().enumerate().map(|(n, snapshots)| SnapshotsReport {
            snapshots,
            repository_id: Some(id),
            read_at: Some(view.read_at),
            digest: Some(told.digest.clone()),
            base: None,
            removed: Vec::new(),
            page: u32::try_from(n + 1).ok(),
            last: n + 1 == count,
        });
        let effects =
            reports.filter_map(|report| send(&FromAgent::SnapshotsReport(report))).collect();
        session.told.insert(id, told);
        effects
    }
}

/// Whether a run of this kind may leave the repository other than it was.
pub(super) fn changes_view(kind: JobKind) -> bool {
    match kind {
        JobKind::Backup
        | JobKind::Init
        | JobKind::Forget
        | JobKind::Prune
        | JobKind::Check
        | JobKind::Unlock
        | JobKind::Stats
        | JobKind::Copy => true,
        JobKind::Restore
        | JobKind::Diff
        | JobKind::Ls
        | JobKind::Find
        | JobKind::Dump
        | JobKind::Unknown => false,
    }
}

/// Cuts the list into pages; an empty list is one empty page.
fn pages(snapshots: &[Snapshot]) -> Vec<Vec<Snapshot>> {
    let mut pages = vec![Vec::new()];
    let mut bytes = 0;
    for snapshot in snapshots {
        let more = size(snapshot);
        let is_full = pages.last().is_some_and(|page| {
            page.len() >= SnapshotsReport::PAGE || (bytes + more > PAGE_BYTES && !page.is_empty())
        });
        if is_full {
            pages.push(Vec::new());
            bytes = 0;
        }
        bytes += more;
        if let Some(page) = pages.last_mut() {
            page.push(snapshot.clone());
        }
    }
    pages
}

fn size(snapshot: &Snapshot) -> usize {
    serde_json::to_vec(snapshot).map_or(0, |text| text.len())
}

/// Bounds what a single snapshot may say: anybody who can write to the repository chose its paths
/// and tags.
fn shorten(mut snapshot: Snapshot) -> Snapshot {
    for list in [&mut snapshot.paths, &mut snapshot.tags] {
        let mut bytes = 0;
        let kept = list.iter().take_while(|text| {
            bytes += text.len() + 3;
            bytes <= PATHS_BYTES
        });
        let kept = kept.count();
        let gone = list.len() - kept;
        list.truncate(kept);
        if gone > 0 {
            list.push(format!("[…{gone} more]"));
        }
    }
    snapshot.hostname = protocol::cut_text(&snapshot.hostname, 255);
    snapshot
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(n: usize, path_bytes: usize) -> Snapshot {
        Snapshot {
            id: format!("{n:064x}"),
            short_id: format!("{n:08x}"),
            time: Timestamp::UNIX_EPOCH,
            hostname: "h".to_owned(),
            paths: vec!["\u{1}".repeat(path_bytes)],
            tags: Vec::new(),
            size_bytes: None,
            file_count: None,
            added_bytes: None,
        }
    }

    #[test]
    fn every_page_fits_a_frame_whatever_the_paths() {
        let list: Vec<Snapshot> =
            (0..1201).map(|n| shorten(snapshot(n, (n % 7) * 5_000))).collect();
        let pages = pages(&list);
        assert_eq!(pages.iter().map(Vec::len).sum::<usize>(), list.len());
        for page in pages {
            let report = SnapshotsReport { snapshots: page, ..SnapshotsReport::default() };
            FromAgent::SnapshotsReport(report).encode().unwrap().encode().unwrap();
        }
        assert_eq!(super::pages(&[]).len(), 1);
    }

    #[test]
    fn a_list_of_folders_without_end_is_cut_with_a_mark() {
        let mut long = snapshot(1, 1);
        long.paths = (0..100_000).map(|n| format!("/folder/{n}")).collect();
        let short = shorten(long);
        assert!(size(&short) < 2 * PATHS_BYTES);
        assert!(short.paths.last().unwrap().contains("more"));
    }
}
