//! Values that must not be seen: redacted when printed, wiped when dropped, and serialised only
//! where a field says so.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use zeroize::Zeroize;

/// A secret value.
///
/// It has no `Serialize`: a field that has to carry it over the wire says
/// `#[serde(serialize_with = "expose")]`, so each place that lets a secret out can be searched for.
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes a value into custody.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. The name is long on purpose: it should be found in a review.
    pub fn expose_secret(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize + Clone> Clone for Secret<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Zeroize + PartialEq> PartialEq for Secret<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T: Zeroize + Eq> Eq for Secret<T> {}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl<T: Zeroize> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<'de, T: Zeroize + Deserialize<'de>> Deserialize<'de> for Secret<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self)
    }
}

/// What [`expose`] can write: a secret, or an optional or patched one.
pub trait Exposable {
    /// Serialises the value in the clear.
    ///
    /// # Errors
    /// As the serialiser says.
    fn expose<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
}

impl<T: Zeroize + Serialize> Exposable for Secret<T> {
    fn expose<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<T: Exposable> Exposable for Option<T> {
    fn expose<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Some(value) => value.expose(serializer),
            None => serializer.serialize_none(),
        }
    }
}

/// For `#[serde(serialize_with = "expose")]` on the fields that carry a secret over the pinned link
/// or into an owner-only file.
///
/// # Errors
/// As the serialiser says.
pub fn expose<T: Exposable, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    value.expose(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_the_value() {
        let secret = Secret::new("tr0ub4dor".to_owned());
        let text = format!("{secret:?} {:?} {:#?}", Some(&secret), [&secret]);
        assert!(!text.contains("tr0ub4dor"), "{text}");
    }
}
