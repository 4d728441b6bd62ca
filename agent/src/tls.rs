//! TLS towards the manager: mutual, 1.3 only, and pinned to the manager's root *public key*.
//!
//! Addresses change and certificates are replaced; the root key does neither. It is made into the
//! only trust anchor that the ordinary verifier knows, so everything else about the chain (dates,
//! names, constraints) is verified as always. The name is fixed and never an address.
//!
//! A machine that announces itself knows no key yet: it takes the one that the chain of its first
//! connection ends in, and a person compares a code that covers it.
//!
//! The instance certificate also names its manager's epoch. A manager whose key was stolen and
//! replaced continues under a higher epoch; an agent refuses a lower one than it has seen.

use crate::identity::Identity;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error as TlsError,
    RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{
    CertificateDer, Der, InvalidDnsNameError, ServerName, TrustAnchor, UnixTime,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use thiserror::Error;

/// The name in every manager's instance certificate.
pub const MANAGER_NAME: &str = "manager.restic-manager.internal";

/// The common name of every manager's root certificate.
pub const ROOT_NAME: &str = "Restic Manager root";

/// What comes after the number in the epoch's name: `epoch-3.restic-manager.internal`.
const EPOCH_SUFFIX: &str = ".restic-manager.internal";

/// A manager's root public key: 32 bytes of Ed25519, written as base64url.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ManagerKey([u8; 32]);

/// The text is no manager key.
#[derive(Debug, Error)]
#[error("this is no manager key: it has 43 letters, digits, - and _, as the manager shows it")]
pub struct NotAManagerKey;

impl ManagerKey {
    /// The key from its raw bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key of a manager's root certificate.
    fn of_root(certificate: &CertificateDer<'_>) -> Option<Self> {
        let anchor = webpki::anchor_from_trusted_cert(certificate).ok()?;
        let info: &[u8] = &anchor.subject_public_key_info;
        let key = Self(info.get(info.len().checked_sub(32)?..)?.try_into().ok()?);
        (key.public_key_info() == info).then_some(key)
    }

    /// The content of the key's SubjectPublicKeyInfo: the algorithm's name, then the key as a bit
    /// string (RFC 8410).
    fn public_key_info(self) -> Vec<u8> {
        let mut info = vec![0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        info.extend_from_slice(&self.0);
        info
    }

    fn trust_anchor(self) -> TrustAnchor<'static> {
        TrustAnchor {
            subject: Der::from(root_subject()),
            subject_public_key_info: Der::from(self.public_key_info()),
            name_constraints: None,
        }
    }
}

/// The content of the root certificate's subject: one set with one attribute, the common name
/// (2.5.4.3) as UTF-8.
fn root_subject() -> Vec<u8> {
    let length = ROOT_NAME.len() as u8;
    let mut subject = vec![0x31, length + 9, 0x30, length + 7, 0x06, 0x03, 0x55, 0x04, 0x03];
    subject.extend_from_slice(&[0x0c, length]);
    subject.extend_from_slice(ROOT_NAME.as_bytes());
    subject
}

impl fmt::Display for ManagerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::BASE64URL_NOPAD.encode(&self.0))
    }
}

impl fmt::Debug for ManagerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ManagerKey({self})")
    }
}

impl FromStr for ManagerKey {
    type Err = NotAManagerKey;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim().trim_end_matches('=');
        let bytes =
            data_encoding::BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| NotAManagerKey)?;
        Ok(Self(bytes.try_into().map_err(|_| NotAManagerKey)?))
    }
}

impl Serialize for ManagerKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ManagerKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The highest epoch seen so far; shared by the verifier and whoever writes it down.
#[derive(Clone, Debug, Default)]
pub struct Epoch(Arc<AtomicU64>);

impl Epoch {
    /// Starts from what was written down.
    #[must_use]
    pub fn new(highest: u64) -> Self {
        Self(Arc::new(AtomicU64::new(highest)))
    }

    /// The highest epoch seen.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes note of an epoch.
    pub fn saw(&self, epoch: u64) {
        self.0.fetch_max(epoch, Ordering::Relaxed);
    }
}

/// The configuration for every connection to the manager.
///
/// # Errors
/// When rustls does not take the key or the anchor.
pub fn client_config(
    manager: ManagerKey,
    identity: &Identity,
    epoch: Epoch,
) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(PinnedManager::new(manager, epoch, provider.clone())?);
    config(provider, verifier, identity)
}

/// The configuration for the connection to a manager whose key is not known yet: any root key will do,
/// as long as the chain up to it is in order. [`proven_root`] says which it was.
///
/// # Errors
/// When rustls does not take the key.
pub fn introduction_config(identity: &Identity) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    config(provider.clone(), Arc::new(AnyManager { provider }), identity)
}

/// The root key up to which the chain of this connection was verified; none before the handshake is
/// done.
#[must_use]
pub fn proven_root(connection: &ClientConnection) -> Option<ManagerKey> {
    ManagerKey::of_root(connection.peer_certificates()?.get(1..)?.last()?)
}

fn config(
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
    identity: &Identity,
) -> Result<Arc<ClientConfig>, TlsError> {
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(identity.chain(), identity.private_key())?;
    Ok(Arc::new(config))
}

/// The name to verify, whatever address was dialled.
///
/// # Errors
/// Never: the fixed name is a valid one.
pub fn manager_name() -> Result<ServerName<'static>, InvalidDnsNameError> {
    ServerName::try_from(MANAGER_NAME)
}

/// The ordinary verifier with one trust anchor, and the epoch after it.
#[derive(Debug)]
struct PinnedManager {
    ordinary: Arc<WebPkiServerVerifier>,
    epoch: Epoch,
}

impl PinnedManager {
    fn new(
        manager: ManagerKey,
        epoch: Epoch,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let roots = RootCertStore { roots: vec![manager.trust_anchor()] };
        let ordinary = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| TlsError::General(error.to_string()))?;
        Ok(Self { ordinary, epoch })
    }
}

impl ServerCertVerifier for PinnedManager {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let verified = self.ordinary.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        let epoch = epoch_of(end_entity)?;
        let seen = self.epoch.highest();
        if epoch < seen {
            return Err(TlsError::Other(rustls::OtherError(Arc::new(EpochTooLow { epoch, seen }))));
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.ordinary.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.ordinary.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.ordinary.supported_verify_schemes()
    }
}

/// The verifier of a connection to a manager that is not known yet: that of a pinned manager, pinned to
/// the root which the server itself shows.
#[derive(Debug)]
struct AnyManager {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyManager {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        // The same certificate from which the key is read once the handshake is done.
        let root = intermediates.last().and_then(ManagerKey::of_root);
        let root = root.ok_or(CertificateError::UnknownIssuer)?;
        let pinned = PinnedManager::new(root, Epoch::default(), self.provider.clone())?;
        pinned.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The epoch that a certificate names; a certificate without one is of epoch 0.
fn epoch_of(certificate: &CertificateDer<'_>) -> Result<u64, TlsError> {
    let certificate = webpki::EndEntityCert::try_from(certificate)
        .map_err(|error| TlsError::General(error.to_string()))?;
    Ok(certificate.valid_dns_names().filter_map(epoch_in_name).max().unwrap_or(0))
}

fn epoch_in_name(name: &str) -> Option<u64> {
    name.strip_prefix("epoch-")?.strip_suffix(EPOCH_SUFFIX)?.parse().ok()
}

/// The manager's certificate is signed by the right key, and is an old one.
#[derive(Debug, Error)]
#[error("the certificate is of epoch {epoch}, and epoch {seen} has been seen")]
pub struct EpochTooLow {
    epoch: u64,
    seen: u64,
}

/// Why a TLS connection to the manager failed, in words for a person.
#[must_use]
pub fn explain(address: &str, error: &std::io::Error) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
    match tls {
        Some(TlsError::InvalidCertificate(
            rustls::CertificateError::Expired
            | rustls::CertificateError::ExpiredContext { .. }
            | rustls::CertificateError::NotValidYet
            | rustls::CertificateError::NotValidYetContext { .. },
        )) => format!(
            "The certificate of the manager at {address} is not valid at this machine's time. Nothing was sent. Check the clocks of this machine and of the manager's."
        ),
        Some(TlsError::InvalidCertificate(_)) => format!(
            "The server at {address} is not the manager this machine was enrolled with (its certificate is not signed by the pinned key). Nothing was sent. Check the address; if the manager was set up anew without its recovery kit, enrol this machine again."
        ),
        Some(TlsError::Other(other)) if other.0.downcast_ref::<EpochTooLow>().is_some() => format!(
            "The server at {address} shows an old certificate of the manager ({}). Nothing was sent. Somebody may be using a stolen copy of the manager's key; check which manager runs at that address.",
            other.0
        ),
        Some(other) => format!(
            "The connection to {address} could not be secured: {other}. Check that the address and port are the manager's."
        ),
        None => format!("The manager at {address} cannot be reached: {error}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ED25519, PublicKeyData,
    };

    #[test]
    fn the_anchor_is_the_one_of_a_root_certificate() {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut about = CertificateParams::default();
        about.distinguished_name = DistinguishedName::new();
        about.distinguished_name.push(DnType::CommonName, ROOT_NAME);
        about.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = about.self_signed(&key).unwrap();

        let expected = webpki::anchor_from_trusted_cert(root.der()).unwrap().to_owned();
        let raw: [u8; 32] = key.der_bytes().try_into().unwrap();
        assert_eq!(ManagerKey::from_bytes(raw).trust_anchor(), expected);
        assert_eq!(ManagerKey::of_root(root.der()), Some(ManagerKey::from_bytes(raw)));
    }

    #[test]
    fn a_manager_key_reads_back_and_anything_else_is_refused() {
        let key = ManagerKey::from_bytes([7; 32]);
        assert_eq!(key.to_string().parse::<ManagerKey>().unwrap(), key);
        for wrong in ["", "AAAA", "not a key!", &"A".repeat(44)] {
            assert!(wrong.parse::<ManagerKey>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_the_exact_form_of_an_epoch_counts() {
        assert_eq!(epoch_in_name("epoch-12.restic-manager.internal"), Some(12));
        for name in ["epoch-.restic-manager.internal", "epoch-1.example.org", MANAGER_NAME] {
            assert_eq!(epoch_in_name(name), None, "{name}");
        }
    }
}
