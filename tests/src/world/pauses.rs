//! When a machine does nothing although it is there: it sleeps, its agent waits for room on its disk,
//! or its repository is away.

use super::{Event, World, say};
use protocol::RepositoryId;
use std::time::Duration;

impl World {
    /// Whether nothing answers where a repository lies.
    pub(super) fn is_away(&self, repository: RepositoryId) -> bool {
        self.repositories.get(&repository).is_none_or(|it| self.now < it.away_until)
    }

    /// The machine falls asleep for a while.
    pub(super) fn sleep(&mut self, machine: usize) {
        if self.is_asleep(machine) {
            return;
        }
        self.met.count("machine slept");
        self.machines[machine].asleep_since = Some(self.now);
        self.saw_presence(machine);
        let most = if self.is_long || self.once_in(4) { 28_800_000 } else { 900_000 };
        let wait = self.millis(2_000, most);
        say!(self, self.machines[machine].name(), "falls asleep for {wait:?}");
        self.after(wait, Event::Resume(machine));
    }

    /// It wakes up, if it slept.
    pub(super) fn resume(&mut self, machine: usize) {
        let now = self.now;
        let it = &mut self.machines[machine];
        let Some(since) = it.asleep_since.take() else { return };
        it.slept += now - since;
        say!(self, self.machines[machine].name(), "wakes up");
        self.go_on(machine);
    }

    /// Whether the agent does nothing although it runs.
    pub(super) fn is_asleep(&self, machine: usize) -> bool {
        let it = &self.machines[machine];
        it.asleep_since.is_some() || it.is_stuck
    }

    /// The agent waits until what it must remember can be written.
    pub(super) fn get_stuck(&mut self, machine: usize) {
        self.met.count("agent waited for room on its disk");
        say!(self, self.machines[machine].name(), "waits for room on its disk");
        self.machines[machine].is_stuck = true;
        self.saw_presence(machine);
    }

    /// There is room on the disk again.
    pub(super) fn make_room(&mut self, machine: usize) {
        let it = &mut self.machines[machine];
        it.is_full = false;
        if it.is_stuck && it.asleep_since.is_none() {
            say!(self, self.machines[machine].name(), "has room on its disk again");
            self.go_on(machine);
        }
    }

    /// What the agent waited for is over: it does what it was about to do, and then what has come meanwhile.
    pub(super) fn go_on(&mut self, machine: usize) {
        let it = &mut self.machines[machine];
        if it.is_full && it.is_stuck {
            return;
        }
        it.is_stuck = false;
        let missed = std::mem::take(&mut it.missed);
        self.saw_presence(machine);
        self.execute(machine, Vec::new());
        for event in missed {
            self.after(Duration::ZERO, event);
        }
        self.after(Duration::ZERO, Event::Wake(machine));
    }
}
