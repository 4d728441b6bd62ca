//! Who this agent is, and which manager it belongs to.
//!
//! The identity is a P-256 key that is made on the machine and never leaves it; its self-signed
//! certificate only carries the public half through TLS. The manager knows the agent by the hash of
//! that public key.

use crate::{
    paths::{StateDir, create_private_dir, replace_file},
    tls::ManagerKey,
};
use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use protocol::{HostId, ManagerIdentity};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fmt, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// The agent's key pair and the certificate that shows it.
pub struct Identity {
    key: PrivatePkcs8KeyDer<'static>,
    certificate: CertificateDer<'static>,
}

impl Identity {
    /// A new identity, in memory.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn generate() -> Result<Self> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .context("Failed to make the agent's key")?;
        let mut about = CertificateParams::default();
        about.distinguished_name = DistinguishedName::new();
        about.distinguished_name.push(DnType::CommonName, "Restic Manager agent");
        let certificate =
            about.self_signed(&key).context("Failed to make the agent's certificate")?;
        Ok(Self {
            key: PrivatePkcs8KeyDer::from(key.serialize_der()),
            certificate: certificate.der().clone(),
        })
    }

    /// Reads the identity from the state folder.
    ///
    /// # Errors
    /// When it is missing or cannot be read.
    pub fn load(state: &StateDir) -> Result<Self> {
        let context = || {
            format!(
                "Failed to read the agent's key in {}. Without it the manager does not know this machine; enrol it again with --again",
                state.path().display()
            )
        };
        Ok(Self {
            key: PrivatePkcs8KeyDer::from_pem_file(state.key()).with_context(context)?,
            certificate: CertificateDer::from_pem_file(state.certificate())
                .with_context(context)?,
        })
    }

    /// Writes the identity into the state folder.
    ///
    /// # Errors
    /// As the file system says.
    pub fn save(&self, state: &StateDir) -> Result<()> {
        let key = pem("PRIVATE KEY", self.key.secret_pkcs8_der());
        let certificate = pem("CERTIFICATE", &self.certificate);
        replace_file(&state.key(), key.as_bytes()).context("Failed to write the agent's key")?;
        replace_file(&state.certificate(), certificate.as_bytes())
            .context("Failed to write the agent's certificate")?;
        Ok(())
    }

    /// The SHA-256 of the key's SPKI, by which the manager knows it.
    ///
    /// # Errors
    /// When the certificate cannot be read.
    pub fn fingerprint(&self) -> Result<[u8; 32]> {
        let certificate = webpki::EndEntityCert::try_from(&self.certificate)
            .context("Failed to read the agent's certificate")?;
        Ok(Sha256::digest(certificate.subject_public_key_info()).into())
    }

    /// The certificate chain for TLS.
    #[must_use]
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    /// The private key for TLS.
    #[must_use]
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone_key())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity([secret])")
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    use std::fmt::Write;
    let body = data_encoding::BASE64.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        // What the encoder wrote is ASCII, and writing into a string cannot fail.
        let _ = writeln!(text, "{}", String::from_utf8_lossy(line));
    }
    let _ = writeln!(text, "-----END {label}-----");
    text
}

/// What enrolment fixed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// The host that this agent is.
    pub host_id: HostId,
    /// The manager's root public key.
    pub manager_key: ManagerKey,
    /// The manager at the time of enrolment.
    pub manager: ManagerIdentity,
    /// Where to dial, best first.
    pub addresses: Vec<String>,
    /// When.
    pub enrolled_at: Timestamp,
}

impl Enrolment {
    /// Reads the enrolment from the state folder.
    ///
    /// # Errors
    /// When the machine is not enrolled, or the file cannot be read.
    pub fn load(state: &StateDir) -> Result<Self> {
        let path = state.enrolment();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => bail!(
                "This machine is not enrolled ({} is missing). Enrol it first: restic-manager-agent enroll …",
                path.display()
            ),
            Err(error) => {
                return Err(error).with_context(|| format!("Failed to open {}", path.display()));
            }
        };
        serde_json::from_slice(&text).with_context(|| {
            format!("{} is damaged. Enrol this machine again with --again", path.display())
        })
    }

    /// Writes the enrolment into the state folder.
    ///
    /// # Errors
    /// As the file system says.
    pub fn save(&self, state: &StateDir) -> Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        replace_file(&state.enrolment(), &text).context("Failed to write the enrolment")?;
        Ok(())
    }
}

/// The name of the settings in their folder.
const SETTINGS: &str = "agent.json";

/// What the machine's own administrator decides (`agent.json`); the manager cannot change it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where restores go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_root: Option<PathBuf>,
    /// Where the hooks lie that plans may name; the system's own place for them when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks_folder: Option<PathBuf>,
    /// What this machine allows; beside the system's own place for hooks when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_file: Option<PathBuf>,
    /// The restic to run; found in the search path when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restic: Option<PathBuf>,
    /// How long a repository may not answer before a run gives up, in seconds; five minutes when
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository_patience_seconds: Option<u64>,
}

impl Settings {
    /// Reads the settings in this folder; a missing file means the defaults.
    ///
    /// # Errors
    /// When the file is there and cannot be read: a setting that is ignored is worse than none.
    pub fn load(folder: &Path) -> Result<Self> {
        let path = folder.join(SETTINGS);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .with_context(|| format!("Failed to read the settings in {}", path.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error)
                .with_context(|| format!("Failed to open the settings in {}", path.display())),
        }
    }

    /// Writes the settings into this folder.
    ///
    /// # Errors
    /// As the file system says.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        replace_file(&folder.join(SETTINGS), &text).context("Failed to write the settings")?;
        Ok(())
    }

    /// The restore root, by setting or default.
    #[must_use]
    pub fn restore_root(&self, state: &StateDir) -> PathBuf {
        self.restore_root.clone().unwrap_or_else(|| state.restores())
    }
}

/// Moves everything of an earlier enrolment into a dated folder; only the settings stay.
///
/// # Errors
/// As the file system says.
pub fn set_aside(state: &StateDir, stamp: &str) -> Result<PathBuf> {
    let aside = state.aside(stamp);
    create_private_dir(&aside).with_context(|| format!("Failed to create {}", aside.display()))?;
    let database = state.database();
    let mut wal = database.clone().into_os_string();
    wal.push("-wal");
    let mut shm = database.clone().into_os_string();
    shm.push("-shm");
    let mut open = database.clone().into_os_string();
    open.push("-open");
    // The enrolment goes first: without it the rest is no agent's state any more.
    let files = [
        state.enrolment(),
        state.key(),
        state.certificate(),
        state.desired(),
        database,
        PathBuf::from(wal),
        PathBuf::from(shm),
        PathBuf::from(open),
        state.status(),
    ];
    for file in files {
        let Some(name) = file.file_name() else { continue };
        match fs::rename(&file, aside.join(name)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("Failed to set {} aside", file.display()));
            }
        }
    }
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back_and_its_debug_shows_nothing() {
        let base = tempfile::tempdir().unwrap();
        let state = StateDir::new(base.path());
        let identity = Identity::generate().unwrap();
        identity.save(&state).unwrap();
        let again = Identity::load(&state).unwrap();
        assert_eq!(again.certificate, identity.certificate);
        assert_eq!(again.fingerprint().unwrap(), identity.fingerprint().unwrap());
        assert_eq!(again.key.secret_pkcs8_der(), identity.key.secret_pkcs8_der());
        assert_eq!(format!("{identity:?}"), "Identity([secret])");
    }

    #[test]
    fn a_setting_with_a_typing_error_is_refused() {
        let base = tempfile::tempdir().unwrap();
        assert_eq!(Settings::load(base.path()).unwrap(), Settings::default());
        fs::write(base.path().join(SETTINGS), r#"{"restore_rot":"/x"}"#).unwrap();
        assert!(Settings::load(base.path()).is_err());
    }
}
