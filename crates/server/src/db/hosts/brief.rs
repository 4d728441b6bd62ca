//! As much of hosts as decides what their sessions tell them: it is read at every hello and every wake.

use super::{HostState, Nature, Patience, RunsHooks, hold};
use crate::db::{
    error::DbError,
    row::{Row, to_json, uncount},
};
use protocol::{Generation, Hold, HostId, Incarnation, ProtocolVersion};
use sqlx::SqliteExecutor;

/// As much of a host as decides what its session tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Brief {
    /// The host.
    pub id: HostId,
    /// Where it stands.
    pub state: HostState,
    /// Set while the admin must decide.
    pub hold: Option<Hold>,
    /// What its desired state depends on.
    pub nature: Nature,
    /// The number of the generation of its desired state, 0 before there is one.
    pub generation: u64,
    /// The digest of its desired state.
    pub desired_digest: Option<String>,
    /// The generation that the agent last applied.
    pub acked_generation: u64,
    /// The digest that the agent last applied.
    pub acked_digest: Option<String>,
}

impl Brief {
    /// Whether the agent has applied the newest desired state.
    #[must_use]
    pub fn in_sync(&self) -> bool {
        self.generation == self.acked_generation && self.desired_digest == self.acked_digest
    }

    /// The generation of its desired state, as the wire has it.
    #[must_use]
    pub fn generation(&self, incarnation: Incarnation) -> Generation {
        Generation { incarnation, n: self.generation }
    }
}

pub(super) struct BriefRow {
    pub(super) id: String,
    pub(super) state: String,
    pub(super) hold_code: Option<String>,
    pub(super) hold_message: Option<String>,
    pub(super) generation: i64,
    pub(super) desired_digest: Option<String>,
    pub(super) acked_generation: i64,
    pub(super) acked_digest: Option<String>,
    pub(super) os: String,
    pub(super) protocol_version: i64,
    pub(super) runs_hooks: bool,
    pub(super) mode: Option<String>,
    pub(super) has_battery: bool,
    pub(super) stale_after_days: i64,
}

impl TryFrom<BriefRow> for Brief {
    type Error = DbError;

    fn try_from(host: BriefRow) -> Result<Self, DbError> {
        let row = Row { table: "hosts", id: &host.id };
        let version = u16::try_from(host.protocol_version)
            .map_err(|_| row.inconsistent("protocol_version"))?;
        let (mode, days) = (host.mode.as_deref(), host.stale_after_days);
        let patience = Patience::read(row, mode, host.has_battery, days)?;
        Ok(Self {
            id: row.parse("id", &host.id)?,
            state: HostState::read(row, &host.state)?,
            hold: hold(row, host.hold_code.as_deref(), host.hold_message)?,
            nature: Nature {
                os: row.word("os", &host.os)?,
                runs_hooks: RunsHooks::read(host.runs_hooks, ProtocolVersion(version)),
                stale_after_days: patience.stale_after_days(),
            },
            generation: uncount(host.generation),
            desired_digest: host.desired_digest,
            acked_generation: uncount(host.acked_generation),
            acked_digest: host.acked_digest,
        })
    }
}

/// The columns of [`BriefRow`], between the two ends of a statement.
macro_rules! brief_rows {
    ($head:literal, $tail:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            crate::db::hosts::brief::BriefRow,
            $head + " id, state, hold_code, hold_message, generation, desired_digest, \
             acked_generation, acked_digest, os, protocol_version, capabilities IS NULL OR EXISTS \
             (SELECT 1 FROM json_each(capabilities) WHERE value = 'hooks') AS \"runs_hooks!: bool\", \
             mode, has_battery AS \"has_battery: bool\", stale_after_days " + $tail
            $(, $argument)*
        )
    };
}

/// One host, if it is a removed one too.
///
/// # Errors
/// When the database fails, or has no such host.
pub async fn brief(db: impl SqliteExecutor<'_>, host: HostId) -> Result<Brief, DbError> {
    let found = briefs(db, &[host]).await?.pop();
    found.ok_or_else(|| DbError::inconsistent("hosts", "id", host))
}

/// These hosts, removed ones too.
///
/// # Errors
/// When the database fails.
pub async fn briefs(db: impl SqliteExecutor<'_>, hosts: &[HostId]) -> Result<Vec<Brief>, DbError> {
    let ids = to_json("hosts", "id", "many", hosts)?;
    let rows =
        brief_rows!("SELECT", "FROM hosts WHERE id IN (SELECT value FROM json_each(?))", ids)
            .fetch_all(db)
            .await?;
    rows.into_iter().map(Brief::try_from).collect()
}
