//! The agent's own log: to standard error, as text or as JSON.

use tracing_subscriber::{EnvFilter, fmt, util::SubscriberInitExt};

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
    let filter =
        EnvFilter::try_from_env("RESTIC_MANAGER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    let _ = match format {
        LogFormat::Text => builder.finish().try_init(),
        LogFormat::Json => builder.json().finish().try_init(),
    };
}
