//! A real `restic-manager-headless` with its own data folder.

use crate::{
    api::Api,
    planted_secret,
    process::{Port, Process, run_to_end},
    proxy::Proxy,
    tools::built,
    wait_for,
};
use anyhow::{Context as _, Result, ensure};
use protocol::{HostArch, HostOs};
use serde_json::Value;
use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

/// A manager, running or not.
#[derive(Debug)]
pub struct Manager {
    root: PathBuf,
    password: String,
    process: Option<Process>,
    ready: Ready,
    ui_port: Port,
    /// Where it listens for agents.
    listens: Ipv4Addr,
    agent_port: Port,
    /// What stands between the agents and this manager.
    pub network: Proxy,
    /// Extra environment of the process, such as the hooks that crash it at a named point.
    pub environment: Vec<(String, String)>,
    /// The built pages that it hands out from its next start on.
    pub pages: Option<PathBuf>,
    /// The programs that it hands out to machines from its next start on.
    pub programs: Option<PathBuf>,
}

/// What the manager says once it is ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// Where its interface listens.
    pub ui: String,
    /// Where agents dial, `host:port`; the proxy of [`Manager::network`], if that is between.
    pub agent: String,
    /// Its root public key as agents pin it.
    pub manager_key: String,
    /// Its root certificate.
    pub ca_pem: String,
    /// The certificate of its interface.
    pub ui_ca_pem: String,
}

impl Manager {
    /// Makes a new manager below `root` and starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn create(root: &Path) -> Result<Self> {
        Self::create_with(root, Vec::new()).await
    }

    /// The same with this in its [`Manager::environment`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn create_with(root: &Path, environment: Vec<(String, String)>) -> Result<Self> {
        Self::create_at(root, environment, Ipv4Addr::LOCALHOST).await
    }

    /// The same where agents dial it at this address, and machines are set up with this agent and this
    /// restic.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn create_with_programs(
        root: &Path,
        environment: Vec<(String, String)>,
        listens: Ipv4Addr,
        restic: &Path,
    ) -> Result<Self> {
        let programs = root.join("programs");
        let kind = format!("{}-{}", HostOs::current().as_str(), HostArch::current().as_str());
        let folder = programs.join(kind);
        fs::create_dir_all(&folder)?;
        symlink(built("restic-manager-agent")?, folder.join("restic-manager-agent"))?;
        symlink(fs::canonicalize(restic)?, folder.join("restic"))?;
        let mut manager = Self::create_at(root, environment, listens).await?;
        manager.stop().await?;
        manager.programs = Some(programs);
        manager.start().await?;
        Ok(manager)
    }

    /// The same where agents dial it at this address, with nothing between unless it is this machine's
    /// own.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn create_at(
        root: &Path,
        environment: Vec<(String, String)>,
        listens: Ipv4Addr,
    ) -> Result<Self> {
        fs::create_dir_all(root)?;
        let password = planted_secret("admin password");
        let mut command = Command::new(built("restic-manager-headless")?);
        command.arg("init").arg("--data-dir").arg(root.join("data")).arg("--password-stdin");
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let (status, printed) = run_to_end(command, &password)?;
        fs::write(root.join("init.log"), &printed)?;
        ensure!(status.success(), "restic-manager-headless init ended with {status}:\n{printed}");
        let agent_port = Port::reserve()?;
        let network = Proxy::start(agent_port.number()).await?;
        let mut manager = Self {
            root: root.to_owned(),
            password,
            process: None,
            ready: Ready::default(),
            ui_port: Port::reserve()?,
            listens,
            agent_port,
            network,
            environment,
            pages: None,
            programs: None,
        };
        manager.start().await?;
        Ok(manager)
    }

    /// Starts it, each time on the same ports, so that agents find it again.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start(&mut self) -> Result<()> {
        let ui = format!("127.0.0.1:{}", self.ui_port.number());
        let agent = format!("{}:{}", self.listens, self.agent_port.number());
        let is_between = self.listens.is_loopback();
        let dialled = if is_between { self.network.address().to_string() } else { agent.clone() };
        let mut command = Command::new(built("restic-manager-headless")?);
        command.arg("serve").arg("--data-dir").arg(self.data());
        command.args(["--ui-listen", &ui, "--agent-listen", &agent, "--agent-address", &dialled]);
        if let Some(pages) = &self.pages {
            command.arg("--ui-dir").arg(pages);
        }
        if let Some(programs) = &self.programs {
            command.arg("--programs-dir").arg(programs);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let before = self.root.join("manager.log").metadata().map_or(0, |meta| meta.len());
        let mut process = Process::spawn("manager", command, &self.root, "")?;
        let ready = wait_for("the manager to be ready", async || {
            ensure!(process.is_running()?, "the manager ended:\n{}", process.printed());
            let printed = process.printed();
            let new = printed.get(usize::try_from(before)?..).unwrap_or_default();
            Ok(new.lines().find_map(|line| {
                let value: Value = serde_json::from_str(line).ok()?;
                (value.get("ready")? == true).then_some(value)
            }))
        })
        .await?;
        let text = |name: &str| {
            ready[name].as_str().map(str::to_owned).with_context(|| format!("no {name} in {ready}"))
        };
        self.ready = Ready {
            ui: text("ui")?,
            agent: dialled,
            manager_key: text("manager_key")?,
            ca_pem: fs::read_to_string(text("ca_file")?)?,
            ui_ca_pem: fs::read_to_string(text("ui_ca_file")?)?,
        };
        self.process = Some(process);
        Ok(())
    }

    /// The port on which agents dial without the network between.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.agent_port.number()
    }

    /// The id of its process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn id(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("the manager does not run")?.id())
    }

    /// Ends it the polite way.
    ///
    /// # Errors
    /// When it does not end well.
    pub async fn stop(&mut self) -> Result<()> {
        let status = self.process.take().context("the manager does not run")?.terminate().await?;
        ensure!(status.success(), "the manager ended with {status}");
        Ok(())
    }

    /// Kills it as a crash would.
    ///
    /// # Errors
    /// When it had ended by itself.
    pub async fn kill_9(&mut self) -> Result<()> {
        self.process.take().context("the manager does not run")?.kill_9().await
    }

    /// Waits until a crash that was ordered through [`Manager::environment`] has happened, which is
    /// the end that `kill -9` makes.
    ///
    /// # Errors
    /// When it does not, or ends otherwise.
    pub async fn crashed(&mut self) -> Result<()> {
        self.process.take().context("the manager does not run")?.killed().await
    }

    /// A new signed-in client.
    ///
    /// # Errors
    /// When the manager refuses.
    pub async fn api(&self) -> Result<Api> {
        let mut api = Api::new(&self.ready.ui, &self.ready.ui_ca_pem)?;
        api.sign_in(&self.password).await?;
        Ok(api)
    }

    /// What it said when it was ready.
    #[must_use]
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// The admin's password.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }
}
