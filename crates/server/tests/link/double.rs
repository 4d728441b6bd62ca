//! A manager in a temporary folder, and an agent that is moved by hand.

use futures_util::{SinkExt, StreamExt};
use jiff::{SignedDuration, Timestamp};
use protocol::{
    CommandRun, Frame, FromAgent, Hello, HostArch, HostId, HostOs, JobFinished, JobKind,
    JobStarted, JobStatus, JournalId, JournalState, LogLine, LogStream, PROTOCOL_VERSION, PlanId,
    PlanOptions, Problem, ProtocolVersion, RepositoryId, RunId, RunSpec, Secret, SeenManager,
    TicketConfirm, ToAgent, TreeWant, Welcome,
    journal::{ChainHash, JournalElided},
};
use rcgen::PublicKeyData as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject,
};
use schedule::ManualClock;
use server::{
    db::{
        Db,
        enrolments::{self, Enrolment},
        hosts::{self, Host},
        notices::{self, Notice},
        plans::{self, Plan},
        repositories::{self, Repository, password_place},
        runs::{self, Dispatch, NewRun, Run},
    },
    desired,
    manager::Manager,
    server::{Config, Deps, Server, ServerHandle},
    vault::FileKeyStore,
};
use sha2::{Digest, Sha256};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, Message, client::IntoClientRequest, protocol::WebSocketConfig},
};

/// The longest that anything may take before a test calls it hung.
const HUNG: Duration = Duration::from_secs(30);

/// Waits, but not for ever.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(HUNG, future).await.expect("this should not take so long")
}

/// A running manager.
pub struct Fleet {
    pub dir: PathBuf,
    pub clock: Arc<ManualClock>,
    pub handle: Option<ServerHandle>,
    _temp: Option<tempfile::TempDir>,
}

impl Fleet {
    pub async fn start() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().to_owned();
        let clock = Arc::new(ManualClock::new("2026-11-23T12:00:00Z".parse().unwrap()));
        let mut fleet = Self { dir, clock, handle: None, _temp: Some(temp) };
        fleet.resume().await;
        fleet
    }

    /// Starts the manager on what lies in its folder.
    pub async fn resume(&mut self) {
        let config = Config {
            data_dir: self.dir.clone(),
            agent_listen: "127.0.0.1:0".parse().unwrap(),
            agent_addresses: vec!["manager.example.org:8443".to_owned()],
            programs: None,
            found_addresses: Vec::new(),
        };
        let key_store = Arc::new(FileKeyStore::new(self.dir.join("vault.key")));
        let clock = Arc::clone(&self.clock);
        self.handle = Some(Server::start(config, Deps { clock, key_store }).await.unwrap());
    }

    pub async fn stop(&mut self) {
        let handle = self.handle.take().unwrap();
        soon(handle.shutdown(Duration::from_secs(10))).await;
    }

    /// Keeps a copy of the manager's folder while it is stopped.
    pub async fn back_up(&mut self) -> tempfile::TempDir {
        self.stop().await;
        let copy = tempfile::tempdir().unwrap();
        copy_files(&self.dir, copy.path());
        self.resume().await;
        copy
    }

    /// Goes back to that copy.
    pub async fn restore(&mut self, copy: &tempfile::TempDir) {
        self.stop().await;
        for entry in std::fs::read_dir(&self.dir).unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
        copy_files(copy.path(), &self.dir);
        self.resume().await;
    }

    pub fn handle(&self) -> &ServerHandle {
        self.handle.as_ref().unwrap()
    }

    pub fn manager(&self) -> &Manager {
        self.handle().manager()
    }

    pub fn db(&self) -> &Db {
        self.manager().db()
    }

    pub fn advance(&self, by: SignedDuration) {
        self.clock.advance(by);
    }

    /// A token that lets a machine in.
    pub async fn token(&self, name: &str, plan_id: Option<PlanId>) -> (String, uuid::Uuid) {
        let token = format!("token-{name}");
        let now = self.manager().now();
        let enrolment = Enrolment {
            id: self.manager().new_id(),
            name: name.to_owned(),
            created_at: now,
            expires_at: now + SignedDuration::from_hours(1),
            used_at: None,
            host_id: None,
            withdrawn_at: None,
            plan_id,
        };
        let mut tx = self.db().begin().await.unwrap();
        let hash = Sha256::digest(token.as_bytes());
        enrolments::insert(&mut tx, &enrolment, &hash).await.unwrap();
        tx.commit().await.unwrap();
        (token, enrolment.id)
    }

    /// A plan and its repository.
    pub async fn plan(&self) -> (PlanId, RepositoryId) {
        let manager = self.manager();
        let (plan_id, repository_id): (PlanId, RepositoryId) = (manager.new_id(), manager.new_id());
        let now = manager.now();
        let place = password_place(repository_id);
        let repository = Repository {
            id: repository_id,
            name: format!("repository {repository_id}"),
            url: "rest:https://store.example.org/box".to_owned(),
            username: None,
            password_sealed: manager.vault().seal(&place, b"open sesame").unwrap(),
            credential_sealed: None,
            ca_pem: None,
            append_only: false,
            store_host_id: None,
            created_at: now,
            updated_at: now,
            initialised_at: None,
            revision: 0,
        };
        let plan = Plan {
            id: plan_id,
            name: format!("plan {plan_id}"),
            repository_id: Some(repository_id),
            paths: vec!["/home".to_owned()],
            excludes: Vec::new(),
            presets: Vec::new(),
            tags: Vec::new(),
            retention: None,
            options: PlanOptions::default(),
            cron: String::new(),
            enabled: true,
            created_at: now,
            updated_at: now,
            revision: 0,
        };
        let mut tx = self.db().begin().await.unwrap();
        repositories::insert(&mut tx, &repository).await.unwrap();
        plans::insert(&mut tx, &plan).await.unwrap();
        tx.commit().await.unwrap();
        (plan_id, repository_id)
    }

    pub async fn assign(&self, plan: PlanId, host: HostId) {
        let mut tx = self.db().begin().await.unwrap();
        plans::assign(&mut tx, plan, host).await.unwrap();
        desired::touch_hosts(self.manager(), &mut tx, &[host]).await.unwrap();
        tx.commit().await.unwrap();
        self.manager().links().wake(host).await;
    }

    /// An enrolled agent.
    pub async fn agent(&self, name: &str) -> Agent {
        let (token, _) = self.token(name, None).await;
        let mut agent = Agent::new(self);
        agent.enrol(&token).await.expect("the token is good");
        agent
    }

    /// Asks for a backup that expires in ten minutes.
    pub async fn request(&self, host: HostId, plan: Option<PlanId>) -> RunId {
        let id = self.manager().new_id();
        let now = self.manager().now();
        let spec = RunSpec::Backup { schedule_id: plan };
        let run = NewRun {
            id,
            host_id: host,
            plan_id: plan,
            repository_id: None,
            spec: &spec,
            dispatch: Dispatch::Waiting,
            requested_by: "local",
            created_at: now,
            expires_at: Some(now + SignedDuration::from_mins(10)),
        };
        let mut tx = self.db().begin().await.unwrap();
        runs::insert(&mut tx, &run).await.unwrap();
        tx.commit().await.unwrap();
        self.manager().links().wake(host).await;
        id
    }

    pub async fn cancel(&self, host: HostId, run: RunId) {
        let mut tx = self.db().begin().await.unwrap();
        assert!(runs::request_cancel(&mut tx, run, self.manager().now()).await.unwrap());
        tx.commit().await.unwrap();
        self.manager().links().wake(host).await;
    }

    pub async fn run(&self, run: RunId) -> Run {
        runs::find(self.db().read(), run).await.unwrap().unwrap()
    }

    /// Waits until a run is as it should be.
    pub async fn until_run(&self, run: RunId, is_so: impl Fn(&Run) -> bool) -> Run {
        soon(async {
            let mut events = self.manager().events().subscribe();
            loop {
                if let Ok(Some(run)) = runs::find(self.db().read(), run).await
                    && is_so(&run)
                {
                    return run;
                }
                events.recv().await.unwrap();
            }
        })
        .await
    }

    /// Waits until a host is as it should be.
    pub async fn until_host(&self, host: HostId, is_so: impl Fn(&Host) -> bool) -> Host {
        soon(async {
            let mut events = self.manager().events().subscribe();
            loop {
                let host = self.host(host).await;
                if is_so(&host) {
                    return host;
                }
                events.recv().await.unwrap();
            }
        })
        .await
    }

    pub async fn host(&self, host: HostId) -> Host {
        hosts::find(self.db().read(), host).await.unwrap().unwrap()
    }

    pub async fn notices(&self) -> Vec<Notice> {
        notices::list_open(self.db().read()).await.unwrap()
    }
}

fn copy_files(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// What an agent keeps on its disk.
#[derive(Clone)]
pub struct Agent {
    address: std::net::SocketAddr,
    root: CertificateDer<'static>,
    key: Arc<rcgen::KeyPair>,
    cert: CertificateDer<'static>,
    pub host_id: Option<HostId>,
    pub ticket: Option<Secret<String>>,
    pub manager: Option<SeenManager>,
    pub journal: Journal,
    pub version: ProtocolVersion,
}

/// An agent's journal.
#[derive(Clone)]
pub struct Journal {
    pub id: JournalId,
    pub base: (u64, ChainHash),
    pub records: Vec<Frame>,
    pub acked: u64,
}

impl Journal {
    pub fn new(seed: u8) -> Self {
        let id = JournalId::new(1, &[seed; 10]);
        Self { id, base: (0, ChainHash::START), records: Vec::new(), acked: 0 }
    }

    fn head(&self) -> (u64, ChainHash) {
        self.records.last().map_or(self.base, |record| (record.seq.unwrap(), record.hash.unwrap()))
    }

    pub fn push(&mut self, content: &FromAgent) -> Frame {
        self.push_raw(content.encode().unwrap())
    }

    pub fn push_raw(&mut self, mut frame: Frame) -> Frame {
        let (seq, hash) = self.head();
        frame.seq = Some(seq + 1);
        frame.hash = Some(hash.next(seq + 1, &frame.kind, frame.payload.get()));
        self.records.push(frame.clone());
        frame
    }

    /// Drops the records up to this number.
    pub fn forget(&mut self, up_to: u64) {
        while self.records.first().is_some_and(|record| record.seq.unwrap() <= up_to) {
            let record = self.records.remove(0);
            self.base = (record.seq.unwrap(), record.hash.unwrap());
        }
    }

    /// Lets lines of a run make room that follow each other, by the numbers of their records.
    pub fn elide(&mut self, run: RunId, seqs: (u64, u64), first_line: u64) {
        let (first_seq, seq) = seqs;
        let at = self.records.iter().position(|record| record.seq == Some(first_seq)).unwrap();
        let count = usize::try_from(seq - first_seq + 1).unwrap();
        let gone: Vec<Frame> = self.records.drain(at..at + count).collect();
        let mut elided = JournalElided::line(run, first_seq, first_line, Timestamp::UNIX_EPOCH);
        elided.runs[0].last_line += seq - first_seq;
        let mut frame = FromAgent::JournalElided(elided).encode().unwrap();
        (frame.seq, frame.hash) = (Some(seq), gone.last().unwrap().hash);
        self.records.insert(at, frame);
    }

    fn state(&self) -> JournalState {
        let (head, head_hash) = self.head();
        JournalState {
            id: self.id,
            first: self.base.0 + 1,
            base_hash: self.base.1,
            head,
            head_hash,
            acked: self.acked,
        }
    }

    /// The runs that have begun and not ended.
    fn open_runs(&self) -> Vec<RunId> {
        let mut open = Vec::new();
        for record in &self.records {
            match FromAgent::decode(record) {
                Ok(FromAgent::JobStarted(started)) => open.push(started.job_id),
                Ok(FromAgent::JobFinished(finished)) => open.retain(|run| *run != finished.job_id),
                // Some tests write records that nobody can read.
                Ok(_) | Err(_) => {}
            }
        }
        open
    }

    pub fn after(&self, seq: u64) -> Vec<Frame> {
        self.records.iter().filter(|record| record.seq.unwrap() > seq).cloned().collect()
    }
}

impl Agent {
    pub fn new(fleet: &Fleet) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        let pem = fleet.manager().identity().root_cert_pem();
        Self {
            address: fleet.handle().agent_addr(),
            root: CertificateDer::from_pem_slice(pem.as_bytes()).unwrap(),
            cert: cert.der().clone(),
            key: Arc::new(key),
            host_id: None,
            ticket: None,
            manager: None,
            journal: Journal::new(1),
            version: PROTOCOL_VERSION,
        }
    }

    pub fn host(&self) -> HostId {
        self.host_id.unwrap()
    }

    /// The SHA-256 of its key's SPKI.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(self.key.subject_public_key_info()).into()
    }

    /// It was let in as this host.
    pub fn came_in(&mut self, host: HostId) {
        self.host_id = Some(host);
    }

    /// Finds the manager again after it was restarted.
    pub fn redial(&mut self, fleet: &Fleet) {
        self.dials(fleet.handle().agent_addr());
    }

    /// Dials this address from now on.
    pub fn dials(&mut self, address: std::net::SocketAddr) {
        self.address = address;
    }

    fn config(&self, shows_key: bool) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        if !shows_key {
            return builder.with_no_client_auth();
        }
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        builder.with_client_auth_cert(vec![self.cert.clone()], key).unwrap()
    }

    pub async fn tls(&self, shows_key: bool) -> TlsStream<TcpStream> {
        let connector = TlsConnector::from(Arc::new(self.config(shows_key)));
        let name = ServerName::try_from("manager.restic-manager.internal").unwrap();
        let tcp = TcpStream::connect(self.address).await.unwrap();
        connector.connect(name, tcp).await.unwrap()
    }

    /// One HTTP request: the status and the body.
    pub async fn http(&self, shows_key: bool, head: &str, body: &str) -> (u16, String) {
        soon(async {
            let mut stream = self.tls(shows_key).await;
            let request = format!(
                "{head} HTTP/1.1\r\nHost: manager\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            // The server closes without the courtesy of a TLS goodbye to who does not wait for it.
            let _ = stream.read_to_end(&mut answer).await;
            let answer = String::from_utf8(answer).unwrap();
            let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
            let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
            (status, body)
        })
        .await
    }

    pub async fn enrol(&mut self, token: &str) -> Result<(), (u16, Problem)> {
        let request = protocol::EnrolRequest {
            token: Secret::new(token.to_owned()),
            protocol_version: self.version,
            agent_version: "0.1.0".to_owned(),
            hostname: "box".to_owned(),
            os: HostOs::Linux,
            arch: HostArch::Amd64,
        };
        let request = serde_json::to_string(&request).unwrap();
        let (status, body) = self.http(true, "POST /agent/enrol", &request).await;
        if status != 200 {
            return Err((status, serde_json::from_str(&body).unwrap()));
        }
        let answer: protocol::EnrolResponse = serde_json::from_str(&body).unwrap();
        assert_eq!(answer.addresses, ["manager.example.org:8443"]);
        self.host_id = Some(answer.host_id);
        Ok(())
    }

    pub async fn dial(&self) -> Link {
        let stream = self.tls(true).await;
        let request = "wss://manager.restic-manager.internal/agent/connect";
        let request = request.into_client_request().unwrap();
        let config = WebSocketConfig::default();
        let (socket, _) =
            soon(tokio_tungstenite::client_async_with_config(request, stream, Some(config)))
                .await
                .unwrap();
        Link { socket }
    }

    pub fn hello(&self) -> Hello {
        let has_journal = self.version.has_journal();
        Hello {
            protocol_version: self.version,
            agent_version: "0.1.0".to_owned(),
            restic_version: "0.18.0".to_owned(),
            hostname: "box".to_owned(),
            os: HostOs::Linux,
            arch: HostArch::Amd64,
            boot_time: None,
            capabilities: Vec::new(),
            requires: Vec::new(),
            time_zone: has_journal.then(|| "Europe/Berlin".to_owned()),
            time_zone_data: None,
            journal: has_journal.then(|| self.journal.state()),
            manager: self.manager,
            ticket: self.ticket.clone(),
            open_runs: self.journal.open_runs(),
            awake_since: None,
            has_battery: None,
        }
    }

    /// Dials, says hello and keeps what the welcome says.
    pub async fn connect(&mut self) -> (Link, Welcome) {
        let mut link = self.dial().await;
        let hello = self.hello();
        let welcome = link.greet(hello).await.unwrap_or_else(|problem| panic!("{problem:?}"));
        self.keep(&mut link, &welcome).await;
        (link, welcome)
    }

    /// What an agent does with a welcome.
    pub async fn keep(&mut self, link: &mut Link, welcome: &Welcome) {
        let incarnation = welcome.manager.incarnation;
        if self.manager.is_none_or(|seen| seen.incarnation != incarnation) {
            self.manager = Some(SeenManager { incarnation, command: 0, generation: 0 });
        }
        if let Some(ticket) = &welcome.ticket {
            self.ticket = Some(ticket.clone());
            link.say(&FromAgent::TicketConfirm(TicketConfirm { ticket: ticket.clone() })).await;
        }
    }

    pub fn saw(&mut self, command: &CommandRun) {
        let number = command.number.expect("a command of version 2 has a number");
        let seen = self.manager.as_mut().unwrap();
        assert_eq!(seen.incarnation, number.incarnation);
        seen.command = seen.command.max(number.n);
    }
}

/// An open connection, seen from the agent.
pub struct Link {
    socket: WebSocketStream<TlsStream<TcpStream>>,
}

impl Link {
    pub async fn send(&mut self, message: Message) -> Result<(), Error> {
        soon(self.socket.send(message)).await
    }

    pub async fn send_frame(&mut self, frame: &Frame) {
        self.send(Message::text(frame.encode().unwrap())).await.unwrap();
    }

    pub async fn say(&mut self, message: &FromAgent) {
        self.send_frame(&message.encode().unwrap()).await;
    }

    pub async fn greet(&mut self, hello: Hello) -> Result<Welcome, Problem> {
        self.say(&FromAgent::Hello(Box::new(hello))).await;
        match self.next().await.expect("an answer") {
            (_, ToAgent::Welcome(welcome)) => Ok(*welcome),
            (_, ToAgent::Refused(refused)) => Err(refused.0),
            (_, other) => panic!("{other:?}"),
        }
    }

    /// The next frame; `None` when the connection has ended.
    pub async fn next(&mut self) -> Option<(Frame, ToAgent)> {
        loop {
            match soon(self.socket.next()).await? {
                Ok(Message::Text(text)) => {
                    let frame = Frame::decode(&text).unwrap();
                    let message = ToAgent::decode(&frame).unwrap();
                    return Some((frame, message));
                }
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(other) => panic!("{other:?}"),
            }
        }
    }

    /// The next frame that is no acknowledgement.
    pub async fn told(&mut self) -> ToAgent {
        loop {
            match self.next().await.expect("the connection goes on").1 {
                ToAgent::JournalAck(_) => {}
                other => return other,
            }
        }
    }

    /// The next command; the desired state may come before.
    pub async fn command(&mut self) -> CommandRun {
        loop {
            match self.told().await {
                ToAgent::CommandRun(command) => return *command,
                ToAgent::ConfigUpdate(_) | ToAgent::ScheduleSet(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Reads until everything up to this record is acknowledged.
    /// The next question for a folder; desired states may come before it.
    pub async fn tree_want(&mut self) -> TreeWant {
        loop {
            if let ToAgent::TreeWant(want) = self.told().await {
                return want;
            }
        }
    }

    pub async fn until_acked(&mut self, seq: u64) {
        loop {
            let (frame, _) = self.next().await.expect("the connection goes on");
            if frame.ack.is_some_and(|ack| ack >= seq) {
                return;
            }
        }
    }

    /// Waits until the manager has taken in everything that was sent before.
    pub async fn settle(&mut self, agent: &mut Agent) {
        let marker = Frame::new("a.marker", &serde_json::json!({})).unwrap();
        let frame = agent.journal.push_raw(marker);
        self.send_frame(&frame).await;
        self.until_acked(frame.seq.unwrap()).await;
    }

    /// Reads to the end and returns why, if the manager said so.
    pub async fn ended(&mut self) -> Option<Problem> {
        let mut why = None;
        while let Some((_, message)) = self.next().await {
            if let ToAgent::Refused(refused) = message {
                why = Some(refused.0);
            }
        }
        why
    }
}

pub fn started(run: RunId, plan: Option<PlanId>) -> FromAgent {
    FromAgent::JobStarted(JobStarted {
        job_id: run,
        kind: JobKind::Backup,
        started_at: at(10),
        schedule_id: plan,
        repository_id: None,
        command: None,
        slot: None,
        attempt: None,
    })
}

pub fn line(run: RunId, seq: u64, text: &str) -> FromAgent {
    let payload = text.to_owned();
    FromAgent::LogLine(LogLine { job_id: run, seq, ts: at(11), stream: LogStream::Stdout, payload })
}

pub fn finished(run: RunId, status: JobStatus) -> FromAgent {
    FromAgent::JobFinished(Box::new(JobFinished {
        job_id: run,
        status,
        exit_code: 0,
        finished_at: at(12),
        stats: None,
        error: None,
        code: None,
        guidance: None,
        snapshot_id: Some("ab".repeat(32)),
        unreadable: Vec::new(),
        unreadable_count: 0,
        log_lines: 2,
        restore: None,
    }))
}

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

pub fn run_id(seed: u8) -> RunId {
    RunId::new(1_790_000_000_000, &[seed; 10])
}
