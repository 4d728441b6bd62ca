//! The bound of the database, and the room in it that is kept for outcomes.
//!
//! Over the bound the bodies of logs make room, oldest first: those that the manager has, then those of
//! runs that have ended, then any. One record stands in their place. Outcomes and whatever else is no line of
//! a log stay: they are a few kilobytes a day.

use super::{
    Store,
    error::{Result, inconsistent, json, parse, signed, time, unsigned},
    transaction::within,
};
use crate::{
    core::Change,
    journal::{HASHES_LEFT, Line, Turn, elide},
};
use protocol::journal::{ChainHash, JournalElided, kind};
use sqlx::SqliteConnection;

/// What the database takes of the disk: a hundred logs as long as a log may be, or a year of hourly runs
/// with logs of the usual length.
pub const BOUND: u64 = 256 * 1024 * 1024;

/// So much of the bound is free afterwards, as a part of it: making room costs more than it brings when it is
/// done for each record.
const SLACK: u64 = 8;

/// After so many bytes it is looked whether the bound is reached, as a part of it.
const LOOK_AFTER: u64 = 256;

/// Room for outcomes: a few hundred of the usual size, or four of the largest.
const RESERVE: i64 = 1024 * 1024;

/// What is made free when the disk is full, and there are logs.
const MORE_ROOM: u64 = 2 * 1024 * 1024;

/// Below this not even two of the largest outcomes find room for certain.
const LEAST_SPARE: u64 = 512 * 1024;

/// What the log beside the database holds before it is moved into the database, which may have to grow by as
/// much: little, because the disk may be full by then.
pub(crate) const LOG_BYTES: u64 = 512 * 1024;

/// Lines that are looked at together.
const CHUNK: u32 = 2_000;

/// How much there may be, and how much came since somebody looked.
#[derive(Debug)]
pub(super) struct Bound {
    bytes: u64,
    written: u64,
    look_after: u64,
}

impl Default for Bound {
    fn default() -> Self {
        Self { bytes: BOUND, written: 0, look_after: BOUND / LOOK_AFTER }
    }
}

impl Bound {
    pub(super) fn note(&mut self, changes: &[Change]) {
        let bytes = changes.iter().map(|change| match change {
            Change::Append(record, _) => record.payload.len() as u64,
            Change::Acked(_)
            | Change::Run(_)
            | Change::Numbers { .. }
            | Change::Incarnation(_)
            | Change::Epoch(_)
            | Change::Ticket(_)
            | Change::View(..)
            | Change::Mark(..)
            | Change::Awake(_)
            | Change::ToldZone(_)
            | Change::PlanAlarm(..)
            | Change::Delivery(..) => 0,
        });
        self.written += bytes.sum::<u64>();
    }
}

/// A line that is to make room, and the journal's hash after it.
struct Found {
    line: Line,
    hash: Vec<u8>,
}

impl Store {
    /// Sets another bound, for tests.
    pub fn set_bound(&mut self, bytes: u64) {
        self.bound = Bound { bytes, written: 0, look_after: bytes / LOOK_AFTER };
    }

    /// Keeps the database within its bound, once enough was written since the last look. Says how many lines
    /// made room.
    ///
    /// # Errors
    /// When SQLite says so; what made room until then has made room.
    pub async fn keep_within_bound(&mut self) -> Result<u64> {
        if self.bound.written < self.bound.look_after {
            return Ok(0);
        }
        self.bound.written = 0;
        if self.used().await? <= self.bound.bytes {
            return Ok(0);
        }
        let target = self.bound.bytes - self.bound.bytes / SLACK;
        let lines = self.elide_down_to(target).await?;
        // Where next to nothing is left that could make room, looking through all of it again is in vain.
        let is_in_vain = self.used().await? > target;
        let patience = if is_in_vain { 8 } else { LOOK_AFTER };
        self.bound.look_after = self.bound.bytes / patience;
        Ok(lines)
    }

    /// What the database takes of its file, in bytes.
    ///
    /// # Errors
    /// When SQLite says so.
    pub async fn used(&mut self) -> Result<u64> {
        let (pages, free, size) = self.pages().await?;
        Ok(pages.saturating_sub(free) * size)
    }

    async fn pages(&mut self) -> Result<(u64, u64, u64)> {
        let connection = &mut self.connection;
        let pages: i64 =
            sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut *connection).await?;
        let free: i64 =
            sqlx::query_scalar("PRAGMA freelist_count").fetch_one(&mut *connection).await?;
        let size: i64 = sqlx::query_scalar("PRAGMA page_size").fetch_one(connection).await?;
        Ok((unsigned(pages), unsigned(free), unsigned(size)))
    }

    async fn elide_down_to(&mut self, target: u64) -> Result<u64> {
        let mut lines = 0;
        for turn in Turn::ALL {
            let mut after = Some(0);
            while let Some(from) = after
                && self.used().await? > target
            {
                let (next, elided) = self.elide_some(turn, from, CHUNK).await?;
                after = next;
                lines += elided;
            }
        }
        Ok(lines)
    }

    /// Lets some lines make room, so many at most. Gives back where to go on, and how many there were.
    ///
    /// # Errors
    /// When SQLite says so, or something makes no sense.
    pub async fn elide_some(
        &mut self,
        turn: Turn,
        after: u64,
        most: u32,
    ) -> Result<(Option<u64>, u64)> {
        let up_to = match turn {
            Turn::Acknowledged => self.journal().await?.acked,
            Turn::Ended | Turn::Any => super::MAX_SEQ,
        };
        within(&mut self.connection, async |connection| {
            let lines = lines(connection, turn, after, up_to, most).await?;
            let mut elided = 0;
            for group in lines.chunk_by(|one, other| one.line.seq + 1 == other.line.seq) {
                elided += elide_group(connection, group).await?;
            }
            sqlx::query!("DELETE FROM hash_left WHERE seq <= (SELECT acked_seq FROM agent_state)")
                .execute(connection)
                .await?;
            Ok((lines.last().map(|found| found.line.seq), elided))
        })
        .await
    }

    /// Takes the room that outcomes need when the disk is full. It is written anew each time: with that the log
    /// beside the database has the same room, which it keeps until the database is closed.
    ///
    /// # Errors
    /// When SQLite says so, as on a disk that is still full.
    pub async fn fill_reserve(&mut self) -> Result<()> {
        // Not zeros: a file system that compresses would give them no room.
        sqlx::query!(
            "INSERT OR REPLACE INTO reserve (id, room) VALUES (1, randomblob(?))",
            RESERVE
        )
        .execute(&mut self.connection)
        .await?;
        self.checkpoint().await.map(drop)
    }

    /// The disk is full: gives outcomes the room that was kept for them, and what some old logs take. Each
    /// step may fail on such a disk, and the others are of use without it. `give_back` makes a part of what was
    /// kept outside of the database free, and says whether there was one.
    pub async fn make_room(&mut self, mut give_back: impl FnMut() -> bool) {
        // What is in the log beside the database goes into it, so that its room can be written again. For that
        // the database may have to grow. What it got stays its own when it was not enough, so that whoever fills
        // the disk can have some parts and not all.
        let mut moved = self.checkpoint().await;
        while !matches!(moved, Ok(true)) && give_back() {
            moved = self.checkpoint().await;
        }
        while give_back() {}
        let released = sqlx::query!("DELETE FROM reserve").execute(&mut self.connection).await;
        let elided = match self.pages().await {
            // What is free already was of no use, and neither would more be.
            Ok((_, free, size)) if free * size >= MORE_ROOM => Ok(()),
            Ok((pages, free, size)) => {
                let used = pages.saturating_sub(free) * size;
                let more = MORE_ROOM - free * size;
                self.elide_down_to(used.saturating_sub(more)).await.map(drop)
            }
            Err(error) => Err(error),
        };
        let moved_again = self.checkpoint().await.map(drop);
        let released = released.map(drop).map_err(super::StoreError::from);
        for error in
            [moved.map(drop), released, elided, moved_again].into_iter().filter_map(Result::err)
        {
            let error = anyhow::Error::from(error);
            tracing::warn!(error = format!("{error:#}"), "No room could be made in the journal");
        }
    }

    /// Whether the database has room for outcomes in itself, whatever the disk has.
    ///
    /// # Errors
    /// When SQLite says so.
    pub async fn has_room_for_outcomes(&mut self) -> Result<bool> {
        let reserved = sqlx::query_scalar!("SELECT count(*) FROM reserve")
            .fetch_one(&mut self.connection)
            .await?;
        let (_, free, size) = self.pages().await?;
        Ok(reserved > 0 || free * size >= LEAST_SPARE)
    }

    /// Moves what is in the log beside the database into it, so that the log can be written from its beginning.
    /// Says whether all of it is there.
    async fn checkpoint(&mut self) -> Result<bool> {
        let (busy, frames, moved): (i64, i64, i64) =
            sqlx::query_as("PRAGMA wal_checkpoint(PASSIVE)")
                .fetch_one(&mut self.connection)
                .await?;
        Ok(busy == 0 && frames == moved)
    }
}

/// The journal's hash after a record that made room, if it is kept.
pub(super) async fn hash_left(
    connection: &mut SqliteConnection,
    seq: u64,
) -> Result<Option<ChainHash>> {
    let number = signed(seq);
    let hash = sqlx::query_scalar!("SELECT hash FROM hash_left WHERE seq = ?", number)
        .fetch_optional(connection)
        .await?;
    hash.map(|hash| {
        ChainHash::try_from(hash.as_slice())
            .map_err(|error| inconsistent("hash_left", "hash", &seq.to_string(), error))
    })
    .transpose()
}

async fn lines(
    connection: &mut SqliteConnection,
    turn: Turn,
    after: u64,
    up_to: u64,
    most: u32,
) -> Result<Vec<Found>> {
    let (after, up_to, is_any) = (signed(after), signed(up_to), turn == Turn::Any);
    let rows = sqlx::query!(
        r#"SELECT seq, run_id AS "run_id!", hash, at_ms, payload ->> '$.seq' AS "line!: i64",
           octet_length(payload) AS "bytes!: i64" FROM record
           WHERE kind = 'log.stream' AND seq > ?1 AND seq <= ?2 AND run_id IS NOT NULL
           AND json_type(payload, '$.seq') = 'integer'
           AND (?3 OR NOT EXISTS (SELECT 1 FROM run WHERE run.id = record.run_id
               AND run.state IN ('accepted', 'queued', 'running')))
           ORDER BY seq LIMIT ?4"#,
        after,
        up_to,
        is_any,
        most
    )
    .fetch_all(connection)
    .await?;
    let lines = rows.into_iter().map(|row| {
        let key = row.seq.to_string();
        let line = Line {
            seq: unsigned(row.seq),
            run_id: parse("record", "run_id", &key, &row.run_id)?,
            at: time("record", "at_ms", &key, row.at_ms)?,
            line: unsigned(row.line),
            bytes: unsigned(row.bytes),
        };
        Ok(Found { line, hash: row.hash })
    });
    lines.collect()
}

/// Puts one record in the place of these lines, which follow each other, and of what stands for lines
/// directly before them; more than one where they are of many runs.
async fn elide_group(connection: &mut SqliteConnection, group: &[Found]) -> Result<u64> {
    let Some(first) = group.first() else { return Ok(0) };
    let before = elided_at(connection, first.line.seq.saturating_sub(1)).await?;
    let lines: Vec<Line> = group.iter().map(|found| found.line).collect();
    let elided = elide(before, &lines);
    for (seq, one) in &elided {
        if let Some(last) = group.iter().find(|found| found.line.seq == *seq) {
            replace(connection, one, last).await?;
        }
    }
    Ok(if elided.is_empty() { 0 } else { lines.len() as u64 })
}

/// What stands for lines and ends with this record.
async fn elided_at(connection: &mut SqliteConnection, seq: u64) -> Result<Option<JournalElided>> {
    let number = signed(seq);
    let payload = sqlx::query_scalar!(
        "SELECT payload FROM record WHERE seq = ? AND kind = 'journal.elided'",
        number
    )
    .fetch_optional(connection)
    .await?;
    Ok(payload.and_then(|payload| JournalElided::read(seq, kind::JOURNAL_ELIDED, &payload)))
}

async fn replace(
    connection: &mut SqliteConnection,
    elided: &JournalElided,
    Found { line: last, hash }: &Found,
) -> Result<()> {
    if !elided.counts(last.seq) {
        return Err(inconsistent("record", "payload", &last.seq.to_string(), "lines do not count"));
    }
    let (from, seq) = (signed(elided.first_seq), signed(last.seq));
    let payload = json("record", "payload", &last.seq.to_string(), elided)?;
    let run_id = match elided.runs.as_slice() {
        [one] => Some(one.job_id.to_string()),
        _ => None,
    };
    let at = last.at.as_millisecond();
    let most = signed(HASHES_LEFT);
    sqlx::query!(
        "INSERT INTO hash_left (seq, hash) SELECT seq, hash FROM record \
         WHERE seq >= ?1 AND seq < ?2 AND seq > (SELECT acked_seq FROM agent_state) \
         AND seq <= (SELECT acked_seq FROM agent_state) + ?3",
        from,
        seq,
        most
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!("DELETE FROM record WHERE seq >= ? AND seq <= ?", from, seq)
        .execute(&mut *connection)
        .await?;
    sqlx::query!(
        "INSERT INTO record (seq, kind, payload, hash, run_id, at_ms) \
         VALUES (?, 'journal.elided', ?, ?, ?, ?)",
        seq,
        payload,
        hash,
        run_id,
        at
    )
    .execute(connection)
    .await?;
    Ok(())
}
