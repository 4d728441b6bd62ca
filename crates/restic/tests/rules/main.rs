//! The rules of this crate, held against real restics, recorded output and hostile programs.
//!
//! One binary, so that the empty repositories are made once. The fakes are shell scripts, so this
//! runs on Unix only.

#![cfg(unix)]

#[macro_use]
mod bench;
mod hostile_output;
mod operations;
mod processes;
mod what_bites;
