//! What one record changes. Everything here may be called twice with the same record and changes
//! something once.

use crate::{
    db::{
        Tx, alarms, channels,
        error::DbError,
        hosts, logs,
        notices::{self, NewNotice},
        repositories,
        runs::{self, Reported, Told},
        slots,
    },
    desired::Sources,
    manager::Manager,
    session::core::Record,
    text,
};
use protocol::{
    AlarmDelivered, AlarmRaised, AwakeInterval, Code, DeliveryResult, FromAgent, HostId,
    JobFinished, JobStarted, JobStatus, LogLine, Problem, RepositoryId, RunId, ScheduleAck,
    SlotDeferred, UnreadableFile, journal::is_durable,
};
use schedule::zone;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What a transaction has changed, to be told after its commit.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Log lines that are new.
    pub lines: BTreeMap<RunId, Vec<LogLine>>,
    /// What is not written yet.
    waiting: Waiting,
    /// Runs whose state changed.
    pub runs: BTreeSet<RunId>,
    /// Runs that ended.
    pub ended: BTreeSet<RunId>,
    /// Hosts that changed.
    pub hosts: BTreeSet<HostId>,
    /// Repositories that changed.
    pub repositories: Vec<RepositoryId>,
    /// Whether alarms were told.
    pub has_alarms: bool,
    /// Whether notices changed.
    pub has_notices: bool,
}

/// What runs bring. It comes in great number, and is written together: the beginnings of runs, then their
/// lines, then their ends. Whatever else is applied comes after all of that.
#[derive(Debug, Default)]
struct Waiting {
    started: Told<JobStarted>,
    lines: Vec<(HostId, LogLine)>,
    finished: Told<JobFinished>,
}

/// So many runs that begin or end are written together at most.
const WAITING_RUNS: usize = 200;

impl Waiting {
    /// Keeps what tells how a run goes, and gives back what does not.
    fn keep(&mut self, host: HostId, message: FromAgent) -> Option<FromAgent> {
        if let FromAgent::LogLine(line) = message {
            self.lines.push((host, LogLine { payload: text::log_line(line.payload), ..line }));
        } else if let FromAgent::JobStarted(started) = message {
            self.started.entry((host, started.job_id)).or_insert(started);
        } else if let FromAgent::JobFinished(finished) = message {
            // What is told first of a run's end counts.
            let run = (host, finished.job_id);
            self.finished.entry(run).or_insert_with(|| cleaned(*finished));
        } else {
            return Some(message);
        }
        None
    }

    fn is_full(&self) -> bool {
        self.started.len().max(self.finished.len()) >= WAITING_RUNS
    }
}

/// Applies a record whose place in the journal is right. One that cannot be understood is skipped
/// with a notice: it must never wedge the journal.
pub(super) async fn record(
    manager: &Manager,
    tx: &mut Tx,
    host: HostId,
    record: &Record,
    applied: &mut Applied,
) -> Result<(), DbError> {
    let kind = &record.frame.kind;
    if !is_durable(kind) {
        // A newer agent's word; it does not say anything to this version.
        return Ok(());
    }
    match FromAgent::decode(&record.frame) {
        Ok(content) => message(manager, tx, host, content, applied).await,
        Err(_) => {
            let kind = text::name(kind);
            let notice = NewNotice::of_host(
                host,
                Code::FrameInvalid,
                format!("A {kind} record of the machine's journal could not be understood and was skipped."),
            )
            .subject(kind)
            .guidance("Update the agent and the manager to the same version.");
            tell(manager, tx, &notice, applied).await
        }
    }
}

/// Applies what an agent said.
pub(super) async fn message(
    manager: &Manager,
    tx: &mut Tx,
    host: HostId,
    message: FromAgent,
    applied: &mut Applied,
) -> Result<(), DbError> {
    let Some(message) = applied.waiting.keep(host, message) else {
        return if applied.waiting.is_full() { rest(manager, tx, applied).await } else { Ok(()) };
    };
    rest(manager, tx, applied).await?;
    match &message {
        FromAgent::ScheduleAck(ack) => schedule_ack(manager, tx, host, ack, applied).await,
        FromAgent::JournalGap(gap) => {
            let (what, guidance) = if gap.reason == Code::JournalDamaged {
                (
                    "The machine's journal was damaged, and it began a new one",
                    "Check the machine's disk: `restic-manager-agent status` there says which file was \
                     kept. Look at the repository's snapshots to see what was backed up in that time.",
                )
            } else {
                (
                    "The machine began a new journal",
                    "Look at the repository's snapshots to see what was backed up in that time.",
                )
            };
            let after = gap.after_seq;
            let message =
                format!("{what}: records after {after} of the one before may be missing.");
            let notice = NewNotice::of_host(host, gap.reason, message)
                .subject(format!("gap:{}", gap.journal_id))
                .guidance(guidance);
            tell(manager, tx, &notice, applied).await
        }
        FromAgent::JournalElided(elided) => {
            for lines in &elided.runs {
                if let Some(line) = logs::note_elided(tx, host, lines, elided.ts).await? {
                    applied.lines.entry(line.job_id).or_default().push(line);
                }
            }
            Ok(())
        }
        FromAgent::AgentAwake(awake) => {
            // A clock that ran ahead must not say what was in a time that is still to come.
            let until = awake.until.min(manager.now());
            if awake.from >= until {
                return Ok(());
            }
            applied.hosts.insert(host);
            slots::note_awake(tx, host, &AwakeInterval { from: awake.from, until }).await
        }
        FromAgent::SlotDeferred(deferred) => {
            if runs::is_ahead(deferred.slot, manager.now()) {
                return Ok(());
            }
            applied.hosts.insert(host);
            let at = deferred.at.min(manager.now());
            slots::note_deferral(tx, host, &SlotDeferred { at, ..*deferred }).await
        }
        FromAgent::AlarmRaised(raised) => alarm_raised(manager, tx, host, raised, applied).await,
        FromAgent::AlarmDelivered(told) => alarm_delivered(manager, tx, host, told, applied).await,
        FromAgent::Hello(_)
        | FromAgent::Heartbeat(_)
        | FromAgent::CommandResult(_)
        | FromAgent::JobProgress(_)
        | FromAgent::SnapshotsReport(_)
        | FromAgent::RepoStats(_)
        | FromAgent::TreeReport(_)
        | FromAgent::AlarmTested(_)
        | FromAgent::TicketConfirm(_)
        | FromAgent::JobStarted(_)
        | FromAgent::JobFinished(_)
        | FromAgent::LogLine(_)
        | FromAgent::Unknown(_) => Ok(()),
    }
}

async fn tell(
    manager: &Manager,
    tx: &mut Tx,
    notice: &NewNotice,
    applied: &mut Applied,
) -> Result<(), DbError> {
    notices::open(tx, manager.new_id(), notice, manager.now()).await?;
    applied.has_notices = true;
    Ok(())
}

async fn alarm_raised(
    manager: &Manager,
    tx: &mut Tx,
    host: HostId,
    raised: &AlarmRaised,
    applied: &mut Applied,
) -> Result<(), DbError> {
    let now = manager.now();
    let mut raised = raised.clone();
    // There cannot be more.
    raised.channels.truncate(channels::MOST);
    // A clock that ran ahead must not keep an alarm on top for ever.
    raised.at = raised.at.min(now);
    raised.last_good = raised.last_good.map(|at| at.min(now));
    applied.has_alarms |= alarms::raise(tx, host, &raised).await?;
    Ok(())
}

async fn alarm_delivered(
    manager: &Manager,
    tx: &mut Tx,
    host: HostId,
    told: &AlarmDelivered,
    applied: &mut Applied,
) -> Result<(), DbError> {
    let problem = told.problem.as_ref().map(|problem| Problem {
        message: text::sentence(&problem.message),
        guidance: problem.guidance.as_deref().map(text::sentence),
        ..problem.clone()
    });
    let told = AlarmDelivered { at: told.at.min(manager.now()), problem, ..told.clone() };
    let Some(channel) = alarms::delivered(tx, host, &told).await? else { return Ok(()) };
    applied.has_alarms = true;
    let Some(problem) = told.problem.filter(|_| told.result == DeliveryResult::GaveUp) else {
        return Ok(());
    };
    let message =
        format!("The machine could not tell of an alarm by “{channel}”: {}", problem.message);
    let mut notice = NewNotice::of_host(host, problem.code, message)
        .subject(format!("channel:{}", told.channel_id));
    if let Some(guidance) = problem.guidance {
        notice = notice.guidance(guidance);
    }
    tell(manager, tx, &notice, applied).await
}

fn too_many(host: HostId) -> NewNotice {
    NewNotice::of_host(
        host,
        Code::FrameInvalid,
        "The machine reported more runs than can be going at once; not all were taken.",
    )
    .subject("runs")
    .guidance("Look at the machine: its agent is broken, or somebody else speaks in its place.")
}

fn foreign(host: HostId, run: RunId) -> NewNotice {
    NewNotice::of_host(
        host,
        Code::FrameInvalid,
        "The machine reported on a run that is not its own; the report was not taken.",
    )
    .subject(run.to_string())
    .guidance("If this machine was copied from the other one, enrol it again.")
}

/// Tells that a run was not taken, if it was not. Says whether it is as reported now.
async fn is_changed(
    manager: &Manager,
    tx: &mut Tx,
    (host, run): (HostId, RunId),
    reported: Reported,
    applied: &mut Applied,
) -> Result<bool, DbError> {
    match reported {
        Reported::Changed => {
            applied.runs.insert(run);
            applied.hosts.insert(host);
            return Ok(true);
        }
        Reported::Unchanged => {}
        Reported::Foreign => tell(manager, tx, &foreign(host, run), applied).await?,
        Reported::TooMany => tell(manager, tx, &too_many(host), applied).await?,
    }
    Ok(false)
}

fn cleaned(mut cleaned: JobFinished) -> JobFinished {
    cleaned.error = cleaned.error.as_deref().map(text::sentence);
    cleaned.guidance = cleaned.guidance.as_deref().map(text::sentence);
    cleaned.snapshot_id = cleaned.snapshot_id.as_deref().map(text::name);
    cleaned.unreadable = cleaned
        .unreadable
        .iter()
        .take(JobFinished::MAX_UNREADABLE)
        .map(|file| UnreadableFile {
            path: text::sentence(&file.path),
            error: text::sentence(&file.error),
        })
        .collect();
    cleaned.stats.iter_mut().for_each(clean_value);
    if let Some(restore) = &mut cleaned.restore {
        restore.target = text::sentence(&restore.target);
        restore.missing.truncate(JobFinished::MAX_UNREADABLE);
        restore.missing.iter_mut().for_each(|path| *path = text::sentence(path));
    }
    cleaned
}

/// restic's summary, of which only the numbers and some names are ever shown.
fn clean_value(value: &mut Value) {
    match value {
        Value::String(words) => *words = text::sentence(words),
        Value::Array(items) => items.iter_mut().for_each(clean_value),
        Value::Object(fields) => fields.values_mut().for_each(clean_value),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Writes what waits.
pub(super) async fn rest(
    manager: &Manager,
    tx: &mut Tx,
    applied: &mut Applied,
) -> Result<(), DbError> {
    let Waiting { started, lines, finished } = std::mem::take(&mut applied.waiting);
    if !started.is_empty() {
        for (run, reported) in runs::apply_started(tx, &started, manager.now()).await? {
            is_changed(manager, tx, run, reported, applied).await?;
        }
    }
    if !lines.is_empty() {
        for line in logs::insert_all(tx, lines).await? {
            applied.lines.entry(line.job_id).or_default().push(line);
        }
    }
    if finished.is_empty() {
        return Ok(());
    }
    let mut proofs = Vec::new();
    for (told, reported) in runs::apply_finished(tx, &finished, manager.now()).await? {
        if !is_changed(manager, tx, told, reported, applied).await? {
            continue;
        }
        applied.ended.insert(told.1);
        let status = finished.get(&told).map(|finished| finished.status);
        if matches!(status, Some(JobStatus::Succeeded | JobStatus::Partial)) {
            proofs.push(told.1);
        }
    }
    if !proofs.is_empty() {
        let repositories = repositories::note_proven(tx, &proofs, manager.now()).await?;
        applied.repositories.extend(repositories);
    }
    Ok(())
}

async fn schedule_ack(
    manager: &Manager,
    tx: &mut Tx,
    host: HostId,
    ack: &ScheduleAck,
    applied: &mut Applied,
) -> Result<(), DbError> {
    let Some(known) = hosts::find(&mut **tx, host).await? else { return Ok(()) };
    let (generation, digest) = match (ack.generation, &ack.digest) {
        (Some(generation), Some(digest)) => {
            if generation.incarnation != manager.identity().manager().incarnation {
                // Of an earlier life of this manager, whose numbers say nothing now.
                return Ok(());
            }
            (generation.n, digest.clone())
        }
        // Version 1 repeats only the number; it means the digest that has it.
        _ => {
            let n = u64::try_from(ack.version).unwrap_or(0);
            let Some(digest) = known.desired_digest.filter(|_| n == known.generation) else {
                return Ok(());
            };
            (n, digest)
        }
    };
    if generation > known.generation || generation < known.acked_generation {
        return Ok(());
    }
    hosts::acknowledge(tx, host, generation, &text::name(&digest), ack.applied_at).await?;
    // An agent of version 1 does not say which slots its runs serve.
    if ack.generation.is_some() {
        let times = match slots::of_generation(tx, host, generation).await? {
            Some(times) => times,
            None => Sources::read(tx, host).await?.times(),
        };
        let zone = ack.time_zone.as_deref().map(text::name).or(known.time_zone);
        let zone = zone.unwrap_or_else(|| "UTC".to_owned());
        // One spelling for each zone.
        let known = zone::named(&zone).as_ref().and_then(zone::name);
        let zone = known.unwrap_or(zone);
        let at = ack.applied_at.min(manager.now());
        slots::apply(tx, host, generation, &times, &zone, at).await?;
    }
    applied.hosts.insert(host);
    Ok(())
}
