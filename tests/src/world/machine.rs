//! A machine with its agent: the real brain, journal and agenda, and around them what the daemon does:
//! it carries effects out in order, commits before what depends on it, and dials.

use super::{
    Down, Event, World, disk::Disk, old::OLD, restic::snapshot_of, say, template::Enrolled,
};
use crate::dice::Dice;
use agent::{
    core::{
        Agenda, Attempt, Brain, DeliveryKey, Effect, Facts, Gates, Next, Now, Reading, Recovered,
        Redial,
    },
    desired::Desired,
    journal::Kept,
};
use anyhow::Result;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use protocol::{
    Code, Frame, HostArch, HostOs, JournalId, PROTOCOL_VERSION, RepoStats, RepositoryId, RunId,
};
use server::db::journals;
use std::time::Duration;

/// How long changes may wait for others, as in the daemon.
const COMMIT_PAUSE: Duration = Duration::from_millis(200);

/// How long an agent hears nothing before it gives a connection up.
const IDLE: Duration = Duration::from_secs(90);

/// Where machines stand.
const ZONES: [&str; 4] = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"];

/// A machine.
pub struct Machine {
    /// What it is to its manager.
    pub enrolled: Enrolled,
    /// What outlives everything else.
    pub disk: Disk,
    /// How often its agent has died.
    pub life: u64,
    /// The agent, while it runs.
    pub shell: Option<Shell>,
    /// How far its clock is ahead.
    pub skew: SignedDuration,
    /// How long it has slept in all.
    pub slept: Duration,
    /// Since when it sleeps.
    pub asleep_since: Option<Duration>,
    /// What happens when it wakes up.
    pub missed: Vec<Event>,
    /// The machine of which this one is a copy.
    pub twin_of: Option<usize>,
    /// Whether it was held when its manager last answered it.
    pub is_held: bool,
    /// Whether it was taken away for good.
    pub is_gone: bool,
    /// How often its state folder was put back.
    pub restored: u64,
    /// Whether there is no room on its disk.
    pub is_full: bool,
    /// Whether its agent waits for room.
    pub is_stuck: bool,
    /// The gates that are closed.
    pub closed: Gates,
    /// How often its clock was put back.
    pub put_back: u64,
    /// Its time zone.
    pub zone: TimeZone,
}

/// A running agent.
pub struct Shell {
    /// Its mind.
    pub brain: Brain,
    /// What it has to do.
    pub agenda: Agenda,
    /// The line to the manager.
    pub line: Option<u64>,
    /// The agent is killed when it has done so many things more.
    pub dies_in: Option<u64>,
    commit_at: Option<Duration>,
    started: Duration,
    slept_before: Duration,
    closing: Option<Redial>,
    heard_at: Duration,
    failures: u32,
    wakes: Option<(Duration, u64)>,
}

/// What comes of work beside the runs.
#[derive(Debug)]
pub enum Side {
    Read(RepositoryId, Option<Reading>),
    Recovered(RunId, Recovered),
    Probed(RepositoryId, bool),
    Gates(Gates),
    Delivered(DeliveryKey, Attempt),
}

impl Shell {
    /// When the agent was started.
    pub fn started(&self) -> Duration {
        self.started
    }
}

impl Machine {
    /// A machine that was enrolled.
    pub fn new(enrolled: Enrolled, dice: &mut Dice, began: Timestamp, is_compared: bool) -> Self {
        let millis = u64::try_from(began.as_millisecond()).unwrap_or(0);
        let zone = usize::try_from(dice.below(ZONES.len() as u64)).unwrap_or(0);
        Self {
            disk: Disk::new(JournalId::new(millis, &dice.ten()), 1, is_compared),
            enrolled,
            life: 0,
            shell: None,
            skew: SignedDuration::from_millis(
                i64::try_from(dice.below(4_000)).unwrap_or(0) - 2_000,
            ),
            slept: Duration::ZERO,
            asleep_since: None,
            missed: Vec::new(),
            put_back: 0,
            is_full: false,
            is_stuck: false,
            closed: Gates::default(),
            twin_of: None,
            is_held: false,
            is_gone: false,
            restored: 0,
            zone: TimeZone::get(ZONES[zone]).unwrap_or(TimeZone::UTC),
        }
    }

    fn facts(&self) -> Facts {
        Facts {
            host_id: self.enrolled.host,
            protocol_version: PROTOCOL_VERSION,
            agent_version: "0.1.0".to_owned(),
            hostname: self.enrolled.name.clone(),
            os: HostOs::Linux,
            arch: HostArch::Amd64,
            boot_time: None,
            zone: self.zone.clone(),
            has_battery: false,
            time_zone_data: None,
            restic: Ok("0.18.1".to_owned()),
        }
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.enrolled.name.clone()
    }
}

impl World {
    /// What a machine's clock shows.
    pub(super) fn wall(&self, machine: usize) -> Timestamp {
        let skew = self.machines[machine].skew;
        self.true_time().saturating_add(skew).unwrap_or(Timestamp::MAX)
    }

    fn agent_now(&self, machine: usize) -> Now {
        let it = &self.machines[machine];
        let mono = it.shell.as_ref().map_or(Duration::ZERO, |shell| {
            (self.now - shell.started).saturating_sub(it.slept - shell.slept_before)
        });
        Now { wall: self.wall(machine), mono }
    }

    /// Starts the agent.
    pub(super) async fn boot(&mut self, machine: usize) -> Result<()> {
        if self.machines[machine].shell.is_some() || self.machines[machine].is_gone {
            return Ok(());
        }
        if self.is_asleep(machine) {
            self.machines[machine].missed.push(Event::Boot(machine));
            return Ok(());
        }
        let it = &self.machines[machine];
        let journal = it.disk.journal().clone();
        let db = self.office.db().read();
        let known = journals::cursor(db, it.enrolled.host, journal.id, [0; 2]).await?;
        if let Some((cursor, _)) = known
            && cursor.seq > journal.head
            && !self.seen.retold.contains(&it.enrolled.host)
        {
            let (name, head) = (it.name(), journal.head);
            self.violated(format!(
                "{name} was heard to record {} and remembers {head}",
                cursor.seq
            ));
            return Ok(());
        }
        let it = &self.machines[machine];
        say!(self, it.name(), "the agent starts; its journal stands at {}", journal.head);
        let it = &mut self.machines[machine];
        let brain =
            Brain::new(it.facts(), it.disk.memory(), it.disk.desired.clone(), it.disk.epoch());
        it.shell = Some(Shell {
            brain,
            agenda: Agenda::default(),
            line: None,
            dies_in: None,
            commit_at: None,
            started: self.now,
            slept_before: it.slept,
            closing: None,
            heard_at: self.now,
            failures: 0,
            wakes: None,
        });
        let life = it.life;
        self.saw_presence(machine);
        self.ask(machine, |brain, now| brain.handle_start(now));
        let wait = self.millis(0, 2_000);
        self.after(wait, Event::Dial(machine, life));
        Ok(())
    }

    /// Hands something to the brain and carries out what follows.
    pub(super) fn ask(&mut self, machine: usize, ask: impl FnOnce(&mut Brain, Now) -> Vec<Effect>) {
        let now = self.agent_now(machine);
        let Some(shell) = &mut self.machines[machine].shell else { return };
        let effects = ask(&mut shell.brain, now);
        self.execute(machine, effects);
    }

    /// As the daemon: effects in order, and on the disk what must be there before.
    pub(super) fn execute(&mut self, machine: usize, effects: Vec<Effect>) {
        if let Some(shell) = &mut self.machines[machine].shell {
            shell.agenda.add(effects);
        }
        loop {
            let Some(shell) = &mut self.machines[machine].shell else { return };
            let Some(next) = shell.agenda.poll_next() else { break };
            if matches!(next, Next::Commit) && self.machines[machine].is_full {
                // It is asked for again once there is room, and until then nothing goes on.
                return self.get_stuck(machine);
            }
            let Some(shell) = &mut self.machines[machine].shell else { return };
            if let Some(left) = &mut shell.dies_in {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    // The disk may have got what was being written when the agent died.
                    if matches!(next, Next::Commit) && self.once_in(2) {
                        self.met.count("killed while it committed");
                        self.commit(machine);
                    } else {
                        self.met.count("killed between two effects");
                    }
                    self.kill_agent(machine);
                    return;
                }
            }
            let follows = match next {
                Next::Commit => self.commit_and_tell(machine),
                Next::CarryOut(effect) => self.carry_out(machine, effect),
            };
            if let Some(shell) = &mut self.machines[machine].shell {
                shell.agenda.add(follows);
            }
        }
        let now = self.now;
        if let Some(shell) = &mut self.machines[machine].shell
            && shell.agenda.has_pending()
            && shell.commit_at.is_none()
        {
            shell.commit_at = Some(now + COMMIT_PAUSE);
        }
        self.set_alarm(machine);
    }

    fn commit_and_tell(&mut self, machine: usize) -> Vec<Effect> {
        let Some(head) = self.commit(machine) else { return Vec::new() };
        let shell = self.machines[machine].shell.as_mut();
        shell.map_or_else(Vec::new, |shell| shell.brain.handle_committed(head))
    }

    fn commit(&mut self, machine: usize) -> Option<u64> {
        let it = &mut self.machines[machine];
        let shell = it.shell.as_mut()?;
        shell.commit_at = None;
        let (changes, head) = shell.agenda.take_pending();
        it.disk.commit(&changes);
        self.saw_committed(machine, &changes);
        self.keep_within_bound(machine);
        head
    }

    fn carry_out(&mut self, machine: usize, effect: Effect) -> Vec<Effect> {
        let now = self.agent_now(machine);
        match effect {
            Effect::Store(_) => {}
            Effect::Send(frame) => self.send(machine, &frame),
            Effect::Fetch(room) => {
                let it = &mut self.machines[machine];
                let records = it.disk.fetch(room);
                if let Some(shell) = &mut it.shell {
                    return shell.brain.handle_records(records);
                }
            }
            Effect::LookUpHash(seq) => {
                let it = &mut self.machines[machine];
                let kept = it.disk.kept_at(seq);
                if kept == Kept::LeftOut {
                    self.met.count("manager stood within what had made room");
                }
                if let Some(shell) = &mut it.shell {
                    return shell.brain.handle_hash(kept, now);
                }
            }
            Effect::Renew { reason, after_seq } => return self.renew(machine, reason, after_seq),
            Effect::Disconnect { redial, problem } => {
                let name = self.machines[machine].name();
                say!(self, name, "ends the connection: {problem:?}");
                self.hang_up(machine, redial);
            }
            Effect::SaveDesired(desired) => return self.save_desired(machine, *desired),
            Effect::Start(order) => self.start_process(machine, *order),
            Effect::Cancel(run) => self.cancel_process(machine, run),
            Effect::Recover { run_id, process, repository, look_for_snapshot, .. } => {
                self.end_orphan(machine, run_id, process.map(|process| process.pid));
                let found = match (repository, look_for_snapshot) {
                    (None, _) => Recovered::NotAsked,
                    (Some(_), false) => Recovered::Nothing,
                    (Some(it), true) if self.is_away(it.id) => {
                        Recovered::Unreachable("nobody answers".to_owned())
                    }
                    (Some(it), true) => match snapshot_of(&self.repositories[&it.id], run_id) {
                        Some(snapshot) => {
                            self.met.count("snapshot of a killed run found");
                            Recovered::Snapshot(snapshot)
                        }
                        None => Recovered::Nothing,
                    },
                };
                self.begin_beside(machine, Side::Recovered(run_id, found));
            }
            Effect::Read(repository) => {
                let is_lost = self.is_away(repository.id);
                let reading = (!is_lost).then(|| self.reading(repository.id, now.wall));
                if is_lost {
                    self.met.count("reading failed");
                }
                self.begin_beside(machine, Side::Read(repository.id, reading));
            }
            Effect::Probe(repository, _) => {
                let answers = !self.is_away(repository);
                if !answers {
                    self.saw_refused(machine);
                    self.met.count("repository away when a slot came");
                }
                self.begin_beside(machine, Side::Probed(repository, answers));
            }
            Effect::LookAtGates(asked) => {
                let closed = self.machines[machine].closed;
                let closed = Gates {
                    on_battery: asked.on_battery && closed.on_battery,
                    metered: asked.metered && closed.metered,
                };
                if closed != Gates::default() {
                    self.met.count("gate closed when a slot came");
                    self.saw_closed(machine);
                }
                self.begin_beside(machine, Side::Gates(closed));
            }
            Effect::Deliver(key, parcel) => self.send_alarm(machine, key, *parcel),
            // Nobody browses or tries a channel in this world.
            Effect::List(..) | Effect::TryChannel(_) => {}
        }
        Vec::new()
    }

    fn reading(&self, id: RepositoryId, read_at: Timestamp) -> Reading {
        let snapshots: Vec<_> = self.repositories[&id].snapshots.values().cloned().collect();
        let stats = RepoStats {
            size_bytes: 1,
            snapshot_count: snapshots.len() as u64,
            dedup_ratio: 0.0,
            last_check_at: None,
            last_check_status: None,
            lock_state: "unlocked".to_owned(),
            repository_id: Some(id),
            read_at: Some(read_at),
            locks: Vec::new(),
        };
        Reading { read_at, snapshots: Some(snapshots), stats: Some(stats) }
    }

    fn begin_beside(&mut self, machine: usize, side: Side) {
        let life = self.machines[machine].life;
        let wait = self.millis(20, 3_000);
        self.beside += 1;
        self.after(wait, Event::Beside(machine, life, Box::new(side)));
    }

    pub(super) fn came_beside(&mut self, machine: usize, life: u64, side: Side) {
        if self.is_asleep(machine) {
            self.machines[machine].missed.push(Event::Beside(machine, life, Box::new(side)));
            return;
        }
        self.beside -= 1;
        if self.machines[machine].life != life {
            return;
        }
        match side {
            Side::Read(id, reading) => {
                self.ask(machine, |brain, now| brain.handle_reading(id, reading, now));
            }
            Side::Recovered(run, found) => {
                let name = self.machines[machine].name();
                say!(self, name, "found of run {}: {found:?}", short(run));
                self.ask(machine, |brain, now| brain.handle_recovered(run, found, now));
            }
            Side::Probed(id, answers) => {
                self.ask(machine, |brain, now| brain.handle_probed(id, answers, now));
            }
            Side::Gates(closed) => {
                self.ask(machine, |brain, now| brain.handle_gates(closed, now));
            }
            Side::Delivered(key, attempt) => {
                self.ask(machine, |brain, now| brain.handle_delivered(key, attempt, now));
            }
        }
    }

    fn renew(&mut self, machine: usize, reason: Code, after_seq: u64) -> Vec<Effect> {
        self.commit(machine);
        let wall = self.wall(machine);
        let id = JournalId::new(0, &self.dice.ten());
        let it = &mut self.machines[machine];
        it.disk.renew(id, reason, after_seq, wall);
        let (journal, name) = (it.disk.journal().clone(), it.name());
        let host = self.machines[machine].enrolled.host;
        let is_copied = self.seen.rewound || self.seen.retold.contains(&host);
        if is_copied {
            self.met.count("new journal begun");
            say!(self, name, "begins a new journal after record {after_seq}: {reason}");
            self.seen.forget_machine(machine);
        } else {
            self.violated(format!(
                "{name} begins a new journal after record {after_seq}: {reason}"
            ));
        }
        let shell = self.machines[machine].shell.as_mut();
        shell.map_or_else(Vec::new, |shell| shell.brain.handle_renewed(&journal))
    }

    fn save_desired(&mut self, machine: usize, desired: Desired) -> Vec<Effect> {
        let now = self.agent_now(machine);
        let it = &mut self.machines[machine];
        let (n, name) = (desired.generation.n, it.name());
        // In another life of the manager, which only the admin begins, the number says nothing.
        let before = it.disk.desired.as_ref().map(|it| it.generation);
        let before = before.filter(|it| it.incarnation == desired.generation.incarnation);
        let before = before.map_or(0, |it| it.n);
        it.disk.desired = Some(desired.clone());
        self.saw_plans(machine, &desired);
        say!(self, name, "takes generation {n} of its plans");
        if n < before {
            self.violated(format!("{name} went back from generation {before} to {n}"));
        }
        let shell = self.machines[machine].shell.as_mut();
        shell.map_or_else(Vec::new, |shell| shell.brain.handle_desired_stored(desired, now))
    }

    fn send(&mut self, machine: usize, frame: &Frame) {
        let it = &self.machines[machine];
        let Some(line) = it.shell.as_ref().and_then(|shell| shell.line) else { return };
        if let Some(seq) = frame.seq {
            self.saw_sent(machine, seq);
            self.saw_on_its_way(line, frame);
        }
        if frame.kind != "heartbeat" {
            let seq = frame.seq.map(|seq| format!(" [{seq}]")).unwrap_or_default();
            say!(self, self.machines[machine].name(), "says {}{seq}", frame.kind);
        }
        match frame.encode() {
            Ok(text) => self.send_up(line, text),
            Err(error) => self.violated(format!("a frame cannot be sent: {error}")),
        }
    }

    /// A message comes once more, if its connection lives so long.
    fn repeat(&mut self, line: u64, text: String) {
        if let Some(found) = self.lines.get_mut(&line) {
            found.on_the_way_down += 1;
        }
        let wait = self.millis(0, 90_000);
        self.after(wait, Event::ToAgent(line, Some(Down::Text(text))));
    }

    /// A message for the agent.
    pub(super) fn agent_hears(&mut self, line: u64, down: Option<Down>) {
        let Some(found) = self.lines.get_mut(&line) else { return };
        let machine = found.machine;
        if machine == OLD {
            found.on_the_way_down = found.on_the_way_down.saturating_sub(1);
            return self.old_hears(line, down);
        }
        if self.is_asleep(machine) {
            self.machines[machine].missed.push(Event::ToAgent(line, down));
            return;
        }
        let now = self.now;
        if let Some(found) = self.lines.get_mut(&line) {
            found.on_the_way_down = found.on_the_way_down.saturating_sub(1);
        }
        let Some(shell) = &mut self.machines[machine].shell else { return };
        if shell.line != Some(line) {
            return;
        }
        shell.heard_at = now;
        match down {
            Some(Down::Ping) => {}
            Some(Down::Text(text)) => match Frame::decode(&text) {
                Ok(frame) => {
                    if self.saw_command(machine, &frame) && !self.is_calm && self.once_in(6) {
                        self.repeat(line, text);
                    }
                    self.saw_taken_in(line, &frame);
                    let ack = frame.ack.map(|ack| format!(", has {ack}")).unwrap_or_default();
                    say!(
                        self,
                        "manager",
                        "says {} to {}{ack}",
                        frame.kind,
                        self.machines[machine].name()
                    );
                    self.ask(machine, |brain, now| brain.handle_frame(&frame, now));
                    self.saw_acknowledged(machine);
                    self.note_session(machine);
                }
                Err(error) => self.violated(format!("the manager's frame is none: {error}")),
            },
            None => self.line_ended(machine),
        }
    }

    fn note_session(&mut self, machine: usize) {
        let it = &mut self.machines[machine];
        let Some(shell) = &mut it.shell else { return };
        let is_held = shell.brain.hold().is_some();
        if is_held || shell.brain.is_open() {
            shell.failures = 0;
            it.is_held = is_held;
        }
    }

    /// The agent's side of the connection is gone.
    fn line_ended(&mut self, machine: usize) {
        let it = &mut self.machines[machine];
        let (life, name) = (it.life, it.name());
        let Some(shell) = &mut it.shell else { return };
        shell.line = None;
        shell.brain.handle_disconnected();
        let redial = shell.closing.take().unwrap_or(Redial::Backoff);
        let failures = shell.failures;
        shell.failures += 1;
        say!(self, name, "is not connected any more");
        let most = 1_000 << failures.min(6);
        let pause = match redial {
            Redial::Now if failures == 0 => Duration::ZERO,
            Redial::Now | Redial::Backoff => self.millis(0, most.min(60_000)),
            Redial::Slowly => self.millis(810_000, 990_000),
        };
        self.after(pause, Event::Dial(machine, life));
        self.set_alarm(machine);
    }

    fn hang_up(&mut self, machine: usize, redial: Redial) {
        let Some(shell) = &mut self.machines[machine].shell else { return };
        shell.closing = Some(redial);
        let Some(line) = shell.line else { return };
        self.send_gone_up(line);
        let wait = self.millis(1, 5);
        self.after(wait, Event::ToAgent(line, None));
    }

    pub(super) fn dial(&mut self, machine: usize, life: u64) {
        if self.is_asleep(machine) {
            self.machines[machine].missed.push(Event::Dial(machine, life));
            return;
        }
        let it = &self.machines[machine];
        if it.life != life || it.shell.as_ref().is_none_or(|shell| shell.line.is_some()) {
            return;
        }
        let host = it.enrolled.host;
        let is_away = self.now < self.network_away_until;
        let Some(line) = (!is_away).then(|| self.open_line(machine, host)).flatten() else {
            return self.line_ended(machine);
        };
        let now = self.now;
        if let Some(shell) = &mut self.machines[machine].shell {
            shell.line = Some(line);
            shell.heard_at = now;
        }
        say!(self, self.machines[machine].name(), "is connected by line {line}");
        // As the daemon: a machine that just woke up says so before it says hello.
        self.ask(machine, |brain, now| brain.handle_timeout(now));
        self.ask(machine, |brain, _| brain.handle_connected());
    }

    /// Sets the alarm to when the agent has something to do next by its clock.
    fn set_alarm(&mut self, machine: usize) {
        let it = &mut self.machines[machine];
        let Some(shell) = &mut it.shell else { return };
        let slept = it.slept - shell.slept_before;
        let brain = shell.brain.poll_timeout().map(|due| shell.started + slept + due);
        let idle = shell.line.map(|_| shell.heard_at + IDLE);
        let Some(at) = [brain, shell.commit_at, idle].into_iter().flatten().min() else { return };
        let at = at.max(self.now + Duration::from_millis(1));
        if let Some(wakes) = shell.wakes {
            if wakes.0 == at && self.queue.contains_key(&wakes) {
                return;
            }
            self.queue.remove(&wakes);
        }
        let wakes = self.at(at, Event::Wake(machine));
        if let Some(shell) = &mut self.machines[machine].shell {
            shell.wakes = Some(wakes);
        }
    }

    pub(super) fn wake(&mut self, machine: usize) {
        if self.is_asleep(machine) {
            self.machines[machine].missed.push(Event::Wake(machine));
            return;
        }
        let now = self.now;
        let Some(shell) = &mut self.machines[machine].shell else { return };
        shell.wakes = None;
        if shell.line.is_some() && now >= shell.heard_at + IDLE {
            if let Some(line) = shell.line {
                self.send_gone_up(line);
            }
            return self.line_ended(machine);
        }
        if shell.commit_at.is_some_and(|at| at <= now) {
            if self.machines[machine].is_full {
                return self.get_stuck(machine);
            }
            let follows = self.commit_and_tell(machine);
            self.execute(machine, follows);
        }
        self.ask(machine, |brain, now| brain.handle_timeout(now));
    }

    /// The agent is killed: what it had not committed is gone.
    pub(super) fn kill_agent(&mut self, machine: usize) {
        let it = &mut self.machines[machine];
        let name = it.name();
        let Some(shell) = it.shell.take() else { return };
        it.life += 1;
        self.saw_killed(machine);
        let it = &mut self.machines[machine];
        if std::mem::take(&mut it.is_stuck) {
            self.met.count("agent killed while it waited for room");
            let missed = std::mem::take(&mut self.machines[machine].missed);
            if self.machines[machine].asleep_since.is_some() {
                self.machines[machine].missed = missed;
            } else {
                for event in missed {
                    self.after(Duration::ZERO, event);
                }
            }
        }
        self.saw_presence(machine);
        say!(self, name, "the agent is killed");
        if let Some(wakes) = shell.wakes {
            self.queue.remove(&wakes);
        }
        if let Some(line) = shell.line {
            self.send_gone_up(line);
        }
        self.orphan(machine);
        let wait = self.millis(500, 120_000);
        self.after(wait, Event::Boot(machine));
    }
}

/// An id in a few letters.
pub fn short(id: impl std::fmt::Display) -> String {
    let text = id.to_string();
    text[text.len().saturating_sub(6)..].to_owned()
}
