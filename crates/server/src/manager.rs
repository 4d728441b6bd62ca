//! What every part of the server shares, and the few acts that need more than one part.

use crate::{
    announcements::Announcements,
    db::{
        Db, error::DbError, hosts, manager as identity_rows, notices, snapshots,
        store as store_rows,
    },
    events::{Events, Topic},
    identity::Identity,
    links::LinksHandle,
    programs::Programs,
    session::batches::Batches,
    slots,
    store::Store,
    trees::Trees,
    trials::Trials,
    vault::{Vault, VaultError},
};
use jiff::Timestamp;
use protocol::{Code, HostId, Incarnation};
use ring::rand::{SecureRandom, SystemRandom};
use schedule::Clock;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use uuid::Uuid;

/// The running manager. Cheap to clone.
///
/// Whoever changes something does it in one transaction of [`Manager::db`], and after the commit
/// publishes an event and wakes the hosts that it concerns.
#[derive(Clone, Debug)]
pub struct Manager(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    db: Db,
    vault: Arc<Vault>,
    identity: Arc<Identity>,
    clock: Arc<dyn Clock>,
    events: Events,
    links: LinksHandle,
    trees: Trees,
    trials: Trials,
    announcements: Announcements,
    slots: slots::Shared,
    programs: Programs,
    store: Store,
    random: Arc<dyn Random>,
    batches: Batches,
    ids: AtomicU64,
}

/// Where random numbers come from.
pub trait Random: std::fmt::Debug + Send + Sync {
    /// Fills the bytes with numbers that nobody can guess, and says whether there were any.
    fn fill(&self, bytes: &mut [u8]) -> bool;
}

/// The operating system's random numbers.
#[derive(Debug)]
struct SystemNumbers(SystemRandom);

impl Random for SystemNumbers {
    fn fill(&self, bytes: &mut [u8]) -> bool {
        self.0.fill(bytes).is_ok()
    }
}

/// What a [`Manager`] is made of.
#[derive(Debug)]
pub struct Parts {
    /// The database.
    pub db: Db,
    /// The vault.
    pub vault: Arc<Vault>,
    /// The identity.
    pub identity: Arc<Identity>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The hub of events.
    pub events: Events,
    /// The registry of live connections.
    pub links: LinksHandle,
    /// A folder that can be chosen for the store.
    pub store_folder: PathBuf,
    /// What is handed out to machines.
    pub programs: Programs,
}

impl Manager {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self::with_random(parts, Arc::new(SystemNumbers(SystemRandom::new())))
    }

    /// Puts the parts together with random numbers of one's own: a simulation is the same each time.
    #[must_use]
    pub fn with_random(parts: Parts, random: Arc<dyn Random>) -> Self {
        let (db, clock, events) =
            (parts.db.clone(), Arc::clone(&parts.clock), parts.events.clone());
        Self(Arc::new(Inner {
            store: Store::new(db, clock, events, parts.store_folder),
            announcements: Announcements::new(parts.events.clone()),
            programs: parts.programs,
            db: parts.db,
            vault: parts.vault,
            identity: parts.identity,
            clock: parts.clock,
            events: parts.events,
            links: parts.links,
            trees: Trees::default(),
            trials: Trials::default(),
            slots: slots::Shared::default(),
            random,
            batches: Batches::default(),
            ids: AtomicU64::new(0),
        }))
    }

    /// The database.
    #[must_use]
    pub fn db(&self) -> &Db {
        &self.0.db
    }

    /// The vault.
    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.0.vault
    }

    /// Who this manager is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// Where connections meet others that ask the same.
    #[must_use]
    pub(crate) fn batches(&self) -> &Batches {
        &self.0.batches
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// The hub of events.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.0.events
    }

    /// The live connections.
    #[must_use]
    pub fn links(&self) -> &LinksHandle {
        &self.0.links
    }

    /// The folders of snapshots that somebody waits for.
    #[must_use]
    pub fn trees(&self) -> &Trees {
        &self.0.trees
    }

    /// The messages for trial that somebody waits for.
    #[must_use]
    pub fn trials(&self) -> &Trials {
        &self.0.trials
    }

    /// What became of the fleet's slots, computed once for all who ask.
    #[must_use]
    pub fn slots(&self) -> &slots::Shared {
        &self.0.slots
    }

    /// The machines that ask to join.
    #[must_use]
    pub fn announcements(&self) -> &Announcements {
        &self.0.announcements
    }

    /// What is handed out to machines.
    #[must_use]
    pub fn programs(&self) -> &Programs {
        &self.0.programs
    }

    /// The built-in store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// A new id of any kind.
    #[must_use]
    pub fn new_id<T: From<Uuid>>(&self) -> T {
        let mut random = [0; 10];
        if !self.0.random.fill(&mut random) {
            // An id has to be unique, not secret: a counter is enough when the system has no
            // random numbers to give.
            let n = self.0.ids.fetch_add(1, Ordering::Relaxed);
            random[2..].copy_from_slice(&n.to_be_bytes());
        }
        let millis = u64::try_from(self.now().as_millisecond()).unwrap_or(0);
        T::from(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// Random bytes that nobody can guess, for tokens and passwords.
    ///
    /// # Errors
    /// When the operating system gives none.
    pub fn random_bytes<const N: usize>(&self) -> Result<[u8; N], VaultError> {
        let mut bytes = [0; N];
        if !self.0.random.fill(&mut bytes) {
            return Err(VaultError::Random);
        }
        Ok(bytes)
    }

    /// The admin decided that this manager, whose database is an older copy, goes on: it begins a
    /// new life, its numbers for this host continue beyond what the agent has seen, and the agent's
    /// ticket is the valid one. Says whether the host was held for that.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn adopt(&self, host: HostId) -> Result<bool, DbError> {
        let mut tx = self.db().begin().await?;
        let Some(adopted) = hosts::adopt(&mut tx, host).await? else { return Ok(false) };
        snapshots::forget_order(&mut tx, host).await?;
        let ours = self.identity().manager().incarnation;
        // The second host that is adopted finds the new life already begun.
        let next: Option<Incarnation> = (adopted.incarnation == Some(ours)).then(|| self.new_id());
        if let Some(next) = next {
            identity_rows::set_incarnation(&mut tx, next).await?;
        }
        notices::resolve_code(&mut tx, Some(host), Code::ManagerBehind, self.now()).await?;
        tx.commit().await?;
        if let Some(next) = next {
            self.identity().renew(next);
            self.links().wake_all().await;
        }
        self.announce(host).await;
        Ok(true)
    }

    /// The admin decided that a held host goes on as it is. Says whether it was held.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn release(&self, host: HostId) -> Result<bool, DbError> {
        let mut tx = self.db().begin().await?;
        let held = hosts::find(&mut *tx, host).await?.and_then(|host| host.hold);
        let Some(hold) = held else { return Ok(false) };
        hosts::clear_hold(&mut tx, host).await?;
        snapshots::forget_order(&mut tx, host).await?;
        notices::resolve_code(&mut tx, Some(host), hold.code, self.now()).await?;
        tx.commit().await?;
        self.announce(host).await;
        Ok(true)
    }

    /// Ends what a host has going on in the store. For the one who has revoked or removed it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn cut_from_store(&self, host: HostId) -> Result<(), DbError> {
        if let Some(repository) = store_rows::repository_of(self.db().read(), host).await? {
            self.store().cut(repository);
        }
        Ok(())
    }

    /// Tells everyone that a host and its notices changed, its own session included.
    pub async fn announce(&self, host: HostId) {
        self.events().publish(Topic::Host(host));
        self.events().publish(Topic::Notices);
        self.links().wake(host).await;
    }
}
