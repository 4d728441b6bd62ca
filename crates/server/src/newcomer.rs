//! A machine that comes in, whichever way it was let in: by a one-time token, or because it asked and
//! the admin approved.

use crate::{
    db::{
        Tx, audit,
        error::DbError,
        hosts::{self, Fingerprint, NewHost},
        manager as identity_rows, plans,
    },
    desired::{self, DesiredError},
    manager::Manager,
};
use protocol::{EnrolResponse, HostArch, HostId, HostOs, PlanId, ProtocolVersion};

/// What a machine says of itself when it comes, made safe to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newcomer {
    /// The SHA-256 of the SPKI of its key, with which its connection was made.
    pub key: Fingerprint,
    /// What it calls itself.
    pub hostname: String,
    /// Its operating system.
    pub os: HostOs,
    /// Its architecture.
    pub arch: HostArch,
    /// The version of its agent.
    pub agent_version: String,
    /// The protocol that its agent speaks.
    pub protocol_version: ProtocolVersion,
}

/// Makes a host of a machine, under the name that the admin chose for it and with this plan.
///
/// # Errors
/// When the database fails.
pub async fn take_in(
    manager: &Manager,
    tx: &mut Tx,
    name: &str,
    newcomer: &Newcomer,
    plan: Option<PlanId>,
) -> Result<HostId, DesiredError> {
    let (host, now) = (manager.new_id::<HostId>(), manager.now());
    let new = NewHost {
        id: host,
        name,
        hostname: &newcomer.hostname,
        os: newcomer.os,
        arch: newcomer.arch,
        agent_version: &newcomer.agent_version,
        protocol_version: newcomer.protocol_version,
        key_fingerprint: newcomer.key,
        enrolled_at: now,
    };
    hosts::insert(tx, &new).await?;
    audit::insert(tx, now, "agent", "host.enrol", &format!("host:{host}"), name).await?;
    if let Some(plan) = plan {
        plans::assign(tx, plan, host).await?;
    }
    desired::touch_hosts_anyway(manager, tx, &[host]).await?;
    Ok(host)
}

/// What a machine learns when it is let in as this host.
///
/// # Errors
/// When the database fails.
pub async fn answer(manager: &Manager, host_id: HostId) -> Result<EnrolResponse, DbError> {
    Ok(EnrolResponse {
        host_id,
        manager: manager.identity().manager(),
        addresses: identity_rows::addresses(manager.db().read()).await?,
    })
}
