//! The vault key in the keyring of the operating system: Secret Service on Linux, the login
//! Keychain on macOS, the Credential Manager on Windows.
//!
//! A store that was opened proves nothing: a locked keyring looks fine until something is written.
//! So it is tried with an entry that is set, read and deleted before it is trusted with anything.

use keyring_core::{CredentialStore, Error};
use protocol::{Code, Problem, Secret};
use server::vault::{KEY_LEN, KeyStore, VaultError};
use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Whose entries these are, as keyring programs show it.
const SERVICE: &str = "Restic Manager";
/// The entry of the key.
const KEY: &str = "vault key";
/// The entry that is set, read and deleted to see whether the keyring works. Each try has one of its
/// own: an earlier one may still wait for a person, and must not be in the way when it is let go.
const PROBE: &str = "probe";
static TRIES: AtomicU64 = AtomicU64::new(0);

/// How to get at a keyring.
pub trait Keyring: Send + Sync + 'static {
    /// Opens it, makes sure that it keeps what it is given, and reads the key, so that the store
    /// asks nobody any more when it is first loaded from. Blocks, perhaps until a person has answered
    /// the keyring's own question.
    ///
    /// # Errors
    /// When there is none, or it cannot be used; the problem says what to do.
    fn open(&self) -> Result<Arc<dyn KeyStore>, Problem>;
}

/// The keyring of the operating system.
#[derive(Debug)]
pub struct OsKeyring;

impl Keyring for OsKeyring {
    fn open(&self) -> Result<Arc<dyn KeyStore>, Problem> {
        let store = platform_store().map_err(|error| missing(&error))?;
        probe(&store).map_err(|error| refused(&error))?;
        let keys = EntryKeyStore { store, held: Mutex::default() };
        // The entry may ask on its own, whatever the probe was allowed.
        let read = keys.read();
        *keys.held() = Some(read);
        Ok(Arc::new(keys))
    }
}

#[cfg(all(unix, not(target_os = "macos")))]
fn platform_store() -> Result<Arc<CredentialStore>, Error> {
    Ok(zbus_secret_service_keyring_store::Store::new()?)
}

#[cfg(target_os = "macos")]
fn platform_store() -> Result<Arc<CredentialStore>, Error> {
    Ok(apple_native_keyring_store::keychain::Store::new()?)
}

#[cfg(windows)]
fn platform_store() -> Result<Arc<CredentialStore>, Error> {
    Ok(windows_native_keyring_store::Store::new()?)
}

fn probe(store: &Arc<CredentialStore>) -> Result<(), Error> {
    const KEPT: &[u8] = b"kept";
    let name = format!("{PROBE} {}-{}", std::process::id(), TRIES.fetch_add(1, Ordering::Relaxed));
    let entry = store.build(SERVICE, &name, None)?;
    entry.set_secret(KEPT)?;
    let read = entry.get_secret()?;
    entry.delete_credential()?;
    if read == KEPT {
        Ok(())
    } else {
        Err(Error::BadStoreFormat("it gave back something else than it was given".to_owned()))
    }
}

fn missing(error: &Error) -> Problem {
    tracing::error!(error = %words(error), "There is no keyring");
    let guidance = if cfg!(target_os = "linux") {
        "Install and start one that speaks the Secret Service protocol, such as gnome-keyring, \
         KWallet or KeePassXC, then try again. On a machine without a desktop use \
         restic-manager-headless."
    } else {
        "Sign in to this computer as a user who has a keyring, then try again."
    };
    let message = format!(
        "There is no keyring on this computer that could hold the key to the passwords, so the \
         server was not started and no secret was stored. ({})",
        words(error)
    );
    Problem::new(Code::KeyringMissing, message).guidance(guidance)
}

fn refused(error: &Error) -> Problem {
    tracing::error!(error = %words(error), "The keyring cannot be used");
    if let Error::NoStorageAccess(_) = error {
        let message = format!(
            "The keyring is locked or has no place for passwords, so the key to the passwords could \
             not be read. Nothing was changed. ({})",
            words(error)
        );
        return Problem::new(Code::KeyringLocked, message).guidance(
            "Unlock it, or make a default keyring in your system's password program, and try \
             again.",
        );
    }
    let message = format!(
        "The keyring did not keep what it was given, so it is not trusted with the key to the \
         passwords. Nothing was changed. ({})",
        words(error)
    );
    Problem::new(Code::KeyringFailed, message)
        .guidance("See whether your system's password program works, then try again.")
}

/// The error in words. Those of some kinds carry the secret itself, and those are not told.
fn words(error: &Error) -> String {
    if let Error::BadEncoding(_) | Error::BadDataFormat(..) = error {
        return "it holds something that is not ours".to_owned();
    }
    if let Error::PlatformFailure(cause) | Error::NoStorageAccess(cause) = error {
        return cause.to_string();
    }
    error.to_string()
}

/// What was read of the key.
type Read = Result<Option<Secret<[u8; KEY_LEN]>>, VaultError>;

/// The vault key as one entry of a keyring.
struct EntryKeyStore {
    store: Arc<CredentialStore>,
    /// What was read when the keyring was opened, for the first who loads.
    held: Mutex<Option<Read>>,
}

impl EntryKeyStore {
    fn held(&self) -> MutexGuard<'_, Option<Read>> {
        // Nothing that holds it can panic half-way.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Read {
        let entry = self.store.build(SERVICE, KEY, None).map_err(|error| Self::error(&error))?;
        let text = match entry.get_secret() {
            Ok(text) => Secret::new(text),
            Err(Error::NoEntry) => return Ok(None),
            Err(error) => return Err(Self::error(&error)),
        };
        let malformed = || VaultError::Malformed { place: place() };
        let bytes = data_encoding::BASE64.decode(text.expose_secret()).map_err(|_| malformed())?;
        let key: [u8; KEY_LEN] =
            Secret::new(bytes).expose_secret().as_slice().try_into().map_err(|_| malformed())?;
        Ok(Some(Secret::new(key)))
    }

    fn error(error: &Error) -> VaultError {
        VaultError::Store { place: place(), source: io::Error::other(words(error)) }
    }
}

fn place() -> String {
    format!("the keyring entry {SERVICE:?}, {KEY:?}")
}

impl KeyStore for EntryKeyStore {
    fn load(&self) -> Read {
        let held = self.held().take();
        held.unwrap_or_else(|| self.read())
    }

    fn create(&self, key: &Secret<[u8; KEY_LEN]>) -> Result<(), VaultError> {
        if self.read()?.is_some() {
            let source = io::Error::new(io::ErrorKind::AlreadyExists, "there is a key already");
            return Err(VaultError::Store { place: place(), source });
        }
        let text = Secret::new(data_encoding::BASE64.encode(key.expose_secret()));
        let entry = self.store.build(SERVICE, KEY, None).map_err(|error| Self::error(&error))?;
        entry.set_secret(text.expose_secret().as_bytes()).map_err(|error| Self::error(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> EntryKeyStore {
        EntryKeyStore { store: keyring_core::mock::Store::new().unwrap(), held: Mutex::default() }
    }

    #[test]
    fn a_key_is_kept_and_never_replaced() {
        let store = stored();
        assert!(store.load().unwrap().is_none());
        store.create(&Secret::new([7; KEY_LEN])).unwrap();
        assert_eq!(store.load().unwrap().unwrap().expose_secret(), &[7; KEY_LEN]);
        store.create(&Secret::new([8; KEY_LEN])).unwrap_err();
        assert_eq!(store.load().unwrap().unwrap().expose_secret(), &[7; KEY_LEN]);
    }

    #[test]
    fn what_is_no_key_is_refused_and_left_alone() {
        let store = stored();
        let entry = store.store.build(SERVICE, KEY, None).unwrap();
        entry.set_secret(b"somebody else's").unwrap();
        let error = store.load().unwrap_err();
        assert!(matches!(error, VaultError::Malformed { .. }), "{error}");
        store.create(&Secret::new([8; KEY_LEN])).unwrap_err();
        assert_eq!(entry.get_secret().unwrap(), b"somebody else's");
    }

    #[test]
    fn the_first_load_is_of_what_was_read_and_the_next_reads_anew() {
        let store = stored();
        *store.held() = Some(store.read());
        let entry = store.store.build(SERVICE, KEY, None).unwrap();
        entry.set_secret(data_encoding::BASE64.encode(&[7; KEY_LEN]).as_bytes()).unwrap();
        assert!(store.load().unwrap().is_none(), "it was read before the key was there");
        assert!(store.load().unwrap().is_some());
        // A key that came meanwhile is never replaced.
        store.create(&Secret::new([8; KEY_LEN])).unwrap_err();
    }

    #[test]
    fn no_words_carry_what_a_keyring_held() {
        let held = b"hunter2-hunter2".to_vec();
        for error in [
            Error::BadEncoding(held.clone()),
            Error::BadDataFormat(held, Box::new(io::Error::other("odd"))),
        ] {
            let problem = refused(&error);
            assert!(!format!("{problem:?}").contains("hunter2"), "{problem:?}");
        }
    }
}
