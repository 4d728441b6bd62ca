//! The built-in store: where it lies, who may write into it, and when snapshots arrived.

use super::{
    Tx,
    error::DbError,
    hosts::{Fingerprint, HostState},
    row::{Row, count, millis, uncount},
};
use jiff::Timestamp;
use protocol::{HostId, RepositoryId};
use sqlx::SqliteExecutor;
use std::{collections::BTreeMap, path::PathBuf};
use uuid::Uuid;

/// Where the store lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPlace {
    /// The folder, absolute.
    pub folder: PathBuf,
    /// What the folder's marker says, so that another disk at its place is noticed.
    pub marker: Uuid,
}

/// What the door of the store needs to know of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The hash of the password with which its host comes.
    pub hash: Fingerprint,
    /// Bytes that its host may fill.
    pub quota: Option<u64>,
    /// Whether its host belongs to the fleet.
    pub is_enrolled: bool,
}

const ROW: Row<'static> = Row { table: "store", id: "1" };

/// Where the store lies, once the admin has chosen a folder.
///
/// # Errors
/// When the database fails.
pub async fn place(db: impl SqliteExecutor<'_>) -> Result<Option<StoredPlace>, DbError> {
    let row =
        sqlx::query!("SELECT marker, folder FROM store WHERE id = 1").fetch_optional(db).await?;
    row.map(|row| {
        Ok(StoredPlace {
            folder: PathBuf::from(row.folder),
            marker: ROW.parse("marker", &row.marker)?,
        })
    })
    .transpose()
}

/// Sets where the store lies.
///
/// # Errors
/// When the database fails.
pub async fn set_place(
    tx: &mut Tx,
    marker: Uuid,
    folder: &str,
    now: Timestamp,
) -> Result<(), DbError> {
    let (marker, now) = (marker.to_string(), millis(now));
    sqlx::query!(
        "INSERT INTO store (id, marker, folder, changed_at) VALUES (1, ?1, ?2, ?3)
         ON CONFLICT (id) DO UPDATE SET marker = ?1, folder = ?2, changed_at = ?3",
        marker,
        folder,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The repository in the store that belongs to this host.
///
/// # Errors
/// When the database fails.
pub async fn repository_of(
    db: impl SqliteExecutor<'_>,
    host: HostId,
) -> Result<Option<RepositoryId>, DbError> {
    let host = host.to_string();
    let id = sqlx::query_scalar!("SELECT id FROM repositories WHERE store_host_id = ?", host)
        .fetch_optional(db)
        .await?;
    id.map(|id| Row { table: "repositories", id: &id }.parse("id", &id)).transpose()
}

/// Those of these hosts that a plan sends into the store and that have no repository there.
///
/// # Errors
/// When the database fails.
pub async fn hosts_without_repository(db: impl SqliteExecutor<'_>) -> Result<Vec<HostId>, DbError> {
    let ids = sqlx::query_scalar!(
        r#"SELECT DISTINCT host_id AS "host_id!: String" FROM plan_targets WHERE repository_id IS NULL
           ORDER BY 1"#
    )
    .fetch_all(db)
    .await?;
    ids.iter().map(|id| Row { table: "plan_targets", id }.parse("host_id", id)).collect()
}

/// How large the store was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredSize {
    /// When.
    pub taken_at: Timestamp,
    /// The bytes of all its repositories.
    pub bytes: u64,
}

const SECONDS_OF_DAY: i64 = 24 * 60 * 60;

/// Notes how large the store is; the last note of a day stays.
///
/// # Errors
/// When the database fails.
pub async fn note_size(tx: &mut Tx, size: StoredSize) -> Result<(), DbError> {
    let day = size.taken_at.as_second().div_euclid(SECONDS_OF_DAY);
    let (taken_at, bytes) = (millis(size.taken_at), count(size.bytes));
    sqlx::query!(
        "INSERT INTO store_sizes (day, taken_at, bytes) VALUES (?1, ?2, ?3)
         ON CONFLICT (day) DO UPDATE SET taken_at = ?2, bytes = ?3",
        day,
        taken_at,
        bytes
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// How large the store was on each of its last days, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn sizes(db: impl SqliteExecutor<'_>, days: u32) -> Result<Vec<StoredSize>, DbError> {
    let mut rows = sqlx::query!(
        "SELECT day, taken_at, bytes FROM store_sizes ORDER BY day DESC LIMIT ?",
        days
    )
    .fetch_all(db)
    .await?;
    rows.reverse();
    rows.into_iter()
        .map(|row| {
            let id = row.day.to_string();
            let at = Row { table: "store_sizes", id: &id };
            Ok(StoredSize {
                taken_at: at.time("taken_at", row.taken_at)?,
                bytes: uncount(row.bytes),
            })
        })
        .collect()
}

/// Who may come to this repository; none when it is not in the store.
///
/// # Errors
/// When the database fails.
pub async fn access(
    db: impl SqliteExecutor<'_>,
    id: RepositoryId,
) -> Result<Option<Access>, DbError> {
    let key = id.to_string();
    let row = sqlx::query!(
        r#"SELECT store_access_hash AS "hash!", store_quota, hosts.state
           FROM repositories JOIN hosts ON hosts.id = repositories.store_host_id
           WHERE repositories.id = ? AND store_access_hash IS NOT NULL"#,
        key
    )
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        let at = Row { table: "repositories", id: &key };
        Ok(Access {
            hash: at.bytes("store_access_hash", &row.hash)?,
            quota: row.store_quota.map(uncount),
            is_enrolled: row.state == HostState::Enrolled.as_str(),
        })
    })
    .transpose()
}

/// Sets the password with which the host of this repository comes, by its hash.
///
/// # Errors
/// When the database fails.
pub async fn set_access(tx: &mut Tx, id: RepositoryId, hash: &Fingerprint) -> Result<(), DbError> {
    let (id, hash) = (id.to_string(), hash.as_slice());
    sqlx::query!("UPDATE repositories SET store_access_hash = ? WHERE id = ?", hash, id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Limits the bytes that the host of this repository may fill.
///
/// # Errors
/// When the database fails.
pub async fn set_quota(tx: &mut Tx, id: RepositoryId, quota: Option<u64>) -> Result<(), DbError> {
    let (id, quota) = (id.to_string(), quota.map(count));
    sqlx::query!("UPDATE repositories SET store_quota = ? WHERE id = ?", quota, id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Notes when a snapshot arrived; the first note stays.
///
/// # Errors
/// When the database fails.
pub async fn note_arrival(
    tx: &mut Tx,
    repository: RepositoryId,
    snapshot: &str,
    now: Timestamp,
) -> Result<(), DbError> {
    let (repository, now) = (repository.to_string(), millis(now));
    sqlx::query!(
        "INSERT OR IGNORE INTO store_arrivals (repository_id, snapshot_id, arrived_at) VALUES (?, ?, ?)",
        repository,
        snapshot,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// When the snapshots of a repository arrived, by their ids.
///
/// # Errors
/// When the database fails.
pub async fn arrivals(
    db: impl SqliteExecutor<'_>,
    repository: RepositoryId,
) -> Result<BTreeMap<String, Timestamp>, DbError> {
    let key = repository.to_string();
    let rows = sqlx::query!(
        "SELECT snapshot_id, arrived_at FROM store_arrivals WHERE repository_id = ?",
        key
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let at =
                Row { table: "store_arrivals", id: &key }.time("arrived_at", row.arrived_at)?;
            Ok((row.snapshot_id, at))
        })
        .collect()
}
