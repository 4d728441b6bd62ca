//! Who this manager is: the fleet's root key, and the instance certificate that it signed.
//!
//! Agents pin the root's *public key*, never a certificate or an address. They verify the instance
//! certificate against a trust anchor made of that key and the fixed subject of the root, and they
//! refuse a lower epoch than they have seen. Both certificates are valid from the year 2000 on,
//! because machines come up with dead clocks.

use crate::{
    db::{
        Db,
        error::DbError,
        manager::{self, StoredIdentity},
    },
    vault::{Vault, VaultError},
};
use jiff::Timestamp;
use protocol::{Incarnation, ManagerIdentity, Secret};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::collections::BTreeSet;
use thiserror::Error;
use tokio::sync::watch;

/// The name in every instance certificate.
pub const MANAGER_NAME: &str = "manager.restic-manager.internal";
/// The root's whole subject.
pub const ROOT_NAME: &str = "Restic Manager root";

const ROOT_KEY_PLACE: &str = "manager.root_key.1";
const INSTANCE_KEY_PLACE: &str = "manager.instance_key.1";
const INSTANCE_YEARS: i32 = 10;

/// Why there is no identity to work with.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The database failed.
    #[error("failed to load or store the manager's identity")]
    Db(#[from] DbError),
    /// The vault failed.
    #[error("failed to open or seal the manager's keys")]
    Vault(#[from] VaultError),
    /// A key or certificate could not be made.
    #[error("failed to make the manager's keys and certificates")]
    Make(#[from] rcgen::Error),
    /// The key made is not of the expected form.
    #[error("the root key has no Ed25519 public key")]
    Form,
}

/// The identity of this manager.
pub struct Identity {
    root_public_key: [u8; 32],
    root_cert: CertificateDer<'static>,
    instance_cert: CertificateDer<'static>,
    instance_key: Secret<Vec<u8>>,
    manager: watch::Sender<ManagerIdentity>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.manager_key())
    }
}

/// What a new identity is made from.
#[derive(Clone, Debug)]
pub struct NewIdentity {
    /// The life of the database.
    pub incarnation: Incarnation,
    /// Names and addresses by which people and programs reach this machine.
    pub names: BTreeSet<String>,
    /// Now.
    pub now: Timestamp,
}

impl Identity {
    /// The stored identity, or a new one that is stored before it is used.
    ///
    /// # Errors
    /// When it can neither be loaded nor made.
    pub async fn load_or_create(
        db: &Db,
        vault: &Vault,
        new: NewIdentity,
    ) -> Result<Self, IdentityError> {
        if let Some(stored) = manager::identity(db.read()).await? {
            return Self::open(stored, vault);
        }
        let stored = make(vault, &new)?;
        let mut tx = db.begin().await?;
        manager::insert(&mut tx, &stored, new.now).await?;
        tx.commit().await.map_err(DbError::from)?;
        Self::open(stored, vault)
    }

    fn open(stored: StoredIdentity, vault: &Vault) -> Result<Self, IdentityError> {
        Ok(Self {
            instance_key: vault.unseal(INSTANCE_KEY_PLACE, &stored.instance_key_sealed)?,
            root_public_key: stored.root_public_key,
            root_cert: CertificateDer::from(stored.root_cert),
            instance_cert: CertificateDer::from(stored.instance_cert),
            manager: watch::Sender::new(stored.manager),
        })
    }

    /// Which life and epoch of the manager this is.
    #[must_use]
    pub fn manager(&self) -> ManagerIdentity {
        *self.manager.borrow()
    }

    /// The database has begun a new life. For the one who committed that.
    pub(crate) fn renew(&self, incarnation: Incarnation) {
        self.manager.send_modify(|manager| manager.incarnation = incarnation);
    }

    /// The key that agents pin, as it stands in install lines: base64url without padding.
    #[must_use]
    pub fn manager_key(&self) -> String {
        data_encoding::BASE64URL_NOPAD.encode(&self.root_public_key)
    }

    /// The raw key that agents pin.
    #[must_use]
    pub fn root_public_key(&self) -> &[u8; 32] {
        &self.root_public_key
    }

    /// The root certificate, for install lines and browsers.
    #[must_use]
    pub fn root_cert_pem(&self) -> String {
        let body = data_encoding::BASE64.encode(&self.root_cert);
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        let mut rest = body.as_str();
        while !rest.is_empty() {
            let (line, tail) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = tail;
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        pem
    }

    /// The root certificate.
    #[must_use]
    pub fn root_cert(&self) -> CertificateDer<'static> {
        self.root_cert.clone()
    }

    /// The certificate and key with which this manager serves TLS.
    #[must_use]
    pub fn instance(&self) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = PrivatePkcs8KeyDer::from(self.instance_key.expose_secret().clone());
        (self.instance_cert.clone(), PrivateKeyDer::Pkcs8(key))
    }
}

fn make(vault: &Vault, new: &NewIdentity) -> Result<StoredIdentity, IdentityError> {
    let epoch = 1;
    let root_key = KeyPair::generate_for(&PKCS_ED25519)?;
    let root_public_key = root_key.public_key_raw().try_into().map_err(|_| IdentityError::Form)?;
    let root_params = root_params();
    let root_cert = root_params.self_signed(&root_key)?.der().to_vec();
    let instance_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let issuer = Issuer::from_params(&root_params, &root_key);
    let instance_cert = instance_params(epoch, new)?.signed_by(&instance_key, &issuer)?;
    let instance_der = Secret::new(instance_key.serialize_der());
    let root_der = Secret::new(root_key.serialize_der());
    Ok(StoredIdentity {
        manager: ManagerIdentity { incarnation: new.incarnation, epoch },
        root_public_key,
        root_key_sealed: Some(vault.seal(ROOT_KEY_PLACE, root_der.expose_secret())?),
        root_cert,
        instance_cert: instance_cert.der().to_vec(),
        instance_key_sealed: vault.seal(INSTANCE_KEY_PLACE, instance_der.expose_secret())?,
    })
}

fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

fn root_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(ROOT_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31);
    params
}

fn instance_params(epoch: u64, new: &NewIdentity) -> Result<CertificateParams, IdentityError> {
    let mut names = vec![
        MANAGER_NAME.to_owned(),
        format!("epoch-{epoch}.restic-manager.internal"),
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    for name in &new.names {
        // A name that no certificate can hold must not keep the manager from starting.
        let usable = name.is_ascii() && !name.is_empty() && !name.contains(char::is_whitespace);
        if usable && !names.contains(name) {
            names.push(name.clone());
        }
    }
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = common_name("Restic Manager");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = date_time_ymd(2000, 1, 1);
    let year = new.now.to_zoned_datetime(jiff::tz::TimeZone::UTC).year();
    params.not_after = date_time_ymd(i32::from(year).max(2000) + INSTANCE_YEARS, 12, 31);
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::FileKeyStore;

    fn new_identity(byte: u8) -> NewIdentity {
        NewIdentity {
            incarnation: Incarnation::new(0, &[byte; 10]),
            names: BTreeSet::from(["box.example.org".to_owned(), "192.0.2.7".to_owned()]),
            now: "2026-11-23T12:00:00Z".parse().unwrap(),
        }
    }

    #[tokio::test]
    async fn an_identity_outlives_its_process_and_keeps_its_private_keys_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("server.db")).await.unwrap();
        let vault = Vault::open(&FileKeyStore::new(dir.path().join("vault.key")), true).unwrap();
        let first = Identity::load_or_create(&db, &vault, new_identity(1)).await.unwrap();
        let again = Identity::load_or_create(&db, &vault, new_identity(2)).await.unwrap();
        assert_eq!(first.manager_key(), again.manager_key());
        assert_eq!(first.manager(), again.manager());
        assert_eq!(first.instance().0, again.instance().0);
        assert_eq!(first.manager_key().len(), 43);

        let stored = manager::identity(db.read()).await.unwrap().unwrap();
        let key = first.instance_key.expose_secret();
        assert!(!stored.instance_key_sealed.windows(key.len()).any(|part| part == key.as_slice()));
        assert!(Vault::unseal(&vault, ROOT_KEY_PLACE, &stored.root_key_sealed.unwrap()).is_ok());
    }
}
