//! The admin's way into one repository.

use super::{Refused, Store, blocking};
use jiff::Timestamp;
use protocol::{RepositoryId, Secret};
use std::sync::PoisonError;

/// The admin's way into one repository, for one operation. Dropped, it is void, and the locks that
/// were taken under it mean nothing any more.
#[derive(Debug)]
pub struct Pass {
    pub(super) store: Store,
    pub(super) repository: RepositoryId,
    /// When the operation began: what it deletes is found under this.
    pub at: Timestamp,
    /// What it has to show.
    pub password: Secret<String>,
}

impl Pass {
    /// How much the host has added so far, as a number that grows with it.
    #[must_use]
    pub fn host_wrote(&self) -> u64 {
        self.store.ledger(self.repository).host_wrote()
    }

    /// All that the host had added, up to this much, was read and found sound.
    pub fn checked(&self, host_wrote: u64) {
        self.store.ledger(self.repository).checked(host_wrote);
    }

    /// Whether all that the host has added was read and found sound, since this process began.
    #[must_use]
    pub fn is_checked(&self) -> bool {
        self.store.ledger(self.repository).is_checked()
    }

    /// From now on lets this pass delete data only while all that the host has added is checked: what
    /// was checked must be what is pruned. Says whether it is.
    #[must_use]
    pub fn delete_what_was_checked(&self) -> bool {
        self.store.ledger(self.repository).delete_what_was_checked()
    }

    /// Ends the operation, and removes the locks that it left in the repository.
    ///
    /// # Errors
    /// When there is no folder, or the disk fails.
    pub async fn leave(self) -> Result<(), Refused> {
        let (place, repository) = (self.store.here().await?, self.repository);
        blocking(move || Ok(place.release_locks(Some(repository))?)).await
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut passes = self.store.0.passes.lock().unwrap_or_else(PoisonError::into_inner);
        passes.remove(&self.repository);
        self.store.ledger(self.repository).admin_left();
    }
}
