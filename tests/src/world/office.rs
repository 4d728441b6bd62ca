//! Where the manager is: its database on a disk that keeps what was committed, and, while it runs, the
//! real manager on it. Nothing of it runs by itself: the world gives each part its turns.

use crate::dice::Dice;
use anyhow::{Context as _, Result};
use jiff::Timestamp;
use protocol::{Incarnation, Secret};
use schedule::{Clock, ManualClock};
use server::{
    db::Db,
    events::Events,
    identity::{Identity, NewIdentity},
    intake::{Intake, IntakeHandle},
    links::LinksHandle,
    manager::{Manager, Parts, Random},
    programs::Programs,
    session::socket::Shared,
    vault::{KEY_LEN, KeyStore, Vault, VaultError},
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// The vault's key of every world.
struct FixedKey;

impl KeyStore for FixedKey {
    fn load(&self) -> Result<Option<Secret<[u8; KEY_LEN]>>, VaultError> {
        Ok(Some(Secret::new([7; KEY_LEN])))
    }

    fn create(&self, _key: &Secret<[u8; KEY_LEN]>) -> Result<(), VaultError> {
        // There is a key.
        Ok(())
    }
}

/// Random numbers that are the same each time.
struct Numbers(Mutex<Dice>);

impl std::fmt::Debug for Numbers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Numbers")
    }
}

impl Random for Numbers {
    fn fill(&self, bytes: &mut [u8]) -> bool {
        let mut dice = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for piece in bytes.chunks_mut(8) {
            let eight = dice.next().to_le_bytes();
            piece.copy_from_slice(&eight[..piece.len()]);
        }
        true
    }
}

/// The manager's disk and surroundings.
#[derive(Debug)]
pub struct Office {
    db: Db,
    file: PathBuf,
    folder: PathBuf,
    clock: Arc<ManualClock>,
    random: Arc<Numbers>,
}

/// The files of a database, as they were at one moment.
#[derive(Debug)]
pub struct Files(Vec<(PathBuf, Vec<u8>)>);

/// A manager that runs.
#[derive(Debug)]
pub struct Up {
    /// What everything is built on.
    pub manager: Manager,
    /// What its connections share.
    pub shared: Shared,
    /// Takes records in, when it gets a turn.
    pub intake: Intake,
    /// Ends with it.
    _registry: AbortOnDropHandle<()>,
}

impl Office {
    /// Opens the database in this file, which is made when it is missing.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn open(file: &Path, seed: u64) -> Result<Self> {
        Ok(Self {
            db: Db::open(file).await?,
            file: file.to_owned(),
            folder: file.parent().context("a database without a folder")?.to_owned(),
            clock: Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH)),
            random: Arc::new(Numbers(Mutex::new(Dice::new(seed)))),
        })
    }

    /// The database.
    #[must_use]
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// What the manager's clock shows from now on.
    pub fn set_clock(&self, now: Timestamp) {
        self.clock.set(now);
    }

    /// Starts the manager.
    ///
    /// # Errors
    /// When the real one would not start.
    pub async fn start(&self) -> Result<Up> {
        let vault = Vault::open(&FixedKey, false)?;
        let new = NewIdentity {
            incarnation: Incarnation::new(0, &[7; 10]),
            names: BTreeSet::new(),
            now: self.clock.now(),
        };
        let identity = Identity::load_or_create(&self.db, &vault, new).await?;
        let (links, registry) = LinksHandle::new();
        let (handle, intake) = IntakeHandle::new();
        let parts = Parts {
            db: self.db.clone(),
            vault: Arc::new(vault),
            identity: Arc::new(identity),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            events: Events::default(),
            links,
            store_folder: self.folder.join("store"),
            programs: Programs::default(),
        };
        let manager = Manager::with_random(parts, Arc::clone(&self.random) as Arc<dyn Random>);
        let stop = CancellationToken::new();
        let registry = tokio::spawn(registry.run(CancellationToken::new()));
        Ok(Up {
            shared: Shared { manager: manager.clone(), intake: handle, stop },
            manager,
            intake,
            _registry: AbortOnDropHandle::new(registry),
        })
    }

    /// Copies the database. Nobody is writing to it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn copy(&self) -> Result<Files> {
        let files = [self.file.clone(), beside(&self.file, "-wal")];
        let there = files.into_iter().filter(|file| file.exists());
        let read = there.map(|file| Ok((file.clone(), fs::read(&file)?)));
        read.collect::<Result<_>>().map(Files)
    }

    /// Puts a copy in the place of the database.
    ///
    /// # Errors
    /// When it cannot be written or opened.
    pub async fn replace(&mut self, files: &Files) -> Result<()> {
        self.db.close().await;
        clear(&self.file);
        for (file, content) in &files.0 {
            fs::write(file, content)?;
        }
        self.db = Db::open(&self.file).await?;
        Ok(())
    }

    /// Closes the database.
    pub async fn close(&self) {
        self.db.close().await;
    }
}

/// The file of this ending beside a database.
fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Removes what belongs to a database that is about to be put there anew.
pub fn clear(file: &Path) {
    for ending in ["-wal", "-shm"] {
        // It need not be there.
        let _ = fs::remove_file(beside(file, ending));
    }
}
