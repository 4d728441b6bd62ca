//! The store: the place for repositories that comes with the manager, so that a new user needs no
//! other. A folder on any disk; each host has a repository of its own in it, laid out as restic itself
//! would, so that `restic -r <folder>` works without this product.
//!
//! Hosts may add, and nothing else: what an agent's credentials can do is all that a thief of them can.
//! The admin comes with a pass that lives as long as one operation, and what the admin deletes lies in
//! the trash for a week.
//!
//! [`Store`] lets visitors in; a [`Visitor`] is somebody who may act on one repository. HTTP is the
//! business of the listener.

mod download;
mod ledger;
pub mod object;
pub mod own;
mod pass;
pub mod place;
mod put;
pub mod trash;
mod upload;

use crate::{
    auth::token,
    db::{
        Db,
        error::DbError,
        store::{self as rows, Access, StoredSize},
    },
    events::Events,
};
pub use download::Download;
use jiff::Timestamp;
use ledger::{Ledger, OnTheirWay};
use object::{KINDS, Kind, Name, Object};
pub use pass::Pass;
use place::{Place, create_dir, sync_dir};
use protocol::{RepositoryId, Secret};
use schedule::Clock;
use std::{
    collections::HashMap,
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use thiserror::Error;
use tokio::task::spawn_blocking;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use trash::Deletion;

/// Why the store does not do something.
#[derive(Debug, Error)]
pub enum Refused {
    /// There is no such file or repository.
    #[error("there is no such thing in the store")]
    NotFound,
    /// There is one already, and nothing is ever overwritten.
    #[error("there is a file of this name already")]
    Exists,
    /// Whoever asks may not do that.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The name of the file is not the hash of its content.
    #[error("the name of the file is not the hash of its content")]
    WrongHash,
    /// The file is larger than a file of its kind can be.
    #[error("the file is larger than a file of its kind can be")]
    TooLarge,
    /// The disk or the quota is full.
    #[error("{0}")]
    Full(&'static str),
    /// More comes at once than any restic sends.
    #[error("too much comes at once")]
    Busy,
    /// The sender went away.
    #[error("the file did not come whole")]
    Aborted,
    /// The folder of the store is not there: its disk is not mounted.
    #[error("the folder of the store is not there")]
    Away,
    /// No folder was chosen.
    #[error("the store has no folder yet")]
    Homeless,
    /// The disk failed.
    #[error("the disk of the store failed")]
    Io(#[from] io::Error),
    /// The database failed.
    #[error("the database failed")]
    Db(#[from] DbError),
}

/// Who comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// The host whose repository it is.
    Host,
    /// The admin, for an operation that began then.
    Admin(Timestamp),
}

/// A file in a folder of a repository.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub size: u64,
}

/// The store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Arc<dyn Clock>,
    events: Events,
    ledgers: Mutex<HashMap<RepositoryId, Arc<Ledger>>>,
    passes: Mutex<HashMap<RepositoryId, Issued>>,
    on_their_way: OnTheirWay,
    /// Files that get their names, whoever waits for it.
    finishing: TaskTracker,
    default_folder: PathBuf,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

/// A pass as the door knows it.
#[derive(Clone, Copy)]
struct Issued {
    hash: [u8; 32],
    at: Timestamp,
}

impl Store {
    /// The store of this database, with a folder that can be chosen for it.
    #[must_use]
    pub fn new(db: Db, clock: Arc<dyn Clock>, events: Events, default_folder: PathBuf) -> Self {
        Self(Arc::new(Inner {
            db,
            clock,
            events,
            ledgers: Mutex::default(),
            passes: Mutex::default(),
            on_their_way: OnTheirWay::default(),
            finishing: TaskTracker::new(),
            default_folder,
        }))
    }

    /// Waits until every file that has come whole has its name and is noted. No more may come then.
    pub async fn finished(&self) {
        self.0.finishing.close();
        self.0.finishing.wait().await;
    }

    /// A folder that could be chosen: beside the database.
    #[must_use]
    pub fn default_folder(&self) -> &Path {
        &self.0.default_folder
    }

    /// Its folder, which may be away.
    ///
    /// # Errors
    /// When none was chosen, or the database fails.
    pub async fn place(&self) -> Result<Place, Refused> {
        let stored = rows::place(self.0.db.read()).await?.ok_or(Refused::Homeless)?;
        Ok(Place::new(stored.folder, stored.marker))
    }

    /// Lets somebody in who shows the password of this repository's host, or the admin's pass, which
    /// counts on this computer only. `None` when neither fits, or the host is revoked.
    ///
    /// # Errors
    /// When there is no folder, or the database fails.
    pub async fn let_in(
        &self,
        repository: RepositoryId,
        password: &Secret<String>,
        is_local: bool,
    ) -> Result<Option<Visitor>, Refused> {
        let Some(access) = rows::access(self.0.db.read(), repository).await? else {
            return Ok(None);
        };
        let hash = token::hash(password.expose_secret());
        let Some(who) = self.who(repository, &access, &hash, is_local) else { return Ok(None) };
        let place = self.place().await?;
        Ok(Some(Visitor {
            root: place.repository(repository),
            ledger: self.ledger(repository),
            quota: access.quota.filter(|_| who == Who::Host),
            store: self.clone(),
            repository,
            place,
            who,
        }))
    }

    fn who(
        &self,
        repository: RepositoryId,
        access: &Access,
        hash: &[u8; 32],
        is_local: bool,
    ) -> Option<Who> {
        // How long the comparison of two hashes takes tells nothing of what was hashed.
        if access.is_enrolled && *hash == access.hash {
            return Some(Who::Host);
        }
        let passes = self.0.passes.lock().unwrap_or_else(PoisonError::into_inner);
        let issued = passes.get(&repository).filter(|pass| is_local && pass.hash == *hash)?;
        Some(Who::Admin(issued.at))
    }

    /// A pass for one operation of the admin; `None` while another one goes on.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn issue(&self, repository: RepositoryId) -> anyhow::Result<Option<Pass>> {
        let password = token::mint(24)?;
        let issued = Issued { hash: token::hash(password.expose_secret()), at: self.0.clock.now() };
        let mut passes = self.0.passes.lock().unwrap_or_else(PoisonError::into_inner);
        if passes.contains_key(&repository) {
            return Ok(None);
        }
        passes.insert(repository, issued);
        Ok(Some(Pass { store: self.clone(), repository, at: issued.at, password }))
    }

    /// Ends what a host has going on in its repository, for good. For the one who has revoked it.
    pub fn cut(&self, repository: RepositoryId) {
        self.ledger(repository).cut.cancel();
    }

    fn ledger(&self, repository: RepositoryId) -> Arc<Ledger> {
        let mut ledgers = self.0.ledgers.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(ledgers.entry(repository).or_default())
    }

    /// Bytes in a repository, counted at the first time.
    ///
    /// # Errors
    /// When they cannot be counted.
    pub async fn used(&self, place: &Place, repository: RepositoryId) -> Result<u64, Refused> {
        let ledger = self.ledger(repository);
        count(&ledger, place.repository(repository)).await
    }

    /// What can be brought back to a repository, newest first.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn deletions(
        &self,
        place: &Place,
        repository: RepositoryId,
    ) -> Result<Vec<Deletion>, Refused> {
        let place = place.clone();
        blocking(move || Ok(trash::list(&place, repository)?)).await
    }

    /// Brings back what an operation deleted and all that was deleted after it, and says how many files
    /// that were; `None` while the admin works on the repository. Snapshots without the data that a
    /// later prune took would be damaged ones.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn bring_back(
        &self,
        place: &Place,
        repository: RepositoryId,
        at: Timestamp,
    ) -> Result<Option<u64>, Refused> {
        let Some(_pass) = self.issue(repository).map_err(io::Error::other)? else {
            return Ok(None);
        };
        if !is_here(place).await {
            return Err(Refused::Away);
        }
        let place = place.clone();
        let (files, bytes) = blocking(move || {
            let root = place.repository(repository);
            let (mut files, mut bytes) = (0, 0);
            // The newest first, so that data is there before the snapshots that need it.
            for deletion in trash::list(&place, repository)?.iter().take_while(|it| it.at >= at) {
                let bin = trash::folder(&place, repository, deletion.at);
                let (more, size) = trash::bring_back(&root, &bin)?;
                (files, bytes) = (files + more, bytes + size);
            }
            Ok((files, bytes))
        })
        .await?;
        self.ledger(repository).added(bytes);
        Ok(Some(files))
    }

    /// Removes for good what lay in the trash too long.
    ///
    /// # Errors
    /// When the store is away, or the disk fails.
    pub async fn purge(&self) -> Result<(), Refused> {
        let (place, now) = (self.here().await?, self.0.clock.now());
        blocking(move || Ok(trash::purge(&place, now)?)).await
    }

    /// Makes the store ready after a start, when nothing is under way yet: half uploads go, and
    /// snapshots whose arrival a crash kept from being noted arrived now.
    ///
    /// # Errors
    /// When the store is away, or the disk or the database fails.
    pub async fn tidy(&self, repositories: &[RepositoryId]) -> Result<(), Refused> {
        let place = self.here().await?;
        let sweeping = place.clone();
        blocking(move || Ok(sweeping.sweep()?)).await?;
        for &repository in repositories {
            self.note_arrivals(&place, repository).await?;
        }
        Ok(())
    }

    /// Notes how large these repositories are together, for the line of the days.
    ///
    /// # Errors
    /// When the store is away, or the disk or the database fails.
    pub async fn note_size(&self, repositories: &[RepositoryId]) -> Result<(), Refused> {
        let place = self.here().await?;
        let mut bytes = 0;
        for &repository in repositories {
            bytes += self.used(&place, repository).await?;
        }
        let mut tx = self.0.db.begin().await?;
        rows::note_size(&mut tx, StoredSize { taken_at: self.0.clock.now(), bytes }).await?;
        Ok(tx.commit().await.map_err(DbError::from)?)
    }

    /// Its folder, which is there.
    ///
    /// # Errors
    /// When it is not, or none was chosen.
    pub async fn here(&self) -> Result<Place, Refused> {
        let place = self.place().await?;
        if is_here(&place).await { Ok(place) } else { Err(Refused::Away) }
    }

    async fn note_arrivals(&self, place: &Place, repository: RepositoryId) -> Result<(), Refused> {
        let root = place.repository(repository);
        let found = match blocking(move || list(&root, Kind::Snapshots)).await {
            Ok(found) => found,
            Err(Refused::NotFound) => return Ok(()),
            Err(error) => return Err(error),
        };
        let noted = rows::arrivals(self.0.db.read(), repository).await?;
        let mut tx = self.0.db.begin().await?;
        for entry in found.iter().filter(|entry| !noted.contains_key(&entry.name)) {
            rows::note_arrival(&mut tx, repository, &entry.name, self.0.clock.now()).await?;
        }
        Ok(tx.commit().await.map_err(DbError::from)?)
    }
}

/// Somebody who may act on one repository: its host, or the admin.
#[derive(Clone, Debug)]
pub struct Visitor {
    store: Store,
    who: Who,
    repository: RepositoryId,
    place: Place,
    root: PathBuf,
    ledger: Arc<Ledger>,
    quota: Option<u64>,
}

impl Visitor {
    /// Whether it is the host, and not the admin.
    #[must_use]
    pub fn is_host(&self) -> bool {
        self.who == Who::Host
    }

    /// Ends when a host that comes is revoked.
    #[must_use]
    pub fn cut(&self) -> CancellationToken {
        match self.who {
            Who::Host => self.ledger.cut.clone(),
            Who::Admin(_) => CancellationToken::new(),
        }
    }

    /// Makes the folders of the repository, unless they are there.
    ///
    /// # Errors
    /// When they cannot be made.
    pub async fn create(&self) -> Result<(), Refused> {
        if !is_here(&self.place).await {
            return Err(Refused::Away);
        }
        let (root, folder) = (self.root.clone(), self.place.folder().to_owned());
        blocking(move || {
            for kind in KINDS {
                create_dir(&root.join(kind.as_str()))?;
            }
            let data = root.join(Kind::Data.as_str());
            for byte in 0..=u8::MAX {
                create_dir(&data.join(format!("{byte:02x}")))?;
            }
            sync_dir(&data)?;
            sync_dir(&root)?;
            Ok(sync_dir(&folder)?)
        })
        .await
    }

    /// The files of one kind.
    ///
    /// # Errors
    /// When there is no such repository, or the disk fails.
    pub async fn list(&self, kind: Kind) -> Result<Vec<Entry>, Refused> {
        let root = self.root.clone();
        self.or_away(blocking(move || list(&root, kind)).await).await
    }

    /// Opens a file that is there.
    ///
    /// # Errors
    /// When there is none, or the disk fails.
    pub async fn open(&self, object: &Object) -> Result<Download, Refused> {
        let path = self.root.join(object.path());
        let open = move || Download::open(&path).map_err(or_not_found);
        self.or_away(blocking(open).await).await
    }

    /// Deletes a file; that it is gone already is no error. Hosts may take back their own locks; what
    /// the admin deletes goes into the trash.
    ///
    /// # Errors
    /// When it may not be deleted, or the disk fails.
    pub async fn delete(&self, object: &Object) -> Result<(), Refused> {
        let at = match (self.who, object) {
            (Who::Host, Object::File(Kind::Locks, name)) if !self.ledger.is_admins(name) => None,
            (Who::Host, Object::File(Kind::Locks, _)) => {
                return Err(Refused::Forbidden("this lock is the admin's"));
            }
            (Who::Host, _) => {
                return Err(Refused::Forbidden(
                    "hosts may add to their repository, and not delete",
                ));
            }
            (Who::Admin(_), Object::File(Kind::Locks, _)) => None,
            (Who::Admin(_), Object::File(Kind::Data | Kind::Index, _))
                if self.ledger.is_overtaken() =>
            {
                return Err(Refused::Forbidden(
                    "the host has written since the repository was checked",
                ));
            }
            (Who::Admin(at), _) => Some(at),
        };
        let (root, gone) = (self.root.clone(), object.clone());
        let bin = at.map(|at| trash::folder(&self.place, self.repository, at));
        let removed = blocking(move || {
            Ok(match bin {
                Some(bin) => trash::throw(&root, &gone, &bin)?,
                None => remove(&root.join(gone.path()))?,
            })
        })
        .await;
        let removed = self.or_away(removed).await?;
        if removed.is_none() && !is_here(&self.place).await {
            return Err(Refused::Away);
        }
        self.ledger.removed(removed.unwrap_or(0));
        if let Object::File(Kind::Locks, name) = object {
            self.ledger.admin_unlocked(name);
            if matches!(self.who, Who::Admin(_)) {
                self.place.forget_lock(self.repository, name)?;
            }
        }
        Ok(())
    }

    /// A file that is missing from a store that is away is not missing.
    async fn or_away<T>(&self, done: Result<T, Refused>) -> Result<T, Refused> {
        match done {
            Err(Refused::NotFound | Refused::Io(_)) if !is_here(&self.place).await => {
                Err(Refused::Away)
            }
            done => done,
        }
    }
}

async fn is_here(place: &Place) -> bool {
    let place = place.clone();
    spawn_blocking(move || place.is_here()).await.unwrap_or(false)
}

/// Does what waits for the disk on a thread that may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    spawn_blocking(work).await.map_err(|error| Refused::Io(io::Error::other(error)))?
}

async fn count(ledger: &Arc<Ledger>, root: PathBuf) -> Result<u64, Refused> {
    if let Some(used) = ledger.used() {
        return Ok(used);
    }
    let bytes = blocking(move || {
        let mut bytes = 0;
        for kind in KINDS {
            match list(&root, kind) {
                Ok(entries) => bytes += entries.iter().map(|entry| entry.size).sum::<u64>(),
                // Nothing was initialised yet.
                Err(Refused::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    })
    .await?;
    ledger.counted(bytes);
    Ok(ledger.used().unwrap_or(bytes))
}

fn list(root: &Path, kind: Kind) -> Result<Vec<Entry>, Refused> {
    let folder = root.join(kind.as_str());
    let mut found = Vec::new();
    let top = fs::read_dir(&folder).map_err(or_not_found)?;
    if kind != Kind::Data {
        add_files(top, &mut found)?;
        return Ok(found);
    }
    for entry in top {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            add_files(fs::read_dir(entry.path())?, &mut found)?;
        }
    }
    Ok(found)
}

fn add_files(folder: fs::ReadDir, found: &mut Vec<Entry>) -> io::Result<()> {
    for entry in folder {
        let entry = entry?;
        // Whatever else lies there is none of restic's business.
        let Some(name) = entry.file_name().to_str().and_then(Name::parse) else { continue };
        match entry.metadata() {
            Ok(about) => found.push(Entry { name: name.as_str().to_owned(), size: about.len() }),
            // Deleted since.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<Option<u64>> {
    let bytes = match fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    fs::remove_file(path)?;
    Ok(Some(bytes))
}

fn or_not_found(error: io::Error) -> Refused {
    if error.kind() == ErrorKind::NotFound { Refused::NotFound } else { Refused::Io(error) }
}
