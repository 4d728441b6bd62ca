//! From what a command names to what a run needs.

use super::Facts;
use crate::{desired::Desired, hooks};
use jiff::Timestamp;
use protocol::{
    Code, Hooks, HostId, PlanId, PlanOptions, Problem, RepositoryConfig, Retention, RunId, RunSpec,
    is_reserved_tag,
};
use restic::OurProcess;
use serde::{Deserialize, Serialize};

/// Everything a run needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The run.
    pub run_id: RunId,
    /// The host that this agent is; its snapshots carry its tag.
    pub host_id: HostId,
    /// The machine's name, under which snapshots are filed.
    pub hostname: String,
    /// The repository, with its secrets.
    pub repository: RepositoryConfig,
    /// restic processes of earlier runs on this repository that have ended: a lock of theirs is ours
    /// to remove.
    pub earlier: Vec<OurProcess>,
    /// When it begins, by this machine's clock.
    pub begins_at: Timestamp,
    /// What to do.
    pub task: Task,
}

/// What a run does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum Task {
    /// Write a snapshot.
    Backup {
        /// The plan.
        plan: PlanId,
        /// Its name, for hooks.
        name: String,
        /// What to back up.
        paths: Vec<String>,
        /// What to leave out.
        excludes: Vec<String>,
        /// Tags beside the plan's and the run's own.
        tags: Vec<String>,
        /// How it runs.
        options: Box<PlanOptions>,
        /// What runs around it.
        hooks: Hooks,
    },
    /// Create the repository.
    Init,
    /// Remove the plan's snapshots of this host by its retention.
    Forget {
        /// The plan.
        plan: PlanId,
        /// What is kept.
        retention: Retention,
        /// Only say what would go.
        dry_run: bool,
    },
    /// Remove data that no snapshot needs.
    Prune {
        /// Only say what would go.
        dry_run: bool,
    },
    /// Verify the repository.
    Check {
        /// Read all data too.
        read_data: bool,
    },
    /// Remove the locks that this agent's runs left behind.
    Unlock,
    /// Read the repository's facts anew.
    Stats,
    /// Write content back into a fresh folder.
    Restore {
        /// The snapshot.
        snapshot_id: String,
        /// What to restore; empty means everything.
        include: Vec<String>,
    },
}

/// How long a backup that nobody asked for waits for a lock of somebody else. Only a forget, a prune or a
/// check keeps one out, and nobody is there who would try again.
const LOCK_PATIENCE_MINUTES: u32 = 10;

impl Order {
    /// What is different where nobody asked for the run.
    pub(super) fn by_the_clock(&mut self) {
        if let Task::Backup { options, .. } = &mut self.task {
            options.retry_lock_minutes.get_or_insert(LOCK_PATIENCE_MINUTES);
        }
    }
}

/// Finds what a command names in the desired state.
pub(super) fn resolve(
    run_id: RunId,
    spec: &RunSpec,
    desired: Option<&Desired>,
    facts: &Facts,
) -> Result<Order, Problem> {
    let order = |repository: &RepositoryConfig, task| Order {
        run_id,
        host_id: facts.host_id,
        hostname: facts.hostname.clone(),
        repository: repository.clone(),
        earlier: Vec::new(),
        begins_at: Timestamp::UNIX_EPOCH,
        task,
    };
    let task = match spec {
        RunSpec::Backup { schedule_id } => return resolve_backup(*schedule_id, desired, order),
        RunSpec::Forget { schedule_id, dry_run, .. } => {
            return resolve_forget(*schedule_id, *dry_run, desired, order);
        }
        RunSpec::Init { .. } => Task::Init,
        RunSpec::Prune { dry_run, .. } => Task::Prune { dry_run: *dry_run },
        RunSpec::Check { read_data, .. } => Task::Check { read_data: *read_data },
        RunSpec::Unlock { .. } => Task::Unlock,
        RunSpec::Stats { .. } => Task::Stats,
        RunSpec::Restore { snapshot_id, include, .. } => {
            check_restore(snapshot_id, include)?;
            Task::Restore { snapshot_id: snapshot_id.clone(), include: include.clone() }
        }
        RunSpec::Unknown => {
            return Err(Problem::new(
                Code::KindUnknown,
                "This agent does not know this kind of run; nothing was done.",
            )
            .guidance("Update the agent on this machine."));
        }
    };
    let repository = desired.and_then(|desired| desired.repository(spec.repository_id()));
    Ok(order(repository.ok_or_else(repository_unknown)?, task))
}

fn resolve_backup(
    plan: Option<PlanId>,
    desired: Option<&Desired>,
    order: impl Fn(&RepositoryConfig, Task) -> Order,
) -> Result<Order, Problem> {
    let desired = desired.ok_or_else(plan_unknown)?;
    let plan = desired.plan(plan).ok_or_else(plan_unknown)?;
    let repository = desired.repository(plan.repository_id).ok_or_else(repository_unknown)?;
    if plan.paths.is_empty() {
        return Err(Problem::new(
            Code::SourceMissing,
            "The plan names no folder to back up; nothing was done.",
        )
        .guidance("Add at least one folder to the plan."));
    }
    if plan.tags.iter().any(|tag| is_reserved_tag(tag)) {
        return Err(Problem::new(
            Code::InvalidInput,
            "The plan gives a tag that only the agent itself may give; nothing was done.",
        )
        .guidance("Take tags that begin with plan:, host: or run: out of the plan."));
    }
    let hooks = hooks::of(plan)?;
    let options = plan.options().map_err(|_| {
        Problem::new(
            Code::InvalidInput,
            "The plan has options that this agent cannot read; nothing was done.",
        )
        .guidance("Save the plan once more, or update the agent on this machine.")
    })?;
    Ok(order(
        repository,
        Task::Backup {
            plan: plan.id,
            name: plan.name.clone(),
            paths: plan.paths.clone(),
            excludes: plan.excludes.clone(),
            tags: plan.tags.clone(),
            options: Box::new(options),
            hooks,
        },
    ))
}

fn resolve_forget(
    plan: Option<PlanId>,
    dry_run: bool,
    desired: Option<&Desired>,
    order: impl Fn(&RepositoryConfig, Task) -> Order,
) -> Result<Order, Problem> {
    let desired = desired.ok_or_else(plan_unknown)?;
    let plan = desired.plan(plan).ok_or_else(plan_unknown)?;
    let repository = desired.repository(plan.repository_id).ok_or_else(repository_unknown)?;
    let retention = plan.retention().map_err(|_| {
        Problem::new(
            Code::RetentionUnknown,
            "The plan keeps snapshots by a rule that this agent does not know; nothing was removed.",
        )
        .guidance("Update the agent on this machine.")
    })?;
    let Some(retention) = retention.filter(|retention| !retention.is_empty()) else {
        return Err(Problem::new(
            Code::RetentionEmpty,
            "The plan says of no snapshot that it is kept; nothing was removed.",
        )
        .guidance("Set how long the plan keeps its snapshots."));
    };
    Ok(order(repository, Task::Forget { plan: plan.id, retention, dry_run }))
}

/// The identifier reaches a command line, and the paths lead below the target: one that led out of
/// it would also tell, by what is missing, which files this machine has.
fn check_restore(snapshot_id: &str, include: &[String]) -> Result<(), Problem> {
    check_in_snapshot(snapshot_id, include).map_err(|problem| Problem {
        message: format!("{} Nothing was restored.", problem.message),
        field: (problem.code == Code::InvalidInput).then(|| "include".to_owned()),
        ..problem
    })
}

/// Whether these can be a snapshot and paths inside it.
pub(super) fn check_in_snapshot(snapshot_id: &str, paths: &[String]) -> Result<(), Problem> {
    let is_id = (8..=64).contains(&snapshot_id.len())
        && snapshot_id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_id {
        return Err(Problem::new(Code::SnapshotUnknown, "This is no snapshot's identifier."));
    }
    let is_inside = |path: &String| {
        path.starts_with('/')
            && !path.contains('\0')
            && !path.split('/').any(|part| part == ".." || part == ".")
    };
    if !paths.iter().all(is_inside) {
        return Err(Problem::new(Code::InvalidInput, "One of the chosen paths is not valid."));
    }
    Ok(())
}

fn plan_unknown() -> Problem {
    Problem::new(Code::PlanUnknown, "This machine does not have that plan; nothing was done.")
        .guidance("Wait until the machine is in sync, then try again.")
}

fn repository_unknown() -> Problem {
    Problem::new(
        Code::RepositoryUnknown,
        "This machine does not have that repository; nothing was done.",
    )
    .guidance("Wait until the machine is in sync, then try again.")
}
