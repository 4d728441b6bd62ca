//! The yardsticks of connected machines: axum servers that take WebSockets over TLS, and do as little
//! with them as each bench says.
#![expect(clippy::print_stdout, reason = "its address is what it says")]

use anyhow::{Context as _, Result, ensure};
use axum::{
    Router,
    extract::{
        State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    response::Response,
    routing::get,
};
use clap::ValueEnum;
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use jiff::Timestamp;
use protocol::{HostId, Incarnation, ManagerIdentity, PROTOCOL_VERSION, ToAgent, Welcome};
use rustls::{
    DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    fs,
    path::Path,
    process::{Command, ExitCode},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use testkit::{fleet::text, manager::Ready, process::Process, wait_for};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_rustls::TlsAcceptor;

/// As the manager has it: the one setting that makes the difference.
const READ_BUFFER_BYTES: usize = 4096;

/// What is done with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Yardstick {
    /// It is held, and who is there is known.
    Hold,
    /// Every message is read as JSON, written again and sent back. Clients show certificates.
    Echo,
    /// It is taken, and nothing else. Clients show certificates.
    Take,
}

/// A running yardstick. Dropped, it is killed.
pub(crate) struct Bare {
    process: Process,
    /// What machines need to reach it.
    pub ready: Ready,
}

impl Bare {
    /// Starts one in a process of its own.
    pub(crate) async fn start(root: &Path, yardstick: Yardstick) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let word = yardstick.to_possible_value().context("a yardstick without a word")?;
        command.args(["--tools", "none", "--table", "none", "--bare", word.get_name(), "--root"]);
        command.arg(root);
        let log = root.join("bare.log");
        if log.exists() {
            fs::remove_file(log)?;
        }
        let mut process = Process::spawn("bare", command, root, "")?;
        let ready = wait_for("the bare server to be ready", async || {
            ensure!(process.is_running()?, "the bare server ended:\n{}", process.printed());
            Ok(serde_json::from_str::<Value>(process.printed().trim()).ok())
        })
        .await?;
        let ready = Ready {
            agent: text(&ready, "address")?,
            ca_pem: fs::read_to_string(root.join("bare.pem"))?,
            ..Ready::default()
        };
        Ok(Self { process, ready })
    }

    /// The id of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Ends it. It holds nothing that could be lost.
    pub(crate) async fn end(self) -> Result<()> {
        self.process.kill_9().await
    }
}

#[derive(Clone, Default)]
struct Known {
    next: Arc<AtomicU64>,
    here: Arc<Mutex<HashMap<u64, mpsc::Sender<String>>>>,
}

/// Serves until it is killed. Its certificate goes into the folder; where it listens it prints.
pub(crate) async fn serve(folder: &Path, yardstick: Yardstick) -> Result<ExitCode> {
    let key = rcgen::KeyPair::generate()?;
    let name = server::identity::MANAGER_NAME.to_owned();
    let cert = rcgen::CertificateParams::new(vec![name])?.self_signed(&key)?;
    fs::write(folder.join("bare.pem"), cert.pem())?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let config = match yardstick {
        Yardstick::Hold => config.with_no_client_auth(),
        Yardstick::Echo | Yardstick::Take => {
            config.with_client_cert_verifier(Arc::new(AnyKey(provider)))
        }
    };
    let mut config = config.with_single_cert(vec![cert.der().clone()], key)?;
    if yardstick != Yardstick::Hold {
        // As the manager has it: nobody resumes.
        config.send_tls13_tickets = 0;
    }
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let connect = match yardstick {
        Yardstick::Hold => get(hold),
        Yardstick::Echo => get(echo),
        Yardstick::Take => get(take),
    };
    let router = Router::new().route("/agent/connect", connect).with_state(Known::default());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", json!({ "ready": true, "address": listener.local_addr()? }));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
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

async fn take(upgrade: WebSocketUpgrade) -> Response {
    let upgrade = upgrade.read_buffer_size(READ_BUFFER_BYTES);
    upgrade.on_upgrade(async |mut socket| while let Some(Ok(_)) = socket.recv().await {})
}

async fn echo(upgrade: WebSocketUpgrade) -> Response {
    let upgrade = upgrade.read_buffer_size(READ_BUFFER_BYTES);
    upgrade.on_upgrade(async |mut socket| {
        while let Some(Ok(message)) = socket.recv().await {
            let Message::Text(text) = message else { continue };
            let Ok(value) = serde_json::from_str::<Value>(&text) else { return };
            if socket.send(Message::text(value.to_string())).await.is_err() {
                return;
            }
        }
    })
}

async fn hold(State(known): State<Known>, upgrade: WebSocketUpgrade) -> Response {
    let upgrade = upgrade.read_buffer_size(READ_BUFFER_BYTES);
    upgrade.on_upgrade(move |socket| async move {
        let number = known.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel(16);
        known.here.lock().unwrap_or_else(PoisonError::into_inner).insert(number, sender);
        let _ = listen(socket, receiver).await;
        known.here.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    })
}

/// Welcomes whoever speaks first, and from then on listens only.
async fn listen(mut socket: WebSocket, mut orders: mpsc::Receiver<String>) -> Result<()> {
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

/// Takes every key, as the manager does: whose it is comes later.
#[derive(Debug)]
struct AnyKey(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
