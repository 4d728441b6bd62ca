//! The log: on standard error for whoever started the app from a terminal, and in files beside the
//! database for whoever did not.

use server::log::shows_no_frames;
use std::{io::IsTerminal as _, path::Path};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::{
    EnvFilter, filter::filter_fn, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// How many days of log are kept.
const DAYS: usize = 7;

/// Begins the log. Where no file can be written, there is none: the app itself will say that its
/// folder cannot be used.
pub(crate) fn start(data_dir: &Path) {
    let wanted = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let file = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .max_log_files(DAYS)
        .filename_prefix("restic-manager")
        .filename_suffix("log")
        .build(data_dir.join("log"));
    let in_file =
        file.ok().map(|file| tracing_subscriber::fmt::layer().with_ansi(false).with_writer(file));
    let on_terminal = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // Who has a subscriber already, such as a test, keeps it.
    let _ = tracing_subscriber::registry()
        .with(wanted)
        .with(filter_fn(shows_no_frames))
        .with(in_file)
        .with(on_terminal)
        .try_init();
}
