//! A desktop without a person: a display, a session bus and a keyring of its own, and the real app in
//! its real window, driven through WebDriver as a person would drive it.

mod app;
mod main_job;
mod tray;

pub use app::{App, Launch};
pub use main_job::{Destination, Entered, MainJob, Record};
pub use tray::Tray;

use crate::process::{Process, run_to_end};
use anyhow::{Context as _, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// The password of the keyring.
const KEYRING_PASSWORD: &str = "test";

/// How the keyring stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyring {
    /// There is no program that keeps one.
    Missing,
    /// It runs, and nobody has unlocked it. Asking for the password fails at once, since there is
    /// nobody to ask.
    Locked,
    /// It runs, but holds no collection that secrets could go to.
    Bare,
    /// It is unlocked.
    Open,
}

/// The desktop. Dropped, every process of it is killed.
#[derive(Debug)]
pub struct Desktop {
    root: PathBuf,
    /// For sockets, whose paths must be short.
    run: TempDir,
    /// The display that was made here; without one it is the person's own.
    display: Option<String>,
    bus: String,
    keyring: Option<Process>,
    others: Vec<Process>,
}

impl Desktop {
    /// Starts one whose files lie below `root`, with a screen of its own.
    ///
    /// # Errors
    /// When a part of it does not start.
    pub async fn start(root: &Path, keyring: Keyring) -> Result<Self> {
        fs::create_dir_all(root)?;
        let mut screen = Command::new("Xvfb");
        screen.args(["-displayfd", "1", "-nolisten", "tcp", "-screen", "0", "1280x860x24"]);
        let is_number = |line: &str| line.parse::<u16>().is_ok();
        let (screen, number) = said("display", screen, root, is_number).await?;
        let mut desktop = Self::with_session(root, Some(format!(":{number}"))).await?;
        let windows = Process::spawn("windows", desktop.command("openbox"), root, "")?;
        desktop.others.extend([windows, screen]);
        desktop.set_keyring(keyring).await?;
        Ok(desktop)
    }

    /// Whether the person who runs this has a screen.
    #[must_use]
    pub fn is_there_a_screen() -> bool {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        is_set("DISPLAY") || is_set("WAYLAND_DISPLAY")
    }

    /// The same on the person's own screen, with an open keyring that is not theirs.
    ///
    /// # Errors
    /// When a part of it does not start.
    pub async fn on_the_persons_screen(root: &Path) -> Result<Self> {
        fs::create_dir_all(root)?;
        let mut desktop = Self::with_session(root, None).await?;
        desktop.set_keyring(Keyring::Open).await?;
        Ok(desktop)
    }

    async fn with_session(root: &Path, display: Option<String>) -> Result<Self> {
        let run = tempfile::Builder::new().prefix("rm-run-").tempdir_in("/tmp")?;
        for folder in ["data", "config", "cache"] {
            fs::create_dir_all(root.join(folder))?;
        }
        let config = root.join("bus.conf");
        fs::write(&config, bus_config(run.path()))?;
        let mut bus = Command::new("dbus-daemon");
        bus.args(["--nofork", "--print-address=1"]);
        bus.arg(format!("--config-file={}", config.display()));
        let is_address = |line: &str| line.starts_with("unix:");
        let (bus, address) = said("bus", bus, root, is_address).await?;
        let (root, others) = (root.to_owned(), vec![bus]);
        Ok(Self { root, run, display, bus: address, keyring: None, others })
    }

    /// Leaves everything running for whoever comes after this process.
    pub fn detach(mut self) {
        self.run.disable_cleanup(true);
        self.others.extend(self.keyring.take());
        for process in self.others {
            process.detach();
        }
    }

    /// A program on this desktop.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        if let Some(display) = &self.display {
            command.env_remove("WAYLAND_DISPLAY").env("DISPLAY", display);
            // There is no accessibility bus, and asking for one takes seconds.
            command.env("NO_AT_BRIDGE", "1").env("GTK_A11Y", "none");
        }
        // The socket of the person's own screen lies in the folder that they have for such things.
        if self.display.is_some() || std::env::var_os("XDG_RUNTIME_DIR").is_none() {
            command.env("XDG_RUNTIME_DIR", self.run.path());
        }
        command.env("DBUS_SESSION_BUS_ADDRESS", &self.bus);
        for (name, folder) in
            [("XDG_DATA_HOME", "data"), ("XDG_CONFIG_HOME", "config"), ("XDG_CACHE_HOME", "cache")]
        {
            command.env(name, self.root.join(folder));
        }
        command
    }

    /// The address of its session bus.
    #[must_use]
    pub fn bus(&self) -> &str {
        &self.bus
    }

    /// Where its logs and folders are.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the keyring stand like this from now on.
    ///
    /// # Errors
    /// When it does not.
    pub async fn set_keyring(&mut self, state: Keyring) -> Result<()> {
        self.keyring = None;
        if state == Keyring::Missing {
            return self.wait_for_service(false).await;
        }
        let has_collection = self.root.join("data/keyrings/login.keyring").exists();
        ensure!(state != Keyring::Bare || !has_collection, "the keyring holds a collection");
        if state == Keyring::Locked && !has_collection {
            // There must be something to be locked.
            self.keyring = Some(self.keyring_process(Keyring::Open)?);
            self.wait_for_service(true).await?;
            self.keyring = None;
            self.wait_for_service(false).await?;
        }
        self.keyring = Some(self.keyring_process(state)?);
        self.wait_for_service(true).await
    }

    fn keyring_process(&self, state: Keyring) -> Result<Process> {
        let mut keyring = self.command("gnome-keyring-daemon");
        // A person's own may have its sockets in their folder.
        keyring.env("XDG_RUNTIME_DIR", self.run.path());
        keyring.args(["--foreground", "--components=secrets"]);
        if state == Keyring::Open {
            keyring.arg("--unlock");
            return Process::spawn("keyring", keyring, &self.root, KEYRING_PASSWORD);
        }
        Process::spawn("keyring", keyring, &self.root, "")
    }

    async fn wait_for_service(&self, expected: bool) -> Result<()> {
        crate::wait_for("the keyring's service to come or go", async || {
            let mut ask = self.command("dbus-send");
            ask.args(["--session", "--print-reply", "--dest=org.freedesktop.DBus"]);
            ask.args(["/org/freedesktop/DBus", "org.freedesktop.DBus.NameHasOwner"]);
            ask.arg("string:org.freedesktop.secrets");
            let (_, printed) = run_to_end(ask, "")?;
            Ok(printed.contains(&format!("boolean {expected}")).then_some(()))
        })
        .await
    }

    /// The users of a service's secrets in the keyring.
    ///
    /// # Errors
    /// When the keyring cannot be asked.
    pub fn kept_users(&self, service: &str) -> Result<Vec<String>> {
        let mut ask = self.command("secret-tool");
        ask.args(["search", "--all", "service", service]);
        let (_, printed) = run_to_end(ask, "")?;
        let users = printed.lines().filter_map(|line| line.strip_prefix("attribute.username = "));
        Ok(users.map(str::to_owned).collect())
    }

    /// A secret in the keyring, as another program of the same user reads it.
    ///
    /// # Errors
    /// When there is none.
    pub fn kept_secret(&self, service: &str, user: &str) -> Result<String> {
        let mut ask = self.command("secret-tool");
        ask.args(["lookup", "service", service, "username", user]);
        let (status, printed) = run_to_end(ask, "")?;
        ensure!(status.success(), "the keyring holds no {user:?} of {service:?}: {printed}");
        Ok(printed)
    }
}

/// A bus on which nothing starts by itself: what is not there must be seen to be missing.
fn bus_config(folder: &Path) -> String {
    format!(
        "<busconfig><type>session</type><listen>unix:dir={}</listen>\
         <policy context=\"default\"><allow send_destination=\"*\" eavesdrop=\"true\"/>\
         <allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>",
        folder.display()
    )
}

/// Starts a program and waits for the line in which it says where it is; it may print warnings too.
async fn said(
    name: &str,
    command: Command,
    logs: &Path,
    is_it: impl Fn(&str) -> bool,
) -> Result<(Process, String)> {
    let mut process = Process::spawn(name, command, logs, "")?;
    let line = crate::wait_for(&format!("{name} to say where it is"), async || {
        ensure!(process.is_running()?, "{name} ended:\n{}", process.printed());
        let printed = process.printed();
        let whole = printed.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        Ok(whole.map(str::trim).find(|line| is_it(line)).map(str::to_owned))
    })
    .await
    .with_context(|| format!("{name} did not start"))?;
    Ok((process, line))
}
