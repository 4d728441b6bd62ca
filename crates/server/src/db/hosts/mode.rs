//! Whether a machine is always on, and what else its agent says that decides how it is met.

use super::{DbError, HostState, Tx};
use crate::db::row::Row;
use jiff::SignedDuration;
use protocol::{HostId, HostOs, ProtocolVersion};

/// Whether a machine is on when nobody uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostMode {
    /// A server: that it is off is news.
    AlwaysOn,
    /// A laptop: that it is off says nothing, for some days.
    Intermittent,
}

impl HostMode {
    /// The word in the database and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AlwaysOn => "always_on",
            Self::Intermittent => "intermittent",
        }
    }

    /// What it was said to be, or else what a machine with or without a battery is.
    fn read(row: Row<'_>, chosen: Option<&str>, has_battery: bool) -> Result<Self, DbError> {
        match chosen {
            Some("always_on") => Ok(Self::AlwaysOn),
            Some("intermittent") => Ok(Self::Intermittent),
            Some(_) => Err(row.inconsistent("mode")),
            None => Ok(if has_battery { Self::Intermittent } else { Self::AlwaysOn }),
        }
    }
}

/// How long a machine may go without a backup that was due before somebody should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Whether it is on when nobody uses it.
    pub mode: HostMode,
    /// After how many days an intermittent machine is late.
    pub stale_after_days: u32,
}

impl Patience {
    pub(super) fn read(
        row: Row<'_>,
        chosen: Option<&str>,
        has_battery: bool,
        days: i64,
    ) -> Result<Self, DbError> {
        let mode = HostMode::read(row, chosen, has_battery)?;
        let stale_after_days =
            u32::try_from(days).map_err(|_| row.inconsistent("stale_after_days"))?;
        Ok(Self { mode, stale_after_days })
    }

    /// As a time.
    #[must_use]
    pub fn time(self) -> SignedDuration {
        let days = match self.mode {
            HostMode::AlwaysOn => 1,
            HostMode::Intermittent => self.stale_after_days,
        };
        SignedDuration::from_hours(24 * i64::from(days))
    }

    /// After how many days the machine is late, where that is not its plans' affair alone.
    #[must_use]
    pub fn stale_after_days(self) -> Option<u32> {
        (self.mode == HostMode::Intermittent).then_some(self.stale_after_days)
    }
}

/// Says how long a machine may go without a backup. Says whether there is such a machine.
///
/// # Errors
/// When the database fails.
pub async fn set_patience(tx: &mut Tx, host: HostId, patience: Patience) -> Result<bool, DbError> {
    let (id, mode) = (host.to_string(), patience.mode.as_str());
    let days = i64::from(patience.stale_after_days);
    let done = sqlx::query!(
        "UPDATE hosts SET mode = ?, stale_after_days = ?, revision = revision + 1 \
         WHERE id = ? AND state <> 'removed'",
        mode,
        days,
        id
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Which hooks an agent runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunsHooks {
    /// All that there are. One that has not said what it can do yet is taken to.
    All,
    /// As text, before and after a backup: an agent of version 1.
    TextAround,
    /// None.
    None,
}

impl RunsHooks {
    /// By whether it says so, or has said nothing yet, and by its version.
    pub(super) fn read(says_so: bool, version: ProtocolVersion) -> Self {
        match (says_so, version.has_journal()) {
            (true, _) => Self::All,
            (false, false) => Self::TextAround,
            (false, true) => Self::None,
        }
    }
}

/// What a machine's desired state depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nature {
    /// Its system, by which presets are read.
    pub os: HostOs,
    /// Which hooks its agent runs.
    pub runs_hooks: RunsHooks,
    /// After how many days an intermittent machine is late.
    pub stale_after_days: Option<u32>,
}

/// A revoked host keeps the plans that it had by its tags, so that its snapshots are found; a new plan for one
/// of them does not count it. A removed one leaves both.
pub(super) async fn leave_tags(tx: &mut Tx, host: HostId, state: HostState) -> Result<(), DbError> {
    let id = host.to_string();
    match state {
        HostState::Enrolled => return Ok(()),
        HostState::Revoked => {
            sqlx::query!(
                "INSERT OR IGNORE INTO plan_hosts (plan_id, host_id) \
                 SELECT plan_id, host_id FROM plan_assignments WHERE host_id = ?",
                id
            )
            .execute(&mut **tx)
            .await?;
        }
        HostState::Removed => {
            sqlx::query!("DELETE FROM plan_hosts WHERE host_id = ?", id).execute(&mut **tx).await?;
        }
    }
    sqlx::query!("DELETE FROM host_tags WHERE host_id = ?", id).execute(&mut **tx).await?;
    Ok(())
}
