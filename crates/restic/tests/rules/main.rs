//! The rules of this crate, held against real restics, recorded output and hostile programs.
//!
//! One binary, so that the empty repositories are made once. The fakes are shell scripts, so this
//! runs on Unix only.

#![cfg(unix)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    reason = "helpers of tests: they stop at the unexpected, and look at some events only"
)]

#[macro_use]
mod bench;
mod hostile_output;
mod operations;
mod processes;
mod stalls;
mod what_bites;
