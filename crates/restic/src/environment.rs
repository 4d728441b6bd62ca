//! The environment of restic: cleared, then filled from a short list.
//!
//! Secrets reach restic by environment only. Its arguments can be read by every user of the
//! machine, and a URL is quoted in error texts. (A password file on an inherited descriptor would
//! also keep the password out of the environment, but restic trims blanks off what it reads
//! there, and so would not open a repository whose password begins or ends with one.)

use std::ffi::OsString;
use std::path::PathBuf;

use crate::failure::{Failure, FailureKind};
use crate::location::check_location;
use crate::redact::Redactor;
use crate::secret::Secret;

/// A repository and how to reach it.
#[derive(Debug, Clone)]
pub struct Repository {
    /// Where it is, in restic's form: `rest:https://host/path/`, a folder, and so on. Without
    /// user and password.
    pub location: String,
    /// Its password.
    pub password: Secret,
    /// The user for a REST server.
    pub rest_username: Option<String>,
    /// That user's password.
    pub rest_password: Option<Secret>,
    /// A PEM file with the certificate authority to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Where restic keeps its cache; one folder serves all repositories. Always given, because
    /// without it 0.19 fails where there is no home folder, as under systemd.
    pub cache_dir: PathBuf,
    /// Where restic builds what it uploads; the system's folder for temporary files if absent.
    pub temp_dir: Option<PathBuf>,
    /// Upload limit in KiB per second.
    pub limit_upload_kib: Option<u32>,
    /// Download limit in KiB per second.
    pub limit_download_kib: Option<u32>,
}

impl Repository {
    /// A repository without credentials for a server, and without limits.
    pub fn new(
        location: impl Into<String>,
        password: impl Into<Secret>,
        cache_dir: impl Into<PathBuf>,
    ) -> Self {
        Self {
            location: location.into(),
            password: password.into(),
            rest_username: None,
            rest_password: None,
            ca_file: None,
            cache_dir: cache_dir.into(),
            temp_dir: None,
            limit_upload_kib: None,
            limit_download_kib: None,
        }
    }

    /// A redactor for the secrets of this repository.
    pub fn redactor(&self) -> Redactor {
        Redactor::new(std::iter::once(&self.password).chain(&self.rest_password))
    }

    /// Whether it can be handed to restic at all.
    pub(crate) fn validate(&self) -> Result<(), Failure> {
        check_location(&self.location)
            .map_err(|error| Failure::new(FailureKind::BadLocation, error.to_string()))?;
        if self.password.expose().is_empty() {
            return Err(Failure::invalid("the password of the repository is empty"));
        }
        let secrets = [Some(&self.password), self.rest_password.as_ref()];
        if secrets.iter().flatten().any(|s| s.expose().contains('\0')) {
            return Err(Failure::invalid("a password contains a null character"));
        }
        if self.cache_dir.as_os_str().is_empty() {
            return Err(Failure::invalid("no folder for restic's cache is given"));
        }
        Ok(())
    }

    /// The whole environment of a restic that works on this repository.
    pub(crate) fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut environment = base_environment();
        let mut set = |name: &str, value: OsString| environment.push((name.into(), value));
        set("RESTIC_REPOSITORY", self.location.clone().into());
        set("RESTIC_PASSWORD", self.password.expose().into());
        set("RESTIC_CACHE_DIR", self.cache_dir.clone().into());
        if let Some(username) = &self.rest_username {
            set("RESTIC_REST_USERNAME", username.into());
        }
        if let Some(password) = &self.rest_password {
            set("RESTIC_REST_PASSWORD", password.expose().into());
        }
        if let Some(ca_file) = &self.ca_file {
            set("RESTIC_CACERT", ca_file.into());
        }
        if let Some(temp_dir) = &self.temp_dir {
            for name in temp_dir_variables() {
                set(name, temp_dir.into());
            }
        }
        environment
    }
}

/// Variables of this process that restic may have: to find its helpers, its home, the way out of
/// the network, and the system's certificates. Everything else stays here.
const INHERITED: &[&str] = &[
    "PATH",
    "HOME",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Without these a program on Windows cannot even open a socket.
const INHERITED_ON_WINDOWS: &[&str] = &[
    "SystemRoot",
    "SystemDrive",
    "windir",
    "ComSpec",
    "PATHEXT",
    "TEMP",
    "TMP",
    "USERPROFILE",
    "USERNAME",
    "COMPUTERNAME",
    "APPDATA",
    "LOCALAPPDATA",
    "ProgramData",
    "ProgramFiles",
];

/// What every restic gets, also one that is only asked for its version.
pub(crate) fn base_environment() -> Vec<(OsString, OsString)> {
    let windows = if cfg!(windows) { INHERITED_ON_WINDOWS } else { &[] };
    let mut environment: Vec<(OsString, OsString)> = INHERITED
        .iter()
        .chain(windows)
        .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)))
        .collect();
    // Times inside messages, and the days by which snapshots are kept, are those of UTC.
    environment.push(("TZ".into(), "UTC".into()));
    environment.push(("RESTIC_PROGRESS_FPS".into(), "2".into()));
    environment
}

fn temp_dir_variables() -> &'static [&'static str] {
    if cfg!(windows) { &["TEMP", "TMP"] } else { &["TMPDIR"] }
}

#[cfg(test)]
mod tests {
    use super::Repository;
    use crate::failure::FailureKind;
    use crate::secret::Secret;

    fn repository(location: &str) -> Repository {
        Repository::new(location, "pw", "/cache")
    }

    fn variable(repository: &Repository, name: &str) -> Option<String> {
        let environment = repository.environment();
        let found = environment.iter().rev().find(|(key, _)| key == name)?;
        Some(found.1.to_string_lossy().into_owned())
    }

    #[test]
    fn every_restic_gets_a_cache_folder_utc_and_two_status_lines_a_second() {
        let repository = repository("/repo");
        for (name, value) in [
            ("RESTIC_REPOSITORY", "/repo"),
            ("RESTIC_PASSWORD", "pw"),
            ("RESTIC_CACHE_DIR", "/cache"),
            ("RESTIC_PROGRESS_FPS", "2"),
            ("TZ", "UTC"),
        ] {
            assert_eq!(variable(&repository, name).as_deref(), Some(value), "{name}");
        }
    }

    #[test]
    fn credentials_of_a_server_have_variables_of_their_own() {
        let repository = Repository {
            rest_username: Some("web1".to_owned()),
            rest_password: Some(Secret::new("rest-pw")),
            ca_file: Some("/ca.pem".into()),
            ..repository("rest:https://localhost/web1/")
        };
        for (name, value) in [
            ("RESTIC_REST_USERNAME", "web1"),
            ("RESTIC_REST_PASSWORD", "rest-pw"),
            ("RESTIC_CACERT", "/ca.pem"),
            ("RESTIC_REPOSITORY", "rest:https://localhost/web1/"),
        ] {
            assert_eq!(variable(&repository, name).as_deref(), Some(value), "{name}");
        }
    }

    #[test]
    fn only_listed_variables_are_inherited() {
        let known = |name: &str| {
            name.starts_with("RESTIC_")
                || name == "TZ"
                || super::INHERITED.contains(&name)
                || super::INHERITED_ON_WINDOWS.contains(&name)
        };
        let environment = repository("/repo").environment();
        assert!(environment.iter().all(|(name, _)| known(&name.to_string_lossy())));
        // Cargo sets this for every test: a variable that must not get through.
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        assert_eq!(variable(&repository("/repo"), "CARGO_MANIFEST_DIR"), None);
    }

    #[test]
    fn a_location_with_a_password_or_a_program_is_refused() {
        for location in [
            "sftp:-oProxyCommand=id:/srv",
            "rclone::sftp,ssh=id:/srv",
            "rest:http://user:secret@host/",
            "rest:https://user@host/",
            "rest:http://web9:pa/ss@host/",
            "s3:http://key:secret@host/bucket",
            "",
            "/repo\n",
        ] {
            let failure = repository(location).validate().unwrap_err();
            assert_eq!(failure.kind, FailureKind::BadLocation, "{location}");
            assert!(!failure.message.contains("secret"));
        }
        for location in ["sftp:user@host:/srv", "sftp://user@host//srv", "/repo@home"] {
            assert_eq!(repository(location).validate(), Ok(()), "{location}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let repository = Repository {
            rest_password: Some(Secret::new("rest-canary")),
            ..Repository::new("/repo", "pw-canary", "/cache")
        };
        assert!(!format!("{repository:?}").contains("canary"));
    }
}
