//! Plans: what is backed up, into which repository, how, and on which hosts.

pub mod create;
pub mod delete;
pub mod list;
pub mod options;
pub mod presets;
pub mod rules;
pub mod show;
pub mod times;
pub mod update;

use super::{
    change::Change,
    error::{ApiError, ApiResult},
};
use crate::{
    db::{
        Tx,
        hosts::{self, HostState},
        plans::{self, Plan},
        repositories, store, tags,
    },
    events::Topic,
    manager::Manager,
};
use jiff::Timestamp;
use options::PlanOptionsView;
use protocol::{Code, HostId, PlanId, Problem, RepositoryId, Retention};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A plan.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlanView {
    /// Its id, which is also its restic tag (`plan:<id>`).
    #[schema(value_type = String, format = Uuid)]
    pub id: PlanId,
    /// Its name.
    pub name: String,
    /// Where its snapshots go; absent for the store, where each machine has a repository of its own.
    #[schema(value_type = Option<String>, format = Uuid)]
    pub repository_id: Option<RepositoryId>,
    /// What is backed up.
    pub paths: Vec<String>,
    /// restic exclude patterns.
    pub excludes: Vec<String>,
    /// Named sets of exclude patterns.
    pub presets: Vec<String>,
    /// Tags beside the plan's and the run's own.
    pub tags: Vec<String>,
    /// How long snapshots are kept; absent keeps all.
    pub retention: Option<RetentionView>,
    /// How its backups run.
    pub options: PlanOptionsView,
    /// When it runs: five-field cron or an @ word, in the time zone of each machine; absent for a plan that
    /// runs by hand.
    pub cron: Option<String>,
    /// Whether it may run.
    pub enabled: bool,
    /// The hosts that it is assigned to one by one.
    #[schema(value_type = Vec<uuid::Uuid>)]
    pub host_ids: Vec<HostId>,
    /// The tags of hosts that it is assigned to.
    pub host_tags: Vec<String>,
    /// The hosts that have it, one by one or by a tag.
    #[schema(value_type = Vec<uuid::Uuid>)]
    pub all_host_ids: Vec<HostId>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When an admin last changed it.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// Grows with each change; a change may say which one it is based on.
    pub revision: i64,
}

/// Who has a plan.
#[derive(Debug, Default)]
pub(super) struct Assigned {
    /// The hosts that were chosen one by one, in order.
    pub hosts: Vec<HostId>,
    /// The tags that were chosen, in order.
    pub tags: Vec<String>,
}

impl Assigned {
    async fn read(tx: &mut Tx, id: PlanId) -> ApiResult<Self> {
        Ok(Self {
            hosts: plans::chosen_hosts(&mut **tx, id).await?,
            tags: tags::of_plan(&mut **tx, id).await?,
        })
    }

    async fn write(&self, tx: &mut Tx, id: PlanId) -> ApiResult<()> {
        plans::set_hosts(tx, id, &self.hosts).await?;
        tags::set_of_plan(tx, id, &self.tags).await?;
        Ok(())
    }
}

/// What a form says of the hosts of a plan, in order and each once.
fn in_order(mut hosts: Vec<HostId>) -> Vec<HostId> {
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

/// How long snapshots are kept, in restic's own policies. At least one must keep something.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetentionView {
    /// The newest n.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<u32>,
    /// The newest of each of the last n hours that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_hourly: Option<u32>,
    /// The newest of each of the last n days that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_daily: Option<u32>,
    /// The newest of each of the last n weeks that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_weekly: Option<u32>,
    /// The newest of each of the last n months that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_monthly: Option<u32>,
    /// The newest of each of the last n years that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_yearly: Option<u32>,
    /// Everything within this time of the newest, such as `1y5m7d2h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_within: Option<String>,
}

macro_rules! same_fields {
    ($from:ident -> $to:ident) => {
        impl From<$from> for $to {
            fn from(it: $from) -> Self {
                Self {
                    keep_last: it.keep_last,
                    keep_hourly: it.keep_hourly,
                    keep_daily: it.keep_daily,
                    keep_weekly: it.keep_weekly,
                    keep_monthly: it.keep_monthly,
                    keep_yearly: it.keep_yearly,
                    keep_within: it.keep_within,
                }
            }
        }
    };
}
same_fields!(Retention -> RetentionView);
same_fields!(RetentionView -> Retention);

pub(super) fn view(plan: Plan, assigned: Assigned, all_host_ids: Vec<HostId>) -> PlanView {
    PlanView {
        id: plan.id,
        name: plan.name,
        repository_id: plan.repository_id,
        paths: plan.paths,
        excludes: plan.excludes,
        presets: plan.presets,
        tags: plan.tags,
        retention: plan.retention.map(RetentionView::from),
        options: plan.options.into(),
        cron: Some(plan.cron).filter(|cron| !cron.is_empty()),
        enabled: plan.enabled,
        host_ids: assigned.hosts,
        host_tags: assigned.tags,
        all_host_ids,
        created_at: plan.created_at,
        updated_at: plan.updated_at,
        revision: plan.revision,
    }
}

async fn find(db: impl sqlx::SqliteExecutor<'_>, id: PlanId) -> ApiResult<Plan> {
    plans::find(db, id).await?.ok_or_else(|| ApiError::not_found("plan"))
}

/// Refuses a plan that names what does not exist, or has the name of another.
async fn check_references(change: &mut Change, plan: &Plan, hosts: &[HostId]) -> ApiResult<()> {
    match plans::find_by_name(&mut *change.tx, &plan.name).await? {
        Some(other) if other != plan.id => {
            let problem = Problem::new(Code::Conflict, "Another plan has this name already.");
            return Err(problem.field("name").into());
        }
        _ => {}
    }
    check_destination(change, plan.repository_id).await?;
    for host in hosts {
        let state = hosts::find(&mut *change.tx, *host).await?.map(|host| host.state);
        if state != Some(HostState::Enrolled) {
            return Err(ApiError::invalid("host_ids", "One of the machines is not enrolled."));
        }
    }
    Ok(())
}

/// Refuses a repository that does not exist, one that is a machine's own, and a store without a folder.
async fn check_destination(change: &mut Change, id: Option<RepositoryId>) -> ApiResult<()> {
    let problem = match id {
        None if store::place(&mut *change.tx).await?.is_some() => return Ok(()),
        None => Problem::new(Code::StoreHomeless, "The store has no folder yet.")
            .guidance("Choose a folder of this computer for it, or another repository."),
        Some(id) => match repositories::find(&mut *change.tx, id).await? {
            Some(found) if found.store_host_id.is_none() => return Ok(()),
            Some(_) => Problem::new(
                Code::InvalidInput,
                "This repository belongs to one machine; choose the store instead.",
            ),
            None => Problem::new(Code::RepositoryUnknown, "There is no such repository."),
        },
    };
    Err(problem.field("repository_id").into())
}

/// Tells everyone about a changed plan, and the hosts about their new desired state.
async fn announce(
    manager: &Manager,
    plan: PlanId,
    repository: Option<RepositoryId>,
    hosts: &[HostId],
) {
    manager.events().publish(Topic::Plan(plan));
    if let Some(repository) = repository {
        manager.events().publish(Topic::Repository(repository));
    }
    super::wake(manager, hosts).await;
}
