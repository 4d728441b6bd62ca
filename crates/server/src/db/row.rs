//! From columns to domain values, with an error that names the place when a value makes no sense.

use super::error::DbError;
use jiff::Timestamp;
use serde::{
    Deserialize,
    de::{DeserializeOwned, IntoDeserializer, value::Error as WordError},
};
use std::str::FromStr;

/// A time as it is stored. Within the last second of the calendar it is the beginning of that: as
/// milliseconds there is none behind it, and a row that cannot be read hides all others.
#[must_use]
pub fn millis(time: Timestamp) -> i64 {
    time.as_millisecond().min(Timestamp::MAX.as_second() * 1_000)
}

/// A count as it is stored. What does not fit was never counted by anyone.
#[must_use]
pub fn count(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A count as it was stored.
#[must_use]
pub fn uncount(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// One row, for reading its columns.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    /// The table.
    pub table: &'static str,
    /// The row's id.
    pub id: &'a str,
}

impl Row<'_> {
    /// The error for one column.
    #[must_use]
    pub fn inconsistent(self, column: &'static str) -> DbError {
        DbError::inconsistent(self.table, column, self.id)
    }

    /// A stored time.
    ///
    /// # Errors
    /// When it lies outside of all calendars.
    pub fn time(self, column: &'static str, millis: i64) -> Result<Timestamp, DbError> {
        Timestamp::from_millisecond(millis).map_err(|_| self.inconsistent(column))
    }

    /// A stored time that may be absent.
    ///
    /// # Errors
    /// As [`Row::time`].
    pub fn maybe_time(
        self,
        column: &'static str,
        millis: Option<i64>,
    ) -> Result<Option<Timestamp>, DbError> {
        millis.map(|millis| self.time(column, millis)).transpose()
    }

    /// A stored id or other value with a text form.
    ///
    /// # Errors
    /// When the text is none.
    pub fn parse<T: FromStr>(self, column: &'static str, text: &str) -> Result<T, DbError> {
        text.parse().map_err(|_| self.inconsistent(column))
    }

    /// A stored id that may be absent.
    ///
    /// # Errors
    /// As [`Row::parse`].
    pub fn maybe_parse<T: FromStr>(
        self,
        column: &'static str,
        text: Option<&str>,
    ) -> Result<Option<T>, DbError> {
        text.map(|text| self.parse(column, text)).transpose()
    }

    /// A stored word of a wire enum.
    ///
    /// # Errors
    /// When the enum has no such word.
    pub fn word<T>(self, column: &'static str, word: &str) -> Result<T, DbError>
    where
        T: for<'de> Deserialize<'de>,
    {
        let word = IntoDeserializer::<WordError>::into_deserializer(word);
        T::deserialize(word).map_err(|_| self.inconsistent(column))
    }

    /// A stored JSON value.
    ///
    /// # Errors
    /// When it is no JSON of that type.
    pub fn json<T: DeserializeOwned>(self, column: &'static str, text: &str) -> Result<T, DbError> {
        serde_json::from_str(text).map_err(|_| self.inconsistent(column))
    }

    /// A stored JSON value that may be absent.
    ///
    /// # Errors
    /// As [`Row::json`].
    pub fn maybe_json<T: DeserializeOwned>(
        self,
        column: &'static str,
        text: Option<&str>,
    ) -> Result<Option<T>, DbError> {
        text.map(|text| self.json(column, text)).transpose()
    }

    /// A stored hash or other value of fixed length.
    ///
    /// # Errors
    /// When it has another length.
    pub fn bytes<const N: usize>(
        self,
        column: &'static str,
        bytes: &[u8],
    ) -> Result<[u8; N], DbError> {
        bytes.try_into().map_err(|_| self.inconsistent(column))
    }

    /// A stored hash that may be absent.
    ///
    /// # Errors
    /// As [`Row::bytes`].
    pub fn maybe_bytes<const N: usize>(
        self,
        column: &'static str,
        bytes: Option<&[u8]>,
    ) -> Result<Option<[u8; N]>, DbError> {
        bytes.map(|bytes| self.bytes(column, bytes)).transpose()
    }
}

/// A value as JSON for storage. The types that are stored have no form that JSON cannot hold.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn to_json<T: serde::Serialize + ?Sized>(
    table: &'static str,
    column: &'static str,
    row: impl ToString,
    value: &T,
) -> Result<String, DbError> {
    serde_json::to_string(value).map_err(|_| DbError::inconsistent(table, column, row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_that_there_is_can_be_read_again() {
        let row = Row { table: "runs", id: "1" };
        for time in [Timestamp::MIN, Timestamp::MAX, Timestamp::UNIX_EPOCH] {
            let read = row.time("at", millis(time)).unwrap();
            assert_eq!(read.as_second(), time.as_second());
        }
        assert!(row.time("at", i64::MAX).is_err());
    }
}
