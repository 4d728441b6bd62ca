//! Ninety days of a machine: its runs with their logs, its snapshots, and what was read of its
//! repository.

use super::{
    Made,
    cast::{Fate, Machine},
    dice::Dice,
    millis,
};
use anyhow::Result;
use jiff::{SignedDuration, Timestamp, ToSpan as _, civil::Date, tz::TimeZone};
use protocol::{
    Code, JobFinished, JobKind, JobStarted, JobStatus, LockInfo, LogLine, LogStream, PlanId,
    RepoStats, RestoreReport, RunId, RunSpec, Snapshot, TreeWant, UnreadableFile, snapshots_digest,
};
use serde_json::json;
use server::db::{
    Tx, audit, folders, logs, repositories,
    runs::{self, Dispatch, NewRun},
    snapshots,
};
use sha2::{Digest as _, Sha256};

const DAYS: i64 = 90;
/// The plans keep thirty daily snapshots, and one of each week before.
const DAILY_KEPT: i64 = 30;
/// Older runs have no log any more.
const LOGS_KEPT: i64 = 5;

/// How a run ended, with what is told of it.
struct End {
    status: JobStatus,
    code: Option<Code>,
    error: Option<&'static str>,
    guidance: Option<&'static str>,
}

impl End {
    const fn plain(status: JobStatus) -> Self {
        Self { status, code: None, error: None, guidance: None }
    }
}

const WELL: End = End::plain(JobStatus::Succeeded);

/// Writes it.
pub(super) async fn write(tx: &mut Tx, made: &Made, now: Timestamp, dice: &mut Dice) -> Result<()> {
    let fate = made.machine.fate;
    if fate == Fate::Unplanned || fate == Fate::New {
        return Ok(());
    }
    initialise(tx, made, dice).await?;
    if fate == Fate::Ready {
        return Ok(());
    }
    let mut kept = Vec::new();
    for day in (0..DAYS).rev() {
        if fate == Fate::Revoked && day < 16 || fate == Fate::Stale && day < 11 {
            break;
        }
        if fate == Fate::Silent && day < 4 {
            break;
        }
        for (index, plan) in made.plans.iter().enumerate() {
            let night = Night::of(now, day)?;
            kept.extend(backup(tx, made, *plan, &night, index, dice).await?);
        }
        care(tx, made, now, day, dice).await?;
    }
    what_is_going(tx, made, now, dice).await?;
    store(tx, made, &kept, now, dice).await
}

/// A time of the plans, which all have it at two by the clock in Berlin, and what is left of the night after it.
struct Night {
    slot: Timestamp,
    /// How many days ago.
    day: i64,
    /// From the slot to the present.
    passed: SignedDuration,
}

/// So long after a time of a plan its run has begun, or is late.
const BEGUN: SignedDuration = SignedDuration::from_mins(15);
/// In so long all runs of a night are over.
const WHOLE_NIGHT: SignedDuration = SignedDuration::from_hours(4);

impl Night {
    /// The newest night is the one of which nothing more is to come.
    fn of(now: Timestamp, day: i64) -> Result<Self> {
        let berlin = TimeZone::get(super::ZONE)?;
        let begun = now - BEGUN;
        let mut date = berlin.to_datetime(begun).date();
        if slot_on(date, &berlin)? > begun {
            date = date.yesterday()?;
        }
        let slot = slot_on(date.checked_sub(day.days())?, &berlin)?;
        Ok(Self { slot, day, passed: now.duration_since(slot) })
    }

    /// A moment so far into it; into a night that goes on less far, so that it is over.
    fn moment(&self, far: SignedDuration) -> Timestamp {
        let passed = self.passed.min(WHOLE_NIGHT);
        let seconds = far.as_secs() * passed.as_secs() / WHOLE_NIGHT.as_secs();
        self.slot + SignedDuration::from_secs(seconds)
    }

    /// What a run takes that began then and shall be over.
    fn at_most(&self, at: Timestamp, took: SignedDuration) -> SignedDuration {
        took.min((self.passed - at.duration_since(self.slot)) / 2)
    }
}

fn slot_on(date: Date, zone: &TimeZone) -> Result<Timestamp> {
    Ok(zone.to_ambiguous_timestamp(date.at(2, 0, 0, 0)).compatible()?)
}

/// A run from request to end.
struct Told<'a> {
    spec: &'a RunSpec,
    plan: Option<PlanId>,
    at: Timestamp,
    took: SignedDuration,
    end: End,
    by: &'a str,
    /// The time of its plan that it serves.
    slot: Option<Timestamp>,
}

async fn tell(
    tx: &mut Tx,
    made: &Made,
    told: &Told<'_>,
    dice: &mut Dice,
    fill: impl FnOnce(RunId, &mut JobFinished),
) -> Result<RunId> {
    let id = RunId::new(millis(told.at), &dice.ten());
    // Of a run of its schedule the manager hears when it begins.
    if told.slot.is_none() {
        let new = NewRun {
            id,
            host_id: made.host,
            plan_id: told.plan,
            repository_id: Some(made.repository),
            spec: told.spec,
            dispatch: Dispatch::Waiting,
            requested_by: told.by,
            created_at: told.at,
            expires_at: Some(told.at + SignedDuration::from_hours(24)),
        };
        runs::insert(tx, &new).await?;
    }
    let has_begun = !matches!(told.end.status, JobStatus::Expired | JobStatus::Lost);
    if has_begun {
        let started = JobStarted {
            job_id: id,
            kind: told.spec.kind(),
            started_at: told.at + SignedDuration::from_secs(1),
            schedule_id: told.plan,
            repository_id: Some(made.repository),
            command: None,
            slot: told.slot,
            attempt: None,
        };
        runs::apply_started(tx, &runs::Told::from([((made.host, id), started)]), told.at).await?;
    }
    let mut finished = JobFinished {
        job_id: id,
        status: told.end.status,
        exit_code: i32::from(told.end.status != JobStatus::Succeeded),
        finished_at: told.at + told.took,
        stats: None,
        error: told.end.error.map(str::to_owned),
        code: told.end.code,
        guidance: told.end.guidance.map(str::to_owned),
        snapshot_id: None,
        unreadable: Vec::new(),
        unreadable_count: 0,
        log_lines: 0,
        restore: None,
    };
    fill(id, &mut finished);
    let finished = runs::Told::from([((made.host, id), finished)]);
    runs::apply_finished(tx, &finished, told.at + told.took).await?;
    if told.by == "admin" {
        let detail = format!("{} on {}", told.spec.kind().as_str(), made.machine.name);
        audit::insert(tx, told.at, "admin", "run.start", &format!("run:{id}"), &detail).await?;
    }
    Ok(id)
}

async fn write_log(
    tx: &mut Tx,
    made: &Made,
    run: RunId,
    begun: Timestamp,
    lines: &[(i64, LogStream, String)],
) -> Result<()> {
    for (index, (second, stream, payload)) in lines.iter().enumerate() {
        let line = LogLine {
            job_id: run,
            seq: u64::try_from(index)? + 1,
            ts: begun + SignedDuration::from_secs(*second),
            stream: *stream,
            payload: payload.clone(),
        };
        logs::insert(tx, Some(made.host), &line).await?;
    }
    Ok(())
}

async fn initialise(tx: &mut Tx, made: &Made, dice: &mut Dice) -> Result<()> {
    let spec = RunSpec::Init { repository_id: Some(made.repository) };
    let at = made.enrolled_at + SignedDuration::from_mins(2);
    let took = SignedDuration::from_secs(2);
    let told = Told { spec: &spec, plan: None, at, took, end: WELL, by: "admin", slot: None };
    let run = tell(tx, made, &told, dice, |_, _| {}).await?;
    let id = &dice.hex_id()[..10];
    let words = format!("The repository was created; its id is {id}.");
    write_log(tx, made, run, at, &[(1, LogStream::Event, words)]).await?;
    repositories::note_initialised(tx, made.repository, at + took).await?;
    Ok(())
}

/// What a machine had on that day.
fn size_at(machine: &Machine, day: i64, index: usize, dice: &mut Dice) -> (u64, u64) {
    let share = if index == 0 { 80 } else { 20 };
    let back = machine.growth * u64::try_from(day).unwrap_or_default() / 90;
    let wobble = dice.below(4);
    let per_mille = 1000 - 10 * back.min(90) + wobble;
    let of = |whole: u64| if machine.fate == Fate::Running { whole / 100 * share } else { whole };
    (of(machine.bytes) / 1000 * per_mille, of(machine.files) / 1000 * per_mille)
}

async fn backup(
    tx: &mut Tx,
    made: &Made,
    plan: PlanId,
    night: &Night,
    index: usize,
    dice: &mut Dice,
) -> Result<Option<Snapshot>> {
    let machine = &made.machine;
    let day = night.day;
    let minutes = i64::try_from(dice.below(120))? + 47 * i64::try_from(index)?;
    let at = night.moment(SignedDuration::from_mins(minutes));
    let (bytes, files) = size_at(machine, day, index, dice);
    let end = ending(machine.fate, day, dice);
    let minutes = 2 + i64::try_from(bytes / 40_000_000_000)?;
    let took = SignedDuration::from_secs(minutes * 60 + i64::try_from(dice.below(120))?);
    let took = night.at_most(at, took);
    let spec = RunSpec::Backup { schedule_id: Some(plan) };
    let added = bytes / 2000 * (1 + dice.below(18));
    let (fresh, changed) = (dice.below(900), dice.below(4_000));
    let has_snapshot = matches!(end.status, JobStatus::Succeeded | JobStatus::Partial);
    let snapshot_id = has_snapshot.then(|| snapshot_id(&machine.name, index, day));
    let unreadable =
        if end.status == JobStatus::Partial { unreadable(machine) } else { Vec::new() };
    let lines = if day < LOGS_KEPT {
        backup_log(machine, &end, files, bytes, &unreadable, snapshot_id.as_deref())
    } else {
        Vec::new()
    };
    let slot = Some(night.slot);
    let told = Told { spec: &spec, plan: Some(plan), at, took, end, by: "agent", slot };
    let run = tell(tx, made, &told, dice, |_, finished| {
        finished.snapshot_id.clone_from(&snapshot_id);
        finished.unreadable_count = u64::try_from(unreadable.len()).unwrap_or_default();
        finished.unreadable.clone_from(&unreadable);
        finished.log_lines = u64::try_from(lines.len()).unwrap_or_default();
        if has_snapshot {
            finished.stats = Some(json!({
                "files_new": fresh, "files_changed": changed, "files_unmodified": files,
                "total_files_processed": files, "total_bytes_processed": bytes,
                "data_added": added * 2, "data_added_packed": added,
            }));
        }
    })
    .await?;
    write_log(tx, made, run, at, &lines).await?;
    let is_kept = day < DAILY_KEPT || day % 7 == 0;
    Ok(snapshot_id.filter(|_| is_kept).map(|id| Snapshot {
        short_id: id.chars().take(8).collect(),
        id,
        time: at,
        hostname: machine.name.clone(),
        paths: paths(machine, index),
        tags: vec![plan.tag(), made.host.tag(), run.tag()],
        size_bytes: Some(bytes),
        file_count: Some(files),
        added_bytes: Some(added),
    }))
}

/// The id of the snapshot that a plan of a machine took so many days ago.
pub(super) fn snapshot_id(machine: &str, index: usize, day: i64) -> String {
    let hash = Sha256::digest(format!("snapshot {machine} {index} {day}"));
    data_encoding::HEXLOWER.encode(&hash)
}

fn paths(machine: &Machine, index: usize) -> Vec<String> {
    let of = |all: &[&str]| all.iter().map(|path| (*path).to_owned()).collect();
    if machine.fate == Fate::Running {
        of(&machine.paths[index..=index])
    } else {
        of(machine.paths)
    }
}

/// How the backup of a day ended; what became of the machine shows in the newest.
fn ending(fate: Fate, day: i64, dice: &mut Dice) -> End {
    let end = |status, code, error, guidance| End {
        status,
        code: Some(code),
        error: Some(error),
        guidance: Some(guidance),
    };
    let unreachable = end(
        JobStatus::Failed,
        Code::RepositoryUnreachable,
        "The repository did not answer: connection refused.",
        "Nothing was written. Look whether its server is up, then retry.",
    );
    let partial = end(
        JobStatus::Partial,
        Code::FilesUnreadable,
        "2 files could not be read; the snapshot is complete without them.",
        "Close what holds them open, or exclude them in the plan.",
    );
    let interrupted = end(
        JobStatus::Interrupted,
        Code::Interrupted,
        "The machine or its agent stopped in the middle.",
        "No snapshot was written. What was uploaded is used by the next backup.",
    );
    let locked = end(
        JobStatus::Failed,
        Code::RepositoryLocked,
        "The repository is locked by backup-02 since 02:14.",
        "Nothing was written. Look at the lock in the machine's settings; if that process is \
         gone, unlock there and retry.",
    );
    let full = end(
        JobStatus::Failed,
        Code::DiskFull,
        "The disk of the repository is full.",
        "Make room there, or forget snapshots and prune.",
    );
    let expired = end(
        JobStatus::Expired,
        Code::Expired,
        "The machine was not there in time; nothing was done.",
        "Start it again when the machine is connected.",
    );
    if day < 2 {
        let newest = [
            (Fate::Locked, locked),
            (Fate::DiskFull, full),
            (Fate::Partial, partial),
            (Fate::Unreachable, unreachable),
        ];
        let own = newest.into_iter().find(|(of, _)| *of == fate).map(|(_, end)| end);
        let cut = (fate == Fate::Interrupted && day == 0).then_some(interrupted);
        return own.or(cut).unwrap_or(WELL);
    }
    match dice.below(1000) {
        0..14 => partial,
        14..23 => unreachable,
        23..28 => interrupted,
        28..32 => End::plain(JobStatus::Cancelled),
        32..36 => expired,
        _ => WELL,
    }
}

fn unreadable(machine: &Machine) -> Vec<UnreadableFile> {
    let base = machine.paths[0];
    let (one, other, why) = if base.contains('\\') {
        ("\\Documents\\outlook.pst", "\\ntuser.dat", "The process cannot access the file.")
    } else {
        ("/tmp/session.lock", "/private/index.db", "permission denied")
    };
    [one, other]
        .into_iter()
        .map(|name| UnreadableFile { path: format!("{base}{name}"), error: why.to_owned() })
        .collect()
}

fn backup_log(
    machine: &Machine,
    end: &End,
    files: u64,
    bytes: u64,
    unreadable: &[UnreadableFile],
    snapshot: Option<&str>,
) -> Vec<(i64, LogStream, String)> {
    let out = LogStream::Stdout;
    let mut lines = vec![(1, out, "open repository".to_owned())];
    if end.status == JobStatus::Failed {
        let error = end.error.unwrap_or("It failed.");
        lines.push((3, LogStream::Stderr, format!("Fatal: {error}")));
        return lines;
    }
    lines.push((2, out, "lock repository".to_owned()));
    lines.push((3, out, "load index files".to_owned()));
    lines.push((5, out, format!("start scan on {}", machine.paths.join(" "))));
    let gib = bytes / (1 << 30);
    lines.push((34, out, format!("scan finished: {files} files, {gib} GiB")));
    for file in unreadable {
        lines.push((71, LogStream::Stderr, format!("error: {}: {}", file.path, file.error)));
    }
    if let Some(id) = snapshot {
        lines.push((118, out, format!("Files: {files} processed in 1:54")));
        lines.push((119, out, format!("snapshot {} saved", &id[..8])));
    }
    lines
}

/// When an admin takes care of a repository, so many days ago.
fn morning_of(now: Timestamp, day: i64) -> Result<Timestamp> {
    Ok(Night::of(now, day)?.slot + SignedDuration::from_mins(7 * 60 + 12))
}

/// What an admin does besides: a check each week, forget and prune each month, a restore.
async fn care(tx: &mut Tx, made: &Made, now: Timestamp, day: i64, dice: &mut Dice) -> Result<()> {
    let at = morning_of(now, day)?;
    let repository_id = Some(made.repository);
    let (spec, minutes) = match day % 30 {
        5 | 12 | 19 | 26 => (RunSpec::Check { repository_id, read_data: false }, 4),
        9 => (
            RunSpec::Forget {
                schedule_id: made.plans.first().copied(),
                dry_run: false,
                keep_suspects: false,
            },
            1,
        ),
        10 => (RunSpec::Prune { repository_id, dry_run: false }, 22),
        _ => return Ok(()),
    };
    let plan = spec.plan_id();
    let took = SignedDuration::from_secs(minutes * 60 + i64::try_from(dice.below(50))?);
    if at + took > now {
        return Ok(());
    }
    let told = Told { spec: &spec, plan, at, took, end: WELL, by: "admin", slot: None };
    let run = tell(tx, made, &told, dice, |_, _| {}).await?;
    let words = if spec.kind() == JobKind::Check {
        "No errors were found."
    } else if plan.is_some() {
        "7 snapshots went, 38 stayed."
    } else {
        "Repacked and removed what no snapshot needs."
    };
    write_log(tx, made, run, at, &[(3, LogStream::Event, words.to_owned())]).await
}

/// What was asked for today: a restore, and the backup that is to go on while somebody looks.
async fn what_is_going(tx: &mut Tx, made: &Made, now: Timestamp, dice: &mut Dice) -> Result<()> {
    let plan = made.plans[0];
    if matches!(made.machine.fate, Fate::Running | Fate::Waiting) {
        let spec = RunSpec::Backup { schedule_id: Some(plan) };
        let created_at = now - SignedDuration::from_mins(16);
        let new = NewRun {
            id: RunId::new(millis(created_at), &dice.ten()),
            host_id: made.host,
            plan_id: Some(plan),
            repository_id: Some(made.repository),
            spec: &spec,
            dispatch: Dispatch::Waiting,
            requested_by: "admin",
            created_at,
            expires_at: Some(created_at + SignedDuration::from_hours(24)),
        };
        runs::insert(tx, &new).await?;
    }
    Ok(())
}

/// The snapshots that are kept, the folders of the newest, and the repository's facts.
async fn store(
    tx: &mut Tx,
    made: &Made,
    kept: &[Snapshot],
    now: Timestamp,
    dice: &mut Dice,
) -> Result<()> {
    let Some(newest) = kept.last().cloned() else { return Ok(()) };
    restore(tx, made, &newest, now, dice).await?;
    let first = kept.iter().rev().find(|one| one.paths == paths(&made.machine, 0));
    folders_of(tx, made, first.unwrap_or(&newest), now).await?;
    snapshots::add(tx, made.repository, kept).await?;
    let all = snapshots::list(&mut **tx, made.repository, 0, 5_000).await?;
    let digest = snapshots_digest(all.iter().map(|one| one.id.as_str()));
    let read_at = newest.time + SignedDuration::from_mins(5);
    snapshots::note_snapshots(tx, made.repository, made.host, &digest, read_at).await?;
    let whole: u64 = all.iter().filter_map(|one| one.size_bytes).sum();
    let added: u64 = all.iter().filter_map(|one| one.added_bytes).sum();
    let first = all.last().and_then(|one| one.size_bytes).unwrap_or_default();
    let size_bytes = (first + added) / 10 * 8;
    let locks = if made.machine.fate == Fate::Locked { vec![lock(now)] } else { Vec::new() };
    #[expect(clippy::cast_precision_loss, reason = "a ratio of sizes needs no more than 15 digits")]
    let dedup_ratio = whole as f64 / size_bytes.max(1) as f64;
    let stats = RepoStats {
        size_bytes,
        snapshot_count: u64::try_from(all.len())?,
        dedup_ratio,
        last_check_at: Some(morning_of(now, 5)?),
        last_check_status: Some("ok".to_owned()),
        lock_state: if locks.is_empty() { "unlocked" } else { "locked" }.to_owned(),
        repository_id: Some(made.repository),
        read_at: Some(read_at),
        locks,
    };
    snapshots::note_stats(tx, made.repository, &stats, read_at).await?;
    Ok(())
}

fn lock(now: Timestamp) -> LockInfo {
    LockInfo {
        id: "8f3a1c77d2e04b95a1c0e6f2b7d3948c5a6e1f0b2c3d4e5f60718293a4b5c6d7".to_owned(),
        time: Some(now - SignedDuration::from_hours(12)),
        exclusive: true,
        hostname: "backup-02".to_owned(),
        username: "root".to_owned(),
        pid: 4711,
    }
}

async fn restore(
    tx: &mut Tx,
    made: &Made,
    newest: &Snapshot,
    now: Timestamp,
    dice: &mut Dice,
) -> Result<()> {
    if !matches!(made.machine.fate, Fate::Running | Fate::Partial) {
        return Ok(());
    }
    let chosen = format!("{}/2026/harbour", made.machine.paths[0]);
    let spec = RunSpec::Restore {
        repository_id: Some(made.repository),
        snapshot_id: newest.id.clone(),
        include: vec![chosen],
    };
    let took = SignedDuration::from_secs(41);
    let at = newest.time + now.duration_since(newest.time) / 2;
    let told = Told { spec: &spec, plan: None, at, took, end: WELL, by: "admin", slot: None };
    let run = tell(tx, made, &told, dice, |id, finished| {
        finished.restore = Some(RestoreReport {
            target: format!("/var/lib/restic-manager-agent/restores/{id}"),
            files: 214,
            bytes: 5_310_000_000,
            missing: Vec::new(),
        });
    })
    .await?;
    let words = "Restored 214 files and folders, 4.9 GiB.".to_owned();
    write_log(tx, made, run, at, &[(40, LogStream::Event, words)]).await
}

async fn folders_of(tx: &mut Tx, made: &Made, newest: &Snapshot, now: Timestamp) -> Result<()> {
    if made.machine.fate != Fate::Running {
        return Ok(());
    }
    for (path, entries) in super::player::tree(&newest.paths[0], newest.time) {
        let want =
            TreeWant { repository_id: made.repository, snapshot_id: newest.id.clone(), path };
        folders::keep(tx, &want, &folders::Folder { entries, read_at: now }).await?;
    }
    Ok(())
}
