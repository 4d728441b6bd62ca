//! A stage for the browser tests: a real manager with the built pages, a real rest-server, and
//! machines with real agents or puppets, below one folder.
//!
//! The first line that it prints says where the manager is and how to get in; it goes to the program
//! that started this one and nowhere else. Then it takes one JSON object a line,
//! `{"id": 1, "do": "machine", …}`, and answers each with `{"id": 1, "ok": …}` or
//! `{"id": 1, "error": "…"}`. It ends, and everything with it, when its input does.
#![expect(clippy::print_stdout, reason = "its output is how it answers")]

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use data_encoding::BASE64;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};
use testkit::{
    agent::{Agent, Announcing, Rights},
    api::{Api, Flow},
    canary::{Canary, find},
    fleet::{enrolment_token, text},
    manager::Manager,
    planted::keys_of_manager,
    planted_secret,
    proxy::Mode,
    puppet::{self, Puppet, Words},
    rest_server::{Deletes, RestServer},
    tools::Tools,
    tree, wait_for,
};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// A stage for the browser tests.
#[derive(Parser)]
struct Options {
    /// An empty folder for everything.
    #[arg(long)]
    root: PathBuf,
    /// Where restic and rest-server are.
    #[arg(long)]
    tools: PathBuf,
    /// The built pages.
    #[arg(long)]
    pages: PathBuf,
}

/// What can be asked for.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum Ask {
    /// A machine with a real agent, a repository and a plan of its own.
    Machine { name: String, source: Source, until: Until },
    /// Runs an install block as on the machine, and starts the agent.
    Install { name: String, block: String },
    /// Announces a machine, and answers with the code that it shows.
    Announce { name: String },
    /// Types a code on a machine that announces itself.
    TypeCode { name: String, code: String },
    /// Waits until the announcing of a machine has ended, and starts its agent if it came in.
    Announced { name: String },
    /// Makes a folder with files to back up.
    Files { name: String, source: Source },
    /// A new user of the rest-server, with this password or a planted one.
    User { name: String, credential: Option<String> },
    /// Starts, stops or kills an agent.
    Agent { name: String, act: Act },
    /// Starts, stops or kills the manager.
    Manager { act: Act },
    /// Starts or kills the rest-server.
    RestServer { act: Act },
    /// How a network treats what passes.
    Network { of: Network, mode: Pace },
    /// A machine whose agent says what it is told to.
    Puppet { name: String, hostname: String },
    /// What a puppet says of a run.
    Say {
        name: String,
        run: String,
        #[serde(default)]
        started: Option<String>,
        #[serde(default)]
        lines: Vec<String>,
        #[serde(default)]
        progress: Option<Value>,
        #[serde(default)]
        finished: Option<Value>,
    },
    /// A request to the interface, as another client of it.
    Call { method: String, path: String, body: Option<Value> },
    /// Waits until a run has ended, and returns it.
    Ended { run: String },
    /// How a restored folder differs from what was backed up.
    Differences { source: PathBuf, restored: PathBuf },
    /// The secrets that stand in these texts.
    Secrets { texts: Vec<Piece> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Source {
    Small,
    Big,
}

/// How far a machine is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Until {
    Connected,
    Initialised,
    BackedUp,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Act {
    Start,
    Stop,
    Kill,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Network {
    Agents,
    RestServer,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Pace {
    Open,
    /// Minutes for what otherwise takes moments.
    Crawling,
    Silent,
    Cut,
}

/// A text in which a secret may stand.
#[derive(Debug, Deserialize)]
struct Piece {
    name: String,
    text: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    match perform(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{}", json!({ "error": format!("{error:#}") }));
            ExitCode::FAILURE
        }
    }
}

async fn perform(options: Options) -> Result<()> {
    let mut stage = Stage::set(&options).await?;
    println!("{}", stage.opening()?);
    let mut asks = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = asks.next_line().await? {
        let ask: Value = serde_json::from_str(&line)?;
        let mut fields = ask.clone();
        let id = fields.as_object_mut().and_then(|fields| fields.remove("id"));
        let done = match serde_json::from_value(fields) {
            Ok(ask) => stage.take(ask).await,
            Err(error) => Err(error.into()),
        };
        println!(
            "{}",
            match done {
                Ok(value) => json!({ "id": id, "ok": value }),
                Err(error) => json!({ "id": id, "error": format!("{error:#}") }),
            }
        );
    }
    Ok(())
}

const NOT_ANNOUNCING: &str = "there is no such machine that announces itself";

struct Machine {
    agent: Agent,
    host: String,
}

struct Stage {
    root: PathBuf,
    tools: Tools,
    manager: Manager,
    api: Api,
    rest: RestServer,
    machines: BTreeMap<String, Machine>,
    puppets: BTreeMap<String, Puppet>,
    /// Machines that ask to join.
    announcing: BTreeMap<String, (Agent, Announcing)>,
    planted: Vec<Canary>,
}

impl Stage {
    async fn set(options: &Options) -> Result<Self> {
        let tools = Tools::new(&options.tools);
        let root = options.root.canonicalize()?;
        let mut manager = Manager::create(&root.join("manager")).await?;
        manager.pages = Some(options.pages.canonicalize()?);
        manager.stop().await?;
        manager.start().await?;
        let api = manager.api().await?;
        let rest = RestServer::start(&tools, &root.join("rest"), Deletes::Allowed, &[]).await?;
        let (machines, puppets, announcing) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let planted = Vec::new();
        Ok(Self { root, tools, manager, api, rest, machines, puppets, announcing, planted })
    }

    /// What the one who started this must know.
    fn opening(&self) -> Result<Value> {
        let ready = self.manager.ready();
        let certificate = CertificateDer::from_pem_slice(ready.ui_ca_pem.as_bytes())?;
        let parsed = rustls::server::ParsedCertificate::try_from(&certificate)?;
        let key = parsed.subject_public_key_info();
        Ok(json!({
            "url": ready.ui,
            "agent_address": ready.agent,
            "spki": BASE64.encode(&Sha256::digest(key.as_ref())),
            "password": self.manager.password(),
            "rest_url": self.rest.url("USER"),
            "ca_pem": self.rest.ca_pem,
        }))
    }

    async fn take(&mut self, ask: Ask) -> Result<Value> {
        match ask {
            Ask::Machine { name, source, until } => self.machine(&name, source, until).await,
            Ask::Install { name, block } => self.install(name, &block).await,
            Ask::Announce { name } => self.announce(name).await,
            Ask::TypeCode { name, code } => {
                let (_, announcing) = self.announcing.get_mut(&name).context(NOT_ANNOUNCING)?;
                done(announcing.type_code(&code))
            }
            Ask::Announced { name } => self.announced(name).await,
            Ask::Files { name, source } => Ok(json!({ "source": self.files(&name, source)? })),
            Ask::User { name, credential } => {
                let credential = match credential {
                    Some(given) => given,
                    None => self.plant("rest credential"),
                };
                self.rest.add_user(&name, &credential).await?;
                Ok(json!({ "credential": credential, "url": self.rest.url(&name) }))
            }
            Ask::Agent { name, act } => done(self.agent(&name, act).await),
            Ask::Manager { act } => done(self.act_on_manager(act).await),
            Ask::RestServer { act } => done(match act {
                Act::Start => self.rest.restart().await,
                Act::Stop | Act::Kill => self.rest.kill().await,
            }),
            Ask::Network { of, mode } => {
                let network = match of {
                    Network::Agents => &self.manager.network,
                    Network::RestServer => &self.rest.network,
                };
                network.set(match mode {
                    Pace::Open => Mode::Open,
                    Pace::Crawling => Mode::Slow { bytes_per_second: 1024 * 1024 },
                    Pace::Silent => Mode::Silent,
                    Pace::Cut => Mode::Cut,
                });
                Ok(Value::Null)
            }
            Ask::Puppet { name, hostname } => self.puppet(&name, &hostname).await,
            Ask::Say { name, run, started, lines, progress, finished } => {
                let puppet = self.puppets.get(&name).context("there is no such puppet")?;
                let started =
                    started.map(|kind| serde_json::from_value(kind.into())).transpose()?;
                let words = Words { started, lines, progress, finished };
                done(puppet.say(run.parse()?, words).await)
            }
            Ask::Call { method, path, body } => {
                let (status, answer) = self.api.call(method.parse()?, &path, body.as_ref()).await?;
                Ok(json!({ "status": status.as_u16(), "body": answer }))
            }
            Ask::Ended { run } => self.ended(&run).await,
            Ask::Differences { source, restored } => {
                Ok(json!(tree::differences(&source, &restored)?))
            }
            Ask::Secrets { texts } => self.secrets(&texts).await,
        }
    }

    /// A secret that must not be seen.
    fn plant(&mut self, name: &str) -> String {
        let secret = planted_secret(name);
        self.planted.push(Canary::new(name, &secret, &[]));
        secret
    }

    fn files(&self, name: &str, source: Source) -> Result<PathBuf> {
        let folder = self.root.join("sources").join(name);
        match source {
            Source::Small => tree::make_small(&folder)?,
            Source::Big => tree::make_big(&folder)?,
        }
        Ok(folder)
    }

    async fn machine(&mut self, name: &str, source: Source, until: Until) -> Result<Value> {
        let source = self.files(name, source)?;
        let credential = self.plant("rest credential");
        let password = self.plant("repository password");
        self.rest.add_user(name, &credential).await?;
        let form = json!({
            "name": format!("{name} store"), "url": self.rest.url(name), "username": name,
            "credential": credential, "password": password, "ca_pem": self.rest.ca_pem,
            "append_only": false,
        });
        let created = self.api.post("/api/repositories", &form).await?;
        let repository = text(&created["repository"], "id")?;
        let plan = self.plan(name, &repository, &source).await?;
        let token = enrolment_token(&self.api, name, Some(&plan)).await?;
        self.planted.push(Canary::new("an enrolment token", &token, &[]));
        let agent = Agent::new(&self.root.join("agents").join(name), self.tools.restic()?);
        agent.enrol(self.manager.ready(), &token)?;
        let host = self.started(name.to_owned(), agent).await?;
        let mut snapshot = Value::Null;
        if until >= Until::Initialised {
            let form = json!({ "kind": "init", "repository_id": repository });
            self.succeeds(&host, &form).await?;
        }
        if until >= Until::BackedUp {
            let form = json!({ "kind": "backup", "plan_id": plan });
            snapshot = self.succeeds(&host, &form).await?["snapshot_id"].clone();
            self.lists(&repository, &snapshot).await?;
        }
        Ok(json!({
            "host": host, "repository": repository, "plan": plan, "source": source,
            "snapshot": snapshot,
        }))
    }

    async fn plan(&self, name: &str, repository: &str, source: &Path) -> Result<String> {
        let form = json!({
            "name": format!("{name} files"), "repository_id": repository, "paths": [source],
            "excludes": [], "tags": [], "retention": { "keep_last": 7 }, "host_ids": [],
        });
        text(&self.api.post("/api/plans", &form).await?, "id")
    }

    async fn install(&mut self, name: String, block: &str) -> Result<Value> {
        let agent = Agent::new(&self.root.join("agents").join(&name), self.tools.restic()?);
        agent.install(block)?;
        Ok(json!({ "host": self.started(name, agent).await? }))
    }

    async fn announce(&mut self, name: String) -> Result<Value> {
        let agent = Agent::new(&self.root.join("agents").join(&name), self.tools.restic()?);
        let mut announcing = agent.announce(&self.manager.ready().agent)?;
        let code = announcing.code().await?;
        self.announcing.insert(name, (agent, announcing));
        Ok(json!({ "code": code }))
    }

    async fn announced(&mut self, name: String) -> Result<Value> {
        let (agent, announcing) = self.announcing.remove(&name).context(NOT_ANNOUNCING)?;
        let (status, printed) = announcing.ended().await?;
        let host = match status.success() {
            true => Some(self.started(name, agent).await?),
            false => None,
        };
        Ok(json!({ "host": host, "printed": printed }))
    }

    /// Starts an agent, and waits until its machine is connected and knows its plans.
    async fn started(&mut self, name: String, mut agent: Agent) -> Result<String> {
        agent.start(Rights::Full)?;
        let host = wait_for("the machine to be online and in sync", async || {
            let hosts = self.api.get("/api/hosts").await?;
            let mut all = hosts.as_array().into_iter().flatten();
            let host = all.find(|host| host["name"] == name.as_str());
            let is_ready = |host: &&Value| host["is_online"] == true && host["in_sync"] == true;
            host.filter(is_ready).map(|host| text(host, "id")).transpose()
        })
        .await?;
        self.machines.insert(name, Machine { agent, host: host.clone() });
        Ok(host)
    }

    async fn succeeds(&self, host: &str, form: &Value) -> Result<Value> {
        let run = self.api.post(&format!("/api/hosts/{host}/runs"), form).await?;
        let run = self.ended(&text(&run, "id")?).await?;
        anyhow::ensure!(run["status"] == "succeeded", "a run ended otherwise: {run:#}");
        Ok(run)
    }

    async fn ended(&self, run: &str) -> Result<Value> {
        let path = format!("/api/runs/{run}/stream?after_line=0");
        let until_end = |event: &str, _: &Value| match event {
            "end" => Flow::Stop,
            _ => Flow::Continue,
        };
        self.api.stream(&path, until_end).await?;
        self.api.get(&format!("/api/runs/{run}")).await
    }

    async fn lists(&self, repository: &str, snapshot: &Value) -> Result<()> {
        let path = format!("/api/repositories/{repository}/snapshots");
        wait_for("the snapshot to be listed", async || {
            let list = self.api.get(&path).await?;
            let mut all = list["snapshots"].as_array().into_iter().flatten();
            Ok(all.any(|one| one["id"] == *snapshot).then_some(()))
        })
        .await
    }

    async fn agent(&mut self, name: &str, act: Act) -> Result<()> {
        let machine = self.machines.get_mut(name).context("there is no such machine")?;
        let (host, is_online) = (machine.host.clone(), matches!(act, Act::Start));
        match act {
            Act::Start => machine.agent.start(Rights::Full)?,
            Act::Stop => drop(machine.agent.stop().await?),
            Act::Kill => machine.agent.kill_9().await?,
        }
        wait_for("the manager to see it", async || {
            let shown = self.api.get(&format!("/api/hosts/{host}")).await?;
            Ok((shown["is_online"] == is_online).then_some(()))
        })
        .await
    }

    async fn act_on_manager(&mut self, act: Act) -> Result<()> {
        match act {
            Act::Start => {
                self.manager.start().await?;
                self.api = self.manager.api().await?;
                Ok(())
            }
            Act::Stop => self.manager.stop().await,
            Act::Kill => self.manager.kill_9().await,
        }
    }

    async fn puppet(&mut self, name: &str, hostname: &str) -> Result<Value> {
        let form = json!({
            "name": format!("{name} store"), "url": format!("rest:http://127.0.0.1:9/{name}/"),
            "append_only": false,
        });
        let created = self.api.post("/api/repositories", &form).await?;
        let repository = text(&created["repository"], "id")?;
        self.planted.push(Canary::new(
            "a minted repository password",
            &text(&created, "minted_password")?,
            &[],
        ));
        let plan = self.plan(name, &repository, Path::new("/srv")).await?;
        let token = enrolment_token(&self.api, name, Some(&plan)).await?;
        let machine = puppet::Machine::new(self.manager.ready(), hostname)?;
        let host = machine.enrol(&token).await?;
        let puppet = Puppet::connect(&machine).await?;
        let path = format!("/api/hosts/{host}");
        wait_for("the puppet to be in sync", async || {
            let shown = self.api.get(&path).await?;
            Ok((shown["is_online"] == true && shown["in_sync"] == true).then_some(()))
        })
        .await?;
        self.puppets.insert(name.to_owned(), puppet);
        Ok(json!({ "host": host, "repository": repository, "plan": plan }))
    }

    async fn secrets(&self, texts: &[Piece]) -> Result<Value> {
        if texts.is_empty() {
            bail!("there is nothing to look into");
        }
        let mut canaries = self.planted.clone();
        canaries.push(Canary::new("the admin's password", self.manager.password(), &[]));
        canaries.push(Canary::new("a session cookie", self.api.session()?, &[]));
        canaries.extend(keys_of_manager(&self.manager.data()).await?);
        let mut found = Vec::new();
        for piece in texts {
            for name in find(piece.text.as_bytes(), &canaries)? {
                found.push(format!("{name} is in {}", piece.name));
            }
        }
        Ok(json!(found))
    }
}

fn done(result: Result<()>) -> Result<Value> {
    result.map(|()| Value::Null)
}
