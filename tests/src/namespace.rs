//! Other machines' networks: each is a namespace at the end of a cable to one switch, and the cable can be
//! pulled.
//!
//! Whoever uses it runs in a network namespace of its own, with the right to change it:
//! `unshare --map-root-user --net` gives both without being root.

use crate::{
    process::{Process, run_to_end},
    wait_for,
};
use anyhow::{Result, ensure};
use std::{
    ffi::OsString,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
};

/// This end of every cable.
pub const NEAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const SWITCH: &str = "switch";
/// What the far end is called over there.
const PORT: &str = "eth0";

/// The switch that all cables end in. It goes with the network that it is in.
#[derive(Debug)]
pub struct Switch {
    machines: u8,
}

impl Switch {
    /// A new one, with this machine at [`NEAR`].
    ///
    /// # Errors
    /// When the system does not let this process make one.
    pub fn new() -> Result<Self> {
        ip(&[], &["link", "set", "lo", "up"])?;
        ip(&[], &["link", "add", SWITCH, "type", "bridge"])?;
        ip(&[], &["addr", "add", &format!("{NEAR}/24"), "dev", SWITCH])?;
        ip(&[], &["link", "set", SWITCH, "up"])?;
        Ok(Self { machines: 0 })
    }

    /// Another machine's network, at the end of a new cable; what its holder prints is kept in `logs`.
    ///
    /// # Errors
    /// When the system does not let this process make one.
    pub async fn plug_in(&mut self, logs: &Path) -> Result<Namespace> {
        self.machines += 1;
        let number = self.machines;
        let mut holder = Command::new("unshare");
        holder.args(["--net", "sleep", "infinity"]);
        let holder = Process::spawn("namespace", holder, logs, "")?;
        let namespace = Namespace { holder, cable: format!("cable{number}") };
        let own = std::fs::read_link("/proc/self/ns/net")?;
        wait_for("the other network", async || {
            let theirs = std::fs::read_link(namespace.file())?;
            Ok((theirs != own).then_some(()))
        })
        .await?;
        let holder = namespace.holder.id().to_string();
        let cable = &namespace.cable;
        ip(&[], &["link", "add", cable, "type", "veth", "peer", "name", PORT, "netns", &holder])?;
        ip(&[], &["link", "set", cable, "master", SWITCH])?;
        namespace.set_cable(true)?;
        let there = namespace.enter();
        ip(&there, &["link", "set", "lo", "up"])?;
        let address = Ipv4Addr::from(u32::from(NEAR) + u32::from(number));
        ip(&there, &["addr", "add", &format!("{address}/24"), "dev", PORT])?;
        ip(&there, &["link", "set", PORT, "up"])?;
        Ok(namespace)
    }
}

/// One of the other machines' networks. Dropped, it is gone.
#[derive(Debug)]
pub struct Namespace {
    /// Lives as long as the namespace is wanted.
    holder: Process,
    cable: String,
}

impl Namespace {
    /// The file by which the system names it.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.holder.id()))
    }

    /// The beginning of a command line that starts something there.
    #[must_use]
    pub fn enter(&self) -> Vec<OsString> {
        let mut net = OsString::from("--net=");
        net.push(self.file());
        vec!["nsenter".into(), net]
    }

    /// Plugs the cable in, or pulls it: nothing passes, and nobody is told.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn set_cable(&self, is_in: bool) -> Result<()> {
        ip(&[], &["link", "set", &self.cable, if is_in { "up" } else { "down" }])
    }
}

fn ip(there: &[OsString], words: &[&str]) -> Result<()> {
    let line: Vec<OsString> =
        there.iter().cloned().chain(["ip"].iter().chain(words).map(OsString::from)).collect();
    let mut command = Command::new(&line[0]);
    command.args(&line[1..]);
    let (status, printed) = run_to_end(command, "")?;
    ensure!(status.success(), "ip {} ended with {status}: {printed}", words.join(" "));
    Ok(())
}
