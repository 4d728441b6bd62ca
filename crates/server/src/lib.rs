//! The coordinating server, as a library: the desktop app embeds it, `restic-manager-headless` runs
//! it by itself.

pub mod db;
pub mod events;
pub mod vault;
