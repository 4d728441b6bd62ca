//! The manager itself.

pub mod addresses;
pub mod show;
