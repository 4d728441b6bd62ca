//! What the benches with connected machines share: a manager whose machines are enrolled, and room for
//! a socket for each.

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use protocol::{HostArch, HostId, HostOs, PROTOCOL_VERSION, PlanId, RepositoryId};
use serde_json::json;
use server::{
    db::{
        Db,
        hosts::{self, NewHost},
        plans, slots,
    },
    desired::{self, Sources},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use testkit::{
    fleet::text,
    manager::{Manager, Ready},
    puppet::Machine,
    teller::ZONE,
};

/// How many machines, with which plans.
pub(crate) struct Wanted<'a> {
    pub machines: usize,
    /// A plan for each time; an empty one is for a plan that runs by hand.
    pub times: &'a [&'a str],
    /// Since when the machines have their plans; `None` when they are still to be told.
    pub since: Option<Timestamp>,
}

/// A manager whose machines are enrolled and have never been connected.
pub(crate) struct Crowd {
    pub manager: Manager,
    pub machines: Vec<Machine>,
    pub hosts: Vec<HostId>,
    /// The desired state that they have applied.
    pub generation: u64,
    pub plans: Vec<PlanId>,
    pub repository: RepositoryId,
    /// A copy of its data folder as it was then.
    enrolled: PathBuf,
}

impl Crowd {
    /// Makes it below this folder. The manager does not run.
    pub(crate) async fn make(root: &Path, wanted: &Wanted<'_>) -> Result<Self> {
        let mut manager = Manager::create(&root.join("manager")).await?;
        let api = manager.api().await?;
        let form = json!({
            "name": "Attic", "url": "rest:http://127.0.0.1:9/attic/", "append_only": false,
        });
        let repository = text(&api.post("/api/repositories", &form).await?["repository"], "id")?;
        let mut plans = Vec::new();
        for (n, time) in wanted.times.iter().enumerate() {
            let mut form = json!({
                "name": format!("Everything that matters, part {n}"), "repository_id": repository,
                "paths": ["/srv"], "retention": { "keep_last": 7 },
            });
            if !time.is_empty() {
                form["cron"] = json!(time);
            }
            plans.push(text(&api.post("/api/plans", &form).await?, "id")?.parse()?);
        }
        let ready = directly(&manager);
        let machines = machines(&ready, wanted.machines)?;
        manager.stop().await?;
        let (hosts, generation) = enrol(&manager.data(), &machines, &plans, wanted.since).await?;
        let enrolled = root.join("enrolled");
        copy(&manager.data(), &enrolled)?;
        let repository = repository.parse()?;
        Ok(Self { manager, machines, hosts, generation, plans, repository, enrolled })
    }

    /// Lets the manager forget everything that came after, and starts it.
    pub(crate) async fn start_afresh(&mut self) -> Result<()> {
        let data = self.manager.data();
        fs::remove_dir_all(&data)?;
        copy(&self.enrolled, &data)?;
        self.manager.start().await
    }

    /// A copy of the database as it was before any machine came.
    pub(crate) fn copy_database(&self, to: &Path) -> Result<()> {
        fs::copy(self.enrolled.join("server.db"), to)?;
        Ok(())
    }
}

/// So many machines that know this server and that it has never seen.
pub(crate) fn machines(ready: &Ready, count: usize) -> Result<Vec<Machine>> {
    (0..count).map(|n| Machine::new(ready, &name(n))).collect()
}

fn name(n: usize) -> String {
    format!("machine{n}")
}

/// Enters the machines into the database of a manager that does not run: thousands would take long
/// through the interface, which is for one at a time. Returns them with the desired state that they have.
async fn enrol(
    data: &Path,
    machines: &[Machine],
    plans: &[PlanId],
    since: Option<Timestamp>,
) -> Result<(Vec<HostId>, u64)> {
    let db = Db::open(&data.join("server.db")).await?;
    let mut tx = db.begin().await?;
    let enrolled_at = since.unwrap_or_else(Timestamp::now);
    let (mut entered, mut generation) = (Vec::new(), 0);
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
        for plan in plans {
            plans::assign(&mut tx, *plan, id).await?;
        }
        desired::restate(&mut tx, &[id], enrolled_at).await?;
        if since.is_some() {
            let stored = hosts::find(&mut *tx, id).await?.context("the host was just entered")?;
            let digest = stored.desired_digest.context("a host without a desired state")?;
            generation = stored.generation;
            hosts::acknowledge(&mut tx, id, generation, &digest, enrolled_at).await?;
            let times = Sources::read(&mut tx, id).await?.times();
            slots::apply(&mut tx, id, generation, &times, ZONE, enrolled_at).await?;
        }
        entered.push(id);
    }
    tx.commit().await?;
    db.close().await;
    Ok((entered, generation))
}

/// The manager without the network that stands between in tests.
pub(crate) fn directly(manager: &Manager) -> Ready {
    Ready { agent: format!("127.0.0.1:{}", manager.port()), ..manager.ready().clone() }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    ensure!(status.success(), "failed to copy {}", from.display());
    Ok(())
}

/// Lets this process and the servers that it starts have a socket for each machine.
pub(crate) fn allow_sockets(machines: usize) -> Result<()> {
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
