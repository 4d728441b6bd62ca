//! What there is to know of this machine.

use crate::{core::Facts, points};
use jiff::{Timestamp, tz::TimeZone};
use protocol::{HostArch, HostId, HostOs, Problem};
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

/// All of it.
#[must_use]
pub fn facts(host_id: HostId, restic: Result<String, Problem>) -> Facts {
    Facts {
        host_id,
        protocol_version: points::protocol_version(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: hostname(),
        os: HostOs::current(),
        arch: HostArch::current(),
        boot_time: boot_time(),
        zone: TimeZone::system(),
        time_zone_data: time_zone_data(),
        restic,
    }
}
