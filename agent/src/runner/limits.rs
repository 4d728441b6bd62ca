//! How long a run may take, may stand still, and may wait for a lock.

use crate::core::{Order, Task};
use outcome::{Outcome, words::span};
use protocol::{Code, JobStatus, Problem};
use restic::CancelToken;
use std::time::Duration;

/// How long a backup may stand still whose plan does not say.
const STALL: Duration = Duration::from_hours(1);

/// The limits of a run. They count the time in which the machine is awake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// For all of it.
    pub(super) time: Option<Duration>,
    /// For neither bytes nor files to move.
    pub(super) stall: Option<Duration>,
    /// For somebody else's lock.
    pub(super) lock: Option<Duration>,
}

impl Limits {
    /// Only a backup has limits: the others say nothing for hours when all is well, and somebody asked for
    /// them who can end them.
    pub(super) fn of(order: &Order) -> Self {
        let minutes = |minutes: Option<u32>| {
            let minutes = minutes.filter(|minutes| *minutes > 0)?;
            Some(Duration::from_mins(minutes.into()))
        };
        match &order.task {
            Task::Backup { options, .. } => Self {
                time: minutes(options.timeout_minutes),
                stall: minutes(options.stall_minutes).or(Some(STALL)),
                lock: minutes(options.retry_lock_minutes),
            },
            Task::Init
            | Task::Forget { .. }
            | Task::Prune { .. }
            | Task::Check { .. }
            | Task::Unlock
            | Task::Stats
            | Task::Restore { .. } => Self::default(),
        }
    }

    /// Does the work, and ends it as timed out once its time is over.
    pub(super) async fn in_time(
        &self,
        cancel: &CancelToken,
        work: impl AsyncFnOnce(&CancelToken) -> Outcome,
    ) -> Outcome {
        let Some(time) = self.time else { return work(cancel).await };
        let ending = cancel.child_token();
        let mut work = std::pin::pin!(work(&ending));
        tokio::select! {
            outcome = &mut work => return outcome,
            () = tokio::time::sleep(time) => ending.cancel(),
        }
        let outcome = work.await;
        let is_ours = outcome.status == JobStatus::Cancelled && !cancel.is_cancelled();
        if is_ours { timed_out(time, outcome) } else { outcome }
    }
}

fn timed_out(time: Duration, outcome: Outcome) -> Outcome {
    let problem = Problem::new(
        Code::TimedOut,
        format!("It took longer than the {} that its plan allows, and was ended.", span(time)),
    )
    .guidance(
        "What was uploaded already is used by the next run. Give the plan more time if its first backup needs it.",
    );
    Outcome { status: JobStatus::Failed, problem: Some(problem), ..outcome }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, sleep};

    const TIME: Duration = Duration::from_mins(90);

    /// Works for so long, or until it is told to end.
    async fn work(time: Duration, cancel: &CancelToken) -> Outcome {
        tokio::select! {
            () = sleep(time) => Outcome::plain(JobStatus::Succeeded, None),
            () = cancel.cancelled() => Outcome::plain(JobStatus::Cancelled, None),
        }
    }

    async fn ends(limit: Option<Duration>, works: Duration, cancelled: Duration) -> Outcome {
        let cancel = CancelToken::new();
        let limits = Limits { time: limit, ..Limits::default() };
        let run = limits.in_time(&cancel, async |cancel: &CancelToken| work(works, cancel).await);
        let mut run = std::pin::pin!(run);
        tokio::select! {
            outcome = &mut run => return outcome,
            () = sleep(cancelled) => cancel.cancel(),
        }
        run.await
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_takes_longer_than_its_plan_allows_fails_as_timed_out() {
        let began = Instant::now();
        let outcome = ends(Some(TIME), TIME * 10, TIME * 20).await;
        assert_eq!(began.elapsed(), TIME);
        assert_eq!(outcome.status, JobStatus::Failed);
        let problem = outcome.problem.unwrap();
        assert_eq!(problem.code, Code::TimedOut);
        assert!(problem.message.contains("1 h 30 min"), "{problem}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_ends_in_time_or_is_cancelled_by_a_person_is_no_timed_out_one() {
        for (limit, works, cancelled, status) in [
            (Some(TIME), TIME / 2, TIME * 2, JobStatus::Succeeded),
            (None, TIME * 9, TIME * 10, JobStatus::Succeeded),
            (Some(TIME), TIME * 9, TIME / 2, JobStatus::Cancelled),
        ] {
            assert_eq!(ends(limit, works, cancelled).await.status, status);
        }
    }
}
