//! The endpoint daemon.

fn main() {}
