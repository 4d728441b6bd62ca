//! One computation of the fleet's slots at a time, for all who ask: a month of a large fleet is much to read.

use super::{Ledger, compute};
use crate::{db::error::DbError, manager::Manager};
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use tokio::sync::Mutex;

/// How long a ledger holds while nothing changes but the time.
const HOLDS_FOR: SignedDuration = SignedDuration::from_secs(10);

/// The newest ledger of the fleet.
#[derive(Debug, Default)]
pub struct Shared {
    newest: Mutex<Option<Kept>>,
}

#[derive(Debug)]
struct Kept {
    /// The newest event of before it was read.
    revision: u64,
    at: Timestamp,
    ledger: Arc<Ledger>,
}

impl Shared {
    /// The ledger as of the newest event. Whoever comes while it is computed waits, and gets it unless
    /// something has changed since.
    pub(super) async fn read(&self, manager: &Manager) -> Result<Arc<Ledger>, DbError> {
        let mut newest = self.newest.lock().await;
        if let Some(ledger) = newest.as_ref().and_then(|kept| kept.fresh(manager)) {
            return Ok(ledger);
        }
        // Events come after their commit, so what is read now knows of all up to this one.
        let (revision, at) = (manager.events().revision(), manager.now());
        let ledger = Arc::new(compute(manager, None).await?);
        *newest = Some(Kept { revision, at, ledger: Arc::clone(&ledger) });
        Ok(ledger)
    }

    /// The ledger, if it can be had without computing or waiting.
    pub(super) fn at_hand(&self, manager: &Manager) -> Option<Arc<Ledger>> {
        self.newest.try_lock().ok()?.as_ref()?.fresh(manager)
    }
}

impl Kept {
    fn fresh(&self, manager: &Manager) -> Option<Arc<Ledger>> {
        let age = manager.now().duration_since(self.at);
        let is_fresh = self.revision == manager.events().revision()
            && age >= SignedDuration::ZERO
            && age < HOLDS_FOR;
        is_fresh.then(|| Arc::clone(&self.ledger))
    }
}
