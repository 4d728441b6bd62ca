//! Transactions that end, whatever SQLite answers.
//!
//! SQLite ends a transaction by itself on a disk that is full, or not, and sqlx's own then counts one that is not
//! there or leaves one open: what is committed within it would look written and not be.

use super::error::Result;
use sqlx::SqliteConnection;

/// Does this, all of it or nothing.
pub(super) async fn within<T>(
    connection: &mut SqliteConnection,
    work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T>,
) -> Result<T> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    let done = match work(&mut *connection).await {
        Ok(done) => match sqlx::query("COMMIT").execute(&mut *connection).await {
            Ok(_) => Ok(done),
            Err(error) => Err(error.into()),
        },
        Err(error) => Err(error),
    };
    if done.is_err() {
        // Where SQLite has ended it there is nothing to take back, and that is the error of this.
        let _ = sqlx::query("ROLLBACK").execute(connection).await;
    }
    done
}
