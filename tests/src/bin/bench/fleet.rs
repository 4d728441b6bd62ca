//! What a connected machine costs the manager in memory, against a bare connection.

use crate::{
    Options,
    figure::{Figure, Section},
    usage,
};
use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use protocol::{HostArch, HostId, HostOs, PROTOCOL_VERSION, PlanId};
use serde_json::{Value, json};
use server::{
    db::{
        Db,
        hosts::{self, NewHost},
        plans,
    },
    desired,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use testkit::{
    fleet::text,
    manager::{Manager, Ready},
    process::Process,
    puppet::{Machine, Puppet},
    wait_for,
};

/// Machines that come at once.
const AT_ONCE: usize = 64;
/// Heartbeats of each machine before its memory counts: what they stir up stays.
const BEATS: usize = 3;

/// Machines on a real manager, each with a key of its own, one plan in common and an acknowledged
/// desired state, against the same connections to a server that does nothing with them.
pub(crate) async fn measure(options: &Options) -> Result<Section> {
    let most = options.machines.iter().copied().max().context("how many machines?")?;
    allow_sockets(most)?;
    let mut place = Place::make(options, most).await?;
    let mut figures = Vec::new();
    for &count in &options.machines {
        let name = format!("fleet of {count}: memory");
        let mut figure = Figure::new(name, "resident memory of a connected machine", 1.5);
        for n in 0..options.rounds {
            let (ours, bare) = if n % 2 == 0 {
                let ours = place.manager(count).await?;
                (ours, place.bare(count).await?)
            } else {
                let bare = place.bare(count).await?;
                (place.manager(count).await?, bare)
            };
            println!("{count} machines, round {}: manager {ours:.0} B, bare {bare:.0} B", n + 1);
            figure.add(ours, bare);
        }
        figures.push(figure);
    }
    let text = "Machines that are connected to a manager and have acknowledged their plan, against the \
                same connections to an axum server that takes WebSockets over TLS with a read buffer of \
                4,096 bytes and does nothing with them. Counted is by how much the server's resident \
                memory grows, for each connection, from before the first until all are at rest."
        .to_owned();
    Ok(Section { name: "fleet", text, figures })
}

/// A manager whose machines are enrolled and have never been connected.
struct Place {
    root: PathBuf,
    manager: Manager,
    machines: Vec<Machine>,
    /// A copy of its data folder as it was then.
    enrolled: PathBuf,
}

impl Place {
    async fn make(options: &Options, count: usize) -> Result<Self> {
        let root = options.root.clone();
        let mut manager = Manager::create(&root.join("manager")).await?;
        let api = manager.api().await?;
        let form = json!({
            "name": "Attic", "url": "rest:http://127.0.0.1:9/attic/", "append_only": false,
        });
        let repository = text(&api.post("/api/repositories", &form).await?["repository"], "id")?;
        let form = json!({
            "name": "Everything that matters", "repository_id": repository, "paths": ["/srv"],
            "retention": { "keep_last": 7 },
        });
        let plan = text(&api.post("/api/plans", &form).await?, "id")?.parse()?;
        let ready = directly(&manager);
        let machines: Vec<Machine> =
            (0..count).map(|n| Machine::new(&ready, &name(n))).collect::<Result<_>>()?;
        manager.stop().await?;
        enrol(&manager.data(), &machines, plan).await?;
        let enrolled = root.join("enrolled");
        copy(&manager.data(), &enrolled)?;
        Ok(Self { root, manager, machines, enrolled })
    }

    async fn manager(&mut self, count: usize) -> Result<f64> {
        let data = self.manager.data();
        fs::remove_dir_all(&data)?;
        copy(&self.enrolled, &data)?;
        self.manager.start().await?;
        let machines: Vec<&Machine> = self.machines.iter().take(count).collect();
        let grown = grown_by(self.manager.id()?, &machines).await?;
        self.manager.stop().await?;
        Ok(grown)
    }

    async fn bare(&self, count: usize) -> Result<f64> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--bare", "--tools", "none", "--table", "none", "--root"]).arg(&self.root);
        let log = self.root.join("bare.log");
        if log.exists() {
            fs::remove_file(log)?;
        }
        let mut server = Process::spawn("bare", command, &self.root, "")?;
        let ready = wait_for("the bare server to be ready", async || {
            ensure!(server.is_running()?, "the bare server ended:\n{}", server.printed());
            Ok(serde_json::from_str::<Value>(server.printed().trim()).ok())
        })
        .await?;
        let ready = Ready {
            agent: text(&ready, "address")?,
            ca_pem: fs::read_to_string(self.root.join("bare.pem"))?,
            ..Ready::default()
        };
        let machines: Vec<Machine> =
            (0..count).map(|n| Machine::new(&ready, &name(n))).collect::<Result<_>>()?;
        let grown = grown_by(server.id(), &machines.iter().collect::<Vec<_>>()).await?;
        // It holds nothing that could be lost.
        server.kill_9().await?;
        Ok(grown)
    }
}

/// Connects the machines to the server in this process, and tells by how many bytes for each of them
/// it has grown once all are at rest.
async fn grown_by(server: u32, machines: &[&Machine]) -> Result<f64> {
    let before = usage::resident(server)?;
    let puppets: Vec<Puppet> = stream::iter(machines)
        .map(|machine| Puppet::connect(machine))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    for _ in 0..BEATS {
        stream::iter(&puppets).map(Ok).try_for_each_concurrent(AT_ONCE, Puppet::beat).await?;
    }
    let after = usage::resident(server)?;
    #[expect(clippy::cast_precision_loss, reason = "there are not that many machines")]
    Ok((after - before) / puppets.len() as f64)
}

fn name(n: usize) -> String {
    format!("machine{n}")
}

/// Enters the machines into the database of a manager that does not run: thousands would take long
/// through the interface, which is for one at a time.
async fn enrol(data: &Path, machines: &[Machine], plan: PlanId) -> Result<()> {
    let db = Db::open(&data.join("server.db")).await?;
    let mut tx = db.begin().await?;
    let enrolled_at = Timestamp::now();
    for (n, machine) in machines.iter().enumerate() {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&n.to_be_bytes());
        let id = HostId::new(u64::try_from(enrolled_at.as_millisecond())?, &random);
        let new = NewHost {
            id,
            name: &name(n),
            hostname: &name(n),
            os: HostOs::Linux,
            arch: HostArch::Amd64,
            agent_version: "0.1.0",
            protocol_version: PROTOCOL_VERSION,
            key_fingerprint: machine.key,
            enrolled_at,
        };
        hosts::insert(&mut tx, &new).await?;
        plans::assign(&mut tx, plan, id).await?;
        desired::restate(&mut tx, &[id]).await?;
    }
    tx.commit().await?;
    db.close().await;
    Ok(())
}

/// The manager without the network that stands between in tests.
fn directly(manager: &Manager) -> Ready {
    Ready { agent: format!("127.0.0.1:{}", manager.port()), ..manager.ready().clone() }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(status.success(), "failed to copy {}", from.display());
    Ok(())
}

/// Lets this process and the servers that it starts have a socket for each machine.
fn allow_sockets(machines: usize) -> Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let needed = u64::try_from(machines)? + 256;
    let mut limit = getrlimit(Resource::Nofile);
    ensure!(
        limit.maximum.is_none_or(|maximum| maximum >= needed),
        "{machines} machines need {needed} open files, and this system allows {:?}; choose fewer by \
         --machines",
        limit.maximum
    );
    if limit.current.is_some_and(|current| current < needed) {
        limit.current = Some(needed);
        setrlimit(Resource::Nofile, limit)?;
    }
    Ok(())
}
