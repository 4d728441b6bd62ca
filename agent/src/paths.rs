//! The state folder: where it is, who may see it, and how a file in it is replaced.
//!
//! Everything the agent knows lies in one folder that belongs to the agent's user alone. The agent
//! refuses to start when others could read it: the folder holds the repositories' passwords.

use anyhow::{Context, Result, bail};
use std::{
    fs::{self, File, TryLockError},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

/// The state folder, and the name of everything in it.
#[derive(Clone, Debug)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// The folder at this path; nothing is looked at yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where the state lies when nobody says otherwise.
    #[must_use]
    pub fn default_path() -> PathBuf {
        if cfg!(windows) {
            let base = std::env::var_os("ProgramData")
                .map_or_else(|| PathBuf::from(r"C:\ProgramData"), PathBuf::from);
            base.join("Restic Manager").join("Agent")
        } else if cfg!(target_os = "macos") {
            PathBuf::from("/Library/Application Support/Restic Manager Agent")
        } else {
            PathBuf::from("/var/lib/restic-manager-agent")
        }
    }

    /// Where the settings of an agent lie whose state is in its default place: beside the policy and the
    /// hooks of the machine's administrator, out of reach of what the agent may write.
    #[must_use]
    pub fn default_config_path() -> PathBuf {
        if cfg!(windows) {
            Self::default_path()
        } else if cfg!(target_os = "macos") {
            PathBuf::from("/Library/Application Support/Restic Manager")
        } else {
            PathBuf::from("/etc/restic-manager")
        }
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The agent's private key.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.0.join("agent.key")
    }

    /// The agent's self-signed certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.0.join("agent.crt")
    }

    /// What enrolment fixed: the manager's key, its addresses, the host.
    #[must_use]
    pub fn enrolment(&self) -> PathBuf {
        self.0.join("enrolment.json")
    }

    /// The journal's database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.0.join("journal.db")
    }

    /// The desired state, with the repositories' secrets.
    #[must_use]
    pub fn desired(&self) -> PathBuf {
        self.0.join("desired.json")
    }

    /// What the running agent tells `status`.
    #[must_use]
    pub fn status(&self) -> PathBuf {
        self.0.join("status.json")
    }

    /// restic's cache.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.0.join("cache")
    }

    /// The certificates of the repositories' servers.
    #[must_use]
    pub fn authorities(&self) -> PathBuf {
        self.0.join("authorities")
    }

    /// restic's temporary files; empty after the agent's start.
    #[must_use]
    pub fn temporary(&self) -> PathBuf {
        self.0.join("tmp")
    }

    /// Removes the temporary files that a restic which was killed left behind. What cannot be
    /// removed is in somebody's hands, and goes at a later start.
    pub fn sweep_temporary(&self) {
        // A link here leads to somebody else's files.
        let is_ours = self.temporary().symlink_metadata().is_ok_and(|about| about.is_dir());
        let Some(left) = is_ours.then(|| fs::read_dir(self.temporary()).ok()).flatten() else {
            return;
        };
        for path in left.flatten().map(|entry| entry.path()) {
            let is_dir = path.symlink_metadata().is_ok_and(|about| about.is_dir());
            let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            if let Err(error) = removed {
                tracing::warn!(path = %path.display(), %error, "A temporary file stays behind");
            }
        }
    }

    /// Room that is kept for outcomes when the disk is full.
    #[must_use]
    pub fn reserve(&self) -> PathBuf {
        self.0.join("reserve")
    }

    /// Where restores go when the settings do not say.
    #[must_use]
    pub fn restores(&self) -> PathBuf {
        self.0.join("restores")
    }

    /// A place for the state that an enrolment replaces.
    #[must_use]
    pub fn aside(&self, stamp: &str) -> PathBuf {
        self.0.join(format!("replaced-{stamp}"))
    }

    /// Whether an agent was enrolled here.
    #[must_use]
    pub fn is_enrolled(&self) -> bool {
        self.enrolment().exists()
    }

    /// Creates the folder, owner-only, where it is missing, and checks it.
    ///
    /// # Errors
    /// When it cannot be created, or as [`StateDir::check`] says.
    pub fn create(&self) -> Result<()> {
        create_private_dir(&self.0)
            .with_context(|| format!("Failed to create the state folder {}", self.0.display()))?;
        self.check()
    }

    /// Checks that nobody but this user can look into the folder.
    ///
    /// # Errors
    /// When the folder is missing, belongs to somebody else, or is open to others; the message says
    /// how to mend it.
    pub fn check(&self) -> Result<()> {
        let about = match fs::metadata(&self.0) {
            Ok(about) => about,
            Err(error) if error.kind() == ErrorKind::NotFound => bail!(
                "The state folder {} does not exist. Enrol this machine first: restic-manager-agent enroll …",
                self.0.display()
            ),
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("Failed to look at the state folder {}", self.0.display())
                });
            }
        };
        if !about.is_dir() {
            bail!("{} is not a folder.", self.0.display());
        }
        check_owner_only(&self.0, &about)
    }

    /// Takes the folder for one agent; the lock lasts as long as the returned file.
    ///
    /// # Errors
    /// When another agent holds it.
    pub fn lock(&self) -> Result<File> {
        let path = self.0.join("agent.lock");
        let file = private_options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("Failed to open the lock file {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => bail!(
                "Another agent is running on the state folder {}. Stop it first.",
                self.0.display()
            ),
            Err(TryLockError::Error(error)) => Err(error)
                .with_context(|| format!("Failed to take the lock file {}", path.display())),
        }
    }
}

/// Takes the folder for one agent, as [`StateDir::lock`] does, but waits a moment for whoever only
/// looked whether an agent runs, or is just about to end.
///
/// # Errors
/// When another agent holds it.
pub async fn lock_patiently(state: &StateDir) -> Result<File> {
    const STEP: std::time::Duration = std::time::Duration::from_millis(50);
    for _ in 0..40 {
        if let Ok(file) = state.lock() {
            return Ok(file);
        }
        tokio::time::sleep(STEP).await;
    }
    state.lock()
}

/// Creates a folder that only this user can enter, with its parents. A folder that exists stays as
/// it is.
///
/// # Errors
/// As the file system says.
pub fn create_private_dir(path: &Path) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        private_dirs().recursive(true).create(parent)?;
    }
    match create_fresh_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made,
    }
}

/// Creates a folder that only this user can enter, in a folder that is there. What is there under
/// this name already, be it a folder or a link to one, may be somebody's trap and is refused.
///
/// # Errors
/// As the file system says.
pub fn create_fresh_dir(path: &Path) -> std::io::Result<()> {
    private_dirs().create(path)?;
    close_to_others(path)
}

/// Parents that are missing are made for this user too, whatever the umask says: in a folder that
/// others may write to, nothing below it is safe.
fn private_dirs() -> fs::DirBuilder {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "the mode is a word of Unix"))]
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

/// Makes a file that only this user can read where it is missing, and closes it to others where it
/// is not: for files that a library opens, which knows nothing of rights.
///
/// # Errors
/// As the file system says.
pub fn close_file(path: &Path) -> std::io::Result<()> {
    let file = private_options().create(true).append(true).open(path)?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    #[cfg(not(unix))]
    drop(file);
    Ok(())
}

/// Replaces a file by way of a temporary one, so that there is always the old or the new content
/// and never half of one; synced before it takes its place.
///
/// # Errors
/// As the file system says; the old file is untouched then.
pub fn replace_file(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    let _ = fs::remove_file(&temporary);
    let mut file = private_options().create_new(true).write(true).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_parent(path)
}

/// The room that is kept free for outcomes: several times what the log beside the journal's database holds, since
/// the database may have to grow by that, and whoever fills the disk may take a part of what is given back.
pub const RESERVE_BYTES: u64 = 4 * 1024 * 1024;

/// What of the reserve is given back at once: little, since whoever fills the disk may be faster than the
/// journal and take it.
const RESERVE_PART: u64 = RESERVE_BYTES / 32;

/// Gives back a part of the reserve, the last one with the file. Says whether there was one.
#[must_use]
pub fn shorten_reserve(state: &StateDir) -> bool {
    let path = state.reserve();
    let Ok(about) = fs::metadata(&path) else { return false };
    let shorter = about.len().saturating_sub(RESERVE_PART);
    if shorter == 0 {
        return fs::remove_file(path).is_ok();
    }
    fs::OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(shorter)).is_ok()
}

/// Occupies the reserve, if it is not there.
///
/// # Errors
/// As the file system says; nothing is occupied then.
pub fn fill_reserve(state: &StateDir) -> std::io::Result<()> {
    let path = state.reserve();
    if fs::metadata(&path).is_ok_and(|about| about.len() == RESERVE_BYTES) {
        return Ok(());
    }
    // Not zeros: a file system that compresses would give them no room.
    let pattern: Vec<u8> =
        (0..RESERVE_BYTES as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    replace_file(&path, &pattern).inspect_err(|_| {
        let _ = fs::remove_file(path.with_extension("new"));
    })
}

/// What is free on the disk of this folder, where its system tells.
#[must_use]
pub fn free(folder: &Path) -> Option<u64> {
    fs4::available_space(folder).ok()
}

/// Moves a file that could not be read out of the way, so that nothing writes over it.
///
/// # Errors
/// As the file system says.
pub fn keep_aside(path: &Path, stamp: &str) -> std::io::Result<PathBuf> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".unreadable-{stamp}"));
    let kept = path.with_file_name(name);
    fs::rename(path, &kept)?;
    sync_parent(path)?;
    Ok(kept)
}

fn private_options() -> fs::OpenOptions {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "the mode is a word of Unix"))]
    let mut options = fs::OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// A rename is only durable once the folder's own entry is.
fn sync_parent(path: &Path) -> std::io::Result<()> {
    if cfg!(unix)
        && let Some(parent) = path.parent()
    {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

#[cfg(unix)]
fn check_owner_only(path: &Path, about: &fs::Metadata) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let me = rustix::process::geteuid().as_raw();
    if about.uid() != me {
        bail!(
            "The state folder {} belongs to user {} and the agent runs as user {me}. Run the agent as its owner, or give it to the agent: chown -R {me} '{}'",
            path.display(),
            about.uid(),
            path.display()
        );
    }
    if about.mode() & 0o077 != 0 {
        bail!(
            "The state folder {} can be seen by others (mode {:03o}), and it holds passwords. Close it: chmod 700 '{}'",
            path.display(),
            about.mode() & 0o777,
            path.display()
        );
    }
    Ok(())
}

/// On Windows the access list is written when the folder is made; see [`close_to_others`].
#[cfg(not(unix))]
fn check_owner_only(_path: &Path, _about: &fs::Metadata) -> Result<()> {
    Ok(())
}

#[cfg(not(windows))]
#[expect(clippy::unnecessary_wraps, reason = "on Windows it can fail")]
fn close_to_others(_path: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Takes the inherited rights off and leaves SYSTEM and the administrators, by their well-known
/// numbers, which are the same in every language.
#[cfg(windows)]
fn close_to_others(path: &Path) -> std::io::Result<()> {
    let system =
        std::env::var_os("SystemRoot").map_or_else(|| PathBuf::from(r"C:\Windows"), PathBuf::from);
    let done = std::process::Command::new(system.join("System32").join("icacls.exe"))
        .arg(path)
        .args(["/inheritance:r", "/grant:r", "*S-1-5-18:(OI)(CI)F", "*S-1-5-32-544:(OI)(CI)F"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()?;
    if done.success() {
        Ok(())
    } else {
        let _ = fs::remove_dir(path);
        Err(std::io::Error::other("icacls could not close the folder to other users"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_folder_that_others_can_see_is_refused_with_the_cure() {
        use std::os::unix::fs::PermissionsExt;
        let base = tempfile::tempdir().unwrap();
        let state = StateDir::new(base.path().join("state"));
        state.create().unwrap();
        let mode = fs::metadata(state.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);

        fs::set_permissions(state.path(), fs::Permissions::from_mode(0o750)).unwrap();
        let words = state.check().unwrap_err().to_string();
        assert!(words.contains("chmod 700"), "{words}");
    }

    #[test]
    fn a_missing_folder_says_what_to_do() {
        let base = tempfile::tempdir().unwrap();
        let words = StateDir::new(base.path().join("none")).check().unwrap_err().to_string();
        assert!(words.contains("enroll"), "{words}");
    }

    #[test]
    fn temporary_files_of_an_earlier_life_go_and_nothing_beside_them() {
        let base = tempfile::tempdir().unwrap();
        let state = StateDir::new(base.path());
        state.sweep_temporary();
        fs::create_dir_all(state.temporary().join("check-1/deep")).unwrap();
        fs::write(state.temporary().join("restic-temp-pack-1"), "half").unwrap();
        let beside = base.path().join("beside");
        fs::write(&beside, "{}").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(base.path(), state.temporary().join("link")).unwrap();
        state.sweep_temporary();
        assert_eq!(fs::read_dir(state.temporary()).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(beside).unwrap(), "{}");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_place_of_the_temporary_folder_is_not_followed() {
        let base = tempfile::tempdir().unwrap();
        let state = StateDir::new(base.path().join("state"));
        state.create().unwrap();
        let elsewhere = base.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("precious"), "kept").unwrap();
        std::os::unix::fs::symlink(&elsewhere, state.temporary()).unwrap();
        state.sweep_temporary();
        assert_eq!(fs::read_to_string(elsewhere.join("precious")).unwrap(), "kept");
    }

    #[test]
    fn one_agent_holds_the_folder() {
        let base = tempfile::tempdir().unwrap();
        let state = StateDir::new(base.path());
        let held = state.lock().unwrap();
        let words = state.lock().unwrap_err().to_string();
        assert!(words.contains("Another agent"), "{words}");
        drop(held);
        state.lock().unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_fresh_folder_is_never_one_that_somebody_laid_out() {
        use std::os::unix::fs::PermissionsExt;
        let base = tempfile::tempdir().unwrap();
        let elsewhere = base.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        let (link, dangling) = (base.path().join("link"), base.path().join("dangling"));
        std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
        std::os::unix::fs::symlink(base.path().join("nowhere"), &dangling).unwrap();
        for taken in [&elsewhere, &link, &dangling] {
            let error = create_fresh_dir(taken).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{}", taken.display());
        }
        let fresh = base.path().join("a/b/c");
        create_private_dir(&fresh).unwrap();
        for folder in ["a", "a/b", "a/b/c"] {
            let mode = fs::metadata(base.path().join(folder)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{folder}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_could_read_is_closed_and_keeps_its_content() {
        use std::os::unix::fs::PermissionsExt;
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("journal.db");
        fs::write(&path, "kept").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        close_file(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
    }

    #[cfg(unix)]
    #[test]
    fn a_replaced_file_is_whole_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("file.json");
        replace_file(&path, b"one").unwrap();
        replace_file(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1);
    }
}
