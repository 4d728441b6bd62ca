//! What is known of one repository between two requests: the bytes in it, the bytes on their way, the
//! names that are being written, and the locks that the admin holds.
//!
//! Nothing of it is stored. The bytes are counted when the repository is first asked for, and an
//! admin's lock means nothing once the process that worked under it is gone.

use super::object::{Name, Object};
use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio_util::sync::CancellationToken;

/// The ledger of one repository.
#[derive(Debug, Default)]
pub struct Ledger {
    state: Mutex<State>,
    /// Ends what its host has going when the host is revoked.
    pub cut: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes in the repository, once they were counted.
    used: Option<u64>,
    writing: HashSet<Object>,
    admin_locks: HashSet<Name>,
}

/// Bytes on their way in all repositories of a disk.
#[derive(Clone, Debug, Default)]
pub struct OnTheirWay(Arc<AtomicU64>);

/// Bytes that are promised to an upload. Dropped, they are free again.
#[derive(Debug)]
pub struct Promise {
    all: OnTheirWay,
    bytes: u64,
}

/// The name that an upload writes to; nobody else does meanwhile.
#[derive(Debug)]
pub struct Writing {
    ledger: Arc<Ledger>,
    object: Object,
}

impl OnTheirWay {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Promises bytes to an upload.
    #[must_use]
    pub fn promise(&self, bytes: u64) -> Promise {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Promise { all: self.clone(), bytes }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.ledger.state().writing.remove(&self.object);
    }
}

impl Ledger {
    /// Bytes in the repository, once they were counted.
    #[must_use]
    pub fn used(&self) -> Option<u64> {
        self.state().used
    }

    /// They were counted. What was written meanwhile may be counted twice until the next start.
    pub fn counted(&self, bytes: u64) {
        self.state().used.get_or_insert(bytes);
    }

    /// Bytes came in.
    pub fn added(&self, bytes: u64) {
        if let Some(used) = &mut self.state().used {
            *used = used.saturating_add(bytes);
        }
    }

    /// Bytes went out.
    pub fn removed(&self, bytes: u64) {
        if let Some(used) = &mut self.state().used {
            *used = used.saturating_sub(bytes);
        }
    }

    /// Takes a name for an upload, unless another upload has it.
    #[must_use]
    pub fn write(self: &Arc<Self>, object: &Object) -> Option<Writing> {
        let is_free = self.state().writing.insert(object.clone());
        is_free.then(|| Writing { ledger: Arc::clone(self), object: object.clone() })
    }

    /// The admin holds this lock.
    pub fn admin_locked(&self, name: &Name) {
        self.state().admin_locks.insert(name.clone());
    }

    /// The admin holds this lock no more.
    pub fn admin_unlocked(&self, name: &Name) {
        self.state().admin_locks.remove(name);
    }

    /// The admin's operation has ended, and whatever lock it has left means nothing.
    pub fn admin_left(&self) {
        self.state().admin_locks.clear();
    }

    /// Whether the admin holds this lock.
    #[must_use]
    pub fn is_admins(&self, name: &Name) -> bool {
        self.state().admin_locks.contains(name)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
