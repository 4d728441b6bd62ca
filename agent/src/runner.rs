//! Runs: from an order to the one outcome, with restic in between.
//!
//! Each run is a task of its own that ends by telling its outcome, whatever happens in it. It speaks
//! through one bounded channel; when that is full, log lines and progress are left out (and the
//! lines counted), an outcome waits.

mod begins;
mod limits;
pub mod operations;
pub mod process;
pub mod reading;
pub mod repository;

use crate::{
    core::{Order, Process, RunEvent, Task},
    helper::{self, Helpers},
    hooks,
    identity::Settings,
    paths::StateDir,
};
use outcome::{LogCap, Outcome, Said, no_progress, translate, verdict, words};
use protocol::{Code, JobProgress, JobStatus, LogStream, Problem, RunId};
use restic::{Event, LocateOptions, Restic, Timing};
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

/// How much may wait for the brain.
const WAITING_EVENTS: usize = 16 * 1024;

/// What every run needs of its surroundings.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The restic to run.
    pub restic: Restic,
    /// The state folder.
    pub state: StateDir,
    /// What the machine's administrator decided.
    pub settings: Settings,
    /// How helpers are reached.
    pub helpers: Helpers,
    /// The machine's name as its system tells it, for recognising locks.
    pub hostname: String,
}

/// The runs that go on.
#[derive(Debug)]
pub struct Runner {
    tasks: JoinSet<()>,
    names: HashMap<tokio::task::Id, RunId>,
    tokens: BTreeMap<RunId, CancellationToken>,
    sender: mpsc::Sender<(RunId, RunEvent)>,
    events: mpsc::Receiver<(RunId, RunEvent)>,
}

impl Default for Runner {
    fn default() -> Self {
        let (sender, events) = mpsc::channel(WAITING_EVENTS);
        Self {
            tasks: JoinSet::new(),
            names: HashMap::new(),
            tokens: BTreeMap::new(),
            sender,
            events,
        }
    }
}

impl Runner {
    /// Begins a run.
    pub fn start(&mut self, order: Order, tools: Result<Tools, Problem>) {
        let run_id = order.run_id;
        let token = CancellationToken::new();
        self.tokens.insert(run_id, token.clone());
        let voice = Voice::new(run_id, self.sender.clone());
        let task = self.tasks.spawn(run(order, tools, voice, token));
        self.names.insert(task.id(), run_id);
    }

    /// Tells a run to end.
    pub fn cancel(&self, run_id: RunId) {
        if let Some(token) = self.tokens.get(&run_id) {
            token.cancel();
        }
    }

    /// Whether no run goes on and nothing of one is left to be told.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.tasks.is_empty() && self.events.is_empty()
    }

    /// The next thing that happens in any run.
    pub async fn next(&mut self) -> (RunId, RunEvent) {
        loop {
            tokio::select! {
                biased;
                Some(event) = self.events.recv() => return event,
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                    if let Some(event) = self.ended(&ended) {
                        return event;
                    }
                }
            }
        }
    }

    /// A task told its outcome before it ended; one that broke could not.
    fn ended(
        &mut self,
        ended: &Result<(tokio::task::Id, ()), tokio::task::JoinError>,
    ) -> Option<(RunId, RunEvent)> {
        let (id, is_broken) = match ended {
            Ok((id, ())) => (*id, false),
            Err(error) => (error.id(), true),
        };
        let run_id = self.names.remove(&id)?;
        self.tokens.remove(&run_id);
        is_broken.then(|| {
            tracing::error!(%run_id, "A run's task broke");
            let problem =
                Problem::new(Code::Internal, "The agent failed in the middle of the run.")
                    .guidance("The agent's own log on the machine has the cause.");
            let outcome = Outcome::plain(JobStatus::Failed, Some(problem));
            (run_id, RunEvent::Finished(Box::new(outcome)))
        })
    }
}

async fn run(
    order: Order,
    tools: Result<Tools, Problem>,
    mut voice: Voice,
    cancel: CancellationToken,
) {
    let began = Instant::now();
    let begins = words::one_line(&begins::begins(&order));
    tracing::info!(run = %order.run_id, "{begins}");
    voice.log(LogStream::Event, begins);
    let outcome = match tools {
        Err(problem) => Outcome::plain(JobStatus::Failed, Some(problem)),
        Ok(tools) => match &order.task {
            Task::Restore { .. } => helper::restore(&order, &tools, &mut voice, &cancel).await,
            Task::Backup { hooks, .. } if !hooks.is_empty() => {
                hooks::around(&order, hooks, &tools, &mut voice, &cancel).await
            }
            Task::Backup { .. }
            | Task::Init
            | Task::Forget { .. }
            | Task::Prune { .. }
            | Task::Check { .. }
            | Task::Unlock
            | Task::Stats => perform(&order, &tools, &mut voice, &cancel).await,
        },
    };
    if let Some(report) = &outcome.restore {
        voice.log(LogStream::Event, words::one_line(&words::restored(report, outcome.status)));
    }
    let ends = words::one_line(&words::ends(&outcome, began.elapsed()));
    if outcome.status == JobStatus::Failed {
        tracing::warn!(run = %order.run_id, "{ends}");
    } else {
        tracing::info!(run = %order.run_id, "{ends}");
    }
    voice.finish(ends, outcome).await;
}

/// Does with restic what the order says, in the run's voice.
pub(crate) async fn perform(
    order: &Order,
    tools: &Tools,
    voice: &mut Voice,
    cancel: &CancellationToken,
) -> Outcome {
    let mut sink = |event| voice.hear(event);
    operations::perform(order, tools, &mut sink, cancel).await
}

/// Finds restic.
///
/// # Errors
/// Why there is none that can be used, and what to do.
pub async fn locate(settings: &Settings) -> Result<Restic, Problem> {
    let mut options = LocateOptions::from_environment(settings.restic.clone());
    // Where an installation puts one that the system lacks.
    let own = std::env::current_exe().ok();
    options.usual_folders.extend(own.as_deref().and_then(Path::parent).map(Path::to_owned));
    let found = Restic::locate(&options).await;
    let restic = found.map_err(|failure| verdict::problem(&failure))?;
    let mut timing = Timing::default();
    if let Some(seconds) = settings.repository_patience_seconds {
        timing.patience = Duration::from_secs(seconds);
    }
    Ok(restic.with_timing(timing))
}

/// Turns restic's events into the run's, and speaks them.
#[derive(Debug)]
pub struct Voice {
    run_id: RunId,
    sender: mpsc::Sender<(RunId, RunEvent)>,
    cap: LogCap<LogStream>,
    progress: JobProgress,
    /// The last restic that was started.
    restic: Option<Process>,
}

impl Voice {
    fn new(run_id: RunId, sender: mpsc::Sender<(RunId, RunEvent)>) -> Self {
        Self { run_id, sender, cap: LogCap::default(), progress: no_progress(run_id), restic: None }
    }

    /// restic said something.
    pub fn hear(&mut self, event: Event) {
        for said in translate(event, &mut self.progress) {
            let event = event_of(said);
            if let RunEvent::Spawned(process) = &event {
                self.restic = Some(process.clone());
            }
            self.say(event);
        }
    }

    /// Something else that ran for the run has ended: by its restic a lock is recognised as ours.
    pub fn name_restic_again(&mut self) {
        if let Some(process) = self.restic.clone() {
            self.say(RunEvent::Spawned(process));
        }
    }

    /// Speaks, or leaves it out.
    pub fn say(&mut self, event: RunEvent) {
        match event {
            RunEvent::Log(stream, text) => self.log(stream, text),
            RunEvent::Spawned(_)
            | RunEvent::ItemError
            | RunEvent::Progress(_)
            | RunEvent::Finished(_) => {
                let _ = self.sender.try_send((self.run_id, event));
            }
        }
    }

    fn log(&mut self, stream: LogStream, text: String) {
        let Some((stream, text)) = self.cap.push(stream, text) else { return };
        if self.sender.try_send((self.run_id, RunEvent::Log(stream, text))).is_err() {
            self.cap.leave_out();
        }
    }

    async fn finish(mut self, ends: String, outcome: Outcome) {
        let (left_out, last) = self.cap.end();
        let event = |line| (LogStream::Event, line);
        let lines = left_out.map(event).into_iter().chain(last).chain([event(ends)]);
        let events = lines
            .map(|(stream, line)| RunEvent::Log(stream, line))
            .chain([RunEvent::Finished(Box::new(outcome))]);
        for event in events {
            // When nobody listens any more the agent is gone, and its next start decides.
            let _ = self.sender.send((self.run_id, event)).await;
        }
    }
}

/// What restic said, as the brain hears it.
pub fn event_of(said: Said) -> RunEvent {
    match said {
        Said::Spawned(pid) => {
            RunEvent::Spawned(Process { pid, start: process::start_of(pid).unwrap_or_default() })
        }
        Said::Log(stream, line) => RunEvent::Log(stream, line),
        Said::ItemError => RunEvent::ItemError,
        Said::Progress(progress) => RunEvent::Progress(progress),
    }
}
