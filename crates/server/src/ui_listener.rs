//! The listener of the admin's interface: HTTPS with a certificate of its own, the guard of
//! [`auth::network`](crate::auth::network) before pages and API. The desktop app has none.

pub mod certificate;
pub mod pages;

use crate::{
    api::{streams::Closing, ui_router},
    auth::network::Network,
    db::{error::DbError, manager as rows},
    manager::Manager,
    server::machine_name,
    write_deadline::WriteDeadline,
};
use axum::{Extension, Router, extract::ConnectInfo};
use certificate::{Certificate, CertificateError, HTTP2};
use hyper::{
    rt::Executor,
    server::conn::{http1, http2},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use pages::{Pages, PagesError};
use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long a TLS handshake may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// How long a request's head may take, and how long a connection may idle between two.
const HEAD_WITHIN: Duration = Duration::from_secs(60);
/// How long a client may take nothing at all of what it asked for.
const TAKE_WITHIN: Duration = Duration::from_secs(30);
/// How often a silent HTTP/2 connection is asked whether its client is still there.
const ASK_EVERY: Duration = Duration::from_secs(30);
/// Requests at once on one HTTP/2 connection: many pages of one browser.
const STREAMS: u32 = 100;
/// The largest head of a request over HTTP/2.
const HEAD_BYTES: u32 = 64 * 1024;
/// Connections at once. An admin's browser has a handful.
const CONNECTIONS: usize = 256;
/// How long to wait after the system had no file handle for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What the listener is told.
#[derive(Clone, Debug)]
pub struct UiConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Further names by which it may be asked, `name` or `name:port`.
    pub hosts: Vec<String>,
    /// The folder of the pages; where an installation puts them when absent.
    pub pages: Option<PathBuf>,
}

/// Why the listener did not start.
#[derive(Debug, Error)]
pub enum UiError {
    /// Anyone on the network could be the first.
    #[error(
        "{0} can be reached from other machines, but no password is set; set one first \
         (restic-manager-headless password), or listen on 127.0.0.1"
    )]
    NoPassword(SocketAddr),
    /// The database failed.
    #[error("failed to read whether a password is set")]
    Db(#[from] DbError),
    /// The address cannot be had.
    #[error("failed to listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no certificate.
    #[error("failed to prepare the interface's certificate")]
    Certificate(#[from] CertificateError),
    /// The pages cannot be had.
    #[error("failed to prepare the interface's pages")]
    Pages(#[from] PagesError),
}

/// A running listener.
#[derive(Debug)]
pub struct UiHandle {
    address: SocketAddr,
    has_pages: bool,
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
}

impl UiHandle {
    /// Where it listens, with the port that the system chose.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it hands out pages, and not only the API.
    #[must_use]
    pub fn has_pages(&self) -> bool {
        self.has_pages
    }

    /// Stops: ends the streams, lets requests finish within the deadline, and drops the rest.
    pub async fn shutdown(self, deadline: Duration) {
        self.soft.cancel();
        self.tasks.close();
        if tokio::time::timeout(deadline, self.tasks.wait()).await.is_err() {
            self.hard.cancel();
            self.tasks.wait().await;
        }
    }
}

/// Starts the listener. Its certificate is kept in this folder.
///
/// # Errors
/// When it can be reached from other machines and no password is set, or a part cannot be had.
pub async fn start(
    manager: Manager,
    data_dir: &Path,
    config: &UiConfig,
) -> Result<UiHandle, UiError> {
    let has_password = rows::password_hash(manager.db().read()).await?.is_some();
    if !config.listen.ip().is_loopback() && !has_password {
        return Err(UiError::NoPassword(config.listen));
    }
    let listen = |source| UiError::Listen { address: config.listen, source };
    let pages = match &config.pages {
        Some(folder) => Pages::read(folder)?,
        None => Pages::installed()?,
    };
    let names = names(config.listen, &config.hosts);
    let certificate = Certificate::ensure(data_dir, names, manager.vault(), manager.now())?;
    let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let handle = UiHandle {
        address,
        has_pages: !pages.is_empty(),
        soft: CancellationToken::new(),
        hard: CancellationToken::new(),
        tasks: TaskTracker::new(),
    };
    let network = Network::new(manager.clone(), hosts(address, &config.hosts));
    let api = ui_router(manager.clone()).layer(Extension(Closing(handle.soft.clone())));
    let serving = Arc::new(Serving {
        manager,
        router: pages::strict(network.guard(pages.beside(api))),
        soft: handle.soft.clone(),
        hard: handle.hard.clone(),
        tasks: handle.tasks.clone(),
    });
    handle.tasks.spawn(async move { serving.accept_all(listener, certificate).await });
    Ok(handle)
}

/// The hosts by which a browser may ask: this address, and the names it was told.
fn hosts(address: SocketAddr, more: &[String]) -> BTreeSet<String> {
    let port = address.port();
    let mut hosts = BTreeSet::from([address.to_string()]);
    let mut names: Vec<String> = more.to_vec();
    if address.ip().is_loopback() || address.ip().is_unspecified() {
        names.extend(["localhost", "127.0.0.1", "[::1]"].map(str::to_owned));
    }
    for name in names {
        let has_port = name.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if has_port {
            hosts.insert(name);
            continue;
        }
        if port == 443 {
            hosts.insert(name.clone());
        }
        hosts.insert(format!("{name}:{port}"));
    }
    hosts
}

/// The names in the certificate: those by which it may be asked, and what this machine is called.
fn names(listen: SocketAddr, hosts: &[String]) -> BTreeSet<String> {
    let mut names = BTreeSet::from(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    if !listen.ip().is_unspecified() {
        names.insert(listen.ip().to_string());
    }
    let told = hosts.iter().map(|host| match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        Some(_) | None => host,
    });
    let told = told.map(|name| name.trim_start_matches('[').trim_end_matches(']'));
    for name in told.chain(machine_name().as_deref()) {
        // A name that no certificate can hold must not keep the server from starting.
        let is_usable = name.is_ascii() && !name.is_empty() && !name.contains(char::is_whitespace);
        if is_usable {
            names.insert(name.to_ascii_lowercase());
        }
    }
    names
}

struct Serving {
    manager: Manager,
    router: Router,
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: TaskTracker,
}

/// Runs what goes on beside an HTTP/2 connection, among the tasks that a shutdown waits for.
#[derive(Clone)]
struct Beside {
    tasks: TaskTracker,
    hard: CancellationToken,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Beside {
    fn execute(&self, future: F) {
        let hard = self.hard.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = future => {}
                () = hard.cancelled() => {}
            }
        });
    }
}

/// Drives a connection to its end, gracefully once the listener stops.
macro_rules! drive {
    ($connection:expr, $soft:expr) => {
        let mut connection = pin!($connection);
        tokio::select! {
            _ = connection.as_mut() => return,
            () = $soft.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    };
}

impl Serving {
    async fn accept_all(self: Arc<Self>, listener: TcpListener, mut certificate: Certificate) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                accepted = accept(&listener, &places) => accepted,
                () = self.soft.cancelled() => return,
            };
            let Some((stream, peer, place)) = accepted else { continue };
            let tls = certificate.tls(self.manager.vault(), self.manager.now());
            let serving = Arc::clone(&self);
            self.tasks.spawn(async move {
                let hard = serving.hard.clone();
                tokio::select! {
                    () = serving.serve(stream, peer, tls.into()) => {}
                    () = hard.cancelled() => {}
                }
                drop(place);
            });
        }
    }

    async fn serve(&self, stream: TcpStream, peer: SocketAddr, tls: TlsAcceptor) {
        let _ = stream.set_nodelay(true);
        let handshake = tokio::time::timeout(HANDSHAKE_WITHIN, tls.accept(stream));
        let stream = match handshake.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "A TLS handshake failed");
                return;
            }
            Err(_) => return,
        };
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP2);
        let stream = TokioIo::new(WriteDeadline::new(stream, TAKE_WITHIN));
        let router = self.router.clone().layer(Extension(ConnectInfo(peer)));
        let service = TowerToHyperService::new(router);
        if is_http2 {
            let beside = Beside { tasks: self.tasks.clone(), hard: self.hard.clone() };
            let mut builder = http2::Builder::new(beside);
            builder
                .timer(TokioTimer::new())
                .keep_alive_interval(ASK_EVERY)
                .max_concurrent_streams(STREAMS)
                .max_header_list_size(HEAD_BYTES);
            drive!(builder.serve_connection(stream, service), self.soft);
            return;
        }
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .serve_connection(stream, service);
        drive!(connection, self.soft);
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, place)),
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "Failed to accept a connection"
            );
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

#[cfg(test)]
mod tests;
