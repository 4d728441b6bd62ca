//! A clock that a test sets while a program goes by it.

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use schedule::{Clock as _, SystemClock};
use std::path::{Path, PathBuf};

/// How far the clock of the programs that go by it is ahead of the computer's.
#[derive(Debug)]
pub struct Ahead(PathBuf);

impl Ahead {
    /// A clock that is right, in this folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let ahead = Self(folder.join("ahead"));
        ahead.set(0)?;
        Ok(ahead)
    }

    /// Sets it ahead by so many seconds, or behind by as many. It goes on from there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set(&self, seconds: i64) -> Result<()> {
        // In one step: nobody reads a half.
        let new = self.0.with_extension("new");
        std::fs::write(&new, seconds.to_string())?;
        std::fs::rename(new, &self.0)?;
        Ok(())
    }

    /// Sets it so that it shows this moment after so long.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_before(&self, moment: Timestamp, so_long: SignedDuration) -> Result<()> {
        self.set((moment.duration_since(SystemClock.now()) - so_long).as_secs())
    }

    /// What makes an agent or a manager go by it.
    #[must_use]
    pub fn environment(&self) -> (String, String) {
        (server::hooks::CLOCK_VARIABLE.to_owned(), self.0.display().to_string())
    }
}
