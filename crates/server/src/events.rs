//! What changed, told to whoever watches.
//!
//! An event says *what* changed and never *how*: ids and a revision. A watcher subscribes first,
//! then reads, and reads again on each event; one that falls behind is told to read everything
//! again. So no watcher can wait for something that already happened.
//!
//! A run's live log and progress are the exception: they carry their payload, because reading it
//! back from the database for each line would cost more than it is worth.

use protocol::{HostId, JobProgress, LogLine, PlanId, RepositoryId, RunId};
use serde::Serialize;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::broadcast;

/// How many events a slow watcher may fall behind before it must read everything again.
const BACKLOG: usize = 1024;
/// The same for the news of one run, which carry their payload.
const RUN_BACKLOG: usize = 64;
/// Lines of more bytes than this are not carried: watchers read them from the database, and who
/// reads slowly holds no more than a few of these.
const CARRIED_BYTES: usize = 256 * 1024;
/// Runs whose progress is kept. A machine may invent runs without end.
const KEPT_RUNS: usize = 1024;

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(tag = "topic", content = "id", rename_all = "snake_case")]
pub enum Topic {
    /// A host, its presence or its state.
    #[schema(value_type = String)]
    Host(HostId),
    /// A run's state. Its log and progress have their own stream.
    #[schema(value_type = String)]
    Run(RunId),
    /// A plan.
    #[schema(value_type = String)]
    Plan(PlanId),
    /// A repository, its facts or its snapshots.
    #[schema(value_type = String)]
    Repository(RepositoryId),
    /// The notices that need a person.
    Notices,
    /// The enrolments that wait for a machine.
    Enrolments,
    /// The machines that ask to join.
    Announcements,
    /// What agents told by themselves, or by which ways they do.
    Alarms,
    /// The store: its folder, what is in it, or what can be brought back.
    Store,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Event {
    /// Grows by one with each event of this process.
    pub revision: u64,
    /// What changed.
    #[serde(flatten)]
    pub topic: Topic,
}

/// Something a running run says.
#[derive(Clone, Debug, PartialEq)]
pub enum RunNews {
    /// New log lines, in order, already committed.
    Lines(Arc<[LogLine]>),
    /// How far it is.
    Progress(Arc<JobProgress>),
    /// Its state changed; read the run.
    Changed,
}

struct Live {
    news: broadcast::Sender<RunNews>,
    progress: Option<Arc<JobProgress>>,
}

/// The hub of all events. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    events: broadcast::Sender<Event>,
    revision: Arc<AtomicU64>,
    runs: Arc<Mutex<HashMap<RunId, Live>>>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

impl Default for Events {
    fn default() -> Self {
        Self {
            events: broadcast::channel(BACKLOG).0,
            revision: Arc::default(),
            runs: Arc::default(),
        }
    }
}

impl Events {
    /// Tells everyone that something changed. Call it after the change was committed.
    pub fn publish(&self, topic: Topic) {
        let revision = self.revision.fetch_add(1, Ordering::Relaxed) + 1;
        // Without watchers there is nobody to tell, which is no error.
        let _ = self.events.send(Event { revision, topic });
        if let Topic::Run(run) = topic {
            self.tell(run, RunNews::Changed);
        }
    }

    /// The newest event's.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Relaxed)
    }

    /// Watches everything from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Watches one run from now on.
    #[must_use]
    pub fn subscribe_run(&self, run: RunId) -> broadcast::Receiver<RunNews> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.entry(run).or_insert_with(Live::new).news.subscribe()
    }

    /// Tells the watchers of a run about committed log lines.
    pub fn lines(&self, run: RunId, lines: Arc<[LogLine]>) {
        let size: usize = lines.iter().map(|line| line.payload.len()).sum();
        let is_carried = size <= CARRIED_BYTES;
        self.tell(run, if is_carried { RunNews::Lines(lines) } else { RunNews::Changed });
    }

    /// Keeps the newest progress of a run and tells its watchers.
    pub fn progress(&self, progress: JobProgress) {
        let run = progress.job_id;
        let progress = Arc::new(progress);
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if !runs.contains_key(&run) && runs.len() >= KEPT_RUNS && !make_room(&mut runs) {
            return;
        }
        let live = runs.entry(run).or_insert_with(Live::new);
        live.progress = Some(Arc::clone(&progress));
        let _ = live.news.send(RunNews::Progress(progress));
    }

    /// The newest progress of a run.
    #[must_use]
    pub fn last_progress(&self, run: RunId) -> Option<Arc<JobProgress>> {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.get(&run).and_then(|live| live.progress.clone())
    }

    /// Forgets what was kept for a run that has ended. Its watchers still get what was sent.
    pub fn run_ended(&self, run: RunId) {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
    }

    fn tell(&self, run: RunId, news: RunNews) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(live) = runs.get(&run) else { return };
        let unwatched = live.news.send(news).is_err();
        if unwatched && live.progress.is_none() {
            runs.remove(&run);
        }
    }
}

/// Forgets a run that nobody watches. What is forgotten comes again with its next progress.
fn make_room(runs: &mut HashMap<RunId, Live>) -> bool {
    let unwatched = runs.iter().find(|(_, live)| live.news.receiver_count() == 0);
    let Some(run) = unwatched.map(|(run, _)| *run) else { return false };
    runs.remove(&run).is_some()
}

impl Live {
    fn new() -> Self {
        Self { news: broadcast::channel(RUN_BACKLOG).0, progress: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::LogStream;

    fn run(n: u64) -> RunId {
        RunId::new(n, &[1; 10])
    }

    fn progress(n: u64) -> JobProgress {
        JobProgress {
            job_id: run(n),
            percent_done: 0.5,
            files_done: n,
            total_files: 0,
            bytes_done: 0,
            total_bytes: 0,
            eta_seconds: 0,
            throughput_bps: 0,
            current_files: Vec::new(),
            unreachable: None,
        }
    }

    #[test]
    fn progress_of_invented_runs_is_bounded_and_what_is_watched_stays() {
        let events = Events::default();
        let mut watched = events.subscribe_run(run(1));
        for n in 1..=(KEPT_RUNS as u64 * 3) {
            events.progress(progress(n));
        }
        assert!(events.runs.lock().unwrap().len() <= KEPT_RUNS);
        assert!(matches!(watched.try_recv(), Ok(RunNews::Progress(_))));
        assert!(events.last_progress(run(1)).is_some());
        assert!(events.last_progress(run(KEPT_RUNS as u64 * 3)).is_some(), "the newest is kept");
    }

    #[test]
    fn lines_too_large_to_be_carried_are_read_instead() {
        let events = Events::default();
        let mut watched = events.subscribe_run(run(1));
        let lines = |count: usize| -> Arc<[LogLine]> {
            let line = |seq| LogLine {
                job_id: run(1),
                seq,
                ts: jiff::Timestamp::UNIX_EPOCH,
                stream: LogStream::Stdout,
                payload: "x".repeat(1024),
            };
            (1..=count as u64).map(line).collect()
        };
        events.lines(run(1), lines(3));
        assert!(matches!(watched.try_recv(), Ok(RunNews::Lines(_))));
        events.lines(run(1), lines(500));
        assert_eq!(watched.try_recv(), Ok(RunNews::Changed));
    }
}
