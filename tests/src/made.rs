//! A made fleet: machines, plans, repositories, runs, snapshots and what is told of them, written
//! through the server's own functions into the data folder of a manager that does not run.
//!
//! The same seed and the same `now` make the same fleet, to the ids. Nobody's data is in it. What
//! no database can hold, machines that are connected and a run that is going, [`player`] adds once
//! the manager runs.

mod cast;
mod history;
mod places;
pub mod player;
mod stored;

pub use stored::fill_store;

use crate::dice::{self, Dice};
use anyhow::{Context as _, Result, ensure};
use cast::{Fate, Machine};
use jiff::{SignedDuration, Timestamp};
use protocol::{
    AwakeInterval, Code, Hello, Hold, HostId, PROTOCOL_VERSION, PlanId, RepositoryId, RunId,
};
use server::{
    db::{
        Db, Tx, audit,
        hosts::{self, Heard, HostState, NewHost},
        notices::{self, NewNotice},
        slots,
    },
    desired::{self, Sources},
    vault::{FileKeyStore, Vault},
};
use sha2::{Digest as _, Sha256};
use std::path::Path;

/// Where all of it is.
const ZONE: &str = "Europe/Berlin";

/// What is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// How many machines.
    pub machines: usize,
    /// The present, which everything is dated by.
    pub now: Timestamp,
    /// Another number makes another fleet.
    pub seed: u64,
}

/// A made machine with its ids.
struct Made {
    machine: Machine,
    host: HostId,
    plans: Vec<PlanId>,
    repository: RepositoryId,
    enrolled_at: Timestamp,
}

/// Fills the data folder of a manager that was initialised and does not run.
///
/// # Errors
/// When there is no manager in the folder, there are machines already, or its database fails.
pub async fn fill(data_dir: &Path, wanted: &Wanted) -> Result<()> {
    let (db, vault) = open(data_dir).await?;
    let there = hosts::list(db.read()).await?.len();
    ensure!(there == 0, "the manager has {there} machines already");
    let mut tx = db.begin().await?;
    let mut dice = Dice::new(wanted.seed);
    let mut shared = places::Shared::default();
    for (index, machine) in cast::machines(wanted.machines, &mut dice).into_iter().enumerate() {
        let made = enrol(&mut tx, &vault, machine, index, wanted, &mut dice, &mut shared).await?;
        history::write(&mut tx, &made, wanted.now, &mut dice).await?;
        finish(&mut tx, &made, wanted.now, &mut dice).await?;
    }
    signed_in(&mut tx, wanted.now).await?;
    tx.commit().await?;
    db.close().await;
    Ok(())
}

/// What a manager that does not run keeps.
async fn open(data_dir: &Path) -> Result<(Db, Vault)> {
    let path = data_dir.join("server.db");
    ensure!(path.exists(), "there is no manager in {}", data_dir.display());
    let db = Db::open(&path).await?;
    let vault = Vault::open(&FileKeyStore::new(data_dir.join("vault.key")), false)
        .context("failed to open the manager's vault")?;
    Ok((db, vault))
}

async fn enrol(
    tx: &mut Tx,
    vault: &Vault,
    machine: Machine,
    index: usize,
    wanted: &Wanted,
    dice: &mut Dice,
    shared: &mut places::Shared,
) -> Result<Made> {
    let age = if machine.fate.is_fresh() { 0 } else { 24 * 91 + i64::try_from(dice.below(600))? };
    let minutes = 20 + i64::try_from(dice.below(40))?;
    let enrolled_at =
        wanted.now - SignedDuration::from_hours(age) - SignedDuration::from_mins(minutes);
    let key = player::key(wanted.seed, index)?;
    let host = HostId::new(millis(enrolled_at), &dice.ten());
    let new = NewHost {
        id: host,
        name: &machine.name,
        hostname: &machine.name,
        os: machine.os,
        arch: machine.arch,
        agent_version: "0.1.0",
        protocol_version: PROTOCOL_VERSION,
        key_fingerprint: Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(&key)).into(),
        enrolled_at,
    };
    hosts::insert(tx, &new).await?;
    let detail = machine.name.clone();
    audit::insert(tx, enrolled_at, "agent", "host.enrol", &format!("host:{host}"), &detail).await?;
    let (repository, plans) =
        places::make(tx, vault, &machine, host, enrolled_at, dice, shared).await?;
    Ok(Made { machine, host, plans, repository, enrolled_at })
}

/// What the machine itself was last known to be.
async fn finish(tx: &mut Tx, made: &Made, now: Timestamp, dice: &mut Dice) -> Result<()> {
    let Made { machine, host, .. } = made;
    let seen = now - machine.fate.silence(dice);
    let hello = hello(machine, now);
    let heard = Heard { host: *host, hello: &hello, has_told_all: false, tickets: None };
    hosts::note_hellos(tx, &[heard], seen.max(made.enrolled_at)).await?;
    desired::restate(tx, &[*host], made.enrolled_at).await?;
    let stored = hosts::find(&mut **tx, *host).await?.context("the host was just entered")?;
    if let (true, Some(digest)) = (machine.fate.knows_plans(), stored.desired_digest) {
        let at = made.enrolled_at + SignedDuration::from_secs(9);
        hosts::acknowledge(tx, *host, stored.generation, &digest, at).await?;
        let times = Sources::read(tx, *host).await?.times();
        slots::apply(tx, *host, stored.generation, &times, ZONE, at).await?;
        slots::note_awake(tx, *host, &AwakeInterval { from: at, until: seen }).await?;
        hosts::note_seen(tx, *host, true, seen).await?;
    }
    decide(tx, made, now, dice).await
}

/// What a person has to decide about it, or has decided.
async fn decide(tx: &mut Tx, made: &Made, now: Timestamp, dice: &mut Dice) -> Result<()> {
    let Made { machine, host, .. } = made;
    if machine.fate == Fate::Held {
        let message = "Two machines use this identity: one of them is a copy of the other.";
        let hold = Hold { code: Code::CloneSuspected, message: message.to_owned() };
        hosts::set_hold(tx, *host, &hold).await?;
    }
    if machine.fate == Fate::Revoked {
        hosts::set_state(tx, *host, HostState::Revoked).await?;
        let at = now - SignedDuration::from_hours(24 * 16);
        let subject = format!("host:{host}");
        audit::insert(tx, at, "admin", "host.revoke", &subject, &machine.name).await?;
    }
    if machine.fate == Fate::Behind {
        let notice = NewNotice::of_host(
            *host,
            Code::AgentBehind,
            "The machine was set back to an earlier state; it sent its newest records again.",
        )
        .guidance("Nothing is lost. If a disk image was restored there, put this away.");
        let id = RunId::new(millis(now), &dice.ten()).as_uuid();
        notices::open(tx, id, &notice, now - SignedDuration::from_hours(5)).await?;
    }
    Ok(())
}

/// What a made machine says of itself, without journal and ticket.
fn hello(machine: &Machine, now: Timestamp) -> Hello {
    Hello {
        protocol_version: PROTOCOL_VERSION,
        agent_version: "0.1.0".to_owned(),
        restic_version: machine.restic.to_owned(),
        hostname: machine.name.clone(),
        os: machine.os,
        arch: machine.arch,
        boot_time: Some(now - SignedDuration::from_hours(24 * 11)),
        capabilities: vec!["hooks".to_owned()],
        requires: Vec::new(),
        time_zone: Some(ZONE.to_owned()),
        time_zone_data: None,
        journal: None,
        manager: None,
        ticket: None,
        open_runs: Vec::new(),
        awake_since: None,
        has_battery: Some(machine.os == protocol::HostOs::Darwin),
    }
}

async fn signed_in(tx: &mut Tx, now: Timestamp) -> Result<()> {
    for days in [6, 3, 1] {
        let at = now - SignedDuration::from_hours(24 * days + 2);
        audit::insert(tx, at, "admin", "session.open", "", "from 127.0.0.1").await?;
    }
    Ok(())
}

/// A time as ids carry it; what lies before 1970 is nobody's.
fn millis(time: Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or_default()
}
