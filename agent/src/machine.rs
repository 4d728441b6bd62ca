//! What there is to know of this machine.

use crate::{core::Facts, points};
use jiff::{Timestamp, tz::TimeZone};
use protocol::{HostArch, HostId, HostOs, Problem};
use schedule::zone;
use std::time::Duration;

/// The machine's name as its system tells it.
#[must_use]
pub fn hostname() -> String {
    #[cfg(unix)]
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    let name = std::env::var("COMPUTERNAME").unwrap_or_default();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

/// When the machine was started, where the system tells it.
#[must_use]
pub fn boot_time() -> Option<Timestamp> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let seconds = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    Timestamp::from_second(seconds.trim().parse().ok()?).ok()
}

/// How long the machine has been up, its sleep included, where its system counts that.
#[must_use]
pub fn uptime() -> Option<Duration> {
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    {
        use rustix::time::{ClockId, clock_gettime};
        // Apple's goes on while the machine sleeps.
        #[cfg(target_vendor = "apple")]
        const COUNTS_SLEEP: ClockId = ClockId::Monotonic;
        #[cfg(target_os = "linux")]
        const COUNTS_SLEEP: ClockId = ClockId::Boottime;
        Duration::try_from(clock_gettime(COUNTS_SLEEP)).ok()
    }
    #[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
    None
}

/// The version of the time zone data, where the system tells it.
#[must_use]
pub fn time_zone_data() -> Option<String> {
    let text = std::fs::read_to_string("/usr/share/zoneinfo/tzdata.zi").ok()?;
    text.lines().next()?.strip_prefix("# version ").map(|version| version.trim().to_owned())
}

/// The time zone. A plain file as `/etc/localtime`, as containers have, is a zone without a name: then it is
/// taken by the rule at the end of the file, which can be told, so that agent and manager count by the same.
#[must_use]
pub fn zone() -> TimeZone {
    let zone = TimeZone::system();
    if zone::name(&zone).is_some() {
        return zone;
    }
    let file = std::fs::read("/etc/localtime").unwrap_or_default();
    rule_of(&file).filter(|rule| agree(rule, &zone)).unwrap_or(zone)
}

/// The rule at the end of a file of a time zone, which holds for all times after those that it lists.
fn rule_of(file: &[u8]) -> Option<TimeZone> {
    // Between the last two line ends; a file of the format's first version has none.
    let rule = file.strip_suffix(b"\n")?.rsplit(|byte| *byte == b'\n').next()?;
    TimeZone::posix(std::str::from_utf8(rule).ok()?).ok()
}

/// Whether two zones show the same in winter and in summer of these years: the file may be another's.
fn agree(one: &TimeZone, other: &TimeZone) -> bool {
    let moments = [
        "2026-01-15T00:00:00Z",
        "2026-07-15T00:00:00Z",
        "2035-01-15T00:00:00Z",
        "2035-07-15T00:00:00Z",
    ];
    let mut moments = moments.iter().filter_map(|moment| moment.parse::<Timestamp>().ok());
    moments.all(|moment| one.to_offset(moment) == other.to_offset(moment))
}

/// All of it.
#[must_use]
pub fn facts(host_id: HostId, restic: Result<String, Problem>, has_battery: bool) -> Facts {
    Facts {
        host_id,
        protocol_version: points::protocol_version(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: hostname(),
        os: HostOs::current(),
        arch: HostArch::current(),
        boot_time: boot_time(),
        zone: zone(),
        has_battery,
        time_zone_data: time_zone_data(),
        restic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_that_is_only_a_file_is_told_by_the_rule_at_its_end() {
        let file = b"TZif2\0\0 tables \n of numbers\nCET-1CEST,M3.5.0,M10.5.0/3\n";
        let rule = rule_of(file).unwrap();
        assert_eq!(zone::name(&rule).as_deref(), Some("CET-1CEST,M3.5.0,M10.5.0/3"));
        assert!(agree(&rule, &TimeZone::get("Europe/Berlin").unwrap()));
        assert!(!agree(&rule, &TimeZone::get("Europe/London").unwrap()));
        assert!(!agree(&rule, &TimeZone::get("Africa/Lagos").unwrap()), "its winter is the same");
        assert!(rule_of(b"TZif\0 of the first version").is_none());
        assert!(rule_of(b"\n\n").is_none());
    }
}
