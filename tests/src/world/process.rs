//! The processes of the world: what each does next, and what becomes of it when its agent dies.

use super::{
    Event, World,
    machine::short,
    restic::{Ending, Process, Step},
    say,
};
use agent::core::{self, Order, RunEvent, Task};
use protocol::{LogStream, RunId};
use std::time::Duration;

impl World {
    /// Something happens in a run that this process does.
    pub(super) fn tell(&mut self, process: &Process, event: RunEvent) {
        let it = &self.machines[process.machine];
        if it.life == process.life && it.shell.is_some() {
            let run = process.order.run_id;
            self.ask(process.machine, |brain, now| brain.handle_run_event(run, event, now));
        }
    }

    pub(super) fn start_process(&mut self, machine: usize, order: Order) {
        let run = order.run_id;
        self.saw_started(machine, &order);
        let it = &self.machines[machine];
        let (life, name) = (it.life, it.name());
        say!(self, name, "run {} begins: {:?}", short(run), kind(&order.task));
        let has_hooks = matches!(&order.task, Task::Backup { hooks, .. } if !hooks.is_empty());
        let ending = match self.dice.below(10) {
            0 => Ending::Badly,
            1 => Ending::Partly,
            2 if has_hooks => Ending::HookBefore,
            3 if has_hooks => Ending::HookAfter,
            2..=5 if self.is_patient => Ending::Badly,
            _ => Ending::Well,
        };
        let process = Process {
            machine,
            life,
            ending,
            steps: self.steps(ending),
            order,
            is_cancelled: false,
            snapshot: None,
        };
        if process.is_mutating()
            && let Some(other) = self.processes.values().find(|other| {
                other.is_mutating()
                    && other.machine == machine
                    && other.repository() == process.repository()
            })
        {
            let (run, other) = (short(run), short(other.order.run_id));
            self.violated(format!(
                "run {run} writes to a repository to which {other} still writes"
            ));
        }
        let pid = 1_000 + u32::try_from(self.events % 1_000_000_000).unwrap_or(0);
        let first = process.steps.last().map_or(Duration::ZERO, |step| step.0);
        self.processes.insert(pid, process);
        self.after(first, Event::Step(pid));
    }

    /// What a process will do, last first.
    fn steps(&mut self, ending: Ending) -> Vec<(Duration, Step)> {
        let mut steps = vec![(self.millis(5, 400), Step::Spawn)];
        let most = if self.once_in(20) { 60_000 } else { 8_000 };
        let (lines, pause) = if self.longest_line > 0 { (60, 600) } else { (6, most) };
        for _ in 0..self.dice.below(lines) {
            let stream = if self.once_in(3) { LogStream::Stderr } else { LogStream::Event };
            steps.push((self.millis(0, pause), Step::Line(stream)));
        }
        if ending == Ending::Partly {
            steps.push((self.millis(0, 2_000), Step::Miss));
        }
        if !matches!(ending, Ending::Badly | Ending::HookBefore) {
            steps.push((self.millis(100, most), Step::Write));
        }
        steps.push((self.millis(0, 500), Step::End));
        steps.reverse();
        steps
    }

    pub(super) fn step(&mut self, pid: u32) {
        let Some(process) = self.processes.get(&pid) else { return };
        let machine = process.machine;
        if self.is_asleep(machine) {
            self.machines[machine].missed.push(Event::Step(pid));
            return;
        }
        let Some(process) = self.processes.get_mut(&pid) else { return };
        let Some((_, step)) = process.steps.pop() else { return };
        let next = process.steps.last().map(|step| step.0);
        let process = process.clone();
        if let Some(next) = next {
            self.after(next, Event::Step(pid));
        }
        match step {
            Step::Spawn => {
                let process_is = core::Process { pid, start: format!("start-{pid}") };
                self.tell(&process, RunEvent::Spawned(process_is));
            }
            Step::Line(stream) => {
                let words = self.words(process.order.run_id);
                self.tell(&process, RunEvent::Log(stream, words));
            }
            Step::Miss => self.tell(&process, RunEvent::ItemError),
            Step::Write => self.write(pid, &process),
            Step::End => {
                self.processes.remove(&pid);
                self.met.count(match (process.is_cancelled, process.ending) {
                    (true, _) => "run cancelled while it went on",
                    (false, Ending::Well) => "run went well",
                    (false, Ending::Partly) => "run was partial",
                    (false, Ending::Badly) => "run failed",
                    (false, Ending::HookBefore) => "hook before a run failed",
                    (false, Ending::HookAfter) => "hook after a run failed",
                });
                self.tell(&process, RunEvent::Finished(Box::new(process.outcome())));
            }
        }
    }

    fn write(&mut self, pid: u32, process: &Process) {
        let id = self.dice.hex_id();
        let at = self.wall(process.machine);
        let is_away = self.is_away(process.repository());
        let snapshot = match self.repositories.get_mut(&process.repository()) {
            Some(repository) if !is_away => process.write(repository, id, at),
            Some(_) | None => None,
        };
        if is_away {
            self.met.count("repository went away under a run");
        }
        if snapshot.is_some() {
            self.seen.written.insert(process.order.run_id);
        }
        if let Some(process) = self.processes.get_mut(&pid) {
            process.snapshot = snapshot;
            if is_away {
                process.ending = Ending::Badly;
            }
        }
    }

    pub(super) fn cancel_process(&mut self, machine: usize, run: RunId) {
        let life = self.machines[machine].life;
        let found = self
            .processes
            .iter_mut()
            .find(|(_, it)| it.life == life && it.machine == machine && it.order.run_id == run);
        let Some((&pid, process)) = found else { return };
        if process.is_cancelled {
            return;
        }
        process.is_cancelled = true;
        // Its next step finds it told to end.
        process.steps = vec![(Duration::ZERO, Step::End)];
        let wait = self.millis(10, 3_000);
        self.after(wait, Event::Step(pid));
    }

    /// The agent of these processes has died: some die with it, some go on for a while.
    pub(super) fn orphan(&mut self, machine: usize) {
        let life = self.machines[machine].life;
        let left: Vec<(u32, bool)> =
            self.processes
                .iter()
                .filter(|(_, it)| it.machine == machine && it.life < life)
                .map(|(&pid, it)| {
                    let run = it.order.run_id;
                    // Of one that the agent has not noted, nobody would know.
                    let is_noted = self.machines[machine].disk.runs().any(|it| {
                        it.id == run && it.process.as_ref().is_some_and(|it| it.pid == pid)
                    });
                    (pid, is_noted)
                })
                .collect();
        for (pid, is_noted) in left {
            if !is_noted || self.once_in(2) {
                self.processes.remove(&pid);
            } else {
                self.met.count("restic left behind by a killed agent");
            }
        }
    }

    /// The machine loses its power: nothing goes on.
    pub(super) fn end_processes(&mut self, machine: usize) {
        self.processes.retain(|_, it| it.machine != machine);
    }

    /// A new agent ends what the one before it left going.
    pub(super) fn end_orphan(&mut self, machine: usize, run: RunId, noted: Option<u32>) {
        let Some(pid) = noted else { return };
        let is_ours = self
            .processes
            .get(&pid)
            .is_some_and(|it| it.machine == machine && it.order.run_id == run);
        if is_ours {
            self.processes.remove(&pid);
            self.met.count("left-over restic ended");
        }
    }
}

fn kind(task: &Task) -> &'static str {
    match task {
        Task::Backup { .. } => "backup",
        Task::Init => "init",
        Task::Forget { .. } => "forget",
        Task::Prune { .. } => "prune",
        Task::Check { .. } => "check",
        Task::Unlock => "unlock",
        Task::Stats => "stats",
        Task::Restore { .. } => "restore",
    }
}
