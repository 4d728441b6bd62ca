//! How far the manager has the journals of the agents, and the hashes of their newest records.

use super::{
    Tx,
    error::DbError,
    row::{Row, count, millis, uncount},
};
use jiff::Timestamp;
use protocol::{Code, HostId, JournalId, journal::ChainHash};
use sqlx::SqliteExecutor;

/// Marks that are kept of each journal: as many records as an agent may repeat after a lost
/// acknowledgement, many times over.
const MARKS: u64 = 2_000;

/// How far one journal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalCursor {
    /// The newest record that is stored, 0 for none.
    pub seq: u64,
    /// The hash after it.
    pub hash: ChainHash,
    /// Why the agent must start a new journal, if it must.
    pub renew: Option<Code>,
}

fn hash(row: Row<'_>, bytes: &[u8]) -> Result<ChainHash, DbError> {
    ChainHash::try_from(bytes).map_err(|_| row.inconsistent("hash"))
}

/// The cursor of one journal.
///
/// # Errors
/// When the database fails.
pub async fn cursor(
    db: impl SqliteExecutor<'_>,
    host: HostId,
    journal: JournalId,
) -> Result<Option<JournalCursor>, DbError> {
    let (host, journal) = (host.to_string(), journal.to_string());
    let row = sqlx::query!(
        "SELECT seq, hash, renew FROM journals WHERE host_id = ? AND journal_id = ?",
        host,
        journal
    )
    .fetch_optional(db)
    .await?;
    let Some(found) = row else { return Ok(None) };
    let row = Row { table: "journals", id: &journal };
    let renew = found.renew.as_deref().map(|code| row.word("renew", code)).transpose()?;
    Ok(Some(JournalCursor { seq: uncount(found.seq), hash: hash(row, &found.hash)?, renew }))
}

/// Whether the host ever had a journal here.
///
/// # Errors
/// When the database fails.
pub async fn has_any(db: impl SqliteExecutor<'_>, host: HostId) -> Result<bool, DbError> {
    let host = host.to_string();
    let n = sqlx::query_scalar!("SELECT count(*) FROM journals WHERE host_id = ?", host)
        .fetch_one(db)
        .await?;
    Ok(n > 0)
}

/// Makes a journal the host's current one and sets its cursor, whether it is known or not.
///
/// # Errors
/// When the database fails.
pub async fn set(
    tx: &mut Tx,
    host: HostId,
    journal: JournalId,
    seq: u64,
    hash: ChainHash,
    now: Timestamp,
) -> Result<(), DbError> {
    let (host, journal) = (host.to_string(), journal.to_string());
    let (seq, hash, now) = (count(seq), hash.as_bytes().as_slice(), millis(now));
    sqlx::query!(
        "UPDATE journals SET is_current = 0 WHERE host_id = ? AND journal_id <> ?",
        host,
        journal
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "INSERT INTO journals (host_id, journal_id, seq, hash, opened_at, is_current) \
         VALUES (?, ?, ?, ?, ?, 1) ON CONFLICT (host_id, journal_id) \
         DO UPDATE SET seq = excluded.seq, hash = excluded.hash, is_current = 1",
        host,
        journal,
        seq,
        hash,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Moves a cursor on to a record that was applied in this transaction.
///
/// # Errors
/// When the database fails.
pub async fn advance(
    tx: &mut Tx,
    host: HostId,
    journal: JournalId,
    seq: u64,
    hash: ChainHash,
) -> Result<(), DbError> {
    let (host, journal) = (host.to_string(), journal.to_string());
    let (seq, hash) = (count(seq), hash.as_bytes().as_slice());
    sqlx::query!(
        "UPDATE journals SET seq = ?, hash = ? WHERE host_id = ? AND journal_id = ?",
        seq,
        hash,
        host,
        journal
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Notes that the agent must start a new journal the next time it comes.
///
/// # Errors
/// When the database fails.
pub async fn set_renew(
    tx: &mut Tx,
    host: HostId,
    journal: JournalId,
    reason: Code,
) -> Result<(), DbError> {
    let (host, journal, reason) = (host.to_string(), journal.to_string(), reason.as_str());
    sqlx::query!(
        "UPDATE journals SET renew = ? WHERE host_id = ? AND journal_id = ?",
        reason,
        host,
        journal
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Keeps the hash of a record.
///
/// # Errors
/// When the database fails.
pub async fn mark(
    tx: &mut Tx,
    host: HostId,
    journal: JournalId,
    seq: u64,
    hash: ChainHash,
) -> Result<(), DbError> {
    let (host, journal) = (host.to_string(), journal.to_string());
    let (seq, hash) = (count(seq), hash.as_bytes().as_slice());
    sqlx::query!(
        "INSERT OR REPLACE INTO journal_marks (host_id, journal_id, seq, hash) \
         VALUES (?, ?, ?, ?)",
        host,
        journal,
        seq,
        hash
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The hash of a record, if it is kept.
///
/// # Errors
/// When the database fails.
pub async fn mark_of(
    db: impl SqliteExecutor<'_>,
    host: HostId,
    journal: JournalId,
    seq: u64,
) -> Result<Option<ChainHash>, DbError> {
    let (host, journal, seq) = (host.to_string(), journal.to_string(), count(seq));
    let bytes = sqlx::query_scalar!(
        "SELECT hash FROM journal_marks WHERE host_id = ? AND journal_id = ? AND seq = ?",
        host,
        journal,
        seq
    )
    .fetch_optional(db)
    .await?;
    let row = Row { table: "journal_marks", id: &journal };
    bytes.map(|bytes| hash(row, &bytes)).transpose()
}

/// Forgets the hashes of records that lie far behind.
///
/// # Errors
/// When the database fails.
pub async fn prune_marks(
    tx: &mut Tx,
    host: HostId,
    journal: JournalId,
    seq: u64,
) -> Result<(), DbError> {
    let (host, journal, below) =
        (host.to_string(), journal.to_string(), count(seq.saturating_sub(MARKS)));
    sqlx::query!(
        "DELETE FROM journal_marks WHERE host_id = ? AND journal_id = ? AND seq < ?",
        host,
        journal,
        below
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
