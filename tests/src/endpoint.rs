//! Whole machines: a Debian root with its own systemd, booted in namespaces, beside the manager.
//!
//! Whoever boots one is root, in a network and a mount namespace of its own: with the process goes every
//! mount. What a machine writes lies above the root in a folder of its own, so that all start fresh and share
//! what they read.

use crate::{
    namespace::{Namespace, Switch},
    process::{Process, run_to_end},
    tools::Tools,
    wait_for,
};
use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

/// The agent's service.
pub const UNIT: &str = "restic-manager-agent.service";
/// The agent's own user.
pub const USER: &str = "restic-manager-agent";
/// The folders under which Linux lists its groups of processes, where they are mounted.
const GROUPS: [&str; 3] = ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

/// A booted machine. Dropped, it is gone.
#[derive(Debug)]
pub struct Endpoint {
    /// Its files as it sees them itself, and as nobody there can hide them.
    root: PathBuf,
    groups: Vec<PathBuf>,
    /// The process that is number one over there.
    init: Pid,
    /// What holds it together from here.
    container: Process,
    /// Its network.
    pub network: Namespace,
}

impl Endpoint {
    /// Boots a machine of this name in `folder`, from one of the roots that the tools hold.
    ///
    /// # Errors
    /// When it does not come up well.
    pub async fn boot(
        tools: &Tools,
        suite: &str,
        folder: &Path,
        name: &str,
        switch: &mut Switch,
    ) -> Result<Self> {
        let lower = tools.root(suite)?;
        let [upper, work, root] = ["upper", "work", "root"].map(|part| folder.join(part));
        for part in [&upper, &work, &root] {
            fs::create_dir_all(part)?;
        }
        let layers = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            upper.display(),
            work.display()
        );
        let mut mount = Command::new("mount");
        mount.args(["-t", "overlay", "overlay", "-o", &layers]).arg(&root);
        succeeds(mount)?;
        // What every installer of a system writes, and a bare root has not.
        fs::write(root.join("etc/hosts"), format!("127.0.0.1 localhost\n127.0.1.1 {name}\n"))?;
        let network = switch.plug_in(folder).await?;
        let groups = make_groups(name)?;
        let mut shell = Command::new("sh");
        // Its groups are joined before it starts, so that two machines do not share any.
        let join = r#"for group in $1; do echo $$ >"$group/cgroup.procs"; done; shift; exec "$@""#;
        let listed: Vec<_> = groups.iter().map(|group| group.to_string_lossy()).collect();
        shell.args(["-c", join, "sh", &listed.join(" "), "systemd-nspawn"]);
        shell.args(["--quiet", "--register=no", "--keep-unit", "--boot", "--console=pipe"]);
        shell.args(["--resolv-conf=off", "--timezone=off", "--link-journal=no"]);
        shell.arg(format!("--machine={name}")).arg("-D").arg(&root);
        let mut net = OsStr::new("--network-namespace-path=").to_owned();
        net.push(network.file());
        shell.arg(net).env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
        let mut container = Process::spawn("machine", shell, folder, "")?;
        let init = wait_for("the machine's first process", async || {
            ensure!(container.is_running()?, "it ended:\n{}", container.printed());
            let children = container.children()?;
            let mut systemds = children
                .iter()
                .filter(|(_, line)| line[0].ends_with("systemd") || line[0].ends_with("init"));
            Ok(systemds.next().map(|(pid, _)| *pid))
        })
        .await?;
        let machine = Self { root, groups, init, container, network };
        wait_for("the machine to be up", async || {
            let (_, said) = machine.run(&["systemctl", "is-system-running"])?;
            let said = said.trim();
            ensure!(said != "degraded", "{}", machine.run(&["systemctl", "--failed"])?.1);
            Ok((said == "running").then_some(()))
        })
        .await?;
        Ok(machine)
    }

    /// Runs something over there as root, and returns how it ended and what it printed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&self, line: &[&str]) -> Result<(ExitStatus, String)> {
        self.run_with(line, "")
    }

    /// The same with this as its input.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run_with(&self, line: &[&str], input: &str) -> Result<(ExitStatus, String)> {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.as_raw_nonzero().to_string()]);
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"]);
        command.args(line).env_clear();
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("LC_ALL", "C.UTF-8").env("HOME", "/root");
        run_to_end(command, input)
    }

    /// Runs something that must succeed, and returns what it printed.
    ///
    /// # Errors
    /// When it does not.
    pub fn must(&self, line: &[&str]) -> Result<String> {
        let (status, printed) = self.run(line)?;
        ensure!(status.success(), "{} ended with {status}:\n{printed}", line.join(" "));
        Ok(printed)
    }

    /// Where a file of the machine lies, seen from here.
    #[must_use]
    pub fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Writes a file over there.
    ///
    /// # Errors
    /// As the file system says.
    pub fn write(&self, path: &str, text: &str, mode: u32) -> Result<()> {
        let at = self.at(path);
        fs::create_dir_all(at.parent().context("a file has a folder")?)?;
        fs::write(&at, text).with_context(|| format!("failed to write {path}"))?;
        fs::set_permissions(&at, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    /// What a unit has written into the machine's log.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn log_of(&self, unit: &str) -> Result<String> {
        self.must(&["journalctl", "--no-pager", "--output=cat", "--unit", unit])
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // With its first process go all others. There is nobody to tell of what does not succeed.
        let _ = kill_process(self.init, Signal::KILL);
        // What holds it together tidies up and ends by itself; one that does not is killed with its value.
        for _ in 0..1000 {
            if !self.container.is_running().unwrap_or(false) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        for group in &self.groups {
            let folders = walkdir::WalkDir::new(group).contents_first(true);
            let folders = folders.into_iter().flatten().filter(|it| it.file_type().is_dir());
            folders.for_each(|folder| drop(fs::remove_dir(folder.path())));
        }
        let mut unmount = Command::new("umount");
        let _ = run_to_end(
            {
                unmount.arg("--lazy").arg(&self.root);
                unmount
            },
            "",
        );
    }
}

/// Groups of processes of the machine's own, wherever this system keeps such.
fn make_groups(name: &str) -> Result<Vec<PathBuf>> {
    let own = format!("restic-manager-{}-{name}", std::process::id());
    let mut groups = Vec::new();
    for above in GROUPS.iter().map(Path::new).filter(|it| it.join("cgroup.procs").exists()) {
        let group = above.join(&own);
        fs::create_dir(&group).with_context(|| format!("failed to make {}", group.display()))?;
        groups.push(group);
    }
    Ok(groups)
}

fn succeeds(command: Command) -> Result<()> {
    let shown = format!("{command:?}");
    let (status, printed) = run_to_end(command, "")?;
    ensure!(status.success(), "{shown} ended with {status}:\n{printed}");
    Ok(())
}
