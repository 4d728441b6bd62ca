//! What every way into a fleet has in common: the checks before it, the exchange over HTTPS, and what
//! is written once the manager has said yes.

use crate::{
    connection::Stream,
    identity::{Enrolment, Identity, Settings, set_aside},
    paths::{StateDir, lock_patiently},
    tls::{self, ManagerKey},
};
use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use protocol::{Code, EnrolResponse, Problem, Secret};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

/// The largest answer that is read.
const MAX_ANSWER: usize = 64 * 1024;

/// How long the manager may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What joining needs, whichever way.
#[derive(Debug)]
pub struct Joining {
    /// The state folder.
    pub state: StateDir,
    /// The folder of the settings.
    pub config: PathBuf,
    /// Where to dial, best first.
    pub addresses: Vec<String>,
    /// The machine's name.
    pub hostname: String,
    /// Where restores go, if not into the state folder.
    pub restore_root: Option<PathBuf>,
    /// Whether an enrolment that is there may be replaced.
    pub again: bool,
}

impl Joining {
    /// Takes the state folder, as long as the answer is held, and looks whether this machine may join.
    ///
    /// # Errors
    /// When it is enrolled already, or the options do not fit.
    pub async fn begin(&self) -> Result<File> {
        let state = &self.state;
        state.create()?;
        let lock = lock_patiently(state).await?;
        if state.is_enrolled() && !self.again {
            bail!(
                "This machine is enrolled already ({}). Nothing was changed. To enrol it anew, with a new key and a new journal, add --again; the old state is kept aside.",
                state.enrolment().display()
            );
        }
        if let Some(root) = &self.restore_root
            && !root.is_absolute()
        {
            bail!("The restore root must be an absolute path: {}", root.display());
        }
        if self.restore_root.is_some() && !self.owns_settings() {
            bail!(
                "The settings of this machine belong to root. Nothing was changed. Set \"restore_root\" in {} instead.",
                self.config.display()
            );
        }
        Ok(lock)
    }

    /// Whether the settings lie in the state folder.
    fn owns_settings(&self) -> bool {
        self.config == self.state.path()
    }

    /// Writes down that this machine is one of the manager's.
    ///
    /// # Errors
    /// As the file system says.
    pub fn settle(
        &self,
        identity: &Identity,
        manager_key: ManagerKey,
        answer: EnrolResponse,
        now: Timestamp,
    ) -> Result<Enrolment> {
        let state = &self.state;
        let mut addresses = answer.addresses;
        // What worked for the person who typed it is kept, as the last resort.
        for address in &self.addresses {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        if state.is_enrolled() {
            let kept = set_aside(state, &stamp(now))?;
            tracing::info!(kept = %kept.display(), "The old state was kept aside");
        }
        identity.save(state)?;
        if self.owns_settings() {
            // Written in any case, so that the administrator finds the file to fill in.
            let mut settings = Settings::load(&self.config)?;
            settings.restore_root = self.restore_root.clone().or(settings.restore_root);
            settings.save(&self.config)?;
        }
        let enrolment = Enrolment {
            host_id: answer.host_id,
            manager_key,
            manager: answer.manager,
            addresses,
            enrolled_at: now,
        };
        // Last: with this file the machine is enrolled.
        enrolment.save(state)?;
        Ok(enrolment)
    }
}

/// A point in time as part of a file's name.
#[must_use]
pub fn stamp(now: Timestamp) -> String {
    now.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// What the manager answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    body: Bytes,
}

impl Answer {
    /// The body of an answer that grants what was asked.
    ///
    /// # Errors
    /// With the manager's [`Problem`] when it refused.
    pub fn granted<T: DeserializeOwned>(&self) -> Result<T> {
        self.check()?;
        serde_json::from_slice(&self.body).context(
            "The manager's answer cannot be read. Update the agent to the manager's version",
        )
    }

    /// Whether the manager granted it, where its answer says no more.
    ///
    /// # Errors
    /// With the manager's [`Problem`] when it refused.
    pub fn check(&self) -> Result<()> {
        let status = self.status;
        if status.is_success() {
            return Ok(());
        }
        match serde_json::from_slice::<Problem>(&self.body) {
            Ok(problem) => Err(with_guidance(problem).into()),
            Err(_) => bail!(
                "The server at that address answered {status} and is no manager that this agent understands. Check the address and port."
            ),
        }
    }
}

/// Sends one request over a connection and reads the answer. `lost` says what it means when none comes.
///
/// # Errors
/// When none comes.
pub async fn post(stream: Stream, path: &str, body: &impl Serialize, lost: &str) -> Result<Answer> {
    let request = Request::post(path)
        .header(header::HOST, tls::MANAGER_NAME)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(serde_json::to_vec(body)?)))
        .context("Failed to build the request")?;
    let exchange = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let answer = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER);
            let body = body.collect().await.map_err(|error| anyhow::anyhow!(error))?;
            anyhow::Ok(Answer { status, body: body.to_bytes() })
        };
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            // The connection's own task ends when the manager closes; the answer may be there.
            _ = connection => answer.await,
        }
    };
    tokio::time::timeout(ANSWER_TIMEOUT, exchange)
        .await
        .with_context(|| format!("The manager did not answer in time. {lost}"))?
        .with_context(|| format!("The connection broke before the manager answered. {lost}"))
}

/// Fetches a file into this place, which takes shape beside it and is whole or not there.
///
/// # Errors
/// When it is refused, breaks off, or cannot be written.
pub async fn fetch(stream: Stream, path: &str, token: &Secret<String>, to: &Path) -> Result<()> {
    let request = Request::post(path)
        .header(header::HOST, tls::MANAGER_NAME)
        .body(Full::new(Bytes::from(token.expose_secret().clone())))
        .context("Failed to build the request")?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let fetching = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let mut body = response.into_body();
        if !status.is_success() {
            let body = Limited::new(body, MAX_ANSWER).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
            return Answer { status, body }.check();
        }
        let fresh = to.with_extension("new");
        let _ = std::fs::remove_file(&fresh);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&fresh)?;
        // A body that is shorter than it said is an error here.
        while let Some(frame) = tokio::time::timeout(ANSWER_TIMEOUT, body.frame()).await? {
            if let Ok(data) = frame?.into_data() {
                file.write_all(&data)?;
            }
        }
        file.sync_all()?;
        std::fs::rename(&fresh, to)?;
        anyhow::Ok(())
    };
    tokio::pin!(fetching);
    tokio::select! {
        fetched = &mut fetching => fetched,
        _ = connection => fetching.await,
    }
    .context("The file was not fetched")
}

/// A refusal always says what to do.
fn with_guidance(problem: Problem) -> Problem {
    if problem.guidance.is_some() {
        return problem;
    }
    #[expect(clippy::wildcard_enum_match_arm, reason = "most codes have nothing to do with it")]
    let guidance = match problem.code {
        Code::TokenUnknown => {
            "Copy the whole install line again, or make a new one in the manager."
        }
        Code::TokenExpired => "Make a new install line in the manager; it holds for one hour.",
        Code::TokenUsed => {
            "Make a new install line in the manager. If you did not use this one yourself, somebody else did: look at the manager's notices first."
        }
        Code::KeyAlreadyEnrolled => "Run the enrolment again with --again.",
        Code::HostRevoked => "Make a new install line in the manager.",
        Code::AgentTooOld | Code::CapabilityMissing => {
            "Install the agent that the manager offers, then enrol again."
        }
        Code::AnnouncementOver => "Announce the machine again.",
        Code::AnnouncementRefused => "Ask the manager's admin why.",
        _ => "Look at the manager's notices, then try again.",
    };
    problem.guidance(guidance)
}
