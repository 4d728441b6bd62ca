//! Hosts: the machines of the fleet, each with its agent.

pub mod list;
pub mod mode;
pub mod next_action;
pub mod release;
pub mod remove;
pub mod rename;
pub mod revoke;
pub mod runs;
pub mod show;
pub mod slots;
pub mod standing;
pub mod start_run;
pub mod tags;

use super::{
    change::Change,
    error::{ApiError, ApiResult},
};
use crate::{
    db::{
        hosts::{self, Host, HostState},
        plans::{self, Plan},
        repositories::{self, Repository},
        runs::{self as stored, Run},
        tags as tags_of,
    },
    manager::Manager,
    slots::{self as slots_of, Ledger},
};
use jiff::{Timestamp, ZonedDateTime};
use mode::ModeView;
use next_action::{NextActionView, next_action};
use protocol::{Code, HostId, PlanId, Problem, RepositoryId, RunId};
use serde::Serialize;
use standing::{LastGoodView, LastRunView, PlanStandView, VerdictView};
use std::sync::Arc;
use utoipa::ToSchema;

/// A host.
#[derive(Debug, Serialize, ToSchema)]
pub struct HostView {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    pub id: HostId,
    /// What the admin calls it.
    pub name: String,
    /// What the machine calls itself.
    pub hostname: String,
    /// `linux`, `windows`, `darwin` or `unknown`.
    pub os: String,
    /// `amd64`, `arm64` or `unknown`.
    pub arch: String,
    /// The agent's version.
    pub agent_version: String,
    /// The version of its restic; empty when there is none.
    pub restic_version: String,
    /// The protocol that the agent speaks.
    pub protocol_version: u16,
    /// Its time zone: the IANA name, or the rule as POSIX writes it where it has none. Absent where nothing is
    /// known of it: then its times are counted by UTC.
    pub time_zone: Option<String>,
    /// When the machine was started.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub boot_time: Option<Timestamp>,
    /// Where it stands: `enrolled` or `revoked`.
    pub state: String,
    /// Whether its agent is connected now.
    pub is_online: bool,
    /// When it was last heard of.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_seen_at: Option<Timestamp>,
    /// Whether it is on when nobody uses it: as somebody said, or else by whether it has a battery.
    pub mode: ModeView,
    /// After how many days without a backup it is late, if it is intermittent.
    pub stale_after_days: u32,
    /// When it was enrolled.
    #[schema(value_type = String, format = DateTime)]
    pub enrolled_at: Timestamp,
    /// Set while the admin must decide.
    pub hold: Option<HoldView>,
    /// Its tags, in order.
    pub tags: Vec<String>,
    /// Its plans, given one by one or by a tag.
    #[schema(value_type = Vec<uuid::Uuid>)]
    pub plan_ids: Vec<PlanId>,
    /// The repositories of these plans.
    #[schema(value_type = Vec<uuid::Uuid>)]
    pub repository_ids: Vec<RepositoryId>,
    /// The generation of its desired state.
    pub desired_generation: u64,
    /// The generation that the agent last applied.
    pub acked_generation: u64,
    /// When it applied it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub acked_at: Option<Timestamp>,
    /// Whether the agent has applied the newest desired state.
    pub in_sync: bool,
    /// The newest run of each kind, newest first.
    pub last_runs: Vec<LastRunView>,
    /// The newest backup that left a snapshot, of whatever plan it was; absent when there is none.
    pub last_good: Option<LastGoodView>,
    /// How it stands: as the worst of its plans that may run; absent when there is none.
    pub verdict: Option<VerdictView>,
    /// When its plans run next, as the clock there shows it, with its distance from UTC. It begins up to ten
    /// minutes later. Absent where none runs by the clock.
    pub next_at: Option<String>,
    /// How each of its plans stands, in the order of `plan_ids`.
    pub plans: Vec<PlanStandView>,
    /// The one action that the row offers; absent when only a person can go on.
    pub next_action: Option<NextActionView>,
}

/// Why a host waits for the admin.
#[derive(Debug, Serialize, ToSchema)]
pub struct HoldView {
    /// The stable reason.
    #[schema(value_type = crate::api::words::CodeWord)]
    pub code: Code,
    /// The reason in words.
    pub message: String,
}

/// A repository whose outside credentials a lost host knows.
#[derive(Debug, Serialize, ToSchema)]
pub struct CredentialView {
    /// The repository.
    #[schema(value_type = String, format = Uuid)]
    pub repository_id: RepositoryId,
    /// Its name.
    pub name: String,
    /// Its location.
    pub url: String,
    /// The user name whose password needs changing at its server.
    pub username: Option<String>,
}

impl From<Repository> for CredentialView {
    fn from(it: Repository) -> Self {
        Self { repository_id: it.id, name: it.name, url: it.url, username: it.username }
    }
}

/// What a host took with it: change these credentials where they are kept.
#[derive(Debug, Serialize, ToSchema)]
pub struct LeftBehindView {
    /// The repositories whose passwords and credentials the host knows.
    pub rotate: Vec<CredentialView>,
    /// The runs that ended as lost.
    #[schema(value_type = Vec<uuid::Uuid>)]
    pub lost_runs: Vec<RunId>,
}

/// What the view of one host is made of.
struct Facts {
    is_online: bool,
    tags: Vec<String>,
    plans: Vec<Plan>,
    repositories: Vec<Repository>,
    /// What [`stored::standing`] says of it, newest first.
    runs: Vec<Run>,
    /// The runs that have not ended, oldest first.
    open: Vec<Run>,
    /// What became of its slots.
    ledger: Arc<Ledger>,
    now: Timestamp,
}

impl Facts {
    /// Reads them for one host.
    async fn read(manager: &Manager, host: HostId) -> ApiResult<Self> {
        let db = manager.db().read();
        Ok(Self {
            is_online: manager.links().online().await.contains(&host),
            tags: tags_of::of_host(db, host).await?,
            plans: plans::of_host(db, host).await?,
            repositories: repositories::of_host(db, host).await?,
            runs: stored::standing(db, Some(host)).await?,
            open: stored::open_of_host(db, host).await?,
            ledger: slots_of::of_host(manager, host).await?,
            now: manager.now(),
        })
    }
}

fn view(host: Host, facts: &Facts) -> HostView {
    let plans: Vec<_> = facts.plans.iter().map(|plan| facts.stand(&host, plan)).collect();
    let next = facts.ledger.next.get(&host.id).filter(|_| host.state == HostState::Enrolled);
    HostView {
        mode: host.patience.mode.into(),
        stale_after_days: host.patience.stale_after_days,
        verdict: plans.iter().filter_map(|plan| plan.verdict).max(),
        next_at: next.map(shown),
        id: host.id,
        next_action: next_action(&host, facts),
        in_sync: host.in_sync(),
        is_online: facts.is_online,
        name: host.name,
        hostname: host.hostname,
        os: host.os.as_str().to_owned(),
        arch: host.arch.as_str().to_owned(),
        agent_version: host.agent_version,
        restic_version: host.restic_version,
        protocol_version: host.protocol_version.0,
        time_zone: host.time_zone,
        boot_time: host.boot_time,
        state: host.state.as_str().to_owned(),
        last_seen_at: host.last_seen_at,
        enrolled_at: host.enrolled_at,
        hold: host.hold.map(|hold| HoldView { code: hold.code, message: hold.message }),
        tags: facts.tags.clone(),
        plan_ids: facts.plans.iter().map(|plan| plan.id).collect(),
        repository_ids: facts.repositories.iter().map(|repository| repository.id).collect(),
        desired_generation: host.generation,
        acked_generation: host.acked_generation,
        acked_at: host.acked_at,
        last_runs: facts.last_runs(),
        last_good: facts.last_good(),
        plans,
    }
}

/// A time as the clock of its zone shows it, with its distance from UTC.
pub(super) fn shown(at: &ZonedDateTime) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

/// The view of one host.
async fn view_of(manager: &Manager, id: HostId) -> ApiResult<HostView> {
    let host = find(manager.db().read(), id).await?;
    Ok(view(host, &Facts::read(manager, id).await?))
}

/// The host of this id; a removed one is no host any more.
async fn find(db: impl sqlx::SqliteExecutor<'_>, id: HostId) -> ApiResult<Host> {
    let host = hosts::find(db, id).await?;
    host.filter(|host| host.state != HostState::Removed)
        .ok_or_else(|| ApiError::not_found("machine"))
}

/// Refuses a name that another host has: names are typed to confirm, so they must tell apart.
pub(super) async fn host_name_is_free(
    change: &mut Change,
    name: &str,
    own: Option<HostId>,
) -> ApiResult<()> {
    if is_taken(&hosts::list(&mut *change.tx).await?, name, own) {
        let problem = Problem::new(Code::Conflict, "Another machine has this name already.");
        return Err(problem.field("name").into());
    }
    Ok(())
}

/// Whether another of these machines has this name.
pub(super) fn is_taken(hosts: &[Host], name: &str, own: Option<HostId>) -> bool {
    let lower = name.to_lowercase();
    hosts.iter().any(|host| Some(host.id) != own && host.name.to_lowercase() == lower)
}

/// Ends a host's place in the fleet: its state, its open runs, and the list of what it knows.
async fn end(change: &mut Change, id: HostId, state: HostState) -> ApiResult<LeftBehindView> {
    let repositories = repositories::of_host(&mut *change.tx, id).await?;
    hosts::set_state(&mut change.tx, id, state).await?;
    let now = change.now;
    let lost_runs = stored::finish_lost(&mut change.tx, id, now).await?;
    // From the store the host is cut by the manager itself.
    let outside = repositories.into_iter().filter(|it| it.store_host_id.is_none());
    let rotate = outside.map(CredentialView::from).collect();
    Ok(LeftBehindView { rotate, lost_runs })
}

/// Tells everyone that a host's place in the fleet ended.
async fn announce_end(manager: &Manager, id: HostId, lost: &[RunId]) {
    for run in lost {
        manager.events().publish(crate::events::Topic::Run(*run));
        manager.events().run_ended(*run);
    }
    manager.announce(id).await;
}
