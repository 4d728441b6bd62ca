//! The yardstick of the fleet: an axum server that takes WebSockets over TLS and does nothing with
//! them but know who is there.
#![expect(clippy::print_stdout, reason = "its address is what it says")]

use anyhow::Result;
use axum::{
    Router,
    extract::{
        State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    response::Response,
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use jiff::Timestamp;
use protocol::{HostId, Incarnation, ManagerIdentity, PROTOCOL_VERSION, ToAgent, Welcome};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::json;
use std::{
    collections::HashMap,
    fs,
    path::Path,
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_rustls::TlsAcceptor;

/// As the manager has it: the one setting that makes the difference.
const READ_BUFFER_BYTES: usize = 4096;

#[derive(Clone, Default)]
struct Known {
    next: Arc<AtomicU64>,
    here: Arc<Mutex<HashMap<u64, mpsc::Sender<String>>>>,
}

/// Serves until it is killed. Its certificate goes into the folder; where it listens it prints.
pub(crate) async fn serve(folder: &Path) -> Result<ExitCode> {
    let key = rcgen::KeyPair::generate()?;
    let name = server::identity::MANAGER_NAME.to_owned();
    let cert = rcgen::CertificateParams::new(vec![name])?.self_signed(&key)?;
    fs::write(folder.join("bare.pem"), cert.pem())?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let router = Router::new().route("/agent/connect", get(connect)).with_state(Known::default());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", json!({ "ready": true, "address": listener.local_addr()? }));
    loop {
        let (stream, _) = listener.accept().await?;
        let (acceptor, router) = (acceptor.clone(), router.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = TowerToHyperService::new(router);
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // How it ends is of no interest.
            let _ = connection.with_upgrades().await;
        });
    }
}

async fn connect(State(known): State<Known>, upgrade: WebSocketUpgrade) -> Response {
    let upgrade = upgrade.read_buffer_size(READ_BUFFER_BYTES);
    upgrade.on_upgrade(move |socket| async move {
        let number = known.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel(16);
        known.here.lock().unwrap_or_else(PoisonError::into_inner).insert(number, sender);
        let _ = hold(socket, receiver).await;
        known.here.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    })
}

/// Welcomes whoever speaks first, and from then on listens only.
async fn hold(mut socket: WebSocket, mut orders: mpsc::Receiver<String>) -> Result<()> {
    let mut is_welcome = false;
    loop {
        tokio::select! {
            message = socket.recv() => match message {
                Some(Ok(Message::Text(_))) if !is_welcome => {
                    is_welcome = true;
                    socket.send(Message::text(welcome()?)).await?;
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Ok(()),
            },
            Some(order) = orders.recv() => socket.send(Message::text(order)).await?,
        }
    }
}

fn welcome() -> Result<String> {
    let manager = ManagerIdentity { incarnation: Incarnation::new(1, &[1; 10]), epoch: 1 };
    let welcome = Welcome {
        protocol_version: PROTOCOL_VERSION,
        host_id: HostId::new(1, &[1; 10]),
        manager,
        cursor: None,
        renew_journal: None,
        ticket: None,
        hold: None,
        server_time: Timestamp::now(),
    };
    Ok(ToAgent::Welcome(Box::new(welcome)).encode()?.encode()?)
}
