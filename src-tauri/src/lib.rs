//! The desktop app: the coordinating server in a window, its one key in the OS keyring.
//!
//! ```text
//! window (ui) ── invoke ──▶ commands ──▶ controller ──▶ server
//! tray, signals, second start ─────────▶ controller ──▶ shell (window, process)
//! ```
//! Nothing but `app` knows Tauri.

#[cfg(all(dev, not(debug_assertions)))]
compile_error!(
    "build with `--features custom-protocol`: without it the window trusts whoever listens on \
     localhost:5173"
);

mod app;
pub mod bridge;
pub mod controller;
pub mod keyring;
mod log;
pub mod refusals;

pub use app::run;

use clap::Parser;
use std::{
    net::{SocketAddr, UdpSocket},
    path::PathBuf,
};

/// Protects a fleet of machines with restic: the desktop app.
#[derive(Clone, Debug, Parser)]
#[command(name = "restic-manager", version)]
pub struct Options {
    /// The folder of the database and the log [default: restic-manager in the user's local data]
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Where agents dial in.
    #[arg(long, default_value = "0.0.0.0:9781")]
    agent_listen: SocketAddr,
    /// How agents find this machine, host:port; may be repeated, best first. Those of the last
    /// time when absent, and at the first time what this machine knows of itself.
    #[arg(long)]
    agent_address: Vec<String>,
}

/// How other machines may find this one, before anybody said so: by the address it uses itself, and
/// by its name.
fn found_addresses(port: u16) -> Vec<String> {
    let address = own_address().map(|address| SocketAddr::new(address, port).to_string());
    let name = server::server::machine_name().filter(|name| name != "localhost");
    address.into_iter().chain(name.map(|name| format!("{name}:{port}"))).collect()
}

/// The address of this machine on the way to others. Choosing a way sends nothing, and the target is
/// an address that belongs to nobody (RFC 5737).
fn own_address() -> Option<std::net::IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_options_are_sound() {
        Options::command().debug_assert();
    }

    #[test]
    fn what_is_found_are_addresses_that_agents_can_dial() {
        for address in found_addresses(9781) {
            assert!(protocol::is_address(&address), "{address}");
            assert!(address.ends_with(":9781"), "{address}");
        }
    }
}
