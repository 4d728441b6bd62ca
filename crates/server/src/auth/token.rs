//! Random tokens: session cookies, enrolment tokens and the passwords that the manager mints.

use protocol::Secret;
use sha2::{Digest as _, Sha256};

/// A token of this many random bytes, as URL-safe base64.
///
/// # Errors
/// When the operating system gives no randomness.
pub fn mint(bytes: usize) -> anyhow::Result<Secret<String>> {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random)
        .map_err(|_| anyhow::anyhow!("the operating system gave no random numbers"))?;
    let random = Secret::new(random);
    Ok(Secret::new(data_encoding::BASE64URL_NOPAD.encode(random.expose_secret())))
}

/// What the database keeps of a token. It has enough randomness that a plain hash cannot be
/// guessed backwards.
#[must_use]
pub fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::mint;

    #[test]
    fn tokens_differ_and_fit_into_urls() {
        let (one, two) = (mint(24).unwrap(), mint(24).unwrap());
        assert_ne!(one.expose_secret(), two.expose_secret());
        assert_eq!(one.expose_secret().len(), 32);
        let safe = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        assert!(one.expose_secret().chars().all(safe));
    }
}
