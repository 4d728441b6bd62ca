//! Reading what a repository holds, and clearing up after a run that an earlier agent left open.

use super::{Tools, process, repository};
use crate::core::{Process, Reading, Recovered};
use jiff::Timestamp;
use outcome::verdict;
use protocol::{
    Code, EntryKind, HostId, LockInfo, Problem, RepoStats, RepositoryConfig, RunId, Snapshot,
    TreeEntry, TreeWant,
};
use restic::{
    CancelToken, Event, FailureKind, LsRequest, OurProcess, OurProcesses, Repository,
    SnapshotFilter, SnapshotId,
};
use std::time::Duration;

/// How long a reading may take before it is given up.
const READING_PATIENCE: Duration = Duration::from_mins(10);

/// How long the search for a snapshot may take.
const SEARCH_PATIENCE: Duration = Duration::from_mins(2);

/// Reads snapshots, size and locks; none when the repository could not be read at all.
pub async fn read(config: &RepositoryConfig, tools: &Tools, now: Timestamp) -> Option<Reading> {
    let repository = repository::prepare(config, &tools.state).ok()?;
    let reading = read_all(config, &repository, tools, now);
    match tokio::time::timeout(READING_PATIENCE, reading).await {
        Ok(reading) => reading,
        Err(_) => {
            tracing::warn!(repository = %config.id, "Reading the repository took too long");
            None
        }
    }
}

async fn read_all(
    config: &RepositoryConfig,
    repository: &Repository,
    tools: &Tools,
    now: Timestamp,
) -> Option<Reading> {
    let restic = &tools.restic;
    let cancel = CancelToken::new();
    let all = SnapshotFilter::default();
    let snapshots = match restic.snapshots(repository, &all, &mut ignore, &cancel).await {
        Ok(list) => list,
        Err(failure) => {
            tracing::warn!(repository = %config.id, %failure, "Failed to read the snapshots");
            return None;
        }
    };
    let snapshots: Vec<Snapshot> = snapshots.into_iter().map(snapshot_of).collect();
    let size = restic.raw_data_stats(repository, &mut ignore, &cancel).await;
    let locks = restic.locks(repository, &mut ignore, &cancel).await.unwrap_or_default();
    let locks: Vec<LockInfo> = locks.into_iter().take(100).map(lock_of).collect();
    let stats = size.ok().map(|size| RepoStats {
        size_bytes: size.total_size,
        snapshot_count: snapshots.len() as u64,
        dedup_ratio: ratio(&snapshots, size.total_size),
        last_check_at: None,
        last_check_status: None,
        lock_state: if locks.is_empty() { "unlocked" } else { "locked" }.to_owned(),
        repository_id: Some(config.id),
        read_at: Some(now),
        locks,
    });
    Some(Reading { read_at: now, snapshots: Some(snapshots), stats })
}

/// Bytes of all snapshots' files by the bytes that they take; 0 when one does not say its size.
fn ratio(snapshots: &[Snapshot], size: u64) -> f64 {
    let total: Option<u64> = snapshots.iter().map(|snapshot| snapshot.size_bytes).sum();
    match total {
        Some(total) if size > 0 => total as f64 / size as f64,
        _ => 0.0,
    }
}

fn snapshot_of(snapshot: restic::Snapshot) -> Snapshot {
    let summary = snapshot.summary;
    Snapshot {
        short_id: snapshot.id.chars().take(8).collect(),
        id: snapshot.id,
        time: snapshot.time,
        hostname: snapshot.hostname,
        paths: snapshot.paths,
        tags: snapshot.tags,
        size_bytes: summary.as_ref().map(|summary| summary.total_bytes_processed),
        file_count: summary.as_ref().map(|summary| summary.total_files_processed),
        added_bytes: summary.as_ref().map(|summary| summary.data_added),
    }
}

/// A lock as it travels.
#[must_use]
pub fn lock_of(lock: restic::Lock) -> LockInfo {
    LockInfo {
        id: lock.id,
        time: Some(lock.time),
        exclusive: lock.exclusive,
        hostname: lock.hostname,
        username: lock.username,
        pid: lock.pid,
    }
}

/// Lists one folder of a snapshot.
///
/// # Errors
/// Why it cannot be listed, and what to do.
pub async fn list(
    config: &RepositoryConfig,
    want: &TreeWant,
    tools: &Tools,
) -> Result<Vec<TreeEntry>, Problem> {
    let repository = repository::prepare(config, &tools.state)?;
    let snapshot =
        SnapshotId::new(&want.snapshot_id).map_err(|failure| verdict::problem(&failure))?;
    let request = LsRequest { snapshot, folder: want.path.clone() };
    let (cancel, mut sink) = (CancelToken::new(), ignore);
    let listing = tools.restic.ls(&repository, &request, &mut sink, &cancel);
    match tokio::time::timeout(SEARCH_PATIENCE, listing).await {
        Ok(Ok(listing)) => Ok(listing.entries.into_iter().map(entry_of).collect()),
        Ok(Err(failure)) => Err(verdict::problem(&failure)),
        Err(_) => Err(Problem::new(
            Code::RepositoryUnreachable,
            "The repository did not answer within two minutes.",
        )
        .guidance("Check that the repository's server runs and that this machine reaches it.")),
    }
}

fn entry_of(node: restic::Node) -> TreeEntry {
    TreeEntry {
        kind: match node.kind.as_str() {
            "dir" => EntryKind::Dir,
            "file" => EntryKind::File,
            "symlink" => EntryKind::Symlink,
            _ => EntryKind::Other,
        },
        name: node.name,
        size_bytes: node.size,
        modified_at: node.mtime,
        permissions: node.permissions,
    }
}

/// Ends what the run left running, removes its lock, and looks for its snapshot. What was left over
/// comes with the time before which it cannot have locked anything.
pub async fn recover(
    host_id: HostId,
    run_id: RunId,
    left_over: Option<(Process, Timestamp)>,
    config: Option<Box<RepositoryConfig>>,
    look_for_snapshot: bool,
    tools: Option<Tools>,
) -> Recovered {
    if let Some((left_over, _)) = &left_over {
        process::end(left_over).await;
    }
    let Some(config) = config else { return Recovered::NotAsked };
    let Some(tools) = tools else {
        return match look_for_snapshot {
            true => Recovered::Unreachable("there is no restic on this machine now".to_owned()),
            false => Recovered::Nothing,
        };
    };
    let repository = match repository::prepare(&config, &tools.state) {
        Ok(repository) => repository,
        Err(problem) => return Recovered::Unreachable(problem.message),
    };
    let found = match look_for_snapshot {
        true => find(host_id, run_id, &repository, &tools).await,
        false => Recovered::Nothing,
    };
    let is_reachable = !matches!(found, Recovered::Unreachable(_));
    if is_reachable && let Some((left_over, since)) = left_over {
        let process = OurProcess { pid: left_over.pid, from: Some(since), until: None };
        release_lock(process, &repository, &tools).await;
    }
    found
}

async fn find(host_id: HostId, run_id: RunId, repository: &Repository, tools: &Tools) -> Recovered {
    let filter =
        SnapshotFilter { tags: vec![host_id.tag(), run_id.tag()], ..SnapshotFilter::default() };
    let cancel = CancelToken::new();
    let mut sink = ignore;
    let search = tools.restic.snapshots(repository, &filter, &mut sink, &cancel);
    match tokio::time::timeout(SEARCH_PATIENCE, search).await {
        Ok(Ok(found)) => match found.into_iter().next_back() {
            Some(snapshot) => Recovered::Snapshot(snapshot.id),
            None => Recovered::Nothing,
        },
        Ok(Err(failure)) if failure.kind == FailureKind::NoRepository => Recovered::Nothing,
        Ok(Err(failure)) => Recovered::Unreachable(verdict::problem(&failure).message),
        Err(_) => Recovered::Unreachable("the repository does not answer".to_owned()),
    }
}

async fn release_lock(process: OurProcess, repository: &Repository, tools: &Tools) {
    let ours = OurProcesses { hostname: tools.hostname.clone(), processes: vec![process] };
    let cancel = CancelToken::new();
    let mut sink = ignore;
    let release = tools.restic.release_own_locks(repository, &ours, &mut sink, &cancel);
    match tokio::time::timeout(SEARCH_PATIENCE, release).await {
        Ok(Ok(outcome)) => tracing::info!(?outcome, "Looked after the lock of an earlier run"),
        Ok(Err(failure)) => tracing::warn!(%failure, "Failed to look after an earlier run's lock"),
        Err(_) => tracing::warn!("Looking after an earlier run's lock took too long"),
    }
}

/// Readings have no log of their own.
pub(super) fn ignore(event: Event) {
    drop(event);
}
