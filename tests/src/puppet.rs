//! An agent that does nothing by itself: it speaks the protocol to a real manager, takes every
//! command, and says of its runs what it is told to say, when it is told to.
//!
//! One task owns the connection. It is asked through a channel, and an answer means that the manager
//! has acknowledged everything that was said.

use crate::manager::Ready;
use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use jiff::Timestamp;
use protocol::{
    CommandResult, EnrolRequest, EnrolResponse, Frame, FromAgent, Heartbeat, Hello, HostArch,
    HostOs, JobFinished, JobKind, JobProgress, JobStarted, JournalId, JournalState, LogLine,
    LogStream, PROTOCOL_VERSION, RunId, ScheduleAck, Secret, TicketConfirm, ToAgent,
    journal::ChainHash,
};
use rcgen::PublicKeyData as _;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject as _,
    },
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, OnceLock},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{mpsc, oneshot},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Bytes, Message, client::IntoClientRequest as _, protocol::WebSocketConfig},
};

/// The link of a machine.
pub type Socket = WebSocketStream<TlsStream<TcpStream>>;
type Told = oneshot::Sender<()>;

/// What a connection reads at once: little is said, and there may be thousands of puppets.
const READ_BUFFER_BYTES: usize = 4096;

/// What is to be said of a run, in this order.
#[derive(Clone, Debug, Default)]
pub struct Words {
    /// That it has begun, and of which kind it is.
    pub started: Option<JobKind>,
    /// Lines of its log.
    pub lines: Vec<String>,
    /// How far it is: fields of `job.progress` beside the usual ones.
    pub progress: Option<Value>,
    /// That it has ended: fields of `job.finished` beside the usual ones.
    pub finished: Option<Value>,
}

/// What a puppet is asked.
enum Ask {
    /// To say something of a run.
    Say(RunId, Words),
    /// To show that it lives.
    Beat,
}

/// A connected puppet. Dropped, it hangs up.
#[derive(Debug)]
pub struct Puppet {
    asks: mpsc::Sender<(Ask, Told)>,
    /// Why it fell, if it did.
    fell: Arc<OnceLock<String>>,
}

impl Puppet {
    /// Connects this machine, which is enrolled.
    ///
    /// # Errors
    /// When the manager refuses.
    pub async fn connect(machine: &Machine) -> Result<Self> {
        let mut stage = OnStage::new(machine.socket().await?);
        stage.greet(machine).await?;
        let (asks, asked) = mpsc::channel(16);
        let fell = Arc::new(OnceLock::new());
        let falls = Arc::clone(&fell);
        tokio::spawn(async move {
            if let Err(error) = stage.run(asked).await {
                // It falls once.
                let _ = falls.set(format!("{error:#}"));
            }
        });
        Ok(Self { asks, fell })
    }

    /// Says something of a run that the manager has asked for, once it has.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn say(&self, run: RunId, words: Words) -> Result<()> {
        self.ask(Ask::Say(run, words)).await
    }

    /// Sends a heartbeat, and waits until the manager has heard it and has acknowledged everything
    /// that was said before.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn beat(&self) -> Result<()> {
        self.ask(Ask::Beat).await
    }

    async fn ask(&self, ask: Ask) -> Result<()> {
        let (told, was_told) = oneshot::channel();
        let gone = || match self.fell.get() {
            Some(why) => format!("the puppet fell: {why}"),
            None => "the puppet has hung up".to_owned(),
        };
        self.asks.send((ask, told)).await.ok().with_context(gone)?;
        was_told.await.ok().with_context(gone)
    }
}

/// TLS to this manager with a key that nobody has seen before, and the SHA-256 of its SPKI.
pub(crate) fn stranger(ready: &Ready) -> Result<(ClientConfig, [u8; 32])> {
    let key = rcgen::KeyPair::generate()?;
    let fingerprint = Sha256::digest(key.subject_public_key_info()).into();
    let cert = rcgen::CertificateParams::new(Vec::new())?.self_signed(&key)?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ready.ca_pem.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let tls = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![cert.der().clone()], key)?;
    Ok((tls, fingerprint))
}

/// A machine with a key of its own that knows its manager.
pub struct Machine {
    tls: TlsConnector,
    address: String,
    hostname: String,
    /// The SHA-256 of its key's SPKI.
    pub key: [u8; 32],
}

impl Machine {
    /// A machine that calls itself `hostname`, and that this manager has never seen.
    ///
    /// # Errors
    /// When the manager's certificate cannot be read.
    pub fn new(ready: &Ready, hostname: &str) -> Result<Self> {
        let (tls, key) = stranger(ready)?;
        let tls = TlsConnector::from(Arc::new(tls));
        Ok(Self { tls, address: ready.agent.clone(), hostname: hostname.to_owned(), key })
    }

    async fn stream(&self) -> Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(server::identity::MANAGER_NAME)?;
        Ok(self.tls.connect(name, TcpStream::connect(&self.address).await?).await?)
    }

    /// Enrols it with this token, and returns the host's id.
    ///
    /// # Errors
    /// When the manager refuses.
    pub async fn enrol(&self, token: &str) -> Result<String> {
        let request = EnrolRequest {
            token: Secret::new(token.to_owned()),
            protocol_version: PROTOCOL_VERSION,
            agent_version: "0.1.0".to_owned(),
            hostname: self.hostname.clone(),
            os: HostOs::Linux,
            arch: HostArch::Amd64,
        };
        let body = serde_json::to_string(&request)?;
        let head = format!(
            "POST /agent/enrol HTTP/1.1\r\nHost: manager\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = self.stream().await?;
        stream.write_all(format!("{head}{body}").as_bytes()).await?;
        let mut answer = Vec::new();
        // The server closes without the courtesy of a TLS goodbye to who does not wait for it.
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer to the enrolment")?;
        ensure!(head.split(' ').nth(1) == Some("200"), "the enrolment was refused: {body}");
        let answer: EnrolResponse = serde_json::from_str(body)?;
        Ok(answer.host_id.to_string())
    }

    /// A connection on which nothing was said yet.
    ///
    /// # Errors
    /// When nobody takes it.
    pub async fn socket(&self) -> Result<Socket> {
        let request = format!("wss://{}/agent/connect", server::identity::MANAGER_NAME);
        let stream = self.stream().await?;
        let request = request.into_client_request()?;
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
        Ok(tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await?.0)
    }

    /// How it says hello with this journal.
    pub(crate) fn hello(&self, journal: JournalState) -> Hello {
        Hello {
            protocol_version: PROTOCOL_VERSION,
            agent_version: "0.1.0".to_owned(),
            restic_version: "0.18.0".to_owned(),
            hostname: self.hostname.clone(),
            os: HostOs::Linux,
            arch: HostArch::Amd64,
            boot_time: None,
            capabilities: ["restore", "stats", "hooks"].map(str::to_owned).to_vec(),
            requires: Vec::new(),
            time_zone: Some("Europe/Berlin".to_owned()),
            time_zone_data: None,
            journal: Some(journal),
            manager: None,
            ticket: None,
            open_runs: Vec::new(),
            awake_since: None,
            has_battery: None,
        }
    }
}

/// The puppet's side of the connection.
struct OnStage {
    socket: Socket,
    seq: u64,
    hash: ChainHash,
    /// Runs that may go, and how many lines each has written.
    going: BTreeMap<RunId, u64>,
    /// Words for runs that may not go yet.
    early: Vec<(RunId, Words, Told)>,
    /// The newest record that the manager has.
    acked: u64,
    /// Who waits for which record's acknowledgement.
    waiting: Vec<(u64, Told)>,
    /// Who waits for the answer to a ping, oldest first.
    pinged: VecDeque<Told>,
    ended: BTreeSet<RunId>,
}

impl OnStage {
    fn new(socket: Socket) -> Self {
        Self {
            socket,
            seq: 0,
            hash: ChainHash::START,
            going: BTreeMap::new(),
            early: Vec::new(),
            acked: 0,
            waiting: Vec::new(),
            pinged: VecDeque::new(),
            ended: BTreeSet::new(),
        }
    }

    async fn greet(&mut self, machine: &Machine) -> Result<()> {
        let mut id = [0; 10];
        getrandom::fill(&mut id).ok().context("the operating system has no random numbers")?;
        let journal = JournalState {
            id: JournalId::new(1, &id),
            first: 1,
            base_hash: ChainHash::START,
            head: 0,
            head_hash: ChainHash::START,
            acked: 0,
        };
        let hello = machine.hello(journal);
        self.send(&FromAgent::Hello(Box::new(hello)).encode()?).await?;
        let (_, answer) = self.next().await?.context("the manager hung up")?;
        let ToAgent::Welcome(welcome) = answer else {
            bail!("the manager did not welcome the puppet: {answer:?}");
        };
        let Some(ticket) = welcome.ticket else { return Ok(()) };
        self.send(&FromAgent::TicketConfirm(TicketConfirm { ticket }).encode()?).await
    }

    async fn run(&mut self, mut asked: mpsc::Receiver<(Ask, Told)>) -> Result<()> {
        loop {
            tokio::select! {
                ask = asked.recv() => match ask {
                    Some((Ask::Say(run, words), told)) => self.say_or_keep(run, words, told).await?,
                    Some((Ask::Beat, told)) => self.beat(told).await?,
                    None => return Ok(self.socket.close(None).await?),
                },
                message = self.socket.next() => match message {
                    Some(message) => {
                        let message = message?;
                        if matches!(message, Message::Pong(_))
                            && let Some(told) = self.pinged.pop_front()
                        {
                            self.wait_for_acknowledgement(told);
                        }
                        if let Some((frame, message)) = read(message)? {
                            self.hear(&frame, message).await?;
                        }
                    }
                    None => bail!("the manager hung up"),
                },
            }
        }
    }

    async fn hear(&mut self, frame: &Frame, message: ToAgent) -> Result<()> {
        self.acked = self.acked.max(frame.ack.unwrap_or(0));
        for (seq, told) in std::mem::take(&mut self.waiting) {
            if seq <= self.acked {
                // Whoever asked may have gone away.
                let _ = told.send(());
            } else {
                self.waiting.push((seq, told));
            }
        }
        match message {
            ToAgent::CommandRun(command) => {
                let accepted = CommandResult::accepted(command.job_id);
                self.send(&FromAgent::CommandResult(accepted).encode()?).await
            }
            ToAgent::CommandGo(go) => {
                self.going.entry(go.job_id).or_default();
                for (run, words, told) in std::mem::take(&mut self.early) {
                    self.say_or_keep(run, words, told).await?;
                }
                Ok(())
            }
            ToAgent::ScheduleSet(set) => {
                let ack = ScheduleAck {
                    version: set.version,
                    applied_at: Timestamp::now(),
                    generation: set.generation,
                    digest: set.digest,
                    time_zone: None,
                };
                self.record(&FromAgent::ScheduleAck(ack)).await
            }
            ToAgent::Refused(refused) => bail!("the manager refused the puppet: {:?}", refused.0),
            ToAgent::Welcome(_)
            | ToAgent::CommandCancel(_)
            | ToAgent::ConfigUpdate(_)
            | ToAgent::JournalAck(_)
            | ToAgent::SnapshotsWant(_)
            | ToAgent::AlarmTest(_)
            | ToAgent::TreeWant(_)
            | ToAgent::AgentUpdateAvailable(_)
            | ToAgent::Unknown(_) => Ok(()),
        }
    }

    async fn say_or_keep(&mut self, run: RunId, words: Words, told: Told) -> Result<()> {
        if !self.going.contains_key(&run) {
            self.early.push((run, words, told));
            return Ok(());
        }
        self.say(run, words).await?;
        self.wait_for_acknowledgement(told);
        Ok(())
    }

    async fn beat(&mut self, told: Told) -> Result<()> {
        let heartbeat = Heartbeat { sent_at: Timestamp::now() };
        self.send(&FromAgent::Heartbeat(heartbeat).encode()?).await?;
        self.socket.send(Message::Ping(Bytes::new())).await?;
        self.pinged.push_back(told);
        Ok(())
    }

    /// Tells it once the manager has everything that was said so far.
    fn wait_for_acknowledgement(&mut self, told: Told) {
        if self.seq <= self.acked {
            // Whoever asked may have gone away.
            let _ = told.send(());
        } else {
            self.waiting.push((self.seq, told));
        }
    }

    async fn say(&mut self, run: RunId, words: Words) -> Result<()> {
        ensure!(!self.ended.contains(&run), "the run {run} has ended");
        let now = Timestamp::now();
        if let Some(kind) = words.started {
            self.record(&FromAgent::JobStarted(JobStarted {
                job_id: run,
                kind,
                started_at: now,
                schedule_id: None,
                repository_id: None,
                command: None,
                slot: None,
                attempt: None,
            }))
            .await?;
        }
        for payload in words.lines {
            let count = self.going.entry(run).or_default();
            *count += 1;
            let (seq, stream) = (*count, LogStream::Stdout);
            self.record(&FromAgent::LogLine(LogLine {
                job_id: run,
                seq,
                ts: now,
                stream,
                payload,
            }))
            .await?;
        }
        if let Some(fields) = words.progress {
            let usual = json!({
                "job_id": run, "percent_done": 0.5, "files_done": 1, "total_files": 2,
                "bytes_done": 1024, "total_bytes": 2048, "eta_seconds": 60, "throughput_bps": 1024,
            });
            let progress: JobProgress = serde_json::from_value(with(usual, fields))?;
            self.send(&FromAgent::JobProgress(progress).encode()?).await?;
        }
        if let Some(fields) = words.finished {
            let usual = json!({
                "job_id": run, "status": "succeeded", "exit_code": 0, "finished_at": now,
                "log_lines": self.going.get(&run),
            });
            let finished: JobFinished = serde_json::from_value(with(usual, fields))?;
            self.record(&FromAgent::JobFinished(Box::new(finished))).await?;
            self.ended.insert(run);
        }
        Ok(())
    }

    /// Sends something durable.
    async fn record(&mut self, content: &FromAgent) -> Result<()> {
        let mut frame = content.encode()?;
        self.seq += 1;
        self.hash = self.hash.next(self.seq, &frame.kind, frame.payload.get());
        frame.seq = Some(self.seq);
        frame.hash = Some(self.hash);
        self.send(&frame).await
    }

    async fn send(&mut self, frame: &Frame) -> Result<()> {
        Ok(self.socket.send(Message::text(frame.encode()?)).await?)
    }

    async fn next(&mut self) -> Result<Option<(Frame, ToAgent)>> {
        while let Some(message) = self.socket.next().await {
            if let Some(read) = read(message?)? {
                return Ok(Some(read));
            }
        }
        Ok(None)
    }
}

/// What came, if it is a frame.
pub(crate) fn read(message: Message) -> Result<Option<(Frame, ToAgent)>> {
    let Message::Text(text) = message else { return Ok(None) };
    let frame = Frame::decode(&text)?;
    let message = ToAgent::decode(&frame)?;
    Ok(Some((frame, message)))
}

/// An object with these fields in place of, or beside, its own.
fn with(mut object: Value, fields: Value) -> Value {
    if let (Some(object), Value::Object(fields)) = (object.as_object_mut(), fields) {
        object.extend(fields);
    }
    object
}
