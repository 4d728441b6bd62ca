//! Process groups on Windows.
//!
//! A console process can be asked to end with Ctrl-Break, which restic takes as an interrupt, but
//! only by a process that shares its console. A service has none, so there the interrupt fails
//! and restic is killed after the grace, leaving its lock. A job object, which would also end
//! restic together with a manager that crashed, is not made yet.

use std::os::windows::process::CommandExt;
use std::process::Command;

use tokio::process::Child;
use windows_sys::Win32::System::Console::{CTRL_BREAK_EVENT, GenerateConsoleCtrlEvent};
use windows_sys::Win32::System::Threading::CREATE_NEW_PROCESS_GROUP;

/// Puts the process into a group of its own, whose id is that of the process.
pub(super) fn isolate(command: &mut Command) {
    command.creation_flags(CREATE_NEW_PROCESS_GROUP);
}

/// Asks the group to end.
pub(super) fn interrupt(pid: u32) {
    #[expect(unsafe_code, reason = "a call into the Windows API")]
    // SAFETY: the function takes two numbers and no pointers; a wrong group makes it fail.
    let sent = unsafe { GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, pid) };
    if sent == 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "Failed to interrupt restic; it will be killed after the grace");
    }
}

/// Ends the process. Its helpers are not reached.
pub(super) fn kill(_pid: u32, child: &mut Child) {
    let _ = child.start_kill();
}
