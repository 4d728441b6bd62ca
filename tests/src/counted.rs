//! A restic that writes down how it is started, so that a test can count.

use anyhow::{Context as _, Result};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// The restic.
#[derive(Debug)]
pub struct Counted {
    /// The program.
    pub program: PathBuf,
    log: PathBuf,
}

impl Counted {
    /// One in this folder that does what `restic` does.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(folder: &Path, restic: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let (program, log) = (folder.join("restic"), folder.join("restic.log"));
        let script = format!(
            "#!/bin/sh\nprintf '%s\\n' \"$*\" >>'{}'\nexec '{}' \"$@\"\n",
            log.display(),
            restic.display()
        );
        fs::write(&program, script)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        fs::write(&log, "")?;
        Ok(Self { program, log })
    }

    /// How often it was started with all of these among its arguments.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn times(&self, words: &[&str]) -> Result<usize> {
        let text = fs::read_to_string(&self.log).context("failed to read the starts of restic")?;
        let starts = text.lines().filter(|line| words.iter().all(|word| line.contains(word)));
        Ok(starts.count())
    }

    /// How often it backed up for this run. Looking for the run's snapshot does not count.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn backups(&self, run: &str) -> Result<usize> {
        self.times(&["backup", &format!("run:{run}")])
    }
}
