//! Why the store does not answer, and how its columns become values: one that makes no sense is
//! named by its table, column and row.

use crate::journal::Record;
use jiff::Timestamp;
use protocol::journal::ChainHash;
use std::{fmt::Display, str::FromStr};
use thiserror::Error;

/// Why the store did not answer.
#[derive(Debug, Error)]
pub enum StoreError {
    /// SQLite's own reason.
    #[error("the journal's database failed")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought up to date, or is of a newer agent.
    #[error("the journal's database does not fit this agent")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// Something in it makes no sense.
    #[error("the journal's database is inconsistent: {table}.{column} of {row}: {why}")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's key.
        row: String,
        /// What is wrong.
        why: String,
    },
}

impl StoreError {
    /// Whether it may go away by itself or by making room: a full, busy or failing disk.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Io(_)) => true,
            // SQLite's primary codes BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN.
            Self::Database(error) => {
                matches!(primary_code(error), Some(5 | 6 | 8 | 10 | 13 | 14))
            }
            Self::Migrate(_) | Self::Inconsistent { .. } => false,
        }
    }

    /// Whether the disk has no room. A quota, and memory that is shared by way of a file, answer with the
    /// error of a disk that fails.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Database(error) => matches!(primary_code(error), Some(10 | 13)),
            Self::Migrate(_) | Self::Inconsistent { .. } => false,
        }
    }
}

/// The extended codes carry the primary one in their lowest byte.
pub(super) fn primary_code(error: &sqlx::Error) -> Option<i64> {
    let code: i64 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

pub(super) type Result<T> = std::result::Result<T, StoreError>;

pub(super) fn json(
    table: &'static str,
    column: &'static str,
    row: &str,
    value: &impl serde::Serialize,
) -> Result<String> {
    serde_json::to_string(value).map_err(|error| inconsistent(table, column, row, error))
}

pub(super) fn parse<T: FromStr<Err: Display>>(
    table: &'static str,
    column: &'static str,
    row: &str,
    text: &str,
) -> Result<T> {
    text.parse().map_err(|error| inconsistent(table, column, row, error))
}

pub(super) fn chain_hash(table: &'static str, bytes: &[u8]) -> Result<ChainHash> {
    ChainHash::try_from(bytes).map_err(|error| inconsistent(table, "hash", "?", error))
}

pub(super) fn time(
    table: &'static str,
    column: &'static str,
    row: &str,
    ms: i64,
) -> Result<Timestamp> {
    Timestamp::from_millisecond(ms).map_err(|error| inconsistent(table, column, row, error))
}

pub(super) fn inconsistent(
    table: &'static str,
    column: &'static str,
    row: &str,
    why: impl Display,
) -> StoreError {
    StoreError::Inconsistent { table, column, row: row.to_owned(), why: why.to_string() }
}

/// A row of the journal.
pub(super) fn record(
    seq: i64,
    kind: String,
    payload: String,
    hash: &[u8],
    run_id: Option<String>,
    at_ms: i64,
) -> Result<Record> {
    let row = seq.to_string();
    Ok(Record {
        seq: unsigned(seq),
        kind,
        payload,
        hash: chain_hash("record", hash)?,
        run_id: run_id.map(|text| parse("record", "run_id", &row, &text)).transpose()?,
        at: time("record", "at_ms", &row, at_ms)?,
    })
}

/// SQLite's integers are signed. Numbers here count from zero and never come near the end.
pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}
