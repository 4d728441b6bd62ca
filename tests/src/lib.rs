//! The test kit: real servers, real agents, real restic and a real rest-server, each as its own
//! process with its own folder, for the tests that cross crates and for the demo.
//!
//! Everything here waits for a state and never for a time: [`wait_for`] polls a condition until it
//! holds, and says what it waited for when it does not.

pub mod agent;
pub mod api;
pub mod arguments;
pub mod canary;
pub mod clock;
pub mod counted;
pub mod desktop;
pub mod dice;
pub mod endpoint;
pub mod fleet;
pub mod made;
pub mod manager;
pub mod namespace;
pub mod planted;
pub mod process;
pub mod proxy;
pub mod puppet;
pub mod relay;
pub mod rest_server;
pub mod teller;
pub mod thief;
pub mod told;
pub mod tools;
pub mod tree;
pub mod webhook;
pub mod world;

use anyhow::{Result, bail};
use std::time::Duration;

/// How long a condition may take before the wait gives up. Generous, since it is only ever used up
/// by a failure; a busy machine must not look like one.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Polls `condition` until it gives a value.
///
/// # Errors
/// When it did not within `patience`; the message names `what` was waited for.
pub async fn wait_for_within<T>(
    what: &str,
    patience: Duration,
    mut condition: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        if let Some(value) = condition().await? {
            return Ok(value);
        }
        if tokio::time::Instant::now() >= deadline {
            bail!("waited {} s in vain for {what}", patience.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// [`wait_for_within`] the usual [`PATIENCE`].
///
/// # Errors
/// As there.
pub async fn wait_for<T>(
    what: &str,
    condition: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    wait_for_within(what, PATIENCE, condition).await
}

/// A secret that stands out: random, and with the characters that break URLs and escapes.
///
/// # Panics
/// When the operating system has no randomness.
#[must_use]
pub fn planted_secret(name: &str) -> String {
    let mut random = [0; 12];
    assert!(getrandom::fill(&mut random).is_ok(), "the operating system gave no random numbers");
    format!("{name} %zz/#{}", data_encoding::HEXLOWER.encode(&random))
}
