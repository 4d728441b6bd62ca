//! The desired state: what an agent shall protect, and with what. It reaches the agent as
//! `config.update` followed by `schedule.set`; from version 2 on both carry one generation and are
//! complete documents.

use crate::{
    AlarmChannel, Incarnation, JobKind, Patch, PlanId, PlanOptions, RepositoryId, Secret,
    absent::empty_when_null, expose,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The place of a desired state in its manager's series for this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Generation {
    /// The life of the manager's database.
    pub incarnation: Incarnation,
    /// 1, 2, 3, … within that life and host.
    pub n: u64,
}

/// How long snapshots are kept: restic's own policies. Every absent field keeps nothing by itself,
/// and a policy without any field is refused before restic is asked. One with a field that is not
/// known here cannot be read: whoever dropped the field would remove what it keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// The newest n.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<u32>,
    /// The newest of each of the last n hours that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_hourly: Option<u32>,
    /// The newest of each of the last n days that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_daily: Option<u32>,
    /// The newest of each of the last n weeks that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_weekly: Option<u32>,
    /// The newest of each of the last n months that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_monthly: Option<u32>,
    /// The newest of each of the last n years that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_yearly: Option<u32>,
    /// Everything within this time of the newest, in restic's form such as `1y5m7d2h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_within: Option<String>,
}

impl Retention {
    /// Whether the policy would keep nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let counts = [
            self.keep_last,
            self.keep_hourly,
            self.keep_daily,
            self.keep_weekly,
            self.keep_monthly,
            self.keep_yearly,
        ];
        counts.iter().all(|count| count.unwrap_or(0) == 0)
            && self.keep_within.as_deref().unwrap_or("").is_empty()
    }
}

/// One plan as compiled for one host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The plan.
    pub id: PlanId,
    /// What it runs.
    pub kind: JobKind,
    /// Five-field cron in the host's time zone; empty for a plan that only runs by hand.
    pub cron_expr: String,
    /// What to back up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// restic exclude patterns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excludes: Vec<String>,
    /// Tags beside the plan's and the run's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// A [`Retention`]; kept raw so that a newer manager's fields survive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_policy: Option<Value>,
    /// A [`PlanOptions`]; kept raw so that a newer manager's fields survive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<Value>,
    /// Version 1's text of a hook before the backup.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pre_hook: String,
    /// Version 1's text of a hook at the end.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub post_hook: String,
    /// Whether it may run.
    pub enabled: bool,
    /// A name for logs (since version 2).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where the snapshots go (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<RepositoryId>,
}

impl Schedule {
    /// The retention policy, if there is one.
    ///
    /// # Errors
    /// When the raw policy does not fit [`Retention`].
    pub fn retention(&self) -> Result<Option<Retention>, serde_json::Error> {
        self.retention_policy.clone().map(serde_json::from_value).transpose()
    }

    /// How its backups run.
    ///
    /// # Errors
    /// When the raw options do not fit [`PlanOptions`].
    pub fn options(&self) -> Result<PlanOptions, serde_json::Error> {
        self.options.clone().map(serde_json::from_value).transpose().map(Option::unwrap_or_default)
    }
}

/// All schedules of a host (`schedule.set`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleSet {
    /// Version 1's counter; equal to `generation.n` from version 2 on.
    pub version: i64,
    /// The complete list.
    #[serde(default, deserialize_with = "empty_when_null")]
    pub schedules: Vec<Schedule>,
    /// The desired state that this belongs to (since version 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    /// The manager's digest of that desired state, opaque to the agent (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// A desired state was applied (`schedule.ack`, durable).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleAck {
    /// The `version` of the [`ScheduleSet`].
    pub version: i64,
    /// When.
    pub applied_at: Timestamp,
    /// Its generation (since version 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    /// Its digest, as the manager gave it (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The time zone in which its plans run, as in `hello`. When the machine's zone changes the same generation is
    /// acknowledged once more (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// A repository as an agent needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryConfig {
    /// The repository.
    pub id: RepositoryId,
    /// A name for logs.
    pub name: String,
    /// restic's location, without credentials.
    pub url: String,
    /// The user name for the repository's server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password for the repository's server.
    #[serde(default, serialize_with = "expose", skip_serializing_if = "Option::is_none")]
    pub credential: Option<Secret<String>>,
    /// The repository's own password.
    #[serde(serialize_with = "expose")]
    pub password: Secret<String>,
    /// The authority that signed the repository server's certificate, in PEM; absent for the
    /// system's own list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
}

/// Where backups go (`config.update`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConfigUpdate {
    /// Version 1: the host's only repository.
    #[serde(default, skip_serializing_if = "Patch::is_leave")]
    pub repo_url: Patch<String>,
    /// Version 1: its password.
    #[serde(default, serialize_with = "expose", skip_serializing_if = "Patch::is_leave")]
    pub repo_password: Patch<Secret<String>>,
    /// Version 1: the user name for its server.
    #[serde(default, skip_serializing_if = "Patch::is_leave")]
    pub repo_username: Patch<String>,
    /// Version 1: the password for its server.
    #[serde(default, serialize_with = "expose", skip_serializing_if = "Patch::is_leave")]
    pub repo_credential: Patch<Secret<String>>,
    /// Version 1: the shell for inline hooks; never used by this agent.
    #[serde(default, skip_serializing_if = "Patch::is_leave")]
    pub hook_shell: Patch<String>,
    /// The desired state that this belongs to (since version 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    /// All repositories of the host (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repositories: Option<Vec<RepositoryConfig>>,
    /// Where the manager can be dialled, each `host:port`, best first. Those of the enrolment stay
    /// behind them, so that a wrong list strands nobody (since 2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// The ways by which the agent itself tells people that a plan failed or is overdue; only for agents
    /// that say [`ALARMS`](crate::ALARMS) (since 2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarm_channels: Vec<AlarmChannel>,
    /// What the machine is called in the fleet, and so in the messages by these channels (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// The machine is intermittent, such as a laptop: for so many days a plan may miss its times before it is
    /// overdue. Absent for a machine that is always on (since 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_after_days: Option<u32>,
}
