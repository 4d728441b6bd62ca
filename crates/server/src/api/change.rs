//! A change that an admin makes: it cannot be committed without its entry in the audit log.

use super::error::ApiResult;
use crate::{
    auth::Principal,
    db::{Tx, audit},
    manager::Manager,
};
use anyhow::Context as _;
use jiff::Timestamp;

/// An open change. Dropped without [`Change::commit`] it leaves nothing behind.
#[derive(Debug)]
pub struct Change {
    /// The transaction that it is made in.
    pub tx: Tx,
    /// When.
    pub now: Timestamp,
    /// Who makes it.
    pub who: Principal,
}

impl Change {
    /// Begins a change.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn begin(manager: &Manager, who: Principal) -> ApiResult<Self> {
        let tx = manager.db().begin().await?;
        let now = manager.now();
        // What is answered must be what is read back, and the database keeps milliseconds.
        let now = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
        Ok(Self { tx, now, who })
    }

    /// Writes an audit entry: for a change that is made of several.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note(&mut self, action: &str, subject: &str, detail: &str) -> ApiResult<()> {
        let who = self.who.as_str();
        Ok(audit::insert(&mut self.tx, self.now, who, action, subject, detail).await?)
    }

    /// Writes the audit entry and commits.
    ///
    /// # Errors
    /// When the database fails; then nothing was changed.
    pub async fn commit(mut self, action: &str, subject: &str, detail: &str) -> ApiResult<()> {
        self.note(action, subject, detail).await?;
        self.tx.commit().await.context("failed to commit a change")?;
        Ok(())
    }
}
