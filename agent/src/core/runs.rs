//! Runs from their beginning to their one end.

use super::{
    Brain, Effect, Live, Now, Outcome, Run, RunEvent, RunState, order::resolve,
    reports::changes_view,
};
use crate::points::{self, Mistake};
use protocol::{
    CancelReason, Code, FromAgent, JobFinished, JobKind, JobStarted, JobStatus, LogLine, LogStream,
    MAX_LOG_LINE_BYTES, Problem, RepositoryId, RunId, UnreadableFile, cut_text,
};
use restic::OurProcess;

/// The largest outcome, in bytes of JSON: well below a frame, whatever the list of files.
const MAX_OUTCOME_BYTES: usize = 256 * 1024;

impl Brain {
    /// Something happened in a run.
    pub fn handle_run_event(&mut self, run_id: RunId, event: RunEvent, now: Now) -> Vec<Effect> {
        let is_running = self.runs.get(&run_id).is_some_and(|run| run.state == RunState::Running);
        if !is_running {
            return Vec::new();
        }
        match event {
            RunEvent::Spawned(process) => {
                self.change(run_id, |run| run.process = Some(process)).into_iter().collect()
            }
            RunEvent::Log(stream, text) => {
                self.log(run_id, stream, &text, now).into_iter().collect()
            }
            RunEvent::ItemError => {
                let is_first = self.runs.get(&run_id).is_some_and(|run| !run.had_item_error);
                let change = is_first.then(|| self.change(run_id, |run| run.had_item_error = true));
                change.flatten().into_iter().collect()
            }
            RunEvent::Progress(progress) => {
                let live = self.live.entry(run_id).or_default();
                let due = live.meter.push(*progress, now.mono);
                due.and_then(|progress| self.send_progress(progress)).into_iter().collect()
            }
            RunEvent::Finished(outcome) => self.ended(run_id, *outcome, now),
        }
    }

    fn change(&mut self, run_id: RunId, change: impl FnOnce(&mut Run)) -> Option<Effect> {
        let mut run = self.runs.get(&run_id)?.clone();
        change(&mut run);
        Some(self.put(run))
    }

    pub(super) fn log(
        &mut self,
        run_id: RunId,
        stream: LogStream,
        text: &str,
        now: Now,
    ) -> Option<Effect> {
        if self.leaves_out(run_id) {
            return None;
        }
        self.write_line(run_id, stream, text, now)
    }

    pub(super) fn write_line(
        &mut self,
        run_id: RunId,
        stream: LogStream,
        text: &str,
        now: Now,
    ) -> Option<Effect> {
        let run = self.runs.get_mut(&run_id)?;
        run.log_lines += 1;
        let line = LogLine {
            job_id: run_id,
            seq: run.log_lines,
            ts: now.wall,
            stream,
            payload: cut_text(text, MAX_LOG_LINE_BYTES),
        };
        let number = line.seq;
        Some(self.append(&FromAgent::LogLine(line), Some(run_id), Some(number), now))
    }

    /// Begins what waits for this repository, as far as it may.
    pub(super) fn begin_next(&mut self, repository: Option<RepositoryId>, now: Now) -> Vec<Effect> {
        let waiting: Vec<RunId> = self.queue.iter().copied().collect();
        let mut effects = Vec::new();
        for run_id in waiting {
            let Some(run) = self.runs.get(&run_id) else { continue };
            let may_begin = run.repository_id == repository
                && !self.is_stopping
                && !(run.spec.kind().is_mutating() && self.is_busy(repository));
            if may_begin {
                self.queue.retain(|queued| *queued != run_id);
                effects.extend(self.begin(run_id, now));
            }
        }
        effects
    }

    fn is_busy(&self, repository: Option<RepositoryId>) -> bool {
        let is_counted = !points::is_planted(Mistake::IgnoreBusy);
        self.runs.values().any(|run| {
            is_counted
                && run.state == RunState::Running
                && run.repository_id == repository
                && run.spec.kind().is_mutating()
        })
    }

    fn begin(&mut self, run_id: RunId, now: Now) -> Vec<Effect> {
        let Some(run) = self.runs.get(&run_id).cloned() else { return Vec::new() };
        let order = match self.disk.refusal.clone() {
            Some(refusal) => Err(refusal),
            None => resolve(run_id, &run.spec, self.desired.as_ref(), &self.facts),
        };
        let mut order = match order {
            Ok(order) => order,
            // The desired state changed since the command was taken, a plan cannot run as it is, or the
            // disk is full.
            Err(problem) => {
                // Of a run of the schedule the manager hears here for the first time.
                let told = run.number.is_none().then(|| self.tell_started(&run, now));
                let over = told.is_some().then(|| self.end_deferral(run.spec.plan_id())).flatten();
                let outcome = Outcome::plain(JobStatus::Failed, Some(problem));
                let ended = self.finish(run_id, outcome, now);
                return told.into_iter().chain(over).chain(ended).collect();
            }
        };
        order.earlier = self.earlier_processes(order.repository.id);
        order.begins_at = now.wall;
        if run.is_by_the_clock() {
            order.by_the_clock();
        }
        self.live.insert(run_id, Live::default());
        let told = Run { repository_id: Some(order.repository.id), ..run.clone() };
        let plan = run.spec.plan_id().filter(|_| run.spec.kind() == JobKind::Backup);
        let over = self.end_deferral(plan);
        let begun =
            [self.put(Run { state: RunState::Running, ..run }), self.tell_started(&told, now)];
        over.into_iter().chain(begun).chain([Effect::Start(Box::new(order))]).collect()
    }

    fn tell_started(&mut self, run: &Run, now: Now) -> Effect {
        let started = JobStarted {
            job_id: run.id,
            kind: run.spec.kind(),
            started_at: now.wall,
            schedule_id: run.spec.plan_id(),
            repository_id: run.repository_id,
            command: run.number,
            slot: run.slot,
            attempt: (run.attempt > 1).then_some(run.attempt),
        };
        self.append(&FromAgent::JobStarted(started), Some(run.id), None, now)
    }

    fn earlier_processes(&self, repository: RepositoryId) -> Vec<OurProcess> {
        let ended = self
            .runs
            .values()
            .filter(|run| run.state == RunState::Finished && run.repository_id == Some(repository));
        ended
            .filter_map(|run| {
                let pid = run.process.as_ref()?.pid;
                Some(OurProcess { pid, from: Some(run.created_at), until: run.finished_at })
            })
            .collect()
    }

    fn ended(&mut self, run_id: RunId, mut outcome: Outcome, now: Now) -> Vec<Effect> {
        let cancelled = self.live.get(&run_id).and_then(|live| live.cancelled);
        if outcome.status == JobStatus::Cancelled {
            let (status, problem) = match cancelled {
                Some(CancelReason::Admin) => (
                    JobStatus::Cancelled,
                    Problem::new(Code::Cancelled, "Cancelled while it ran.")
                        .guidance("What was uploaded already is used by the next run."),
                ),
                Some(CancelReason::Expired) => (
                    JobStatus::Cancelled,
                    Problem::new(Code::Expired, "Cancelled while it ran: its time was over."),
                ),
                None => (
                    JobStatus::Interrupted,
                    Problem::new(Code::Interrupted, "The agent was stopped while it ran.")
                        .guidance("What was uploaded already is used by the next run."),
                ),
            };
            outcome.status = status;
            outcome.problem = Some(problem);
        }
        let repository_id = self.runs.get(&run_id).and_then(|run| run.repository_id);
        let kind = self.runs.get(&run_id).map(|run| run.spec.kind());
        self.note_check(repository_id, kind, &outcome, now);
        let mut effects = self.finish(run_id, outcome, now);
        effects.extend(self.begin_next(repository_id, now));
        // A plan whose next slot came while it ran.
        effects.extend(self.look(now));
        if kind.is_some_and(changes_view)
            && let Some(repository) = repository_id
        {
            effects.extend(self.read(repository));
        }
        effects
    }

    /// Writes the one end of a run.
    pub(super) fn finish(&mut self, run_id: RunId, outcome: Outcome, now: Now) -> Vec<Effect> {
        let is_over = self.runs.get(&run_id).is_none_or(|run| run.state == RunState::Finished);
        let left_out = if is_over { None } else { self.tell_left_out(run_id, now) };
        let Some(run) = self.runs.get(&run_id).filter(|_| !is_over).cloned() else {
            return Vec::new();
        };
        let is_recovering = self.live.remove(&run_id).is_some_and(|live| live.is_recovering);
        let retry = self.plan_retry(&run, &outcome, now);
        let (before, status) = (run.clone(), outcome.status);
        let code = outcome.problem.as_ref().map(|problem| problem.code);
        let finished = fit(JobFinished {
            job_id: run_id,
            status: outcome.status,
            exit_code: outcome.exit_code,
            finished_at: now.wall,
            stats: outcome.stats,
            error: outcome.problem.as_ref().map(|problem| cut_text(&problem.message, 8 * 1024)),
            code,
            guidance: outcome.problem.and_then(|problem| problem.guidance),
            snapshot_id: outcome.snapshot_id,
            unreadable: outcome.unreadable,
            unreadable_count: outcome.unreadable_count,
            log_lines: run.log_lines,
            restore: outcome.restore,
        });
        let ended = [
            self.put(Run { state: RunState::Finished, finished_at: Some(now.wall), ..run }),
            self.append(&FromAgent::JobFinished(Box::new(finished)), Some(run_id), None, now),
        ];
        let is_elided = points::is_planted(Mistake::ElideOutcome) && is_recovering;
        let ended = ended.into_iter().take(if is_elided { 1 } else { 2 });
        let alarms = self.note_outcome(&before, status, code, now);
        left_out.into_iter().chain(retry).chain(ended).chain(alarms).collect()
    }
}

/// Shortens what may be long until the outcome is sure to travel: an outcome is never lost because
/// a disk died with a million long names on it.
fn fit(mut finished: JobFinished) -> JobFinished {
    finished.unreadable.truncate(JobFinished::MAX_UNREADABLE);
    for UnreadableFile { path, error } in &mut finished.unreadable {
        *path = cut_text(path, 4096);
        *error = cut_text(error, 512);
    }
    if let Some(restore) = &mut finished.restore {
        restore.missing.truncate(JobFinished::MAX_UNREADABLE);
        for path in &mut restore.missing {
            *path = cut_text(path, 4096);
        }
    }
    loop {
        let size = serde_json::to_vec(&finished).map_or(0, |text| text.len());
        if size <= MAX_OUTCOME_BYTES {
            return finished;
        }
        let missing = finished.restore.as_mut().map(|restore| &mut restore.missing);
        match (&mut finished.unreadable, missing) {
            (unreadable, _) if !unreadable.is_empty() => unreadable.truncate(unreadable.len() / 2),
            (_, Some(missing)) if !missing.is_empty() => missing.truncate(missing.len() / 2),
            _ if finished.stats.is_some() => finished.stats = None,
            _ => return finished,
        }
    }
}
