//! The network between agents and their manager: lines that deliver late, break, and are found broken
//! by either side at another time.

use axum::extract::ws::Message;
use server::session::socket::{Connection, Wire};
use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

/// The manager's end of a line: messages and time, as the world lets them come.
#[derive(Clone, Debug, Default)]
pub struct Pipe(Arc<Mutex<Ends>>);

#[derive(Debug, Default)]
struct Ends {
    came: VecDeque<Message>,
    is_closed: bool,
    sent: Vec<Message>,
    age: Duration,
}

impl Pipe {
    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message arrived.
    pub fn arrive(&self, message: Message) {
        self.ends().came.push_back(message);
    }

    /// Nothing comes or goes any more.
    pub fn close(&self) {
        self.ends().is_closed = true;
    }

    /// The time has come so far.
    pub fn set_age(&self, age: Duration) {
        self.ends().age = age;
    }

    /// What the manager sent since the last time.
    #[must_use]
    pub fn take_sent(&self) -> Vec<Message> {
        std::mem::take(&mut self.ends().sent)
    }
}

impl Wire for Pipe {
    fn receive(&mut self) -> impl Future<Output = Option<Result<Message, axum::Error>>> + Send {
        poll_fn(|_| {
            let mut ends = self.ends();
            match ends.came.pop_front() {
                Some(message) => Poll::Ready(Some(Ok(message))),
                None if ends.is_closed => Poll::Ready(None),
                None => Poll::Pending,
            }
        })
    }

    async fn send(&mut self, message: Message) -> bool {
        let mut ends = self.ends();
        if !ends.is_closed {
            ends.sent.push(message);
        }
        !ends.is_closed
    }

    fn age(&self) -> Duration {
        self.ends().age
    }

    fn reach(&self, age: Duration) -> impl Future<Output = ()> + Send + use<> {
        let is_reached = self.ends().age >= age;
        poll_fn(move |_| if is_reached { Poll::Ready(()) } else { Poll::Pending })
    }
}

/// A line between an agent and the manager.
pub struct Line {
    /// Which machine.
    pub machine: usize,
    /// When it was opened.
    pub opened: Duration,
    /// The manager's end of it.
    pub pipe: Pipe,
    /// The manager's side, until that has ended.
    pub connection: Option<Box<Connection<Pipe>>>,
    /// When the manager's side is looked at next.
    pub turn: Option<(Duration, u64)>,
    /// Set when nothing that the manager sends from now on arrives.
    pub is_cut: bool,
    /// What the agent sends over a line that is cut arrives so much later, or never.
    pub late: Option<Duration>,
    /// When the last message to each side arrives: a line keeps the order.
    pub last_up: Duration,
    /// As `last_up`, to the agent.
    pub last_down: Duration,
    /// Records that were sent and not acknowledged, and their bytes.
    pub window: VecDeque<(u64, usize)>,
    /// Frames that the agent has not heard yet.
    pub on_the_way_down: usize,
}

impl Line {
    /// Whether what is said over it is heard.
    pub fn is_served(&self) -> bool {
        self.connection.is_some() && !self.is_cut
    }
}
