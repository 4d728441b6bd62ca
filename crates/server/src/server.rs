//! Starting and stopping the server.

use crate::{
    db::{Db, error::DbError, manager as identity_rows, repositories, runs},
    events::{Events, Topic},
    identity::{Identity, IdentityError, NewIdentity},
    intake::IntakeHandle,
    keeper::Keeper,
    links::LinksHandle,
    listener::AgentListener,
    manager::{Manager, Parts},
    memory,
    programs::Programs,
    session::socket::Shared,
    store::Refused,
    vault::{KeyStore, Vault, VaultError},
};
use protocol::{Incarnation, RepositoryId};
use ring::rand::{SecureRandom, SystemRandom};
use schedule::Clock;
use std::{
    collections::BTreeSet,
    fs::{File, TryLockError},
    io, iter,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How often waiting runs are looked at whose time is over. Nobody is told to the second.
const SWEEP_EVERY: Duration = Duration::from_secs(15);
/// How often the store is tended: its trash keeps for days, and its size is noted by the day.
const TEND_EVERY: Duration = Duration::from_hours(1);

/// Files that this process may have open at most, if the system allows it. macOS refuses more than its
/// `OPEN_MAX`, though it says that there is no limit.
#[cfg(unix)]
const MOST_FILES: u64 = if cfg!(target_os = "macos") { 10_240 } else { 65_536 };

/// What a server is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the database lies. Made when it is missing, for its owner only.
    pub data_dir: PathBuf,
    /// Where agents dial in.
    pub agent_listen: SocketAddr,
    /// How agents find it, `host:port`, best first; those that are stored when empty.
    pub agent_addresses: Vec<String>,
    /// The folder with what is handed out to machines; where an installation puts it when absent.
    pub programs: Option<PathBuf>,
    /// What to use when none are told or stored, such as what this machine knows of itself.
    pub found_addresses: Vec<String>,
}

/// What a server needs from outside.
#[derive(Clone)]
pub struct Deps {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where the one key lives that opens the vault.
    pub key_store: Arc<dyn KeyStore>,
}

/// Why a server did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The data folder cannot be used.
    #[error("failed to prepare the data folder {path}")]
    DataDir {
        /// The folder.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another manager runs on this data folder.
    #[error("another Restic Manager uses the data folder {path}; stop it first")]
    InUse {
        /// The folder.
        path: String,
    },
    /// The database cannot be used.
    #[error("failed to open the database")]
    Db(#[from] DbError),
    /// The vault cannot be opened.
    #[error("failed to open the vault")]
    Vault(#[from] VaultError),
    /// There is no identity.
    #[error("failed to load the manager's identity")]
    Identity(#[from] IdentityError),
    /// The programs for machines cannot be had.
    #[error("failed to find the programs for machines in {path}")]
    Programs {
        /// The folder.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Agents cannot dial in.
    #[error("failed to listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The server.
#[derive(Debug)]
pub struct Server;

/// A running server.
#[derive(Debug)]
pub struct ServerHandle {
    manager: Manager,
    agent_addr: SocketAddr,
    /// Held as long as this manager runs.
    _lock: File,
    /// Take nothing new, finish what goes on.
    soft: CancellationToken,
    /// Drop what has not finished.
    hard: CancellationToken,
    /// Listener, connections and sweeper.
    tasks: TaskTracker,
    /// Intake and registry, which serve the others to the end.
    services: TaskTracker,
}

impl Server {
    /// Starts the server: once this returns, agents can dial in.
    ///
    /// # Errors
    /// When a part of it cannot be had.
    pub async fn start(config: Config, deps: Deps) -> Result<ServerHandle, StartError> {
        allow_many_connections();
        prepare(&config.data_dir)?;
        let lock = lock(&config.data_dir)?;
        let db = Db::open(&config.data_dir.join("server.db")).await?;
        let is_new = identity_rows::identity(db.read()).await?.is_none();
        let vault = Vault::open(deps.key_store.as_ref(), is_new)?;
        let stored = identity_rows::addresses(db.read()).await?;
        let addresses = [config.agent_addresses, stored, config.found_addresses]
            .into_iter()
            .find(|addresses| !addresses.is_empty())
            .unwrap_or_default();
        let new = new_identity(&addresses, deps.clock.as_ref())?;
        let identity = Identity::load_or_create(&db, &vault, new).await?;
        let mut tx = db.begin().await?;
        identity_rows::set_addresses(&mut tx, &addresses).await?;
        tx.commit().await.map_err(DbError::from)?;

        let address = config.agent_listen;
        let listen = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let agent_addr = listener.local_addr().map_err(listen)?;
        let listeners = iter::once(listener).chain(listen_here(agent_addr).await);

        let programs = match &config.programs {
            Some(folder) => Programs::in_folder(folder).map_err(|source| StartError::Programs {
                path: folder.display().to_string(),
                source,
            })?,
            None => Programs::installed(),
        };
        let (links, registry) = LinksHandle::new();
        let (intake, taking_in) = IntakeHandle::new();
        let manager = Manager::new(Parts {
            db,
            vault: Arc::new(vault),
            identity: Arc::new(identity),
            clock: deps.clock,
            events: Events::default(),
            links,
            store_folder: config.data_dir.join("store"),
            programs,
        });
        tidy_store(&manager).await?;
        let folder = config.data_dir.join("keeper");
        let keeper = Keeper::new(manager.clone(), folder, agent_addr.port()).await?;
        let handle = ServerHandle {
            manager: manager.clone(),
            agent_addr,
            _lock: lock,
            soft: CancellationToken::new(),
            hard: CancellationToken::new(),
            tasks: TaskTracker::new(),
            services: TaskTracker::new(),
        };
        let (soft, hard) = (handle.soft.clone(), handle.hard.clone());
        handle.services.spawn(registry.run(hard.clone()));
        handle.services.spawn(taking_in.run(manager.clone(), config.data_dir.clone()));
        handle.tasks.spawn(sweep(manager.clone(), soft.clone()));
        handle.tasks.spawn(keeper.run(soft.clone()));
        handle.tasks.spawn(tend_store(manager.clone(), soft.clone()));
        let shared = Shared { manager, intake, stop: soft };
        let tasks = handle.tasks.clone();
        for listener in listeners {
            let (shared, tasks, hard) = (shared.clone(), tasks.clone(), hard.clone());
            let listener = AgentListener { listener, shared, tasks, hard };
            handle.tasks.spawn(async move {
                if let Err(error) = listener.run().await {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "failed to serve agents");
                }
            });
        }
        memory::give_back();
        Ok(handle)
    }
}

/// The keeper's restic dials this computer under the name `localhost`, at which nobody answers when
/// agents are listened for at one address of the network only.
async fn listen_here(agents: SocketAddr) -> Option<TcpListener> {
    let is_here = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
    if agents.ip().is_unspecified() || is_here.contains(&agents.ip()) {
        return None;
    }
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, agents.port()));
    match TcpListener::bind(here).await {
        Ok(listener) => Some(listener),
        // Agents are served all the same; a check or prune in the store says that nobody answers.
        Err(error) => {
            tracing::warn!(%here, %error, "nothing in the store can be checked or pruned");
            None
        }
    }
}

impl ServerHandle {
    /// What everything else is built on.
    #[must_use]
    pub fn manager(&self) -> &Manager {
        &self.manager
    }

    /// Where agents dial in, with the port that the system chose.
    #[must_use]
    pub fn agent_addr(&self) -> SocketAddr {
        self.agent_addr
    }

    /// Stops: takes nothing new, lets what goes on finish within the deadline, and drops the rest.
    /// Being dropped or killed at any moment loses nothing that was acknowledged; this is only
    /// kinder.
    pub async fn shutdown(self, deadline: Duration) {
        self.soft.cancel();
        self.tasks.close();
        if tokio::time::timeout(deadline, self.tasks.wait()).await.is_err() {
            tracing::warn!("some connections did not end in time and were dropped");
        }
        self.hard.cancel();
        if tokio::time::timeout(deadline, self.manager.store().finished()).await.is_err() {
            tracing::warn!("the disk of the store did not take the last files in time");
        }
        self.services.close();
        // The intake ends when the last session's way to it is gone, which the hard token saw to.
        if tokio::time::timeout(deadline, self.services.wait()).await.is_err() {
            tracing::warn!(
                "the intake did not end in time; what it had not acknowledged comes again"
            );
        }
        self.manager.db().close().await;
    }
}

/// Lets this process have as many connections as the system allows it: desktops begin with 1,024
/// files, which is fewer than there may be machines.
#[cfg(unix)]
fn allow_many_connections() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(MOST_FILES).min(MOST_FILES);
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(wanted);
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "failed to raise the number of files that may be open"
            );
        }
    }
}

#[cfg(not(unix))]
fn allow_many_connections() {
    // Windows sets no such limit.
}

/// Makes the store ready. A store that is away is no reason not to start.
async fn tidy_store(manager: &Manager) -> Result<(), DbError> {
    match manager.store().tidy(&stored(manager).await?).await {
        Ok(()) | Err(Refused::Homeless) => Ok(()),
        Err(Refused::Db(error)) => Err(error),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the store is not ready");
            Ok(())
        }
    }
}

/// The repositories in the store.
async fn stored(manager: &Manager) -> Result<Vec<RepositoryId>, DbError> {
    let all = repositories::list(manager.db().read()).await?;
    Ok(all.into_iter().filter(|it| it.store_host_id.is_some()).map(|it| it.id).collect())
}

/// Makes the data folder, for its owner only, if it is missing. [`Server::start`] does it; whoever
/// wants to write there before, such as a log, does it first.
///
/// # Errors
/// When it cannot be made.
pub fn prepare(path: &Path) -> Result<(), StartError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder
        .create(path)
        .map_err(|source| StartError::DataDir { path: path.display().to_string(), source })
}

/// Keeps other managers off the data folder: two would disagree about what each of them has told its
/// agents. The system lets go of the lock with the process, however that ends.
fn lock(data_dir: &Path) -> Result<File, StartError> {
    let path = data_dir.display().to_string();
    let failed = |source| StartError::DataDir { path: path.clone(), source };
    let mut options = File::options();
    options.create(true).write(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(data_dir.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartError::InUse { path }),
        Err(TryLockError::Error(source)) => Err(StartError::DataDir { path, source }),
    }
}

fn new_identity(addresses: &[String], clock: &dyn Clock) -> Result<NewIdentity, StartError> {
    let mut random = [0; 10];
    SystemRandom::new().fill(&mut random).map_err(|_| VaultError::Random)?;
    let now = clock.now();
    let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
    let mut names: BTreeSet<String> =
        addresses.iter().filter_map(|address| host_of(address)).collect();
    names.extend(machine_name());
    Ok(NewIdentity { incarnation: Incarnation::new(millis, &random), names, now })
}

/// The host of `host:port`, without the brackets of an IPv6 address.
fn host_of(address: &str) -> Option<String> {
    let (host, _port) = address.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| host.to_owned())
}

/// The name of this machine, if it has one.
#[cfg(unix)]
#[must_use]
pub fn machine_name() -> Option<String> {
    rustix::system::uname().nodename().to_str().ok().map(str::to_owned)
}

/// The name of this machine, if it has one.
#[cfg(not(unix))]
#[must_use]
pub fn machine_name() -> Option<String> {
    std::env::var("COMPUTERNAME").ok()
}

/// Ends runs whose machine did not come in time, and announcements that nobody decided. Looks by
/// itself: a host that is away has no session that could.
async fn sweep(manager: Manager, stop: CancellationToken) {
    loop {
        manager.announcements().sweep(manager.now());
        if let Err(error) = expire(&manager).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "failed to end expired runs");
        }
        tokio::select! {
            () = tokio::time::sleep(SWEEP_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Removes for good what lay in the store's trash too long, and notes how large the store is.
async fn tend_store(manager: Manager, stop: CancellationToken) {
    loop {
        match tend(&manager).await {
            Ok(()) | Err(Refused::Homeless | Refused::Away) => {}
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "failed to tend the store"
                );
            }
        }
        tokio::select! {
            () = tokio::time::sleep(TEND_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn tend(manager: &Manager) -> Result<(), Refused> {
    manager.store().purge().await?;
    manager.store().note_size(&stored(manager).await?).await
}

/// Ends the runs that wait for a machine which did not come in time.
///
/// # Errors
/// When the database fails.
pub async fn expire(manager: &Manager) -> Result<(), DbError> {
    let mut tx = manager.db().begin().await?;
    let expired = runs::expire_waiting(&mut tx, manager.now()).await?;
    tx.commit().await?;
    for run in expired {
        manager.events().publish(Topic::Run(run.id));
        manager.events().run_ended(run.id);
        manager.events().publish(Topic::Host(run.host_id));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::host_of;

    #[cfg(unix)]
    #[test]
    fn a_low_limit_of_open_files_is_raised_to_what_the_system_allows() {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        let allowed = limit.maximum.unwrap_or(super::MOST_FILES).min(super::MOST_FILES);
        limit.current = Some(1024);
        setrlimit(Resource::Nofile, limit).unwrap();
        super::allow_many_connections();
        assert!(allowed > 1024, "this system allows {allowed}, so that nothing can be raised");
        assert_eq!(getrlimit(Resource::Nofile).current, Some(allowed));
    }

    #[test]
    fn the_host_of_an_address_is_what_a_certificate_names() {
        assert_eq!(host_of("box.example.org:8443").as_deref(), Some("box.example.org"));
        assert_eq!(host_of("[2001:db8::1]:8443").as_deref(), Some("2001:db8::1"));
        assert_eq!(host_of("box"), None);
    }
}
