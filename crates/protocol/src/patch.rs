//! A field of a version 1 update: absent leaves it alone, `null` clears it, a value sets it.

use crate::secret::Exposable;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What an update says of one field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// The field is not there: leave the value alone.
    #[default]
    Leave,
    /// `null`: clear the value.
    Clear,
    /// Set this value.
    Set(T),
}

impl<T> Patch<T> {
    /// Whether the field is left out; for `skip_serializing_if`.
    pub fn is_leave(&self) -> bool {
        matches!(self, Self::Leave)
    }

    /// Applies the update to a value.
    pub fn apply(self, to: &mut Option<T>) {
        match self {
            Self::Leave => {}
            Self::Clear => *to = None,
            Self::Set(value) => *to = Some(value),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Option::<T>::deserialize(deserializer)? {
            Some(value) => Self::Set(value),
            None => Self::Clear,
        })
    }
}

impl<T: Serialize> Serialize for Patch<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Leave | Self::Clear => serializer.serialize_none(),
            Self::Set(value) => value.serialize(serializer),
        }
    }
}

impl<T: Exposable> Exposable for Patch<T> {
    fn expose<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Leave | Self::Clear => serializer.serialize_none(),
            Self::Set(value) => value.expose(serializer),
        }
    }
}
