//! Enrolment: the one exchange in which a machine becomes one of the manager's.
//!
//! The server is verified against the pinned key before the token is sent, and the token travels in
//! a body only. Nothing is written before the manager has said yes.

use crate::{
    connection::{Stream, dial},
    hooks,
    identity::{Enrolment, Identity, Settings, set_aside},
    paths::{StateDir, lock_patiently},
    tls::{self, Epoch, ManagerKey},
};
use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use protocol::{Code, EnrolRequest, EnrolResponse, HostArch, HostOs, Problem, Secret};
use std::{path::PathBuf, time::Duration};

/// The largest answer that is read.
const MAX_ANSWER: usize = 64 * 1024;

/// How long the manager may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What an enrolment needs.
#[derive(Debug)]
pub struct EnrolOptions {
    /// The state folder.
    pub state: StateDir,
    /// Where to dial, best first.
    pub addresses: Vec<String>,
    /// The manager's root public key.
    pub manager_key: ManagerKey,
    /// The one-time token.
    pub token: Secret<String>,
    /// The machine's name.
    pub hostname: String,
    /// Where restores go, if not into the state folder.
    pub restore_root: Option<PathBuf>,
    /// Whether an enrolment that is there may be replaced.
    pub again: bool,
}

/// Enrols this machine.
///
/// # Errors
/// In words for a person; a [`Problem`] of the manager's can be found in the chain.
pub async fn enrol(options: EnrolOptions, now: Timestamp) -> Result<Enrolment> {
    let state = &options.state;
    state.create()?;
    let _lock = lock_patiently(state).await?;
    if state.is_enrolled() && !options.again {
        bail!(
            "This machine is enrolled already ({}). Nothing was changed. To enrol it anew, with a new key and a new journal, add --again; the old state is kept aside.",
            state.enrolment().display()
        );
    }
    if let Some(root) = &options.restore_root
        && !root.is_absolute()
    {
        bail!("The restore root must be an absolute path: {}", root.display());
    }
    let identity = Identity::generate()?;
    let (stream, address) = reach(&options, &identity).await?;
    tracing::info!(%address, "Reached the manager; its key is the pinned one");
    let answer = ask(stream, &options).await?;

    let mut addresses = answer.addresses;
    // What worked for the person who typed it is kept, as the last resort.
    for address in &options.addresses {
        if !addresses.contains(address) {
            addresses.push(address.clone());
        }
    }
    if state.is_enrolled() {
        let stamp = stamp(now);
        let kept = set_aside(state, &stamp)?;
        tracing::info!(kept = %kept.display(), "The old state was kept aside");
    }
    identity.save(state)?;
    // Written in any case, so that the administrator finds the file to fill in.
    let mut settings = Settings::load(state)?;
    settings.restore_root = options.restore_root.or(settings.restore_root);
    settings.save(state)?;
    let enrolment = Enrolment {
        host_id: answer.host_id,
        manager_key: options.manager_key,
        manager: answer.manager,
        addresses,
        enrolled_at: now,
    };
    // Last: with this file the machine is enrolled.
    enrolment.save(state)?;
    Ok(enrolment)
}

/// A point in time as part of a file's name.
#[must_use]
pub fn stamp(now: Timestamp) -> String {
    now.strftime("%Y%m%dT%H%M%SZ").to_string()
}

async fn reach(options: &EnrolOptions, identity: &Identity) -> Result<(Stream, String)> {
    let config = tls::client_config(options.manager_key, identity, Epoch::default())
        .context("Failed to set up TLS")?;
    let mut problems = Vec::new();
    for address in &options.addresses {
        match dial(address, config.clone()).await {
            Ok(stream) => return Ok((stream, address.clone())),
            Err(problem) => problems.push(problem.message),
        }
    }
    bail!("{} The token was not used.", problems.join("\n"))
}

async fn ask(stream: Stream, options: &EnrolOptions) -> Result<EnrolResponse> {
    let body = serde_json::to_vec(&EnrolRequest {
        token: options.token.clone(),
        protocol_version: hooks::protocol_version(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: options.hostname.clone(),
        os: HostOs::current(),
        arch: HostArch::current(),
    })?;
    let request = Request::post("/agent/enrol")
        .header(header::HOST, tls::MANAGER_NAME)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .context("Failed to build the request")?;
    let exchange = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let answer = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER);
            let body = body.collect().await.map_err(|error| anyhow::anyhow!(error))?;
            anyhow::Ok((status, body.to_bytes()))
        };
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            // The connection's own task ends when the manager closes; the answer may be there.
            _ = connection => answer.await,
        }
    };
    let (status, body) = tokio::time::timeout(ANSWER_TIMEOUT, exchange)
        .await
        .context("The manager did not answer in time. The token may have been used; make a new one")?
        .context("The connection broke before the manager answered. The token may have been used; make a new one")?;
    if status.is_success() {
        return serde_json::from_slice(&body).context(
            "The manager's answer cannot be read. Update the agent to the manager's version",
        );
    }
    match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => Err(with_guidance(problem).into()),
        Err(_) => bail!(
            "The server at that address answered {status} and is no manager that this agent understands. Check the address and port."
        ),
    }
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
        _ => "Look at the manager's notices, then try again.",
    };
    problem.guidance(guidance)
}
