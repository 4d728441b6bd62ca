//! The endpoint daemon: it holds one machine's plans, runs restic, remembers what happened, and
//! tells the manager when the two meet.
//!
//! ```text
//!   connection ──frames──▶ ┌────────┐ ──effects──▶ store      (what must not be forgotten)
//!   runner ─────events──▶  │ daemon │ ──────────▶  runner     (restic, helper)
//!   clock ──────────────▶  │  core  │ ──────────▶  connection (what the manager is told)
//!                          └────────┘
//! ```
//!
//! [`core`] decides and touches nothing; [`daemon`] carries out and decides nothing.

pub mod alarms;
pub mod announce;
pub mod cli;
pub mod connection;
pub mod core;
pub mod daemon;
pub mod desired;
pub mod doctor;
pub mod enrol;
pub mod gates;
pub mod helper;
pub mod hooks;
pub mod identity;
#[cfg(target_os = "linux")]
mod install;
pub mod join;
pub mod journal;
pub mod logging;
pub mod machine;
pub mod pass_through;
pub mod paths;
pub mod points;
pub mod reach;
mod rights;
pub mod runner;
pub mod status;
pub mod store;
pub mod tls;
pub mod wake_lock;
