//! The folder of the store.
//!
//! ```text
//! <folder>/<repository id>/          a restic repository, as restic itself lays it out
//! <folder>/.restic-manager/store     the marker: whose folder this is
//! <folder>/.restic-manager/incoming  uploads that are not finished
//! <folder>/.restic-manager/trash     what was deleted, for a while
//! <folder>/.restic-manager/locks     which locks in the repositories are the admin's
//! ```
//!
//! A disk that is not mounted leaves an empty folder, or another disk, at the same place. The marker
//! tells: without it the store is *away*, and never an empty one.

use super::object::{Kind, Name, Object};
use crate::files::{self, Readers};
use protocol::RepositoryId;
use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};
use thiserror::Error;
use uuid::Uuid;

const CONTROL: &str = ".restic-manager";

/// Why a folder does not become the store.
#[derive(Debug, Error)]
pub enum PlaceError {
    /// It is not an absolute path.
    #[error("the folder must be an absolute path")]
    Relative,
    /// It holds the store of another manager, or an earlier one.
    #[error("the folder holds another store")]
    Foreign,
    /// The file system refused.
    #[error("the folder cannot be used")]
    Io(#[from] io::Error),
}

/// The folder of the store, which may be away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    folder: PathBuf,
    marker: Uuid,
}

impl Place {
    /// A folder that was made ready before.
    #[must_use]
    pub fn new(folder: PathBuf, marker: Uuid) -> Self {
        Self { folder, marker }
    }

    /// Makes a folder ready, and the folder itself where it is missing. One that has this marker
    /// already is taken as it is: it was moved.
    ///
    /// # Errors
    /// Why it cannot be the store.
    pub fn make(folder: &Path, marker: Uuid) -> Result<Self, PlaceError> {
        if !folder.is_absolute() {
            return Err(PlaceError::Relative);
        }
        let place = Self::new(folder.to_owned(), marker);
        match place.read_marker() {
            Ok(found) if found == marker.to_string() => {}
            Ok(_) => return Err(PlaceError::Foreign),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                create_dir(folder)?;
                create_dir(&place.control())?;
                files::replace(
                    &place.control().join("store"),
                    &format!("{marker}\n"),
                    Readers::Owner,
                )?;
                sync_dir(&place.control())?;
                sync_dir(folder)?;
            }
            Err(error) => return Err(error.into()),
        }
        place.prepare()?;
        Ok(place)
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the folder that lies there now is this store.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.read_marker().is_ok_and(|found| found == self.marker.to_string())
    }

    /// Where a repository lies.
    #[must_use]
    pub fn repository(&self, id: RepositoryId) -> PathBuf {
        self.folder.join(id.to_string())
    }

    /// Where uploads lie until they are finished: on the disk that they go to, so that finishing one
    /// is a rename.
    #[must_use]
    pub fn incoming(&self) -> PathBuf {
        self.control().join("incoming")
    }

    /// Where deleted files lie for a while.
    #[must_use]
    pub fn trash(&self) -> PathBuf {
        self.control().join("trash")
    }

    /// Notes that a lock, which comes next, is the admin's.
    ///
    /// # Errors
    /// As the file system says.
    pub fn note_lock(&self, repository: RepositoryId, name: &Name) -> io::Result<()> {
        File::create(self.lock_note(repository, name)).map(drop)
    }

    /// Notes that a lock of the admin's is gone.
    ///
    /// # Errors
    /// As the file system says.
    pub fn forget_lock(&self, repository: RepositoryId, name: &Name) -> io::Result<()> {
        gone(fs::remove_file(self.lock_note(repository, name)))
    }

    /// Removes the admin's locks in one repository, or in all. For when nobody works under them.
    ///
    /// # Errors
    /// As the file system says.
    pub fn release_locks(&self, only: Option<RepositoryId>) -> io::Result<()> {
        for entry in fs::read_dir(self.locks())? {
            let note = entry?.file_name();
            let parts = note.to_str().and_then(|note| note.split_once('.'));
            let Some((Ok(repository), Some(name))) =
                parts.map(|(id, name)| (id.parse::<RepositoryId>(), Name::parse(name)))
            else {
                continue;
            };
            if only.is_none_or(|only| only == repository) {
                let lock = Object::File(Kind::Locks, name.clone());
                gone(fs::remove_file(self.repository(repository).join(lock.path())))?;
                self.forget_lock(repository, &name)?;
            }
        }
        Ok(())
    }

    /// Removes what an earlier process left behind: half uploads, and the admin's locks.
    ///
    /// # Errors
    /// As the file system says.
    pub fn sweep(&self) -> io::Result<()> {
        self.prepare()?;
        for entry in fs::read_dir(self.incoming())? {
            fs::remove_file(entry?.path())?;
        }
        self.release_locks(None)
    }

    fn prepare(&self) -> io::Result<()> {
        [self.incoming(), self.trash(), self.locks()].iter().try_for_each(|path| create_dir(path))
    }

    fn locks(&self) -> PathBuf {
        self.control().join("locks")
    }

    fn lock_note(&self, repository: RepositoryId, name: &Name) -> PathBuf {
        self.locks().join(format!("{repository}.{}", name.as_str()))
    }

    fn control(&self) -> PathBuf {
        self.folder.join(CONTROL)
    }

    fn read_marker(&self) -> io::Result<String> {
        Ok(fs::read_to_string(self.control().join("store"))?.trim().to_owned())
    }
}

/// That a file is gone already is as good.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// What a disk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// All its bytes.
    pub total: u64,
    /// Those that are free.
    pub free: u64,
}

/// What the disk has that a folder lies on, or would lie on once it is made. Nothing for what is no
/// whole path, and where no disk tells.
#[must_use]
pub fn room(folder: &Path) -> Option<Room> {
    let there = folder.ancestors().filter(|_| folder.is_absolute()).find(|it| it.is_dir())?;
    let space = fs4::statvfs(there).ok()?;
    Some(Room { total: space.total_space(), free: space.available_space() })
}

/// Makes a folder for its owner only, with those above it, unless it is there.
///
/// # Errors
/// As the file system says.
pub fn create_dir(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Waits until the disk has the names in a folder. Windows has no call for that, and writes them with
/// the file.
///
/// # Errors
/// As the file system says.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    if cfg!(windows) { Ok(()) } else { File::open(path)?.sync_all() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Uuid = Uuid::from_u128(1);

    #[test]
    fn an_empty_folder_at_the_same_place_is_not_the_store() {
        let base = tempfile::tempdir().unwrap();
        let (disk, elsewhere) = (base.path().join("disk"), base.path().join("elsewhere"));
        let place = Place::make(&disk, OURS).unwrap();
        assert!(place.is_here());
        fs::rename(&disk, &elsewhere).unwrap();
        assert!(!place.is_here());
        fs::create_dir(&disk).unwrap();
        assert!(!place.is_here());
        // Moved, it is the same store.
        assert!(Place::make(&elsewhere, OURS).unwrap().is_here());
    }

    #[test]
    fn the_store_of_another_manager_is_left_alone() {
        let base = tempfile::tempdir().unwrap();
        Place::make(base.path(), Uuid::from_u128(2)).unwrap();
        assert!(matches!(Place::make(base.path(), OURS), Err(PlaceError::Foreign)));
        assert!(matches!(Place::make(Path::new("store"), OURS), Err(PlaceError::Relative)));
    }

    #[test]
    fn a_folder_that_is_not_made_yet_has_the_room_of_its_disk() {
        let base = tempfile::tempdir().unwrap();
        let total = |folder: &Path| room(folder).map(|room| room.total);
        assert!(total(base.path()).is_some());
        assert_eq!(total(&base.path().join("not/made")), total(base.path()));
        assert_eq!(room(Path::new("not/whole")), None);
    }

    #[test]
    fn unfinished_uploads_are_swept() {
        let base = tempfile::tempdir().unwrap();
        let place = Place::make(base.path(), OURS).unwrap();
        fs::write(place.incoming().join("half"), "x").unwrap();
        place.sweep().unwrap();
        assert_eq!(fs::read_dir(place.incoming()).unwrap().count(), 0);
    }

    #[test]
    fn the_admins_locks_go_with_the_one_who_worked_under_them_and_no_others() {
        let base = tempfile::tempdir().unwrap();
        let place = Place::make(base.path(), OURS).unwrap();
        let (one, two) = (RepositoryId::new(1, &[1; 10]), RepositoryId::new(2, &[2; 10]));
        let name = |digit: char| Name::parse(&String::from(digit).repeat(64)).unwrap();
        let path = |repository, digit| {
            let lock = Object::File(Kind::Locks, name(digit));
            place.repository(repository).join(lock.path())
        };
        for (repository, digit) in [(one, 'a'), (one, 'b'), (two, 'a')] {
            create_dir(path(repository, digit).parent().unwrap()).unwrap();
            fs::write(path(repository, digit), "lock").unwrap();
        }
        place.note_lock(one, &name('a')).unwrap();
        place.note_lock(two, &name('a')).unwrap();
        place.release_locks(Some(one)).unwrap();
        let there =
            [(one, 'a'), (one, 'b'), (two, 'a')].map(|(it, digit)| path(it, digit).exists());
        assert_eq!(there, [false, true, true]);
        place.sweep().unwrap();
        assert!(!path(two, 'a').exists() && path(one, 'b').exists());
    }
}
