//! Programs that the operating system provides.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::exec;
use What::{Library, Loaded, Program};

/// Something that has to be there, the Debian package that brings it, and what needs it.
struct Need {
    what: What,
    package: &'static str,
    needed_for: &'static str,
}

/// What it is, and so how it is looked for.
enum What {
    /// On the path, or in the administrator's folders.
    Program(&'static str),
    /// By pkg-config, to be compiled against.
    Library(&'static str),
    /// By the loader, to be opened while the program runs.
    Loaded(&'static str),
}

/// What every machine needs.
const EVERYWHERE: &[Need] = &[
    Need {
        what: Program("cc"),
        package: "build-essential",
        needed_for: "linking, SQLite and ring",
    },
    Need {
        what: Program("curl"),
        package: "curl",
        needed_for: "fetching restic, and testing installers",
    },
];

/// What building and starting the app takes on Linux beside.
const APP_ON_LINUX: &[Need] = &[
    Need {
        what: Program("pkg-config"),
        package: "pkg-config",
        needed_for: "finding the window's libraries",
    },
    Need {
        what: Library("webkit2gtk-4.1"),
        package: "libwebkit2gtk-4.1-dev",
        needed_for: "the window",
    },
    Need {
        what: Loaded("libayatana-appindicator3.so.1"),
        package: "libayatana-appindicator3-1",
        needed_for: "the icon in the tray",
    },
];

/// What the tests and the demo take on Linux beside: for the fetched Debian packages, for tests that
/// give up root's powers, and for the app in its window with nobody in front of it.
const TESTS_ON_LINUX: &[Need] = &[
    Need { what: Program("dpkg-deb"), package: "dpkg", needed_for: "unpacking restic" },
    Need { what: Program("sha256sum"), package: "coreutils", needed_for: "verifying restic" },
    Need { what: Program("setpriv"), package: "util-linux", needed_for: "tests that give up root" },
    Need {
        what: Program("WebKitWebDriver"),
        package: "webkit2gtk-driver",
        needed_for: "driving the window",
    },
    Need {
        what: Program("Xvfb"),
        package: "xvfb",
        needed_for: "a window where there is no display",
    },
    Need { what: Program("openbox"), package: "openbox", needed_for: "placing that window" },
    Need {
        what: Program("xdotool"),
        package: "xdotool",
        needed_for: "seeing where that window is",
    },
    Need { what: Program("wmctrl"), package: "wmctrl", needed_for: "closing that window" },
    Need {
        what: Program("dbus-daemon"),
        package: "dbus",
        needed_for: "a session of the tests' own",
    },
    Need { what: Program("dbus-send"), package: "dbus", needed_for: "asking that session" },
    Need {
        what: Program("gnome-keyring-daemon"),
        package: "gnome-keyring",
        needed_for: "a keyring of the tests' own",
    },
    Need {
        what: Program("secret-tool"),
        package: "libsecret-tools",
        needed_for: "looking into that keyring",
    },
];

/// Makes the machine ready to build the app and to start it.
pub(super) fn ensure_for_building() -> Result<()> {
    ensure(&[EVERYWHERE, on_linux(APP_ON_LINUX)])
}

/// Makes the machine ready for the tests and the demo as well.
pub(super) fn ensure_for_tests() -> Result<()> {
    ensure(&[EVERYWHERE, on_linux(APP_ON_LINUX), on_linux(TESTS_ON_LINUX)])
}

fn on_linux(needs: &'static [Need]) -> &'static [Need] {
    if cfg!(target_os = "linux") { needs } else { &[] }
}

/// Installs what is missing, where the package manager is one that we know.
fn ensure(needs: &[&'static [Need]]) -> Result<()> {
    let missing: Vec<&Need> =
        needs.iter().copied().flatten().filter(|need| !need.what.is_present()).collect();
    let mut packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    if cfg!(target_os = "linux") && !has_certificates() {
        packages.push("ca-certificates");
    }
    if packages.is_empty() {
        return Ok(());
    }
    for need in &missing {
        println!("tools: `{}` is missing: {}", need.what.name(), need.needed_for);
    }
    if exec::which("apt-get").is_none() {
        bail!(
            "install the equivalents of these Debian packages, and try again: {}",
            packages.join(" ")
        );
    }
    install(&packages)
}

/// Finds a program, or installs the package that brings it.
pub(super) fn ensure_program(name: &str, package: &str, needed_for: &str) -> Result<()> {
    let is_there = exec::which(name).is_some()
        || ADMINISTRATORS.iter().any(|folder| Path::new(folder).join(name).is_file());
    if is_there {
        return Ok(());
    }
    println!("tools: `{name}` is missing: {needed_for}");
    if exec::which("apt-get").is_none() {
        bail!("install the equivalent of the Debian package {package}, and try again");
    }
    install(&[package])
}

/// Names under which systems have Chromium or its like.
const CHROMIUMS: &[&str] = &["chromium", "chromium-browser", "google-chrome"];

/// Finds Chromium, or installs it. `RESTIC_MANAGER_CHROMIUM` names another.
pub(super) fn ensure_chromium() -> Result<PathBuf> {
    if let Some(named) = env::var_os("RESTIC_MANAGER_CHROMIUM") {
        return Ok(named.into());
    }
    let find = || CHROMIUMS.iter().find_map(|name| exec::which(name));
    if let Some(found) = find() {
        return Ok(found);
    }
    println!("tools: `chromium` is missing: testing the pages");
    if exec::which("apt-get").is_none() {
        bail!("install Chromium, or name it in RESTIC_MANAGER_CHROMIUM, and try again");
    }
    install(&["chromium"])?;
    find().context("Chromium was installed and is not on the path")
}

impl What {
    fn name(&self) -> &'static str {
        match self {
            Program(name) | Library(name) | Loaded(name) => name,
        }
    }

    fn is_present(&self) -> bool {
        match self {
            // Windows links with its own tools, which rustup asks for.
            Program("cc") if cfg!(windows) => true,
            Program(name) => {
                exec::which(name).is_some()
                    || ADMINISTRATORS.iter().any(|folder| Path::new(folder).join(name).is_file())
            }
            Library(name) => {
                exec::output(Command::new("pkg-config").args(["--exists", name])).is_ok()
            }
            Loaded(name) => exec::output(Command::new("/sbin/ldconfig").arg("-p"))
                .is_ok_and(|known| known.contains(name)),
        }
    }
}

/// These folders are not on everybody's path.
const ADMINISTRATORS: &[&str] = &["/usr/sbin", "/sbin"];

fn has_certificates() -> bool {
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"]
        .iter()
        .any(|bundle| Path::new(bundle).is_file())
}

fn install(packages: &[&str]) -> Result<()> {
    let by_hand = format!("apt-get install {}", packages.join(" "));
    let is_root = exec::output(Command::new("id").arg("-u"))?.trim() == "0";
    if !is_root && exec::which("sudo").is_none() {
        bail!("run this as root, and try again: {by_hand}");
    }
    println!("tools: {by_hand}");
    // A list of packages that is out of date names versions that the mirrors no longer hold.
    exec::succeed(&mut apt_get(is_root, &["update"]))?;
    let mut install = apt_get(is_root, &["install", "--yes", "--no-install-recommends"]);
    exec::succeed(install.args(packages)).with_context(|| format!("run it by hand: {by_hand}"))
}

/// apt-get as root, never asking anything.
fn apt_get(is_root: bool, args: &[&str]) -> Command {
    let words = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet"];
    let mut command = Command::new(if is_root { "env" } else { "sudo" });
    command.args(if is_root { &words[1..] } else { &words[..] });
    command.args(args).stdin(Stdio::null());
    command
}
