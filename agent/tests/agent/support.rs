//! A manager in miniature: real TLS and a real WebSocket, and a test decides what it says.

pub mod restic;

use agent::{
    daemon::{Daemon, Options},
    enrol::{EnrolOptions, enrol},
    helper::Helpers,
    identity::{Enrolment, Settings},
    join::Joining,
    paths::StateDir,
    status::{self, Status},
    tls::{MANAGER_NAME, ManagerKey, ROOT_NAME},
};
use futures_util::{SinkExt, StreamExt};
use protocol::{
    CommandCancel, CommandGo, CommandNumber, CommandRun, ConfigUpdate, Cursor, EnrolRequest,
    EnrolResponse, Frame, FromAgent, Generation, Hello, HostId, Incarnation, JobFinished, JobKind,
    JobStarted, JournalAck, ManagerIdentity, PROTOCOL_VERSION, PlanId, RepositoryConfig,
    RepositoryId, RunId, RunSpec, Schedule, ScheduleSet, Secret, ToAgent, Welcome,
    journal::ChainHash,
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData,
};
use rustls::{
    DigitallySignedStruct, DistinguishedName as TlsName, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::ring,
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use schedule::{Clock, SystemClock};
use serde_json::Value;
use std::{path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_tungstenite::{WebSocketStream, accept_async, tungstenite::Message};
use tokio_util::sync::CancellationToken;

/// No test waits longer for one thing to happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A root key, and the certificates that it signs.
pub struct Authority {
    key: KeyPair,
    params: CertificateParams,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, ROOT_NAME);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { key, params }
    }

    pub fn manager_key(&self) -> ManagerKey {
        ManagerKey::from_bytes(self.key.der_bytes().try_into().unwrap())
    }

    fn server_config(&self, names: Vec<String>) -> Arc<ServerConfig> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let root = self.params.clone().self_signed(&self.key).unwrap();
        let issuer = Issuer::new(self.params.clone(), &self.key);
        let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        let chain = vec![leaf.der().clone(), root.der().clone()];
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(Arc::new(AnyClient))
            .with_single_cert(chain, private)
            .unwrap();
        Arc::new(config)
    }
}

#[derive(Debug)]
struct AnyClient;

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[TlsName] {
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
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let provider = ring::default_provider();
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            dss,
            &provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let provider = ring::default_provider();
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            dss,
            &provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// The manager.
pub struct FakeManager {
    listener: TcpListener,
    config: Arc<ServerConfig>,
    pub key: ManagerKey,
    pub host_id: HostId,
    pub identity: ManagerIdentity,
}

impl FakeManager {
    pub async fn start(authority: &Authority) -> Self {
        Self::with_epoch(authority, 1).await
    }

    pub async fn with_epoch(authority: &Authority, epoch: u64) -> Self {
        let names = vec![MANAGER_NAME.to_owned(), format!("epoch-{epoch}.restic-manager.internal")];
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            config: authority.server_config(names),
            key: authority.manager_key(),
            host_id: HostId::new(1, &[1; 10]),
            identity: ManagerIdentity { incarnation: Incarnation::new(1, &[9; 10]), epoch },
        }
    }

    pub fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// The next TLS connection; `None` when the handshake fails.
    pub async fn accept_tls(&self) -> Option<TlsStream<TcpStream>> {
        let (tcp, _) = timeout(PATIENCE, self.listener.accept()).await.unwrap().unwrap();
        TlsAcceptor::from(self.config.clone()).accept(tcp).await.ok()
    }

    /// Answers one enrolment, and gives back what was asked.
    pub async fn answer_enrolment(&self, status: &str, answer: &Value) -> EnrolRequest {
        serde_json::from_value(self.answer(status, answer).await.1).unwrap()
    }

    /// Answers one request, and gives back its first line and its body.
    pub async fn answer(&self, status: &str, answer: &Value) -> (String, Value) {
        let (mut first, mut stream) =
            (None, self.accept_tls().await.expect("the handshake failed"));
        let mut stream = BufReader::new(&mut stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
            first.get_or_insert(line);
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let text = answer.to_string();
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            text.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        (first.unwrap(), serde_json::from_slice(&body).unwrap())
    }

    /// From now on it has the keys of another authority.
    pub fn becomes(&mut self, authority: &Authority) {
        self.config = authority.server_config(vec![MANAGER_NAME.to_owned()]);
    }

    pub fn welcome_to_the_fleet(&self) -> Value {
        serde_json::to_value(EnrolResponse {
            host_id: self.host_id,
            manager: self.identity,
            addresses: vec![self.address()],
        })
        .unwrap()
    }

    /// Enrols an agent in this state folder.
    pub async fn enrol(&self, state: &StateDir) -> Enrolment {
        let answer = self.welcome_to_the_fleet();
        let (_, enrolled) = tokio::join!(
            self.answer_enrolment("200 OK", &answer),
            enrol(self.enrol_options(state), SystemClock.now())
        );
        enrolled.unwrap()
    }

    pub fn enrol_options(&self, state: &StateDir) -> EnrolOptions {
        EnrolOptions {
            joining: self.joining(state),
            manager_key: self.key,
            token: Secret::new("canary-token".to_owned()),
        }
    }

    pub fn joining(&self, state: &StateDir) -> Joining {
        Joining {
            state: state.clone(),
            addresses: vec![self.address()],
            hostname: "web-1".to_owned(),
            config: state.path().to_owned(),
            restore_root: None,
            again: false,
        }
    }

    /// The next session, up to and including its `hello`.
    pub async fn accept(&self) -> Session {
        let stream = self.accept_tls().await.expect("the handshake failed");
        let socket = accept_async(stream).await.unwrap();
        let mut session = Session { socket, hello: None, acked: 0, last: None };
        let (_, first) = session.next().await;
        let FromAgent::Hello(hello) = first else { panic!("no hello: {first:?}") };
        session.hello = Some(*hello);
        session
    }

    /// A welcome without anything special.
    pub fn welcome(&self) -> Welcome {
        Welcome {
            protocol_version: PROTOCOL_VERSION,
            host_id: self.host_id,
            manager: self.identity,
            cursor: None,
            renew_journal: None,
            ticket: Some(Secret::new("ticket".to_owned())),
            hold: None,
            server_time: SystemClock.now(),
        }
    }

    /// The next session, welcomed with everything acknowledged that the agent had.
    pub async fn session(&self) -> Session {
        let mut session = self.accept().await;
        let journal = session.hello().journal.clone().unwrap();
        let cursor =
            Cursor { journal_id: journal.id, seq: journal.first - 1, hash: journal.base_hash };
        session
            .send(ToAgent::Welcome(Box::new(Welcome { cursor: Some(cursor), ..self.welcome() })))
            .await;
        session
    }

    pub fn number(&self, n: u64) -> CommandNumber {
        CommandNumber { incarnation: self.identity.incarnation, n }
    }
}

/// One connection of an agent.
pub struct Session {
    socket: WebSocketStream<TlsStream<TcpStream>>,
    hello: Option<Hello>,
    pub acked: u64,
    last: Option<(u64, ChainHash)>,
}

impl Session {
    pub fn hello(&self) -> &Hello {
        self.hello.as_ref().unwrap()
    }

    pub async fn close(mut self) {
        let _ = self.socket.close(None).await;
    }

    pub async fn send(&mut self, what: ToAgent) {
        self.send_frame(what.encode().unwrap()).await;
    }

    pub async fn send_frame(&mut self, frame: Frame) {
        self.send_text(frame.encode().unwrap()).await;
    }

    pub async fn send_text(&mut self, text: String) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The next frame. Durable ones are checked to be chained, and acknowledged.
    pub async fn next(&mut self) -> (Frame, FromAgent) {
        let frame = timeout(PATIENCE, self.next_frame())
            .await
            .expect("the agent said nothing")
            .expect("the agent went away");
        let what = FromAgent::decode(&frame).unwrap();
        if let (Some(seq), Some(hash)) = (frame.seq, frame.hash) {
            if let Some((last_seq, last_hash)) = self.last {
                assert_eq!(seq, last_seq + 1, "the journal has a hole");
                assert_eq!(hash, last_hash.next(seq, &frame.kind, frame.payload.get()));
            }
            self.last = Some((seq, hash));
            self.acked = seq;
            let mut ack = ToAgent::JournalAck(JournalAck {}).encode().unwrap();
            ack.ack = Some(seq);
            let _ = self.socket.send(Message::text(ack.encode().unwrap())).await;
        }
        (frame, what)
    }

    /// The next frame, or none when the connection has ended.
    pub async fn next_frame(&mut self) -> Option<Frame> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Some(Frame::decode(&text).unwrap()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// Goes on until something fits.
    pub async fn until<T>(&mut self, mut fits: impl FnMut(FromAgent) -> Option<T>) -> T {
        loop {
            let (_, what) = self.next().await;
            if let Some(found) = fits(what) {
                return found;
            }
        }
    }

    pub async fn until_started(&mut self, run: RunId) -> JobStarted {
        self.until(|what| match what {
            FromAgent::JobStarted(started) if started.job_id == run => Some(started),
            _ => None,
        })
        .await
    }

    pub async fn until_finished(&mut self, run: RunId) -> JobFinished {
        self.until(|what| match what {
            FromAgent::JobFinished(finished) if finished.job_id == run => Some(*finished),
            _ => None,
        })
        .await
    }

    pub async fn until_answered(&mut self, run: RunId) -> protocol::CommandResult {
        self.until(|what| match what {
            FromAgent::CommandResult(answer) if answer.job_id == run => Some(answer),
            _ => None,
        })
        .await
    }

    /// Sends a command and its go.
    pub async fn run(&mut self, run: RunId, number: CommandNumber, spec: RunSpec) {
        self.command(run, number, spec).await;
        let answer = self.until_answered(run).await;
        assert!(answer.accepted, "{answer:?}");
        self.go(run).await;
    }

    pub async fn command(&mut self, job_id: RunId, number: CommandNumber, spec: RunSpec) {
        let command = CommandRun {
            job_id,
            spec,
            args: Vec::new(),
            number: Some(number),
            expires_at: None,
            signature: None,
        };
        self.send(ToAgent::CommandRun(Box::new(command))).await;
    }

    pub async fn go(&mut self, job_id: RunId) {
        self.send(ToAgent::CommandGo(CommandGo { job_id })).await;
    }

    pub async fn cancel(&mut self, cancel: CommandCancel) {
        self.send(ToAgent::CommandCancel(cancel)).await;
    }

    /// Sends a desired state with one plan and one repository, and waits until it is in force.
    pub async fn desire(
        &mut self,
        manager: &FakeManager,
        n: u64,
        repository: &Path,
        source: &Path,
    ) {
        self.desire_at(manager, n, repository, source, Vec::new()).await;
    }

    /// The same, with the addresses where the manager says that it can be dialled.
    pub async fn desire_at(
        &mut self,
        manager: &FakeManager,
        n: u64,
        repository: &Path,
        source: &Path,
        addresses: Vec<String>,
    ) {
        self.desire_plan(manager, n, repository, plan(source), addresses).await;
    }

    /// The same, with a plan of the test's own.
    pub async fn desire_plan(
        &mut self,
        manager: &FakeManager,
        n: u64,
        repository: &Path,
        plan: Schedule,
        addresses: Vec<String>,
    ) {
        let generation = Generation { incarnation: manager.identity.incarnation, n };
        let config = ConfigUpdate {
            generation: Some(generation),
            repositories: Some(vec![RepositoryConfig {
                id: repository_id(),
                name: "store".to_owned(),
                url: repository.display().to_string(),
                username: None,
                credential: None,
                password: Secret::new("canary-password".to_owned()),
                ca_pem: None,
            }]),
            addresses,
            ..ConfigUpdate::default()
        };
        let set = ScheduleSet {
            version: 1,
            schedules: vec![plan],
            generation: Some(generation),
            digest: Some("digest".to_owned()),
        };
        self.send(ToAgent::ConfigUpdate(Box::new(config))).await;
        self.send(ToAgent::ScheduleSet(set)).await;
        self.until(|what| match what {
            FromAgent::ScheduleAck(ack) if ack.generation == Some(generation) => Some(()),
            _ => None,
        })
        .await;
    }
}

pub fn repository_id() -> RepositoryId {
    RepositoryId::new(2, &[2; 10])
}

pub fn plan_id() -> PlanId {
    PlanId::new(3, &[3; 10])
}

pub fn run_id(n: u8) -> RunId {
    RunId::new(4, &[n; 10])
}

pub fn backup() -> RunSpec {
    RunSpec::Backup { schedule_id: Some(plan_id()) }
}

pub fn plan(source: &Path) -> Schedule {
    Schedule {
        id: plan_id(),
        kind: JobKind::Backup,
        cron_expr: String::new(),
        paths: vec![source.display().to_string()],
        excludes: Vec::new(),
        tags: vec!["daily".to_owned()],
        retention_policy: Some(serde_json::json!({ "keep_last": 3 })),
        options: None,
        pre_hook: String::new(),
        post_hook: String::new(),
        enabled: true,
        name: "home".to_owned(),
        repository_id: Some(repository_id()),
    }
}

/// A state folder, a repository, something to back up, and a restic that does what it is told.
pub struct Bench {
    pub base: tempfile::TempDir,
    pub state: StateDir,
    pub restic: restic::FakeRestic,
}

impl Bench {
    pub fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        let state = StateDir::new(base.path().join("state"));
        state.create().unwrap();
        std::fs::create_dir(base.path().join("source")).unwrap();
        std::fs::write(base.path().join("source/file"), "content").unwrap();
        let restic = restic::FakeRestic::new(&base.path().join("bin"));
        let settings = Settings {
            restic: Some(restic.path()),
            hooks_folder: Some(base.path().join("hooks.d")),
            policy_file: Some(base.path().join("policy.json")),
            ..Settings::default()
        };
        settings.save(state.path()).unwrap();
        Self { base, state, restic }
    }

    pub fn repository(&self) -> std::path::PathBuf {
        self.base.path().join("repository")
    }

    pub fn source(&self) -> std::path::PathBuf {
        self.base.path().join("source")
    }

    /// The agent's executable as a process of its own.
    pub fn spawn(&self, crash_at: Option<&str>) -> tokio::process::Child {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_restic-manager-agent"));
        command
            .args(["run", "--state-dir"])
            .arg(self.state.path())
            .env_remove("RESTIC_MANAGER_RESTIC")
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .kill_on_drop(true);
        if let Some(point) = crash_at {
            command.env(agent::points::VARIABLE, point);
        }
        command.spawn().unwrap()
    }

    /// The agent inside this process.
    pub async fn start(&self) -> Agent {
        self.start_by(Arc::new(SystemClock)).await
    }

    /// The same, by a clock of the test's own.
    pub async fn start_by(&self, clock: Arc<dyn Clock>) -> Agent {
        let daemon = Daemon::start(Options {
            state: self.state.clone(),
            clock,
            config: self.state.path().to_owned(),
            helpers: Helpers::Children {
                executable: env!("CARGO_BIN_EXE_restic-manager-agent").into(),
                state: self.state.clone(),
                config: self.state.path().to_owned(),
            },
        })
        .await
        .unwrap();
        let stop = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "the test waits for it in Agent::stop")]
        let task = tokio::spawn(daemon.run(stop.clone()));
        Agent { stop, task }
    }
}

/// Waits until the status says this. A process that another test starts may hold a copy of the
/// lock for a moment.
pub async fn status_when(state: &StateDir, fits: impl Fn(&Status) -> bool) -> Status {
    let waiting = async {
        loop {
            let status = status::gather(state, state.path()).await.unwrap();
            if fits(&status) {
                return status;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("the status never said it")
}

/// An agent that runs.
pub struct Agent {
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Agent {
    pub async fn stop(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }
}
