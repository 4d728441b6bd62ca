//! A real `restic-manager-agent` with its own state folder.

use crate::{
    fleet::text,
    manager::Ready,
    process::{Process, run_to_end},
    tools::built,
    wait_for,
};
use anyhow::{Context as _, Result, ensure};
use protocol::ShortCode;
use serde_json::Value;
use std::{
    ffi::OsString,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

/// What the agent's process may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Whatever the tests may.
    Full,
    /// Root cannot read other users' files: no CAP_DAC_OVERRIDE, no CAP_DAC_READ_SEARCH.
    NoOverride,
}

/// An agent, running or not.
#[derive(Debug)]
pub struct Agent {
    root: PathBuf,
    /// The restic that it runs from its next start on.
    pub restic: PathBuf,
    process: Option<Process>,
    /// Extra environment of the process, such as the hooks that crash it at a named point.
    pub environment: Vec<(String, String)>,
    /// What its programs are started by, such as one that enters a namespace.
    pub through: Vec<OsString>,
}

impl Agent {
    /// An agent below `root`, not yet enrolled, that runs this restic.
    #[must_use]
    pub fn new(root: &Path, restic: PathBuf) -> Self {
        Self {
            root: root.to_owned(),
            restic,
            process: None,
            environment: Vec::new(),
            through: Vec::new(),
        }
    }

    /// Its state folder.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// The password of its first repository and the credential for it, as it keeps them: what the
    /// manager mints for its store it shows nobody else.
    ///
    /// # Errors
    /// When it has none.
    pub fn repository_secrets(&self) -> Result<(String, String)> {
        let desired: Value =
            serde_json::from_slice(&std::fs::read(self.state().join("desired.json"))?)?;
        let repository = &desired["repositories"][0];
        Ok((text(repository, "password")?, text(repository, "credential")?))
    }

    /// Tries to enrol and returns how it ended and what was printed.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn try_enrol(
        &self,
        ready: &Ready,
        token: &str,
        more: &[&str],
    ) -> Result<(ExitStatus, String)> {
        std::fs::create_dir_all(&self.root)?;
        let mut command = self.command(Vec::new())?;
        command.arg("enroll").arg("--state-dir").arg(self.state());
        command.args(["--address", &ready.agent, "--manager-key", &ready.manager_key]).args(more);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let (status, printed) = run_to_end(command, &format!("{token}\n"))?;
        std::fs::write(self.root.join("enrol.log"), &printed)?;
        Ok((status, printed))
    }

    /// Enrols.
    ///
    /// # Errors
    /// When it is refused.
    pub fn enrol(&self, ready: &Ready, token: &str) -> Result<()> {
        let (status, printed) = self.try_enrol(ready, token, &[])?;
        ensure!(status.success(), "enrolment ended with {status}:\n{printed}");
        Ok(())
    }

    /// Begins to announce this machine to the manager at this address.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn announce(&self, address: &str) -> Result<Announcing> {
        let mut command = Command::new(built("restic-manager-agent")?);
        command.arg("announce").arg("--state-dir").arg(self.state()).args(["--address", address]);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Ok(Announcing(Process::spawn_asking("announce", command, &self.root)?))
    }

    /// Enrols by an install block, as it is pasted into a shell.
    ///
    /// # Errors
    /// When it is refused.
    pub fn install(&self, block: &str) -> Result<()> {
        std::fs::create_dir_all(&self.root)?;
        let program = built("restic-manager-agent")?;
        let own = program.parent().map(Path::to_owned).into_iter();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut shell = Command::new("sh");
        shell.arg("-s").env("RESTIC_MANAGER_STATE_DIR", self.state());
        shell.env("PATH", std::env::join_paths(own.chain(std::env::split_paths(&path)))?);
        let (status, printed) = run_to_end(shell, block)?;
        ensure!(status.success(), "the install block ended with {status}:\n{printed}");
        Ok(())
    }

    /// Starts the agent.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self, rights: Rights) -> Result<()> {
        let mut line: Vec<OsString> = Vec::new();
        if rights == Rights::NoOverride && is_root() {
            let drop = "-dac_override,-dac_read_search";
            line.extend(
                ["setpriv", "--inh-caps", drop, "--bounding-set", drop].map(OsString::from),
            );
        }
        let mut command = self.command(line)?;
        command.arg("run").arg("--state-dir").arg(self.state());
        command.env("RESTIC_MANAGER_RESTIC", &self.restic);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.process = Some(Process::spawn("agent", command, &self.root, "")?);
        Ok(())
    }

    /// The beginning of a command line that ends with the agent's own words.
    fn command(&self, more: Vec<OsString>) -> Result<Command> {
        let program = built("restic-manager-agent")?.into_os_string();
        let line: Vec<OsString> =
            self.through.iter().cloned().chain(more).chain([program]).collect();
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]);
        Ok(command)
    }

    /// Sets a field of its settings, for its next start.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn configure(&self, field: &str, value: &Value) -> Result<()> {
        let path = self.state().join("agent.json");
        let mut config = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(_) => Value::Object(serde_json::Map::new()),
        };
        config[field] = value.clone();
        std::fs::write(&path, config.to_string())?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(())
    }

    /// The running process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("the agent does not run")
    }

    /// Leaves it running for whoever comes after this process.
    pub fn detach(self) {
        if let Some(process) = self.process {
            process.detach();
        }
    }

    /// Ends it the polite way.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        self.process.take().context("the agent does not run")?.terminate().await
    }

    /// Kills it as a crash would; restic is left behind.
    ///
    /// # Errors
    /// When it had ended by itself.
    pub async fn kill_9(&mut self) -> Result<()> {
        self.process.take().context("the agent does not run")?.kill_9().await
    }

    /// Waits until a crash that was ordered through [`Agent::environment`] has happened, which is
    /// the end that `kill -9` makes.
    ///
    /// # Errors
    /// When it does not, or ends otherwise.
    pub async fn crashed(&mut self) -> Result<()> {
        self.process.take().context("the agent does not run")?.killed().await
    }

    /// What `status --json` says.
    ///
    /// # Errors
    /// When it does not say JSON.
    pub fn status(&self) -> Result<Value> {
        let printed = self.report("status", &["--json"])?;
        serde_json::from_str(&printed).with_context(|| format!("status printed {printed}"))
    }

    /// What `status` says to a person.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn status_in_words(&self) -> Result<String> {
        self.report("status", &[])
    }

    /// What `doctor` says to a person.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn doctor(&self) -> Result<String> {
        self.report("doctor", &[])
    }

    fn report(&self, verb: &str, more: &[&str]) -> Result<String> {
        let mut command = Command::new(built("restic-manager-agent")?);
        command.env("RESTIC_MANAGER_RESTIC", &self.restic);
        command.arg(verb).arg("--state-dir").arg(self.state()).args(more);
        Ok(run_to_end(command, "")?.1)
    }

    /// Everything it has printed so far.
    ///
    /// # Errors
    /// When it was never started.
    pub fn printed(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.root.join("agent.log"))?)
    }
}

/// An agent that announces its machine. Dropped, it is killed.
#[derive(Debug)]
pub struct Announcing(Process);

impl Announcing {
    /// The code that it shows.
    ///
    /// # Errors
    /// When it ends without one.
    pub async fn code(&mut self) -> Result<String> {
        wait_for("the code on the machine", async || {
            let is_running = self.0.is_running()?;
            let printed = self.0.printed();
            let shown = printed.lines().find_map(|line| line.trim().parse::<ShortCode>().ok());
            ensure!(shown.is_some() || is_running, "it ended without a code:\n{printed}");
            Ok(shown.map(|code| code.to_string()))
        })
        .await
    }

    /// Types a code, as root does.
    ///
    /// # Errors
    /// When it does not ask for one.
    pub fn type_code(&mut self, code: &str) -> Result<()> {
        self.0.type_line(code)
    }

    /// Waits for its end, and returns how it ended and all it has printed.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn ended(mut self) -> Result<(ExitStatus, String)> {
        let status = self.0.ended().await?;
        Ok((status, self.0.printed()))
    }
}

/// Whether this process may read every file; what it starts may then too, unless it is told
/// otherwise.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}
