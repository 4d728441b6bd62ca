//! Announcing: how a machine without a token asks to join, and the short code by which two people,
//! or one between two screens, see that nobody stands between it and the manager.
//!
//! The order makes the code safe although it is short. The agent *commits* to its key and a nonce,
//! then the manager names its own nonce, and only then does the agent *reveal* what it committed to.
//! Whoever stands between the two has to commit on both sides before it learns what would decide the
//! code there, so it cannot search for keys or nonces that fit: each try is one in 2^40, and each one
//! is seen.
//!
//! The code covers both keys: that of the agent's client certificate, and the manager's root key.
//! Every field has a fixed size, so that no two inputs read alike.

use crate::{HostArch, HostOs, ProtocolVersion};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};
use thiserror::Error;
use uuid::Uuid;

/// What the commitment is hashed with, so that it is the hash of nothing else.
const COMMITMENT_DOMAIN: &[u8] = b"restic-manager announce commitment 1\n";
/// The same for the code.
const CODE_DOMAIN: &[u8] = b"restic-manager announce code 1\n";
/// The letters of a code. O and 0, I and 1 look alike in many a typeface, so neither is there.
const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
/// How many of them a code has.
const CODE_LENGTH: usize = 8;

macro_rules! digits {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub struct $name([u8; 32]);

        impl From<[u8; 32]> for $name {
            fn from(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                let bytes = HEXLOWER.decode(text.as_bytes()).map_err(D::Error::custom)?;
                let bytes = bytes.try_into().map_err(|_| D::Error::custom("not 32 bytes"))?;
                Ok(Self(bytes))
            }
        }
    };
}

digits!(
    /// Thirty-two random bytes of one side, as 64 lower-case hex digits on the wire.
    Nonce
);
digits!(
    /// What the agent is bound to before it hears the manager's nonce: a SHA-256, as 64 lower-case
    /// hex digits on the wire.
    Commitment
);

impl Commitment {
    /// The commitment of the agent whose key has this fingerprint (the SHA-256 of its SPKI) to a
    /// nonce.
    #[must_use]
    pub fn to(agent_key: &[u8; 32], nonce: Nonce) -> Self {
        let mut sha = Sha256::new();
        sha.update(COMMITMENT_DOMAIN);
        sha.update(agent_key);
        sha.update(nonce.0);
        Self(sha.finalize().into())
    }
}

/// Everything that the code covers, as one side sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meeting {
    /// The SHA-256 of the SPKI of the agent's key.
    pub agent_key: [u8; 32],
    /// The manager's root public key.
    pub manager_key: [u8; 32],
    /// What the agent committed to.
    pub agent_nonce: Nonce,
    /// What the manager answered.
    pub manager_nonce: Nonce,
}

impl Meeting {
    /// The code that this side shows.
    #[must_use]
    pub fn code(&self) -> ShortCode {
        let mut sha = Sha256::new();
        sha.update(CODE_DOMAIN);
        sha.update(self.agent_key);
        sha.update(self.manager_key);
        sha.update(self.agent_nonce.0);
        sha.update(self.manager_nonce.0);
        let digest = sha.finalize();
        // Five bits a letter.
        let bits = digest.iter().take(5).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        let mut letters = [0; CODE_LENGTH];
        for (at, letter) in letters.iter_mut().rev().enumerate() {
            *letter = LETTERS[(bits >> (5 * at) & 31) as usize];
        }
        ShortCode(letters)
    }
}

/// The code that both sides show: `ABCD-EFGH`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ShortCode([u8; CODE_LENGTH]);

/// The text is no code.
#[derive(Debug, Error)]
#[error("this is no code: it has eight letters and digits, as in ABCD-EFGH")]
pub struct NotACode;

impl fmt::Display for ShortCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, letter) in self.0.iter().enumerate() {
            let dash = if at == CODE_LENGTH / 2 { "-" } else { "" };
            write!(f, "{dash}{}", char::from(*letter))?;
        }
        Ok(())
    }
}

impl fmt::Debug for ShortCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShortCode({self})")
    }
}

/// Takes a code as a person types it: in small letters too, with or without the dash.
impl FromStr for ShortCode {
    type Err = NotACode;
    fn from_str(text: &str) -> Result<Self, NotACode> {
        let typed =
            text.bytes().filter(|byte| !matches!(byte, b'-' | b' ' | b'\t' | b'\r' | b'\n'));
        let letters: Vec<u8> = typed.map(|byte| byte.to_ascii_uppercase()).collect();
        if letters.iter().any(|letter| !LETTERS.contains(letter)) {
            return Err(NotACode);
        }
        Ok(Self(letters.try_into().map_err(|_| NotACode)?))
    }
}

/// `POST /agent/announce`: a machine asks to join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnounceRequest {
    /// To what the agent is bound.
    pub commitment: Commitment,
    /// The version that the agent speaks.
    pub protocol_version: ProtocolVersion,
    /// The agent's own version.
    pub agent_version: String,
    /// The machine's name.
    pub hostname: String,
    /// The machine's operating system.
    pub os: HostOs,
    /// The machine's architecture.
    pub arch: HostArch,
}

/// Its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnounceResponse {
    /// The announcement; the requests that follow name it.
    pub id: Uuid,
    /// The manager's nonce.
    pub nonce: Nonce,
}

/// `POST /agent/announce/{id}/reveal`: what the agent committed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevealRequest {
    /// The agent's nonce.
    pub nonce: Nonce,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn meeting() -> Meeting {
        Meeting {
            agent_key: [1; 32],
            manager_key: [2; 32],
            agent_nonce: Nonce([3; 32]),
            manager_nonce: Nonce([4; 32]),
        }
    }

    // Both were computed by another program; a released agent computes them for ever.
    #[test]
    fn commitment_and_code_are_the_golden_ones() {
        let commitment = Commitment::to(&[1; 32], Nonce([3; 32]));
        assert_eq!(
            commitment.to_string(),
            "c940fb844286c9d10c1dfd3b8f13c316bfac2afcf82d9cb97441829c9ad47951"
        );
        assert_eq!(meeting().code().to_string(), "CEGK-V5YK");
    }

    #[test]
    fn the_code_covers_both_keys_and_both_nonces() {
        let code = meeting().code();
        let others = [
            Meeting { agent_key: [9; 32], ..meeting() },
            Meeting { manager_key: [9; 32], ..meeting() },
            Meeting { agent_nonce: Nonce([9; 32]), ..meeting() },
            Meeting { manager_nonce: Nonce([9; 32]), ..meeting() },
            // The same bytes in other places.
            Meeting { agent_key: [2; 32], manager_key: [1; 32], ..meeting() },
        ];
        for other in others {
            assert_ne!(other.code(), code, "{other:?}");
        }
    }

    #[test]
    fn a_commitment_covers_key_and_nonce() {
        let commitment = Commitment::to(&[1; 32], Nonce([3; 32]));
        assert_ne!(Commitment::to(&[2; 32], Nonce([3; 32])), commitment);
        assert_ne!(Commitment::to(&[1; 32], Nonce([4; 32])), commitment);
    }

    #[test]
    fn a_code_is_read_as_people_type_it_and_nothing_else_is() {
        let code: ShortCode = "ABCD-EF29".parse().unwrap();
        for typed in ["abcdef29", " abcd-ef29\n", "ABCD EF29", "a-b-c-d-e-f-2-9"] {
            assert_eq!(typed.parse::<ShortCode>().unwrap(), code, "{typed}");
        }
        for wrong in ["", "ABCD-EF2", "ABCD-EF299", "ABCD-EF2O", "ABCD-EF21", "ÄBCD-EF29"] {
            assert!(wrong.parse::<ShortCode>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_wire_has_hex_and_takes_nothing_shorter() {
        let json = serde_json::to_string(&RevealRequest { nonce: Nonce([0xab; 32]) }).unwrap();
        assert_eq!(json, format!("{{\"nonce\":\"{}\"}}", "ab".repeat(32)));
        assert!(serde_json::from_str::<RevealRequest>("{\"nonce\":\"abab\"}").is_err());
    }

    proptest! {
        #[test]
        fn every_code_reads_back(agent_key: [u8; 32], nonce: [u8; 32]) {
            let code = Meeting { agent_key, agent_nonce: Nonce(nonce), ..meeting() }.code();
            prop_assert_eq!(code.to_string().parse::<ShortCode>().unwrap(), code);
            prop_assert_eq!(code.to_string().len(), 9);
        }
    }
}
