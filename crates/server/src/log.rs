//! What may be logged, whatever a setting asks for.

use tracing::{Level, Metadata};

/// Whether this may be written down. At its finer levels the WebSocket library writes every frame,
/// with the secrets in it. No setting may ask for that.
#[must_use]
pub fn shows_no_frames(about: &Metadata<'_>) -> bool {
    *about.level() <= Level::INFO || !about.target().contains("tungstenite")
}
