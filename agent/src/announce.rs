//! Announcing: a machine without a token asks to join, and root compares a short code with the one
//! that the manager shows. See [`protocol::Meeting`] for why a short one is enough.
//!
//! Which manager is at the other end nobody knows before the codes were compared. So the first
//! connection takes whatever root key its handshake proves, every later one proves the same, and the
//! code covers it. Nothing is written before the manager has said yes.

use crate::{
    connection::{Stream, dial, random_bytes},
    identity::{Enrolment, Identity},
    join::{Answer, Joining, post},
    points,
    tls::{self, Epoch},
};
use anyhow::{Context, Result, bail};
use hyper::StatusCode;
use jiff::Timestamp;
use protocol::{
    AnnounceRequest, AnnounceResponse, Commitment, EnrolResponse, HostArch, HostOs, Meeting, Nonce,
    RevealRequest, ShortCode,
};
use rustls::ClientConfig;
use serde::Serialize;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// How long the manager may be out of reach while the admin decides; it does not wait longer itself.
const PATIENCE: Duration = Duration::from_mins(15);
/// The pause before a manager that could not be reached is dialled again.
const PAUSE: Duration = Duration::from_secs(2);
/// What it means when an answer is lost.
const LOST: &str = "Nothing was written; announce the machine again";

/// Asks a manager to take this machine in. `ask` shows root the code and answers with what root has
/// typed, which is what the manager's app shows.
///
/// # Errors
/// In words for a person; a [`protocol::Problem`] of the manager's can be found in the chain.
pub async fn announce(
    joining: Joining,
    now: Timestamp,
    ask: impl FnOnce(ShortCode) -> Result<String>,
) -> Result<Enrolment> {
    let _lock = joining.begin().await?;
    let identity = Identity::generate()?;
    let agent_key = identity.fingerprint()?;
    let agent_nonce = Nonce::from(random_bytes()?);

    let (stream, address) = reach(&joining.addresses, &identity).await?;
    let manager_key = tls::proven_root(stream.get_ref().1)
        .context("The server proves no manager's key. Check the address and port")?;
    tracing::info!(%address, "Reached a manager; the code will say whether it is the right one");
    let request = AnnounceRequest {
        commitment: Commitment::to(&agent_key, agent_nonce),
        protocol_version: points::protocol_version(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: joining.hostname.clone(),
        os: HostOs::current(),
        arch: HostArch::current(),
    };
    let AnnounceResponse { id, nonce: manager_nonce } =
        post(stream, "/agent/announce", &request, LOST).await?.granted()?;

    let config = tls::client_config(manager_key, &identity, Epoch::default())
        .context("Failed to set up TLS")?;
    let line = Line { address, config, path: format!("/agent/announce/{id}") };
    line.post("reveal", &RevealRequest { nonce: agent_nonce }).await?.check()?;
    let manager_key_bytes = *manager_key.as_bytes();
    let meeting = Meeting { agent_key, manager_key: manager_key_bytes, agent_nonce, manager_nonce };
    let code = meeting.code();
    let typed = ask(code)?;
    if typed.parse::<ShortCode>().ok() != Some(code) {
        bail!(
            "What was typed is not the code of this machine, {code}. Nothing was written, and the manager was told nothing. If it was a slip, refuse this machine in the app and announce it again. If the app really shows another code, somebody may be between the two: refuse the machine there, and use an install line."
        );
    }
    tracing::info!("The code is confirmed here; waiting for the manager's admin to approve");
    let answer = line.decision().await?;
    joining.settle(&identity, manager_key, answer, now)
}

/// The first connection, to whichever manager is there.
async fn reach(addresses: &[String], identity: &Identity) -> Result<(Stream, String)> {
    let config = tls::introduction_config(identity).context("Failed to set up TLS")?;
    let mut problems = Vec::new();
    for address in addresses {
        match dial(address, config.clone()).await {
            Ok(stream) => return Ok((stream, address.clone())),
            Err(problem) => problems.push(problem.message),
        }
    }
    bail!("{}", problems.join("\n"))
}

/// The way to the manager that the first connection met, and to no other.
struct Line {
    address: String,
    config: Arc<ClientConfig>,
    path: String,
}

impl Line {
    async fn post(&self, what: &str, body: &impl Serialize) -> Result<Answer> {
        let stream = dial(&self.address, self.config.clone()).await.context(LOST)?;
        post(stream, &format!("{}/{what}", self.path), body, LOST).await
    }

    /// Tells the manager that root has confirmed, and waits for what the admin decides.
    async fn decision(&self) -> Result<EnrolResponse> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.post("confirm", &serde_json::json!({})).await {
                Ok(answer) if answer.status == StatusCode::ACCEPTED => {}
                Ok(answer) => return answer.granted(),
                // The manager may have approved: an answer that was lost is asked for again.
                Err(error) if Instant::now() < until => {
                    tracing::warn!("{error:#}. Dialling again");
                    sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}
