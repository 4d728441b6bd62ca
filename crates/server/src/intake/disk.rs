//! The disk of the database. While it is nearly full, nothing of what machines report is taken in: they
//! keep it, and what is left stays for what the admin does, such as revoking the machine that filled it.

use crate::{
    db::{error::DbError, notices, notices::NewNotice},
    events::Topic,
    manager::Manager,
    store::place::{Room, room},
};
use protocol::Code;
use std::path::PathBuf;
use tokio::task::spawn_blocking;

/// What is left free, at most. Uploads into the store leave more, so that a store that is full does not
/// keep outcomes out.
const FREE_FOR_ADMIN: u64 = 64 * 1024 * 1024;
/// The same on a small disk, as a part of it.
const FREE_PART: u64 = 40;

/// What is known of the disk.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    /// `None` until it was looked at.
    is_full: Option<bool>,
}

impl Disk {
    /// The disk on which this folder lies.
    pub(super) fn of(folder: PathBuf) -> Self {
        Self { folder, is_full: None }
    }

    /// Whether more can be stored. The admin is told when that changes.
    pub(super) async fn has_room(&mut self, manager: &Manager) -> bool {
        let folder = self.folder.clone();
        // A disk that does not tell how full it is must not keep everything out.
        let room = spawn_blocking(move || room(&folder)).await.ok().flatten();
        let is_full = room.is_some_and(is_full);
        if self.is_full.replace(is_full) != Some(is_full)
            && let Err(error) = tell(manager, is_full).await
        {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "failed to tell how full the disk is"
            );
        }
        !is_full
    }
}

fn is_full(room: Room) -> bool {
    room.free < (room.total / FREE_PART).min(FREE_FOR_ADMIN)
}

async fn tell(manager: &Manager, is_full: bool) -> Result<(), DbError> {
    let mut tx = manager.db().begin().await?;
    let now = manager.now();
    let is_news = if is_full {
        tracing::error!("The disk of the database is nearly full; nothing more is taken in");
        let notice = NewNotice {
            host_id: None,
            is_hold: false,
            code: Code::DiskFull,
            subject: String::new(),
            message: "The disk with the manager's database is nearly full. What machines report is not \
                      taken in: they keep it, and send it when there is room."
                .to_owned(),
            guidance: Some(
                "Free some space. If one machine fills the disk, see whose runs and snapshots these \
                 are, and revoke it."
                    .to_owned(),
            ),
        };
        notices::open(&mut tx, manager.new_id(), &notice, now).await?;
        true
    } else {
        notices::resolve_code(&mut tx, None, Code::DiskFull, now).await?
    };
    tx.commit().await?;
    if is_news {
        manager.events().publish(Topic::Notices);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_disk_is_full_later_and_a_large_one_at_64_mib() {
        let disk = |total, free| is_full(Room { total, free });
        let (mib, tib) = (1024 * 1024, 1024 * 1024 * 1024 * 1024);
        assert!(disk(tib, 64 * mib - 1) && !disk(tib, 64 * mib));
        assert!(disk(400 * mib, 10 * mib - 1) && !disk(400 * mib, 10 * mib));
    }
}
