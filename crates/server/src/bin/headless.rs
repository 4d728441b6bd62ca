//! The server without a desktop.
fn main() {}
