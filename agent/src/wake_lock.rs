//! Keeps the machine from going to sleep by itself while runs go on.
//!
//! Whoever closes the lid or chooses to suspend still can. Where the system offers nothing of this kind, a
//! machine sleeps when it wants to: the run goes on when it wakes up, or is tried again.

use crate::helper::Helpers;

/// Held, or not.
#[derive(Debug, Default)]
pub struct WakeLock {
    is_held: bool,
    /// Who holds it where this process may not.
    #[cfg(unix)]
    helpers: Option<Helpers>,
    #[cfg(unix)]
    helped: Option<std::os::unix::net::UnixStream>,
    #[cfg(unix)]
    holder: unix::Holder,
}

impl WakeLock {
    /// One that these helpers hold, where they have rights of their own.
    #[must_use]
    #[cfg_attr(not(unix), expect(unused_variables, reason = "there helpers have the same rights"))]
    pub fn through(helpers: Helpers) -> Self {
        Self {
            #[cfg(unix)]
            helpers: Some(helpers),
            ..Self::default()
        }
    }

    /// Holds it from now on, or no longer.
    pub fn set(&mut self, is_held: bool) {
        if is_held == self.is_held {
            return;
        }
        self.is_held = is_held;
        #[cfg(unix)]
        self.set_on_unix(is_held);
        #[cfg(windows)]
        windows::set(is_held);
    }
}

#[cfg(unix)]
impl WakeLock {
    fn set_on_unix(&mut self, is_held: bool) {
        self.helped = None;
        match self.helpers.as_ref().filter(|_| is_held).and_then(Helpers::stay_awake) {
            None => self.holder.set(is_held),
            Some(Ok(stream)) => self.helped = Some(stream),
            Some(Err(error)) => tracing::debug!(%error, "Nothing keeps this machine awake"),
        }
    }
}

#[cfg(unix)]
mod unix {
    use std::process::Stdio;
    use tokio::process::{Child, Command};

    /// The program of the system, and what it runs for as long as the lock is to be held.
    #[cfg(target_os = "macos")]
    const PROGRAM: &[&str] = &["/usr/bin/caffeinate", "-i", "-s", "/bin/cat"];
    #[cfg(not(target_os = "macos"))]
    const PROGRAM: &[&str] = &[
        "systemd-inhibit",
        "--what=sleep:idle",
        "--mode=block",
        "--who=Restic Manager",
        "--why=A backup runs",
        "cat",
    ];

    /// It ends when it can read from us no longer: when the lock is let go, or this agent is gone in
    /// whatever way.
    #[derive(Debug, Default)]
    pub(super) struct Holder(Option<Child>);

    impl Holder {
        pub(super) fn set(&mut self, is_held: bool) {
            self.0 = if is_held { hold(PROGRAM) } else { None };
        }
    }

    fn hold(program: &[&str]) -> Option<Child> {
        let (program, arguments) = program.split_first()?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let held = command.spawn();
        held.inspect_err(
            |error| tracing::debug!(%error, program, "Nothing keeps this machine awake"),
        )
        .ok()
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::time::Duration;

        #[tokio::test]
        async fn the_holder_ends_when_the_lock_is_let_go() {
            let folder = tempfile::tempdir().unwrap();
            let words = folder.path().join("words");
            let script = format!("echo held > '{0}'; cat; echo gone >> '{0}'", words.display());
            let until = async |text: &str| {
                while std::fs::read_to_string(&words).unwrap_or_default() != text {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            let mut holder = Holder(hold(&["sh", "-c", &script]));
            until("held\n").await;
            holder.set(false);
            until("held\ngone\n").await;
        }

        #[tokio::test]
        async fn a_system_without_such_a_program_is_no_error() {
            assert!(hold(&["/nowhere/systemd-inhibit"]).is_none());
        }
    }
}

#[cfg(windows)]
mod windows {
    use windows_sys::Win32::System::Power::{
        ES_CONTINUOUS, ES_SYSTEM_REQUIRED, SetThreadExecutionState,
    };

    /// What is asked for here holds for the calling thread, which is the agent's only one.
    pub(super) fn set(is_held: bool) {
        let wanted = if is_held { ES_CONTINUOUS | ES_SYSTEM_REQUIRED } else { ES_CONTINUOUS };
        #[expect(unsafe_code, reason = "a call into the Windows API")]
        // SAFETY: the function takes a number and no pointers.
        let before = unsafe { SetThreadExecutionState(wanted) };
        if before == 0 {
            tracing::debug!("Nothing keeps this machine awake");
        }
    }
}
