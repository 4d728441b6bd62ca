//! The admin's password, as argon2id keeps it.

use anyhow::Context as _;
use argon2::{
    Argon2,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use protocol::Secret;
use thiserror::Error;

/// The shortest password that is taken.
pub const MIN_CHARS: usize = 12;

/// The longest password that is looked at: hashing must not be made dear by whoever asks.
pub const MAX_BYTES: usize = 1024;

/// Why a password is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unsuitable {
    /// Too short.
    #[error("the password is too short: it needs at least {MIN_CHARS} characters")]
    TooShort,
    /// Too long.
    #[error("the password is too long: it may have at most {MAX_BYTES} bytes")]
    TooLong,
}

/// Whether a new password is suitable. Length is all that is asked for: rules about signs and
/// digits make passwords that people write down.
///
/// # Errors
/// Why it is not.
pub fn check(password: &Secret<String>) -> Result<(), Unsuitable> {
    let text = password.expose_secret();
    if text.chars().count() < MIN_CHARS {
        Err(Unsuitable::TooShort)
    } else if text.len() > MAX_BYTES {
        Err(Unsuitable::TooLong)
    } else {
        Ok(())
    }
}

/// The PHC string of a password (argon2id, 19 MiB, two passes). Takes some 20 ms of a processor.
///
/// # Errors
/// When the operating system gives no randomness.
pub fn hash(password: &Secret<String>) -> anyhow::Result<String> {
    let hash = Argon2::default()
        .hash_password(password.expose_secret().as_bytes())
        .context("failed to hash the password")?;
    Ok(hash.to_string())
}

/// Whether this is the password behind the PHC string, compared in constant time.
///
/// # Errors
/// When the string is none.
pub fn verify(password: &Secret<String>, hash: &str) -> anyhow::Result<bool> {
    if password.expose_secret().len() > MAX_BYTES {
        return Ok(false);
    }
    let hash = PasswordHash::new(hash).context("the stored password hash is malformed")?;
    Ok(Argon2::default().verify_password(password.expose_secret().as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_itself_verifies() {
        let hashed = hash(&"correct horse battery".to_owned().into()).unwrap();
        assert!(hashed.starts_with("$argon2id$v=19$"), "{hashed}");
        assert!(verify(&"correct horse battery".to_owned().into(), &hashed).unwrap());
        assert!(!verify(&"correct horse batterz".to_owned().into(), &hashed).unwrap());
        assert!(!verify(&"x".repeat(MAX_BYTES + 1).into(), &hashed).unwrap());
        assert!(verify(&"x".to_owned().into(), "no hash").is_err());
    }

    #[test]
    fn a_short_or_endless_password_is_not_taken() {
        assert_eq!(check(&"elevenchars".to_owned().into()), Err(Unsuitable::TooShort));
        assert_eq!(check(&"twelve chars".to_owned().into()), Ok(()));
        assert_eq!(check(&"x".repeat(MAX_BYTES + 1).into()), Err(Unsuitable::TooLong));
    }
}
