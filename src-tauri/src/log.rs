//! The log: on standard error for whoever started the app from a terminal, and in files beside the
//! database for whoever did not.

use server::log::shows_no_frames;
use std::{io::IsTerminal as _, path::PathBuf};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::{
    EnvFilter, filter::filter_fn, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// How many days of log are kept.
const DAYS: usize = 7;

/// Begins the log, with files in the data folder if there is one.
pub(crate) fn start(data_dir: Option<&PathBuf>) {
    let wanted = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let file = data_dir.and_then(|folder| {
        // The appender complains of a folder that is missing when it looks for old files.
        let _ = std::fs::create_dir_all(folder.join("log"));
        RollingFileAppender::builder()
            .rotation(Rotation::DAILY)
            .max_log_files(DAYS)
            .filename_prefix("restic-manager")
            .filename_suffix("log")
            .build(folder.join("log"))
            .ok()
    });
    // Closed, whatever the folder around it is.
    #[cfg(unix)]
    if let Some(folder) = data_dir {
        use std::os::unix::fs::PermissionsExt as _;
        let _ =
            std::fs::set_permissions(folder.join("log"), std::fs::Permissions::from_mode(0o700));
    }
    let in_file =
        file.map(|file| tracing_subscriber::fmt::layer().with_ansi(false).with_writer(file));
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
