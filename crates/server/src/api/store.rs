//! The built-in store: its folder, what is in it, and what can be brought back.

pub mod bring_back;
pub mod choose;
pub mod limit;
pub mod show;
pub mod space;

use super::error::ApiError;
use crate::store::Refused;
use protocol::{Code, Problem};

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Homeless => Problem::new(Code::StoreHomeless, "The store has no folder yet.")
                .guidance("Choose a folder of this computer for it.")
                .into(),
            Refused::Away => Problem::new(Code::StoreAway, "The folder of the store is not there.")
                .guidance("Connect the disk that it lies on, or say where it lies now.")
                .into(),
            Refused::NotFound
            | Refused::Exists
            | Refused::Forbidden(_)
            | Refused::WrongHash
            | Refused::TooLarge
            | Refused::Full(_)
            | Refused::Busy
            | Refused::Aborted
            | Refused::Io(_)
            | Refused::Db(_) => Self::Internal(refused.into()),
        }
    }
}
