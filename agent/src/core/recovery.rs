//! What an agent that died left open is decided at the next start: by the repository where it can
//! tell, by honest words where it cannot.

use super::{Brain, Effect, Live, Now, Outcome, Run, RunState};
use crate::hooks;
use protocol::{CancelReason, Code, JobKind, JobStatus, LogStream, Problem, RunId};
use std::time::Duration;

/// How long a repository that does not answer keeps a run open.
const PATIENCE: Duration = Duration::from_mins(10);

/// The time between two attempts.
const RETRY: Duration = Duration::from_mins(1);

/// What was found of a run that an earlier agent left open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// Its snapshot.
    Snapshot(String),
    /// Nothing.
    Nothing,
    /// The repository is not one of this machine's any more, so nobody looked.
    NotAsked,
    /// The repository could not be asked: why.
    Unreachable(String),
}

impl Brain {
    /// The agent starts: every run that was open is decided.
    pub fn handle_start(&mut self, now: Now) -> Vec<Effect> {
        self.recover_until = now.mono + PATIENCE;
        let mut effects = self.wake_up(now);
        effects.extend(self.end_what_was_going(now));
        effects.extend(self.tell_zone(now));
        // A run of the schedule is still due, and waits for its gates and its repository once more.
        let (commands, due): (Vec<RunId>, Vec<RunId>) = self
            .ids(RunState::Queued)
            .into_iter()
            .partition(|id| self.runs.get(id).is_some_and(|run| run.number.is_some()));
        let running = self.ids(RunState::Running);
        for run_id in commands {
            let problem = Problem::new(
                Code::Interrupted,
                "The agent was stopped before the run began; nothing was done.",
            )
            .guidance("Run it again.");
            effects.extend(self.finish_unbegun(run_id, JobStatus::Interrupted, problem, now));
        }
        for run_id in running {
            effects.extend(self.recover(run_id));
        }
        self.timetable.written.extend(due);
        effects.extend(self.read_plans(now));
        effects
    }

    fn ids(&self, state: RunState) -> Vec<RunId> {
        self.runs.values().filter(|run| run.state == state).map(|run| run.id).collect()
    }

    fn recover(&mut self, run_id: RunId) -> Option<Effect> {
        let run = self.runs.get(&run_id)?;
        let repository = run
            .repository_id
            .and_then(|id| self.desired.as_ref()?.repository(Some(id)))
            .map(|repository| Box::new(repository.clone()));
        self.live.insert(run_id, Live { is_recovering: true, ..Live::default() });
        Some(Effect::Recover {
            run_id,
            process: run.process.clone(),
            since: run.created_at,
            look_for_snapshot: run.spec.kind() == JobKind::Backup && repository.is_some(),
            repository,
        })
    }

    /// What came of an [`Effect::Recover`].
    pub fn handle_recovered(&mut self, run_id: RunId, found: Recovered, now: Now) -> Vec<Effect> {
        let Some(run) = self.runs.get(&run_id).filter(|run| run.state == RunState::Running) else {
            return Vec::new();
        };
        let outcome = match found {
            Recovered::Snapshot(id) => self.found(run, id),
            Recovered::Unreachable(_) if now.mono < self.recover_until => {
                self.recover_next = Some(now.mono + RETRY);
                return Vec::new();
            }
            Recovered::Unreachable(why) => interrupted(format!(
                "The agent ended while the run went on, and the repository could not be asked whether its snapshot was finished: {why}"
            )),
            Recovered::Nothing | Recovered::NotAsked if self.was_cancelled(run_id) => Outcome::plain(
                JobStatus::Cancelled,
                Some(Problem::new(Code::Cancelled, "Cancelled after the agent had ended in the middle of it.")),
            ),
            Recovered::Nothing if run.spec.kind() == JobKind::Backup => interrupted(
                "The agent or the machine ended while the run went on; there is no snapshot of it."
                    .to_owned(),
            ),
            Recovered::NotAsked if run.spec.kind() == JobKind::Backup => interrupted(
                "The agent or the machine ended while the run went on. Its repository is not one of this machine's any more, so nobody could look for its snapshot."
                    .to_owned(),
            ),
            Recovered::Nothing | Recovered::NotAsked => interrupted(
                "The agent or the machine ended while the run went on.".to_owned(),
            ),
        };
        let repository_id = run.repository_id;
        let mut effects: Vec<Effect> = self
            .log(run_id, LogStream::Event, "Decided by the agent after its restart.", now)
            .into_iter()
            .collect();
        effects.extend(self.finish(run_id, outcome, now));
        effects.extend(self.begin_next(repository_id, now));
        if let Some(repository) = repository_id {
            effects.extend(self.read(repository));
        }
        effects
    }

    /// The snapshot is there. What was to run after it may not have run: nobody is left who knows.
    fn found(&self, run: &Run, snapshot_id: String) -> Outcome {
        let problem = run.had_item_error.then(|| {
            Problem::new(
                Code::FilesUnreadable,
                "The snapshot was written; some files could not be read, the log names them.",
            )
        });
        let outcome = Outcome {
            status: if run.had_item_error { JobStatus::Partial } else { JobStatus::Succeeded },
            snapshot_id: Some(snapshot_id),
            problem,
            ..Outcome::plain(JobStatus::Succeeded, None)
        };
        let plan = self.desired.as_ref().and_then(|desired| desired.plan(run.spec.plan_id()));
        let has_some = plan
            .and_then(|plan| hooks::of(plan).ok())
            .is_some_and(|hooks| hooks.on_success.is_some() || hooks.after.is_some());
        if !has_some {
            return outcome;
        }
        let problem = Problem::new(
            Code::HookFailed,
            "The agent ended before the run did, so the plan's hooks after the backup may not have run.",
        )
        .guidance("See on the machine whether what they do has been done.");
        hooks::with(outcome, problem)
    }

    fn was_cancelled(&self, run_id: RunId) -> bool {
        let reason = self.live.get(&run_id).and_then(|live| live.cancelled);
        reason == Some(CancelReason::Admin)
    }

    pub(super) fn retry_recovery(&mut self, now: Now) -> Vec<Effect> {
        if self.recover_next.is_none_or(|next| next > now.mono) {
            return Vec::new();
        }
        self.recover_next = None;
        let open: Vec<RunId> = self
            .live
            .iter()
            .filter(|(_, live)| live.is_recovering)
            .map(|(&run_id, _)| run_id)
            .collect();
        open.into_iter()
            .filter_map(|run_id| {
                let cancelled = self.live.get(&run_id).and_then(|live| live.cancelled);
                let effect = self.recover(run_id);
                self.live.entry(run_id).or_default().cancelled = cancelled;
                effect
            })
            .collect()
    }
}

fn interrupted(message: String) -> Outcome {
    let problem = Problem::new(Code::Interrupted, message)
        .guidance("Run it again; what was uploaded already is used.");
    Outcome::plain(JobStatus::Interrupted, Some(problem))
}
