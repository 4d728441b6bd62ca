//! What the app does, without knowing of any window: it starts the server once the keyring allows
//! it, hands requests to it, shows and hides, and ends in order.
//!
//! A start that failed is told to whoever asks next, and is tried again by the next who asks, so the
//! page's "Try again" is nothing but another request.

use crate::{
    bridge::{Answer, Bridge},
    keyring::Keyring,
    refusals::start_refused,
};
use axum::Extension;
use protocol::{Code, Problem};
use schedule::SystemClock;
use server::{
    api::{streams::Closing, ui_router},
    server::{Config, Deps, Server, ServerHandle},
    vault::KeyStore,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Mutex, oneshot};
use tokio_util::sync::CancellationToken;

/// How long connections may take to end when the app quits. What they had not told comes again.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long a person may take to answer the keyring's question.
pub const KEYRING_WITHIN: Duration = Duration::from_secs(120);

/// What surrounds the app: the window and the process.
pub trait Shell: Send + Sync + 'static {
    /// Shows the window, in front of the others and ready for keys.
    fn show(&self);
    /// Takes the window away; the app goes on.
    fn hide(&self);
    /// Ends the process. Everything that had to be done was done.
    fn exit(&self);
}

/// The app.
pub struct Controller {
    shell: Box<dyn Shell>,
    keyring: Arc<dyn Keyring>,
    keyring_within: Duration,
    config: Config,
    server: Mutex<State>,
    /// How many starts have failed.
    failed: AtomicU64,
    is_stopping: AtomicBool,
    /// Says that the app ends: starts are given up, streams close.
    ending: CancellationToken,
    /// Says that it has ended.
    ended: CancellationToken,
}

#[derive(Default)]
struct State {
    running: Option<Running>,
    /// Why the last start failed.
    refused: Option<Problem>,
}

struct Running {
    handle: ServerHandle,
    bridge: Bridge,
}

impl Controller {
    /// An app that has not started yet.
    #[must_use]
    pub fn new(shell: Box<dyn Shell>, keyring: Arc<dyn Keyring>, config: Config) -> Self {
        Self {
            shell,
            keyring,
            keyring_within: KEYRING_WITHIN,
            config,
            server: Mutex::default(),
            failed: AtomicU64::new(0),
            is_stopping: AtomicBool::new(false),
            ending: CancellationToken::new(),
            ended: CancellationToken::new(),
        }
    }

    /// The same with another time for the keyring's question.
    #[must_use]
    pub fn keyring_within(mut self, limit: Duration) -> Self {
        self.keyring_within = limit;
        self
    }

    /// The way to the server, which is started if it does not run. Whoever comes meanwhile waits, and
    /// hears the same: one start asks a person once.
    ///
    /// # Errors
    /// The answer that says why it does not run.
    pub async fn bridge(&self) -> Result<Bridge, Answer> {
        let failed = self.failed.load(Ordering::Acquire);
        let mut state = tokio::select! {
            state = self.server.lock() => state,
            () = self.ending.cancelled() => return Err(Answer::refusal(&stopping())),
        };
        if let Some(running) = &state.running {
            return Ok(running.bridge.clone());
        }
        if let Some(problem) = &state.refused
            && self.failed.load(Ordering::Acquire) != failed
        {
            return Err(Answer::refusal(problem));
        }
        let started = tokio::select! {
            biased;
            () = self.ending.cancelled() => Err(stopping()),
            started = self.start() => started,
        };
        match started {
            Ok(running) => Ok(state.running.insert(running).bridge.clone()),
            Err(problem) => {
                let answer = Answer::refusal(&problem);
                state.refused = Some(problem);
                self.failed.fetch_add(1, Ordering::Release);
                Err(answer)
            }
        }
    }

    async fn start(&self) -> Result<Running, Problem> {
        let key_store = self.open_keyring().await?;
        let deps = Deps { clock: Arc::new(SystemClock), key_store };
        let handle = match Server::start(self.config.clone(), deps).await {
            Ok(handle) => handle,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "Failed to start");
                return Err(start_refused(&error, &self.config.data_dir));
            }
        };
        tracing::info!(agents = %handle.agent_addr(), "Serving");
        let closing = Closing(self.ending.clone());
        let router = ui_router(handle.manager().clone()).layer(Extension(closing));
        Ok(Running { handle, bridge: Bridge::new(router) })
    }

    /// On a thread of its own: a keyring that waits for a person can be left behind, but not stopped.
    async fn open_keyring(&self) -> Result<Arc<dyn KeyStore>, Problem> {
        let (answer, answered) = oneshot::channel();
        let keyring = Arc::clone(&self.keyring);
        let thread = std::thread::Builder::new().name("keyring".to_owned());
        let spawned = thread.spawn(move || {
            // Nobody may be waiting any more.
            let _ = answer.send(keyring.open());
        });
        if spawned.is_err() {
            return Err(Problem::new(
                Code::Internal,
                "The system has no thread left to start with.",
            )
            .guidance("End other programs, then try again."));
        }
        match tokio::time::timeout(self.keyring_within, answered).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(_)) => Err(Problem::new(
                Code::KeyringFailed,
                "The keyring broke when it was asked. Nothing was changed.",
            )
            .guidance("Try again; the log has the cause.")),
            Err(_) => Err(Problem::new(
                Code::KeyringLocked,
                "The keyring asked for its password, and nobody answered. Nothing was changed.",
            )
            .guidance("Unlock the keyring, then try again.")),
        }
    }

    /// The person closed the window, which is no reason to stop: agents go on telling. Where the
    /// server did not start there is nothing to go on with, and the app ends.
    pub async fn window_closed(&self) {
        let is_idle = self.server.try_lock().is_ok_and(|state| state.running.is_none());
        if is_idle { self.quit().await } else { self.shell.hide() }
    }

    /// The person asked for the window, by the tray or by starting the app a second time.
    pub fn open(&self) {
        self.shell.show();
    }

    /// Whether the process may end.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Ends the app: takes nothing new, lets what goes on finish within the deadline, and exits.
    /// Asking again while it ends changes nothing.
    pub async fn quit(&self) {
        if self.stop().await {
            self.shell.exit();
        }
    }

    /// The same without the exit, for when the process ends in any case. Says whether it was this
    /// call that stopped the server.
    pub async fn stop(&self) -> bool {
        if self.is_stopping.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.ending.cancel();
        let stopped = async {
            let running = self.server.lock().await.running.take();
            if let Some(Running { handle, bridge }) = running {
                drop(bridge);
                handle.shutdown(DEADLINE).await;
            }
        };
        // Whatever hangs, a person who quits is not held up by it: nothing acknowledged is lost.
        match tokio::time::timeout(3 * DEADLINE, stopped).await {
            Ok(()) => tracing::info!("Stopped"),
            Err(_) => tracing::warn!("Did not stop in time; ending all the same"),
        }
        self.ended.cancel();
        true
    }
}

fn stopping() -> Problem {
    Problem::new(Code::Stopping, "Restic Manager is closing.")
        .guidance("Start it again to go on; a backup that is going does not wait for it.")
}

#[cfg(test)]
mod tests;
