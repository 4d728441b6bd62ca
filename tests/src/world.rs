//! A simulated world: one manager, a few machines, a network and disks that fail, and time that passes
//! as fast as it can be computed.
//!
//! Everything follows from one number, the seed: the same seed gives the same world, to the last byte of
//! its trace. Nothing here reads a clock or the system's random numbers, and no two things happen at once.
//!
//! ```text
//!             real                                    modelled
//!   manager   sessions, intake, API, database         its tasks: the world gives each part its turns
//!   agent     brain, journal, agenda of effects       the loop around them, and the store ([`disk`])
//!   between   frames, as text                         sockets, dialling, TLS ([`network`])
//!   beside    plans and their times                   restic and its repositories ([`restic`])
//! ```
//!
//! First things go wrong (`faults`) while an admin works (`admin`); then nothing goes wrong any more,
//! and all must come to rest within a bounded time. What must hold in between and then is in
//! `invariants`. [`simulate()`] runs many worlds.

mod admin;
mod alarms;
mod bounds;
mod channels;
mod copies;
pub mod disk;
mod faults;
mod invariants;
mod machine;
mod manager;
mod network;
mod office;
mod old;
mod overdue;
mod pauses;
mod process;
mod restic;
pub mod simulate;
mod slots;
mod template;

pub use faults::Met;
pub use simulate::{Mistake, Report, simulate};

use crate::dice::Dice;
use alarms::Told;
use anyhow::Result;
use channels::{FarEnds, Letter};
use copies::{Act, Copied, Tale};
use disk::Disk;
use invariants::Seen;
use jiff::{SignedDuration, Timestamp};
use machine::{Machine, Side};
use network::Line;
use office::{Office, Up};
use old::{Old, Turn};
use protocol::RepositoryId;
use restic::{Process, Repository};
use slots::Story;
use std::{collections::BTreeMap, path::Path, time::Duration};
use template::Template;

/// How long all may take to come to rest once nothing goes wrong any more.
const REST_WITHIN: Duration = Duration::from_hours(2);

/// How often it is looked whether all has come to rest.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// When worlds begin: two of them shortly before the clocks of some machines are changed.
const BEGINNINGS: [&str; 3] =
    ["2026-06-10T11:50:00Z", "2026-03-29T00:40:00Z", "2026-10-25T00:40:00Z"];

/// Something that will happen.
#[derive(Debug)]
enum Event {
    /// A message reaches the manager's end of a line; none when the line is found broken.
    ToManager(u64, Option<String>),
    /// A message reaches the agent's end of a line; none when the line is found broken.
    ToAgent(u64, Option<Down>),
    /// The manager looks at a connection.
    Turn(u64),
    /// The manager takes records in.
    Intake,
    /// The manager looks for what has expired.
    Sweep,
    /// The manager starts.
    Open,
    /// The manager has stopped.
    Close,
    /// An agent has something to do by its clock.
    Wake(usize),
    /// An agent of this life dials.
    Dial(usize, u64),
    /// An agent starts.
    Boot(usize),
    /// A machine wakes up.
    Resume(usize),
    /// There is room on a machine's disk again.
    Room(usize),
    /// A process does what comes next.
    Step(u32),
    /// Something comes of what an agent of this life began beside its runs.
    Beside(usize, u64, Box<Side>),
    /// A message of an agent of this life arrives at its far end.
    Letter(usize, u64, Box<Letter>),
    /// The admin does something.
    Admin,
    /// Something goes wrong.
    Fault,
    /// The machine with an agent of version 1 does something.
    Old(Turn),
    /// The tale of the world goes on.
    Act(Act),
    /// It is looked whether all has come to rest.
    Look,
}

/// What the manager sends.
#[derive(Debug)]
enum Down {
    Text(String),
    Ping,
}

/// A world.
pub struct World {
    dice: Dice,
    now: Duration,
    began: Timestamp,
    queue: BTreeMap<(Duration, u64), Event>,
    events: u64,
    machines: Vec<Machine>,
    old: Option<Old>,
    office: Office,
    up: Option<Up>,
    /// How far the manager's clock is ahead.
    office_skew: SignedDuration,
    /// Until when there is no room on the manager's disk.
    office_full_until: Duration,
    /// When records are taken in next.
    intake: Option<(Duration, u64)>,
    lines: BTreeMap<u64, Line>,
    processes: BTreeMap<u32, Process>,
    repositories: BTreeMap<RepositoryId, Repository>,
    /// Until when nobody reaches the manager.
    network_away_until: Duration,
    /// Things that agents began beside their runs and that have not ended.
    beside: usize,
    /// Who is told by channels of alarms.
    far: FarEnds,
    told: Told,
    tale: Tale,
    copied: Option<Copied>,
    /// Whether nobody moves a clock.
    has_right_clocks: bool,
    /// Whether plans run seldom and fail often, so that they are tried again.
    is_patient: bool,
    /// Whether things go wrong for hours, so that plans are overdue.
    is_long: bool,
    /// Machines that are left alone with what keeps their plans from running, and until when.
    left_alone: BTreeMap<usize, Duration>,
    /// The bytes that an agent's journal may take, where it may not take all it likes.
    bound: Option<usize>,
    /// The longest line of a log, where logs are long; 0 where they are not.
    longest_line: usize,
    /// Whether the admin has made their plans seldom.
    is_settled: bool,
    stories: BTreeMap<usize, Story>,
    faults_until: Duration,
    is_calm: bool,
    met: Met,
    seen: Seen,
    trace: Option<Vec<String>>,
}

/// What came of a world.
#[derive(Debug)]
pub struct Fate {
    /// What was wrong, if something was.
    pub violations: Vec<String>,
    /// What was met on the way.
    pub met: Met,
    /// What happened, if it was asked for.
    pub trace: Vec<String>,
    /// What the disks of the machines hold, with all that was committed to them if that was asked for.
    pub disks: Vec<Disk>,
}

/// Writes a line of the trace, if somebody reads it.
macro_rules! say {
    ($world:expr, $who:expr, $($words:tt)*) => {
        if $world.trace.is_some() {
            let words = format!($($words)*);
            $world.say(&$who, &words);
        }
    };
}
use say;

impl World {
    /// The world of this seed; its manager's database lies in this file.
    ///
    /// # Errors
    /// When the database cannot be made.
    pub async fn new(template: &Template, file: &Path, seed: u64, traced: bool) -> Result<Self> {
        template.copy(file)?;
        let mut dice = Dice::new(seed.wrapping_mul(0x2545_F491_4F6C_DD1D));
        let office = Office::open(file, dice.next()).await?;
        let at = usize::try_from(dice.below(8))?;
        let began: Timestamp = BEGINNINGS.get(at).unwrap_or(&BEGINNINGS[0]).parse()?;
        // What goes wrong mostly goes wrong between one machine and its manager.
        let machines = match dice.below(6) {
            0..=2 => 1,
            3..=4 => 2,
            _ => template::MACHINES,
        };
        let tale = Tale::draw(dice.below(10));
        let (is_patient, is_long) = match dice.below(60) {
            0..=5 => (true, false),
            6..=9 => (false, true),
            _ => (false, false),
        };
        let faults_for = match (is_patient, is_long) {
            (true, _) => 1_300 + dice.below(700),
            (_, true) => 12_000 + dice.below(12_000),
            _ => 240 + dice.below(700),
        };
        let bound = (dice.below(6) == 0).then(|| 4_000 + dice.below(40_000));
        let longest_line = match dice.below(16) {
            0 => 16_000,
            1..=3 => 400,
            _ if bound.is_some() => 1,
            _ => 0,
        };
        let far = FarEnds::new(is_long || dice.below(2) == 0);
        let mut world = Self {
            tale,
            copied: None,
            has_right_clocks: dice.below(if is_long { 2 } else { 3 }) == 0,
            is_patient,
            is_long,
            left_alone: BTreeMap::new(),
            bound: bound.map(usize::try_from).transpose()?,
            longest_line,
            far,
            told: Told::default(),
            is_settled: false,
            stories: BTreeMap::new(),
            now: Duration::ZERO,
            began,
            queue: BTreeMap::new(),
            events: 0,
            machines: Vec::new(),
            old: None,
            office,
            up: None,
            office_skew: SignedDuration::ZERO,
            office_full_until: Duration::ZERO,
            intake: None,
            lines: BTreeMap::new(),
            processes: BTreeMap::new(),
            repositories: BTreeMap::new(),
            network_away_until: Duration::ZERO,
            beside: 0,
            faults_until: Duration::from_secs(faults_for),
            is_calm: false,
            met: Met::default(),
            seen: Seen::default(),
            trace: traced.then(Vec::new),
            dice,
        };
        for (index, enrolled) in template.enrolled.iter().take(machines).enumerate() {
            world.repositories.insert(enrolled.repository, Repository::default());
            let machine = Machine::new(enrolled.clone(), &mut world.dice, began, traced);
            world.machines.push(machine);
            world.after(Duration::ZERO, Event::Boot(index));
        }
        // What an old agent has nobody can compare with a copy of anything.
        if tale == Tale::Plain && world.once_in(5) {
            world.old = template.enrolled.get(template::MACHINES).cloned().map(Old::new);
            world.after(Duration::from_secs(1), Event::Old(Turn::Dial(0)));
        }
        world.after(Duration::ZERO, Event::Open);
        world.after(Duration::from_secs(10), Event::Admin);
        world.after(Duration::from_secs(20), Event::Fault);
        world.after(Duration::from_secs(30), Event::Sweep);
        let wait = world.millis(15_000, 200_000);
        world.after(wait, Event::Act(Act::Copy));
        Ok(world)
    }

    /// Lets the world go on until all has come to rest or something is wrong.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn run(mut self) -> Result<Fate> {
        while self.seen.violations.is_empty() {
            let Some(((at, _), event)) = self.queue.pop_first() else { break };
            self.now = at;
            if at >= self.faults_until && !self.is_calm {
                self.calm_down().await?;
            }
            if matches!(event, Event::Look) {
                if self.look().await? {
                    break;
                }
            } else {
                self.handle(event).await?;
            }
            self.check_bounds();
        }
        self.up = None;
        self.lines.clear();
        self.office.close().await;
        Ok(Fate {
            violations: self.seen.violations,
            met: self.met,
            trace: self.trace.unwrap_or_default(),
            disks: self.machines.into_iter().map(|machine| machine.disk).collect(),
        })
    }

    async fn handle(&mut self, event: Event) -> Result<()> {
        match event {
            Event::ToManager(line, text) => self.manager_hears(line, text),
            Event::ToAgent(line, down) => self.agent_hears(line, down),
            Event::Turn(line) => self.turn(line).await?,
            Event::Intake => self.take_in().await?,
            Event::Sweep => self.sweep().await?,
            Event::Open => self.open_office().await?,
            Event::Close => self.close_office().await?,
            Event::Wake(machine) => self.wake(machine),
            Event::Dial(machine, life) => self.dial(machine, life),
            Event::Boot(machine) => self.boot(machine).await?,
            Event::Resume(machine) => self.resume(machine),
            Event::Room(machine) => self.make_room(machine),
            Event::Step(process) => self.step(process),
            Event::Beside(machine, life, side) => self.came_beside(machine, life, *side),
            Event::Letter(machine, life, letter) => self.letter_arrives(machine, life, letter),
            Event::Admin => self.administer().await?,
            Event::Fault => self.go_wrong()?,
            Event::Act(act) => self.play(act).await?,
            Event::Old(turn) => self.old_turn(turn),
            Event::Look => {}
        }
        Ok(())
    }

    /// Whether the world has ended: at rest, or not within its time.
    async fn look(&mut self) -> Result<bool> {
        let unrest = self.unrest().await?;
        if unrest.is_none() {
            self.check_at_rest().await?;
            return Ok(true);
        }
        if let Some(unrest) = unrest
            && self.now > self.faults_until + REST_WITHIN
        {
            self.violated(format!("no rest within two hours: {unrest}"));
        }
        self.after(LOOK_EVERY, Event::Look);
        Ok(false)
    }

    /// From now on nothing goes wrong any more, and plans run by hand.
    async fn calm_down(&mut self) -> Result<()> {
        self.is_calm = true;
        say!(self, "world", "from now on nothing goes wrong");
        self.end_faults();
        self.end_tale().await?;
        if self.up.is_none() {
            self.open_office().await?;
        }
        self.end_plans().await?;
        self.after(LOOK_EVERY, Event::Look);
        Ok(())
    }

    /// Lets something happen after a while.
    fn after(&mut self, wait: Duration, event: Event) -> (Duration, u64) {
        self.at(self.now + wait, event)
    }

    /// Lets something happen at this time.
    fn at(&mut self, at: Duration, event: Event) -> (Duration, u64) {
        self.events += 1;
        let key = (at.max(self.now), self.events);
        self.queue.insert(key, event);
        key
    }

    /// A time from `least` to `most` milliseconds.
    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.dice.below(most - least + 1))
    }

    /// Whether something happens that happens once in so many times.
    fn once_in(&mut self, times: u64) -> bool {
        self.dice.below(times) == 0
    }

    /// The true time.
    fn true_time(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.now).unwrap_or(SignedDuration::MAX);
        self.began.saturating_add(passed).unwrap_or(Timestamp::MAX)
    }

    fn violated(&mut self, what: String) {
        say!(self, "VIOLATION", "{what}");
        self.seen.violations.push(what);
    }

    fn say(&mut self, who: &str, words: &str) {
        let millis = self.now.as_millis();
        let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
        let (seconds, millis) = (millis / 1_000 % 60, millis % 1_000);
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{hours}:{minutes:02}:{seconds:02}.{millis:03} {who:<10} {words}"));
        }
    }
}
