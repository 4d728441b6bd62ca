//! What was deleted, for a while: a stolen session or a forged index must not destroy backups for good.
//!
//! ```text
//! trash/<repository id>/<when, in milliseconds>/<where it lay>
//! ```
//!
//! All that one operation of the admin deleted lies together, and comes back together.

use super::{
    object::{KINDS, Kind, Name, Object},
    place::{Place, create_dir, sync_dir},
};
use jiff::{SignedDuration, Timestamp};
use protocol::RepositoryId;
use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

/// How long what was deleted can be brought back.
pub const KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What one operation deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// When the operation began.
    pub at: Timestamp,
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many of the files are snapshots.
    pub snapshots: u64,
}

/// The folder of what an operation deletes.
#[must_use]
pub fn folder(place: &Place, repository: RepositoryId, at: Timestamp) -> PathBuf {
    place.trash().join(repository.to_string()).join(at.as_millisecond().to_string())
}

/// Puts a file into the trash. Says how large it was; `None` when there is no such file.
///
/// # Errors
/// As the file system says.
pub fn throw(root: &Path, object: &Object, folder: &Path) -> io::Result<Option<u64>> {
    let from = root.join(object.path());
    let bytes = match fs::metadata(&from) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let to = folder.join(object.path());
    move_file(&from, &to)?;
    Ok(Some(bytes))
}

/// What can be brought back to a repository, newest first.
///
/// # Errors
/// As the file system says.
pub fn list(place: &Place, repository: RepositoryId) -> io::Result<Vec<Deletion>> {
    let mut deletions = Vec::new();
    for (at, folder) in operations(&place.trash().join(repository.to_string()))? {
        let mut deletion = Deletion { at, files: 0, bytes: 0, snapshots: 0 };
        for object in objects(&folder)? {
            deletion.files += 1;
            deletion.bytes += fs::metadata(folder.join(object.path()))?.len();
            deletion.snapshots += u64::from(matches!(object, Object::File(Kind::Snapshots, _)));
        }
        deletions.push(deletion);
    }
    deletions.sort_by_key(|deletion| std::cmp::Reverse(deletion.at));
    Ok(deletions)
}

/// Brings back what an operation deleted. What is there again meanwhile stays as it is. Says how many
/// files came back, and their bytes.
///
/// # Errors
/// As the file system says; what has come back by then stays, and the rest stays in the trash.
pub fn bring_back(root: &Path, folder: &Path) -> io::Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    // Packs before the indexes that name them, and snapshots last: cut off at any point, nothing
    // names what is not there.
    for object in objects(folder)? {
        let (from, to) = (folder.join(object.path()), root.join(object.path()));
        if to.exists() {
            fs::remove_file(from)?;
        } else {
            bytes += fs::metadata(&from)?.len();
            move_file(&from, &to)?;
            files += 1;
        }
    }
    fs::remove_dir_all(folder)?;
    Ok((files, bytes))
}

/// Removes for good what was deleted too long ago.
///
/// # Errors
/// As the file system says.
pub fn purge(place: &Place, now: Timestamp) -> io::Result<()> {
    for repository in fs::read_dir(place.trash())? {
        for (at, folder) in operations(&repository?.path())? {
            if now.duration_since(at) > KEPT {
                fs::remove_dir_all(folder)?;
            }
        }
    }
    Ok(())
}

fn operations(repository: &Path) -> io::Result<Vec<(Timestamp, PathBuf)>> {
    let mut found = Vec::new();
    for entry in entries(repository)? {
        let at = entry.file_name().and_then(|name| name.to_str()?.parse().ok());
        if let Some(at) = at.and_then(|at| Timestamp::from_millisecond(at).ok()) {
            found.push((at, entry));
        }
    }
    Ok(found)
}

/// The files below a folder that is laid out like a repository.
fn objects(root: &Path) -> io::Result<Vec<Object>> {
    let mut found = Vec::new();
    if root.join("config").exists() {
        found.push(Object::Config);
    }
    for kind in KINDS {
        let folder = root.join(kind.as_str());
        let folders = if kind == Kind::Data { entries(&folder)? } else { vec![folder] };
        for folder in folders {
            let names = entries(&folder)?.into_iter().filter_map(|path| {
                Some(Object::File(kind, Name::parse(path.file_name()?.to_str()?)?))
            });
            found.extend(names);
        }
    }
    Ok(found)
}

/// What a folder holds; nothing where it is missing.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn move_file(from: &Path, to: &Path) -> io::Result<()> {
    let (source, target) = (from.parent().unwrap_or(from), to.parent().unwrap_or(to));
    create_dir(target)?;
    fs::rename(from, to)?;
    sync_dir(target)?;
    sync_dir(source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn write(root: &Path, object: &Object, text: &str) {
        let path = root.join(object.path());
        create_dir(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn what_was_deleted_comes_back_within_seven_days_and_not_later() {
        let base = tempfile::tempdir().unwrap();
        let place = Place::make(base.path(), Uuid::from_u128(1)).unwrap();
        let id = RepositoryId::new(1, &[1; 10]);
        let root = place.repository(id);
        let name = |digit: &str| Name::parse(&digit.repeat(64)).unwrap();
        let (pack, snapshot) =
            (Object::File(Kind::Data, name("a")), Object::File(Kind::Snapshots, name("b")));
        write(&root, &pack, "pack");
        write(&root, &snapshot, "snapshot");
        let at: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let bin = folder(&place, id, at);
        assert_eq!(throw(&root, &pack, &bin).unwrap(), Some(4));
        assert_eq!(throw(&root, &snapshot, &bin).unwrap(), Some(8));
        assert_eq!(throw(&root, &snapshot, &bin).unwrap(), None);
        let told = Deletion { at, files: 2, bytes: 12, snapshots: 1 };
        assert_eq!(list(&place, id).unwrap(), [told]);

        purge(&place, at + KEPT).unwrap();
        assert_eq!(bring_back(&root, &bin).unwrap(), (2, 12));
        assert_eq!(fs::read_to_string(root.join(pack.path())).unwrap(), "pack");
        assert_eq!(list(&place, id).unwrap(), []);

        throw(&root, &pack, &bin).unwrap();
        purge(&place, at + KEPT + SignedDuration::from_secs(1)).unwrap();
        assert_eq!(list(&place, id).unwrap(), []);
        assert!(!root.join(pack.path()).exists());
    }

    #[test]
    fn what_is_there_again_is_not_overwritten() {
        let base = tempfile::tempdir().unwrap();
        let place = Place::make(base.path(), Uuid::from_u128(1)).unwrap();
        let id = RepositoryId::new(1, &[1; 10]);
        let (root, bin) = (place.repository(id), folder(&place, id, Timestamp::UNIX_EPOCH));
        write(&root, &Object::Config, "old");
        throw(&root, &Object::Config, &bin).unwrap();
        write(&root, &Object::Config, "new");
        assert_eq!(bring_back(&root, &bin).unwrap(), (0, 0));
        assert_eq!(fs::read_to_string(root.join("config")).unwrap(), "new");
    }
}
