//! What must hold: noted while the world goes on, and looked at when all has come to rest.

use super::{
    World,
    bounds::{Lines, check_lines, lines_of},
    copies::{Tale, may_differ},
    machine::{Machine, short},
    network::Line,
};
use agent::core::{Change, Order, RunState, Task};
use anyhow::Result;
use jiff::Timestamp;
use protocol::{
    Code, CommandRun, Frame, HostId, JobFinished, JobKind, JobStatus, LogLine, PlanId, RunId,
    journal::kind,
};
use server::db::{hosts, journals, notices, runs, snapshots};
use std::collections::{BTreeMap, BTreeSet};

/// What an omniscient observer has seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// What was wrong.
    pub violations: Vec<String>,
    /// Runs whose snapshot was really written.
    pub written: BTreeSet<RunId>,
    /// Machines whose state folder is or was there twice: each of the two tells what it knows.
    pub retold: BTreeSet<HostId>,
    /// Whether the manager's database is or was an older copy.
    pub rewound: bool,
    /// Machines of which it must be told that something of theirs is an older copy.
    pub tells: BTreeSet<HostId>,
    /// Runs that really began, and who began them.
    started: BTreeSet<(RunId, Teller)>,
    /// How runs ended, by what their agents committed.
    ended: BTreeMap<RunId, Vec<(Teller, JobStatus)>>,
    /// How many lines runs have written, by what their agents committed.
    lines: BTreeMap<(RunId, Teller), u64>,
    /// Lines that made room in the journal of some agent.
    elided: BTreeSet<(RunId, u64)>,
    /// The newest record that each machine has sent.
    sent: BTreeMap<usize, u64>,
    /// The newest record that each machine was told to be taken in.
    acked: BTreeMap<usize, u64>,
    /// Commands that came to their machines.
    commands: BTreeSet<RunId>,
    /// How often a machine's clock had been put back when it wrote a run down.
    written_down: BTreeMap<RunId, u64>,
    /// Slots that were served, and how often the machine's clock had been put back when that was written down.
    slots: BTreeMap<(Teller, PlanId, Timestamp, u32), u64>,
}

/// An agent with one memory: which machine, and how often its state folder was put back.
pub type Teller = (usize, u64);

impl Seen {
    /// What this machine has told and heard of is another journal from now on.
    pub(super) fn forget_machine(&mut self, machine: usize) {
        self.sent.remove(&machine);
        self.acked.remove(&machine);
    }

    /// The manager does not have what it had.
    pub(super) fn forget_acknowledged(&mut self) {
        self.acked.clear();
    }

    /// A line made room.
    pub(super) fn saw_elided(&mut self, run: RunId, line: u64) {
        self.elided.insert((run, line));
    }

    /// Whether a line made room.
    pub(super) fn has_elided(&self, run: RunId, line: u64) -> bool {
        self.elided.contains(&(run, line))
    }

    /// How a run ended, by each agent that told of it.
    pub(super) fn ends_of(&self, run: RunId) -> impl Iterator<Item = (Teller, JobStatus)> {
        self.ended.get(&run).into_iter().flatten().copied()
    }

    fn has_begun(&self, run: RunId) -> bool {
        self.started.range((run, (0, 0))..).next().is_some_and(|(it, _)| *it == run)
    }
}

impl World {
    /// An agent has committed these changes.
    pub(super) fn saw_committed(&mut self, machine: usize, changes: &[Change]) {
        self.saw_told(machine, changes);
        self.saw_alarms(machine, changes);
        let (put_back, wall) = (self.machines[machine].put_back, self.wall(machine));
        for change in changes {
            if let Change::Run(run) = change {
                // Its agent may have waited for room since, and its clock may have been put back meanwhile.
                let put_back = put_back.saturating_sub(u64::from(run.created_at > wall));
                self.seen.written_down.entry(run.id).or_insert(put_back);
            }
            let Change::Append(record, _) = change else { continue };
            if record.kind == kind::JOB_FINISHED
                && let Ok(finished) = serde_json::from_str::<JobFinished>(&record.payload)
            {
                self.saw_end(machine, finished.job_id, finished.status);
            }
            if record.kind == kind::LOG_STREAM
                && let Ok(line) = serde_json::from_str::<LogLine>(&record.payload)
            {
                let teller = self.teller(machine);
                let before = self.seen.lines.insert((line.job_id, teller), line.seq);
                // Whoever has the memory of another goes on where that one was.
                let is_first = before.is_none() && self.is_copy(machine);
                let before = before.unwrap_or(0);
                if line.seq != before + 1 && !is_first {
                    let (run, name) = (short(line.job_id), self.machines[machine].name());
                    self.violated(format!(
                        "{name} wrote line {} of run {run} after line {before}",
                        line.seq
                    ));
                }
            }
        }
    }

    pub(super) fn teller(&self, machine: usize) -> Teller {
        (machine, self.machines[machine].restored)
    }

    fn is_copy(&self, machine: usize) -> bool {
        let it = &self.machines[machine];
        it.restored > 0 || it.twin_of.is_some()
    }

    fn saw_end(&mut self, machine: usize, run: RunId, status: JobStatus) {
        let teller = self.teller(machine);
        let ends = self.seen.ended.entry(run).or_default();
        let before = ends.iter().find(|(it, _)| *it == teller).map(|(_, status)| *status);
        ends.push((teller, status));
        if let Some(before) = before {
            let (run, before, status) = (short(run), before.as_str(), status.as_str());
            self.violated(format!("run {run} ended twice: {before}, then {status}"));
        }
        match status {
            JobStatus::Interrupted => self.met.count("run interrupted"),
            JobStatus::Expired => self.met.count("run expired"),
            JobStatus::Cancelled if !self.seen.has_begun(run) => {
                self.met.count("run withdrawn before it began");
            }
            JobStatus::Cancelled
            | JobStatus::Queued
            | JobStatus::Running
            | JobStatus::Succeeded
            | JobStatus::Failed
            | JobStatus::Partial
            | JobStatus::Lost
            | JobStatus::Unknown => {}
        }
    }

    /// A run begins.
    pub(super) fn saw_started(&mut self, machine: usize, order: &Order) {
        let run = order.run_id;
        let teller = self.teller(machine);
        if !self.seen.started.insert((run, teller)) {
            self.violated(format!("run {} began twice", short(run)));
        }
        let it = &self.machines[machine];
        let slot = it.shell.as_ref().and_then(|shell| {
            let open = shell.brain.open_runs().find(|open| open.id == run)?;
            Some((open.slot?, open.attempt))
        });
        let (Some((slot, attempt)), Task::Backup { plan, .. }) = (slot, &order.task) else {
            return;
        };
        let put_back = self.seen.written_down.get(&run).copied().unwrap_or(it.put_back);
        match self.seen.slots.insert((teller, *plan, slot, attempt), put_back) {
            None if attempt > 1 => self.met.count("slot tried again"),
            None => self.met.count("slot served"),
            Some(before) if before < put_back => {
                self.met.count("slot served once more after the clock was put back");
            }
            Some(_) => self.violated(format!("the slot {slot} was served twice")),
        }
    }

    /// A machine sends a record.
    pub(super) fn saw_sent(&mut self, machine: usize, seq: u64) {
        let newest = self.seen.sent.entry(machine).or_default();
        if seq <= *newest {
            self.met.count("record sent again");
        }
        *newest = seq.max(*newest);
    }

    /// A frame came to a machine. Says whether it is a command that did not come before.
    pub(super) fn saw_command(&mut self, machine: usize, frame: &Frame) -> bool {
        if frame.kind != "command.run" || self.machines[machine].shell.is_none() {
            return false;
        }
        let command = serde_json::from_str::<CommandRun>(frame.payload.get());
        let is_new = command.is_ok_and(|command| self.seen.commands.insert(command.job_id));
        if !is_new {
            self.met.count("command came again");
        }
        is_new
    }

    /// A machine may have heard that more of its records are taken in.
    pub(super) fn saw_acknowledged(&mut self, machine: usize) {
        if let Some(shell) = &self.machines[machine].shell {
            let acked = shell.brain.journal().acked();
            let newest = self.seen.acked.entry(machine).or_default();
            *newest = acked.max(*newest);
        }
    }

    /// Whether the manager has all that it has acknowledged.
    pub(super) async fn check_acknowledged(&mut self) -> Result<()> {
        if self.seen.rewound {
            // What the database had that is gone still comes over lines of that time.
            return Ok(());
        }
        for machine in 0..self.machines.len() {
            let acked = self.seen.acked.get(&machine).copied().unwrap_or(0);
            let it = &self.machines[machine];
            let (host, journal) = (it.enrolled.host, it.disk.journal().id);
            let cursor = journals::cursor(self.office.db().read(), host, journal, [0; 2]).await?;
            let seq = cursor.map_or(0, |(cursor, _)| cursor.seq);
            if seq < acked {
                let name = self.machines[machine].name();
                self.violated(format!(
                    "{name} was told that record {acked} is taken in, and the manager has {seq}"
                ));
            }
        }
        Ok(())
    }

    /// What is not at rest yet.
    pub(super) async fn unrest(&self) -> Result<Option<String>> {
        if self.has_twins() {
            return Ok(Some("two machines have one identity, and are not both held".to_owned()));
        }
        let there = self.machines.iter().enumerate().filter(|(_, machine)| !machine.is_gone);
        for (index, machine) in there {
            let name = machine.name();
            let Some(shell) = &machine.shell else {
                return Ok(Some(format!("{name} is off")));
            };
            if !shell.brain.is_open() {
                return Ok(Some(format!("{name} is not connected: {:?}", shell.brain.hold())));
            }
            let is_served = |line: &u64| self.lines.get(line).is_some_and(Line::is_served);
            if !shell.line.as_ref().is_some_and(is_served) {
                return Ok(Some(format!("{name} speaks to nobody")));
            }
            let journal = shell.brain.journal();
            if journal.acked() != journal.head() || shell.agenda.has_pending() {
                let (acked, head) = (journal.acked(), journal.head());
                return Ok(Some(format!("of the journal of {name} {acked} of {head} are in")));
            }
            if let Some(run) = shell.brain.open_runs().next() {
                return Ok(Some(format!("run {} of {name} is {:?}", short(run.id), run.state)));
            }
            if let Some(untold) = self.untold(index) {
                return Ok(Some(untold));
            }
            if self.processes.values().any(|process| process.machine == index) {
                return Ok(Some(format!("a process of {name} goes on")));
            }
        }
        if let Some(unrest) = self.old_unrest().await? {
            return Ok(Some(unrest));
        }
        if self.beside > 0 || self.up.as_ref().is_none_or(|up| up.intake.waiting() > 0) {
            return Ok(Some("something is still read or taken in".to_owned()));
        }
        let db = self.office.db().read();
        if let Some(run) = runs::open(db).await?.first() {
            let (run, status, dispatch) = (short(run.id), run.status, run.dispatch);
            return Ok(Some(format!("run {run} is {status:?} to the manager, {dispatch:?}")));
        }
        for machine in self.machines.iter().filter(|machine| !machine.is_gone) {
            let host = hosts::find(db, machine.enrolled.host).await?;
            if host.is_none_or(|host| !host.in_sync()) {
                return Ok(Some(format!("{} is not in sync", machine.name())));
            }
            // Where nothing that either side has tells of it, the next run does.
            let host = machine.enrolled.host;
            let is_unknown = self.seen.retold.contains(&host) && !self.seen.tells.contains(&host);
            if is_unknown && self.tale == Tale::StateBack {
                continue;
            }
            if let Some(unread) = self.unread(machine).await? {
                return Ok(Some(unread));
            }
        }
        Ok(None)
    }

    /// How the manager's list of snapshots differs from what the repository of this machine holds.
    async fn unread(&self, machine: &Machine) -> Result<Option<String>> {
        let repository = machine.enrolled.repository;
        let db = self.office.db().read();
        let listed = snapshots::list(db, repository, 0, 10_000).await?;
        let listed: BTreeSet<String> = listed.into_iter().map(|it| it.id).collect();
        let there: BTreeSet<String> =
            self.repositories[&repository].snapshots.keys().cloned().collect();
        Ok((listed != there).then(|| {
            let both = listed.intersection(&there).count();
            format!(
                "the manager lists {} snapshots of {}, there are {}, and {both} are in both",
                listed.len(),
                machine.name(),
                there.len(),
            )
        }))
    }

    /// All has come to rest: both sides must tell the same, and what really happened.
    pub(super) async fn check_at_rest(&mut self) -> Result<()> {
        self.check_acknowledged().await?;
        let db = self.office.db().read().clone();
        let witnessed: Vec<String> =
            sqlx::query_scalar("SELECT what FROM witness").fetch_all(&db).await?;
        for what in witnessed {
            self.violated(what);
        }
        for notice in notices::list_open(&db).await? {
            let is_retold = notice.host_id.is_some_and(|host| self.seen.retold.contains(&host));
            let is_of_copy = matches!(
                notice.code,
                Code::AgentBehind
                    | Code::ManagerBehind
                    | Code::JournalForked
                    | Code::CloneSuspected
            );
            // That a far end refused is news.
            let is_of_channel = notice.subject.starts_with("channel:") && self.far.is_told;
            if !(is_of_copy && (is_retold || self.seen.rewound) || is_of_channel) {
                self.violated(format!("a notice: {} {}", notice.code, notice.message));
            }
        }
        self.check_told().await?;
        self.check_old().await?;
        self.check_slots().await?;
        self.check_alarms().await?;
        for machine in 0..self.machines.len() {
            if !self.machines[machine].is_gone {
                self.check_machine(machine).await?;
            }
        }
        self.check_runs().await
    }

    async fn check_machine(&mut self, machine: usize) -> Result<()> {
        let db = self.office.db().read().clone();
        let it = &self.machines[machine];
        let (name, enrolled) = (it.name(), it.enrolled.clone());
        let has = it.disk.desired.as_ref().map(|it| (it.generation.n, it.digest.clone()));
        let Some(host) = hosts::find(&db, enrolled.host).await? else { return Ok(()) };
        let journal = it.disk.journal().clone();
        let cursor = journals::cursor(&db, enrolled.host, journal.id, [0; 2]).await?;
        let taken = cursor.map(|(cursor, _)| (cursor.seq, cursor.hash));
        if taken != Some((journal.head, journal.head_hash)) {
            let (taken, head) = (taken.map(|taken| taken.0), journal.head);
            self.violated(format!("of the journal of {name} up to {head} {taken:?} is taken in"));
        }
        if has != Some((host.generation, host.desired_digest.clone())) {
            let has = has.map(|has| has.0);
            self.violated(format!("{name} has generation {has:?} of {}", host.generation));
        }
        Ok(())
    }

    async fn check_runs(&mut self) -> Result<()> {
        let db = self.office.db().read().clone();
        let mut known = BTreeSet::new();
        let mut before = None;
        loop {
            let page = runs::list(&db, None, before, 200).await?;
            let Some(last) = page.last() else { break };
            before = Some(last.id);
            let old = self.old.as_ref().map(|old| old.enrolled.host);
            for run in page.into_iter().filter(|run| Some(run.host_id) != old) {
                known.insert(run.id);
                let lines = lines_of(&db, run.id).await?;
                self.check_run(&run, &lines);
            }
        }
        // What an agent told before its state folder was put back is gone with it, and so is what the one
        // of two knew that was taken away.
        let remembered: BTreeSet<RunId> = self
            .machines
            .iter()
            .filter(|machine| !machine.is_gone)
            .flat_map(|machine| machine.disk.runs())
            .filter(|run| run.state == RunState::Finished)
            .map(|run| run.id)
            .collect();
        let is_retold = !self.seen.retold.is_empty();
        let missing: Vec<RunId> = self
            .seen
            .ended
            .keys()
            .filter(|run| !known.contains(run) && (!is_retold || remembered.contains(run)))
            .copied()
            .collect();
        for run in missing {
            self.violated(format!("the manager does not know of run {}", short(run)));
        }
        let open: Vec<RunId> = self
            .seen
            .started
            .iter()
            .map(|(run, _)| *run)
            .filter(|run| !self.seen.ended.contains_key(run) && !is_retold)
            .collect();
        for run in open {
            self.violated(format!("run {} began and never ended", short(run)));
        }
        Ok(())
    }

    fn check_run(&mut self, run: &runs::Run, shown: &Lines) {
        let (id, status) = (short(run.id), run.status);
        let is_retold = self.seen.retold.contains(&run.host_id);
        let may_differ = may_differ(status, is_retold, self.seen.rewound);
        let ends: Vec<JobStatus> =
            self.seen.ended.get(&run.id).into_iter().flatten().map(|(_, status)| *status).collect();
        let is_started = self.seen.has_begun(run.id);
        match ends.first() {
            Some(ended) if !ends.contains(&status) && !may_differ => self.violated(format!(
                "run {id} is {} to the manager and {} to its agent",
                status.as_str(),
                ended.as_str()
            )),
            // Its machine never heard of it, or refused it.
            None if (is_started || status == JobStatus::Lost || !status.is_terminal())
                && !may_differ =>
            {
                self.violated(format!("run {id} is {} to the manager alone", status.as_str()));
            }
            None if status == JobStatus::Expired => self.met.count("run expired"),
            Some(_) | None => {}
        }
        let written = self.seen.lines.range((run.id, (0, 0))..=(run.id, (usize::MAX, u64::MAX)));
        let lines = written.map(|(_, lines)| *lines).max().unwrap_or(0);
        // Of what was forgotten on one side the end is missing, and never anything in between.
        match check_lines(run.id, shown, &self.seen, is_retold || self.seen.rewound) {
            Err(what) => self.violated(format!("in the log of run {id} {what}")),
            Ok(last) if last != lines && !(is_retold && last < lines) => {
                self.violated(format!("run {id} has {last} lines, and its agent wrote {lines}"));
            }
            Ok(_) => {}
        }
        self.saw_log(shown);
        let is_green = run.kind == JobKind::Backup
            && matches!(status, JobStatus::Succeeded | JobStatus::Partial);
        if is_green && !self.seen.written.contains(&run.id) {
            self.violated(format!("run {id} is {} and wrote no snapshot", status.as_str()));
        }
    }
}
