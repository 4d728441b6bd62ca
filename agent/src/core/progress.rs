//! Progress: two frames a second and run at most, the first at once, the newest always in the end.

use super::{Brain, Effect, Now, send};
use protocol::{FromAgent, JobProgress};
use std::{collections::VecDeque, time::Duration};

/// The least time between two frames of a run.
pub(super) const PROGRESS_PAUSE: Duration = Duration::from_millis(500);

/// The time over which the throughput is measured.
const THROUGHPUT_SPAN: Duration = Duration::from_secs(5);

/// Thins out the progress of one run and measures its speed.
#[derive(Debug, Default)]
pub(super) struct Meter {
    waiting: Option<JobProgress>,
    sent_at: Option<Duration>,
    samples: VecDeque<(Duration, u64)>,
}

impl Meter {
    /// Takes new progress; gives back what may be sent now.
    pub(super) fn push(&mut self, mut progress: JobProgress, now: Duration) -> Option<JobProgress> {
        progress.throughput_bps = self.throughput(progress.bytes_done, now);
        self.waiting = Some(progress);
        self.take(now)
    }

    /// What may be sent now.
    pub(super) fn take(&mut self, now: Duration) -> Option<JobProgress> {
        if self.due()? > now {
            return None;
        }
        self.sent_at = Some(now);
        self.waiting.take()
    }

    /// When what waits may be sent.
    pub(super) fn due(&self) -> Option<Duration> {
        self.waiting.as_ref()?;
        Some(self.sent_at.map_or(Duration::ZERO, |sent| sent + PROGRESS_PAUSE))
    }

    fn throughput(&mut self, bytes: u64, now: Duration) -> u64 {
        // A count that goes back belongs to a new phase of the run.
        if self.samples.back().is_some_and(|&(_, last)| bytes < last) {
            self.samples.clear();
        }
        self.samples.push_back((now, bytes));
        while self.samples.len() > 2
            && self.samples.get(1).is_some_and(|&(at, _)| now.saturating_sub(at) >= THROUGHPUT_SPAN)
        {
            self.samples.pop_front();
        }
        let Some(&(start, first)) = self.samples.front() else { return 0 };
        let millis = now.saturating_sub(start).as_millis();
        if millis == 0 {
            return 0;
        }
        u64::try_from(u128::from(bytes - first) * 1000 / millis).unwrap_or(u64::MAX)
    }
}

impl Brain {
    pub(super) fn send_due_progress(&mut self, now: Now) -> Vec<Effect> {
        let due: Vec<JobProgress> =
            self.live.values_mut().filter_map(|live| live.meter.take(now.mono)).collect();
        due.into_iter().filter_map(|progress| self.send_progress(progress)).collect()
    }

    pub(super) fn send_progress(&self, progress: JobProgress) -> Option<Effect> {
        if !self.is_open() {
            return None;
        }
        send(&FromAgent::JobProgress(progress))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::RunId;

    fn progress(bytes_done: u64) -> JobProgress {
        JobProgress {
            job_id: RunId::new(1, &[1; 10]),
            percent_done: 0.0,
            files_done: 0,
            total_files: 0,
            bytes_done,
            total_bytes: 0,
            eta_seconds: 0,
            throughput_bps: 0,
            current_files: Vec::new(),
            unreachable: None,
        }
    }

    #[test]
    fn the_first_goes_at_once_and_a_flood_is_two_a_second() {
        let mut meter = Meter::default();
        let sent = (0..10_000_u64)
            .filter(|&ms| meter.push(progress(ms), Duration::from_millis(ms)).is_some())
            .count();
        assert_eq!(sent, 20);
        assert!(meter.due().is_some(), "the newest waits for its turn");
    }

    #[test]
    fn the_throughput_is_that_of_the_last_seconds() {
        let mut meter = Meter::default();
        let mut last = 0;
        for second in 0..20_u64 {
            let bytes = if second < 10 { second * 1000 } else { 10_000 + (second - 10) * 50 };
            if let Some(sent) = meter.push(progress(bytes), Duration::from_secs(second)) {
                last = sent.throughput_bps;
            }
        }
        assert_eq!(last, 50);
    }
}
