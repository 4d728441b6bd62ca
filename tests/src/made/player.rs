//! The made machines' agents: each connects with its own key over the real link, speaks the real
//! protocol, and does what it is told without any restic. Their manager takes them for the real.
//!
//! A backup of a machine that is to be seen at work never ends; every other run ends after some
//! seconds. A player begins with the fleet as it was filled, and is not for a manager that has
//! met one before: journals that begin anew are what a manager must ask about.

use super::{Wanted, cast, dice::Dice, hello};
use anyhow::{Context as _, Result, bail, ensure};
use cast::{Fate, Machine};
use futures_util::{SinkExt as _, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use protocol::{
    CommandResult, EntryKind, Frame, FromAgent, Heartbeat, JobFinished, JobProgress, JobStarted,
    JobStatus, JournalId, JournalState, LogLine, LogStream, PROTOCOL_VERSION, RestoreReport, RunId,
    RunSpec, ScheduleAck, ScheduleSet, Secret, TicketConfirm, ToAgent, TreeEntry, TreeReport,
    TreeWant, journal::ChainHash,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject as _,
};
use schedule::{Clock as _, SystemClock};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest as _},
};

/// How often a run tells its progress.
const TICK: Duration = Duration::from_millis(500);
/// What a backup that ends takes.
const TICKS: u32 = 6;
/// Between two pictures.
const TAKEN: SignedDuration = SignedDuration::from_secs(95);
const HEARTBEAT: Duration = Duration::from_secs(20);

/// A machine's key: the same for the same seed and place.
pub(super) fn key(seed: u64, index: usize) -> Result<rcgen::KeyPair> {
    // RFC 8410: an Ed25519 key in PKCS #8 is these bytes and the seed.
    let mut der = vec![
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04,
        0x20,
    ];
    der.extend(Sha256::digest(format!("made machine {seed} {index}")));
    let der = PrivatePkcs8KeyDer::from(der);
    rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519)
        .context("failed to make a key for a made machine")
}

/// Connects every machine of a filled fleet that is to be connected, says when all are, and goes
/// on until the manager ends.
///
/// # Errors
/// When a machine is refused, or the link is not what it should be.
pub async fn play(
    manager: SocketAddr,
    root_pem: &str,
    wanted: &Wanted,
    ready: impl FnOnce(usize),
) -> Result<()> {
    let root = CertificateDer::from_pem_slice(root_pem.as_bytes())
        .ok()
        .context("failed to read the manager's certificate")?;
    let machines = cast::machines(wanted.machines, &mut Dice::new(wanted.seed));
    let mut links = JoinSet::new();
    for (index, machine) in machines.into_iter().enumerate() {
        if machine.fate.is_connected() {
            let key = key(wanted.seed, index)?;
            let mut link = Link::connect(manager, &root, &key, machine, index).await?;
            link.greet(wanted.now).await?;
            links.spawn(link.go_on());
        }
    }
    ready(links.len());
    while let Some(ended) = links.join_next().await {
        ended.context("a made machine panicked")??;
    }
    Ok(())
}

/// Enrols one more machine by a token, as the install line does, and goes on as [`play`].
///
/// # Errors
/// When the token lets nobody in, or as [`play`].
pub async fn join(manager: SocketAddr, root_pem: &str, token: Secret<String>) -> Result<()> {
    let root = CertificateDer::from_pem_slice(root_pem.as_bytes())
        .ok()
        .context("failed to read the manager's certificate")?;
    let key = rcgen::KeyPair::generate().context("failed to make a key")?;
    let machine = cast::newcomer(&mut Dice::new(3));
    let request = protocol::EnrolRequest {
        token,
        protocol_version: PROTOCOL_VERSION,
        agent_version: "0.1.0".to_owned(),
        hostname: machine.name.clone(),
        os: machine.os,
        arch: machine.arch,
    };
    let body = serde_json::to_string(&request)?;
    let mut stream = dial(manager, &root, &key).await?;
    let head = "POST /agent/enrol HTTP/1.1\r\nHost: manager\r\nContent-Length: ";
    stream.write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes()).await?;
    let mut answer = Vec::new();
    // The manager hangs up without the courtesy of a TLS goodbye, after all was said.
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    ensure!(answer.starts_with("HTTP/1.1 200"), "the manager did not let the machine in: {answer}");
    let mut link = Link::connect(manager, &root, &key, machine, usize::MAX).await?;
    link.greet(SystemClock.now()).await?;
    link.go_on().await
}

async fn dial(
    manager: SocketAddr,
    root: &CertificateDer<'static>,
    key: &rcgen::KeyPair,
) -> Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).context("failed to trust the manager's certificate")?;
    let cert = rcgen::CertificateParams::new(Vec::new())?.self_signed(key)?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![cert.der().clone()], private)?;
    let name = ServerName::try_from("manager.restic-manager.internal")?;
    let tcp = TcpStream::connect(manager).await.context("failed to reach the manager")?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, tcp).await?)
}

/// A run under way.
struct Going {
    id: RunId,
    spec: RunSpec,
    ticks: u32,
    lines: u64,
}

/// A made machine on its link.
struct Link {
    machine: Machine,
    socket: WebSocketStream<TlsStream<TcpStream>>,
    journal: JournalId,
    head: (u64, ChainHash),
    accepted: Vec<(RunId, RunSpec)>,
    going: Vec<Going>,
    ticks: u32,
}

impl Link {
    async fn connect(
        manager: SocketAddr,
        root: &CertificateDer<'static>,
        key: &rcgen::KeyPair,
        machine: Machine,
        index: usize,
    ) -> Result<Self> {
        let tls = dial(manager, root, key).await?;
        let request =
            "wss://manager.restic-manager.internal/agent/connect".into_client_request()?;
        let (socket, _) = tokio_tungstenite::client_async(request, tls).await?;
        let seed = Sha256::digest(format!("journal {index}"));
        let mut random = [0; 10];
        random.copy_from_slice(&seed[..10]);
        Ok(Self {
            machine,
            socket,
            journal: JournalId::new(1, &random),
            head: (0, ChainHash::START),
            accepted: Vec::new(),
            going: Vec::new(),
            ticks: 0,
        })
    }

    async fn greet(&mut self, now: Timestamp) -> Result<()> {
        let mut hello = hello(&self.machine, now);
        hello.journal = Some(JournalState {
            id: self.journal,
            first: 1,
            base_hash: ChainHash::START,
            head: 0,
            head_hash: ChainHash::START,
            acked: 0,
        });
        self.say(&FromAgent::Hello(Box::new(hello))).await?;
        let answer = self.hear().await?.context("the manager hung up")?;
        let ToAgent::Welcome(welcome) = answer else {
            bail!("{} was not welcomed: {answer:?}", self.machine.name);
        };
        if let Some(ticket) = welcome.ticket {
            self.say(&FromAgent::TicketConfirm(TicketConfirm { ticket })).await?;
        }
        Ok(())
    }

    /// Does what it is told until the manager hangs up.
    async fn go_on(mut self) -> Result<()> {
        let mut tick = tokio::time::interval(TICK);
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        loop {
            tokio::select! {
                message = self.hear() => match message? {
                    Some(message) => self.obey(message).await?,
                    None => return Ok(()),
                },
                _ = tick.tick() => self.work().await?,
                _ = heartbeat.tick() => {
                    let sent_at = SystemClock.now();
                    self.say(&FromAgent::Heartbeat(Heartbeat { sent_at })).await?;
                }
            }
        }
    }

    async fn obey(&mut self, message: ToAgent) -> Result<()> {
        match message {
            ToAgent::CommandRun(command) => {
                let result = CommandResult {
                    job_id: command.job_id,
                    accepted: true,
                    error: None,
                    code: None,
                    guidance: None,
                };
                self.accepted.push((command.job_id, command.spec));
                self.say(&FromAgent::CommandResult(result)).await
            }
            ToAgent::CommandGo(go) => {
                let Some(at) = self.accepted.iter().position(|(run, _)| *run == go.job_id) else {
                    return Ok(());
                };
                let (id, spec) = self.accepted.remove(at);
                self.begin(id, spec).await
            }
            ToAgent::CommandCancel(cancel) => {
                if let Some(at) = self.going.iter().position(|run| run.id == cancel.job_id) {
                    let run = self.going.remove(at);
                    self.finish(&run, JobStatus::Cancelled).await?;
                }
                Ok(())
            }
            ToAgent::ScheduleSet(set) => self.acknowledge(&set).await,
            ToAgent::TreeWant(want) => self.list(want).await,
            ToAgent::Refused(refused) => bail!("{}: {}", self.machine.name, refused.0.message),
            ToAgent::Welcome(_)
            | ToAgent::ConfigUpdate(_)
            | ToAgent::JournalAck(_)
            | ToAgent::SnapshotsWant(_)
            | ToAgent::AlarmTest(_)
            | ToAgent::AgentUpdateAvailable(_)
            | ToAgent::Unknown(_) => Ok(()),
        }
    }

    async fn acknowledge(&mut self, set: &ScheduleSet) -> Result<()> {
        let ack = ScheduleAck {
            version: set.version,
            applied_at: SystemClock.now(),
            generation: set.generation,
            digest: set.digest.clone(),
            time_zone: None,
        };
        self.record(&FromAgent::ScheduleAck(ack)).await
    }

    async fn list(&mut self, want: TreeWant) -> Result<()> {
        let base = self.machine.paths[0];
        let found = tree(base, SystemClock.now() - SignedDuration::from_hours(24))
            .into_iter()
            .find(|(path, _)| *path == want.path);
        let entries = found.map(|(_, entries)| entries).unwrap_or_default();
        let report = TreeReport { want, page: 1, last: true, entries, problem: None };
        self.say(&FromAgent::TreeReport(report)).await
    }

    async fn begin(&mut self, id: RunId, spec: RunSpec) -> Result<()> {
        let started = JobStarted {
            job_id: id,
            kind: spec.kind(),
            started_at: SystemClock.now(),
            schedule_id: spec.plan_id(),
            repository_id: spec.repository_id(),
            command: None,
            slot: None,
            attempt: None,
        };
        self.record(&FromAgent::JobStarted(started)).await?;
        let mut run = Going { id, spec, ticks: 0, lines: 0 };
        for line in self.opening(&run.spec) {
            self.line(&mut run, LogStream::Stdout, &line).await?;
        }
        self.going.push(run);
        Ok(())
    }

    /// The first lines of a run.
    fn opening(&self, spec: &RunSpec) -> Vec<String> {
        let gone = self.would_go();
        let mut lines: Vec<String> =
            ["open repository", "repository 8d1f2a77 opened (version 2, compression level auto)"]
                .map(str::to_owned)
                .into();
        match spec {
            RunSpec::Backup { .. } => lines.extend([
                "lock repository".to_owned(),
                "using parent snapshot 3bc19e02".to_owned(),
                "load index files".to_owned(),
                format!("start scan on {}", self.machine.paths.join(" ")),
                format!("scan finished in 88.7s: {} files", self.machine.files),
            ]),
            RunSpec::Forget { dry_run, .. } => {
                let (verb, stay) =
                    if *dry_run { ("would go", "would stay") } else { ("went", "stayed") };
                lines.extend(gone.iter().map(|id| format!("Snapshot {} {verb}.", &id[..8])));
                lines.push(format!("{} snapshots {verb}, 39 {stay}.", gone.len()));
            }
            RunSpec::Init { .. } => {
                lines.push("The repository was created; its id is 8d1f2a77e2.".to_owned());
            }
            RunSpec::Check { .. } => lines.push("check snapshots, trees and blobs".to_owned()),
            RunSpec::Prune { .. }
            | RunSpec::Unlock { .. }
            | RunSpec::Stats { .. }
            | RunSpec::Restore { .. }
            | RunSpec::Unknown => {}
        }
        lines
    }

    /// The snapshots that its first plan does not keep.
    fn would_go(&self) -> Vec<String> {
        let id = |day| super::history::snapshot_id(&self.machine.name, 0, day);
        [70, 77, 84].map(id).into()
    }

    async fn line(&mut self, run: &mut Going, stream: LogStream, text: &str) -> Result<()> {
        run.lines += 1;
        let line = LogLine {
            job_id: run.id,
            seq: run.lines,
            ts: SystemClock.now(),
            stream,
            payload: text.to_owned(),
        };
        self.record(&FromAgent::LogLine(line)).await
    }

    /// Tells how far each run is, and ends what has gone on long enough.
    async fn work(&mut self) -> Result<()> {
        self.ticks = self.ticks.wrapping_add(1);
        let mut going = std::mem::take(&mut self.going);
        for mut run in going.drain(..) {
            run.ticks += 1;
            let is_backup = matches!(run.spec, RunSpec::Backup { .. });
            let stays = self.machine.fate == Fate::Running && is_backup;
            if !stays && run.ticks > TICKS {
                self.finish(&run, JobStatus::Succeeded).await?;
                continue;
            }
            if stays && run.ticks == 3 {
                let text = format!(
                    "could not read {}/tmp/lock.sock: socket skipped",
                    self.machine.paths[0]
                );
                self.line(&mut run, LogStream::Stderr, &text).await?;
                self.line(
                    &mut run,
                    LogStream::Stdout,
                    "12404 new, 3118 changed, 302682 unmodified so far",
                )
                .await?;
            }
            let share = if stays {
                0.58 + f64::from(run.ticks.min(4000)) / 20_000.0
            } else {
                f64::from(run.ticks) / f64::from(TICKS)
            };
            let progress = self.progress(&run, share);
            self.say(&FromAgent::JobProgress(progress)).await?;
            self.going.push(run);
        }
        Ok(())
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of sizes that are far below 2^53"
    )]
    fn progress(&self, run: &Going, share: f64) -> JobProgress {
        let of = |whole: u64| (whole as f64 * share) as u64;
        let (bytes, files, rate) = (self.machine.bytes, self.machine.files, 248_000_000);
        let current = ["DSC_4410.NEF", "DSC_4411.NEF", "DSC_4416.NEF", "DSC_4421.NEF"];
        let name = current[(run.ticks / 2) as usize % current.len()];
        JobProgress {
            job_id: run.id,
            percent_done: share,
            files_done: of(files),
            total_files: files,
            bytes_done: of(bytes),
            total_bytes: bytes,
            eta_seconds: (bytes - of(bytes)) / rate,
            throughput_bps: rate,
            current_files: vec![format!("{}/2026/harbour/{name}", self.machine.paths[0])],
            unreachable: None,
        }
    }

    async fn finish(&mut self, run: &Going, status: JobStatus) -> Result<()> {
        let mut finished = JobFinished {
            job_id: run.id,
            status,
            exit_code: 0,
            finished_at: SystemClock.now(),
            stats: None,
            error: None,
            code: None,
            guidance: None,
            snapshot_id: None,
            unreadable: Vec::new(),
            unreadable_count: 0,
            log_lines: run.lines,
            restore: None,
        };
        if status == JobStatus::Cancelled {
            finished.error = Some("Cancelled; what was uploaded is used by the next.".to_owned());
        }
        if let RunSpec::Restore { .. } = run.spec {
            finished.restore = Some(RestoreReport {
                target: format!("/var/lib/restic-manager-agent/restores/{}", run.id),
                files: 214,
                bytes: 5_310_000_000,
                missing: Vec::new(),
            });
        }
        if let RunSpec::Forget { dry_run, .. } = run.spec {
            let gone = self.would_go();
            finished.stats = Some(json!({"dry_run": dry_run, "removed": gone,
                "removed_count": gone.len(), "kept_count": 39}));
        }
        self.record(&FromAgent::JobFinished(Box::new(finished))).await
    }

    /// Says something durable.
    async fn record(&mut self, content: &FromAgent) -> Result<()> {
        let mut frame = content.encode()?;
        let (seq, hash) = self.head;
        let hash = hash.next(seq + 1, &frame.kind, frame.payload.get());
        self.head = (seq + 1, hash);
        (frame.seq, frame.hash) = (Some(seq + 1), Some(hash));
        self.send(&frame).await
    }

    async fn say(&mut self, content: &FromAgent) -> Result<()> {
        self.send(&content.encode()?).await
    }

    async fn send(&mut self, frame: &Frame) -> Result<()> {
        Ok(self.socket.send(Message::text(frame.encode()?)).await?)
    }

    async fn hear(&mut self) -> Result<Option<ToAgent>> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    return Ok(Some(ToAgent::decode(&Frame::decode(&text)?)?));
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(None),
                Some(Ok(_)) => {}
            }
        }
    }
}

/// The folders of a made snapshot: the way to `base`, and some of what is in it.
pub(super) fn tree(base: &str, modified_at: Timestamp) -> Vec<(String, Vec<TreeEntry>)> {
    let entry = |name: &str, size_bytes: Option<u64>| TreeEntry {
        name: name.to_owned(),
        kind: if size_bytes.is_some() { EntryKind::File } else { EntryKind::Dir },
        size_bytes,
        modified_at: Some(modified_at),
        permissions: if size_bytes.is_some() { "-rw-r--r--" } else { "drwxr-xr-x" }.to_owned(),
    };
    let folder = |name: &str| entry(name, None);
    let mut all = Vec::new();
    let mut path = String::new();
    for part in base.split(['/', '\\']).filter(|part| !part.is_empty()) {
        let parent = if path.is_empty() { "/".to_owned() } else { path.clone() };
        all.push((parent, vec![folder(part)]));
        path = format!("{path}/{part}");
    }
    let years = ["2023", "2024", "2025", "2026", "scans"].map(folder);
    let mut inside = years.to_vec();
    inside.push(entry("README.txt", Some(2_114)));
    inside.push(entry("catalogue.sqlite", Some(418_004_992)));
    all.push((path.clone(), inside));
    let months = ["contact-sheets", "harbour", "mountains", "night-train", "still-life"];
    all.push((format!("{path}/2026"), months.map(folder).to_vec()));
    let mut harbour: Vec<TreeEntry> = (4401..4446)
        .map(|n| TreeEntry {
            modified_at: Some(
                modified_at - SignedDuration::from_hours(24 * 40) + TAKEN * (n - 4400),
            ),
            ..entry(
                &format!("DSC_{n}.NEF"),
                Some(47_000_000 + u64::from(n.unsigned_abs()) * 1_933 % 9_000_000),
            )
        })
        .collect();
    harbour.push(entry("notes about the light, the tide tables and which lens.md", Some(7_420)));
    all.push((format!("{path}/2026/harbour"), harbour));
    all
}
