//! Sessions of admins who signed in over the network. Only the SHA-256 of a cookie is kept.

use super::{
    Tx,
    error::DbError,
    row::{Row, millis},
};
use jiff::Timestamp;
use sqlx::SqliteExecutor;

/// A session as it stands in the database.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Session {
    /// When the admin signed in.
    pub created_at: Timestamp,
    /// When it was last used, to the minute.
    pub last_used_at: Timestamp,
    /// When it ends unless it is used.
    pub expires_at: Timestamp,
}

/// The session of a cookie with this SHA-256.
///
/// # Errors
/// When the database fails.
pub async fn find(
    db: impl SqliteExecutor<'_>,
    token_hash: &[u8],
) -> Result<Option<Session>, DbError> {
    let found = sqlx::query!(
        "SELECT created_at, last_used_at, expires_at FROM sessions WHERE token_hash = ?",
        token_hash
    )
    .fetch_optional(db)
    .await?;
    // The key of a session is not for error texts.
    let row = Row { table: "sessions", id: "a session" };
    found
        .map(|found| {
            Ok(Session {
                created_at: row.time("created_at", found.created_at)?,
                last_used_at: row.time("last_used_at", found.last_used_at)?,
                expires_at: row.time("expires_at", found.expires_at)?,
            })
        })
        .transpose()
}

/// Opens a session.
///
/// # Errors
/// When the database fails.
pub async fn insert(tx: &mut Tx, token_hash: &[u8], session: &Session) -> Result<(), DbError> {
    let created = millis(session.created_at);
    let used = millis(session.last_used_at);
    let expires = millis(session.expires_at);
    sqlx::query!(
        "INSERT INTO sessions (token_hash, created_at, last_used_at, expires_at) VALUES (?, ?, ?, ?)",
        token_hash,
        created,
        used,
        expires
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Notes that a session was used.
///
/// # Errors
/// When the database fails.
pub async fn touch(
    tx: &mut Tx,
    token_hash: &[u8],
    used: Timestamp,
    expires: Timestamp,
) -> Result<(), DbError> {
    let (used, expires) = (millis(used), millis(expires));
    sqlx::query!(
        "UPDATE sessions SET last_used_at = ?, expires_at = ? WHERE token_hash = ?",
        used,
        expires,
        token_hash
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Ends one session.
///
/// # Errors
/// When the database fails.
pub async fn delete(tx: &mut Tx, token_hash: &[u8]) -> Result<(), DbError> {
    sqlx::query!("DELETE FROM sessions WHERE token_hash = ?", token_hash)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Ends all sessions.
///
/// # Errors
/// When the database fails.
pub async fn delete_all(tx: &mut Tx) -> Result<(), DbError> {
    sqlx::query!("DELETE FROM sessions").execute(&mut **tx).await?;
    Ok(())
}

/// Forgets sessions that are over.
///
/// # Errors
/// When the database fails.
pub async fn delete_expired(tx: &mut Tx, now: Timestamp) -> Result<(), DbError> {
    let now = millis(now);
    sqlx::query!("DELETE FROM sessions WHERE expires_at <= ?", now).execute(&mut **tx).await?;
    Ok(())
}
