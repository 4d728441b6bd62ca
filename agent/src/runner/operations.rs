//! Each kind of run as calls of restic.

use super::{Tools, limits::Limits, repository};
use crate::core::{Order, Task};
use outcome::{
    Outcome, verdict,
    words::{count, one_line, short, size, span},
};
use protocol::{Code, JobStatus, PlanId, Problem, Retention};
use restic::{
    BackupRequest, Bucket, CancelToken, CheckOutcome, CheckRequest, Event, Failure, FailureKind,
    ForgetOutcome, ForgetRequest, GroupBy, Keep, Lock, OurProcess, OurProcesses, PruneRequest,
    ReadData, Repository, Restic, Stream, UnlockOutcome, Within,
};
use serde_json::{Value, json};
use std::time::Duration;

/// Where events go.
type Sink<'a> = &'a mut (dyn FnMut(Event) + Send);

/// How often the locks of dead processes are tried to be removed. Until the system's init has
/// collected a process, restic takes it for a living one.
const RELEASE_TRIES: u32 = 10;

/// The pause between two of these tries.
const RELEASE_PAUSE: Duration = Duration::from_secs(1);

/// Carries an order out. Restores go through the helper and never come here.
pub async fn perform(
    order: &Order,
    tools: &Tools,
    sink: Sink<'_>,
    cancel: &CancelToken,
) -> Outcome {
    let repository = match repository::prepare(&order.repository, &tools.state) {
        Ok(repository) => repository,
        Err(problem) => return Outcome::plain(JobStatus::Failed, Some(problem)),
    };
    let limits = Limits::of(order);
    let work = async |cancel: &CancelToken| {
        let done = try_out(order, &limits, &repository, tools, sink, cancel).await;
        done.unwrap_or_else(|failure| verdict::failed(&failure))
    };
    limits.in_time(cancel, work).await
}

/// A lock that is in the way is dealt with: one of our own is removed, that of others is waited for where the
/// plan says so. Only then, because restic says nothing while it waits.
async fn try_out(
    order: &Order,
    limits: &Limits,
    repository: &Repository,
    tools: &Tools,
    sink: Sink<'_>,
    cancel: &CancelToken,
) -> Result<Outcome, Failure> {
    let failure = match carry_out(order, limits, None, repository, tools, sink, cancel).await {
        Err(failure) if matches!(failure.kind, FailureKind::Locked(_)) => failure,
        done => return done,
    };
    let (restic, hostname) = (&tools.restic, &tools.hostname);
    let is_released =
        release_earlier(&failure, order, repository, restic, hostname, sink, cancel).await;
    match limits.lock {
        None if !is_released => return Err(failure),
        Some(wait) if !is_released => {
            let wait = span(wait);
            let why = one_line(&failure.message);
            say(sink, format!("{why}. Waiting for up to {wait} until the lock is gone."));
        }
        None | Some(_) => {}
    }
    carry_out(order, limits, limits.lock, repository, tools, sink, cancel).await
}

/// Where locks that earlier runs of this agent left behind are all that stands in the way, they are
/// removed. Says whether they were: then it is worth another try. A run whose repository went away
/// could not remove its own lock, and nobody else may.
pub async fn release_earlier(
    failure: &Failure,
    order: &Order,
    repository: &Repository,
    restic: &Restic,
    hostname: &str,
    sink: Sink<'_>,
    cancel: &CancelToken,
) -> bool {
    if !matches!(failure.kind, FailureKind::Locked(_)) || order.earlier.is_empty() {
        return false;
    }
    let ours = OurProcesses { hostname: hostname.to_owned(), processes: order.earlier.clone() };
    for _ in 0..RELEASE_TRIES {
        let mut aside = as_an_aside(sink);
        match restic.release_own_locks(repository, &ours, &mut aside, cancel).await {
            Ok(UnlockOutcome::Removed { locks }) => {
                drop(aside);
                let locks = count(locks.len(), "lock");
                let words = "that an earlier run of this agent left behind; trying again.";
                say(sink, format!("Removed {locks} {words}"));
                return true;
            }
            // Its holder went away meanwhile.
            Ok(UnlockOutcome::NothingToRemove) => return true,
            Ok(UnlockOutcome::StillThere { .. }) => tokio::time::sleep(RELEASE_PAUSE).await,
            Ok(UnlockOutcome::LeftToOthers { .. }) | Err(_) => return false,
        }
    }
    false
}

async fn carry_out(
    order: &Order,
    limits: &Limits,
    retry_lock: Option<Duration>,
    repository: &Repository,
    tools: &Tools,
    sink: Sink<'_>,
    cancel: &CancelToken,
) -> Result<Outcome, Failure> {
    match &order.task {
        Task::Backup { plan, paths, excludes, tags, options, .. } => {
            let mut request = BackupRequest::new(&order.hostname, paths);
            request.excludes.clone_from(excludes);
            request.one_file_system = options.one_file_system;
            request.exclude_caches = options.exclude_caches;
            request.read_concurrency = options.read_concurrency;
            request.retry_lock = retry_lock;
            request.stall = limits.stall;
            let repository = &Repository {
                limit_upload_kib: options.limit_upload_kib,
                limit_download_kib: options.limit_download_kib,
                ..repository.clone()
            };
            request.tags = vec![plan.tag(), order.host_id.tag(), order.run_id.tag()];
            request.tags.extend(tags.iter().cloned());
            backup(order, &request, repository, tools, sink, cancel).await
        }
        Task::Init => init(repository, tools, sink, cancel).await,
        Task::Forget { plan, retention, dry_run } => {
            forget(order, *plan, retention, *dry_run, repository, tools, sink, cancel).await
        }
        Task::Prune { dry_run } => prune(order, *dry_run, repository, tools, sink, cancel).await,
        Task::Check { read_data } => {
            // A check fills a cache of its own, which a restic that is killed leaves behind.
            let cache_dir = tools.state.temporary().join(format!("check-{}", order.run_id));
            let repository = Repository { cache_dir: cache_dir.clone(), ..repository.clone() };
            let done = check(order, *read_data, &repository, tools, sink, cancel).await;
            let _ = tokio::fs::remove_dir_all(&cache_dir).await;
            done
        }
        Task::Unlock => {
            let processes = order.earlier.clone();
            let ours = OurProcesses { hostname: tools.hostname.clone(), processes };
            unlock(&ours, repository, tools, sink, cancel).await
        }
        Task::Stats => stats(repository, tools, sink, cancel).await,
        Task::Restore { .. } => Ok(Outcome::plain(
            JobStatus::Failed,
            Some(Problem::new(Code::Internal, "A restore runs in the helper only.")),
        )),
    }
}

async fn backup(
    order: &Order,
    request: &BackupRequest,
    repository: &Repository,
    tools: &Tools,
    sink: Sink<'_>,
    cancel: &CancelToken,
) -> Result<Outcome, Failure> {
    let done = tools.restic.backup(repository, request, sink, cancel).await;
    let done = clear_up_after_kill(done, order, repository, tools, sink).await?;
    let summary = done.summary();
    say(
        sink,
        format!(
            "Snapshot {}: {}, {}, of which {} new and {} changed; {} added to the repository.",
            summary.snapshot_id.as_deref().map_or("without id", short),
            count(summary.total_files_processed, "file"),
            size(summary.total_bytes_processed),
            summary.files_new,
            summary.files_changed,
            // What it takes there, which releases before 0.17 do not tell.
            size(summary.data_added_packed.unwrap_or(summary.data_added)),
        ),
    );
    Ok(verdict::backed_up(&done))
}

async fn init(
    repository: &Repository,
    tools: &Tools,
    sink: Sink<'_>,
    cancel: &CancelToken,
) -> Result<Outcome, Failure> {
    let done = tools.restic.init(repository, sink, cancel).await?;
    say(sink, format!("The repository was created; its id is {}.", done.repository_id));
    Ok(verdict::succeeded(json!({ "repository_id": done.repository_id })))
}

#[expect(clippy::too_many_arguments, reason = "what a forget needs")]
async fn forget(
    order: &Order,
    plan: PlanId,
    retention: &Retention,
    dry_run: bool,
    repository: &Repository,
    tools: &Tools,
    sink: Sink<'_>,
    cancel: &CancelToken,
) -> Result<Outcome, Failure> {
    let request = ForgetRequest::Policy {
        // The machine's name may change, and others may have it too: the tag says whose it is.
        host: None,
        tags: vec![plan.tag(), order.host_id.tag()],
        // A plan that changes its folders keeps one history.
        group_by: GroupBy::default(),
        keep: keep(retention)?,
        dry_run,
    };
    let done = tools.restic.forget(repository, &request, sink, cancel).await;
    let done: ForgetOutcome = clear_up_after_kill(done, order, repository, tools, sink).await?;
    let removed: Vec<&str> = done.removed().collect();
    let verb = if dry_run { "would go" } else { "went" };
    for id in &removed {
        say(sink, format!("Snapshot {} {verb}.", short(id)));
    }
    let sum = count(removed.len(), "snapshot");
    let stays = if dry_run { "would stay" } else { "stayed" };
    say(sink, format!("{sum} {verb}, {} {stays}.", done.kept_count()));
    let listed: Vec<&str> = removed.iter().copied().take(1_000).collect();
    Ok(verdict::succeeded(json!({
        "dry_run": dry_run,
        "removed": listed,
        "removed_count": removed.len(),
        "kept_count": done.kept_count(),
    })))
}

fn keep(retention: &Retention) -> Result<Keep, Failure> {
    let counts = [
        (Bucket::Last, retention.keep_last),
        (Bucket::Hourly, retention.keep_hourly),
        (Bucket::Daily, retention.keep_daily),
        (Bucket::Weekly, retention.keep_weekly),
        (Bucket::Monthly, retention.keep_monthly),
        (Bucket::Yearly, retention.keep_yearly),
    ];
    let mut keep = Keep::new();
    for (bucket, count) in counts {
        keep = keep.with(bucket, count.unwrap_or(0).into())?;
    }
    match retention.keep_within.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
        None => Ok(keep),
        Some(text) => Ok(keep.with_within(Within::parse(text)?)),
    }
}

async fn prune(
    order: &Order,
    dry_run: bool,
    repository: &Repository,
    tools: &Tools,
    sink: Sink<'_>,
    cancel: &CancelToken,
) -> Result<Outcome, Failure> {
    let request = PruneRequest { dry_run, ..PruneRequest::default() };
    let done = tools.restic.prune(repository, request, sink, cancel).await;
    let done = clear_up_after_kill(done, order, repository, tools, sink).await?;
    Ok(verdict::succeeded(serde_json::to_value(done).unwrap_or(Value::Null)))
}

async fn check(
    order: &Order,
    read_data: bool,
    repository: &Repository,
    tools: &Tools,
    sink: Sink<'_>,
    cancel: &CancelToken,
) -> Result<Outcome, Failure> {
    let read_data = if read_data { ReadData::All } else { ReadData::None };
    let done = tools.restic.check(repository, CheckRequest { read_data }, sink, cancel).await;
    let done = clear_up_after_kill(done, order, repository, tools, sink).await?;
    if matches!(done, CheckOutcome::Sound(_)) {
        say(sink, "No errors were found.".to_owned());
    }
    Ok(verdict::checked(done))
}

async fn unlock(
    ours: &OurProcesses,
    repository: &Repository,
    tools: &Tools,
    sink: Sink<'_>,
    cancel: &CancelToken,
) -> Result<Outcome, Failure> {
    let done = tools.restic.release_own_locks(repository, ours, sink, cancel).await?;
    let stats = serde_json::to_value(&done).ok();
    let outcome = match done {
        UnlockOutcome::NothingToRemove => {
            say(sink, "There is no lock.".to_owned());
            verdict::succeeded(Value::Null)
        }
        UnlockOutcome::Removed { locks } => {
            say(sink, format!("Removed: {}.", count(locks.len(), "lock")));
            verdict::succeeded(Value::Null)
        }
        UnlockOutcome::LeftToOthers { locks } => {
            let holders: Vec<String> =
                locks.iter().take(5).map(|lock| holder(lock, &ours.hostname)).collect();
            still_locked(format!(
                "The repository is locked by others: {}. Nothing was removed.",
                holders.join(", ")
            ))
        }
        UnlockOutcome::StillThere { locks } => still_locked(format!(
            "This agent could not remove {} of its own.",
            count(locks.len(), "lock")
        )),
    };
    Ok(Outcome { stats, ..outcome })
}

/// Who holds a lock that is not of a run of this agent. The machine's own name may stand in it all
/// the same: somebody may run restic there by hand.
fn holder(lock: &Lock, own_hostname: &str) -> String {
    if lock.hostname == own_hostname {
        format!("another restic on this very machine (process {})", lock.pid)
    } else {
        format!("{} (process {})", lock.hostname, lock.pid)
    }
}

fn still_locked(message: String) -> Outcome {
    let guidance = FailureKind::Locked(Box::default()).guidance();
    let problem = Problem::new(Code::RepositoryLocked, message).guidance(guidance);
    Outcome::plain(JobStatus::Failed, Some(problem))
}

/// The facts themselves are read after every run that may change them; this run only finds out
/// whether the repository can be read, and says so.
async fn stats(
    repository: &Repository,
    tools: &Tools,
    sink: Sink<'_>,
    cancel: &CancelToken,
) -> Result<Outcome, Failure> {
    let done = tools.restic.raw_data_stats(repository, sink, cancel).await?;
    say(sink, format!("{}, {}.", count(done.snapshots_count, "snapshot"), size(done.total_size)));
    Ok(verdict::succeeded(serde_json::to_value(done).unwrap_or(Value::Null)))
}

/// A restic that had to be killed may have left its lock behind; it is ours to remove.
async fn clear_up_after_kill<T>(
    done: Result<T, Failure>,
    order: &Order,
    repository: &Repository,
    tools: &Tools,
    sink: Sink<'_>,
) -> Result<T, Failure> {
    const PATIENCE: Duration = Duration::from_secs(30);
    if let Err(Failure { killed_pid: Some(pid), .. }) = &done {
        let process = OurProcess { pid: *pid, from: Some(order.begins_at), until: None };
        let processes = vec![process];
        let ours = OurProcesses { hostname: tools.hostname.clone(), processes };
        let cancel = CancelToken::new();
        let released = {
            let mut aside = as_an_aside(sink);
            let release = tools.restic.release_own_locks(repository, &ours, &mut aside, &cancel);
            tokio::time::timeout(PATIENCE, release).await
        };
        let is_free = matches!(
            released,
            Ok(Ok(UnlockOutcome::NothingToRemove | UnlockOutcome::Removed { .. }))
        );
        if !is_free {
            let words = "restic had to be killed and its lock may be left in the repository; the next run that it keeps out removes it.";
            say(sink, words.to_owned());
        }
    }
    done
}

/// Looking after locks starts a restic too, which is not the run's own: by that one's process the
/// lock is recognised as ours.
fn as_an_aside(sink: Sink<'_>) -> impl FnMut(Event) + Send {
    move |event| {
        if !matches!(event, Event::Started { .. }) {
            sink(event);
        }
    }
}

fn say(sink: Sink<'_>, line: String) {
    sink(Event::Log { stream: Stream::Stdout, line });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retention_becomes_a_policy_and_an_empty_one_keeps_nothing() {
        let daily = Retention { keep_daily: Some(7), ..Retention::default() };
        assert!(!keep(&daily).unwrap().is_empty());
        assert!(keep(&Retention::default()).unwrap().is_empty());
        let wrong = Retention { keep_within: Some("soon".to_owned()), ..Retention::default() };
        assert!(keep(&wrong).is_err());
    }
}
