//! The audit log: who did what, and when. Written in the transaction that does it.

use super::{
    Tx,
    error::DbError,
    row::{Row, millis},
};
use jiff::Timestamp;
use sqlx::SqliteExecutor;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its number.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub principal: String,
    /// What, such as `host.revoke`.
    pub action: String,
    /// To what, such as `host:<id>`.
    pub subject: String,
    /// More about it; never a secret.
    pub detail: String,
}

/// Writes one entry.
///
/// # Errors
/// When the database fails.
pub async fn insert(
    tx: &mut Tx,
    at: Timestamp,
    principal: &str,
    action: &str,
    subject: &str,
    detail: &str,
) -> Result<(), DbError> {
    let at = millis(at);
    sqlx::query!(
        "INSERT INTO audit (at, principal, action, subject, detail) VALUES (?, ?, ?, ?, ?)",
        at,
        principal,
        action,
        subject,
        detail
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The newest entries before this number, newest first.
///
/// # Errors
/// When the database fails.
pub async fn list(
    db: impl SqliteExecutor<'_>,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<AuditEntry>, DbError> {
    let before = before.unwrap_or(i64::MAX);
    let rows = sqlx::query!(
        "SELECT id, at, principal, action, subject, detail FROM audit WHERE id < ? ORDER BY id DESC LIMIT ?",
        before,
        limit
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(AuditEntry {
                at: Row { table: "audit", id: &row.id.to_string() }.time("at", row.at)?,
                id: row.id,
                principal: row.principal,
                action: row.action,
                subject: row.subject,
                detail: row.detail,
            })
        })
        .collect()
}
