//! A child process in its own process group, with everything it prints kept in a file.

use anyhow::{Context as _, Result, ensure};
use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitOptions, waitpid},
};
use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    net::Ipv4Addr,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};
use tokio::net::TcpSocket;

/// A running program. Dropped, it and its whole group are killed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
    reaped: Option<ExitStatus>,
    is_detached: bool,
}

impl Process {
    /// Starts `command`; what it prints is appended to `<logs>/<name>.log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(name: &str, command: Command, logs: &Path, stdin: &str) -> Result<Self> {
        let input = if stdin.is_empty() { Stdio::null() } else { Stdio::piped() };
        let mut process = Self::start(name, command, logs, input)?;
        if let Some(mut pipe) = process.child.stdin.take() {
            pipe.write_all(stdin.as_bytes())?;
        }
        Ok(process)
    }

    /// The same for a program that asks its person something, for [`Process::type_line`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_asking(name: &str, command: Command, logs: &Path) -> Result<Self> {
        Self::start(name, command, logs, Stdio::piped())
    }

    fn start(name: &str, mut command: Command, logs: &Path, input: Stdio) -> Result<Self> {
        std::fs::create_dir_all(logs)?;
        let log = logs.join(format!("{name}.log"));
        let out = append(&log)?;
        let child = command
            .stdin(input)
            .stdout(out.try_clone()?)
            .stderr(out)
            .process_group(0)
            .spawn()
            .with_context(|| {
                format!("failed to start {name} ({})", command.get_program().display())
            })?;
        Ok(Self { child, name: name.to_owned(), log, reaped: None, is_detached: false })
    }

    /// Types a line, as the person in front of it would.
    ///
    /// # Errors
    /// When it does not take any.
    pub fn type_line(&mut self, line: &str) -> Result<()> {
        let pipe = self.child.stdin.as_mut().context("nobody can type there")?;
        pipe.write_all(format!("{line}\n").as_bytes())?;
        Ok(())
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

    /// Leaves it running, for whoever comes after this process.
    pub fn detach(mut self) {
        self.is_detached = true;
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
    /// When it had ended before, or does not end.
    pub async fn kill_9(mut self) -> Result<()> {
        ensure!(self.is_running()?, "{} had ended before: {:?}", self.name, self.reaped);
        self.signal(Signal::KILL)?;
        self.killed().await
    }

    /// Waits until it has been killed, by itself or by somebody else. An end of any other kind, such
    /// as a panic or an exit in good order, is none: it would have had time to put things right.
    ///
    /// # Errors
    /// When it ends otherwise, or not at all.
    pub async fn killed(&mut self) -> Result<()> {
        let status = self.ended().await?;
        let signal = Signal::KILL.as_raw();
        ensure!(status.signal() == Some(signal), "{} ended otherwise: {status}", self.name);
        Ok(())
    }

    /// The processes that it started and that run now, with their arguments.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn children(&self) -> Result<Vec<(Pid, Vec<String>)>> {
        let parent = self.id();
        let mut children = Vec::new();
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Ok(id) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            // What ends while it is looked at is not there.
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
            let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
            if parent_in(&stat) == Some(parent) {
                let words = line.split(|&byte| byte == 0).map(String::from_utf8_lossy);
                let id = Pid::from_raw(id).context("a process without an id")?;
                children.push((id, words.map(|word| word.into_owned()).collect()));
            }
        }
        Ok(children)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_detached {
            return;
        }
        // The group may be gone already; there is nobody to tell about it.
        let _ = rustix::process::kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// A process that loses its parent. The test takes the place of init, which takes note of the end of
/// orphans at once; not every machine that runs tests has an init that does, and until then the
/// dead process looks like a living one.
#[derive(Debug)]
pub struct Orphan(std::thread::JoinHandle<rustix::io::Result<()>>);

impl Orphan {
    /// Call it while the parent still lives.
    ///
    /// # Errors
    /// When the operating system does not let this process be a parent of orphans.
    pub fn of(process: Pid) -> Result<Self> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        Ok(Self(std::thread::spawn(move || bury(process))))
    }

    /// Waits until it has ended and nothing of it is left.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub async fn buried(self) -> Result<()> {
        crate::wait_for("the end of an orphan", async || Ok(self.0.is_finished().then_some(())))
            .await?;
        match self.0.join() {
            Ok(ended) => Ok(ended?),
            Err(_) => anyhow::bail!("nobody waited for the orphan"),
        }
    }
}

/// Waits for a process that is not our child yet.
fn bury(process: Pid) -> rustix::io::Result<()> {
    loop {
        match waitpid(Some(process), WaitOptions::empty()) {
            Ok(_) => return Ok(()),
            Err(Errno::CHILD) if rustix::process::test_kill_process(process).is_err() => {
                return Ok(());
            }
            Err(Errno::CHILD | Errno::INTR) => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => return Err(error),
        }
    }
}

/// The parent in a line of `/proc/<id>/stat`. The name, in brackets, may hold anything.
fn parent_in(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
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
pub fn run_to_end(mut command: Command, stdin: &str) -> Result<(ExitStatus, String)> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start {}", command.get_program().display()))?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program that refuses its arguments ends without reading, and its words say why.
        let _ = pipe.write_all(stdin.as_bytes());
    }
    let output = child.wait_with_output()?;
    let printed = [output.stdout, output.stderr].concat();
    Ok((output.status, String::from_utf8_lossy(&printed).into_owned()))
}

/// A TCP port of the loopback interface, kept for one program that has to be told which one to use.
///
/// The socket behind it is bound and never listens: the system gives the port to nobody who asks for
/// any, while a program that names it, and allows the address to be used again as servers do, gets it
/// as often as it starts.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _reserved: TcpSocket,
}

impl Port {
    /// Takes a free one.
    ///
    /// # Errors
    /// When there is none.
    pub fn reserve() -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        Ok(Self { number: socket.local_addr()?.port(), _reserved: socket })
    }

    /// The port's number.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[tokio::test]
    async fn a_reserved_port_is_given_to_nobody_else_and_can_be_listened_on_again_and_again() {
        let ports: Vec<Port> = (0..200).map(|_| Port::reserve().unwrap()).collect();
        let numbers: BTreeSet<u16> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), ports.len(), "one port was given twice");
        for _ in 0..3 {
            let address = (Ipv4Addr::LOCALHOST, ports[0].number());
            let listener = tokio::net::TcpListener::bind(address).await.unwrap();
            let client = tokio::net::TcpStream::connect(address).await.unwrap();
            drop((listener.accept().await.unwrap(), client));
        }
    }
}
