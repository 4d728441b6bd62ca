//! The vault: every secret in the database is sealed under one random key, and only that key lies
//! outside, behind a [`KeyStore`].
//!
//! A box is bound to its place (`table.column.row`): moved to another row or field it does not open.
//! The format is one version byte, a 96-bit random nonce, and ChaCha20-Poly1305's ciphertext and tag.
//! A fleet has a few hundred secrets, which is far below the 2^32 boxes at which random nonces of
//! that size become a concern.

use protocol::Secret;
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// The length of the vault key in bytes.
pub const KEY_LEN: usize = 32;
const FORMAT: u8 = 1;

/// Where the one key lives that opens the vault.
pub trait KeyStore: Send + Sync {
    /// The key, or `None` when this store never held one.
    ///
    /// # Errors
    /// When the store cannot be read. A caller must then stop, and never make a new key: that would
    /// lock every sealed secret out for good.
    fn load(&self) -> Result<Option<Secret<[u8; KEY_LEN]>>, VaultError>;

    /// Stores a new key. Never replaces one that is there.
    ///
    /// # Errors
    /// When the store cannot be written or holds a key already.
    fn create(&self, key: &Secret<[u8; KEY_LEN]>) -> Result<(), VaultError>;
}

/// What can go wrong with the vault.
#[derive(Debug, Error)]
pub enum VaultError {
    /// The key store's file or service failed.
    #[error("failed to use the vault key at {place}")]
    Store {
        /// The file or service.
        place: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What the key store holds is no vault key.
    #[error("{place} does not hold a vault key; it was left as it is")]
    Malformed {
        /// The file or service.
        place: String,
    },
    /// Others can read the key file.
    #[error(
        "{place} can be read by other users; make it readable by its owner only (chmod 600) and start again"
    )]
    Exposed {
        /// The file.
        place: String,
    },
    /// The database has sealed secrets but there is no key.
    #[error(
        "the database holds sealed secrets, but there is no vault key; restore the key, or start with a new data folder"
    )]
    KeyMissing,
    /// A box does not open: another key, another place, or damage.
    #[error("a sealed secret in {place} does not open with this vault key")]
    DoesNotOpen {
        /// `table.column.row`
        place: String,
    },
    /// The operating system gave no randomness.
    #[error("the operating system gave no random numbers")]
    Random,
}

/// The key in an owner-only file: for headless servers and tests.
#[derive(Debug, Clone)]
pub struct FileKeyStore {
    path: PathBuf,
}

impl FileKeyStore {
    /// A store in this file, which need not exist yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn store_error(&self, source: io::Error) -> VaultError {
        VaultError::Store { place: self.path.display().to_string(), source }
    }
}

impl KeyStore for FileKeyStore {
    fn load(&self) -> Result<Option<Secret<[u8; KEY_LEN]>>, VaultError> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => Secret::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.store_error(error)),
        };
        refuse_exposed(&self.path)?;
        let malformed = || VaultError::Malformed { place: self.path.display().to_string() };
        let bytes = data_encoding::BASE64
            .decode(text.expose_secret().trim().as_bytes())
            .map_err(|_| malformed())?;
        let key: [u8; KEY_LEN] =
            Secret::new(bytes).expose_secret().as_slice().try_into().map_err(|_| malformed())?;
        Ok(Some(Secret::new(key)))
    }

    fn create(&self, key: &Secret<[u8; KEY_LEN]>) -> Result<(), VaultError> {
        use std::io::Write as _;
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        let text = Secret::new(data_encoding::BASE64.encode(key.expose_secret()) + "\n");
        let mut file = options.open(&self.path).map_err(|e| self.store_error(e))?;
        file.write_all(text.expose_secret().as_bytes()).map_err(|e| self.store_error(e))?;
        file.sync_all().map_err(|e| self.store_error(e))?;
        Ok(())
    }
}

#[cfg(unix)]
fn refuse_exposed(path: &Path) -> Result<(), VaultError> {
    use std::os::unix::fs::PermissionsExt as _;
    let place = path.display().to_string();
    let meta =
        fs::metadata(path).map_err(|source| VaultError::Store { place: place.clone(), source })?;
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(VaultError::Exposed { place });
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_exposed(_path: &Path) -> Result<(), VaultError> {
    // Windows: the data folder's access list, set when it is made, is what protects the file.
    Ok(())
}

/// Seals and opens secrets.
pub struct Vault {
    key: LessSafeKey,
    random: SystemRandom,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}

impl Vault {
    /// Opens the vault with the key of `store`. A missing key is made only when `may_create` says
    /// that the database holds nothing sealed yet.
    ///
    /// # Errors
    /// When the key cannot be had.
    pub fn open(store: &dyn KeyStore, may_create: bool) -> Result<Self, VaultError> {
        let key = match store.load()? {
            Some(key) => key,
            None if may_create => {
                let mut bytes = [0; KEY_LEN];
                SystemRandom::new().fill(&mut bytes).map_err(|_| VaultError::Random)?;
                let key = Secret::new(bytes);
                store.create(&key)?;
                key
            }
            None => return Err(VaultError::KeyMissing),
        };
        let unbound = UnboundKey::new(&CHACHA20_POLY1305, key.expose_secret())
            .map_err(|_| VaultError::Random)?;
        Ok(Self { key: LessSafeKey::new(unbound), random: SystemRandom::new() })
    }

    /// Seals a secret for one place, `table.column.row`.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn seal(&self, place: &str, secret: &[u8]) -> Result<Vec<u8>, VaultError> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| VaultError::Random)?;
        let mut sealed = secret.to_vec();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place.as_bytes()),
                &mut sealed,
            )
            .map_err(|_| VaultError::Random)?;
        let mut boxed = Vec::with_capacity(1 + NONCE_LEN + sealed.len());
        boxed.push(FORMAT);
        boxed.extend_from_slice(&nonce);
        boxed.append(&mut sealed);
        Ok(boxed)
    }

    /// Opens what was sealed for this place.
    ///
    /// # Errors
    /// When it was sealed with another key, for another place, or is damaged.
    pub fn unseal(&self, place: &str, boxed: &[u8]) -> Result<Secret<Vec<u8>>, VaultError> {
        let fails = || VaultError::DoesNotOpen { place: place.to_owned() };
        let (format, rest) = boxed.split_first().ok_or_else(fails)?;
        if *format != FORMAT || rest.len() < NONCE_LEN {
            return Err(fails());
        }
        let (nonce, sealed) = rest.split_at(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| fails())?;
        let mut buffer = sealed.to_vec();
        let length = self
            .key
            .open_in_place(nonce, Aad::from(place.as_bytes()), &mut buffer)
            .map_err(|_| fails())?
            .len();
        buffer.truncate(length);
        Ok(Secret::new(buffer))
    }

    /// Opens a sealed text.
    ///
    /// # Errors
    /// As [`Vault::unseal`], and when it is not UTF-8.
    pub fn unseal_text(&self, place: &str, boxed: &[u8]) -> Result<Secret<String>, VaultError> {
        let bytes = self.unseal(place, boxed)?;
        let text = std::str::from_utf8(bytes.expose_secret())
            .map_err(|_| VaultError::DoesNotOpen { place: place.to_owned() })?;
        Ok(Secret::new(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(dir: &Path) -> Vault {
        Vault::open(&FileKeyStore::new(dir.join("vault.key")), true).unwrap()
    }

    #[test]
    fn a_box_opens_only_in_its_own_place() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault(dir.path());
        let boxed = vault.seal("repositories.password.a", b"hunter2").unwrap();
        assert!(!boxed.windows(7).any(|w| w == b"hunter2"));
        assert_eq!(
            vault.unseal("repositories.password.a", &boxed).unwrap().expose_secret(),
            b"hunter2"
        );
        assert!(vault.unseal("repositories.password.b", &boxed).is_err());
        for at in 0..boxed.len() {
            let mut damaged = boxed.clone();
            damaged[at] ^= 1;
            assert!(vault.unseal("repositories.password.a", &damaged).is_err(), "byte {at}");
            assert!(vault.unseal("repositories.password.a", &boxed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn another_key_does_not_open_it() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let boxed = vault(one.path()).seal("x", b"secret").unwrap();
        assert!(vault(two.path()).unseal("x", &boxed).is_err());
        assert!(vault(one.path()).unseal("x", &boxed).is_ok());
    }

    #[test]
    fn a_key_that_cannot_be_read_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vault.key");
        fs::write(&path, "not a key").unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let store = FileKeyStore::new(&path);
        assert!(matches!(Vault::open(&store, true), Err(VaultError::Malformed { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "not a key");
    }

    #[test]
    fn a_missing_key_beside_sealed_secrets_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = FileKeyStore::new(dir.path().join("vault.key"));
        assert!(matches!(Vault::open(&store, false), Err(VaultError::KeyMissing)));
        assert!(!dir.path().join("vault.key").exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vault.key");
        vault(dir.path());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            Vault::open(&FileKeyStore::new(&path), false),
            Err(VaultError::Exposed { .. })
        ));
    }
}
