//! Enrolment: the one exchange in which a machine with a token becomes one of the manager's.
//!
//! The server is verified against the pinned key before the token is sent, and the token travels in
//! a body only. Nothing is written before the manager has said yes.

use crate::{
    connection::{Stream, dial},
    identity::{Enrolment, Identity},
    join::{Joining, post},
    points,
    tls::{self, Epoch, ManagerKey},
};
use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use protocol::{EnrolRequest, EnrolResponse, HostArch, HostOs, Secret};

/// What an enrolment needs.
#[derive(Debug)]
pub struct EnrolOptions {
    /// The machine and its state.
    pub joining: Joining,
    /// The manager's root public key.
    pub manager_key: ManagerKey,
    /// The one-time token.
    pub token: Secret<String>,
}

/// Enrols this machine.
///
/// # Errors
/// In words for a person; a [`protocol::Problem`] of the manager's can be found in the chain.
pub async fn enrol(options: EnrolOptions, now: Timestamp) -> Result<Enrolment> {
    let _lock = options.joining.begin().await?;
    let identity = Identity::generate()?;
    let (stream, address) = reach(&options, &identity).await?;
    tracing::info!(%address, "Reached the manager; its key is the pinned one");
    let answer = ask(stream, &options).await?;
    options.joining.settle(&identity, options.manager_key, answer, now)
}

async fn reach(options: &EnrolOptions, identity: &Identity) -> Result<(Stream, String)> {
    let config = tls::client_config(options.manager_key, identity, Epoch::default())
        .context("Failed to set up TLS")?;
    let mut problems = Vec::new();
    for address in &options.joining.addresses {
        match dial(address, config.clone()).await {
            Ok(stream) => return Ok((stream, address.clone())),
            Err(problem) => problems.push(problem.message),
        }
    }
    bail!("{} The token was not used.", problems.join("\n"))
}

async fn ask(stream: Stream, options: &EnrolOptions) -> Result<EnrolResponse> {
    let request = EnrolRequest {
        token: options.token.clone(),
        protocol_version: points::protocol_version(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: options.joining.hostname.clone(),
        os: HostOs::current(),
        arch: HostArch::current(),
    };
    let lost = "The token may have been used; make a new one";
    post(stream, "/agent/enrol", &request, lost).await?.granted()
}
