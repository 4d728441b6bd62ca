//! The agent's own log: to standard error, as text or as JSON.

use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, filter::filter_fn, fmt, layer::SubscriberExt, registry, util::SubscriberInitExt,
};

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Begins to log. `RESTIC_MANAGER_LOG` says how much, such as `debug`; a second call does nothing.
pub fn init(format: LogFormat) {
    let wanted =
        EnvFilter::try_from_env("RESTIC_MANAGER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let log = registry().with(wanted).with(filter_fn(shows_no_frames));
    let _ = match format {
        LogFormat::Text => log.with(lines).try_init(),
        LogFormat::Json => log.with(lines.json()).try_init(),
    };
}

/// At its finer levels the WebSocket library writes every frame down, with the secrets in it. No
/// setting may ask for that.
fn shows_no_frames(about: &Metadata<'_>) -> bool {
    *about.level() <= Level::INFO || !about.target().contains("tungstenite")
}
