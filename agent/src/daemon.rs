//! The shell around the brain: it owns the disk, the connection and the runs, hands the brain what
//! happened, and carries out what follows, in order.
//!
//! One loop, one task. Changes are gathered and committed together: at once when something depends
//! on them, otherwise (log lines, acknowledgements) within a fifth of a second.

mod aside;
mod disk;

pub(crate) use disk::FULL;

use crate::{
    connection::{self, Connection, random_bytes},
    core::{Agenda, Brain, Change, Effect, Memory, Next, Now, Redial, RunEvent, redial_after},
    desired::{self, Desired, Found, addresses},
    gates,
    helper::Helpers,
    identity::{Enrolment, Identity, Settings},
    join::stamp,
    machine,
    pass_through::PassThrough,
    paths::{StateDir, lock_patiently},
    points::{self, Point},
    runner::{self, Runner, Tools},
    status::{Link, Live},
    store::{Begin, Opened, Store},
    tls::{self, Epoch},
    wake_lock::WakeLock,
};
use anyhow::{Context, Result};
use aside::SideResult;
use jiff::Timestamp;
use protocol::{Code, Frame, Hold, JournalId, Problem, RunId};
use schedule::Clock;
use std::{collections::VecDeque, fs::File, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// How long changes may wait for others.
const COMMIT_PAUSE: Duration = Duration::from_millis(200);

/// How often old history is let go.
const UPKEEP: Duration = Duration::from_hours(6);

/// How often a missing restic is looked for while nothing asks for it.
const LOCATE_PAUSE: Duration = Duration::from_mins(5);

/// How long running restics get to end when the agent is told to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(80);

/// How long a manager that listens gets to acknowledge the last outcomes. What it does not is kept
/// and sent at the next start.
const FAREWELL: Duration = Duration::from_secs(3);

/// The pause before a failed commit is tried again.
const STORE_PAUSE: Duration = Duration::from_secs(2);

/// The pause before a status that could not be written is written again.
const SHOW_PAUSE: Duration = Duration::from_secs(10);

/// What `status` says while the journal is not written.
const UNWRITTEN: &str = "The journal cannot be written";

/// The most frames that wait for the connection; beyond it what may be lost is lost.
const MAX_OUTBOX: usize = 1024;

/// What the agent is started with.
#[derive(Debug)]
pub struct Options {
    /// The state folder.
    pub state: StateDir,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The folder of the settings.
    pub config: PathBuf,
    /// How helpers are reached.
    pub helpers: Helpers,
}

/// The running agent.
#[derive(Debug)]
pub struct Daemon {
    brain: Brain,
    store: Store,
    /// The addresses of the enrolment.
    enrolled_at: Vec<String>,
    connection: Connection,
    pass_through: PassThrough,
    runner: Runner,
    wake_lock: WakeLock,
    side_tasks: JoinSet<SideResult>,
    outbox: VecDeque<connection::Order>,
    /// Set while a connection ends by our own decision: when to come back.
    closing: Option<Redial>,
    agenda: Agenda,
    commit_at: Option<Instant>,
    upkeep_at: Instant,
    locate_at: Instant,
    disk_at: Instant,
    show_at: Instant,
    tools: Result<Tools, Problem>,
    live: Live,
    shown: Live,
    epoch: Epoch,
    state: StateDir,
    clock: Arc<dyn Clock>,
    started: Instant,
    settings: Settings,
    helpers: Helpers,
    /// Told when the agent shall end.
    stop: CancellationToken,
    _lock: File,
}

/// What the loop wakes up for.
#[derive(Debug)]
enum Tick {
    Connection(connection::Event),
    Sent,
    Run(RunId, RunEvent),
    Side(SideResult),
    Commit,
    Timeout,
    Upkeep,
    Stop,
}

impl Daemon {
    /// Opens everything and begins to dial.
    ///
    /// # Errors
    /// In words for a person, when the state folder is not as it must be.
    pub async fn start(options: Options) -> Result<Self> {
        let Options { state, clock, config, helpers } = options;
        state.check()?;
        let lock = lock_patiently(&state).await?;
        state.sweep_temporary();
        let enrolment = Enrolment::load(&state)?;
        let identity = Identity::load(&state)?;
        let settings = Settings::load(&config)?;
        let now = clock.now();
        let mut live = Live::default();
        let desired = load_desired(&state, now, &mut live)?;
        let (mut store, memory) = open_store(&state, now, &mut live).await?;
        let epoch = Epoch::new(store.epoch().await?.max(enrolment.manager.epoch));
        let tools = find_tools(&state, &settings, &helpers).await;
        if let Err(problem) = &tools {
            tracing::warn!(%problem, "No run can be done yet");
        }
        let has_battery = gates::has_battery().await;
        let facts = machine::facts(enrolment.host_id, version_of(&tools), has_battery);
        let brain = Brain::new(facts, memory, desired, epoch.highest());
        let config = tls::client_config(enrolment.manager_key, &identity, epoch.clone())
            .context("Failed to set up TLS")?;
        let started = Instant::now();
        let addresses = addresses(brain.desired(), &enrolment.addresses);
        Ok(Self {
            pass_through: PassThrough::start(addresses.clone())
                .await
                .context("Failed to open a port for the manager's store")?,
            connection: Connection::start(addresses, config),
            enrolled_at: enrolment.addresses,
            brain,
            store,
            runner: Runner::default(),
            wake_lock: WakeLock::through(helpers.clone()),
            side_tasks: JoinSet::new(),
            outbox: VecDeque::new(),
            closing: None,
            agenda: Agenda::default(),
            commit_at: None,
            upkeep_at: started,
            locate_at: started + LOCATE_PAUSE,
            disk_at: started,
            show_at: started,
            tools,
            shown: Live { link: Link::Held, ..Live::default() },
            live,
            epoch,
            state,
            clock,
            started,
            settings,
            helpers,
            stop: CancellationToken::new(),
            _lock: lock,
        })
    }

    /// Runs until it is told to stop, and then until the runs have ended or had their time.
    ///
    /// # Errors
    /// When the journal makes no sense; nothing is done without it.
    pub async fn run(mut self, stop: CancellationToken) -> Result<()> {
        self.stop = stop.clone();
        self.count_sleep();
        let effects = self.brain.handle_start(self.now());
        self.execute(effects).await?;
        let mut deadline = None;
        let mut is_farewell = false;
        loop {
            self.show();
            self.wake_lock.set(!self.runner.is_idle());
            let is_idle = self.runner.is_idle() && !self.brain.is_delivering();
            if deadline.is_some() && !is_farewell && is_idle {
                is_farewell = true;
                deadline = Some(Instant::now() + FAREWELL);
            }
            let is_over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if is_over || (is_farewell && self.is_all_told()) {
                break;
            }
            let tick = self.tick(&stop, deadline).await;
            if matches!(tick, Tick::Stop) {
                tracing::info!("Stopping");
                deadline = Some(Instant::now() + STOP_PATIENCE);
            }
            self.handle(tick).await?;
        }
        self.live = Live { link: Link::Stopped, ..self.live.clone() };
        self.show();
        self.commit().await?;
        self.store.close().await?;
        Ok(())
    }

    /// Whether nothing is left to say to the manager, or nobody listens.
    fn is_all_told(&self) -> bool {
        let journal = self.brain.journal().state();
        let is_acknowledged = journal.acked == journal.head && !self.agenda.has_pending();
        self.live.link != Link::Connected || (is_acknowledged && self.outbox.is_empty())
    }

    async fn tick(&mut self, stop: &CancellationToken, deadline: Option<Instant>) -> Tick {
        let far = Instant::now() + UPKEEP;
        let timeout = self.brain.poll_timeout().map_or(far, |due| self.started + due);
        let commit = self.commit_at.unwrap_or(far);
        let (orders, events) = self.connection.split();
        tokio::select! {
            () = stop.cancelled(), if deadline.is_none() => Tick::Stop,
            () = sleep_until(deadline.unwrap_or(far)) => Tick::Commit,
            Some(event) = events.recv() => Tick::Connection(event),
            Ok(permit) = orders.reserve(), if !self.outbox.is_empty() => {
                if let Some(order) = self.outbox.pop_front() {
                    permit.send(order);
                }
                Tick::Sent
            }
            (run_id, event) = self.runner.next() => Tick::Run(run_id, event),
            Some(Ok(result)) = self.side_tasks.join_next() => Tick::Side(result),
            () = sleep_until(commit), if self.commit_at.is_some() => Tick::Commit,
            () = sleep_until(timeout) => Tick::Timeout,
            () = sleep_until(self.upkeep_at.min(self.locate_at)) => Tick::Upkeep,
        }
    }

    async fn handle(&mut self, tick: Tick) -> Result<()> {
        self.look_at_disk().await?;
        let now = self.now();
        let effects = match tick {
            Tick::Connection(event) => return self.handle_connection(event).await,
            Tick::Run(run_id, event) => {
                if matches!(event, RunEvent::Finished(_)) {
                    points::reach(Point::AfterResticBeforeFinished);
                }
                self.brain.handle_run_event(run_id, event, now)
            }
            Tick::Side(SideResult::Read(id, reading)) => {
                self.brain.handle_reading(id, reading, now)
            }
            Tick::Side(SideResult::Listed(want, listed)) => self.brain.handle_listed(&want, listed),
            Tick::Side(SideResult::Probed(id, answers)) => {
                self.brain.handle_probed(id, answers, now)
            }
            Tick::Side(SideResult::Gates(closed)) => self.brain.handle_gates(closed, now),
            Tick::Side(SideResult::Recovered(run_id, found)) => {
                self.brain.handle_recovered(run_id, found, now)
            }
            Tick::Side(SideResult::Delivered(key, attempt)) => {
                self.brain.handle_delivered(key, attempt, now)
            }
            Tick::Side(SideResult::Tried(alarm, attempt)) => {
                self.brain.handle_tried(alarm, attempt)
            }
            Tick::Commit => {
                let head = self.commit().await?;
                head.map_or_else(Vec::new, |head| self.brain.handle_committed(head))
            }
            Tick::Timeout => self.pass_time(),
            Tick::Upkeep => return self.upkeep().await,
            Tick::Stop => self.brain.handle_stop(),
            Tick::Sent => Vec::new(),
        };
        self.execute(effects).await
    }

    async fn handle_connection(&mut self, event: connection::Event) -> Result<()> {
        let since = Some(self.clock.now());
        match event {
            connection::Event::Dialling(address) => {
                self.live.link = Link::Dialling;
                self.live.address = Some(address);
                self.live.since = since;
                Ok(())
            }
            connection::Event::Up(address) => {
                tracing::info!(%address, "Connected");
                self.live.link = Link::Greeting;
                self.pass_through.met_at(&address);
                self.live.address = Some(address);
                self.live.since = since;
                self.outbox.clear();
                self.closing = None;
                self.find_tools().await;
                // A machine that just woke up says so before it says hello.
                let effects = self.pass_time();
                self.execute(effects).await?;
                let effects = self.brain.handle_connected();
                self.execute(effects).await
            }
            connection::Event::Frame(frame) => self.handle_frame(&frame).await,
            connection::Event::Ended(problem) => {
                self.ended(problem, since);
                Ok(())
            }
        }
    }

    /// The connection is gone. What the manager said last counts more than how it went.
    fn ended(&mut self, problem: Option<Problem>, since: Option<Timestamp>) {
        self.brain.handle_disconnected();
        self.outbox.clear();
        self.live.link = Link::Waiting;
        self.live.since = since;
        let redial = match (self.closing.take(), problem) {
            (Some(redial), _) => redial,
            (None, Some(problem)) => {
                tracing::warn!(%problem, "Not connected");
                let redial = redial_after(problem.code);
                self.live.problem = Some(problem);
                redial
            }
            (None, None) => Redial::Backoff,
        };
        self.outbox.push_back(connection::Order::Pause(redial));
    }

    async fn handle_frame(&mut self, frame: &Frame) -> Result<()> {
        let is_command = frame.kind == "command.run";
        if is_command && self.tools.is_err() {
            self.find_tools().await;
        }
        let effects = self.brain.handle_frame(frame, self.now());
        self.execute(effects).await?;
        if is_command {
            points::reach(Point::AfterAccept);
        }
        self.note_session();
        Ok(())
    }

    /// What `status` says of the session.
    fn note_session(&mut self) {
        if self.brain.is_open() && self.live.link != Link::Connected {
            self.outbox.push_back(connection::Order::Settled);
            self.live.link = Link::Connected;
            self.live.problem = None;
        }
        if let Some(Hold { code, message }) = self.brain.hold()
            && self.live.link != Link::Held
        {
            tracing::warn!(%code, message, "The manager holds this machine");
            self.outbox.push_back(connection::Order::Settled);
            self.live.link = Link::Held;
            self.live.problem = Some(
                Problem::new(*code, message.clone())
                    .guidance("The admin has to decide it in the manager."),
            );
        }
    }

    /// Carries effects out in order, and whatever follows from that.
    async fn execute(&mut self, effects: Vec<Effect>) -> Result<()> {
        self.agenda.add(effects);
        while let Some(next) = self.agenda.poll_next() {
            let follows = match next {
                Next::Commit => {
                    let head = self.commit().await?;
                    head.map_or_else(Vec::new, |head| self.brain.handle_committed(head))
                }
                Next::CarryOut(effect) => self.carry_out(effect).await?,
            };
            self.agenda.add(follows);
        }
        if self.agenda.has_pending() && self.commit_at.is_none() {
            self.commit_at = Some(Instant::now() + COMMIT_PAUSE);
        }
        Ok(())
    }

    async fn carry_out(&mut self, effect: Effect) -> Result<Vec<Effect>> {
        match effect {
            // The agenda keeps these for the next commit.
            Effect::Store(_) => {}
            Effect::Send(frame) => self.send(&frame),
            Effect::Fetch(room) => {
                let records = self.store.fetch(room).await?;
                return Ok(self.brain.handle_records(records));
            }
            Effect::LookUpHash(seq) => {
                let kept = self.store.kept_at(seq).await?;
                return Ok(self.brain.handle_hash(kept, self.now()));
            }
            Effect::Renew { reason, after_seq } => return self.renew(reason, after_seq).await,
            Effect::Disconnect { redial, problem } => self.disconnect(redial, problem),
            Effect::SaveDesired(desired) => return Ok(self.save_desired(*desired)),
            Effect::Start(mut order) => {
                points::reach(Point::AfterStartedJournalled);
                order.repository = self.pass_through.resolve(order.repository);
                self.runner.start(*order, self.tools.clone());
            }
            Effect::Cancel(run_id) => self.runner.cancel(run_id),
            Effect::Recover { run_id, process, since, repository, look_for_snapshot } => {
                let left_over = process.map(|process| (process, since));
                let repository = repository.map(|it| Box::new(self.pass_through.resolve(*it)));
                self.recover(run_id, left_over, repository, look_for_snapshot);
            }
            Effect::Read(repository) => self.read(self.pass_through.resolve(*repository)),
            Effect::Probe(id, location) => self.probe(id, location),
            Effect::LookAtGates(asked) => self.look_at_gates(asked),
            Effect::Deliver(key, parcel) => self.deliver(key, parcel),
            Effect::TryChannel(parcel) => self.try_channel(parcel),
            Effect::List(repository, want) => {
                self.list(self.pass_through.resolve(*repository), want);
            }
        }
        Ok(Vec::new())
    }

    fn send(&mut self, frame: &Frame) {
        let is_lossy = matches!(frame.kind.as_str(), "job.progress" | "heartbeat");
        if is_lossy && self.outbox.len() >= MAX_OUTBOX {
            return;
        }
        match frame.encode() {
            Ok(text) => self.outbox.push_back(connection::Order::Send(text)),
            Err(error) => tracing::error!(kind = frame.kind, %error, "A frame cannot be sent"),
        }
    }

    fn disconnect(&mut self, redial: Redial, problem: Option<Problem>) {
        if let Some(problem) = problem {
            tracing::warn!(%problem, "Ending the connection");
            self.live.problem = Some(problem);
        }
        self.closing = Some(redial);
        self.outbox.push_back(connection::Order::Close);
    }

    async fn renew(&mut self, reason: Code, after_seq: u64) -> Result<Vec<Effect>> {
        self.commit().await?;
        let now = self.clock.now();
        tracing::warn!(%reason, after_seq, "Starting a new journal");
        let journal = self.store.renew(fresh_journal(now)?, reason, after_seq, now).await?;
        Ok(self.brain.handle_renewed(&journal))
    }

    fn save_desired(&mut self, desired: Desired) -> Vec<Effect> {
        match desired::save(&self.state, &desired) {
            Ok(()) => {
                tracing::info!(generation = desired.generation.n, "Took the desired state");
                let addresses = addresses(Some(&desired), &self.enrolled_at);
                self.pass_through.set_addresses(addresses.clone());
                self.connection.set_addresses(addresses);
                self.brain.handle_desired_stored(desired, self.now())
            }
            // Without an acknowledgement the manager sends it again after the next connection.
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "The desired state was not taken");
                let problem = Problem::new(Code::Internal, format!("{error:#}."))
                    .guidance("Check the disk and the rights of the agent's state folder.");
                self.live.warnings = vec![problem.to_string()];
                vec![Effect::Disconnect { redial: Redial::Backoff, problem: Some(problem) }]
            }
        }
    }

    /// Writes what is pending. On a disk that is full lines of logs are left out; one that has no room for
    /// outcomes either, or is gone, is waited for: nothing may go on that is not written down. Gives back the newest record that is on the disk now.
    async fn commit(&mut self) -> Result<Option<u64>> {
        self.commit_at = None;
        let (mut changes, head) = self.agenda.take_pending();
        if changes.is_empty() {
            return Ok(None);
        }
        for change in &changes {
            if let Change::Epoch(epoch) = change {
                self.epoch.saw(*epoch);
            }
        }
        if self.is_filling_up() {
            changes = self.make_room(changes).await;
        }
        while let Err(error) = self.store.commit(&changes).await {
            if !error.is_passing() {
                return Err(error.into());
            }
            if error.is_disk_full() {
                let is_news = !self.brain.disk().is_full;
                changes = self.make_room(changes).await;
                if is_news {
                    continue;
                }
            }
            let error = anyhow::Error::from(error);
            tracing::error!(error = format!("{error:#}"), "The journal cannot be written");
            if self.stop.is_cancelled() {
                return Err(error.context(
                    "Stopped while the journal could not be written; the next start decides what became of the runs",
                ));
            }
            let warning =
                format!("{UNWRITTEN}: {error:#}. Free space on its disk, or see who holds it.");
            self.live.warnings.retain(|known| *known != warning);
            self.live.warnings.push(warning);
            self.show();
            tokio::select! {
                () = tokio::time::sleep(STORE_PAUSE) => {}
                () = self.stop.cancelled() => {}
            }
        }
        for change in &changes {
            if let Change::Append(record, _) = change
                && let Some(point) = Point::after_record(&record.kind)
            {
                points::reach(point);
            }
        }
        self.live.warnings.retain(|known| !known.starts_with(UNWRITTEN));
        match self.store.keep_within_bound().await {
            Ok(0) => {}
            Ok(lines) => tracing::warn!(lines, "Lines of old logs made room in the journal"),
            Err(error) => {
                let error = anyhow::Error::from(error);
                tracing::warn!(
                    error = format!("{error:#}"),
                    "No room could be made in the journal"
                );
            }
        }
        Ok(head)
    }

    async fn upkeep(&mut self) -> Result<()> {
        let now = Instant::now();
        if now >= self.locate_at {
            self.locate_at = now + LOCATE_PAUSE;
            if self.tools.is_err() {
                self.find_tools().await;
            } else {
                // Somebody may have moved the machine to another time zone.
                self.refresh_facts();
            }
        }
        if now >= self.upkeep_at {
            self.upkeep_at = now + UPKEEP;
            self.keep_reserve().await;
            self.commit().await?;
            let (journal, gone) = self.store.prune(self.clock.now()).await?;
            self.brain.handle_pruned(&journal, &gone);
        }
        Ok(())
    }

    async fn find_tools(&mut self) {
        self.tools = find_tools(&self.state, &self.settings, &self.helpers).await;
        self.refresh_facts();
    }

    fn refresh_facts(&mut self) {
        let (host_id, has_battery) = (self.brain.facts().host_id, self.brain.facts().has_battery);
        self.brain.set_facts(machine::facts(host_id, version_of(&self.tools), has_battery));
    }

    /// Writes the status file when it says something new. One that cannot be written is tried again later:
    /// on a disk that is full there is enough to do.
    fn show(&mut self) {
        if self.live == self.shown || Instant::now() < self.show_at {
            return;
        }
        match self.live.save(&self.state) {
            Ok(()) => self.shown = self.live.clone(),
            Err(error) => {
                self.show_at = Instant::now() + SHOW_PAUSE;
                tracing::warn!(error = format!("{error:#}"), "No status was written");
            }
        }
    }

    fn pass_time(&mut self) -> Vec<Effect> {
        self.count_sleep();
        self.brain.handle_timeout(self.now())
    }

    /// What the one clock counts and the other does not is the machine's sleep.
    fn count_sleep(&mut self) {
        if let Some(uptime) = machine::uptime() {
            self.brain.set_slept(uptime.saturating_sub(self.started.elapsed()));
        }
    }

    fn now(&self) -> Now {
        Now { wall: self.clock.now(), mono: self.started.elapsed() }
    }
}

/// Opens the journal. One that is not as it was written is kept aside, and a new one begins with a gap.
async fn open_store(state: &StateDir, now: Timestamp, live: &mut Live) -> Result<(Store, Memory)> {
    let begin = Begin {
        fresh: fresh_journal(now)?,
        now,
        stamp: stamp(now),
        has_run: state.desired().exists() || state.status().exists(),
    };
    let path = state.database();
    let opened = match Store::open_or_begin_anew(&path, &begin).await {
        Err(error) if error.is_disk_full() => {
            let _ = std::fs::remove_file(state.reserve());
            Store::open_or_begin_anew(&path, &begin).await
        }
        opened => opened,
    };
    let Opened { store, memory, damage } = opened.context("Failed to open the journal")?;
    if let Some(damage) = damage {
        let kept = damage.kept.map_or_else(String::new, |kept| {
            format!(" What was there was kept as {}.", kept.display())
        });
        let words = format!(
            "The journal was damaged: {}.{kept} A new one was begun, and the manager is told of the gap. Check the disk of the state folder.",
            damage.why
        );
        tracing::error!("{words}");
        live.warnings.push(words);
    }
    Ok((store, memory))
}

fn load_desired(state: &StateDir, now: Timestamp, live: &mut Live) -> Result<Option<Desired>> {
    Ok(match desired::load(state, &stamp(now))? {
        Found::Nothing => None,
        Found::Stored(desired) => Some(*desired),
        Found::Unreadable { kept, why } => {
            let words = format!(
                "The stored plans cannot be read ({why}); the file was kept as {}. The manager sends them anew at the next connection.",
                kept.display()
            );
            tracing::error!("{words}");
            live.warnings.push(words);
            None
        }
    })
}

async fn find_tools(
    state: &StateDir,
    settings: &Settings,
    helpers: &Helpers,
) -> Result<Tools, Problem> {
    let restic = runner::locate(settings).await?;
    Ok(Tools {
        restic,
        state: state.clone(),
        settings: settings.clone(),
        helpers: helpers.clone(),
        hostname: machine::hostname(),
    })
}

fn version_of(tools: &Result<Tools, Problem>) -> Result<String, Problem> {
    tools.as_ref().map(|tools| tools.restic.version().to_string()).map_err(Clone::clone)
}

fn fresh_journal(now: Timestamp) -> Result<JournalId> {
    let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
    Ok(JournalId::new(millis, &random_bytes()?))
}
