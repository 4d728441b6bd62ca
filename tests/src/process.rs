//! A child process in its own process group, with everything it prints kept in a file.

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal};
use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

/// A running program. Dropped, it and its whole group are killed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
    reaped: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`; what it prints is appended to `<logs>/<name>.log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(name: &str, mut command: Command, logs: &Path, stdin: &str) -> Result<Self> {
        std::fs::create_dir_all(logs)?;
        let log = logs.join(format!("{name}.log"));
        let out = append(&log)?;
        let mut child = command
            .stdin(if stdin.is_empty() { Stdio::null() } else { Stdio::piped() })
            .stdout(out.try_clone()?)
            .stderr(out)
            .process_group(0)
            .spawn()
            .with_context(|| {
                format!("failed to start {name} ({})", command.get_program().display())
            })?;
        if let Some(mut pipe) = child.stdin.take() {
            pipe.write_all(stdin.as_bytes())?;
        }
        Ok(Self { child, name: name.to_owned(), log, reaped: None })
    }

    /// Everything it has printed so far, and whatever ran before under this name.
    #[must_use]
    pub fn printed(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the process itself, not to its group.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal)
            .with_context(|| format!("failed to signal {}", self.name))
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn is_running(&mut self) -> Result<bool> {
        if self.reaped.is_none() {
            self.reaped = self.child.try_wait()?;
        }
        Ok(self.reaped.is_none())
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        let name = format!("the end of {}", self.name);
        crate::wait_for(&name, async || {
            self.is_running()?;
            Ok(self.reaped)
        })
        .await
    }

    /// Ends it the polite way and waits.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn terminate(mut self) -> Result<ExitStatus> {
        if self.is_running()? {
            self.signal(Signal::TERM)?;
        }
        self.ended().await
    }

    /// Ends it with SIGKILL, without its group, as a crash would.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn kill_9(mut self) -> Result<()> {
        if self.is_running()? {
            self.signal(Signal::KILL)?;
        }
        let status = self.ended().await?;
        anyhow::ensure!(status.signal() == Some(9), "{} had ended before: {status}", self.name);
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The group may be gone already; there is nobody to tell about it.
        let _ = rustix::process::kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

fn append(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("failed to open {}", path.display()))
}

/// Runs a program to its end and returns its status and what it printed.
///
/// # Errors
/// When it cannot be started.
pub fn run_to_end(program: &Path, args: &[&OsStr], stdin: &str) -> Result<(ExitStatus, String)> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start {}", program.display()))?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program that refuses its arguments ends without reading, and its words say why.
        let _ = pipe.write_all(stdin.as_bytes());
    }
    let output = child.wait_with_output()?;
    let printed = [output.stdout, output.stderr].concat();
    Ok((output.status, String::from_utf8_lossy(&printed).into_owned()))
}

/// A TCP port of the loopback interface that was free a moment ago, for programs that cannot tell
/// which one they were given.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
