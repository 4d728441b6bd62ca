//! One connection of one agent.
//!
//! The rules are in plain functions and structs that know no socket, clock or database: what a
//! `hello` leads to ([`handshake`]), which record comes next ([`cursor`]), what a run's command needs
//! now ([`commands`]), what a report of snapshots changes ([`snapshots`]), and which frame may come
//! when ([`core`]). The socket around them gives them bytes, time and the database.
//!
//! ```text
//!               hello              met
//!   Greeting ──────────▶ Meeting ───────▶ Live ──▶ commands, records, reports
//!      │ 10 s, or          │    └────────▶ Held ──▶ heartbeats only
//!      │ another frame     └─────────────▶ Renewing: the agent comes back with a new journal
//!      ▼
//!    Closed ◀──── from everywhere: 90 s of silence, a frame that makes no sense, a newer
//!                 connection, a decision of the admin
//! ```

pub(crate) mod batches;
pub mod commands;
pub mod core;
pub mod cursor;
pub(crate) mod greet;
pub mod handshake;
mod needs;
mod reconcile;
mod reports;
pub mod snapshots;
pub mod socket;
mod trees;
mod trials;
