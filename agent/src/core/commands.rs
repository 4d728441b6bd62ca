//! Commands: written down, answered, begun on their `go`, and never twice.

use super::{Brain, Change, Effect, Now, Outcome, Run, RunState, order::resolve, send};
use crate::points::{self, Mistake};
use protocol::{
    CancelReason, Code, CommandCancel, CommandNumber, CommandResult, CommandRun, FromAgent,
    JobStatus, Problem, RunId, RunSpec,
};

impl Brain {
    pub(super) fn command_run(&mut self, command: CommandRun, now: Now) -> Vec<Effect> {
        let Some(number) =
            command.number.filter(|number| Some(number.incarnation) == self.incarnation)
        else {
            let problem = Problem::new(
                Code::FrameInvalid,
                "The command has no number of this manager's; it was not taken.",
            );
            let answer = CommandResult::refused(command.job_id, problem);
            return send(&FromAgent::CommandResult(answer)).into_iter().collect();
        };
        let mut effects = self.see(number);
        let is_forgotten = points::is_planted(Mistake::ForgetExecuted);
        let known = self.runs.get(&command.job_id);
        effects.extend(
            match known.filter(|run| run.state == RunState::Accepted || !is_forgotten) {
                Some(run) => {
                    let answer = run
                        .refusal
                        .clone()
                        .unwrap_or_else(|| CommandResult::accepted(command.job_id));
                    self.answer(answer)
                }
                None if self.is_struck(number) && !is_forgotten => {
                    self.answer(CommandResult::refused(command.job_id, spent()))
                }
                None => self.take(command, number, now),
            },
        );
        effects
    }

    fn take(&mut self, command: CommandRun, number: CommandNumber, now: Now) -> Vec<Effect> {
        let run = Run {
            id: command.job_id,
            state: RunState::Accepted,
            spec: command.spec,
            number: Some(number),
            slot: None,
            attempt: 1,
            refusal: None,
            repository_id: None,
            log_lines: 0,
            had_item_error: false,
            process: None,
            created_at: now.wall,
            finished_at: None,
        };
        match self.check(&run) {
            Ok(repository_id) => {
                let mut effects = vec![self.put(Run { repository_id: Some(repository_id), ..run })];
                effects.extend(self.answer(CommandResult::accepted(command.job_id)));
                effects
            }
            Err(problem) => {
                let answer = CommandResult::refused(run.id, problem);
                let mut effects = self.strike(number);
                effects.push(self.put(Run {
                    state: RunState::Refused,
                    refusal: Some(answer.clone()),
                    finished_at: Some(now.wall),
                    ..run
                }));
                effects.extend(self.answer(answer));
                effects
            }
        }
    }

    fn check(&self, run: &Run) -> Result<protocol::RepositoryId, Problem> {
        let order = resolve(run.id, &run.spec, self.desired.as_ref(), &self.facts)?;
        if let Err(problem) = &self.facts.restic {
            return Err(problem.clone());
        }
        Ok(order.repository.id)
    }

    fn answer(&mut self, answer: CommandResult) -> Vec<Effect> {
        if answer.accepted
            && let Some(session) = self.link.session()
        {
            session.accepted.insert(answer.job_id);
        }
        send(&FromAgent::CommandResult(answer)).into_iter().collect()
    }

    pub(super) fn command_go(&mut self, run_id: RunId, now: Now) -> Vec<Effect> {
        // Without an answer over this very connection the manager may have given the command up.
        if !self.link.session().is_some_and(|session| session.accepted.remove(&run_id)) {
            return Vec::new();
        }
        let Some(run) = self.runs.get(&run_id).filter(|run| run.state == RunState::Accepted) else {
            return Vec::new();
        };
        let run = Run { state: RunState::Queued, ..run.clone() };
        let mut effects = run.number.map_or_else(Vec::new, |number| self.strike(number));
        let repository = run.repository_id;
        effects.push(self.put(run));
        self.queue.push_back(run_id);
        effects.extend(self.begin_next(repository, now));
        effects
    }

    pub(super) fn command_cancel(&mut self, cancel: &CommandCancel, now: Now) -> Vec<Effect> {
        let run_id = cancel.job_id;
        let number = cancel.number.filter(|number| Some(number.incarnation) == self.incarnation);
        let Some(run) = self.runs.get(&run_id) else {
            return self.cancel_unseen(cancel, number, now);
        };
        match run.state {
            RunState::Accepted | RunState::Queued => {
                let (status, problem) = words_of(cancel.reason);
                self.finish_unbegun(run_id, status, problem, now)
            }
            RunState::Running => {
                let live = self.live.entry(run_id).or_default();
                live.cancelled.get_or_insert(cancel.reason);
                // A run of an earlier agent has no process here; its recovery decides.
                if live.is_recovering { Vec::new() } else { vec![Effect::Cancel(run_id)] }
            }
            RunState::Refused | RunState::Finished => Vec::new(),
        }
    }

    fn cancel_unseen(
        &mut self,
        cancel: &CommandCancel,
        number: Option<CommandNumber>,
        now: Now,
    ) -> Vec<Effect> {
        let is_spent = number.is_some_and(|number| self.is_struck(number));
        let (status, unbegun) = words_of(cancel.reason);
        let problem = if is_spent { spent() } else { unbegun };
        let run = Run {
            id: cancel.job_id,
            state: RunState::Accepted,
            spec: RunSpec::Unknown,
            number,
            slot: None,
            attempt: 1,
            refusal: None,
            repository_id: None,
            log_lines: 0,
            had_item_error: false,
            process: None,
            created_at: now.wall,
            finished_at: None,
        };
        self.runs.insert(run.id, run);
        self.finish_unbegun(cancel.job_id, status, problem, now)
    }

    /// Ends a run that has not begun: its number is struck off, so it never will.
    pub(super) fn finish_unbegun(
        &mut self,
        run_id: RunId,
        status: JobStatus,
        problem: Problem,
        now: Now,
    ) -> Vec<Effect> {
        self.queue.retain(|queued| *queued != run_id);
        let run = self.runs.get(&run_id);
        let number = run.and_then(|run| run.number);
        // What kept it waiting was told for its slot, which has its end now.
        let plan = run.filter(|run| run.slot.is_some()).and_then(|run| run.spec.plan_id());
        let mut effects = number.map_or_else(Vec::new, |number| self.strike(number));
        effects.extend(self.end_deferral(plan));
        effects.extend(self.finish(run_id, Outcome::plain(status, Some(problem)), now));
        effects
    }

    fn see(&mut self, number: CommandNumber) -> Vec<Effect> {
        let numbers = self.numbers.entry(number.incarnation).or_default();
        if !numbers.see(number.n) {
            return Vec::new();
        }
        vec![Effect::Store(Change::Numbers {
            incarnation: number.incarnation,
            watermark: numbers.watermark(),
            highest: numbers.highest(),
            struck: None,
        })]
    }

    fn strike(&mut self, number: CommandNumber) -> Vec<Effect> {
        let numbers = self.numbers.entry(number.incarnation).or_default();
        if !numbers.strike(number.n) {
            return Vec::new();
        }
        vec![Effect::Store(Change::Numbers {
            incarnation: number.incarnation,
            watermark: numbers.watermark(),
            highest: numbers.highest(),
            struck: Some(number.n),
        })]
    }

    fn is_struck(&self, number: CommandNumber) -> bool {
        self.numbers.get(&number.incarnation).is_some_and(|numbers| numbers.is_struck(number.n))
    }
}

/// Why a command is not begun whose number is struck off for another one. Two managers that go on from one
/// database give the same numbers; a damaged journal may have lost the run that had it.
fn spent() -> Problem {
    Problem::new(
        Code::ManagerBehind,
        "The machine has carried out a command with this number before, and does not know this run. It does not begin it.",
    )
    .guidance("See among the machine's runs what it did last, and start this one again if it is still needed.")
}

fn words_of(reason: CancelReason) -> (JobStatus, Problem) {
    match reason {
        CancelReason::Admin => (
            JobStatus::Cancelled,
            Problem::new(Code::Cancelled, "Cancelled before it began; nothing was done."),
        ),
        CancelReason::Expired => (
            JobStatus::Expired,
            Problem::new(Code::Expired, "It could not begin in time; nothing was done."),
        ),
    }
}
