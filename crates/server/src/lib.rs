//! The coordinating server, as a library: the desktop app embeds it, `restic-manager-headless` runs
//! it by itself.

pub mod announcements;
pub mod api;
pub mod auth;
pub mod db;
pub mod desired;
pub mod events;
pub mod files;
pub mod headless;
pub mod hooks;
pub mod identity;
pub mod intake;
mod keeper;
pub mod links;
mod listener;
pub mod log;
pub mod manager;
pub mod memory;
pub mod newcomer;
pub mod presets;
pub mod programs;
pub mod server;
pub mod session;
pub mod slots;
pub mod store;
pub mod text;
mod together;
pub mod trees;
pub mod trials;
pub mod ui_listener;
pub mod vault;
pub mod verdict;
mod write_deadline;
