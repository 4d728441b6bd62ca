//! How far the manager has the journals of the agents, and the hashes of their newest records.

use super::{
    Tx,
    error::DbError,
    row::{Row, count, millis, to_json, uncount},
};
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use protocol::{Code, HostId, JournalId, journal::ChainHash};
use sqlx::SqliteExecutor;
use std::collections::BTreeMap;

/// Marks that are kept of each journal: as many records as an agent may repeat after a lost
/// acknowledgement, many times over.
const MARKS: u64 = 2_000;
/// Records after which those that are too many go.
const PRUNE_EVERY: u64 = 250;

/// How far one journal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalCursor {
    /// The newest record that is stored, 0 for none.
    pub seq: u64,
    /// The hash after it.
    pub hash: ChainHash,
    /// Why the agent must start a new journal, if it must.
    pub renew: Option<Code>,
    /// Whether it is the host's current one.
    pub is_current: bool,
}

fn hash(row: Row<'_>, bytes: &[u8]) -> Result<ChainHash, DbError> {
    ChainHash::try_from(bytes).map_err(|_| row.inconsistent("hash"))
}

/// A hash that is kept; behind the end of a stretch there is none.
fn mark(row: Row<'_>, bytes: Option<&[u8]>) -> Result<Option<ChainHash>, DbError> {
    bytes.filter(|bytes| !bytes.is_empty()).map(|bytes| hash(row, bytes)).transpose()
}

/// A journal, and two records of it.
pub type Records = (HostId, JournalId, [u64; 2]);

/// The cursor of a journal, and which hashes are kept of two records of it.
pub type Found = (JournalCursor, [Option<ChainHash>; 2]);

/// The cursors of journals, and which hashes are kept of these records of them. Those that nobody knows are
/// not among them.
///
/// # Errors
/// When the database fails.
pub async fn cursors(
    db: impl SqliteExecutor<'_>,
    journals: &[Records],
) -> Result<BTreeMap<(HostId, JournalId), Found>, DbError> {
    let wanted: Vec<_> = journals
        .iter()
        .map(|(host, journal, [one, two])| (host, journal, count(*one), count(*two)))
        .collect();
    let wanted = to_json("journals", "journal_id", "many", &wanted)?;
    let rows = sqlx::query!(
        r#"SELECT host_id, journal_id, journals.seq, journals.hash, renew,
           is_current AS "is_current: bool",
           (SELECT substr(hashes, ((wanted.value ->> 2) - mark.seq) * 16 + 1, 16) FROM journal_marks AS mark
            WHERE mark.host_id = journals.host_id AND mark.journal_id = journals.journal_id
            AND mark.seq <= (wanted.value ->> 2) ORDER BY mark.seq DESC LIMIT 1) AS "one: Vec<u8>",
           (SELECT substr(hashes, ((wanted.value ->> 3) - mark.seq) * 16 + 1, 16) FROM journal_marks AS mark
            WHERE mark.host_id = journals.host_id AND mark.journal_id = journals.journal_id
            AND mark.seq <= (wanted.value ->> 3) ORDER BY mark.seq DESC LIMIT 1) AS "two: Vec<u8>"
           FROM json_each(?) AS wanted CROSS JOIN journals
           WHERE host_id = wanted.value ->> 0 AND journal_id = wanted.value ->> 1"#,
        wanted
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|found| {
            let row = Row { table: "journals", id: &found.journal_id };
            let key = (
                row.parse("host_id", &found.host_id)?,
                row.parse("journal_id", &found.journal_id)?,
            );
            let cursor = JournalCursor {
                seq: uncount(found.seq),
                hash: hash(row, &found.hash)?,
                renew: found.renew.as_deref().map(|code| row.word("renew", code)).transpose()?,
                is_current: found.is_current,
            };
            let marks = [mark(row, found.one.as_deref())?, mark(row, found.two.as_deref())?];
            Ok((key, (cursor, marks)))
        })
        .collect()
}

/// The same of one journal.
///
/// # Errors
/// When the database fails.
pub async fn cursor(
    db: impl SqliteExecutor<'_>,
    host: HostId,
    journal: JournalId,
    records: [u64; 2],
) -> Result<Option<Found>, DbError> {
    Ok(cursors(db, &[(host, journal, records)]).await?.remove(&(host, journal)))
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

/// Where a journal stands: the number of a record of it, and the hash after that.
pub type Place = (HostId, JournalId, u64, ChainHash);

/// How far several journals are; those that nobody knows are not among them.
///
/// # Errors
/// When the database fails.
pub async fn places(tx: &mut Tx, journals: &[(HostId, JournalId)]) -> Result<Vec<Place>, DbError> {
    let wanted = to_json("journals", "journal_id", "many", journals)?;
    let rows = sqlx::query!(
        "SELECT host_id, journal_id, seq, hash FROM json_each(?) AS wanted CROSS JOIN journals \
         WHERE host_id = wanted.value ->> 0 AND journal_id = wanted.value ->> 1",
        wanted
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter()
        .map(|found| {
            let row = Row { table: "journals", id: &found.journal_id };
            Ok((
                row.parse("host_id", &found.host_id)?,
                row.parse("journal_id", &found.journal_id)?,
                uncount(found.seq),
                hash(row, &found.hash)?,
            ))
        })
        .collect()
}

/// Moves cursors on to records that were applied in this transaction.
///
/// # Errors
/// When the database fails.
pub async fn advance(tx: &mut Tx, places: &[Place]) -> Result<(), DbError> {
    let places = to_json("journals", "seq", "many", places)?;
    sqlx::query!(
        "UPDATE journals SET seq = new.value ->> 2, hash = unhex(new.value ->> 3) \
         FROM json_each(?) AS new \
         WHERE host_id = new.value ->> 0 AND journal_id = new.value ->> 1",
        places
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

/// Records of a journal that follow each other: the number of the first, and the hashes after each.
pub type Stretch = (HostId, JournalId, u64, Vec<ChainHash>);

/// Keeps the hashes of records.
///
/// # Errors
/// When the database fails.
pub async fn keep_marks(tx: &mut Tx, stretches: &[Stretch]) -> Result<(), DbError> {
    let rows: Vec<_> = stretches
        .iter()
        .map(|(host, journal, seq, hashes)| {
            let mut hex = String::with_capacity(32 * hashes.len());
            hashes.iter().for_each(|hash| HEXLOWER.encode_append(hash.as_bytes(), &mut hex));
            (host, journal, count(*seq), hex)
        })
        .collect();
    let rows = to_json("journal_marks", "seq", "many", &rows)?;
    sqlx::query!(
        "INSERT OR REPLACE INTO journal_marks (host_id, journal_id, seq, hashes) \
         SELECT value ->> 0, value ->> 1, value ->> 2, unhex(value ->> 3) FROM json_each(?)",
        rows
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
        r#"SELECT substr(hashes, (?3 - seq) * 16 + 1, 16) AS "hash!: Vec<u8>" FROM journal_marks
           WHERE host_id = ?1 AND journal_id = ?2 AND seq <= ?3 ORDER BY seq DESC LIMIT 1"#,
        host,
        journal,
        seq
    )
    .fetch_optional(db)
    .await?;
    mark(Row { table: "journal_marks", id: &journal }, bytes.as_deref())
}

/// Forgets the hashes of records that lie far behind, where cursors have moved on to a place from a number:
/// now and then, since it is of no interest how many more are kept for a while.
///
/// # Errors
/// When the database fails.
pub async fn prune_marks(
    tx: &mut Tx,
    moved: impl Iterator<Item = (Place, u64)>,
) -> Result<(), DbError> {
    let far: Vec<_> = moved
        .filter(|((.., to, _), from)| from / PRUNE_EVERY != to / PRUNE_EVERY)
        .filter_map(|((host, journal, to, _), _)| {
            Some((host, journal, count(to.checked_sub(MARKS)?)))
        })
        .collect();
    if far.is_empty() {
        return Ok(());
    }
    let far = to_json("journal_marks", "seq", "many", &far)?;
    // The stretch that reaches over the number stays.
    sqlx::query!(
        "DELETE FROM journal_marks WHERE (host_id, journal_id, seq) IN (SELECT old.host_id, \
         old.journal_id, old.seq FROM json_each(?) AS far CROSS JOIN journal_marks AS old \
         WHERE old.host_id = far.value ->> 0 AND old.journal_id = far.value ->> 1 AND old.seq < \
         (SELECT max(seq) FROM journal_marks WHERE host_id = far.value ->> 0 \
         AND journal_id = far.value ->> 1 AND seq <= far.value ->> 2))",
        far
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
