//! What else on this machine runs restic by the clock: it is told of, and left alone.

use super::say;
use anyhow::Result;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Where the jobs of cron stand.
const CRON: [&str; 8] = [
    "/etc/crontab",
    "/etc/cron.d",
    "/etc/cron.hourly",
    "/etc/cron.daily",
    "/etc/cron.weekly",
    "/etc/cron.monthly",
    "/var/spool/cron/crontabs",
    "/var/spool/cron",
];

/// Where units stand.
const UNITS: [&str; 3] = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/// The most of one file that is looked at.
const LOOKED_AT: u64 = 256 * 1024;

/// Tells of what runs restic already, and how it is retired.
pub(super) fn report() -> Result<()> {
    let (files, timers) = (cron(&CRON.map(PathBuf::from)), timers(&UNITS.map(PathBuf::from)));
    if files.is_empty() && timers.is_empty() {
        return Ok(());
    }
    say(
        "\nThis machine runs restic by itself already. Nothing of that was changed. Once the new backups are as they should be, it can be retired:",
    )?;
    for file in files {
        say(&format!("  {}: take the lines with restic out", file.display()))?;
    }
    for timer in timers {
        say(&format!("  {timer}: systemctl disable --now {timer}"))?;
    }
    Ok(())
}

/// The files of cron that name restic.
fn cron(places: &[PathBuf]) -> BTreeSet<PathBuf> {
    places.iter().flat_map(|place| files_in(place)).filter(|file| runs_restic(file)).collect()
}

/// The timers whose service names restic.
fn timers(folders: &[PathBuf]) -> BTreeSet<String> {
    let files = folders.iter().flat_map(|folder| files_in(folder));
    files
        .filter(|file| file.extension().is_some_and(|ending| ending == "timer"))
        .filter(|timer| runs_restic(&timer.with_extension("service")))
        .filter_map(|timer| Some(timer.file_name()?.to_str()?.to_owned()))
        .filter(|name| !name.starts_with("restic-manager"))
        .collect()
}

/// The files in this folder, or the file that this is.
fn files_in(place: &Path) -> Vec<PathBuf> {
    match fs::read_dir(place) {
        Ok(entries) => {
            let paths = entries.flatten().map(|entry| entry.path());
            paths.filter(|path| path.is_file()).collect()
        }
        Err(_) if place.is_file() => vec![place.to_owned()],
        Err(_) => Vec::new(),
    }
}

/// Whether a line of the file that is no comment has the word restic.
fn runs_restic(file: &Path) -> bool {
    use std::io::Read;
    let mut text = Vec::new();
    let read = fs::File::open(file).and_then(|file| file.take(LOOKED_AT).read_to_end(&mut text));
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    read.is_ok()
        && String::from_utf8_lossy(&text)
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .any(|line| line.split(|c| !is_part(c)).any(|word| word == "restic"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_runs_restic_by_the_clock_is_found_and_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("backup", "0 3 * * * root /usr/bin/restic backup /home\n");
        write("quiet", "# restic backup\n0 3 * * * root true\n");
        write("another", "0 3 * * * root restic-exporter\n");
        write("nightly.timer", "[Timer]\nOnCalendar=daily\n");
        write("nightly.service", "[Service]\nExecStart=/usr/bin/restic backup /etc\n");
        write("other.timer", "[Timer]\nOnCalendar=daily\n");
        write("other.service", "[Service]\nExecStart=true\n");
        let place = [folder.path().to_owned()];
        let is_named = |file: &Path, name: &str| file.ends_with(name);
        let found = cron(&place);
        assert!(found.iter().any(|file| is_named(file, "backup")));
        assert!(!found.iter().any(|file| is_named(file, "quiet") || is_named(file, "another")));
        assert_eq!(timers(&place), BTreeSet::from(["nightly.timer".to_owned()]));
        assert!(cron(&[folder.path().join("none")]).is_empty());
    }
}
