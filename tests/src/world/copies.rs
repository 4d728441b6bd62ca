//! What was there once is there again: a state folder that runs twice, one that is put back, and a
//! manager's database that is put back or has a copy that somebody opens elsewhere.
//!
//! Each of these happens in some of the worlds only, and there once. From then on both sides may tell
//! different things of what was done twice or forgotten; that they do must never be silent, and the admin
//! decides how it goes on.

use super::{Event, World, disk::Disk, machine::Machine, office::Files, say, template::refused};
use anyhow::Result;
use axum::extract::State;
use protocol::{HostId, JobStatus};
use server::{
    api::{extract::PathId, hosts::release},
    auth::Principal,
    db::{hosts, journals},
};
use sha2::{Digest as _, Sha256};
use std::time::Duration;

/// What is copied in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tale {
    /// Nothing.
    Plain,
    /// A state folder, and the copy runs beside the original.
    Clone,
    /// A state folder, which is put back.
    StateBack,
    /// The manager's database, which is put back.
    DatabaseBack,
    /// The manager's database, and a second manager with the copy answers for a while.
    SecondManager,
}

impl Tale {
    /// The tale of a world: most have none.
    pub fn draw(number: u64) -> Self {
        match number {
            0 => Self::Clone,
            1 => Self::StateBack,
            2 => Self::DatabaseBack,
            3 => Self::SecondManager,
            _ => Self::Plain,
        }
    }
}

/// What comes next in a tale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The copy is made.
    Copy,
    /// It is used.
    Use,
    /// The manager that was there first answers again.
    Return,
}

/// What a tale is about.
#[derive(Debug)]
pub enum Copied {
    /// The state folder of a machine.
    State(usize, Box<Disk>),
    /// The manager's database.
    Database(Files),
}

impl World {
    pub(super) async fn play(&mut self, act: Act) -> Result<()> {
        match (act, self.tale) {
            (_, Tale::Plain) => Ok(()),
            (Act::Copy | Act::Use, _) if self.is_calm && self.copied.is_none() => Ok(()),
            (Act::Copy, tale) => {
                self.make_copy(tale)?;
                let wait = self.millis(3_000, 240_000);
                self.after(wait, Event::Act(Act::Use));
                Ok(())
            }
            (Act::Use, _) => match self.copied.take() {
                Some(Copied::State(machine, disk)) if self.tale == Tale::Clone => {
                    self.begin_twin(machine, *disk);
                    Ok(())
                }
                Some(Copied::State(machine, disk)) => self.put_state_back(machine, *disk).await,
                Some(Copied::Database(files)) => self.put_database_back(files).await,
                None => Ok(()),
            },
            (Act::Return, _) => match self.copied.take() {
                Some(Copied::Database(files)) => {
                    say!(self, "world", "the manager that was there first answers again");
                    self.replace_database(&files).await
                }
                Some(Copied::State(..)) | None => Ok(()),
            },
        }
    }

    /// Nothing goes wrong any more: the manager that was there first is back, and what was not used yet is
    /// not used any more.
    pub(super) async fn end_tale(&mut self) -> Result<()> {
        if self.tale == Tale::SecondManager && self.seen.rewound {
            self.play(Act::Return).await?;
        }
        self.copied = None;
        Ok(())
    }

    fn make_copy(&mut self, tale: Tale) -> Result<()> {
        let copied = match tale {
            Tale::Plain => return Ok(()),
            Tale::Clone | Tale::StateBack => {
                let machine = usize::try_from(self.dice.below(self.machines.len() as u64))?;
                say!(self, self.machines[machine].name(), "its state folder is copied");
                Copied::State(machine, Box::new(self.machines[machine].disk.clone()))
            }
            Tale::DatabaseBack | Tale::SecondManager => {
                say!(self, "manager", "its database is copied");
                Copied::Database(self.office.copy()?)
            }
        };
        self.copied = Some(copied);
        Ok(())
    }

    /// A second machine starts with a copy of what the first one had.
    fn begin_twin(&mut self, original: usize, disk: Disk) {
        let it = &self.machines[original];
        let mut enrolled = it.enrolled.clone();
        let host = enrolled.host;
        enrolled.name.push('b');
        let mut twin = Machine::new(enrolled, &mut self.dice, self.began, false);
        twin.disk = disk;
        twin.twin_of = Some(original);
        // Its clock may be behind the one by which the folder was written.
        twin.put_back = it.put_back + 1;
        self.met.count("state folder copied to a second machine");
        say!(self, twin.name(), "is a copy of {}", self.machines[original].name());
        self.seen.retold.insert(host);
        self.machines.push(twin);
        let new = self.machines.len() - 1;
        self.learn_alarms(new);
        self.after(Duration::ZERO, Event::Boot(new));
    }

    async fn put_state_back(&mut self, machine: usize, disk: Disk) -> Result<()> {
        let host = self.machines[machine].enrolled.host;
        self.kill_agent(machine);
        self.end_processes(machine);
        self.met.count("state folder put back");
        say!(
            self,
            self.machines[machine].name(),
            "its state folder is put back; its journal stood at {} and stands at {} again",
            self.machines[machine].disk.journal().head,
            disk.journal().head
        );
        let it = &mut self.machines[machine];
        it.disk = disk;
        it.put_back += 1;
        it.restored += 1;
        self.learn_alarms(machine);
        self.seen.forget_machine(machine);
        self.seen.retold.insert(host);
        if self.differs(machine).await? {
            self.seen.tells.insert(host);
        }
        Ok(())
    }

    async fn put_database_back(&mut self, files: Files) -> Result<()> {
        if self.tale == Tale::SecondManager {
            self.met.count("second manager with a copied identity");
            say!(self, "world", "a second manager answers, with a copy of the database");
            let first = self.office.copy()?;
            self.replace_database(&files).await?;
            // What the second one would have told counts for nothing once the first one is back.
            self.seen.tells.clear();
            self.copied = Some(Copied::Database(first));
            let wait = self.millis(20_000, 400_000);
            self.after(wait, Event::Act(Act::Return));
            return Ok(());
        }
        self.met.count("manager's database put back");
        say!(self, "manager", "its database is put back");
        self.replace_database(&files).await
    }

    async fn replace_database(&mut self, files: &Files) -> Result<()> {
        self.kill_office();
        self.office.replace(files).await?;
        self.seen.rewound = true;
        self.seen.forget_acknowledged();
        for machine in 0..self.machines.len() {
            if self.differs(machine).await? {
                let host = self.machines[machine].enrolled.host;
                self.seen.tells.insert(host);
            }
        }
        Ok(())
    }

    /// Whether what a machine has on its disk and what the manager has in its database tell by themselves
    /// that one of them is an older copy.
    async fn differs(&self, machine: usize) -> Result<bool> {
        let it = &self.machines[machine];
        let db = self.office.db().read();
        let Some(host) = hosts::find(db, it.enrolled.host).await? else { return Ok(false) };
        let journal = it.disk.journal();
        let cursor = journals::cursor(db, host.id, journal.id, [0; 2]).await?;
        let cursor = cursor.map(|(cursor, _)| cursor.seq);
        let shown: Option<[u8; 32]> =
            it.disk.ticket().map(|ticket| Sha256::digest(ticket.expose_secret().as_bytes()).into());
        let tickets = [host.tickets.confirmed, host.tickets.pending];
        let is_wrong = host.tickets.confirmed.is_some() && !tickets.contains(&shown);
        let is_behind = cursor.is_some_and(|seq| seq > journal.head || seq < journal.acked);
        Ok(is_wrong || is_behind)
    }

    /// The admin looks at the machines that wait for a decision.
    pub(super) async fn decide(&mut self) -> Result<()> {
        let Some(manager) = self.up.as_ref().map(|up| up.manager.clone()) else { return Ok(()) };
        let mut held: Vec<(HostId, protocol::Hold)> = Vec::new();
        for machine in &self.machines {
            let found = hosts::find(manager.db().read(), machine.enrolled.host).await?;
            if let Some(hold) = found.and_then(|host| host.hold)
                && held.iter().all(|(host, _)| *host != machine.enrolled.host)
            {
                held.push((machine.enrolled.host, hold));
            }
        }
        for (host, hold) in held {
            let is_affected = self.seen.rewound || self.seen.retold.contains(&host);
            if !is_affected {
                self.violated(format!("a machine is held without reason: {}", hold.message));
                return Ok(());
            }
            // A person takes a moment.
            if !self.once_in(3) || !self.end_twin(host) {
                continue;
            }
            say!(self, "admin", "releases what was held: {}", hold.code);
            let released =
                release::release(Principal::LocalUser, State(manager.clone()), PathId(host));
            released.await.map(drop).map_err(refused)?;
            self.met.count(if hold.code == protocol::Code::ManagerBehind {
                "machine adopted by a manager with an older database"
            } else if hold.code == protocol::Code::JournalForked {
                "machine released whose journal told another history"
            } else {
                "machine released whose ticket was not the last"
            });
        }
        self.poke_all();
        Ok(())
    }

    /// Of two machines with one identity the admin takes one away, once both are held. Says whether there
    /// is one left.
    fn end_twin(&mut self, host: HostId) -> bool {
        let both: Vec<usize> = (0..self.machines.len())
            .filter(|at| self.machines[*at].enrolled.host == host && !self.machines[*at].is_gone)
            .collect();
        let &[first, second] = both.as_slice() else { return true };
        if !(self.machines[first].is_held && self.machines[second].is_held) {
            return false;
        }
        self.met.count("two machines with one identity held");
        let goes = if self.once_in(2) { first } else { second };
        say!(self, "admin", "takes {} away", self.machines[goes].name());
        self.kill_agent(goes);
        self.end_processes(goes);
        self.machines[goes].is_gone = true;
        true
    }

    /// Whether two machines still have one identity.
    pub(super) fn has_twins(&self) -> bool {
        let twins = self.machines.iter().filter_map(|it| Some((it, it.twin_of?)));
        twins.into_iter().any(|(twin, of)| !twin.is_gone && !self.machines[of].is_gone)
    }

    /// What both sides could tell from what they have was told to the admin.
    pub(super) async fn check_told(&mut self) -> Result<()> {
        for host in self.seen.tells.clone() {
            let told: i64 = sqlx::query_scalar("SELECT count(*) FROM notices WHERE host_id = ?")
                .bind(host.to_string())
                .fetch_one(self.office.db().read())
                .await?;
            if told == 0 {
                self.violated(format!(
                    "nobody was told that what machine {host} or its manager has is an older copy"
                ));
            }
        }
        Ok(())
    }
}

/// Whether a manager may say this of a run of which its agent, or a copy of that, says something else.
pub fn may_differ(status: JobStatus, is_retold: bool, is_rewound: bool) -> bool {
    match status {
        // The manager's own words, of what nobody remembered when they were said.
        JobStatus::Lost => is_retold || is_rewound,
        JobStatus::Expired | JobStatus::Cancelled => is_rewound,
        JobStatus::Queued
        | JobStatus::Running
        | JobStatus::Succeeded
        | JobStatus::Failed
        | JobStatus::Partial
        | JobStatus::Interrupted
        | JobStatus::Unknown => false,
    }
}
