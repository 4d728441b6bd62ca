//! The connection to the manager: dialled, kept alive, and dialled again.
//!
//! ```text
//!            ┌──── every address failed, or the connection ended; the agent says ──────┐
//!            │      how long the pause is                                              │
//!            ▼                                                                          │
//!  Waiting{until} ──time is up──▶ Dialling{addresses} ──TLS, pin, WebSocket──▶ Open{socket}
//!                                    ▲        │                                         │
//!                                    └────────┘ next address            ended at once, ─┘
//!                                                                       by ourselves
//! ```
//!
//! A task of its own owns the socket. It knows nothing of what the frames mean; the brain does. Both
//! directions are bounded channels: a slow manager holds the sender back, a busy agent the manager.

use crate::{core::Redial, tls};
use anyhow::{Context, Result};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use protocol::{Frame, MAX_FRAME_BYTES, Problem};
use rustls::ClientConfig;
use std::{collections::VecDeque, io::ErrorKind, sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, Message, protocol::WebSocketConfig},
};

/// How long each step of dialling may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long nothing may be heard, pongs included.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// The time between two pings.
const PING: Duration = Duration::from_secs(30);

/// The longest pause that grows by itself.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The pause when only a person can change something.
const SLOW_PAUSE: Duration = Duration::from_mins(15);

/// Frames that may wait in each direction.
const WAITING_FRAMES: usize = 64;

/// A TLS connection to the manager.
pub type Stream = TlsStream<TcpStream>;

/// What happens on the connection.
#[derive(Debug)]
pub enum Event {
    /// An address is being dialled.
    Dialling(String),
    /// The connection is open.
    Up(String),
    /// A frame came.
    Frame(Box<Frame>),
    /// The connection is gone, or could not be made: why, when it was not our own doing. Answered
    /// with [`Order::Pause`], after whatever the manager said last was looked at.
    Ended(Option<Problem>),
}

/// What the connection is told.
#[derive(Debug)]
pub enum Order {
    /// Send this text.
    Send(String),
    /// The manager took us in: the next pause is a short one again.
    Settled,
    /// End the connection.
    Close,
    /// The answer to [`Event::Ended`]: when to dial again.
    Pause(Redial),
}

/// The handle of the connection's task.
#[derive(Debug)]
pub struct Connection {
    addresses: watch::Sender<Vec<String>>,
    orders: mpsc::Sender<Order>,
    events: mpsc::Receiver<Event>,
    /// The task ends with its handle.
    _task: JoinSet<()>,
}

impl Connection {
    /// Begins to dial.
    #[must_use]
    pub fn start(addresses: Vec<String>, config: Arc<ClientConfig>) -> Self {
        let (addresses, listed) = watch::channel(addresses);
        let (orders, taken) = mpsc::channel(WAITING_FRAMES);
        let (told, events) = mpsc::channel(WAITING_FRAMES);
        let keeper = Keeper {
            addresses: listed,
            config,
            orders: taken,
            events: told,
            backoff: Backoff::default(),
        };
        let mut task = JoinSet::new();
        task.spawn(keeper.keep());
        Self { addresses, orders, events, _task: task }
    }

    /// Where to dial from the next attempt on, best first.
    pub fn set_addresses(&self, addresses: Vec<String>) {
        self.addresses.send_replace(addresses);
    }

    /// Both directions, to be waited for at the same time.
    pub fn split(&mut self) -> (&mpsc::Sender<Order>, &mut mpsc::Receiver<Event>) {
        (&self.orders, &mut self.events)
    }
}

enum State {
    Waiting { until: Instant },
    Dialling { left: VecDeque<String> },
    Open { socket: Box<WebSocketStream<Stream>> },
}

struct Keeper {
    addresses: watch::Receiver<Vec<String>>,
    config: Arc<ClientConfig>,
    orders: mpsc::Receiver<Order>,
    events: mpsc::Sender<Event>,
    backoff: Backoff,
}

impl Keeper {
    async fn keep(mut self) {
        let mut state = self.dial_all();
        // Ends when nobody listens any more.
        while !self.events.is_closed() {
            state = match state {
                State::Waiting { until } => {
                    sleep_until(until).await;
                    self.dial_all()
                }
                State::Dialling { left } => self.dial(left).await,
                State::Open { socket } => {
                    let problem = self.talk(*socket).await;
                    self.pause(problem).await
                }
            };
        }
    }

    fn dial_all(&self) -> State {
        State::Dialling { left: self.addresses.borrow().iter().cloned().collect() }
    }

    async fn dial(&mut self, mut left: VecDeque<String>) -> State {
        let Some(address) = left.pop_front() else {
            return self.pause(None).await;
        };
        let _ = self.events.send(Event::Dialling(address.clone())).await;
        match open(&address, self.config.clone()).await {
            Ok(socket) => {
                let _ = self.events.send(Event::Up(address)).await;
                State::Open { socket: Box::new(socket) }
            }
            Err(_) if !left.is_empty() => State::Dialling { left },
            Err(problem) => self.pause(Some(problem)).await,
        }
    }

    /// The agent decides how long the pause is: the manager may have said why it ended.
    async fn pause(&mut self, problem: Option<Problem>) -> State {
        let _ = self.events.send(Event::Ended(problem)).await;
        let redial = loop {
            match self.orders.recv().await {
                Some(Order::Pause(redial)) => break redial,
                // Meant for the connection that is gone.
                Some(Order::Send(_) | Order::Settled | Order::Close) => {}
                None => break Redial::Slowly,
            }
        };
        let pause = self.backoff.pause(redial, random_fraction());
        tracing::debug!(seconds = pause.as_secs(), "Pausing before the next attempt");
        State::Waiting { until: Instant::now() + pause }
    }

    async fn talk(&mut self, socket: WebSocketStream<Stream>) -> Option<Problem> {
        let (sink, stream) = socket.split();
        tokio::select! {
            end = hear(stream, &self.events) => end,
            end = speak(sink, &mut self.orders, &mut self.backoff) => end,
        }
    }
}

async fn hear(
    mut stream: SplitStream<WebSocketStream<Stream>>,
    events: &mpsc::Sender<Event>,
) -> Option<Problem> {
    loop {
        let text = match timeout(IDLE_TIMEOUT, stream.next()).await {
            Err(_) => {
                return lost("The manager has not been heard for 90 seconds.".to_owned());
            }
            Ok(None) => return lost("The manager ended the connection.".to_owned()),
            Ok(Some(Err(error))) => return lost(broken(&error)),
            Ok(Some(Ok(Message::Text(text)))) => text,
            Ok(Some(Ok(Message::Close(_)))) => {
                return lost("The manager ended the connection.".to_owned());
            }
            Ok(Some(Ok(
                Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_),
            ))) => continue,
        };
        match Frame::decode(&text) {
            Ok(frame) => {
                if events.send(Event::Frame(Box::new(frame))).await.is_err() {
                    return None;
                }
            }
            Err(error) => return lost(format!("The manager sent something unreadable: {error}.")),
        }
    }
}

async fn speak(
    mut sink: SplitSink<WebSocketStream<Stream>, Message>,
    orders: &mut mpsc::Receiver<Order>,
    backoff: &mut Backoff,
) -> Option<Problem> {
    let mut ping = Instant::now() + PING;
    loop {
        // What waits goes out together: much of the journal in few pieces.
        if orders.is_empty()
            && let Err(error) = sink.flush().await
        {
            return lost(broken(&error));
        }
        let message = tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Send(text)) => Message::text(text),
                Some(Order::Settled) => {
                    backoff.reset();
                    continue;
                }
                Some(Order::Close) => {
                    let _ = timeout(Duration::from_secs(1), sink.close()).await;
                    return None;
                }
                // A pause is asked for only after the end.
                Some(Order::Pause(_)) => continue,
                None => return None,
            },
            () = sleep_until(ping) => {
                ping = Instant::now() + PING;
                Message::Ping(Default::default())
            }
        };
        if let Err(error) = sink.feed(message).await {
            return lost(broken(&error));
        }
    }
}

fn broken(error: &tungstenite::Error) -> String {
    if let tungstenite::Error::Io(io) = error
        && io.kind() == ErrorKind::UnexpectedEof
    {
        return "The manager went away in the middle of the connection.".to_owned();
    }
    format!("The connection broke: {error}.")
}

#[expect(clippy::unnecessary_wraps, reason = "the end of a conversation may have no problem")]
fn lost(message: String) -> Option<Problem> {
    Some(unreachable(message))
}

fn unreachable(message: String) -> Problem {
    Problem::new(protocol::Code::Unknown, message)
        .guidance("A run that is going goes on; what happens is kept until the manager answers.")
}

/// Dials an address: TCP, then TLS with the pinned key.
///
/// # Errors
/// In words for a person.
pub async fn dial(address: &str, config: Arc<ClientConfig>) -> Result<Stream, Problem> {
    let late = || unreachable(format!("The manager at {address} does not answer."));
    let tcp = timeout(DIAL_TIMEOUT, TcpStream::connect(address))
        .await
        .map_err(|_| late())?
        .map_err(|error| unreachable(tls::explain(address, &error)))?;
    // Frames are small and wanted at once.
    let _ = tcp.set_nodelay(true);
    let name = tls::manager_name().map_err(|error| unreachable(error.to_string()))?;
    let connecting = TlsConnector::from(config).connect(name, tcp);
    timeout(DIAL_TIMEOUT, connecting)
        .await
        .map_err(|_| late())?
        .map_err(|error| unreachable(tls::explain(address, &error)))
}

async fn open(
    address: &str,
    config: Arc<ClientConfig>,
) -> Result<WebSocketStream<Stream>, Problem> {
    let stream = dial(address, config).await?;
    let uri = format!("ws://{}/agent/connect", tls::MANAGER_NAME);
    let limits = WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .max_message_size(Some(MAX_FRAME_BYTES))
        .max_frame_size(Some(MAX_FRAME_BYTES));
    let opening = client_async_with_config(uri, stream, Some(limits));
    match timeout(DIAL_TIMEOUT, opening).await {
        Err(_) => Err(unreachable(format!("The manager at {address} does not answer."))),
        Ok(Ok((socket, _response))) => Ok(socket),
        Ok(Err(error)) => Err(not_upgraded(address, error)),
    }
}

fn not_upgraded(address: &str, error: tungstenite::Error) -> Problem {
    if let tungstenite::Error::Http(response) = &error
        && let Some(body) = response.body()
        && let Ok(problem) = serde_json::from_slice::<Problem>(body)
    {
        return problem;
    }
    unreachable(format!("The manager at {address} does not take the connection: {error}."))
}

/// A random number from 0 to 1.
fn random_fraction() -> f64 {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(random) / f64::from(u32::MAX)
}

/// Random bytes from the system.
///
/// # Errors
/// When the system has none.
pub fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("Failed to get random numbers from the system")?;
    Ok(bytes)
}

/// The growing pause: full jitter, so that a fleet does not come back all at once.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    fn reset(&mut self) {
        self.failures = 0;
    }

    /// The pause before the next attempt; `random` is from 0 to 1.
    fn pause(&mut self, redial: Redial, random: f64) -> Duration {
        let failures = self.failures;
        self.failures = failures.saturating_add(1);
        match redial {
            // Coming back at once is for once: a manager that never lets us in is left alone.
            Redial::Now if failures == 0 => Duration::ZERO,
            Redial::Now | Redial::Backoff => {
                let most = Duration::from_secs(1 << failures.min(6)).min(LONGEST_PAUSE);
                most.mul_f64(random.clamp(0.0, 1.0))
            }
            Redial::Slowly => SLOW_PAUSE.mul_f64(0.9 + random.clamp(0.0, 1.0) * 0.2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_to_a_minute_and_is_spread_over_all_of_it() {
        let mut backoff = Backoff::default();
        let longest: Vec<u64> =
            (0..9).map(|_| backoff.pause(Redial::Backoff, 1.0).as_secs()).collect();
        assert_eq!(longest, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(backoff.pause(Redial::Backoff, 0.0), Duration::ZERO);
        backoff.reset();
        assert_eq!(backoff.pause(Redial::Backoff, 1.0).as_secs(), 1);
    }

    #[test]
    fn coming_back_at_once_does_not_become_a_loop() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.pause(Redial::Now, 1.0), Duration::ZERO);
        assert_eq!(backoff.pause(Redial::Now, 1.0), Duration::from_secs(2));
    }

    #[test]
    fn what_needs_a_person_is_asked_every_quarter_of_an_hour() {
        let pause = Backoff::default().pause(Redial::Slowly, 0.5);
        assert_eq!(pause, SLOW_PAUSE);
    }
}
