//! Processes that an agent left behind when it was killed.
//!
//! A process is ended only when it is certain to be the one that was started: the number alone is
//! not enough, because numbers are used again.

use crate::core::Process;

/// When a process was started, in the system's own words; none when there is no such process, or
/// the system does not say.
#[cfg(target_os = "linux")]
#[must_use]
pub fn start_of(pid: u32) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets and may hold anything; the start is the 20th field after it.
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    let start = fields.nth(18)?;
    (state != "Z").then(|| format!("{}/{start}", boot()))
}

/// The start counts from the boot, so the boot is part of it.
#[cfg(target_os = "linux")]
fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// When a process was started, in the system's own words.
#[cfg(all(unix, not(target_os = "linux")))]
#[must_use]
pub fn start_of(pid: u32) -> Option<String> {
    let output = std::process::Command::new("/bin/ps")
        .args(["-o", "lstart=", "-p", &pid.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// On Windows a job object ends what a killed agent started.
#[cfg(windows)]
#[must_use]
pub fn start_of(_pid: u32) -> Option<String> {
    None
}

/// Whether exactly this process still runs.
#[must_use]
pub fn is_alive(process: &Process) -> bool {
    !process.start.is_empty() && start_of(process.pid).as_ref() == Some(&process.start)
}

/// Ends a left-over process and its group: gently, so that restic removes its lock, then for good.
#[cfg_attr(not(unix), expect(clippy::unused_async, reason = "there is nothing to wait for there"))]
pub async fn end(process: &Process) {
    #[cfg(unix)]
    {
        use rustix::process::{
            Pid, Signal, kill_process_group, test_kill_process_group as look_for,
        };
        const STEP: std::time::Duration = std::time::Duration::from_millis(100);
        const STEPS: u32 = 150;
        /// For what is left of the group once the process itself is gone.
        const LAST_STEPS: u32 = 10;
        let Some(group) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return };
        if !is_alive(process) {
            return;
        }
        tracing::warn!(pid = process.pid, "Ending what an earlier agent left running");
        let _ = kill_process_group(group, Signal::INT);
        for _ in 0..STEPS {
            tokio::time::sleep(STEP).await;
            if !is_alive(process) {
                break;
            }
        }
        if !is_alive(process) {
            // What a shell starts in the background does not hear interrupts.
            let _ = kill_process_group(group, Signal::TERM);
            for _ in 0..LAST_STEPS {
                if look_for(group).is_err() {
                    return;
                }
                tokio::time::sleep(STEP).await;
            }
        }
        let _ = kill_process_group(group, Signal::KILL);
    }
    #[cfg(not(unix))]
    let _ = process;
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;

    #[tokio::test]
    async fn a_left_over_process_is_ended_and_a_stranger_with_its_number_is_not() {
        let mut child =
            std::process::Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        let pid = child.id();
        let stranger = Process { pid, start: "another boot/1".to_owned() };
        assert!(!is_alive(&stranger));
        end(&stranger).await;
        assert!(child.try_wait().unwrap().is_none());

        let own = Process { pid, start: start_of(pid).unwrap() };
        assert!(is_alive(&own));
        end(&own).await;
        child.wait().unwrap();
        assert!(!is_alive(&own));
    }
}
