//! The few files that lie beside the database, and the folders that an installation puts beside the program.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// A folder that an installation puts beside the program's own, if it is there.
#[must_use]
pub fn installed(name: &str) -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?.canonicalize().ok()?;
    let folder = program.parent()?.parent()?.join("share/restic-manager").join(name);
    folder.is_dir().then_some(folder)
}

/// Who may read a file. Only its owner may change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Nobody else.
    Owner,
    /// Everyone who can reach the folder.
    Everyone,
}

/// Puts a file in place as a whole, with these rights whatever the umask says: whoever reads it finds
/// all of the old one or all of the new one, also after a crash.
///
/// # Errors
/// When it cannot be written; then the old one is still there.
pub fn replace(path: &Path, text: &str, readers: Readers) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = Path::new(&fresh);
    // What a crash left behind may have other rights.
    if let Err(error) = fs::remove_file(fresh)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = create(fresh, readers)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(fresh, path)
}

#[cfg(unix)]
fn create(path: &Path, readers: Readers) -> io::Result<File> {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    let mode = if readers == Readers::Owner { 0o600 } else { 0o644 };
    let file = OpenOptions::new().create_new(true).write(true).mode(mode).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    Ok(file)
}

#[cfg(not(unix))]
fn create(path: &Path, _readers: Readers) -> io::Result<File> {
    // Windows: the data folder's access list is what protects the file.
    OpenOptions::new().create_new(true).write(true).open(path)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_is_replaced_with_its_rights() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(dir.path().join("file.new"), "left behind").unwrap();
        for (text, readers, mode) in
            [("one", Readers::Everyone, 0o644), ("two", Readers::Owner, 0o600)]
        {
            replace(&path, text, readers).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
