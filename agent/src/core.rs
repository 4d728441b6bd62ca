//! The brain: what the agent knows, and what follows from what happens.
//!
//! A plain struct without clock, randomness or IO. Whoever drives it hands in what happened and the
//! time, and carries out the returned effects *in their order*. A [`Effect::Store`] that stands
//! before another kind of effect must be on the disk before that effect is carried out: so nothing
//! is said that could be forgotten.
//!
//! ```text
//!             command.run            command.go, repository free
//!   (unknown) ───────────▶ Accepted ─────────────────────────────▶ Running ──▶ Finished
//!       │                    │  │ command.go, repository busy        ▲            ▲
//!       │ refused            │  └────────────▶ Queued ───────────────┘            │
//!       ▼                    │ cancel            │ cancel, agent restarted        │
//!    Refused                 └───────────────────┴────────────────────────────────┘
//! ```
//!
//! Each run reaches `Finished` once, with one `job.finished` in the journal.

mod agenda;
mod alarms;
mod commands;
mod desired_state;
mod disk;
mod gates;
mod link;
mod message;
mod numbers;
mod order;
mod presence;
mod progress;
mod recovery;
mod reports;
mod retries;
mod runs;
mod timetable;
mod trees;

pub use agenda::{Agenda, Next};
pub use alarms::{Attempt, Delivery, DeliveryKey, Parcel, PlanAlarm};
pub use disk::{Disk, lighten};
pub use gates::Gates;
pub use link::redial_after;
pub use message::{AlarmEvent, AlarmMessage};
pub use order::{Order, Task};
pub use presence::Awake;
pub use recovery::Recovered;
pub use reports::{Reading, View};
pub use retries::Retry;
pub use timetable::Mark;

use crate::{
    desired::Desired,
    journal::{Journal, Record, Room},
    points::{self, Mistake},
};
use alarms::Alarms;
use jiff::{Timestamp, tz::TimeZone};
use link::Link;
use numbers::Numbers;
use outcome::Outcome;
use presence::Presence;
use progress::Meter;
use protocol::{
    CancelReason, Code, CommandNumber, CommandResult, Frame, FromAgent, HostArch, HostId, HostOs,
    Incarnation, JobProgress, JournalState, LogStream, PlanId, Problem, ProtocolVersion,
    RepositoryConfig, RepositoryId, RunId, RunSpec, Secret, TreeWant,
};
use reports::Unread;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};
use timetable::Timetable;
use trees::Trees;

/// A point in time, by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For people; may jump.
    pub wall: Timestamp,
    /// For measuring; since the agent's start.
    pub mono: Duration,
}

/// What the agent knows of its machine and itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The host that this agent is.
    pub host_id: HostId,
    /// The protocol version that it speaks.
    pub protocol_version: ProtocolVersion,
    /// The agent's version.
    pub agent_version: String,
    /// The machine's name.
    pub hostname: String,
    /// The operating system.
    pub os: HostOs,
    /// The architecture.
    pub arch: HostArch,
    /// When the machine was started.
    pub boot_time: Option<Timestamp>,
    /// The time zone of the machine.
    pub zone: TimeZone,
    /// Whether it has a battery of its own.
    pub has_battery: bool,
    /// The version of the time zone data.
    pub time_zone_data: Option<String>,
    /// The restic that would be run, or why there is none.
    pub restic: Result<String, Problem>,
}

/// The states of a run on this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Written down, waits for its `go`.
    Accepted,
    /// Not taken; the answer is remembered.
    Refused,
    /// Has its `go`, waits for the repository.
    Queued,
    /// Begun.
    Running,
    /// Ended; nothing changes any more.
    Finished,
}

/// A restic process, so that what a killed agent left behind is recognised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number, which is also its group's.
    pub pid: u32,
    /// When it was started, as the system tells it; empty where the system does not.
    pub start: String,
}

/// A run as the agent remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The run.
    pub id: RunId,
    /// Its state.
    pub state: RunState,
    /// What it is to do.
    pub spec: RunSpec,
    /// The command it answers; none for a run of the agent's own schedule.
    pub number: Option<CommandNumber>,
    /// The slot of its plan that it serves.
    pub slot: Option<Timestamp>,
    /// Which attempt at that slot it is, from 1 on.
    pub attempt: u32,
    /// The answer to a refused command.
    pub refusal: Option<CommandResult>,
    /// The repository it works on.
    pub repository_id: Option<RepositoryId>,
    /// How many log lines it has written.
    pub log_lines: u64,
    /// Whether a file could not be read or written.
    pub had_item_error: bool,
    /// Its restic process.
    pub process: Option<Process>,
    /// When the agent heard of it.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

impl Run {
    /// Whether it is of the agent's own schedule, and nobody asked for it.
    #[must_use]
    pub fn is_by_the_clock(&self) -> bool {
        self.number.is_none() && self.slot.is_some()
    }
}

/// What the store holds when the agent starts.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Where the journal stands.
    pub journal: JournalState,
    /// The manager's life that was seen last.
    pub incarnation: Option<Incarnation>,
    /// The ticket of the last session.
    pub ticket: Option<Secret<String>>,
    /// The command numbers of each life.
    pub series: Vec<(Incarnation, Series)>,
    /// Every run.
    pub runs: Vec<Run>,
    /// The last reading of each repository.
    pub views: Vec<(RepositoryId, View)>,
    /// Where each plan stands that runs by the clock.
    pub marks: Vec<(PlanId, Mark)>,
    /// Until when the agent before was there.
    pub awake: Option<Awake>,
    /// The time zone that the manager was told last.
    pub told_zone: Option<String>,
    /// How each plan stands.
    pub alarms: Vec<(PlanId, PlanAlarm)>,
    /// The messages that are on their way.
    pub deliveries: Vec<Delivery>,
}

/// The command numbers of one life of a manager, as stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// Everything up to this number is struck off.
    pub watermark: u64,
    /// The highest number seen.
    pub highest: u64,
    /// What is struck off above the watermark.
    pub struck: Vec<u64>,
}

/// A change of what the agent remembers.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new record of the journal. With a number it is that line of its run's log.
    Append(Record, Option<u64>),
    /// The manager has everything up to this record.
    Acked(u64),
    /// A run, as it is now.
    Run(Box<Run>),
    /// The numbers of one life, as they are now; `struck` was struck off or merely seen.
    Numbers {
        /// The life.
        incarnation: Incarnation,
        /// Everything up to here is struck off.
        watermark: u64,
        /// The highest number seen.
        highest: u64,
        /// The number that was struck off.
        struck: Option<u64>,
    },
    /// The manager's life.
    Incarnation(Incarnation),
    /// The highest epoch seen.
    Epoch(u64),
    /// The ticket for the next session.
    Ticket(Secret<String>),
    /// A repository was read.
    View(RepositoryId, Box<View>),
    /// Where a plan stands, or that it runs by the clock no longer.
    Mark(PlanId, Option<Mark>),
    /// Since when the machine is awake, and until when that is certain.
    Awake(Awake),
    /// The time zone that the journal tells of now.
    ToldZone(Option<String>),
    /// How a plan stands, or that it is gone.
    PlanAlarm(PlanId, Option<PlanAlarm>),
    /// A message on its way, as it is now, or that its way has ended.
    Delivery(DeliveryKey, Option<Box<Delivery>>),
}

impl Change {
    /// Whether it may wait a moment for others, to be written with them.
    #[must_use]
    pub fn can_wait(&self) -> bool {
        if points::is_planted(Mistake::GoOnUnsynced) {
            return true;
        }
        match self {
            Self::Append(_, line) => line.is_some(),
            Self::Acked(_) => true,
            Self::Run(_)
            | Self::Numbers { .. }
            | Self::Incarnation(_)
            | Self::Epoch(_)
            | Self::Ticket(_)
            | Self::View(..)
            | Self::Mark(..)
            | Self::Awake(_)
            | Self::ToldZone(_)
            | Self::PlanAlarm(..)
            | Self::Delivery(..) => false,
        }
    }
}

/// When to dial again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redial {
    /// At once: the agent itself ended the connection.
    Now,
    /// After the usual, growing pause.
    Backoff,
    /// After a long pause: nothing will change until a person acts.
    Slowly,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Remember this.
    Store(Change),
    /// Send this over the connection.
    Send(Box<Frame>),
    /// Fetch records and hand them to [`Brain::handle_records`].
    Fetch(Room),
    /// Look up what is left of a record and hand it to [`Brain::handle_hash`].
    LookUpHash(u64),
    /// Start a new journal and hand it to [`Brain::handle_renewed`]. Its first record is a gap after
    /// `after_seq` of the present one; what follows there is written again into the new one.
    Renew {
        /// Why.
        reason: Code,
        /// The last record of the present journal that the manager is certain to have.
        after_seq: u64,
    },
    /// End the connection.
    Disconnect {
        /// When to come back.
        redial: Redial,
        /// Why, for people.
        problem: Option<Problem>,
    },
    /// Store the desired state and call [`Brain::handle_desired_stored`].
    SaveDesired(Box<Desired>),
    /// Start a run; everything it does comes back by [`Brain::handle_run_event`].
    Start(Box<Order>),
    /// Tell a run to end.
    Cancel(RunId),
    /// Clear up after a run that an earlier agent left open, and call [`Brain::handle_recovered`].
    Recover {
        /// The run.
        run_id: RunId,
        /// What it left running.
        process: Option<Process>,
        /// When it was heard of: its lock cannot be older.
        since: Timestamp,
        /// Its repository, if it is still one of ours.
        repository: Option<Box<RepositoryConfig>>,
        /// Whether its snapshot is to be looked for.
        look_for_snapshot: bool,
    },
    /// Read a repository's snapshots and facts, and call [`Brain::handle_reading`].
    Read(Box<RepositoryConfig>),
    /// Find out whether anything answers at this location, and call [`Brain::handle_probed`].
    Probe(RepositoryId, String),
    /// Find out which of these gates are closed, and call [`Brain::handle_gates`].
    LookAtGates(Gates),
    /// List a folder of a snapshot, and call [`Brain::handle_listed`].
    List(Box<RepositoryConfig>, TreeWant),
    /// Send a message, once, and call [`Brain::handle_delivered`].
    Deliver(DeliveryKey, Box<Parcel>),
    /// Send a message for trial, and call [`Brain::handle_tried`].
    TryChannel(Box<Parcel>),
}

/// What happens in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEvent {
    /// restic runs.
    Spawned(Process),
    /// A line for the log.
    Log(LogStream, String),
    /// A file could not be read or written.
    ItemError,
    /// How far it is.
    Progress(Box<JobProgress>),
    /// It ended.
    Finished(Box<Outcome>),
}

/// A run that goes on, with what need not be remembered.
#[derive(Debug, Default)]
struct Live {
    meter: Meter,
    cancelled: Option<CancelReason>,
    is_recovering: bool,
    /// Lines that are not in the log, because the disk is full.
    left_out: u64,
}

/// The agent's mind.
#[derive(Debug)]
pub struct Brain {
    facts: Facts,
    journal: Journal,
    incarnation: Option<Incarnation>,
    ticket: Option<Secret<String>>,
    numbers: BTreeMap<Incarnation, Numbers>,
    runs: BTreeMap<RunId, Run>,
    live: BTreeMap<RunId, Live>,
    queue: VecDeque<RunId>,
    timetable: Timetable,
    presence: Presence,
    told_zone: Option<String>,
    views: BTreeMap<RepositoryId, View>,
    /// When the last check of each repository ended, and how, until its next reading keeps it.
    checks: BTreeMap<RepositoryId, (Timestamp, String)>,
    /// Repositories that are being read; true when they must be read once more.
    reading: BTreeMap<RepositoryId, bool>,
    /// Repositories whose last reading failed.
    unread: BTreeMap<RepositoryId, Unread>,
    /// Whether the repositories may have changed since they were read, so that they are read anew as soon as
    /// the manager listens.
    is_view_doubtful: bool,
    trees: Trees,
    alarms: Alarms,
    desired: Option<Desired>,
    link: Link,
    epoch: u64,
    is_stopping: bool,
    disk: Disk,
    recover_until: Duration,
    recover_next: Option<Duration>,
}

impl Brain {
    /// The brain as it wakes up.
    #[must_use]
    pub fn new(facts: Facts, memory: Memory, desired: Option<Desired>, epoch: u64) -> Self {
        Self {
            facts,
            journal: Journal::new(&memory.journal),
            incarnation: memory.incarnation,
            ticket: memory.ticket,
            numbers: memory
                .series
                .into_iter()
                .map(|(incarnation, series)| (incarnation, Numbers::new(series)))
                .collect(),
            runs: memory.runs.into_iter().map(|run| (run.id, run)).collect(),
            live: BTreeMap::new(),
            queue: VecDeque::new(),
            timetable: Timetable::new(memory.marks),
            presence: Presence::new(memory.awake),
            told_zone: memory.told_zone,
            views: memory.views.into_iter().collect(),
            checks: BTreeMap::new(),
            reading: BTreeMap::new(),
            unread: BTreeMap::new(),
            is_view_doubtful: !points::is_planted(Mistake::ForgetToRead),
            trees: Trees::default(),
            alarms: Alarms::new(memory.alarms, memory.deliveries),
            desired,
            link: Link::Down,
            epoch,
            is_stopping: false,
            disk: Disk::default(),
            recover_until: Duration::ZERO,
            recover_next: None,
        }
    }

    /// The machine's facts changed, such as restic's version.
    pub fn set_facts(&mut self, facts: Facts) {
        self.facts = facts;
    }

    /// The facts as the brain has them.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Where the journal stands.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The desired state that is in force.
    #[must_use]
    pub fn desired(&self) -> Option<&Desired> {
        self.desired.as_ref()
    }

    /// The runs that have begun or wait for their repository.
    pub fn open_runs(&self) -> impl Iterator<Item = &Run> {
        self.runs.values().filter(|run| matches!(run.state, RunState::Running | RunState::Queued))
    }

    /// Why the manager holds this agent, while it does.
    #[must_use]
    pub fn hold(&self) -> Option<&protocol::Hold> {
        match &self.link {
            Link::Held { hold, .. } => Some(hold),
            Link::Down | Link::Greeting | Link::Comparing { .. } | Link::Open(_) => None,
        }
    }

    /// The agent is told to stop: nothing new is begun, and what goes on ends as interrupted.
    pub fn handle_stop(&mut self) -> Vec<Effect> {
        self.is_stopping = true;
        let running = self.runs.values().filter(|run| run.state == RunState::Running);
        let running: Vec<Effect> = running.map(|run| Effect::Cancel(run.id)).collect();
        self.fall_asleep().into_iter().chain(running).collect()
    }

    /// The next moment at which [`Brain::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let progress = self.live.values().filter_map(|live| live.meter.due());
        let schedule = self.timetable.due().into_iter().chain(self.presence.due());
        let others = schedule.chain(self.recover_next).chain(self.due_reading());
        let alarms = self.alarms.due().filter(|_| !self.is_stopping);
        progress.chain(self.link.due()).chain(others).chain(alarms).min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Now) -> Vec<Effect> {
        // That the machine slept is told before anything that it catches up.
        let mut effects = self.look_at_clock(now);
        effects.extend(self.send_due_progress(now));
        effects.extend(self.heartbeat(now));
        effects.extend(self.retry_recovery(now));
        effects.extend(self.read_again(now));
        effects.extend(self.look_if_due(now));
        effects.extend(self.look_for_overdue(now));
        effects.extend(self.deliver(now));
        effects
    }

    /// Everything stored so far is on the disk: records may go out.
    pub fn handle_committed(&mut self, head: u64) -> Vec<Effect> {
        self.journal.committed(head);
        self.fetch()
    }

    /// The records of an [`Effect::Fetch`].
    pub fn handle_records(&mut self, records: Vec<Record>) -> Vec<Effect> {
        let records = self.journal.sending(records);
        let mut effects: Vec<Effect> = records.into_iter().filter_map(frame_of).collect();
        if !effects.is_empty() {
            effects.extend(self.fetch());
        }
        effects
    }

    /// The store let the oldest records go.
    pub fn handle_pruned(&mut self, journal: &JournalState, runs: &[RunId]) {
        self.journal.pruned(journal.first, journal.base_hash);
        for run in runs {
            self.runs.remove(run);
        }
    }

    fn fetch(&mut self) -> Vec<Effect> {
        match &self.link {
            Link::Open(_) => self.journal.take_room().map(Effect::Fetch).into_iter().collect(),
            Link::Down | Link::Greeting | Link::Comparing { .. } | Link::Held { .. } => Vec::new(),
        }
    }

    /// Writes something into the journal.
    fn append(
        &mut self,
        what: &FromAgent,
        run_id: Option<RunId>,
        line: Option<u64>,
        now: Now,
    ) -> Effect {
        // Every durable payload is a plain struct of ours, which JSON can always hold; an empty
        // object would be read as an invalid record and be seen.
        let (kind, payload) = match what.encode() {
            Ok(frame) => (frame.kind, frame.payload.get().to_owned()),
            Err(_) => ("invalid".to_owned(), "{}".to_owned()),
        };
        let line = line.filter(|_| !points::is_planted(Mistake::ForgetLines));
        Effect::Store(Change::Append(self.journal.append(&kind, payload, run_id, now.wall), line))
    }

    /// Remembers a run as it is now.
    fn put(&mut self, run: Run) -> Effect {
        self.runs.insert(run.id, run.clone());
        Effect::Store(Change::Run(Box::new(run)))
    }
}

fn send(what: &FromAgent) -> Option<Effect> {
    what.encode().ok().map(|frame| Effect::Send(Box::new(frame)))
}

fn frame_of(record: Record) -> Option<Effect> {
    let payload = serde_json::value::RawValue::from_string(record.payload).ok()?;
    Some(Effect::Send(Box::new(Frame {
        kind: record.kind,
        id: String::new(),
        seq: Some(record.seq),
        ack: None,
        hash: Some(record.hash),
        payload,
    })))
}

#[cfg(test)]
mod tests;
