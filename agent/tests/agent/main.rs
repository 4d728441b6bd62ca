//! The agent against a manager in miniature, over real TLS, with a restic that does what it is told.

#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests stop at the unexpected"
)]
#![expect(clippy::wildcard_enum_match_arm, reason = "tests wait for one thing among many")]

mod announce;
mod bound;
mod cancel;
mod commands;
#[cfg(feature = "test-hooks")]
mod crash;
mod damage;
mod enrolment;
mod hooks;
mod hostile;
mod journal;
mod options;
mod real;
mod reports;
mod restore;
mod schedule;
mod store;
mod support;
