//! What a machine did in days in which nobody listened: an hourly run of each of its plans, but for
//! nights in which it slept and noons at which its repository did not answer.

use anyhow::{Context as _, Result};
use jiff::{SignedDuration, Timestamp};
use protocol::{
    AwakeInterval, Code, FromAgent, JobFinished, JobKind, JobStarted, JobStatus, LogLine,
    LogStream, PlanId, RepositoryId, RunId, SlotDeferred,
};
use serde_json::json;

/// When its plans run, one of them a line.
pub(crate) const TIMES: [&str; 3] = ["5 * * * *", "25 * * * *", "45 * * * *"];
const MINUTES: [i64; 3] = [5, 25, 45];
/// How long a run takes.
const TAKES: SignedDuration = SignedDuration::from_mins(4);

/// A run of it.
pub(crate) struct Ran {
    pub id: RunId,
    pub plan: PlanId,
    pub slot: Timestamp,
    pub lines: u64,
}

/// The days.
pub(crate) struct Month {
    /// What is to be told of them, in order.
    pub told: Vec<FromAgent>,
    /// The runs, in order.
    pub runs: Vec<Ran>,
    /// Since when the machine has been awake at the end.
    pub awake_since: Timestamp,
}

/// What becomes of an hour of a plan.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hour {
    Runs,
    Sleeps,
    /// The repository does not answer.
    Waits,
}

fn hour(day: i64, hour: i64, plan: usize) -> Hour {
    if day % 7 == 3 && (1..6).contains(&hour) {
        Hour::Sleeps
    } else if plan == 0 && day % 10 == 4 && (12..14).contains(&hour) {
        Hour::Waits
    } else {
        Hour::Runs
    }
}

impl Month {
    /// So many days from this full hour on, with so many log lines in all.
    pub(crate) fn make(
        plans: &[PlanId],
        repository: RepositoryId,
        since: Timestamp,
        days: i64,
        lines: u64,
    ) -> Result<Self> {
        let hours = || (0..days).flat_map(|day| (0..24).map(move |hour| (day, hour)));
        let every =
            || hours().flat_map(|(day, hour)| (0..plans.len()).map(move |n| (day, hour, n)));
        let count = every().filter(|&(day, at, n)| hour(day, at, n) == Hour::Runs).count();
        let count = u64::try_from(count)?;
        let mut month = Self { told: Vec::new(), runs: Vec::new(), awake_since: since };
        for (day, at) in hours() {
            let begins = since + SignedDuration::from_hours(day * 24 + at);
            let slept = |at| hour(day, at, 0) == Hour::Sleeps;
            if slept(at - 1) && !slept(at) {
                let until = begins - SignedDuration::from_hours(5);
                let awake = AwakeInterval { from: month.awake_since, until };
                month.told.push(FromAgent::AgentAwake(awake));
                month.awake_since = begins;
            }
            for (n, &plan) in plans.iter().enumerate() {
                let slot = begins + SignedDuration::from_mins(MINUTES[n]);
                match hour(day, at, n) {
                    Hour::Sleeps => {}
                    Hour::Waits if hour(day, at - 1, n) == Hour::Waits => {}
                    Hour::Waits => month.told.push(FromAgent::SlotDeferred(SlotDeferred {
                        schedule_id: plan,
                        slot,
                        at: slot + SignedDuration::from_secs(7),
                        code: Code::RepositoryUnreachable,
                    })),
                    Hour::Runs => {
                        let number = u64::try_from(month.runs.len())?;
                        let lines = lines * (number + 1) / count - lines * number / count;
                        let id = run_id(slot, number)?;
                        let begins = slot + SignedDuration::from_secs(3);
                        month.told.extend(run(id, plan, repository, Some(slot), begins, lines));
                        month.runs.push(Ran { id, plan, slot, lines });
                    }
                }
            }
        }
        Ok(month)
    }
}

/// An id for a run of this time.
pub(crate) fn run_id(at: Timestamp, number: u64) -> Result<RunId> {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&number.to_be_bytes());
    Ok(RunId::new(u64::try_from(at.as_millisecond()).context("a run before 1970")?, &random))
}

/// That a backup has begun.
pub(crate) fn started(
    id: RunId,
    plan: PlanId,
    repository: RepositoryId,
    slot: Option<Timestamp>,
    at: Timestamp,
) -> FromAgent {
    FromAgent::JobStarted(JobStarted {
        job_id: id,
        kind: JobKind::Backup,
        started_at: at,
        schedule_id: Some(plan),
        repository_id: Some(repository),
        command: None,
        slot,
        attempt: None,
    })
}

/// A line of its log, as restic writes one for each file when it is asked to tell much.
pub(crate) fn line(id: RunId, seq: u64, ts: Timestamp) -> FromAgent {
    let payload = format!(
        "modified  /srv/photos/2026/harbour/DSC_{seq:05}.NEF, saved in 0.{:03}s ({} B added)",
        seq * 7 % 1000,
        seq * 104_729 % 48_000_000
    );
    FromAgent::LogLine(LogLine { job_id: id, seq, ts, stream: LogStream::Stdout, payload })
}

/// That it has succeeded.
pub(crate) fn finished(id: RunId, at: Timestamp, lines: u64) -> FromAgent {
    let snapshot = id.as_uuid().simple().to_string().repeat(2);
    FromAgent::JobFinished(Box::new(JobFinished {
        job_id: id,
        status: JobStatus::Succeeded,
        exit_code: 0,
        finished_at: at,
        stats: Some(json!({
            "message_type": "summary", "files_new": 12, "files_changed": lines, "dirs_new": 0,
            "files_unmodified": 302_682, "dirs_changed": 7, "dirs_unmodified": 4_410,
            "data_blobs": 431, "tree_blobs": 8, "data_added": 481_223_119_u64,
            "data_added_packed": 402_118_772_u64, "total_files_processed": 302_790,
            "total_bytes_processed": 1_118_402_551_223_u64, "total_duration": 240.4,
            "snapshot_id": snapshot,
        })),
        error: None,
        code: None,
        guidance: None,
        snapshot_id: Some(snapshot),
        unreadable: Vec::new(),
        unreadable_count: 0,
        log_lines: lines,
        restore: None,
    }))
}

/// A run from its beginning to its end.
pub(crate) fn run(
    id: RunId,
    plan: PlanId,
    repository: RepositoryId,
    slot: Option<Timestamp>,
    begins: Timestamp,
    lines: u64,
) -> impl Iterator<Item = FromAgent> {
    let told = (1..=lines).map(move |seq| line(id, seq, begins + SignedDuration::from_secs(1)));
    std::iter::once(started(id, plan, repository, slot, begins))
        .chain(told)
        .chain(std::iter::once_with(move || finished(id, begins + TAKES, lines)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_has_its_runs_and_all_its_lines_and_tells_when_it_slept_and_waited() {
        let plans: Vec<PlanId> = (1..=3).map(|n| PlanId::new(1, &[n; 10])).collect();
        let repository = RepositoryId::new(1, &[1; 10]);
        let since = "2026-10-30T00:00:00Z".parse().unwrap();
        let month = Month::make(&plans, repository, since, 30, 200_000).unwrap();
        let nights = 4;
        let waits = 3;
        assert_eq!(month.runs.len(), 30 * 24 * 3 - nights * 5 * 3 - waits * 2);
        assert_eq!(month.runs.iter().map(|run| run.lines).sum::<u64>(), 200_000);
        assert_eq!(month.told.len(), 200_000 + 2 * month.runs.len() + nights + waits);
        assert!(month.runs.is_sorted_by_key(|run| run.slot));
        let awake = month.told.iter().filter_map(|told| {
            let FromAgent::AgentAwake(awake) = told else { return None };
            Some(*awake)
        });
        let first = awake.clone().next().unwrap();
        assert_eq!((first.from, first.until), (since, "2026-11-02T01:00:00Z".parse().unwrap()));
        assert_eq!(awake.count(), nights);
    }
}
