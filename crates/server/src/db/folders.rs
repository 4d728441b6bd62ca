//! Folders of snapshots as an agent listed them.

use super::{
    Tx,
    error::DbError,
    row::{Row, millis, to_json},
};
use jiff::Timestamp;
use protocol::{TreeEntry, TreeWant};
use sqlx::SqliteExecutor;

/// The most bytes that listings may take; the least used ones make room.
const MAX_BYTES: i64 = 64 * 1024 * 1024;

/// A listed folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// What is in it, in restic's order.
    pub entries: Vec<TreeEntry>,
    /// When it was listed.
    pub read_at: Timestamp,
}

/// The folder, if it was listed before.
///
/// # Errors
/// When the database fails.
pub async fn find(db: impl SqliteExecutor<'_>, want: &TreeWant) -> Result<Option<Folder>, DbError> {
    let repository = want.repository_id.to_string();
    let found = sqlx::query!(
        "SELECT entries, read_at FROM folders \
         WHERE repository_id = ? AND snapshot_id = ? AND path = ?",
        repository,
        want.snapshot_id,
        want.path
    )
    .fetch_optional(db)
    .await?;
    let row = Row { table: "folders", id: &want.snapshot_id };
    found
        .map(|found| {
            Ok(Folder {
                entries: row.json("entries", &found.entries)?,
                read_at: row.time("read_at", found.read_at)?,
            })
        })
        .transpose()
}

/// Keeps a listed folder, and lets the least used ones go where there are too many.
///
/// # Errors
/// When the database fails.
pub async fn keep(tx: &mut Tx, want: &TreeWant, folder: &Folder) -> Result<(), DbError> {
    let repository = want.repository_id.to_string();
    let entries = to_json("folders", "entries", &want.snapshot_id, &folder.entries)?;
    let read_at = millis(folder.read_at);
    sqlx::query!(
        "INSERT INTO folders (repository_id, snapshot_id, path, entries, read_at, used_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?5) ON CONFLICT DO UPDATE SET \
         entries = excluded.entries, read_at = excluded.read_at, used_at = excluded.used_at",
        repository,
        want.snapshot_id,
        want.path,
        entries,
        read_at
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "DELETE FROM folders WHERE (repository_id, snapshot_id, path) IN (SELECT repository_id, \
         snapshot_id, path FROM (SELECT repository_id, snapshot_id, path, sum(length(entries)) \
         OVER (ORDER BY used_at DESC, repository_id, snapshot_id, path) AS bytes FROM folders) \
         WHERE bytes > ?)",
        MAX_BYTES
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Notes that somebody looked at the folder.
///
/// # Errors
/// When the database fails.
pub async fn note_use(tx: &mut Tx, want: &TreeWant, now: Timestamp) -> Result<(), DbError> {
    let (repository, now) = (want.repository_id.to_string(), millis(now));
    sqlx::query!(
        "UPDATE folders SET used_at = ? \
         WHERE repository_id = ? AND snapshot_id = ? AND path = ?",
        now,
        repository,
        want.snapshot_id,
        want.path
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
