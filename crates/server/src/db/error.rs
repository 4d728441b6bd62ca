//! What can go wrong with the database: the driver failed, or a row does not make sense.

use std::path::Path;
use thiserror::Error;

/// An error of the database.
#[derive(Debug, Error)]
pub enum DbError {
    /// The file could not be opened.
    #[error("failed to open the database {path}")]
    Open {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The file was written by a newer version.
    #[error(
        "the database {path} was written by a newer version (schema {present}, this version knows {newest}); \
         nothing was changed. Install the newer version again, or use another data folder"
    )]
    TooNew {
        /// The file.
        path: String,
        /// Its schema.
        present: i64,
        /// The newest schema this version knows.
        newest: i64,
    },
    /// A migration failed; the copy that was put aside is untouched.
    #[error("failed to bring the database {path} up to date")]
    Migrate {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// The driver failed.
    #[error("the database failed")]
    Driver(#[from] sqlx::Error),
    /// A row holds something that this version cannot have written.
    #[error("the database is inconsistent: {table}.{column} of {row}")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's id.
        row: String,
    },
}

impl DbError {
    pub(super) fn open(path: &Path, source: sqlx::Error) -> Self {
        Self::Open { path: path.display().to_string(), source }
    }

    /// A row that does not make sense.
    #[must_use]
    pub fn inconsistent(table: &'static str, column: &'static str, row: impl ToString) -> Self {
        Self::Inconsistent { table, column, row: row.to_string() }
    }
}
