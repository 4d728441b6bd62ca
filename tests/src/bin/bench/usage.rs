//! What a process has used, as Linux tells it.

use anyhow::{Context as _, Result};
use nix::{time::ClockId, unistd::Pid};
use std::{fs, time::Duration};

/// Processor time of a process so far, in user and in kernel mode, without its children's.
pub(crate) fn cpu(process: u32) -> Result<Duration> {
    // `stat` counts hundredths of a second, and some of what is measured takes no twenty of them.
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(process.try_into()?))?;
    Ok(clock.now()?.into())
}

/// Processor time of those of its children that have ended and were waited for.
pub(crate) fn cpu_of_children(process: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name may hold anything; what follows it does not.
    let (_, rest) = stat.rsplit_once(')').context("no name in stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let at = |n: usize| -> Result<u64> { Ok(fields.get(n).context("no time in stat")?.parse()?) };
    Ok(Duration::from_millis((at(13)? + at(14)?) * 1000 / per_second()))
}

fn per_second() -> u64 {
    rustix::param::clock_ticks_per_second()
}

/// Lets the kernel forget the largest resident size so far.
pub(crate) fn forget_peak(process: u32) -> Result<()> {
    Ok(fs::write(format!("/proc/{process}/clear_refs"), "5")?)
}

/// The largest resident size since then, in bytes.
pub(crate) fn peak(process: u32) -> Result<f64> {
    memory(process, "VmHWM:")
}

/// The resident size, in bytes.
pub(crate) fn resident(process: u32) -> Result<f64> {
    memory(process, "VmRSS:")
}

fn memory(process: u32, field: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next()).context("no such field")?;
    Ok(number.parse::<f64>()? * 1024.0)
}
