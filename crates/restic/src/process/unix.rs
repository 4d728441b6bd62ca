//! Process groups and signals on Linux, macOS and their kin.

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Child;

/// Puts the process into a group of its own that can be interrupted and, on Linux, ties its life to
/// ours.
pub(super) fn isolate(command: &mut Command) {
    command.process_group(0);
    hear_interrupts(command);
    #[cfg(target_os = "linux")]
    interrupt_when_parent_dies(command);
}

/// Whoever was started in the background of a script ignores SIGINT, and so would all that it
/// starts: restic could not be cancelled.
fn hear_interrupts(command: &mut Command) {
    let in_child = || {
        #[expect(unsafe_code, reason = "no safe wrapper restores a signal's default")]
        // SAFETY: `signal` is async-signal-safe, and the default is no handler of this program.
        let before = unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
        if before == libc::SIG_ERR { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    };
    #[expect(unsafe_code, reason = "the only way to run code between fork and exec")]
    // SAFETY: the closure runs in the child between fork and exec and makes one system call, which
    // is async-signal-safe. It allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(in_child);
    }
}

/// Lets the kernel end restic before anything else when memory runs out: how much restic takes depends
/// on what lies in a repository, and whoever started it has to live to tell.
#[cfg(target_os = "linux")]
pub(super) fn end_first_without_memory(pid: u32) {
    if let Err(error) = std::fs::write(format!("/proc/{pid}/oom_score_adj"), "1000") {
        tracing::debug!(%error, "Failed to offer restic to the kernel; it may have ended");
    }
}

/// Asks the whole group to end. restic removes its lock on SIGINT; SIGTERM does not have that
/// effect in every accepted release.
pub(super) fn interrupt(pid: u32) {
    signal_group(pid, Signal::INT);
}

/// Ends the whole group. The process must not have been waited for, so that its id is still its.
pub(super) fn kill(pid: u32, child: &mut Child) {
    signal_group(pid, Signal::KILL);
    let _ = child.start_kill();
}

fn signal_group(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = kill_process_group(pid, signal)
    {
        tracing::debug!(%error, "Failed to signal restic; it may have ended");
    }
}

/// An interrupt, not a kill: restic then still removes its lock.
#[cfg(target_os = "linux")]
fn interrupt_when_parent_dies(command: &mut Command) {
    use std::io;

    let parent = rustix::process::getpid();
    let in_child = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::INT))?;
        // The parent may have died between the fork and the line above.
        if rustix::process::getppid() == Some(parent) {
            Ok(())
        } else {
            Err(io::Error::from(rustix::io::Errno::SRCH))
        }
    };
    #[expect(unsafe_code, reason = "the only way to run code between fork and exec")]
    // SAFETY: the closure runs in the child between fork and exec, where only async-signal-safe
    // work is allowed. It makes two plain system calls, allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(in_child);
    }
}
