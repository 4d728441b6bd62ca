//! The endpoint daemon.
pub mod core;
pub mod desired;
pub mod helper;
pub mod identity;
pub mod journal;
pub mod paths;
pub mod runner;
pub mod store;
pub mod tls;
