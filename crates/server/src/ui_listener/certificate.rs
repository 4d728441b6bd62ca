//! The certificate of the admin's interface.
//!
//! Browsers refuse chains that an Ed25519 root signed, so the interface does not use the fleet's: it
//! has an ECDSA certificate that signs itself. It is no authority, so whoever tells a browser to
//! trust it trusts this manager's interface and nothing else. Its private key lies sealed in
//! `ui-certificate.json`; `ui.pem` holds the certificate for browsers and programs. It is made anew
//! when the names change or its time is almost over, also while the server runs.

use crate::{
    files::{self, Readers},
    vault::{Vault, VaultError},
};
use data_encoding::BASE64;
use jiff::{SignedDuration, Timestamp};
use protocol::Secret;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};
use rustls::{ServerConfig, version::TLS13};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};
use thiserror::Error;

const KEY_PLACE: &str = "ui_certificate.key.1";
/// HTTP/2 as TLS names it.
pub(super) const HTTP2: &[u8] = b"h2";
const STORED: &str = "ui-certificate.json";
const PUBLIC: &str = "ui.pem";
/// Some browsers refuse certificates that live longer than 825 days.
const LIVES: SignedDuration = SignedDuration::from_hours(24 * 800);
/// It is replaced this long before its end.
const BEFORE_END: SignedDuration = SignedDuration::from_hours(24 * 30);
/// Clocks of browsers may be behind.
const BACKDATED: SignedDuration = SignedDuration::from_hours(24);

/// Why there is no certificate.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// A file cannot be written.
    #[error("failed to write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The key cannot be sealed.
    #[error("failed to seal the key of the interface's certificate")]
    Vault(#[from] VaultError),
    /// It cannot be made.
    #[error("failed to make the interface's certificate")]
    Make(#[from] rcgen::Error),
    /// It cannot be put into its form on disk.
    #[error("failed to write down the interface's certificate")]
    Form(#[from] serde_json::Error),
    /// It cannot be used.
    #[error("failed to set up TLS")]
    Tls(#[from] rustls::Error),
}

/// The certificate as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    names: BTreeSet<String>,
    replace_at: Timestamp,
    certificate: String,
    /// Sealed by the vault.
    key: String,
}

/// The certificate in use.
#[derive(Debug)]
pub(super) struct Certificate {
    dir: PathBuf,
    names: BTreeSet<String>,
    replace_at: Timestamp,
    tls: Arc<ServerConfig>,
}

impl Certificate {
    /// The stored one, if it fits these names and has time left; otherwise a new one.
    pub(super) fn ensure(
        dir: &Path,
        names: BTreeSet<String>,
        vault: &Vault,
        now: Timestamp,
    ) -> Result<Self, CertificateError> {
        let kept = load(dir).filter(|stored| stored.names == names && now < stored.replace_at);
        let used = kept.and_then(|stored| Some((server_config(&stored, vault).ok()?, stored)));
        let (tls, stored) = if let Some(used) = used {
            used
        } else {
            let stored = make(names, vault, now)?;
            store(dir, &stored)?;
            tracing::info!(
                "Made a certificate for the interface; browsers ask about it once. It is in {}",
                public_file(dir).display()
            );
            (server_config(&stored, vault)?, stored)
        };
        write(&public_file(dir), &stored.certificate, Readers::Everyone)?;
        let Stored { names, replace_at, .. } = stored;
        Ok(Self { dir: dir.to_owned(), names, replace_at, tls: Arc::new(tls) })
    }

    /// What a connection that comes now is served with.
    pub(super) fn tls(&mut self, vault: &Vault, now: Timestamp) -> Arc<ServerConfig> {
        if now >= self.replace_at {
            match Self::ensure(&self.dir, self.names.clone(), vault, now) {
                Ok(new) => *self = new,
                // The old one is good for some time still, and the next connection tries again.
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "failed to renew the interface's certificate"
                ),
            }
        }
        Arc::clone(&self.tls)
    }
}

/// The file that holds the certificate for whoever has to trust it.
#[must_use]
pub fn public_file(dir: &Path) -> PathBuf {
    dir.join(PUBLIC)
}

/// What cannot be read counts as missing: a certificate is easily made again.
fn load(dir: &Path) -> Option<Stored> {
    serde_json::from_slice(&fs::read(dir.join(STORED)).ok()?).ok()
}

fn make(
    names: BTreeSet<String>,
    vault: &Vault,
    now: Timestamp,
) -> Result<Stored, CertificateError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Restic Manager interface");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let end = now + LIVES;
    let date = |at: Timestamp| at.to_zoned_datetime(jiff::tz::TimeZone::UTC).date();
    let day = |date: jiff::civil::Date| {
        date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    params.not_before = day(date(now - BACKDATED));
    params.not_after = day(date(end));
    let certificate = params.self_signed(&key)?.pem();
    let key = Secret::new(key.serialize_der());
    let key = BASE64.encode(&vault.seal(KEY_PLACE, key.expose_secret())?);
    Ok(Stored { names, replace_at: end - BEFORE_END, certificate, key })
}

fn store(dir: &Path, stored: &Stored) -> Result<(), CertificateError> {
    write(&dir.join(STORED), &serde_json::to_string(stored)?, Readers::Owner)
}

fn write(path: &Path, text: &str, readers: Readers) -> Result<(), CertificateError> {
    let failed = |source| CertificateError::Write { path: path.to_owned(), source };
    files::replace(path, text, readers).map_err(failed)
}

fn server_config(stored: &Stored, vault: &Vault) -> Result<ServerConfig, CertificateError> {
    let unusable = |what: &str| rustls::Error::General(format!("the stored {what} is damaged"));
    let certificate = CertificateDer::from_pem_slice(stored.certificate.as_bytes());
    let certificate = certificate.map_err(|_| unusable("certificate"))?;
    let sealed = BASE64.decode(stored.key.as_bytes()).map_err(|_| unusable("key"))?;
    let key = vault.unseal(KEY_PLACE, &sealed)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.expose_secret().clone()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    // A browser opens six connections at most, which four pages with their streams would use up;
    // over HTTP/2 they share one.
    config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
