//! Whether the machine runs on its battery, and whether its network is paid for by the byte.
//!
//! What cannot be found out counts as open: a gate that nobody can look at must not keep a machine from its
//! backups for ever. Only NetworkManager says what a network costs, so elsewhere no network is metered.

use crate::{core::Gates, helper::Helpers};
#[cfg(any(target_os = "linux", target_os = "macos"))]
use std::time::Duration;

/// How long another program may take to answer.
#[cfg(any(target_os = "linux", target_os = "macos"))]
const PATIENCE: Duration = Duration::from_secs(5);

/// Which of these gates are closed.
pub async fn closed(asked: Gates, helpers: &Helpers) -> Gates {
    Gates {
        on_battery: asked.on_battery && is_on_battery().await,
        metered: asked.metered && is_metered_somehow(helpers).await,
    }
}

/// A helper may ask where this agent may not.
async fn is_metered_somehow(helpers: &Helpers) -> bool {
    match helpers.is_metered().await {
        Some(is_metered) => is_metered,
        None => is_metered().await,
    }
}

/// Whether the machine has a battery of its own, as a laptop has.
#[cfg(target_os = "linux")]
pub async fn has_battery() -> bool {
    let look = tokio::task::spawn_blocking(|| supplies(std::path::Path::new(SUPPLIES)));
    look.await.is_ok_and(|supplies| own_battery(&supplies))
}

/// Whether the machine has a battery of its own, as a laptop has.
#[cfg(target_os = "macos")]
pub async fn has_battery() -> bool {
    ask("/usr/bin/pmset", &["-g", "batt"])
        .await
        .is_some_and(|text| text.contains("InternalBattery"))
}

/// Whether the machine has a battery of its own, as a laptop has.
#[cfg(windows)]
#[expect(clippy::unused_async, reason = "elsewhere somebody has to be asked")]
pub async fn has_battery() -> bool {
    // The flag for no battery, and the value for nobody knows.
    power_status().is_some_and(|status| status.BatteryFlag & 128 == 0 && status.BatteryFlag != 255)
}

/// Whether the machine has a battery of its own, as a laptop has.
#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
#[expect(clippy::unused_async, reason = "elsewhere somebody has to be asked")]
pub async fn has_battery() -> bool {
    false
}

/// By what the kernel says of the machine's power supplies.
#[cfg(target_os = "linux")]
async fn is_on_battery() -> bool {
    let look = tokio::task::spawn_blocking(|| supplies(std::path::Path::new(SUPPLIES)));
    look.await.is_ok_and(|supplies| feeds_on_battery(&supplies))
}

#[cfg(target_os = "macos")]
async fn is_on_battery() -> bool {
    let told = ask("/usr/bin/pmset", &["-g", "batt"]).await;
    told.is_some_and(|text| text.contains("'Battery Power'"))
}

#[cfg(windows)]
#[expect(clippy::unused_async, reason = "elsewhere somebody has to be asked")]
async fn is_on_battery() -> bool {
    // 0 is offline, 1 online, 255 unknown.
    power_status().is_some_and(|status| status.ACLineStatus == 0)
}

#[cfg(windows)]
fn power_status() -> Option<windows_sys::Win32::System::Power::SYSTEM_POWER_STATUS> {
    use windows_sys::Win32::System::Power::{GetSystemPowerStatus, SYSTEM_POWER_STATUS};
    let mut status = SYSTEM_POWER_STATUS::default();
    #[expect(unsafe_code, reason = "a call into the Windows API")]
    // SAFETY: the function writes into the structure that it is given, which lives longer than the call.
    let is_known = unsafe { GetSystemPowerStatus(&raw mut status) } != 0;
    is_known.then_some(status)
}

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
#[expect(clippy::unused_async, reason = "elsewhere somebody has to be asked")]
async fn is_on_battery() -> bool {
    false
}

/// Whether the network is paid for by the byte, as this process sees it.
#[cfg(target_os = "linux")]
pub(crate) async fn is_metered() -> bool {
    ask("nmcli", &["-t", "-f", "METERED", "general"]).await.is_some_and(|text| says_metered(&text))
}

/// Whether the network is paid for by the byte, as this process sees it.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::unused_async, reason = "elsewhere somebody has to be asked")]
pub(crate) async fn is_metered() -> bool {
    false
}

/// What a program of the system says; none where it is missing, fails or does not answer.
#[cfg(any(target_os = "linux", target_os = "macos"))]
async fn ask(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).env("LC_ALL", "C").stdin(std::process::Stdio::null());
    let output = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output());
    let output = output.await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `yes`, or `yes (guessed)` where the network itself did not say it.
#[cfg(target_os = "linux")]
fn says_metered(text: &str) -> bool {
    text.trim_start().starts_with("yes")
}

#[cfg(target_os = "linux")]
const SUPPLIES: &str = "/sys/class/power_supply";

/// A power supply of the machine, in the kernel's words.
#[cfg(target_os = "linux")]
#[derive(Debug, Default)]
struct Supply {
    kind: String,
    online: String,
    status: String,
    scope: String,
}

#[cfg(target_os = "linux")]
fn supplies(folder: &std::path::Path) -> Vec<Supply> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let read = |path: std::path::PathBuf| {
        std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
    };
    let supply = |path: std::path::PathBuf| Supply {
        kind: read(path.join("type")),
        online: read(path.join("online")),
        status: read(path.join("status")),
        scope: read(path.join("scope")),
    };
    entries.map(|entry| supply(entry.path())).collect()
}

/// Neither the battery of a mouse nor that of a UPS makes a laptop.
#[cfg(target_os = "linux")]
fn own_battery(supplies: &[Supply]) -> bool {
    supplies.iter().any(|supply| supply.kind == "Battery" && supply.scope != "Device")
}

/// The battery of a mouse says nothing of the machine, and a battery that is full while a cable feeds it
/// may well be called discharging.
#[cfg(target_os = "linux")]
fn feeds_on_battery(supplies: &[Supply]) -> bool {
    let mut own = supplies.iter().filter(|supply| supply.scope != "Device");
    let is_fed = own.clone().any(|supply| supply.kind != "Battery" && supply.online == "1");
    !is_fed && own.any(|supply| supply.kind == "Battery" && supply.status == "Discharging")
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, path::Path};

    fn plug(folder: &Path, name: &str, files: &[(&str, &str)]) {
        let supply = folder.join(name);
        fs::create_dir_all(&supply).unwrap();
        for (file, text) in files {
            fs::write(supply.join(file), format!("{text}\n")).unwrap();
        }
    }

    #[test]
    fn a_machine_runs_on_its_battery_when_nothing_else_feeds_it() {
        let folder = tempfile::tempdir().unwrap();
        let is_on_battery = || feeds_on_battery(&supplies(folder.path()));
        assert!(!is_on_battery(), "a machine without a battery");
        plug(
            folder.path(),
            "mouse",
            &[("type", "Battery"), ("status", "Discharging"), ("scope", "Device")],
        );
        assert!(!is_on_battery(), "a mouse");
        plug(folder.path(), "BAT0", &[("type", "Battery"), ("status", "Discharging")]);
        plug(folder.path(), "AC", &[("type", "Mains"), ("online", "0")]);
        assert!(is_on_battery());
        plug(folder.path(), "ucsi", &[("type", "USB"), ("online", "1")]);
        assert!(!is_on_battery(), "a cable");
        plug(folder.path(), "ucsi", &[("online", "0")]);
        plug(folder.path(), "BAT0", &[("status", "Charging")]);
        assert!(!is_on_battery(), "a battery that is charged");
    }

    #[test]
    fn a_machine_with_a_battery_of_its_own_is_a_laptop_whatever_feeds_it() {
        let folder = tempfile::tempdir().unwrap();
        let has_battery = || own_battery(&supplies(folder.path()));
        plug(folder.path(), "mouse", &[("type", "Battery"), ("scope", "Device")]);
        plug(folder.path(), "ups", &[("type", "UPS"), ("status", "Charging")]);
        assert!(!has_battery());
        plug(folder.path(), "AC", &[("type", "Mains"), ("online", "1")]);
        plug(folder.path(), "BAT0", &[("type", "Battery"), ("status", "Full")]);
        assert!(has_battery());
    }

    #[test]
    fn a_machine_without_supplies_is_not_on_battery() {
        assert!(!feeds_on_battery(&supplies(Path::new("/nowhere"))));
    }

    #[test]
    fn a_network_is_metered_when_its_manager_says_or_guesses_so() {
        for (text, is_metered) in [
            ("yes\n", true),
            ("yes (guessed)\n", true),
            ("no\n", false),
            ("no (guessed)\n", false),
            ("unknown\n", false),
            ("", false),
        ] {
            assert_eq!(says_metered(text), is_metered, "{text}");
        }
    }

    #[tokio::test]
    async fn who_cannot_be_asked_says_nothing() {
        assert_eq!(ask("/nowhere/nmcli", &[]).await, None);
        assert_eq!(ask("false", &[]).await, None);
        assert_eq!(ask("echo", &["yes"]).await.as_deref(), Some("yes\n"));
    }
}
