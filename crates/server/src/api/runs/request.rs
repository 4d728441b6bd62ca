//! What may be asked for: the form of a run, and the rules that it must meet before it is queued.

use crate::{
    api::{
        check,
        error::{ApiError, ApiResult},
    },
    db::{
        Tx, hosts,
        plans::{self, Plan},
        repositories::{self, Repository},
        runs::Dispatch,
        snapshots,
    },
    desired,
};
use protocol::{Code, HostId, JobKind, PlanId, Problem, RepositoryId, Retention, RunSpec};
use serde::Deserialize;
use utoipa::ToSchema;

/// What to do.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum RunRequest {
    /// Back up by a plan.
    Backup {
        /// The plan.
        #[schema(value_type = String, format = Uuid)]
        plan_id: PlanId,
    },
    /// Create a repository.
    Init {
        /// The repository.
        #[schema(value_type = String, format = Uuid)]
        repository_id: RepositoryId,
    },
    /// Remove the plan's snapshots of this host that its retention does not keep.
    Forget {
        /// The plan.
        #[schema(value_type = String, format = Uuid)]
        plan_id: PlanId,
        /// Only say what would go.
        #[serde(default)]
        dry_run: bool,
        /// In the store: leave snapshots that cannot be what they say where they are, and go on with
        /// the others. Without it such snapshots stop the run.
        #[serde(default)]
        keep_suspects: bool,
    },
    /// Remove data that no snapshot needs.
    Prune {
        /// The repository.
        #[schema(value_type = String, format = Uuid)]
        repository_id: RepositoryId,
        /// Only say what would go.
        #[serde(default)]
        dry_run: bool,
    },
    /// Verify a repository.
    Check {
        /// The repository.
        #[schema(value_type = String, format = Uuid)]
        repository_id: RepositoryId,
        /// Read and verify all data too, not only the structure.
        #[serde(default)]
        read_data: bool,
    },
    /// Remove the locks that this agent's own runs left behind.
    Unlock {
        /// The repository.
        #[schema(value_type = String, format = Uuid)]
        repository_id: RepositoryId,
    },
    /// Read a repository's facts and snapshots anew.
    Stats {
        /// The repository.
        #[schema(value_type = String, format = Uuid)]
        repository_id: RepositoryId,
    },
    /// Restore into a fresh folder on the machine.
    Restore {
        /// The repository.
        #[schema(value_type = String, format = Uuid)]
        repository_id: RepositoryId,
        /// The full id of the snapshot.
        snapshot_id: String,
        /// Absolute paths inside the snapshot; empty means everything.
        #[serde(default)]
        include: Vec<String>,
    },
}

/// A request that may be queued.
#[derive(Debug)]
pub struct Resolved {
    /// What is to be done.
    pub spec: RunSpec,
    /// Who does it: the host's agent, or the manager itself.
    pub dispatch: Dispatch,
    /// The plan it serves.
    pub plan_id: Option<PlanId>,
    /// The repository it works on.
    pub repository_id: RepositoryId,
    /// Whether something will be gone after it.
    pub is_destructive: bool,
}

/// Whether a run may change what the repository holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Power {
    Add,
    Delete,
}

/// Checks a request against what the host has.
///
/// # Errors
/// Why it is refused.
pub async fn resolve(tx: &mut Tx, host: HostId, request: RunRequest) -> ApiResult<Resolved> {
    let mut scope = Scope { tx, host };
    match request {
        RunRequest::Backup { plan_id } => {
            let plan = scope.plan(plan_id).await?;
            scope.by_plan(plan, |id| RunSpec::Backup { schedule_id: Some(id) }, Power::Add).await
        }
        RunRequest::Forget { plan_id, dry_run, keep_suspects } => {
            let plan = scope.plan(plan_id).await?;
            check_retention(&plan)?;
            let spec = |id| RunSpec::Forget { schedule_id: Some(id), dry_run, keep_suspects };
            let resolved = scope.by_plan(plan, spec, Power::Delete).await?;
            if keep_suspects && resolved.dispatch != Dispatch::Manager {
                return Err(ApiError::invalid(
                    "keep_suspects",
                    "Only in the store is it known when a snapshot arrived.",
                ));
            }
            Ok(Resolved { is_destructive: !dry_run, ..resolved })
        }
        RunRequest::Init { repository_id } => {
            let spec = RunSpec::Init { repository_id: Some(repository_id) };
            scope.by_repository(repository_id, spec, Power::Add).await
        }
        RunRequest::Prune { repository_id, dry_run } => {
            let spec = RunSpec::Prune { repository_id: Some(repository_id), dry_run };
            let resolved = scope.by_repository(repository_id, spec, Power::Delete).await?;
            Ok(Resolved { is_destructive: !dry_run, ..resolved })
        }
        RunRequest::Check { repository_id, read_data } => {
            let spec = RunSpec::Check { repository_id: Some(repository_id), read_data };
            scope.by_repository(repository_id, spec, Power::Add).await
        }
        RunRequest::Unlock { repository_id } => {
            let spec = RunSpec::Unlock { repository_id: Some(repository_id) };
            // Its own locks an agent may always remove, as every restic does at its end.
            scope.by_repository(repository_id, spec, Power::Add).await
        }
        RunRequest::Stats { repository_id } => {
            let spec = RunSpec::Stats { repository_id: Some(repository_id) };
            scope.by_repository(repository_id, spec, Power::Add).await
        }
        RunRequest::Restore { repository_id, snapshot_id, include } => {
            scope.check_snapshot(repository_id, &snapshot_id).await?;
            check_include(&include)?;
            let repository = Some(repository_id);
            let spec = RunSpec::Restore { repository_id: repository, snapshot_id, include };
            scope.by_repository(repository_id, spec, Power::Add).await
        }
    }
}

struct Scope<'a> {
    tx: &'a mut Tx,
    host: HostId,
}

impl Scope<'_> {
    /// The plan, if it is assigned to the host.
    async fn plan(&mut self, id: PlanId) -> ApiResult<Plan> {
        let plans = plans::of_host(&mut **self.tx, self.host).await?;
        let plan = plans.into_iter().find(|plan| plan.id == id).ok_or_else(|| {
            Problem::new(Code::PlanUnknown, "This machine does not have that plan.")
                .guidance("Assign the plan to the machine first.")
                .field("plan_id")
        })?;
        if !plan.enabled {
            return Err(ApiError::conflict("This plan is switched off."));
        }
        Ok(plan)
    }

    /// The repository, if a plan of the host uses it: the agent knows no others.
    async fn repository(&mut self, id: RepositoryId) -> ApiResult<Repository> {
        let all = repositories::of_host(&mut **self.tx, self.host).await?;
        let repository = all.into_iter().find(|repository| repository.id == id);
        repository.ok_or_else(|| {
            Problem::new(Code::RepositoryUnknown, "This machine does not know that repository.")
                .guidance("Assign a plan to the machine that uses the repository first.")
                .field("repository_id")
                .into()
        })
    }

    async fn by_plan(
        &mut self,
        plan: Plan,
        spec: impl FnOnce(PlanId) -> RunSpec,
        power: Power,
    ) -> ApiResult<Resolved> {
        let repository = plan.repository_id.ok_or_else(|| {
            Problem::new(Code::RepositoryUnknown, "The plan has no repository for this machine.")
                .guidance("Choose one in the plan.")
        })?;
        let resolved = self.by_repository(repository, spec(plan.id), power).await?;
        let runs_hooks = hosts::brief(&mut **self.tx, self.host).await?.nature.runs_hooks;
        if resolved.dispatch == Dispatch::Waiting && !desired::can_run(&plan, runs_hooks) {
            return Err(Problem::new(
                Code::CapabilityMissing,
                "The agent of this machine cannot run the hooks of the plan, so it did not get the plan.",
            )
            .guidance("Update the agent on the machine, or take the hooks out of the plan.")
            .into());
        }
        Ok(Resolved { plan_id: Some(plan.id), ..resolved })
    }

    async fn by_repository(
        &mut self,
        repository_id: RepositoryId,
        spec: RunSpec,
        power: Power,
    ) -> ApiResult<Resolved> {
        let repository = self.repository(repository_id).await?;
        let is_own = repository.store_host_id.is_some()
            && matches!(spec.kind(), JobKind::Forget | JobKind::Prune | JobKind::Check);
        let dispatch = if is_own { Dispatch::Manager } else { Dispatch::Waiting };
        if repository.append_only && power == Power::Delete && !is_own {
            return Err(Problem::new(
                Code::RepositoryAppendOnly,
                "This repository takes new data only; machines may not delete in it.",
            )
            .guidance(
                "Forget and prune of such a repository run on the admin's side with the \
                 admin's own credentials, which a later version does.",
            )
            .into());
        }
        Ok(Resolved { spec, dispatch, plan_id: None, repository_id, is_destructive: false })
    }

    async fn check_snapshot(&mut self, repository: RepositoryId, id: &str) -> ApiResult<()> {
        if snapshots::is_known(&mut **self.tx, repository, id).await? {
            return Ok(());
        }
        Err(Problem::new(Code::SnapshotUnknown, "The repository has no such snapshot.")
            .guidance("Read the repository anew, and choose the snapshot by its full id.")
            .field("snapshot_id")
            .into())
    }
}

fn check_retention(plan: &Plan) -> ApiResult<()> {
    if plan.retention.as_ref().is_none_or(Retention::is_empty) {
        return Err(Problem::new(
            Code::RetentionEmpty,
            "The plan has no retention: forget would have nothing to keep by.",
        )
        .guidance("Give the plan a retention first.")
        .into());
    }
    Ok(())
}

fn check_include(include: &[String]) -> ApiResult<()> {
    if include.len() > 1000 {
        return Err(ApiError::invalid("include", "There are more than 1000 paths."));
    }
    include.iter().try_for_each(|path| check_path("include", path))
}

/// Refuses what is no path inside a snapshot.
///
/// # Errors
/// When it is none.
pub fn check_path(field: &str, path: &str) -> ApiResult<()> {
    check::plain(field, path)?;
    let has_dots = path.split('/').any(|part| part == ".." || part == ".");
    if !path.starts_with('/') || has_dots || path.len() > 4096 {
        return Err(ApiError::invalid(
            field,
            "Each path is absolute inside the snapshot, without . and .. parts.",
        ));
    }
    Ok(())
}
