//! Who asks. Every route of the API wants a [`Principal`]: the desktop inserts
//! [`Principal::LocalUser`] for the person in front of it, and a listener on the network inserts
//! what [`network`] finds behind the session cookie. Nothing else makes one.

pub mod attempts;
pub mod network;
pub mod password;
pub mod token;

use crate::api::error::ApiError;
use axum::{extract::FromRequestParts, http::request::Parts};
use protocol::{Code, Problem};
use std::{convert::Infallible, fmt};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Principal {
    /// The person who runs the desktop app.
    LocalUser,
    /// An admin who signed in over the network.
    Admin {
        /// Their session.
        session: SessionKey,
    },
}

impl Principal {
    /// The word in the audit log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LocalUser => "local_user",
            Self::Admin { .. } => "admin",
        }
    }
}

/// The SHA-256 of a session's cookie, by which the database knows it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SessionKey(pub [u8; 32]);

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey")
    }
}

impl<S: Sync> FromRequestParts<S> for Principal {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().copied().ok_or_else(|| {
            Problem::new(Code::Unauthenticated, "Nobody is signed in.")
                .guidance("Sign in, then try again.")
                .into()
        })
    }
}

/// The principal where one is not required.
#[derive(Clone, Copy, Debug)]
pub struct MaybePrincipal(pub Option<Principal>);

impl<S: Sync> FromRequestParts<S> for MaybePrincipal {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get::<Principal>().copied()))
    }
}
