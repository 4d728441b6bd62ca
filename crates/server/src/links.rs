//! The live connections of the agents: one actor knows which host is connected, evicts the older of
//! two connections of one agent, and wakes a session when something was committed for its host.
//!
//! A wake says *that* something changed, never what: the session reads again what it must send.
//! That makes waking too often harmless, and a missed reason impossible.

use protocol::HostId;
use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Requests that may wait for the actor. It only touches memory, so they never wait long.
const QUEUE: usize = 256;

/// What the registry holds of a live session.
#[derive(Clone, Debug)]
pub struct Link {
    wake: Arc<Notify>,
    replaced: CancellationToken,
}

impl Link {
    fn new() -> Self {
        Self { wake: Arc::new(Notify::new()), replaced: CancellationToken::new() }
    }

    /// Ends when something was committed for the host. What happened before the call counts.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Whether a newer connection of the same agent took over.
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        self.replaced.is_cancelled()
    }

    /// Ends when a newer connection of the same agent took over.
    pub async fn replaced(&self) {
        self.replaced.cancelled().await;
    }
}

enum LinksRequest {
    Register { host: HostId, number: u64, answer: oneshot::Sender<Link> },
    Unregister { host: HostId, number: u64, answer: oneshot::Sender<bool> },
    Wake { host: HostId },
    WakeAll,
    Online { answer: oneshot::Sender<BTreeSet<HostId>> },
}

/// The way to the actor. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LinksHandle {
    requests: mpsc::Sender<LinksRequest>,
    /// How many connections have begun.
    begun: Arc<AtomicU64>,
}

/// A session's place in the registry.
#[derive(Debug)]
pub struct Registration {
    /// Its signals.
    pub link: Link,
    host: HostId,
    number: u64,
}

impl LinksHandle {
    /// The handle, and the actor to run.
    #[must_use]
    pub fn new() -> (Self, Links) {
        let (sender, requests) = mpsc::channel(QUEUE);
        let handle = Self { requests: sender, begun: Arc::default() };
        (handle, Links { requests, newest: HashMap::new() })
    }

    /// The number of a connection that begins: newer ones have higher numbers.
    #[must_use]
    pub fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes a session the host's live one and evicts an older one. Where a newer one is there or was, because
    /// what was said over this one came late, it is this one that is replaced. `None` during shutdown.
    pub async fn register(&self, host: HostId, number: u64) -> Option<Registration> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(LinksRequest::Register { host, number, answer }).await.ok()?;
        let link = answered.await.ok()?;
        Some(Registration { link, host, number })
    }

    /// Takes a session out. Says whether it was still the host's live one, so that the host is
    /// offline now.
    pub async fn unregister(&self, registration: Registration) -> bool {
        let Registration { host, number, .. } = registration;
        let (answer, answered) = oneshot::channel();
        if self.requests.send(LinksRequest::Unregister { host, number, answer }).await.is_err() {
            return true;
        }
        answered.await.unwrap_or(true)
    }

    /// Something was committed for this host: a run, a cancellation, a desired state, its state or
    /// its hold. Its session, if there is one, reads again what it must do.
    pub async fn wake(&self, host: HostId) {
        // Without an actor there is no session either: the next connection reads everything anyway.
        let _ = self.requests.send(LinksRequest::Wake { host }).await;
    }

    /// As [`LinksHandle::wake`], for every host.
    pub async fn wake_all(&self) {
        let _ = self.requests.send(LinksRequest::WakeAll).await;
    }

    /// The hosts that are connected.
    pub async fn online(&self) -> BTreeSet<HostId> {
        let (answer, answered) = oneshot::channel();
        if self.requests.send(LinksRequest::Online { answer }).await.is_err() {
            return BTreeSet::new();
        }
        answered.await.unwrap_or_default()
    }
}

/// The actor.
#[derive(Debug)]
pub struct Links {
    requests: mpsc::Receiver<LinksRequest>,
    /// The newest connection of each host, and its link while it lives. The number stays: a hello over an older
    /// one shows a ticket that has been followed by others since.
    newest: HashMap<HostId, (u64, Option<Link>)>,
}

impl Links {
    /// Serves until the token is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let request = tokio::select! {
                request = self.requests.recv() => request,
                () = stop.cancelled() => None,
            };
            let Some(request) = request else { return };
            self.handle(request);
        }
    }

    fn handle(&mut self, request: LinksRequest) {
        match request {
            LinksRequest::Register { host, number, answer } => {
                let link = Link::new();
                match self.newest.get(&host) {
                    Some((newer, _)) if *newer > number => link.replaced.cancel(),
                    Some(_) | None => {
                        let before = self.newest.insert(host, (number, Some(link.clone())));
                        if let Some((_, Some(older))) = before {
                            older.replaced.cancel();
                        }
                    }
                }
                let _ = answer.send(link);
            }
            LinksRequest::Unregister { host, number, answer } => {
                let newest = self.newest.get_mut(&host).filter(|(newest, _)| *newest == number);
                let _ = answer.send(newest.and_then(|(_, link)| link.take()).is_some());
            }
            LinksRequest::Wake { host } => {
                if let Some((_, Some(link))) = self.newest.get(&host) {
                    link.wake.notify_one();
                }
            }
            LinksRequest::WakeAll => {
                for host in self.online() {
                    self.handle(LinksRequest::Wake { host });
                }
            }
            LinksRequest::Online { answer } => {
                let _ = answer.send(self.online());
            }
        }
    }

    fn online(&self) -> BTreeSet<HostId> {
        let live = self.newest.iter().filter(|(_, (_, link))| link.is_some());
        live.map(|(host, _)| *host).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_older_of_two_connections_goes_and_its_goodbye_does_not_end_the_newer() {
        let (links, actor) = LinksHandle::new();
        let stop = CancellationToken::new();
        let actor = tokio_util::task::AbortOnDropHandle::new(
            tokio_util::task::TaskTracker::new().spawn(actor.run(stop.clone())),
        );
        let host = HostId::new(1, &[1; 10]);
        let (first, second, third) = (links.begin(), links.begin(), links.begin());
        let older = links.register(host, second).await.unwrap();
        let newer = links.register(host, third).await.unwrap();
        older.link.replaced().await;
        assert!(!links.unregister(older).await);
        // The hello of one that had begun before both comes last.
        let late = links.register(host, first).await.unwrap();
        assert!(late.link.is_replaced() && !newer.link.is_replaced());
        assert!(!links.unregister(late).await);
        assert_eq!(links.online().await, BTreeSet::from([host]));
        // What is said before anyone listens is heard.
        links.wake(host).await;
        links.wake_all().await;
        newer.link.woken().await;
        assert!(links.unregister(newer).await);
        assert!(links.online().await.is_empty());
        // Also when the newer ones have ended before.
        let late = links.register(host, second).await.unwrap();
        assert!(late.link.is_replaced());
        assert!(!links.unregister(late).await);
        assert!(links.online().await.is_empty());
        stop.cancel();
        actor.await.unwrap();
        assert!(links.register(host, links.begin()).await.is_none());
        links.wake(host).await;
    }
}
