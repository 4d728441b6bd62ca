//! What `restic-manager-headless` does: the server and the admin's interface, without a desktop.

use crate::{
    auth::{password, token},
    db::{Db, audit, manager as rows, sessions},
    files::{self, Readers},
    hooks,
    server::{Config, Deps, Server, ServerHandle},
    ui_listener::{self, UiConfig, UiHandle, certificate},
    vault::FileKeyStore,
};
use anyhow::{Context as _, bail};
use protocol::Secret;
use schedule::{Clock as _, SystemClock};
use serde::Serialize;
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// How long what is going on may take to finish.
const DEADLINE: Duration = Duration::from_secs(10);

/// A random password, for when nobody chose one.
///
/// # Errors
/// When the operating system gives no randomness.
pub fn generate_password() -> anyhow::Result<Secret<String>> {
    token::mint(18)
}

/// Makes the data folder with all that is in it, and sets the first password.
///
/// # Errors
/// When there is a manager in the folder already, or it cannot be made.
pub async fn init(
    data_dir: &Path,
    agent_addresses: Vec<String>,
    password: &Secret<String>,
) -> anyhow::Result<()> {
    password::check(password)?;
    if data_dir.join("server.db").exists() {
        bail!(
            "there is a manager in {} already; nothing was changed. To change its password, use \
             `restic-manager-headless password`",
            data_dir.display()
        );
    }
    // Starting makes whatever is missing. Nobody can come in on a port that nobody knows.
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = start_server(data_dir, nowhere, agent_addresses, None).await?;
    let set = store_password(server.manager().db(), password, "password.first").await;
    server.shutdown(DEADLINE).await;
    set?;
    let dir = data_dir.display();
    tracing::info!(
        "The manager in {dir} is made. Start it: restic-manager-headless serve --data-dir '{dir}'"
    );
    Ok(())
}

/// Changes the password, and ends all sessions. The server may be running.
///
/// # Errors
/// When there is no manager in the folder, or the password is unsuitable.
pub async fn set_password(data_dir: &Path, password: &Secret<String>) -> anyhow::Result<()> {
    password::check(password)?;
    let db = open_db(data_dir).await?;
    let set = store_password(&db, password, "password.change").await;
    db.close().await;
    set
}

async fn store_password(db: &Db, password: &Secret<String>, action: &str) -> anyhow::Result<()> {
    let hash = password::hash(password)?;
    let mut tx = db.begin().await?;
    rows::set_password_hash(&mut tx, &hash).await?;
    sessions::delete_all(&mut tx).await?;
    audit::insert(&mut tx, SystemClock.now(), "console", action, "", "").await?;
    tx.commit().await.context("failed to store the password")
}

async fn open_db(data_dir: &Path) -> anyhow::Result<Db> {
    let file = data_dir.join("server.db");
    if !file.exists() {
        bail!(
            "there is no manager in {} yet; make one with `restic-manager-headless init`",
            data_dir.display()
        );
    }
    Ok(Db::open(&file).await?)
}

async fn start_server(
    data_dir: &Path,
    agent_listen: SocketAddr,
    agent_addresses: Vec<String>,
    programs: Option<PathBuf>,
) -> anyhow::Result<ServerHandle> {
    let config = Config {
        data_dir: data_dir.to_owned(),
        agent_listen,
        agent_addresses,
        programs,
        found_addresses: Vec::new(),
    };
    let deps = Deps {
        clock: hooks::clock(),
        key_store: Arc::new(FileKeyStore::new(data_dir.join("vault.key"))),
    };
    Ok(Server::start(config, deps).await?)
}

/// What the server is told.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Where database, key and certificate lie.
    pub data_dir: PathBuf,
    /// Where the admin's interface listens.
    pub ui: UiConfig,
    /// Where agents dial in.
    pub agent_listen: SocketAddr,
    /// How agents find it; those that are stored when empty.
    pub agent_addresses: Vec<String>,
    /// The folder with what machines are set up with; where an installation puts it when absent.
    pub programs: Option<PathBuf>,
}

/// The running server.
#[derive(Debug)]
pub struct Running {
    server: ServerHandle,
    ui: UiHandle,
    ca_file: PathBuf,
    ui_ca_file: PathBuf,
}

/// The line that says that everything is up, for whoever started it.
#[derive(Debug, Serialize)]
pub struct Ready {
    /// Always true.
    pub ready: bool,
    /// Where the admin's interface is.
    pub ui: String,
    /// Where agents dial in.
    pub agent: String,
    /// The key that agents pin.
    pub manager_key: String,
    /// The certificate authority of what agents dial.
    pub ca_file: PathBuf,
    /// The certificate of the admin's interface, which is its own authority.
    pub ui_ca_file: PathBuf,
}

impl Running {
    /// Starts the server and the admin's interface.
    ///
    /// # Errors
    /// When there is no manager in the folder yet, or a part does not start.
    pub async fn start(config: ServeConfig) -> anyhow::Result<Self> {
        open_db(&config.data_dir).await?.close().await;
        let server = start_server(
            &config.data_dir,
            config.agent_listen,
            config.agent_addresses,
            config.programs,
        )
        .await?;
        let is_findable = !rows::addresses(server.manager().db().read()).await?.is_empty();
        match Self::start_ui(&server, &config.data_dir, &config.ui).await {
            Ok((ui, ca_file)) => {
                let ui_ca_file = certificate::public_file(&config.data_dir);
                let running = Self { server, ui, ca_file, ui_ca_file };
                running.announce(is_findable);
                Ok(running)
            }
            Err(error) => {
                server.shutdown(DEADLINE).await;
                Err(error)
            }
        }
    }

    async fn start_ui(
        server: &ServerHandle,
        data_dir: &Path,
        config: &UiConfig,
    ) -> anyhow::Result<(UiHandle, PathBuf)> {
        let ca_file = data_dir.join("ca.pem");
        let pem = server.manager().identity().root_cert_pem();
        files::replace(&ca_file, &pem, Readers::Everyone)
            .with_context(|| format!("failed to write {}", ca_file.display()))?;
        let ui = ui_listener::start(server.manager().clone(), data_dir, config).await?;
        Ok((ui, ca_file))
    }

    /// Says what is up and what is next, for people.
    fn announce(&self, is_findable: bool) {
        tracing::info!(
            "Serving the admin at https://{}; its certificate is {}",
            self.ui.address(),
            self.ui_ca_file.display()
        );
        if !self.ui.has_pages() {
            tracing::warn!(
                "There are no pages to show to a browser, only the API: start with --ui-dir and \
                 the folder of the built pages. Sign in at /api/session; /api/openapi.json \
                 describes the rest"
            );
        }
        if !is_findable {
            tracing::warn!(
                "No machine can be enrolled before this manager knows how agents find it: start \
                 it with --agent-address host:port"
            );
        }
    }

    /// Where everything is.
    #[must_use]
    pub fn ready(&self) -> Ready {
        Ready {
            ready: true,
            ui: format!("https://{}", self.ui.address()),
            agent: self.server.agent_addr().to_string(),
            manager_key: self.server.manager().identity().manager_key(),
            ca_file: self.ca_file.clone(),
            ui_ca_file: self.ui_ca_file.clone(),
        }
    }

    /// Stops everything within some seconds.
    pub async fn shutdown(self) {
        self.ui.shutdown(DEADLINE).await;
        self.server.shutdown(DEADLINE).await;
    }
}
