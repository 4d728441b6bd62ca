//! What hosts need now, as the database says at one moment.

use crate::{
    db::{
        error::DbError,
        hosts::{self, Brief},
        runs::{self, Run},
    },
    desired::{Sources, Stated},
    manager::Manager,
};
use protocol::HostId;
use sqlx::{Connection as _, SqliteConnection};
use std::{collections::BTreeMap, sync::Arc};

/// What a session reads to see what its host is to be told.
#[derive(Clone, Debug)]
pub(crate) struct Needs {
    /// The host.
    pub host: Brief,
    /// What its desired state is made from.
    pub stated: Arc<Stated>,
    /// Its runs that have not ended, oldest first.
    pub open: Vec<Run>,
}

/// What this host needs; `None` where there is no such host.
pub(super) async fn of(manager: &Manager, host: HostId) -> Result<Option<Needs>, DbError> {
    let needs = &manager.batches().needs;
    Ok(needs.ask(host, |hosts| read_now(manager, hosts)).await?.flatten())
}

async fn read_now(manager: &Manager, ids: Vec<HostId>) -> Result<Vec<Option<Needs>>, DbError> {
    let mut reader = manager.db().read().acquire().await?;
    // One transaction: of what changes meanwhile either all is seen or nothing.
    let mut tx = reader.begin().await?;
    let found = hosts::briefs(&mut *tx, &ids).await?;
    let needs = read(&mut tx, found).await?;
    tx.commit().await?;
    Ok(ids.iter().map(|host| needs.get(host).cloned()).collect())
}

/// What these hosts need, which were read in this transaction.
pub(super) async fn read(
    db: &mut SqliteConnection,
    hosts: Vec<Brief>,
) -> Result<BTreeMap<HostId, Needs>, DbError> {
    let ids: Vec<HostId> = hosts.iter().map(|host| host.id).collect();
    let mut stated = Sources::of_hosts(db, &hosts).await?;
    let mut open: BTreeMap<HostId, Vec<Run>> = BTreeMap::new();
    for run in runs::open_of_hosts(&mut *db, &ids).await? {
        open.entry(run.host_id).or_default().push(run);
    }
    let needs = hosts.into_iter().filter_map(|host| {
        let stated = stated.remove(&host.id)?;
        let open = open.remove(&host.id).unwrap_or_default();
        Some((host.id, Needs { host, stated, open }))
    });
    Ok(needs.collect())
}
