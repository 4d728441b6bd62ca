//! A small fleet, set up as an admin would through the interface: a manager, a rest-server, one
//! enrolled agent with one repository and one plan.

use crate::{
    agent::{Agent, Rights},
    api::{Api, Flow},
    endpoint::Endpoint,
    manager::Manager,
    namespace::{NEAR, Switch},
    planted_secret,
    proxy::Mode,
    rest_server::{Deletes, RestServer},
    tools::Tools,
    wait_for,
};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::{
    ffi::OsString,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
};

/// The user name of the fleet's only machine at the rest-server, and the machine's name.
pub const MACHINE: &str = "machine1";

/// Fast enough for the first pack within seconds, too slow for all of a big source.
pub(crate) const UPLOADING: Mode = Mode::Slow { bytes_per_second: 24 * 1024 * 1024 };

/// Minutes for the rest of a big source, and still only moments for a lock.
pub(crate) const CRAWLING: Mode = Mode::Slow { bytes_per_second: 1024 * 1024 };

/// How much agent and manager write into their logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logs {
    /// What they do when nobody says anything.
    Usual,
    /// Everything that they can be told to.
    Everything,
}

impl Logs {
    fn environment(self, variable: &str) -> Vec<(String, String)> {
        match self {
            Self::Usual => Vec::new(),
            Self::Everything => vec![(variable.to_owned(), "trace".to_owned())],
        }
    }
}

/// The secrets that a fleet was made with.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// The password for the rest-server.
    pub credential: String,
    /// The repository's password.
    pub repository: String,
    /// The enrolment token that the agent used.
    pub token: String,
}

/// The whole fleet. Dropped, every process of it is killed.
#[derive(Debug)]
pub struct Fleet<Place = RestServer, Machine = Agent> {
    /// The manager.
    pub manager: Manager,
    /// A signed-in client of it.
    pub api: Api,
    /// Where the repository lies.
    pub server: Place,
    /// The agent, or the whole machine that it is on.
    pub agent: Machine,
    /// The host's id.
    pub host: String,
    /// The repository's id.
    pub repository: String,
    /// The plan's id.
    pub plan: String,
    /// What must not be seen anywhere.
    pub secrets: Secrets,
}

/// The place of a fleet whose repository lies in the manager's own store.
#[derive(Clone, Debug)]
pub struct StoreFolder {
    /// The folder of the store.
    pub folder: PathBuf,
    /// The folder of the repository in it.
    pub repository: PathBuf,
}

/// A run that was watched to its end.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The run as it ended.
    pub run: Value,
    /// The log lines that its stream carried.
    pub lines: Vec<String>,
    /// How many progress reports its stream carried.
    pub progress: usize,
}

impl Fleet {
    /// A fleet below `root` that backs `source` up, running and in sync, with a repository that is
    /// not initialised yet.
    ///
    /// # Errors
    /// When a part of it does not start.
    pub async fn start(
        root: &Path,
        tools: &Tools,
        source: &Path,
        deletes: Deletes,
    ) -> Result<Self> {
        Self::start_logging(root, tools, source, deletes, Logs::Usual).await
    }

    /// The same, with more or less in the logs of agent and manager.
    ///
    /// # Errors
    /// When a part of it does not start.
    pub async fn start_logging(
        root: &Path,
        tools: &Tools,
        source: &Path,
        deletes: Deletes,
        logs: Logs,
    ) -> Result<Self> {
        let credential = planted_secret("rest credential");
        let password = planted_secret("repository password");
        let server =
            RestServer::start(tools, &root.join("rest-server"), deletes, &[(MACHINE, &credential)])
                .await?;
        let environment = logs.environment("RUST_LOG");
        let manager = Manager::create_with(&root.join("manager"), environment).await?;
        let api = manager.api().await?;
        let form = json!({
            "name": "Attic", "url": server.url(MACHINE), "username": MACHINE, "credential": credential,
            "password": password, "ca_pem": server.ca_pem, "append_only": deletes == Deletes::Refused,
        });
        let repository = text(&api.post("/api/repositories", &form).await?["repository"], "id")?;
        let form = json!({
            "name": "Everything that matters", "repository_id": repository, "paths": [source], "excludes": [],
            "tags": ["kept"], "retention": { "keep_last": 7 }, "host_ids": [],
        });
        let plan = text(&api.post("/api/plans", &form).await?, "id")?;
        let token = enrolment_token(&api, MACHINE, Some(&plan)).await?;
        let mut agent = Agent::new(&root.join("agent"), tools.restic()?);
        agent.environment = logs.environment("RESTIC_MANAGER_LOG");
        agent.enrol(manager.ready(), &token)?;
        agent.start(Rights::Full)?;
        let secrets = Secrets { credential, repository: password, token };
        let host = String::new();
        let mut fleet = Self { manager, api, server, agent, host, repository, plan, secrets };
        fleet.host = text(&fleet.in_sync().await?, "id")?;
        Ok(fleet)
    }

    /// The same, with an initialised repository.
    ///
    /// # Errors
    /// When a part of it does not start.
    pub async fn initialised(
        root: &Path,
        tools: &Tools,
        source: &Path,
        deletes: Deletes,
    ) -> Result<Self> {
        let fleet = Self::start(root, tools, source, deletes).await?;
        fleet.run(&fleet.init()).await?.expect("succeeded")?;
        Ok(fleet)
    }

    /// Asks for a backup and waits until it is in the middle: its progress counts bytes, and its
    /// lock and some of its data are in the repository. From then on the network to the repository
    /// is so slow that it stays there until somebody does something. Needs a source that is larger
    /// than what restic sends at once, such as [`crate::tree::make_big`] makes.
    ///
    /// # Errors
    /// When it does not get there, or is done before.
    pub async fn in_the_middle(&self) -> Result<String> {
        let before = self.server.packs(MACHINE)?;
        self.server.network.set(UPLOADING);
        let run = self.ask(&self.backup()).await?;
        wait_for("the backup to be in the middle", async || {
            let shown = self.show(&run).await?;
            ensure!(shown["finished_at"].is_null(), "the backup was too fast: {shown:#}");
            let counts_bytes = shown["progress"]["bytes_done"].as_u64().is_some_and(|n| n > 0);
            let is_locked = self.server.locks(MACHINE)? > 0;
            let has_data = self.server.packs(MACHINE)? > before;
            Ok((counts_bytes && is_locked && has_data).then_some(()))
        })
        .await?;
        self.server.network.set(CRAWLING);
        let shown = self.show(&run).await?;
        ensure!(shown["status"] == "running", "the backup is over already: {shown:#}");
        Ok(run)
    }
}

impl Fleet<StoreFolder> {
    /// A fleet whose repository lies in the manager's own store, initialised.
    ///
    /// # Errors
    /// When a part of it does not start.
    pub async fn in_store(root: &Path, tools: &Tools, source: &Path) -> Result<Self> {
        Self::in_store_at(root, tools, source, Ipv4Addr::LOCALHOST, Vec::new()).await
    }

    /// The same where the agent is started `through` something, and dials its manager at this address.
    ///
    /// # Errors
    /// When a part of it does not start.
    pub async fn in_store_at(
        root: &Path,
        tools: &Tools,
        source: &Path,
        listens: Ipv4Addr,
        through: Vec<OsString>,
    ) -> Result<Self> {
        // What deletes in the store is done by the manager.
        let restic = vec![(restic::VARIABLE.to_owned(), tools.restic()?.display().to_string())];
        let manager = Manager::create_at(&root.join("manager"), restic, listens).await?;
        let api = manager.api().await?;
        let folder = root.join("store");
        api.put("/api/store", &json!({ "folder": folder })).await?;
        let form = json!({
            "name": "Everything that matters", "paths": [source], "retention": { "keep_last": 7 },
        });
        let plan = text(&api.post("/api/plans", &form).await?, "id")?;
        let token = enrolment_token(&api, MACHINE, Some(&plan)).await?;
        let mut agent = Agent::new(&root.join("agent"), tools.restic()?);
        agent.through = through;
        agent.enrol(manager.ready(), &token)?;
        agent.start(Rights::Full)?;
        let stored = api.get("/api/store").await?["repositories"][0].clone();
        let server = StoreFolder { repository: text(&stored, "folder")?.into(), folder };
        let (host, repository) = (text(&stored, "host_id")?, text(&stored, "repository_id")?);
        let secrets = Secrets { credential: String::new(), repository: String::new(), token };
        let mut fleet = Self { manager, api, server, agent, host, repository, plan, secrets };
        fleet.in_sync().await?;
        let (password, credential) = fleet.agent.repository_secrets()?;
        (fleet.secrets.repository, fleet.secrets.credential) = (password, credential);
        fleet.run(&fleet.init()).await?.expect("succeeded")?;
        Ok(fleet)
    }

    /// Where the repository is for whoever dials the manager as its agent does.
    #[must_use]
    pub fn address(&self) -> String {
        let port = self.manager.ready().agent.rsplit(':').next().unwrap_or_default();
        format!("https://localhost:{port}/store/{}/", self.repository)
    }

    /// restic with all that a thief of the agent's state folder has.
    ///
    /// # Errors
    /// When the certificate cannot be written.
    pub fn stolen(&self, restic: &Path) -> Result<Command> {
        let ca = self.server.folder.with_extension("pem");
        // Another restic may be reading it.
        if !ca.exists() {
            std::fs::write(&ca, &self.manager.ready().ca_pem)?;
        }
        let mut command = Command::new(restic);
        command.env_clear().env("HOME", self.server.folder.with_extension("home"));
        command.args(["--no-cache", "--repo"]).arg(format!("rest:{}", self.address()));
        command.arg("--cacert").arg(ca);
        command.env("RESTIC_PASSWORD", &self.secrets.repository);
        command.env("RESTIC_REST_USERNAME", &self.repository);
        command.env("RESTIC_REST_PASSWORD", &self.secrets.credential);
        Ok(command)
    }

    /// restic on the folder itself, as somebody without this product would.
    #[must_use]
    pub fn plain(&self, restic: &Path) -> Command {
        let mut command = Command::new(restic);
        command.env_clear().env("HOME", self.server.folder.with_extension("home"));
        command.args(["--no-cache", "--repo"]).arg(&self.server.repository);
        command.env("RESTIC_PASSWORD", &self.secrets.repository);
        command
    }
}

impl Fleet<StoreFolder, Endpoint> {
    /// A fleet of one booted machine whose repository lies in the manager's own store, initialised. The form
    /// of its plan is this.
    ///
    /// # Errors
    /// When a part of it does not start.
    pub async fn booted(root: &Path, tools: &Tools, suite: &str, plan: &Value) -> Result<Self> {
        let (machine, manager, api) = bare(root, tools, suite).await?;
        let folder = root.join("store");
        api.put("/api/store", &json!({ "folder": folder })).await?;
        let plan = text(&api.post("/api/plans", plan).await?, "id")?;
        let form = json!({ "name": MACHINE, "plan_id": plan });
        let made = api.post(ENROLMENTS, &form).await?;
        let (status, printed) =
            machine.run_with(&["sh", "-s"], &text(&made["install"], "unix")?)?;
        ensure!(status.success(), "the install block ended with {status}:\n{printed}");
        std::fs::write(root.join("install.log"), printed)?;
        let stored = api.get("/api/store").await?["repositories"][0].clone();
        let server = StoreFolder { repository: text(&stored, "folder")?.into(), folder };
        let (host, repository) = (text(&stored, "host_id")?, text(&stored, "repository_id")?);
        let secrets = Secrets {
            credential: String::new(),
            repository: String::new(),
            token: text(&made, "token")?,
        };
        let fleet = Self { manager, api, server, agent: machine, host, repository, plan, secrets };
        fleet.in_sync().await?;
        fleet.run(&fleet.init()).await?.expect("succeeded")?;
        Ok(fleet)
    }
}

/// A booted machine with nothing on it, and a manager that could set it up.
///
/// # Errors
/// When one of them does not start.
pub async fn bare(root: &Path, tools: &Tools, suite: &str) -> Result<(Endpoint, Manager, Api)> {
    let mut switch = Switch::new()?;
    let machine = Endpoint::boot(tools, suite, &root.join("machine"), MACHINE, &mut switch).await?;
    let restic = tools.restic()?;
    let own = vec![(restic::VARIABLE.to_owned(), restic.display().to_string())];
    let folder = root.join("manager");
    let manager = Manager::create_with_programs(&folder, own, NEAR, &restic).await?;
    let api = manager.api().await?;
    Ok((machine, manager, api))
}

impl<Place, Machine> Fleet<Place, Machine> {
    /// The host once its agent is connected and has its plan.
    ///
    /// # Errors
    /// When that does not happen.
    pub async fn in_sync(&self) -> Result<Value> {
        wait_for("the machine to be online and in sync", async || {
            let hosts = self.api.get("/api/hosts").await?;
            let host = hosts[0].clone();
            Ok((host["is_online"] == true && host["in_sync"] == true).then_some(host))
        })
        .await
    }

    /// The request that initialises the repository.
    #[must_use]
    pub fn init(&self) -> Value {
        json!({ "kind": "init", "repository_id": self.repository })
    }

    /// The request that backs up.
    #[must_use]
    pub fn backup(&self) -> Value {
        json!({ "kind": "backup", "plan_id": self.plan })
    }

    /// The request that restores all of a snapshot.
    #[must_use]
    pub fn restore(&self, snapshot: &str) -> Value {
        json!({ "kind": "restore", "repository_id": self.repository, "snapshot_id": snapshot, "include": [] })
    }

    /// Asks for a run and returns its id.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn ask(&self, request: &Value) -> Result<String> {
        text(&self.api.post(&format!("/api/hosts/{}/runs", self.host), request).await?, "id")
    }

    /// A run as it is now.
    ///
    /// # Errors
    /// When there is none.
    pub async fn show(&self, run: &str) -> Result<Value> {
        self.api.get(&format!("/api/runs/{run}")).await
    }

    /// Waits until a run is in one of these states.
    ///
    /// # Errors
    /// When it does not get there, or ends in another.
    pub async fn reaches(&self, run: &str, statuses: &[&str]) -> Result<Value> {
        wait_for(&format!("run {run} to be {}", statuses.join(" or ")), async || {
            let shown = self.show(run).await?;
            let status = text(&shown, "status")?;
            let reached = statuses.contains(&status.as_str());
            ensure!(
                reached || shown["finished_at"].is_null(),
                "run {run} ended as {status}: {shown:#}"
            );
            Ok(reached.then_some(shown))
        })
        .await
    }

    /// Starts a run and watches its stream to the end, as the run page does.
    ///
    /// # Errors
    /// When it is refused or its stream breaks.
    pub async fn run(&self, request: &Value) -> Result<Watched> {
        let id = self.ask(request).await?;
        let (mut lines, mut progress) = (Vec::new(), 0);
        let path = format!("/api/runs/{id}/stream?after_line=0");
        self.api
            .stream(&path, |event, data| {
                match event {
                    "line" => lines.extend(texts(data)),
                    "progress" => progress += 1,
                    _ => {}
                }
                if event == "end" { Flow::Stop } else { Flow::Continue }
            })
            .await?;
        Ok(Watched { run: self.show(&id).await?, lines, progress })
    }

    /// Waits until the manager lists a snapshot.
    ///
    /// # Errors
    /// When it does not.
    pub async fn lists(&self, snapshot: &str) -> Result<()> {
        let path = format!("/api/repositories/{}/snapshots", self.repository);
        wait_for("the snapshot to be listed", async || {
            let list = self.api.get(&path).await?;
            let all = list["snapshots"].as_array().context("no list of snapshots")?;
            Ok(all.iter().any(|one| one["id"] == snapshot).then_some(()))
        })
        .await
    }
}

impl Watched {
    /// The run, if it ended so.
    ///
    /// # Errors
    /// When it ended otherwise.
    pub fn expect(self, status: &str) -> Result<Self> {
        ensure!(self.run["status"] == status, "expected {status}: {:#}", self.run);
        Ok(self)
    }

    /// The id of the snapshot that it wrote.
    ///
    /// # Errors
    /// When it wrote none.
    pub fn snapshot(&self) -> Result<String> {
        text(&self.run, "snapshot_id")
    }

    /// The folder that it restored into.
    ///
    /// # Errors
    /// When it restored nothing.
    pub fn target(&self) -> Result<PathBuf> {
        Ok(text(&self.run["restore"], "target")?.into())
    }
}

/// Where tokens are minted. The answer shows the token, this once.
pub const ENROLMENTS: &str = "/api/enrolments";

/// A new one-time token.
///
/// # Errors
/// When the manager refuses.
pub async fn enrolment_token(api: &Api, name: &str, plan: Option<&str>) -> Result<String> {
    let enrolment = api.post(ENROLMENTS, &json!({ "name": name, "plan_id": plan })).await?;
    text(&enrolment, "token")
}

/// The texts of an event's log lines.
fn texts(data: &Value) -> impl Iterator<Item = String> {
    let lines = data["lines"].as_array().map(Vec::as_slice).unwrap_or_default();
    lines.iter().filter_map(|line| line["text"].as_str()).map(str::to_owned)
}

/// A text field of a JSON object.
///
/// # Errors
/// When there is none.
pub fn text(value: &Value, field: &str) -> Result<String> {
    value[field]
        .as_str()
        .map(str::to_owned)
        .with_context(|| format!("there is no {field} in {value}"))
}
