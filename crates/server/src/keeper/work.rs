//! Forget, prune and check of a repository in the store, with the admin's pass.

use super::{
    Keeper,
    inspection::{self, Alien},
    retention::{self, Arrived},
    voice::Voice,
};
use crate::{
    db::{error::DbError, plans, repositories, runs::Run, snapshots, store as rows},
    desired,
    store::{Pass, Refused},
};
use jiff::{SignedDuration, Timestamp};
use outcome::{
    Outcome, verdict,
    words::{count, short},
};
use protocol::{Code, HostId, JobStatus, PlanId, Problem, RepositoryId, Retention, RunSpec};
use restic::{
    CancelToken, CheckOutcome, CheckRequest, Failure, FailureKind, ForgetRequest, LocateOptions,
    PruneRequest, ReadData, Repository, Restic, Sealed, Snapshot, SnapshotFilter, SnapshotId,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How far the clock of a machine may be ahead of this computer's before its snapshots are suspect.
const AHEAD: SignedDuration = SignedDuration::from_hours(1);
/// Snapshots that one restic forgets: their ids stand on its command line.
const AT_ONCE: usize = 300;
/// Snapshots that a log and a summary name.
const NAMED: usize = 1_000;

/// Why a run ends before it is done.
#[derive(Debug)]
enum Stop {
    Problem(Box<Problem>),
    Failure(Box<Failure>),
    Refused(Refused),
    Db(DbError),
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(Box::new(failure))
    }
}

/// Whoever reads it on the page of a machine would look for restic on that machine.
fn on_this_computer(failure: Failure) -> Problem {
    let problem = verdict::problem(&failure);
    let message = format!("On the computer of this manager: {}", problem.message);
    Problem { message, ..problem }
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<DbError> for Stop {
    fn from(error: DbError) -> Self {
        Self::Db(error)
    }
}

impl Stop {
    fn outcome(self) -> Outcome {
        let problem = match self {
            Self::Failure(failure) => return verdict::failed(&failure),
            Self::Problem(problem) => *problem,
            Self::Refused(Refused::Away) => Problem::new(
                Code::StoreAway,
                "The folder of the store is not there: its disk is not connected. Nothing was changed.",
            )
            .guidance("Connect the disk, and start the run again."),
            Self::Refused(Refused::Db(error)) | Self::Db(error) => internal(&error),
            Self::Refused(error) => internal(&error),
        };
        Outcome::plain(JobStatus::Failed, Some(problem))
    }
}

fn internal(error: &(dyn std::error::Error + 'static)) -> Problem {
    tracing::error!(error, "a run of the manager's own failed");
    Problem::new(Code::Internal, "The manager failed in the middle of the run.")
        .guidance("The app's own log has the cause.")
}

/// Does a run.
pub(super) async fn perform(
    keeper: &Keeper,
    run: &Run,
    voice: &mut Voice,
    cancel: &CancelToken,
) -> Outcome {
    attempt(keeper, run, voice, cancel).await.unwrap_or_else(Stop::outcome)
}

async fn attempt(
    keeper: &Keeper,
    run: &Run,
    voice: &mut Voice,
    cancel: &CancelToken,
) -> Result<Outcome, Stop> {
    let manager = &keeper.manager;
    let stored = match run.repository_id {
        Some(id) => repositories::find(manager.db().read(), id).await?,
        None => None,
    };
    let stored = stored.ok_or_else(|| gone("repository"))?;
    if !manager.store().place().await?.is_here() {
        return Err(Refused::Away.into());
    }
    let restic = Restic::locate(&LocateOptions::from_environment(None)).await;
    let restic = restic.map_err(on_this_computer)?;
    let pass = manager.store().issue(stored.id).map_err(|error| internal(&*error))?;
    let pass = pass.ok_or_else(|| {
        Problem::new(Code::Conflict, "Something else is being done with this repository.")
            .guidance("Start the run again after that.")
    })?;
    let config = desired::unseal(&stored, manager.vault()).map_err(|error| internal(&error))?;
    let place = format!("rest:https://localhost:{}/store/{}/", keeper.port, stored.id);
    // What restic keeps of a repository is what its machine wrote, however much that is.
    let cache = keeper.temporary().join(format!("cache-{}", run.id));
    let password = config.password.expose_secret().clone();
    let mut repository = Repository::new(place, password, cache.clone());
    repository.temp_dir = Some(keeper.temporary());
    repository.rest_username = Some(stored.id.to_string());
    repository.rest_password = Some(pass.password.expose_secret().clone().into());
    repository.ca_file = Some(keeper.authority());
    let mut job = Job {
        keeper,
        run,
        id: stored.id,
        name: stored.name,
        restic,
        repository,
        pass,
        voice,
        cancel,
    };
    let done = job.carry_out().await;
    let _ = tokio::fs::remove_dir_all(&cache).await;
    if let Err(error) = job.pass.leave().await {
        tracing::warn!(error = &error as &dyn std::error::Error, repository = %stored.id, "failed to remove what locks the manager left");
    }
    done
}

fn gone(what: &str) -> Problem {
    Problem::new(Code::NotFound, format!("The {what} of this run is not there any more."))
}

struct Job<'a> {
    keeper: &'a Keeper,
    run: &'a Run,
    id: RepositoryId,
    name: String,
    restic: Restic,
    repository: Repository,
    pass: Pass,
    voice: &'a mut Voice,
    cancel: &'a CancelToken,
}

impl Job<'_> {
    async fn carry_out(&mut self) -> Result<Outcome, Stop> {
        self.inspect().await?;
        match &self.run.spec {
            RunSpec::Forget { dry_run, keep_suspects, .. } => {
                self.forget(*dry_run, *keep_suspects).await
            }
            RunSpec::Prune { dry_run, .. } => self.prune(*dry_run).await,
            RunSpec::Check { read_data, .. } => {
                let done = self.check(*read_data).await?;
                if matches!(done, CheckOutcome::Sound(_)) {
                    self.voice.say("No errors were found.");
                }
                Ok(verdict::checked(done))
            }
            RunSpec::Backup { .. }
            | RunSpec::Init { .. }
            | RunSpec::Unlock { .. }
            | RunSpec::Stats { .. }
            | RunSpec::Restore { .. }
            | RunSpec::Unknown => {
                Err(Problem::new(Code::Internal, "The manager does not do this itself.").into())
            }
        }
    }

    /// Ends the run where a machine has put files into the repository of which restic can make nothing.
    /// A check takes them away, since only a check is meant to find what is wrong.
    async fn inspect(&mut self) -> Result<(), Stop> {
        let is_check = matches!(self.run.spec, RunSpec::Check { .. });
        let mut needed = vec![Sealed::Lock, Sealed::Snapshot];
        // A forget reads no index.
        if !matches!(self.run.spec, RunSpec::Forget { .. }) {
            needed.push(Sealed::Index);
        }
        let mut sink = |event| self.voice.hear(event);
        let key = self.restic.master_key(&self.repository, &mut sink, self.cancel).await?;
        let store = self.keeper.manager.store();
        let visitor = store.let_in(self.id, &self.pass.password, true).await?;
        let visitor = visitor.ok_or_else(|| gone("repository"))?;
        let aliens = inspection::inspect(&visitor, key, &needed, self.cancel).await?;
        if self.cancel.is_cancelled() {
            return Err(Failure::cancelled().into());
        }
        for Alien { object, why } in aliens.iter().take(NAMED) {
            self.voice.say(format!("{}: {why}.", object.path().display()));
        }
        if aliens.is_empty() {
            return Ok(());
        }
        if is_check {
            for Alien { object, .. } in &aliens {
                visitor.delete(object).await?;
            }
            self.note(None, Some("failed")).await?;
        }
        Err(alien(aliens.len(), is_check).into())
    }

    async fn forget(&mut self, dry_run: bool, keep_suspects: bool) -> Result<Outcome, Stop> {
        let (plan, retention) = self.plan().await?;
        self.voice.say(format!(
            "Removing snapshots from {} that the plan does not keep, by the time at which they arrived here.{}",
            self.name,
            if dry_run { " Nothing will be changed." } else { "" }
        ));
        let tags = vec![plan.tag()];
        let filter = SnapshotFilter { tags, ..SnapshotFilter::default() };
        let mut sink = |event| self.voice.hear(event);
        let found =
            self.restic.snapshots(&self.repository, &filter, &mut sink, self.cancel).await?;
        let db = self.keeper.manager.db().read();
        let arrivals = rows::arrivals(db, self.id).await?;
        let now = self.keeper.manager.now();
        let suspects = Suspects::among(&found, &arrivals, self.run.host_id, now);
        for line in suspects.0.values().take(NAMED) {
            self.voice.say(line.clone());
        }
        if let Some(problem) = suspects.problem().filter(|_| !keep_suspects) {
            return Err(problem.into());
        }
        let genuine = found.into_iter().filter(|it| !suspects.0.contains_key(&it.id));
        let arrived = genuine.map(|snapshot| Arrived {
            at: arrivals.get(&snapshot.id).copied().unwrap_or(now),
            id: snapshot.id,
        });
        let (stay, go) = retention::split(arrived.collect(), &retention)?;
        let verb = if dry_run { "would go" } else { "goes" };
        for one in go.iter().take(NAMED) {
            self.voice.say(format!("Snapshot {}, arrived {}, {verb}.", short(&one.id), one.at));
        }
        if !dry_run {
            self.remove(&go).await?;
        }
        let (verb, stays) = if dry_run { ("would go", "would stay") } else { ("went", "stayed") };
        let sum = count(go.len(), "snapshot");
        self.voice.say(format!("{sum} {verb}, {} {stays}.", stay.len()));
        if !dry_run && !go.is_empty() {
            self.voice.say("What went can be brought back for a week, on the page of the store.");
        }
        if !suspects.0.is_empty() {
            let kept = count(suspects.0.len(), "suspect snapshot");
            self.voice.say(format!("{kept} {stays} too, without counting."));
        }
        let listed: Vec<&str> = go.iter().map(|one| one.id.as_str()).take(NAMED).collect();
        Ok(verdict::succeeded(json!({
            "dry_run": dry_run,
            "removed": listed,
            "removed_count": go.len(),
            "kept_count": stay.len(),
            "suspect_count": suspects.0.len(),
        })))
    }

    async fn plan(&self) -> Result<(PlanId, Retention), Stop> {
        let of_host = plans::of_host(self.keeper.manager.db().read(), self.run.host_id).await?;
        let plan = of_host.into_iter().find(|plan| Some(plan.id) == self.run.plan_id);
        let plan = plan.ok_or_else(|| gone("plan"))?;
        let retention = plan.retention.filter(|retention| !retention.is_empty());
        let retention = retention.ok_or_else(|| {
            Problem::new(Code::RetentionEmpty, "The plan has no retention any more.")
                .guidance("Give the plan a retention first.")
        })?;
        Ok((plan.id, retention))
    }

    async fn remove(&mut self, go: &[Arrived]) -> Result<(), Stop> {
        for some in go.chunks(AT_ONCE) {
            let ids = some.iter().map(|one| SnapshotId::new(&one.id)).collect::<Result<_, _>>()?;
            let request = ForgetRequest::Snapshots(ids);
            let mut sink = |event| self.voice.hear(event);
            self.restic.forget(&self.repository, &request, &mut sink, self.cancel).await?;
            let ids: Vec<String> = some.iter().map(|one| one.id.clone()).collect();
            self.note_removed(&ids).await?;
        }
        Ok(())
    }

    /// The list of the page is that of the machine's last reading, less what is gone since.
    async fn note_removed(&self, ids: &[String]) -> Result<(), Stop> {
        let repository = self.id;
        let mut tx = self.keeper.manager.db().begin().await?;
        snapshots::remove(&mut tx, repository, ids).await?;
        let facts = snapshots::facts(&mut *tx, repository).await?;
        if let (Some(read_at), Some(host)) = (facts.snapshots_read_at, facts.snapshots_host_id) {
            let digest = snapshots::digest(&mut *tx, repository).await?;
            snapshots::note_snapshots(&mut tx, repository, host, &digest, read_at).await?;
        }
        Ok(tx.commit().await.map_err(DbError::from)?)
    }

    /// A machine can write packs and an index that make a prune throw genuine data away, and no check
    /// of the structure finds them: so all data is read first, and what came since is not pruned.
    async fn prune(&mut self, dry_run: bool) -> Result<Outcome, Stop> {
        if !dry_run && !self.pass.is_checked() {
            self.voice.say("All data is verified before any of it is deleted.");
            if let CheckOutcome::Damaged(report) = self.check(true).await? {
                let mut outcome = verdict::checked(CheckOutcome::Damaged(report));
                if let Some(problem) = &mut outcome.problem {
                    problem.message = format!("Nothing was deleted. {}", problem.message);
                    problem.guidance = Some(
                        "Do not prune this repository: its machine may have written what is not true. \
                         Look at the machine, restore what you need from a snapshot before, and let it \
                         begin a new repository."
                            .to_owned(),
                    );
                }
                return Ok(outcome);
            }
            self.voice.say("No errors were found.");
        }
        self.voice.say(format!("Removing data from {} that no snapshot needs.", self.name));
        if !dry_run && !self.pass.delete_what_was_checked() {
            return Err(overtaken().into());
        }
        let request = PruneRequest { dry_run, ..PruneRequest::default() };
        let mut sink = |event| self.voice.hear(event);
        let done = self.restic.prune(&self.repository, request, &mut sink, self.cancel).await;
        if matches!(&done, Err(Failure { kind: FailureKind::Refused, .. })) {
            return Err(overtaken().into());
        }
        let done = done?;
        if !dry_run {
            self.note_size().await?;
        }
        Ok(verdict::succeeded(serde_json::to_value(done).unwrap_or(Value::Null)))
    }

    async fn note_size(&mut self) -> Result<(), Stop> {
        let mut sink = |event| self.voice.hear(event);
        let size = self.restic.raw_data_stats(&self.repository, &mut sink, self.cancel).await?;
        self.note(Some(size.total_size), None).await
    }

    async fn note(&self, size: Option<u64>, check: Option<&str>) -> Result<(), Stop> {
        let manager = &self.keeper.manager;
        let check = check.map(|word| (manager.now(), word));
        let mut tx = manager.db().begin().await?;
        snapshots::note_own(&mut tx, self.id, size, check).await?;
        Ok(tx.commit().await.map_err(DbError::from)?)
    }

    async fn check(&mut self, read_data: bool) -> Result<CheckOutcome, Stop> {
        let wrote = self.pass.host_wrote();
        let read = if read_data { ReadData::All } else { ReadData::None };
        let request = CheckRequest { read_data: read };
        let mut sink = |event| self.voice.hear(event);
        let done = self.restic.check(&self.repository, request, &mut sink, self.cancel).await?;
        let is_sound = matches!(done, CheckOutcome::Sound(_));
        if read_data && is_sound {
            self.pass.checked(wrote);
        }
        self.note(None, Some(if is_sound { "ok" } else { "failed" })).await?;
        Ok(done)
    }
}

/// What keeps restic out of a repository, and what became of it.
fn alien(files: usize, is_taken: bool) -> Problem {
    let (are, them) = if files == 1 { ("is", "it") } else { ("are", "them") };
    let done = if is_taken {
        format!("The check has taken {them} away; all but locks can be brought back for a week.")
    } else {
        "Nothing was changed.".to_owned()
    };
    let next = if is_taken {
        "Start the check again: it then looks at the rest. If neither this computer's disk nor the \
         machine's is failing, somebody may have stolen the machine's credentials: look at the machine."
            .to_owned()
    } else {
        format!("Start a check: it takes {them} away.")
    };
    let files = count(files, "file");
    let message = format!(
        "{files} of the repository {are} not what restic writes, and no restic can work with {them} \
         there. {done}"
    );
    Problem::new(Code::RepositoryDamaged, message).guidance(next)
}

fn overtaken() -> Problem {
    Problem::new(
        Code::Conflict,
        "The machine wrote into the repository after it was checked, so nothing more was deleted. The repository is whole.",
    )
    .guidance("Start the prune again when no backup of this machine is going on.")
}

/// Snapshots that a forget must not count, by id: what is wrong with each.
struct Suspects(BTreeMap<String, String>);

impl Suspects {
    /// Looks for snapshots that are not what they say: dated after they arrived, or of another host.
    fn among(
        found: &[Snapshot],
        arrivals: &BTreeMap<String, Timestamp>,
        host: HostId,
        now: Timestamp,
    ) -> Self {
        let suspects = found.iter().filter_map(|snapshot| {
            let arrived = arrivals.get(&snapshot.id).copied().unwrap_or(now);
            let id = short(&snapshot.id);
            let line = if snapshot.time.duration_since(arrived) > AHEAD {
                let time = snapshot.time;
                format!("Snapshot {id} says that it is of {time}, and arrived at {arrived}.")
            } else if !snapshot.tags.contains(&host.tag()) {
                format!("Snapshot {id} is not of this machine, by its tags.")
            } else {
                return None;
            };
            Some((snapshot.id.clone(), line))
        });
        Self(suspects.collect())
    }

    /// Why nothing is deleted, if there are any.
    fn problem(&self) -> Option<Problem> {
        let first = self.0.values().next()?;
        let message = format!(
            "Nothing was deleted: there is something wrong with {} of this plan. {first}",
            count(self.0.len(), "snapshot")
        );
        Some(Problem::new(Code::SnapshotsSuspect, message).guidance(
            "If the machine's clock was wrong, go on without them: they stay, and count for nothing. If \
             you cannot explain them, somebody else may hold the machine's credentials: revoke it, and \
             keep what is there.",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> HostId {
        HostId::new(1, &[1; 10])
    }

    fn snapshot(n: u8, time: &str, tags: Vec<String>) -> Snapshot {
        let snapshot = json!({
            "id": format!("{n:064x}"), "short_id": "", "time": time, "hostname": "box",
            "paths": ["/"], "tags": tags, "tree": "", "username": "root",
        });
        serde_json::from_value(snapshot).unwrap()
    }

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    #[test]
    fn a_snapshot_from_the_future_or_of_another_host_stops_a_forget() {
        let now = at("2026-11-24T12:00:00Z");
        let arrivals = |ids: &[u8]| -> BTreeMap<String, Timestamp> {
            ids.iter().map(|n| (format!("{n:064x}"), at("2026-11-24T10:00:00Z"))).collect()
        };
        let ours = vec![host().tag()];
        let good = snapshot(1, "2026-11-24T10:30:00Z", ours.clone());
        let past = snapshot(2, "2020-01-01T00:00:00Z", ours.clone());
        let code = |found: &[Snapshot], ids: &[u8]| {
            let suspects = Suspects::among(found, &arrivals(ids), host(), now);
            assert!(!suspects.0.contains_key(&good.id));
            suspects.problem().map(|problem| problem.code)
        };
        assert_eq!(code(&[good.clone(), past], &[1, 2]), None);
        let ahead = snapshot(3, "2030-01-01T00:00:00Z", ours);
        assert_eq!(code(&[good.clone(), ahead], &[1, 3]), Some(Code::SnapshotsSuspect));
        let foreign = snapshot(4, "2026-11-24T09:00:00Z", vec!["host:other".to_owned()]);
        assert_eq!(code(&[good.clone(), foreign], &[1, 4]), Some(Code::SnapshotsSuspect));
    }
}
