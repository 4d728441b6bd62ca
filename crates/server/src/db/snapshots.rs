//! Snapshots and repository facts as they were last read. The repository is the truth; these tables
//! say when somebody looked.

use super::{
    Tx,
    error::DbError,
    row::{Row, count, millis, to_json, uncount},
};
use jiff::Timestamp;
use protocol::{HostId, LockInfo, RepoStats, RepositoryId, Snapshot, snapshots_digest};
use sqlx::SqliteExecutor;

struct SnapshotRow {
    id: String,
    time: i64,
    hostname: String,
    paths: String,
    tags: String,
    size_bytes: Option<i64>,
    file_count: Option<i64>,
    added_bytes: Option<i64>,
}

impl TryFrom<SnapshotRow> for Snapshot {
    type Error = DbError;

    fn try_from(snapshot: SnapshotRow) -> Result<Self, DbError> {
        let row = Row { table: "snapshots", id: &snapshot.id };
        Ok(Self {
            short_id: snapshot.id.chars().take(8).collect(),
            time: row.time("time", snapshot.time)?,
            paths: row.json("paths", &snapshot.paths)?,
            tags: row.json("tags", &snapshot.tags)?,
            size_bytes: snapshot.size_bytes.map(uncount),
            file_count: snapshot.file_count.map(uncount),
            added_bytes: snapshot.added_bytes.map(uncount),
            id: snapshot.id,
            hostname: snapshot.hostname,
        })
    }
}

/// How many snapshots of a repository are stored.
///
/// # Errors
/// When the database fails.
pub async fn count_of(
    db: impl SqliteExecutor<'_>,
    repository: RepositoryId,
) -> Result<usize, DbError> {
    let repository = repository.to_string();
    let found = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM snapshots WHERE repository_id = ?"#,
        repository
    )
    .fetch_one(db)
    .await?;
    Ok(usize::try_from(found).unwrap_or(usize::MAX))
}

/// One page of the snapshots of a repository, newest first.
///
/// # Errors
/// When the database fails.
pub async fn list(
    db: impl SqliteExecutor<'_>,
    repository: RepositoryId,
    offset: usize,
    limit: usize,
) -> Result<Vec<Snapshot>, DbError> {
    let repository = repository.to_string();
    let page = |number| i64::try_from(number).unwrap_or(i64::MAX);
    let (offset, limit) = (page(offset), page(limit));
    let rows = sqlx::query_as!(
        SnapshotRow,
        "SELECT id, time, hostname, paths, tags, size_bytes, file_count, added_bytes \
         FROM snapshots WHERE repository_id = ? ORDER BY time DESC, id LIMIT ? OFFSET ?",
        repository,
        limit,
        offset
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(Snapshot::try_from).collect()
}

/// Whether a repository has this snapshot: by the last reading, or because a run has written it
/// since, of a host that has the repository: any host may name any repository in what it reports of
/// itself. Both times are of the agent's clock.
///
/// # Errors
/// When the database fails.
pub async fn is_known(
    db: impl SqliteExecutor<'_>,
    repository: RepositoryId,
    snapshot: &str,
) -> Result<bool, DbError> {
    let repository = repository.to_string();
    let known = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM snapshots WHERE repository_id = ?1 AND id = ?2)
            OR EXISTS (SELECT 1 FROM runs r LEFT JOIN repository_facts f USING (repository_id)
                       JOIN plan_targets t USING (host_id)
                       WHERE r.repository_id = ?1 AND t.repository_id = ?1 AND r.snapshot_id = ?2
                         AND r.finished_at >= coalesce(f.snapshots_read_at, 0)) AS "known!: bool""#,
        repository,
        snapshot
    )
    .fetch_one(db)
    .await?;
    Ok(known)
}

/// The digest over the snapshots that are stored.
///
/// # Errors
/// When the database fails.
pub async fn digest(
    db: impl SqliteExecutor<'_>,
    repository: RepositoryId,
) -> Result<String, DbError> {
    let repository = repository.to_string();
    let ids = sqlx::query_scalar!("SELECT id FROM snapshots WHERE repository_id = ?", repository)
        .fetch_all(db)
        .await?;
    Ok(snapshots_digest(ids.iter().map(String::as_str)))
}

/// Replaces the snapshots of a repository.
///
/// # Errors
/// When the database fails.
pub async fn replace(
    tx: &mut Tx,
    repository: RepositoryId,
    snapshots: &[Snapshot],
) -> Result<(), DbError> {
    let id = repository.to_string();
    sqlx::query!("DELETE FROM snapshots WHERE repository_id = ?", id).execute(&mut **tx).await?;
    add(tx, repository, snapshots).await
}

/// Adds snapshots to a repository; one that is there is written anew (its tags may have changed).
///
/// # Errors
/// When the database fails.
pub async fn add(
    tx: &mut Tx,
    repository: RepositoryId,
    snapshots: &[Snapshot],
) -> Result<(), DbError> {
    let repository = repository.to_string();
    for snapshot in snapshots {
        let time = millis(snapshot.time);
        let paths = to_json("snapshots", "paths", &snapshot.id, &snapshot.paths)?;
        let tags = to_json("snapshots", "tags", &snapshot.id, &snapshot.tags)?;
        let size = snapshot.size_bytes.map(count);
        let (files, added) = (snapshot.file_count.map(count), snapshot.added_bytes.map(count));
        sqlx::query!(
            "INSERT OR REPLACE INTO snapshots (repository_id, id, time, hostname, paths, tags, \
             size_bytes, file_count, added_bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            repository,
            snapshot.id,
            time,
            snapshot.hostname,
            paths,
            tags,
            size,
            files,
            added
        )
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

/// Removes snapshots from a repository.
///
/// # Errors
/// When the database fails.
pub async fn remove(tx: &mut Tx, repository: RepositoryId, ids: &[String]) -> Result<(), DbError> {
    let repository = repository.to_string();
    for id in ids {
        sqlx::query!("DELETE FROM snapshots WHERE repository_id = ? AND id = ?", repository, id)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// What the last readings of a repository said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// The digest of the stored snapshots.
    pub snapshots_digest: Option<String>,
    /// When the snapshots were read.
    pub snapshots_read_at: Option<Timestamp>,
    /// Which host read them: times of two hosts' clocks are not compared.
    pub snapshots_host_id: Option<HostId>,
    /// Bytes that the repository takes.
    pub size_bytes: Option<u64>,
    /// Number of snapshots.
    pub snapshot_count: Option<u64>,
    /// Bytes of all snapshots' files, divided by `size_bytes`.
    pub dedup_ratio: Option<f64>,
    /// When a check last ended.
    pub last_check_at: Option<Timestamp>,
    /// How it ended.
    pub last_check_status: Option<String>,
    /// `locked` or `unlocked`.
    pub lock_state: Option<String>,
    /// The locks that were there.
    pub locks: Vec<LockInfo>,
    /// When the facts were read.
    pub stats_read_at: Option<Timestamp>,
}

struct FactsRow {
    snapshots_digest: Option<String>,
    snapshots_read_at: Option<i64>,
    snapshots_host_id: Option<String>,
    size_bytes: Option<i64>,
    snapshot_count: Option<i64>,
    dedup_ratio: Option<f64>,
    last_check_at: Option<i64>,
    last_check_status: Option<String>,
    lock_state: Option<String>,
    locks: Option<String>,
    stats_read_at: Option<i64>,
}

/// The facts of a repository; empty before the first reading.
///
/// # Errors
/// When the database fails.
pub async fn facts(
    db: impl SqliteExecutor<'_>,
    repository: RepositoryId,
) -> Result<Facts, DbError> {
    let id = repository.to_string();
    let facts = sqlx::query_as!(
        FactsRow,
        "SELECT snapshots_digest, snapshots_read_at, snapshots_host_id, size_bytes, snapshot_count, \
         dedup_ratio, last_check_at, last_check_status, lock_state, locks, stats_read_at \
         FROM repository_facts WHERE repository_id = ?",
        id
    )
    .fetch_optional(db)
    .await?;
    let Some(facts) = facts else { return Ok(Facts::default()) };
    let row = Row { table: "repository_facts", id: &id };
    Ok(Facts {
        snapshots_read_at: row.maybe_time("snapshots_read_at", facts.snapshots_read_at)?,
        snapshots_host_id: row
            .maybe_parse("snapshots_host_id", facts.snapshots_host_id.as_deref())?,
        size_bytes: facts.size_bytes.map(uncount),
        snapshot_count: facts.snapshot_count.map(uncount),
        last_check_at: row.maybe_time("last_check_at", facts.last_check_at)?,
        locks: row.maybe_json("locks", facts.locks.as_deref())?.unwrap_or_default(),
        stats_read_at: row.maybe_time("stats_read_at", facts.stats_read_at)?,
        snapshots_digest: facts.snapshots_digest,
        dedup_ratio: facts.dedup_ratio,
        last_check_status: facts.last_check_status,
        lock_state: facts.lock_state,
    })
}

/// Notes which list of snapshots is stored and when it was read.
///
/// # Errors
/// When the database fails.
pub async fn note_snapshots(
    tx: &mut Tx,
    repository: RepositoryId,
    host: HostId,
    digest: &str,
    read_at: Timestamp,
) -> Result<(), DbError> {
    let (id, host, read_at) = (repository.to_string(), host.to_string(), millis(read_at));
    sqlx::query!(
        "INSERT INTO repository_facts (repository_id, snapshots_digest, snapshots_read_at, \
         snapshots_host_id) VALUES (?, ?, ?, ?) ON CONFLICT (repository_id) DO UPDATE SET \
         snapshots_digest = excluded.snapshots_digest, \
         snapshots_read_at = excluded.snapshots_read_at, \
         snapshots_host_id = excluded.snapshots_host_id",
        id,
        digest,
        read_at,
        host
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The next reading of this host counts, whatever its clock shows: it may have been another machine, or
/// this one in another time, that made the last one.
///
/// # Errors
/// When the database fails.
pub async fn forget_order(tx: &mut Tx, host: HostId) -> Result<(), DbError> {
    let host = host.to_string();
    sqlx::query!(
        "UPDATE repository_facts SET snapshots_read_at = NULL, stats_read_at = NULL \
         WHERE snapshots_host_id = ?",
        host
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Notes a repository's facts, unless newer ones are there.
///
/// # Errors
/// When the database fails.
pub async fn note_stats(
    tx: &mut Tx,
    repository: RepositoryId,
    stats: &RepoStats,
    read_at: Timestamp,
) -> Result<(), DbError> {
    let (id, read_at) = (repository.to_string(), millis(read_at));
    let (size, snapshots) = (count(stats.size_bytes), count(stats.snapshot_count));
    let checked = stats.last_check_at.map(millis);
    let locks = to_json("repository_facts", "locks", &id, &stats.locks)?;
    sqlx::query!(
        "INSERT INTO repository_facts (repository_id, size_bytes, snapshot_count, dedup_ratio, \
         last_check_at, last_check_status, lock_state, locks, stats_read_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (repository_id) DO UPDATE SET \
         size_bytes = excluded.size_bytes, snapshot_count = excluded.snapshot_count, \
         dedup_ratio = excluded.dedup_ratio, \
         last_check_at = coalesce(excluded.last_check_at, last_check_at), \
         last_check_status = coalesce(excluded.last_check_status, last_check_status), \
         lock_state = excluded.lock_state, locks = excluded.locks, \
         stats_read_at = excluded.stats_read_at \
         WHERE stats_read_at IS NULL OR stats_read_at <= excluded.stats_read_at",
        id,
        size,
        snapshots,
        stats.dedup_ratio,
        checked,
        stats.last_check_status,
        stats.lock_state,
        locks,
        read_at
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Notes what the manager itself has found out of a repository, and leaves the rest as it is: the bytes
/// that it takes, and when a check ended and with which word.
///
/// # Errors
/// When the database fails.
pub async fn note_own(
    tx: &mut Tx,
    repository: RepositoryId,
    size_bytes: Option<u64>,
    check: Option<(Timestamp, &str)>,
) -> Result<(), DbError> {
    let (id, size) = (repository.to_string(), size_bytes.map(count));
    let (checked, word) = (check.map(|(at, _)| millis(at)), check.map(|(_, word)| word));
    sqlx::query!(
        "INSERT INTO repository_facts (repository_id, size_bytes, last_check_at, \
         last_check_status) VALUES (?, ?, ?, ?) ON CONFLICT (repository_id) DO UPDATE SET \
         size_bytes = coalesce(excluded.size_bytes, size_bytes), \
         last_check_at = coalesce(excluded.last_check_at, last_check_at), \
         last_check_status = coalesce(excluded.last_check_status, last_check_status)",
        id,
        size,
        checked,
        word
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
