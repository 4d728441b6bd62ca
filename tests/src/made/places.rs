//! Where the made machines' backups go, and by which plans.

use super::{
    cast::{Fate, Machine},
    dice::Dice,
    millis,
};
use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use protocol::{HostId, HostOs, PlanId, PlanOptions, RepositoryId, Retention};
use server::{
    db::{
        Tx, audit,
        plans::{self, Plan},
        repositories::{self, Repository, credential_place, password_place},
        tags,
    },
    vault::Vault,
};
use std::collections::BTreeMap;

/// Plans that several machines have, by name.
pub(super) type Shared = BTreeMap<&'static str, (RepositoryId, PlanId)>;

/// A repository and plans for a machine, or those that it shares.
pub(super) async fn make(
    tx: &mut Tx,
    vault: &Vault,
    machine: &Machine,
    host: HostId,
    at: Timestamp,
    dice: &mut Dice,
    shared: &mut Shared,
) -> Result<(RepositoryId, Vec<PlanId>)> {
    // What stands where many come by may add and no more.
    let append_only = machine.os == HostOs::Windows;
    if let Some(name) = machine.shared_plan {
        let there = shared.get(name).copied();
        let (repository, plan) = match there {
            Some(there) => there,
            None => {
                let repository =
                    self::repository(tx, vault, &name.to_lowercase(), append_only, at, dice)
                        .await?;
                let plan = self::plan(tx, name, machine.paths, repository, at, dice).await?;
                tags::set_of_plan(tx, plan, &[tag(name)]).await?;
                shared.insert(name, (repository, plan));
                (repository, plan)
            }
        };
        tags::set_of_host(tx, host, &[tag(name)]).await?;
        return Ok((repository, vec![plan]));
    }
    let repository = self::repository(tx, vault, &machine.name, append_only, at, dice).await?;
    if machine.fate == Fate::Unplanned {
        return Ok((repository, Vec::new()));
    }
    // The one that is looked at most has a plan for each of its paths.
    let several: Vec<(String, &[&str])> = if machine.fate == Fate::Running {
        machine.paths.chunks(1).map(|one| (last_word(one[0]), one)).collect()
    } else {
        vec![(machine.name.clone(), machine.paths)]
    };
    let mut ids = Vec::new();
    for (name, paths) in several {
        let name = if machine.fate == Fate::Running {
            format!("{} {name}", machine.name)
        } else {
            format!("{name} files")
        };
        let plan = self::plan(tx, &name, paths, repository, at, dice).await?;
        plans::assign(tx, plan, host).await?;
        ids.push(plan);
    }
    Ok((repository, ids))
}

/// The tag by which machines have the plan of this name.
fn tag(name: &str) -> String {
    name.to_lowercase().replace(' ', "-")
}

fn last_word(path: &str) -> String {
    path.rsplit(['/', '\\']).next().unwrap_or(path).to_owned()
}

async fn repository(
    tx: &mut Tx,
    vault: &Vault,
    name: &str,
    append_only: bool,
    at: Timestamp,
    dice: &mut Dice,
) -> Result<RepositoryId> {
    let created_at = at - SignedDuration::from_mins(11);
    let id = RepositoryId::new(millis(created_at), &dice.ten());
    let repository = Repository {
        id,
        name: name.to_owned(),
        url: format!("rest:https://vault.home.arpa:8000/{name}/"),
        username: Some(name.to_owned()),
        password_sealed: vault.seal(&password_place(id), dice.hex_id().as_bytes())?,
        credential_sealed: Some(vault.seal(&credential_place(id), dice.hex_id().as_bytes())?),
        ca_pem: None,
        append_only,
        store_host_id: None,
        created_at,
        updated_at: created_at,
        initialised_at: None,
        revision: 0,
    };
    repositories::insert(tx, &repository).await?;
    let subject = format!("repository:{id}");
    audit::insert(tx, created_at, "admin", "repository.create", &subject, name).await?;
    Ok(id)
}

async fn plan(
    tx: &mut Tx,
    name: &str,
    paths: &[&str],
    repository: RepositoryId,
    at: Timestamp,
    dice: &mut Dice,
) -> Result<PlanId> {
    let created_at = at - SignedDuration::from_mins(10);
    let id = PlanId::new(millis(created_at), &dice.ten());
    let retention = Retention {
        keep_last: None,
        keep_hourly: None,
        keep_daily: Some(30),
        keep_weekly: Some(12),
        keep_monthly: Some(12),
        keep_yearly: None,
        keep_within: None,
    };
    let plan = Plan {
        id,
        name: name.to_owned(),
        repository_id: Some(repository),
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        excludes: vec!["*.tmp".to_owned(), "**/.cache".to_owned()],
        presets: Vec::new(),
        tags: Vec::new(),
        retention: Some(retention),
        options: PlanOptions::default(),
        cron: "0 2 * * *".to_owned(),
        enabled: true,
        created_at,
        updated_at: created_at,
        revision: 0,
    };
    plans::insert(tx, &plan).await?;
    audit::insert(tx, created_at, "admin", "plan.create", &format!("plan:{id}"), name).await?;
    Ok(id)
}
