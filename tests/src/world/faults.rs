//! What goes wrong, and how often it really did.

use super::{Event, World, say};
use agent::core::Gates;
use anyhow::Result;
use jiff::SignedDuration;
use server::hooks;
use std::{collections::BTreeMap, time::Duration};

/// Everything that a world may meet. One that no world meets is a hole in the simulation.
pub const KINDS: &[&str] = &[
    "agent killed",
    "agent killed while it sent an alarm",
    "agent killed while it waited for room",
    "agent waited for room on its disk",
    "alarm channels changed",
    "alarm channels taken away",
    "alarm gave way to a newer one",
    "alarm given up",
    "alarm taken",
    "alarm tried again",
    "alarm uncertain that had arrived",
    "alarm uncertain that had not arrived",
    "alarm: failed",
    "alarm: failed since no further attempt could begin",
    "alarm: good again",
    "alarm: overdue",
    "cancel asked for",
    "clock put back",
    "clock put forward",
    "command came again",
    "connection cut",
    "connection cut and its last messages late",
    "connection cut without a word",
    "disk of a machine full",
    "far end away",
    "far end that never answered",
    "far end that refused for good",
    "far end that refused for now",
    "gate closed when a slot came",
    "hook after a run failed",
    "hook before a run failed",
    "intermittent machine not overdue for days",
    "journal over its bound",
    "killed between two effects",
    "killed while it committed",
    "left-over restic ended",
    "line of an old agent cut",
    "lines made room before the manager had them",
    "lines made room that the manager had",
    "log in which one line stands for many",
    "machine adopted by a manager with an older database",
    "machine left alone with a plan that cannot run",
    "machine lost its power",
    "machine said to be intermittent or always on",
    "machine released whose journal told another history",
    "machine released whose ticket was not the last",
    "machine slept",
    "manager killed",
    "manager killed at a named point",
    "manager stood within what had made room",
    "manager stopped",
    "manager's clock moved",
    "manager's database put back",
    "message of an older connection came after a newer one",
    "network away",
    "new journal begun",
    "old agent began a run",
    "old agent killed",
    "old agent took its schedules",
    "plan changed",
    "reading failed",
    "record sent again",
    "records came while the manager's disk was full",
    "repository away",
    "repository away when a slot came",
    "repository went away under a run",
    "request refused",
    "restic left behind by a killed agent",
    "run asked for",
    "run asked for twice",
    "run cancelled while it went on",
    "run expired",
    "run failed",
    "run interrupted",
    "run of an old agent given up",
    "run was partial",
    "run went well",
    "run withdrawn before it began",
    "second manager with a copied identity",
    "sending window full",
    "sign of life",
    "slot asleep",
    "slot cancelled",
    "slot covered",
    "slot failed",
    "slot interrupted",
    "slot partial",
    "slot ran",
    "slot served",
    "slot served once more after the clock was put back",
    "slot skipped",
    "slot tried again",
    "slot waiting",
    "snapshot of a killed run found",
    "state folder copied to a second machine",
    "state folder put back",
    "two machines with one identity held",
    "what stands for lines sent",
];

/// How often each thing was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Met(BTreeMap<&'static str, u64>);

impl Default for Met {
    fn default() -> Self {
        Self(KINDS.iter().map(|kind| (*kind, 0)).collect())
    }
}

impl Met {
    /// It was met once more.
    pub(super) fn count(&mut self, kind: &'static str) {
        *self.0.entry(kind).or_default() += 1;
    }

    /// Adds what another world has met.
    pub fn add(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            *self.0.entry(kind).or_default() += count;
        }
    }

    /// Each thing and how often it was met, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(kind, count)| (*kind, *count))
    }
}

impl World {
    pub(super) fn go_wrong(&mut self) -> Result<()> {
        if self.is_calm {
            return Ok(());
        }
        let wait = self.millis(500, 40_000);
        let wait = self.slowly(wait);
        self.after(wait, Event::Fault);
        if self.far.is_told && self.once_in(6) {
            self.change_mood();
            return Ok(());
        }
        if self.old.is_some() && self.once_in(5) {
            self.old_goes_wrong();
            return Ok(());
        }
        let machine = usize::try_from(self.dice.below(self.machines.len() as u64))?;
        if self.is_long && self.once_in(8) {
            self.leave_alone(machine);
            return Ok(());
        }
        let what = self.dice.below(28);
        let is_of_machine = matches!(what, 5..=11 | 17..=19 | 22 | 24..);
        if is_of_machine && self.is_left_alone(machine) && !self.once_in(4) {
            return Ok(());
        }
        match what {
            0..=4 => self.cut(machine),
            5..=6 if self.machines[machine].shell.is_some() && !self.is_asleep(machine) => {
                self.met.count("agent killed");
                self.kill_agent(machine);
            }
            7..=10 => {
                let after = 1 + self.dice.below(40);
                if let Some(shell) = &mut self.machines[machine].shell {
                    shell.dies_in = Some(after);
                }
            }
            11 => self.lose_power(machine),
            12..=13 => {
                if self.up.is_some() {
                    self.met.count("manager killed");
                    self.kill_office();
                }
            }
            14..=15 => self.strike_office(),
            16 => {
                if self.up.is_some() {
                    self.met.count("manager stopped");
                    self.stop_office();
                }
            }
            17 => self.sleep(machine),
            18..=20 if self.has_right_clocks => {}
            18..=19 => self.move_clock(machine),
            20 => {
                self.met.count("manager's clock moved");
                self.office_skew = self.step_of_clock();
                say!(self, "manager", "its clock is moved to {} off", self.office_skew);
            }
            21 => {
                self.met.count("network away");
                self.network_away_until = self.now + self.millis(1_000, 180_000);
                for machine in 0..self.machines.len() {
                    self.cut(machine);
                }
            }
            22 => {
                self.met.count("disk of a machine full");
                self.machines[machine].is_full = true;
                let wait = self.millis(500, 90_000);
                say!(self, self.machines[machine].name(), "has no room on its disk for {wait:?}");
                self.after(wait, Event::Room(machine));
            }
            23 => {
                self.office_full_until = self.now + self.millis(500, 60_000);
                say!(self, "manager", "has no room on its disk");
            }
            24..=25 => {
                let closed = Gates { on_battery: self.once_in(2), metered: self.once_in(2) };
                self.machines[machine].closed = closed;
                say!(self, self.machines[machine].name(), "its gates: {closed:?}");
            }
            _ => {
                let wait = self.millis(1_000, 400_000);
                let until = self.now + self.slowly(wait);
                let id = self.machines[machine].enrolled.repository;
                if let Some(repository) = self.repositories.get_mut(&id) {
                    repository.away_until = until;
                }
                self.met.count("repository away");
                say!(self, self.machines[machine].name(), "its repository does not answer");
            }
        }
        Ok(())
    }

    /// For hours this machine's plan cannot run, and hardly anything else happens to it: so it becomes overdue.
    fn leave_alone(&mut self, machine: usize) {
        if self.is_left_alone(machine) {
            return;
        }
        self.met.count("machine left alone with a plan that cannot run");
        let until = self.now + self.millis(6_000_000, 14_000_000);
        self.left_alone.insert(machine, until);
        self.resume(machine);
        let id = self.machines[machine].enrolled.repository;
        if let Some(repository) = self.repositories.get_mut(&id) {
            repository.away_until = until;
        }
        say!(self, self.machines[machine].name(), "is left alone; its repository does not answer");
    }

    /// Whether nobody meddles with this machine for now.
    pub(super) fn is_left_alone(&self, machine: usize) -> bool {
        self.left_alone.get(&machine).is_some_and(|until| *until > self.now)
    }

    /// The line of this machine breaks: with what is on its way lost or late, and found out by each side
    /// at another time.
    fn cut(&mut self, machine: usize) {
        let Some(shell) = &self.machines[machine].shell else { return };
        let Some(line) = shell.line else { return };
        if self.lines.get(&line).is_none_or(|line| line.is_cut) {
            return;
        }
        self.met.count("connection cut");
        say!(self, self.machines[machine].name(), "line {line} breaks");
        let is_silent = self.once_in(3);
        let is_late = !is_silent && self.once_in(3);
        if is_late {
            // What was said is delivered when nobody expects it any more.
            self.met.count("connection cut and its last messages late");
        } else {
            self.drop_messages(line);
        }
        let late = is_late.then(|| self.millis(500, 20_000));
        if let Some(found) = self.lines.get_mut(&line) {
            found.is_cut = true;
            found.late = late;
        }
        if is_silent {
            // Each side finds out when it has heard nothing for too long.
            self.met.count("connection cut without a word");
            return;
        }
        let wait = self.millis(1, 5_000);
        self.after(wait, Event::ToAgent(line, None));
        let wait = self.millis(1, 40_000);
        self.after(wait + late.unwrap_or_default(), Event::ToManager(line, None));
    }

    fn on_line(&self, line: u64) -> Vec<(Duration, u64)> {
        let is_on_line = |event: &Event| matches!(event, Event::ToManager(on, _) | Event::ToAgent(on, _) if *on == line);
        self.queue.iter().filter(|(_, event)| is_on_line(event)).map(|(key, _)| *key).collect()
    }

    /// What is on its way over this line is lost.
    pub(super) fn drop_messages(&mut self, line: u64) {
        for key in self.on_line(line) {
            self.queue.remove(&key);
        }
    }

    fn lose_power(&mut self, machine: usize) {
        let it = &self.machines[machine];
        if it.asleep_since.is_some() || it.shell.is_none() {
            return;
        }
        self.met.count("machine lost its power");
        if let Some(line) = self.machines[machine].shell.as_ref().and_then(|shell| shell.line) {
            self.drop_messages(line);
            if let Some(found) = self.lines.get_mut(&line) {
                found.is_cut = true;
            }
        }
        self.kill_agent(machine);
        self.end_processes(machine);
    }

    fn move_clock(&mut self, machine: usize) {
        let before = self.machines[machine].skew;
        let after = self.step_of_clock();
        self.machines[machine].skew = after;
        if after < before {
            self.met.count("clock put back");
            self.machines[machine].put_back += 1;
        } else {
            self.met.count("clock put forward");
        }
        say!(self, self.machines[machine].name(), "its clock is moved to {after} off");
    }

    /// By how much a clock is off from now on.
    fn step_of_clock(&mut self) -> SignedDuration {
        let most = if self.once_in(3) { 3 * 24 * 3_600 } else { 1_200 };
        let seconds = i64::try_from(self.dice.below(2 * most)).unwrap_or(0);
        SignedDuration::from_secs(seconds - i64::try_from(most).unwrap_or(0))
    }

    /// Nothing goes wrong any more: everybody is awake and can be reached.
    pub(super) fn end_faults(&mut self) {
        hooks::kill_at(None);
        self.network_away_until = self.now;
        self.office_full_until = self.now;
        self.calm_far_ends();
        let now = self.now;
        for repository in self.repositories.values_mut() {
            repository.away_until = now;
        }
        for machine in 0..self.machines.len() {
            self.resume(machine);
            self.make_room(machine);
            self.machines[machine].closed = Gates::default();
            if let Some(shell) = &mut self.machines[machine].shell {
                shell.dies_in = None;
            }
        }
    }
}
