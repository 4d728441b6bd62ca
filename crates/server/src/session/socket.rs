//! A connection: bytes, time and the database for the rules of [`super::core`]. Bytes and time come
//! over a [`Wire`], which is a WebSocket unless a test brings its own.

use super::{
    commands::Written,
    core::{AgentSession, Effect, Met, Record},
    greet::{self, Greeted, Greeting},
    reports::Reports,
    trees::Folders,
};
use crate::{
    db::{
        error::DbError,
        hosts::{self, Fingerprint},
    },
    desired::DesiredError,
    events::Topic,
    intake::{IntakeHandle, Lane, Progress, Stopped},
    links::Registration,
    manager::Manager,
};
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use futures_util::FutureExt as _;
use protocol::{
    Code, Hello, HostId, Incarnation, Problem, ProtocolVersion, Refused, RunId, Secret, ToAgent,
    journal::kind,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// How long one frame may take to be written. Who reads more slowly is gone.
const WRITE_WITHIN: Duration = Duration::from_secs(20);
/// Records after which the agent hears that they are safe, while more of them are on their way. Once they
/// are not, it hears it at once.
const ACKNOWLEDGE_EVERY: u64 = 64;
/// Records that are taken in before anything else is looked at again.
const RECORDS_IN_A_ROW: usize = 64;
/// Runs that may have begun since the hello and that are noted. An honest agent comes to that in months, and
/// begins anew.
const MOST_BEGUN: usize = 4_000;
/// How often it is stored that a host is there.
const NOTE_EVERY: Duration = Duration::from_secs(60);

/// What all connections share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The manager that they serve.
    pub manager: Manager,
    /// Where their records go.
    pub intake: IntakeHandle,
    /// Ends all of them.
    pub stop: CancellationToken,
}

/// What a connection has of the world: its messages, and the time.
pub trait Wire: Send {
    /// The next message; `None` once there is nobody who could send one.
    fn receive(&mut self) -> impl Future<Output = Option<Result<Message, axum::Error>>> + Send;

    /// Sends a message, and says whether it went out.
    fn send(&mut self, message: Message) -> impl Future<Output = bool> + Send;

    /// How long the connection has been there.
    fn age(&self) -> Duration;

    /// Ends when the connection has been there so long.
    fn reach(&self, age: Duration) -> impl Future<Output = ()> + Send + use<Self>;
}

/// The wire that agents really use.
struct Socket {
    socket: WebSocket,
    began: Instant,
}

impl Wire for Socket {
    fn receive(&mut self) -> impl Future<Output = Option<Result<Message, axum::Error>>> + Send {
        self.socket.recv()
    }

    async fn send(&mut self, message: Message) -> bool {
        let sent = tokio::time::timeout(WRITE_WITHIN, self.socket.send(message)).await;
        matches!(sent, Ok(Ok(())))
    }

    fn age(&self) -> Duration {
        self.began.elapsed()
    }

    fn reach(&self, age: Duration) -> impl Future<Output = ()> + Send + use<> {
        tokio::time::sleep_until(self.began + age)
    }
}

/// Why a connection ends.
#[derive(Debug)]
pub enum Ended {
    /// The socket is gone or does not take anything any more.
    Gone,
    /// The agent is told why.
    Refused(Problem),
    /// It comes back at once and finds things as they are then.
    Closed(&'static str),
}

impl From<DbError> for Ended {
    fn from(error: DbError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "failed to serve an agent");
        Self::Closed("the manager's database failed")
    }
}

impl From<DesiredError> for Ended {
    fn from(error: DesiredError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "failed to serve an agent");
        Self::Closed("the manager could not make the desired state")
    }
}

/// A connection whose hello was met.
#[derive(Debug)]
pub(super) struct Live {
    pub version: ProtocolVersion,
    pub incarnation: Incarnation,
    pub met: Met,
    pub held: Option<Code>,
    pub lane: Lane,
    /// The newest record that the manager has.
    pub acked: u64,
    /// The newest record of which the agent was told so.
    told: u64,
    /// The newest record that the agent had at its hello.
    pub head: u64,
    pub written: BTreeMap<RunId, Written>,
    /// Runs that have begun since the hello, by the record that said so; kept while they are open.
    pub begun: BTreeMap<RunId, u64>,
    /// The newest record that was looked at.
    noted: u64,
    /// Runs of this host that go on: whose progress is of interest.
    pub open_runs: BTreeSet<RunId>,
    /// Whether the agent said at its hello that it has older plans than the manager knows it to have had.
    pub has_older_plans: bool,
    /// The generation of the desired state that was sent over this connection.
    pub sent_generation: Option<u64>,
    pub reports: Reports,
    pub folders: Folders,
    noted_at: Duration,
}

impl Live {
    pub(super) fn is_caught_up(&self) -> bool {
        self.acked >= self.head
    }
}

/// One connection of one host.
pub struct Connection<W> {
    pub(super) shared: Shared,
    pub(super) host: HostId,
    pub(super) session: AgentSession,
    pub(super) live: Option<Live>,
    wire: W,
    registration: Option<Registration>,
    progress: Option<watch::Receiver<Progress>>,
    next_frame: u64,
    /// Which of all connections this one is.
    number: u64,
}

enum Tick {
    Message(Option<Result<Message, axum::Error>>),
    Timeout,
    Woken,
    Replaced,
    Acknowledged(Progress),
    Stop,
}

/// Serves a connection of this host until it ends.
pub(crate) async fn run(shared: Shared, socket: WebSocket, host: HostId) {
    let wire = Socket { socket, began: Instant::now() };
    let mut connection = Connection::new(shared, wire, host);
    let ended = loop {
        if let Err(ended) = connection.step().await {
            break ended;
        }
    };
    Box::pin(connection.end(ended)).await;
}

impl<W: Wire> Connection<W> {
    /// A connection of this host that begins now.
    pub fn new(shared: Shared, wire: W, host: HostId) -> Self {
        Self {
            session: AgentSession::new(Duration::ZERO),
            number: shared.manager.links().begin(),
            shared,
            host,
            live: None,
            wire,
            registration: None,
            progress: None,
            next_frame: 0,
        }
    }

    /// Deals with the next thing that waits for this connection, if something does. For who drives
    /// connections by hand instead of in tasks.
    ///
    /// # Errors
    /// Why the connection ends; [`Connection::end`] is then to be called.
    pub async fn turn(&mut self) -> Result<bool, Ended> {
        let Some(tick) = self.tick().now_or_never() else { return Ok(false) };
        self.act(tick).await?;
        Ok(true)
    }

    /// The age at which the connection has something to do even if nothing happens.
    pub fn due(&self) -> Duration {
        self.session.poll_timeout()
    }

    /// Whether a newer connection of this agent has taken over. What that one began is not this one's
    /// to judge.
    pub(super) fn is_replaced(&self) -> bool {
        self.registration.as_ref().is_none_or(|registration| registration.link.is_replaced())
    }

    fn now(&self) -> Duration {
        self.wire.age()
    }

    fn manager(&self) -> &Manager {
        &self.shared.manager
    }

    async fn step(&mut self) -> Result<(), Ended> {
        let mut tick = self.tick().await;
        // A connection waits nearly all of its life. What it needs while it acts is several times as
        // large as all the rest of it, and is there only as long as it acts. Records in a row need little,
        // and one does not look at everything else between any two of them.
        for _ in 0..RECORDS_IN_A_ROW {
            let Tick::Message(Some(Ok(message))) = tick else { break };
            match self.read(message)? {
                Some(Effect::Record(record)) => self.take_in(record).await?,
                effect => return Box::pin(self.perform(effect)).await,
            }
            let Some(next) = self.wire.receive().now_or_never() else { return Ok(()) };
            tick = Tick::Message(next);
        }
        Box::pin(self.act(tick)).await
    }

    async fn act(&mut self, tick: Tick) -> Result<(), Ended> {
        match tick {
            Tick::Message(Some(Ok(message))) => {
                let effect = self.read(message)?;
                self.perform(effect).await
            }
            Tick::Message(Some(Err(error))) => {
                let effect = self.session.handle_unreadable(is_too_large(&error));
                if is_broken_off(&error) {
                    return Err(Ended::Gone);
                }
                self.perform(effect).await
            }
            Tick::Message(None) => Err(Ended::Gone),
            Tick::Timeout => {
                let now = self.now();
                let effect = self.session.handle_timeout(now);
                self.perform(effect).await
            }
            Tick::Woken => Box::pin(self.reconcile()).await,
            Tick::Replaced => Err(replaced()),
            Tick::Acknowledged(progress) => self.handle_progress(progress).await,
            Tick::Stop => Err(Ended::Closed("the manager is shutting down")),
        }
    }

    async fn tick(&mut self) -> Tick {
        let timeout = self.wire.reach(self.session.poll_timeout());
        let registration = self.registration.as_ref();
        let link = registration.map(|registration| &registration.link);
        let progress = self.progress.as_mut();
        tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => Tick::Stop,
            () = maybe(link.map(|link| link.replaced())) => Tick::Replaced,
            () = maybe(link.map(|link| link.woken())) => Tick::Woken,
            progress = next_progress(progress) => Tick::Acknowledged(progress),
            message = self.wire.receive() => Tick::Message(message),
            () = timeout => Tick::Timeout,
        }
    }

    /// What is to be done about a message.
    fn read(&mut self, message: Message) -> Result<Option<Effect>, Ended> {
        let now = self.now();
        match message {
            Message::Text(text) => Ok(self.session.handle_text(&text, now)),
            Message::Binary(_) => Ok(self.session.handle_binary()),
            Message::Ping(_) | Message::Pong(_) => {
                self.session.handle_sign_of_life(now);
                Ok(None)
            }
            Message::Close(_) => Err(Ended::Gone),
        }
    }

    async fn take_in(&mut self, record: Record) -> Result<(), Ended> {
        self.note_run(&record);
        let Some(live) = &self.live else { return Ok(()) };
        if live.begun.len() > MOST_BEGUN {
            return Err(Ended::Closed("very many runs have begun"));
        }
        keep_going(live.lane.record(record).await)
    }

    /// What is done often and at once for many is small; what needs more room has it for itself.
    async fn perform(&mut self, effect: Option<Effect>) -> Result<(), Ended> {
        let Some(effect) = effect else { return Ok(()) };
        match effect {
            Effect::Meet(hello) => Box::pin(self.meet(*hello)).await,
            Effect::Record(record) => Box::pin(self.take_in(record)).await,
            Effect::Direct(message, size) => {
                let Some(live) = &self.live else { return Ok(()) };
                keep_going(live.lane.direct(message, size).await)
            }
            Effect::CommandAnswered(result) => Box::pin(self.command_answered(&result)).await,
            Effect::Progress(progress) => Box::pin(self.progress_told(progress)).await,
            Effect::Snapshots(report) => Box::pin(self.snapshots_told(report)).await,
            Effect::Tree(report) => Box::pin(self.tree_told(report)).await,
            Effect::Tried(tested) => {
                self.trial_told(tested);
                Ok(())
            }
            Effect::Stats(stats) => Box::pin(self.stats_told(&stats)).await,
            Effect::TicketConfirmed(ticket) => self.ticket_confirmed(&ticket).await,
            Effect::Ping => {
                self.note_seen().await?;
                self.write_message(Message::Ping(bytes::Bytes::new())).await
            }
            Effect::Close(Some(problem)) => Err(Ended::Refused(problem)),
            Effect::Close(None) => Err(Ended::Closed("nothing was heard for too long")),
        }
    }

    async fn meet(&mut self, hello: Hello) -> Result<(), Ended> {
        // The newest connection is the one that counts, whatever comes of its hello: after a clone
        // was found, the older one must come back too and be held.
        let registration = self.manager().links().register(self.host, self.number).await;
        let Some(registration) = registration else { return Err(Ended::Closed("shutting down")) };
        self.registration = Some(registration);
        // A hello that came late must not take away the ticket that the newer connection was given.
        if self.is_replaced() {
            return Err(replaced());
        }
        let open_runs = hello.open_runs.clone();
        let greeted = greet::greet(self.manager(), self.host, hello).await.map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, host.id = %self.host, "failed to meet an agent");
            Ended::Closed("the manager failed to answer")
        })?;
        match greeted {
            Greeted::Refused(problem) => Err(Ended::Refused(problem)),
            Greeted::Met(greeting) => self.met(&open_runs, *greeting).await,
        }
    }

    async fn met(&mut self, open_runs: &[RunId], greeting: Greeting) -> Result<(), Ended> {
        let (lane, progress) = self.shared.intake.lane(self.host, greeting.journal);
        let version = greeting.version;
        let seq = match greeting.met {
            Met::Live { seq, .. } => seq,
            Met::Held | Met::Renewing => 0,
        };
        let is_open = Written { is_open: true, ..Written::default() };
        self.session.handle_met(greeting.met);
        self.progress = Some(progress);
        self.live = Some(Live {
            version,
            incarnation: self.manager().identity().manager().incarnation,
            met: greeting.met,
            held: greeting.held,
            lane,
            acked: seq,
            told: seq,
            head: greeting.head,
            written: open_runs.iter().map(|run| (*run, is_open)).collect(),
            begun: BTreeMap::new(),
            noted: 0,
            open_runs: BTreeSet::new(),
            has_older_plans: greeting.has_older_plans,
            sent_generation: None,
            reports: Reports::default(),
            folders: Folders::default(),
            noted_at: self.now(),
        });
        self.manager().events().publish(Topic::Host(self.host));
        if greeting.has_notices {
            self.manager().events().publish(Topic::Notices);
        }
        if let Some(welcome) = greeting.welcome {
            self.write(&ToAgent::Welcome(Box::new(welcome))).await?;
        }
        self.provide(greeting.needs).await
    }

    /// A run that begins after the hello goes on although the hello did not name it, and one that
    /// ends takes no progress any more.
    fn note_run(&mut self, record: &Record) {
        let Some(live) = self.live.as_mut() else { return };
        let frame = &record.frame;
        if frame.kind == kind::JOB_FINISHED
            && !live.open_runs.is_empty()
            && let Ok(finished) = frame.payload::<protocol::JobFinished>()
        {
            live.open_runs.remove(&finished.job_id);
        }
        // A record that comes again says nothing new, whatever stands in it now.
        if frame.kind == kind::JOB_STARTED
            && record.seq > live.head.max(live.noted)
            && let Ok(started) = frame.payload::<protocol::JobStarted>()
        {
            live.begun.insert(started.job_id, record.seq);
        }
        live.noted = live.noted.max(record.seq);
    }

    async fn handle_progress(&mut self, progress: Progress) -> Result<(), Ended> {
        match progress.stopped {
            Some(Stopped::Gap) => {
                return Err(Ended::Refused(Problem::new(
                    Code::FrameInvalid,
                    "Records of the journal are missing; they are expected again.",
                )));
            }
            Some(Stopped::Forked) => return Err(Ended::Closed("the journal is held")),
            Some(Stopped::Failed) => return Err(Ended::Closed("the manager's database failed")),
            Some(Stopped::Full) => return Err(Ended::Closed("the manager's disk is full")),
            None => {}
        }
        let Some(live) = self.live.as_mut().filter(|live| progress.acked > live.acked) else {
            return Ok(());
        };
        let was_caught_up = live.is_caught_up();
        live.acked = progress.acked;
        let is_news = live.is_caught_up() && !was_caught_up;
        if live.acked >= live.noted || live.acked - live.told >= ACKNOWLEDGE_EVERY {
            self.write(&ToAgent::JournalAck(protocol::JournalAck {})).await?;
        }
        if is_news {
            Box::pin(self.store_seen()).await?;
            Box::pin(self.reconcile()).await?;
        }
        Ok(())
    }

    async fn ticket_confirmed(&mut self, ticket: &Secret<String>) -> Result<(), Ended> {
        let manager = self.manager();
        let confirmed = |tickets| confirm_all(manager, tickets);
        manager.batches().tickets.ask((self.host, greet::hash(ticket)), confirmed).await?;
        Ok(())
    }

    async fn note_seen(&mut self) -> Result<(), Ended> {
        let now = self.now();
        let Some(live) = self.live.as_mut() else { return Ok(()) };
        if now.saturating_sub(live.noted_at) < NOTE_EVERY {
            return Ok(());
        }
        live.noted_at = now;
        Box::pin(self.store_seen()).await?;
        Ok(())
    }

    async fn store_seen(&mut self) -> Result<(), DbError> {
        let mut tx = self.manager().db().begin().await?;
        let has_told_all = self.live.as_ref().is_some_and(Live::is_caught_up);
        hosts::note_seen(&mut tx, self.host, has_told_all, self.manager().now()).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Writes a frame, with an acknowledgement of what is on the disk by now.
    pub(super) async fn write(&mut self, message: &ToAgent) -> Result<(), Ended> {
        let frame = message.encode().and_then(|mut frame| {
            self.next_frame += 1;
            frame.id = self.next_frame.to_string();
            frame.ack = self.live.as_mut().and_then(|live| match live.met {
                Met::Live { version, .. } if version.has_journal() && live.acked > 0 => {
                    live.told = live.acked;
                    Some(live.acked)
                }
                Met::Live { .. } | Met::Held | Met::Renewing => None,
            });
            frame.encode()
        });
        match frame {
            Ok(text) => self.write_message(Message::text(text)).await,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, host.id = %self.host, "failed to write a frame");
                Err(Ended::Closed("a frame could not be written"))
            }
        }
    }

    async fn write_message(&mut self, message: Message) -> Result<(), Ended> {
        if self.wire.send(message).await { Ok(()) } else { Err(Ended::Gone) }
    }

    /// Ends the connection: the host is offline, and the agent is told why.
    pub async fn end(mut self, ended: Ended) {
        let host = self.host;
        tracing::debug!(host.id = %host, ended = ?ended, "a connection ended");
        let dropped = self.session.dropped();
        if dropped > 0 {
            tracing::warn!(host.id = %host, dropped, "an agent sent reports faster than they are taken");
        }
        // The host is offline before the last words are through: they may wait for a slow reader.
        if let Some(registration) = self.registration.take() {
            let is_offline = self.manager().links().unregister(registration).await;
            if self.live.is_some()
                && is_offline
                && let Err(error) = self.store_seen().await
            {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "failed to note that a host was seen"
                );
            }
            self.manager().events().publish(Topic::Host(host));
        }
        self.say_goodbye(ended).await;
    }

    async fn say_goodbye(&mut self, ended: Ended) {
        let (code, reason) = match ended {
            Ended::Gone => return,
            Ended::Refused(problem) => {
                let code = close_code_of(problem.code);
                let reason = problem.code.as_str();
                if self.write(&ToAgent::Refused(Refused(problem))).await.is_err() {
                    return;
                }
                (code, reason)
            }
            Ended::Closed(reason) => (close_code::AWAY, reason),
        };
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        let _ = self.write_message(Message::Close(Some(frame))).await;
    }
}

async fn confirm_all(
    manager: &Manager,
    tickets: Vec<(HostId, Fingerprint)>,
) -> Result<Vec<()>, DbError> {
    let mut tx = manager.db().begin().await?;
    hosts::confirm_tickets(&mut tx, &tickets).await?;
    tx.commit().await?;
    Ok(vec![(); tickets.len()])
}

fn replaced() -> Ended {
    let words = "A newer connection of this agent took over.";
    Ended::Refused(Problem::new(Code::ConnectionReplaced, words))
}

fn close_code_of(code: Code) -> u16 {
    if code == Code::FrameTooLarge {
        close_code::SIZE
    } else if matches!(code, Code::FrameInvalid | Code::HelloExpected) {
        close_code::POLICY
    } else {
        close_code::NORMAL
    }
}

fn keep_going(is_running: bool) -> Result<(), Ended> {
    if is_running { Ok(()) } else { Err(Ended::Closed("the manager is shutting down")) }
}

async fn maybe(future: Option<impl Future<Output = ()>>) {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn next_progress(progress: Option<&mut watch::Receiver<Progress>>) -> Progress {
    if let Some(progress) = progress
        && progress.changed().await.is_ok()
    {
        return *progress.borrow_and_update();
    }
    std::future::pending().await
}

/// axum hides the type of the socket's error; its words are all there is.
fn is_too_large(error: &axum::Error) -> bool {
    error.to_string().contains("too long") || error.to_string().contains("too big")
}

fn is_broken_off(error: &axum::Error) -> bool {
    let words = error.to_string();
    words.contains("IO error") || words.contains("without closing") || words.contains("closed")
}
