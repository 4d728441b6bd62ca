//! The listener that agents dial. Nothing but the agents' own routes answers here, over TLS 1.3
//! with the agent's key; the admin's interface is on another listener or on none.
//!
//! restic reaches the store here too, through its agent, under the name `localhost`. It brings no key
//! and shows a password instead, makes many requests on one connection, and moves much: so the name in
//! the TLS handshake decides which of the two kinds a connection is.

mod announce;
mod connect;
mod enrol;
mod places;
mod programs;
mod rate;
mod store;
mod tls;

use crate::{manager::Manager, session::socket::Shared, write_deadline::WriteDeadline};
use axum::{
    Json, Router,
    http::{HeaderValue, Request, StatusCode, header::CONNECTION},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use places::Places;
use protocol::{Code, HostId, Problem, RepositoryId};
use rate::Attempts;
use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use store::Known;
use tls::Fingerprint;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long a TLS handshake may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// How long a request's head may take.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// Connections that have not said who they are, at once. More wait in the kernel's queue.
const STRANGERS: usize = 256;
/// The smallest buffer that hyper accepts: heads here are short.
const HTTP_BUFFER_BYTES: usize = 8 * 1024;
/// The name under which restic dials: an agent passes its connections through.
const STORE_NAME: &str = "localhost";
/// What a connection to the store may buffer: uploads come in such pieces.
const STORE_BUFFER_BYTES: usize = 64 * 1024;
/// How long such a connection may wait for its next request. restic itself ends it after 90 s.
const STORE_IDLE: Duration = Duration::from_secs(120);
/// Connections to the store at once, of hosts that have shown their password. restic has five at most.
const STORE_CONNECTIONS: usize = 1024;
/// Of these, for one repository. A restic has five at most, and several may work at once.
const STORE_CONNECTIONS_OF_REPOSITORY: usize = 256;
/// How long a client of the store may take nothing of what it has asked for.
const STORE_TAKE_WITHIN: Duration = Duration::from_mins(5);
/// WebSockets of one host at once. An honest agent has one, and for some seconds what is left of those
/// that broke.
const SOCKETS_OF_HOST: usize = 16;
/// How long a connection to the store may go on without showing a password.
const KNOWN_WITHIN: Duration = Duration::from_secs(15);
/// How long to wait after the system had no file handle for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// From where it dialled.
    address: SocketAddr,
    /// The SHA-256 of its key's SPKI, if it showed one.
    key: Option<Fingerprint>,
}

/// What the agent routes share.
#[derive(Clone, Debug)]
pub(crate) struct AgentState {
    shared: Shared,
    /// Wrong tokens.
    attempts: Attempts,
    /// Announcements.
    announced: Attempts,
    sockets: Places<HostId>,
    /// Upgraded connections live on as their own tasks.
    tasks: TaskTracker,
    hard: CancellationToken,
}

impl AgentState {
    fn manager(&self) -> &Manager {
        &self.shared.manager
    }
}

/// What agents ask for. The store's routes are there under the store's name only.
fn agent_routes() -> Router<AgentState> {
    Router::new()
        .route("/agent/enrol", post(enrol::enrol))
        .route("/agent/announce", post(announce::announce))
        .route("/agent/announce/{id}/reveal", post(announce::reveal))
        .route("/agent/announce/{id}/confirm", post(announce::confirm))
        .route("/agent/programs/{system}/{processor}/{program}", post(programs::hand_out))
        .route("/agent/connect", get(connect::connect))
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .layer(map_response(one_request))
}

/// One request a connection, and after it an upgrade or the end: whoever has no more to say holds
/// no place. (hyper's own switch for this takes the upgrade's header away too.)
async fn one_request(mut response: Response) -> Response {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn not_found() -> Refusal {
    Refusal(StatusCode::NOT_FOUND, Problem::new(Code::NotFound, "There is nothing here."))
}

/// A refusal over HTTP: a status and a problem as JSON.
#[derive(Debug)]
struct Refusal(StatusCode, Problem);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

/// A connection whose TLS handshake is done.
type Stream = TlsStream<TcpStream>;

/// The listener with everything it needs.
pub(crate) struct AgentListener {
    pub listener: TcpListener,
    pub shared: Shared,
    pub tasks: TaskTracker,
    /// Ends connections that do not end by themselves.
    pub hard: CancellationToken,
}

impl AgentListener {
    /// Accepts connections until the shared token is cancelled.
    pub async fn run(self) -> Result<(), rustls::Error> {
        let config = tls::server_config(self.shared.manager.identity())?;
        let state = AgentState {
            shared: self.shared.clone(),
            attempts: Attempts::default(),
            announced: Attempts::default(),
            sockets: Places::new(SOCKETS_OF_HOST),
            tasks: self.tasks.clone(),
            hard: self.hard.clone(),
        };
        let server = Arc::new(Serving {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            agents: agent_routes().with_state(state.clone()),
            store: store::routes().merge(agent_routes()).with_state(state),
            store_places: Arc::new(Semaphore::new(STORE_CONNECTIONS)),
            places_of_repositories: Places::new(STORE_CONNECTIONS_OF_REPOSITORY),
            stop: self.shared.stop.clone(),
            hard: self.hard,
        });
        let strangers = Arc::new(Semaphore::new(STRANGERS));
        loop {
            let next = accept(&self.listener, &strangers);
            let accepted = tokio::select! {
                accepted = next => accepted,
                () = self.shared.stop.cancelled() => return Ok(()),
            };
            let Some((stream, address, place)) = accepted else { continue };
            let server = Arc::clone(&server);
            self.tasks.spawn(async move { server.serve(stream, address, place).await });
        }
    }
}

async fn accept(
    listener: &TcpListener,
    strangers: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(strangers).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, address)) => Some((stream, address, place)),
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "failed to accept a connection"
            );
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

struct Serving {
    acceptor: TlsAcceptor,
    agents: Router,
    store: Router,
    store_places: Arc<Semaphore>,
    places_of_repositories: Places<RepositoryId>,
    stop: CancellationToken,
    hard: CancellationToken,
}

impl Serving {
    async fn serve(&self, stream: TcpStream, address: SocketAddr, place: OwnedSemaphorePermit) {
        tokio::select! {
            () = self.serve_one(stream, address, place) => {}
            () = self.hard.cancelled() => {}
        }
    }

    async fn serve_one(&self, stream: TcpStream, address: SocketAddr, place: OwnedSemaphorePermit) {
        let _ = stream.set_nodelay(true);
        let handshake = tokio::time::timeout(HANDSHAKE_WITHIN, self.acceptor.accept(stream));
        let stream = match handshake.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "a TLS handshake failed");
                return;
            }
            Err(_) => return,
        };
        let session = stream.get_ref().1;
        let peer = Peer { address, key: tls::peer_key(session) };
        if session.server_name() == Some(STORE_NAME) {
            self.serve_store(stream, peer, place).await;
        } else {
            self.serve_agent(stream, peer, place).await;
        }
    }

    async fn serve_agent(&self, stream: Stream, peer: Peer, place: OwnedSemaphorePermit) {
        // Not as a layer: that would make all routes anew for each connection.
        let router = TowerToHyperService::new(self.agents.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            router.call(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .max_buf_size(HTTP_BUFFER_BYTES)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        // With the upgrade the connection becomes a task of its own, and this place is free.
        tokio::select! {
            _ = connection => {}
            () = self.stop.cancelled() => {}
        }
        drop(place);
    }

    /// A connection keeps a stranger's place until somebody on it has shown a password, and ends when
    /// nobody does, and when the host that did is revoked. When the server stops, what is being answered
    /// is answered to its end.
    async fn serve_store(&self, stream: Stream, peer: Peer, place: OwnedSemaphorePermit) {
        let known = Known::default();
        let extensions = (axum::Extension(peer), axum::Extension(known.clone()));
        let router = self.store.clone().layer(extensions);
        let stream = TokioIo::new(WriteDeadline::new(stream, STORE_TAKE_WITHIN));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(STORE_IDLE)
            .max_buf_size(STORE_BUFFER_BYTES)
            .serve_connection(stream, TowerToHyperService::new(router))
            .with_upgrades();
        let mut connection = pin!(connection);
        let guest = tokio::select! {
            _ = connection.as_mut() => return,
            guest = known.wait() => guest,
            () = tokio::time::sleep(KNOWN_WITHIN) => return,
            () = self.stop.cancelled() => return,
        };
        let Ok(_place) = Arc::clone(&self.store_places).try_acquire_owned() else { return };
        let places = &self.places_of_repositories;
        let of_repository = guest.repository.map(|repository| places.take(repository));
        if matches!(of_repository, Some(None)) {
            return;
        }
        drop(place);
        tokio::select! {
            _ = connection.as_mut() => return,
            () = guest.cut.cancelled() => return,
            () = self.stop.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}
