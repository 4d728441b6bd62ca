//! What is known of one repository between two requests: the bytes in it, the bytes on their way, the
//! names that are being written, the locks that the admin holds, and whether its host has written.
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
    /// What is on its way into it.
    pub on_their_way: OnTheirWay,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes in the repository, once they were counted.
    used: Option<u64>,
    writing: HashSet<Object>,
    admin_locks: HashSet<Name>,
    /// Files of data and index that the host has begun to add or added, and those it is adding now.
    host_wrote: u64,
    host_writes: u64,
    /// How much of that was read and found sound.
    host_checked: Option<u64>,
    /// Whether the admin deletes data only while all of it was.
    deletes_checked: bool,
}

/// Bytes on their way, into all repositories of a disk or into one.
#[derive(Clone, Debug, Default)]
pub struct OnTheirWay(Arc<AtomicU64>);

/// Bytes that are promised to an upload. Dropped, they are free again.
#[derive(Debug)]
pub struct Promise {
    all: OnTheirWay,
    bytes: u64,
}

/// A file of data or index that the host is adding.
#[derive(Debug)]
pub struct HostWrite(Arc<Ledger>);

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

impl Promise {
    /// Promises more bytes to it.
    pub fn grow(&mut self, bytes: u64) {
        self.all.0.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
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

impl State {
    fn is_checked(&self) -> bool {
        self.host_writes == 0 && self.host_checked == Some(self.host_wrote)
    }
}

impl Drop for HostWrite {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.host_writes -= 1;
        state.host_wrote += 1;
    }
}

impl Ledger {
    /// The host begins to add a file of data or index.
    #[must_use]
    pub fn host_writes(self: &Arc<Self>) -> HostWrite {
        let mut state = self.state();
        state.host_writes += 1;
        state.host_wrote += 1;
        HostWrite(Arc::clone(self))
    }

    /// How much the host has added, as a number that grows with it.
    #[must_use]
    pub fn host_wrote(&self) -> u64 {
        self.state().host_wrote
    }

    /// All that the host had added, up to this much, was read and found sound.
    pub fn checked(&self, host_wrote: u64) {
        self.state().host_checked = Some(host_wrote);
    }

    /// Whether all that the host has added was read and found sound.
    #[must_use]
    pub fn is_checked(&self) -> bool {
        self.state().is_checked()
    }

    /// From now on until it leaves, the admin may delete data only while that is so. Says whether it
    /// is.
    #[must_use]
    pub fn delete_what_was_checked(&self) -> bool {
        let mut state = self.state();
        state.deletes_checked = true;
        state.is_checked()
    }

    /// Whether the host has written since the admin looked.
    #[must_use]
    pub fn is_overtaken(&self) -> bool {
        let state = self.state();
        state.deletes_checked && !state.is_checked()
    }

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

    /// How many of the files that are being written are such.
    #[must_use]
    pub fn writing(&self, is_such: impl Fn(&Object) -> bool) -> usize {
        self.state().writing.iter().filter(|object| is_such(object)).count()
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
        let mut state = self.state();
        state.admin_locks.clear();
        state.deletes_checked = false;
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
