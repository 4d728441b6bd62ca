//! Another machine's network: a namespace at the other end of a cable, which can be pulled.
//!
//! Whoever uses it runs in a network namespace of its own, with the right to change it:
//! `unshare --map-root-user --net` gives both without being root.

use crate::{
    process::{Process, run_to_end},
    wait_for,
};
use anyhow::{Result, ensure};
use std::{ffi::OsString, net::Ipv4Addr, path::Path, process::Command};

/// This end of the cable.
pub const NEAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const CABLE: &str = "cable";

/// The other machine's network. Dropped, it is gone.
#[derive(Debug)]
pub struct Namespace {
    /// Lives as long as the namespace is wanted.
    holder: Process,
}

impl Namespace {
    /// A new one at the other end of a new cable; what its holder prints is kept in `logs`.
    ///
    /// # Errors
    /// When the system does not let this process make one.
    pub async fn plugged_in(logs: &Path) -> Result<Self> {
        let mut holder = Command::new("unshare");
        holder.args(["--net", "sleep", "infinity"]);
        let namespace = Self { holder: Process::spawn("namespace", holder, logs, "")? };
        let own = std::fs::read_link("/proc/self/ns/net")?;
        wait_for("the other network", async || {
            let theirs = std::fs::read_link(namespace.file())?;
            Ok((theirs != own).then_some(()))
        })
        .await?;
        let holder = namespace.holder.id().to_string();
        let (near, far) = (format!("{NEAR}/24"), format!("{FAR}/24"));
        ip(&[], &["link", "set", "lo", "up"])?;
        ip(&[], &["link", "add", CABLE, "type", "veth", "peer", "name", CABLE, "netns", &holder])?;
        ip(&[], &["addr", "add", &near, "dev", CABLE])?;
        namespace.set_cable(true)?;
        let there = namespace.enter();
        ip(&there, &["link", "set", "lo", "up"])?;
        ip(&there, &["addr", "add", &far, "dev", CABLE])?;
        ip(&there, &["link", "set", CABLE, "up"])?;
        Ok(namespace)
    }

    fn file(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    /// The beginning of a command line that starts something there.
    #[must_use]
    pub fn enter(&self) -> Vec<OsString> {
        ["nsenter".to_owned(), format!("--net={}", self.file())].map(OsString::from).into()
    }

    /// Plugs the cable in, or pulls it: nothing passes, and nobody is told.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn set_cable(&self, is_in: bool) -> Result<()> {
        ip(&[], &["link", "set", CABLE, if is_in { "up" } else { "down" }])
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
