//! Finds restic on this machine.
//!
//! In this order: the configured path, `RESTIC_MANAGER_RESTIC`, the `PATH`, the usual places. The
//! first two are somebody's decision: what they name is used or refused, never passed over.
//! Of the others the first that is new enough wins, since a distribution's old restic often
//! stands before the admin's new one.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, FailureKind, check_version};
use crate::program::Restic;

/// Names another restic than the one that would be found.
pub const VARIABLE: &str = "RESTIC_MANAGER_RESTIC";

const PROGRAM: &str = if cfg!(windows) { "restic.exe" } else { "restic" };

/// Where to look.
#[derive(Debug, Clone, Default)]
pub struct LocateOptions {
    /// The path from the configuration.
    pub configured: Option<PathBuf>,
    /// The path from [`VARIABLE`].
    pub from_variable: Option<PathBuf>,
    /// The value of `PATH`. Entries that are not absolute are passed over.
    pub search_path: OsString,
    /// Folders to look into after that.
    pub usual_folders: Vec<PathBuf>,
}

impl LocateOptions {
    /// What holds for this process.
    pub fn from_environment(configured: Option<PathBuf>) -> Self {
        Self {
            configured,
            from_variable: env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from),
            search_path: env::var_os("PATH").unwrap_or_default(),
            usual_folders: usual_folders(),
        }
    }

    fn candidates(&self) -> Vec<PathBuf> {
        let mut candidates = Vec::new();
        for folder in env::split_paths(&self.search_path).chain(self.usual_folders.clone()) {
            let candidate = folder.join(PROGRAM);
            let is_new = !candidates.contains(&candidate);
            if folder.is_absolute() && is_new && candidate.is_file() {
                candidates.push(candidate);
            }
        }
        candidates
    }
}

/// See [`Restic::locate`].
pub(crate) async fn locate(options: &LocateOptions) -> Result<Restic, Failure> {
    let chosen = options.configured.as_ref().or(options.from_variable.as_ref());
    if let Some(path) = chosen {
        return accept(path).await;
    }
    let mut refusal = None;
    for candidate in options.candidates() {
        match accept(&candidate).await {
            Ok(restic) => return Ok(restic),
            Err(failure) => refusal = refusal.or(Some(failure)),
        }
    }
    Err(refusal.unwrap_or_else(|| {
        Failure::new(FailureKind::ProgramNotFound, "restic was not found on this machine")
    }))
}

async fn accept(path: &Path) -> Result<Restic, Failure> {
    if !path.is_file() {
        return Err(Failure::new(
            FailureKind::ProgramNotFound,
            format!("there is no program at {}", path.display()),
        ));
    }
    let restic = Restic::probe(path).await?;
    check_version(restic.version())?;
    Ok(restic)
}

fn usual_folders() -> Vec<PathBuf> {
    if cfg!(windows) {
        let below = |variable: &str, folder: &str| {
            env::var_os(variable).map(|base| PathBuf::from(base).join(folder))
        };
        return [
            below("ProgramFiles", "restic"),
            below("ProgramData", r"chocolatey\bin"),
            below("USERPROFILE", r"scoop\shims"),
        ]
        .into_iter()
        .flatten()
        .collect();
    }
    ["/usr/local/bin", "/usr/bin", "/opt/homebrew/bin", "/opt/local/bin", "/snap/bin"]
        .map(PathBuf::from)
        .to_vec()
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};

    use super::{LocateOptions, locate};
    use crate::failure::FailureKind;
    use crate::version::Version;

    fn fake(folder: &Path, version: &str) -> PathBuf {
        fs::create_dir_all(folder).unwrap();
        let path = folder.join("restic");
        let script =
            format!("#!/bin/sh\necho 'restic {version} compiled with go1.24 on linux/amd64'\n");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn on_path(folders: &[PathBuf]) -> LocateOptions {
        LocateOptions {
            search_path: std::env::join_paths(folders).unwrap(),
            ..LocateOptions::default()
        }
    }

    #[tokio::test]
    async fn the_configured_path_comes_first_and_then_the_variable() {
        let dir = tempfile::tempdir().unwrap();
        let options = LocateOptions {
            configured: Some(fake(&dir.path().join("a"), "0.18.1")),
            from_variable: Some(fake(&dir.path().join("b"), "0.18.2")),
            ..on_path(&[dir.path().join("c")])
        };
        fake(&dir.path().join("c"), "0.18.3");
        let version = |options: LocateOptions| async move {
            locate(&options).await.unwrap().version().to_string()
        };
        assert_eq!(version(options.clone()).await, "0.18.1");
        let options = LocateOptions { configured: None, ..options };
        assert_eq!(version(options.clone()).await, "0.18.2");
        let options = LocateOptions { from_variable: None, ..options };
        assert_eq!(version(options).await, "0.18.3");
    }

    #[tokio::test]
    async fn a_path_that_somebody_chose_is_never_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        fake(&dir.path().join("good"), "0.18.0");
        let options = LocateOptions {
            configured: Some(dir.path().join("missing")),
            ..on_path(&[dir.path().join("good")])
        };
        let failure = locate(&options).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::ProgramNotFound);
    }

    #[tokio::test]
    async fn an_old_restic_is_passed_over_for_a_newer_one_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        fake(&old, "0.14.0");
        fake(&new, "0.16.1");
        let restic = locate(&on_path(&[old, new])).await.unwrap();
        assert_eq!(restic.version(), Version::OLDEST);
    }

    #[tokio::test]
    async fn a_restic_that_is_too_old_is_refused_with_what_to_install() {
        let dir = tempfile::tempdir().unwrap();
        fake(dir.path(), "0.16.0");
        let failure = locate(&on_path(&[dir.path().to_owned()])).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::ProgramTooOld { found: "0.16.0".to_owned() });
        assert!(failure.guidance().contains("Install restic 0.17 or newer"));
    }

    #[tokio::test]
    async fn something_else_called_restic_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("restic");
        fs::write(&path, "#!/bin/sh\necho 'rustic 0.9'\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let failure = locate(&on_path(&[dir.path().to_owned()])).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::ProgramUnusable);
    }
}
