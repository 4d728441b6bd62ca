//! Repositories: where backups go. Secrets go in and never come out again, except one that was
//! minted here, once, in the answer that minted it.

pub mod create;
pub mod delete;
pub mod list;
pub mod location;
pub mod probe;
pub mod show;
pub mod snapshots;
pub mod tree;
pub mod update;

use super::{
    check,
    error::{ApiError, ApiResult},
};
use crate::{
    db::{
        repositories::{self, Repository},
        snapshots::{self as stored, Facts},
    },
    desired,
    events::Topic,
    manager::Manager,
};
use jiff::Timestamp;
use protocol::{Code, HostId, LockInfo, PlanId, Problem, RepositoryId, Secret};
use serde::Serialize;
use utoipa::ToSchema;

/// A repository.
#[derive(Debug, Serialize, ToSchema)]
pub struct RepositoryView {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    pub id: RepositoryId,
    /// Its name.
    pub name: String,
    /// restic's location, without credentials.
    pub url: String,
    /// The user name for its server.
    pub username: Option<String>,
    /// Whether there is a password for its server.
    pub has_credential: bool,
    /// The authority of its server's certificate, PEM.
    pub ca_pem: Option<String>,
    /// Whether agents may only add.
    pub append_only: bool,
    /// Whose it is, for a repository in the store: the manager itself looks after its location.
    #[schema(value_type = Option<String>, format = Uuid)]
    pub store_host_id: Option<HostId>,
    /// When it was entered.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When an admin last changed it.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// When it was first known to exist; absent until then.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub initialised_at: Option<Timestamp>,
    /// The plans that write into it.
    #[schema(value_type = Vec<uuid::Uuid>)]
    pub plan_ids: Vec<PlanId>,
    /// The hosts that have such a plan.
    #[schema(value_type = Vec<uuid::Uuid>)]
    pub host_ids: Vec<HostId>,
    /// What the last reading said.
    pub facts: FactsView,
}

/// What the last readings of a repository said; each says when that was.
#[derive(Debug, Serialize, ToSchema)]
pub struct FactsView {
    /// When size, checks and locks were read; absent before the first reading.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub read_at: Option<Timestamp>,
    /// Bytes that it takes.
    pub size_bytes: Option<u64>,
    /// Number of snapshots.
    pub snapshot_count: Option<u64>,
    /// Bytes of all snapshots' files, divided by `size_bytes`.
    pub dedup_ratio: Option<f64>,
    /// When a check last ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_check_at: Option<Timestamp>,
    /// How it ended.
    pub last_check_status: Option<String>,
    /// `locked` or `unlocked`.
    pub lock_state: Option<String>,
    /// The locks that were there.
    pub locks: Vec<LockView>,
    /// When the list of snapshots was read.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub snapshots_read_at: Option<Timestamp>,
}

/// A lock in a repository.
#[derive(Debug, Serialize, ToSchema)]
pub struct LockView {
    /// Its id.
    pub id: String,
    /// When it was taken.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub time: Option<Timestamp>,
    /// Whether it shuts everyone else out.
    pub exclusive: bool,
    /// By which machine.
    pub hostname: String,
    /// By which user.
    pub username: String,
    /// By which process.
    pub pid: u32,
}

impl From<LockInfo> for LockView {
    fn from(lock: LockInfo) -> Self {
        let LockInfo { id, time, exclusive, hostname, username, pid } = lock;
        Self { id, time, exclusive, hostname, username, pid }
    }
}

impl From<Facts> for FactsView {
    fn from(facts: Facts) -> Self {
        Self {
            read_at: facts.stats_read_at,
            size_bytes: facts.size_bytes,
            snapshot_count: facts.snapshot_count,
            dedup_ratio: facts.dedup_ratio,
            last_check_at: facts.last_check_at,
            last_check_status: facts.last_check_status,
            lock_state: facts.lock_state,
            locks: facts.locks.into_iter().map(LockView::from).collect(),
            snapshots_read_at: facts.snapshots_read_at,
        }
    }
}

/// The view of a repository.
async fn view(manager: &Manager, repository: Repository) -> ApiResult<RepositoryView> {
    let (db, id) = (manager.db().read(), repository.id);
    Ok(RepositoryView {
        id,
        has_credential: repository.credential_sealed.is_some(),
        plan_ids: repositories::plans(db, id).await?,
        host_ids: repositories::hosts(db, id).await?,
        facts: stored::facts(db, id).await?.into(),
        name: repository.name,
        url: repository.url,
        username: repository.username,
        ca_pem: repository.ca_pem,
        append_only: repository.append_only,
        store_host_id: repository.store_host_id,
        created_at: repository.created_at,
        updated_at: repository.updated_at,
        initialised_at: repository.initialised_at,
    })
}

/// The repository of this id.
async fn find(db: impl sqlx::SqliteExecutor<'_>, id: RepositoryId) -> ApiResult<Repository> {
    repositories::find(db, id).await?.ok_or_else(|| ApiError::not_found("repository"))
}

/// Refuses to change what the manager itself has set up.
fn not_in_store(repository: &Repository) -> ApiResult<()> {
    match repository.store_host_id {
        None => Ok(()),
        Some(_) => {
            Err(ApiError::conflict("This repository is a machine's own place in the store."))
        }
    }
}

/// Refuses a name that another repository has.
async fn name_is_free(
    tx: &mut crate::db::Tx,
    name: &str,
    own: Option<RepositoryId>,
) -> ApiResult<()> {
    match repositories::find_by_name(&mut **tx, name).await? {
        Some(other) if Some(other) != own => {
            let problem = Problem::new(Code::Conflict, "Another repository has this name already.");
            Err(problem.field("name").into())
        }
        _ => Ok(()),
    }
}

/// Refuses a location that another repository has: two entries of one place would have two passwords
/// for it, and each would look empty where the other is not.
async fn location_is_free(
    tx: &mut crate::db::Tx,
    url: &str,
    own: Option<RepositoryId>,
) -> ApiResult<()> {
    let all = repositories::list(&mut **tx).await?;
    let is_other = |it: &&Repository| Some(it.id) != own && location::is_same(&it.url, url);
    let Some(other) = all.iter().find(is_other) else { return Ok(()) };
    let message = format!("The repository {} is at this location already.", other.name);
    Err(Problem::new(Code::Conflict, message)
        .guidance("Use that repository, or give this one a folder of its own.")
        .field("url")
        .into())
}

/// Refuses a user name that a rest-server's password file cannot hold.
fn check_username(username: &str) -> ApiResult<()> {
    check::plain("username", username)?;
    let fits = !username.is_empty() && username.chars().count() <= 100 && !username.contains(':');
    if fits && !username.starts_with('-') {
        return Ok(());
    }
    Err(ApiError::invalid(
        "username",
        "The user name must have 1 to 100 characters, no colon, and not begin with a dash.",
    ))
}

/// Refuses a password that restic or an environment cannot hold, without telling it.
fn check_secret(field: &str, secret: &Secret<String>) -> ApiResult<()> {
    let text = secret.expose_secret();
    if text.is_empty() {
        return Err(ApiError::invalid(field, "It must not be empty; leave the field out instead."));
    }
    if text.len() > 1000 || text.chars().any(char::is_control) {
        return Err(ApiError::invalid(
            field,
            "It must not be longer than 1000 bytes or contain line breaks.",
        ));
    }
    Ok(())
}

/// Refuses what is no list of certificates in PEM.
fn check_ca(pem: &str) -> ApiResult<()> {
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};
    let refused = |why| Err(ApiError::invalid("ca_pem", why));
    if pem.len() > 64 * 1024 {
        return refused("It is larger than 64 KiB.");
    }
    if pem.contains("PRIVATE KEY") {
        return refused("This holds a private key; only the authority's certificate belongs here.");
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(()),
        _ => refused("It is no certificate in PEM form (-----BEGIN CERTIFICATE-----)."),
    }
}

/// Refuses combinations that restic would not use: only a rest-server takes user and password.
fn check_whole(repository: &Repository) -> ApiResult<()> {
    location::check(&repository.url)?;
    let has_user = repository.username.is_some();
    if has_user && !location::is_rest(&repository.url) {
        return Err(Problem::new(
            Code::InvalidInput,
            "Only a rest-server (rest:https://…) takes a user name and password here.",
        )
        .guidance("Other back ends find their credentials on the machine itself.")
        .field("username")
        .into());
    }
    if has_user != repository.credential_sealed.is_some() {
        let field = if has_user { "credential" } else { "username" };
        return Err(ApiError::invalid(field, "User name and password go together."));
    }
    Ok(())
}

/// Tells everyone about a changed repository, and the hosts about their new desired state.
async fn announce(manager: &Manager, id: RepositoryId, hosts: &[HostId]) {
    manager.events().publish(Topic::Repository(id));
    super::wake(manager, hosts).await;
}

/// The hosts whose desired state changed with this repository.
async fn touch(
    manager: &Manager,
    change: &mut super::change::Change,
    id: RepositoryId,
) -> ApiResult<Vec<HostId>> {
    let hosts = repositories::hosts(&mut *change.tx, id).await?;
    Ok(desired::touch_hosts(manager, &mut change.tx, &hosts).await?)
}
