//! The hosts of the fleet, as far as their rows can be read: one that cannot must not hide the others.

use super::{Host, HostRow};
use crate::db::error::DbError;
use sqlx::SqliteExecutor;

/// The hosts that are not removed.
#[derive(Debug)]
pub struct Fleet {
    /// Those that can be read, by name.
    pub hosts: Vec<Host>,
    /// How many there are besides. Who shows the hosts says so, or a gap looks like nothing.
    pub unreadable: usize,
}

/// All hosts that are not removed. Where a row makes no sense, the log names the place.
///
/// # Errors
/// When the database fails.
pub async fn fleet(db: impl SqliteExecutor<'_>) -> Result<Fleet, DbError> {
    let rows = select_host!("WHERE state <> 'removed' ORDER BY name COLLATE NOCASE, id")
        .fetch_all(db)
        .await?;
    let mut fleet = Fleet { hosts: Vec::with_capacity(rows.len()), unreadable: 0 };
    for row in rows {
        match Host::try_from(row) {
            Ok(host) => fleet.hosts.push(host),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "a machine cannot be read and is left out of lists");
                fleet.unreadable += 1;
            }
        }
    }
    Ok(fleet)
}

/// The hosts of the [`fleet`] that can be read, by name.
///
/// # Errors
/// When the database fails.
pub async fn list(db: impl SqliteExecutor<'_>) -> Result<Vec<Host>, DbError> {
    Ok(fleet(db).await?.hosts)
}
