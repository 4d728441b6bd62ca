//! The coordinating server, as a library: the desktop app embeds it, `restic-manager-headless` runs
//! it by itself.

pub mod db;
pub mod desired;
pub mod events;
pub mod identity;
pub mod links;
pub mod manager;
pub mod vault;
