//! A machine with an agent of version 1: a simple model of the seed's, in its own words. It has no journal,
//! no tickets and no `go`; what it says is lost with the line, and nobody can tell.

use super::{Down, Event, World, machine::short, say, template::Enrolled};
use anyhow::Result;
use axum::extract::State;
use protocol::RunId;
use serde_json::{Value, json};
use server::{
    api::{extract::PathId, runs::cancel},
    auth::Principal,
    db::{hosts, runs},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// The machine of a line that is this one's.
pub const OLD: usize = usize::MAX;

/// A machine with an old agent.
#[derive(Debug)]
pub struct Old {
    /// What it is to its manager.
    pub enrolled: Enrolled,
    /// Its line.
    pub line: Option<u64>,
    life: u64,
    /// Its configuration, which it keeps.
    config: BTreeMap<String, String>,
    /// The version of its schedules, which it keeps too.
    version: Option<i64>,
    /// What it still does, last first.
    jobs: BTreeMap<RunId, Vec<Value>>,
    /// What it was told to do.
    told: BTreeSet<RunId>,
    /// How that ended.
    ended: BTreeMap<RunId, &'static str>,
}

/// What it does next.
#[derive(Clone, Copy, Debug)]
pub enum Turn {
    /// It dials.
    Dial(u64),
    /// It says that it is there.
    Heartbeat(u64),
    /// Something happens in a run.
    Step(u64, RunId),
}

impl Old {
    /// A machine that was enrolled.
    pub fn new(enrolled: Enrolled) -> Self {
        Self {
            enrolled,
            line: None,
            life: 0,
            config: BTreeMap::new(),
            version: None,
            jobs: BTreeMap::new(),
            told: BTreeSet::new(),
            ended: BTreeMap::new(),
        }
    }
}

impl World {
    pub(super) fn old_turn(&mut self, turn: Turn) {
        let Some(old) = &mut self.old else { return };
        match turn {
            Turn::Dial(life) if life == old.life && old.line.is_none() => self.old_dials(),
            Turn::Heartbeat(line) if old.line == Some(line) => {
                self.old_says("heartbeat", &json!({"sent_at": self.true_time()}));
                self.after(Duration::from_secs(30), Event::Old(turn));
            }
            Turn::Step(life, run) if life == old.life => {
                let Some(says) = old.jobs.get_mut(&run).and_then(Vec::pop) else { return };
                if let Some(status) = says["status"].as_str() {
                    let known = ["succeeded", "failed", "cancelled"];
                    let status = known.into_iter().find(|word| *word == status).unwrap_or("failed");
                    old.ended.insert(run, status);
                    old.jobs.remove(&run);
                    self.old_says("job.finished", &says);
                } else {
                    self.old_says("log.stream", &says);
                    let wait = self.millis(50, 6_000);
                    self.after(wait, Event::Old(turn));
                }
            }
            Turn::Dial(_) | Turn::Heartbeat(_) | Turn::Step(..) => {}
        }
    }

    fn old_dials(&mut self) {
        let Some(old) = &self.old else { return };
        let (host, life) = (old.enrolled.host, old.life);
        let is_away = self.now < self.network_away_until;
        let Some(line) = (!is_away).then(|| self.open_line(OLD, host)).flatten() else {
            let wait = self.millis(1_000, 30_000);
            self.after(wait, Event::Old(Turn::Dial(life)));
            return;
        };
        if let Some(old) = &mut self.old {
            old.line = Some(line);
        }
        // Its language writes a time that it does not know as that of the year 1.
        self.old_says(
            "hello",
            &json!({"protocol_version": 1, "agent_version": "0.1.0", "restic_version": "0.17.3",
                "hostname": "machine-old", "os": "linux", "arch": "amd64",
                "boot_time": "0001-01-01T00:00:00Z"}),
        );
        self.after(Duration::from_secs(30), Event::Old(Turn::Heartbeat(line)));
    }

    fn old_says(&mut self, kind: &str, payload: &Value) {
        let Some(line) = self.old.as_ref().and_then(|old| old.line) else { return };
        if kind != "heartbeat" {
            say!(self, "old", "says {kind}");
        }
        let frame = json!({"type": kind, "id": "", "payload": payload});
        self.send_up(line, frame.to_string());
    }

    /// A message for the old agent.
    pub(super) fn old_hears(&mut self, line: u64, down: Option<Down>) {
        let Some(old) = self.old.as_mut().filter(|old| old.line == Some(line)) else { return };
        let text = match down {
            Some(Down::Text(text)) => text,
            Some(Down::Ping) => return,
            None => {
                old.line = None;
                let life = old.life;
                let wait = self.millis(500, 30_000);
                self.after(wait, Event::Old(Turn::Dial(life)));
                return;
            }
        };
        let frame: Value = serde_json::from_str(&text).unwrap_or_default();
        let (kind, payload) = (frame["type"].as_str().unwrap_or_default(), &frame["payload"]);
        let run = payload["job_id"].as_str().and_then(|id| id.parse::<RunId>().ok());
        say!(self, "manager", "says {kind} to the old machine");
        match (kind, run) {
            ("config.update", _) => self.old_takes_config(payload),
            ("schedule.set", _) => self.old_takes_schedules(payload),
            ("command.run", Some(run)) => self.old_begins(run, payload),
            ("command.cancel", Some(run)) => {
                let now = self.true_time();
                let Some(old) = &mut self.old else { return };
                if let Some(says) = old.jobs.get_mut(&run) {
                    *says = vec![json!({"job_id": run, "status": "cancelled", "exit_code": 130,
                        "finished_at": now})];
                }
            }
            // Such as what came with a later version.
            _ => {}
        }
    }

    /// Absent leaves alone, null clears, a value sets.
    fn old_takes_config(&mut self, payload: &Value) {
        let Some(old) = &mut self.old else { return };
        for (key, value) in payload.as_object().into_iter().flatten() {
            match value {
                Value::Null => drop(old.config.remove(key)),
                Value::String(value) => drop(old.config.insert(key.clone(), value.clone())),
                // It knows nothing of those.
                Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {}
            }
        }
    }

    fn old_takes_schedules(&mut self, payload: &Value) {
        let Some(version) = payload["version"].as_i64() else {
            return self.violated("version 1 gets schedules without a version".to_owned());
        };
        let now = self.true_time();
        let Some(old) = &mut self.old else { return };
        if old.version.is_some_and(|before| before > version) {
            return self
                .violated(format!("version 1 gets the schedules {version} after newer ones"));
        }
        old.version = Some(version);
        let has_place = old.config.contains_key("repo_url");
        if !has_place && payload["schedules"].as_array().is_some_and(|all| !all.is_empty()) {
            return self.violated("version 1 gets schedules without a repository".to_owned());
        }
        self.met.count("old agent took its schedules");
        self.old_says("schedule.ack", &json!({"version": version, "applied_at": now}));
    }

    fn old_begins(&mut self, run: RunId, payload: &Value) {
        let now = self.true_time();
        let status = if self.once_in(6) { "failed" } else { "succeeded" };
        let lines = self.dice.below(4);
        let Some(old) = &mut self.old else { return };
        if !old.told.insert(run) {
            return self.violated(format!("version 1 is told twice to do run {}", short(run)));
        }
        let mut says = vec![json!({"job_id": run, "status": status, "exit_code": 0,
            "finished_at": now, "stats": null})];
        for line in (1..=lines).rev() {
            says.push(json!({"job_id": run, "seq": line, "ts": now, "stream": "stdout",
                "payload": "restic says something"}));
        }
        old.jobs.insert(run, says);
        let life = old.life;
        self.met.count("old agent began a run");
        self.old_says("command.result", &json!({"job_id": run, "accepted": true}));
        let started = json!({"job_id": run, "kind": payload["kind"], "started_at": now});
        self.old_says("job.started", &started);
        let wait = self.millis(50, 6_000);
        self.after(wait, Event::Old(Turn::Step(life, run)));
    }

    /// Its line breaks, or it is killed with all that it does.
    pub(super) fn old_goes_wrong(&mut self) {
        let Some(old) = &mut self.old else { return };
        let Some(line) = old.line else { return };
        if let Some(found) = self.lines.get_mut(&line) {
            found.is_cut = true;
        }
        self.drop_messages(line);
        let wait = self.millis(1, 40_000);
        self.after(wait, Event::ToManager(line, None));
        if self.once_in(2) {
            self.met.count("line of an old agent cut");
            let wait = self.millis(1, 20_000);
            self.after(wait, Event::ToAgent(line, None));
            return;
        }
        self.met.count("old agent killed");
        say!(self, "old", "the agent is killed");
        if let Some(old) = &mut self.old {
            old.life += 1;
            old.line = None;
            old.jobs.clear();
            let life = old.life;
            let wait = self.millis(500, 60_000);
            self.after(wait, Event::Old(Turn::Dial(life)));
        }
    }

    /// The admin gives up what an old agent has said nothing of.
    pub(super) async fn give_up_old_runs(&mut self) -> Result<()> {
        let manager = self.up.as_ref().map(|up| up.manager.clone());
        let (Some(manager), Some(old)) = (manager, &self.old) else { return Ok(()) };
        if !self.is_calm || !old.jobs.is_empty() || old.line.is_none() {
            return Ok(());
        }
        for run in runs::open_of_host(manager.db().read(), old.enrolled.host).await? {
            if run.cancel_requested_at.is_none() {
                self.met.count("run of an old agent given up");
                let state = State(manager.clone());
                // It may have ended this very moment.
                let _ = cancel::cancel(Principal::LocalUser, state, PathId(run.id)).await;
            }
        }
        Ok(())
    }

    /// What keeps the old machine from rest.
    pub(super) async fn old_unrest(&self) -> Result<Option<String>> {
        let Some(old) = &self.old else { return Ok(None) };
        let host = hosts::find(self.office.db().read(), old.enrolled.host).await?;
        if !old.jobs.is_empty() || old.line.is_none() {
            return Ok(Some("the old machine is not idle and connected".to_owned()));
        }
        let in_sync = host.is_some_and(|host| host.in_sync());
        Ok((!in_sync).then(|| "the old machine is not in sync".to_owned()))
    }

    /// The manager tells of the old machine what that has, and of its runs what it did, unless that was lost.
    pub(super) async fn check_old(&mut self) -> Result<()> {
        let Some(old) = &self.old else { return Ok(()) };
        let Some(host) = hosts::find(self.office.db().read(), old.enrolled.host).await? else {
            return Ok(());
        };
        let name = &old.enrolled.name;
        let url = format!("rest:https://nas.example:8000/{name}/");
        let mut wrong = Vec::new();
        if old.config.get("repo_url") != Some(&url) {
            wrong.push(format!("{name} has the repository {:?}", old.config.get("repo_url")));
        }
        if old.version != i64::try_from(host.generation).ok() {
            wrong.push(format!("{name} has {:?} of {}", old.version, host.generation));
        }
        let mut before = None;
        loop {
            let db = self.office.db().read();
            let page = runs::list(db, Some(old.enrolled.host), before, 200).await?;
            let Some(last) = page.last() else { break };
            before = Some(last.id);
            for run in page {
                let status = run.status.as_str();
                let own = old.ended.get(&run.id).copied();
                let is_of_manager = matches!(status, "lost" | "cancelled" | "expired");
                if own != Some(status) && !is_of_manager {
                    let run = short(run.id);
                    wrong.push(format!("run {run} of {name} is {status}, and ended {own:?}"));
                }
            }
        }
        for what in wrong {
            self.violated(what);
        }
        Ok(())
    }
}
