//! The desired state of a host: what its agent shall protect, and with what. It is compiled from the
//! plans and repositories each time; only its digest and generation are stored.
//!
//! The digest covers everything but the secrets. In their place stands the repository's
//! `updated_at`, so a changed password is a changed state, and the digest tells nobody anything
//! about a password.

use crate::{
    db::{
        Tx,
        channels::{self, Channel, ChannelKind, OfHost},
        error::DbError,
        hosts::{self, Brief, Nature, RunsHooks},
        manager as identity_rows,
        plans::{self, Plan},
        repositories::{self, Repository, credential_place, password_place},
        slots::{self, Times},
    },
    manager::Manager,
    presets,
    store::own,
    vault::{Vault, VaultError},
};
use jiff::Timestamp;
use protocol::{
    AlarmChannel, AlarmTarget, ChannelId, ConfigUpdate, Generation, Hook, HostId, HostOs, JobKind,
    MAX_FRAME_BYTES, Patch, PlanId, PlanOptions, RepositoryConfig, RepositoryId, Schedule,
    ScheduleSet,
};
use sha2::{Digest, Sha256};
use sqlx::SqliteConnection;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};
use thiserror::Error;

/// What a desired state may take as a document without secrets, in bytes. It travels in two frames, and three
/// quarters of one leave room for the secrets and what is around them.
const MOST_BYTES: usize = MAX_FRAME_BYTES / 4 * 3;

/// Why a desired state could not be compiled.
#[derive(Debug, Error)]
pub enum DesiredError {
    /// The database failed.
    #[error("failed to read the plans of a host")]
    Db(#[from] DbError),
    /// A repository's secrets do not open, or cannot be made.
    #[error("failed to open or seal the secrets of a repository")]
    Vault(#[from] VaultError),
    /// It would be more than fits into a frame.
    #[error("the desired state of {0} would be too large")]
    TooLarge(HostId),
}

/// What a host's desired state is made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Sources {
    /// The host's system, and what its agent can do.
    pub nature: Nature,
    /// The host's plans, by id.
    pub plans: Vec<Plan>,
    /// The repositories that they use, by id.
    pub repositories: Vec<Repository>,
    /// Where the manager can be dialled.
    pub addresses: Vec<String>,
    /// By which ways its agent tells people that a plan failed or is overdue, by id; none where it does not.
    pub channels: Vec<Channel>,
    /// What its agent calls the machine when it tells; none where it does not.
    pub machine: Option<String>,
}

impl Sources {
    /// Reads them for one host.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn read(db: &mut SqliteConnection, host: HostId) -> Result<Self, DbError> {
        let brief = hosts::brief(&mut *db, host).await?;
        let stated = Self::of_hosts(db, &[brief]).await?.remove(&host);
        let stated = stated.ok_or_else(|| DbError::inconsistent("hosts", "id", host))?;
        Ok(Arc::unwrap_or_clone(stated).sources)
    }

    /// Reads them for several hosts, for each of them. Hosts that are to have the same share it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn of_hosts(
        db: &mut SqliteConnection,
        hosts: &[Brief],
    ) -> Result<BTreeMap<HostId, Arc<Stated>>, DbError> {
        let ids: Vec<HostId> = hosts.iter().map(|host| host.id).collect();
        let targets = plans::targets(&mut *db, &ids).await?;
        let plans = targets.iter().map(|(_, plan, _)| *plan).collect();
        let used = targets.iter().filter_map(|(.., repository)| *repository).collect();
        let mut parts = Parts {
            plans: by_id(plans::find_all(&mut *db, &plans).await?, |plan| plan.id),
            repositories: by_id(repositories::find_all(&mut *db, &used).await?, |one| one.id),
            addresses: identity_rows::addresses(&mut *db).await?,
            channels: BTreeMap::new(),
        };
        let mut choices: BTreeMap<HostId, Choice> =
            hosts.iter().map(|host| (host.id, Choice::new(host.nature))).collect();
        for (host, plan, repository) in targets {
            if let Some(choice) = choices.get_mut(&host) {
                choice.plans.push((plan, repository));
            }
        }
        for OfHost { host, host_name, channel } in channels::of_hosts(&mut *db, &ids).await? {
            if let Some(choice) = choices.get_mut(&host) {
                choice.channels.push(channel.id);
                choice.machine = Some(host_name);
            }
            parts.channels.insert(channel.id, channel);
        }
        let mut stated: HashMap<Choice, Arc<Stated>> = HashMap::new();
        let each = choices.into_iter().map(|(host, mut choice)| {
            choice.plans.sort_unstable();
            choice.channels.sort_unstable();
            choice.channels.dedup();
            let stated = stated.entry(choice).or_insert_with_key(|it| Arc::new(parts.state(it)));
            (host, Arc::clone(stated))
        });
        Ok(each.collect())
    }

    /// The only repository that a version 1 agent knows: that of the first plan.
    #[must_use]
    pub fn version_1_repository(&self) -> Option<RepositoryId> {
        self.plans.first()?.repository_id
    }

    /// When its plans run that run by the clock.
    #[must_use]
    pub fn times(&self) -> Times {
        let timed = self.sent().filter(|plan| plan.enabled && !plan.cron.is_empty());
        timed.map(|plan| (plan.id, plan.cron.clone())).collect()
    }

    /// The plans that the agent gets: it would pass over hooks that it does not know, and back up without
    /// them.
    fn sent(&self) -> impl Iterator<Item = &Plan> {
        self.plans.iter().filter(|plan| can_run(plan, self.nature.runs_hooks))
    }

    fn schedules(&self) -> Vec<Schedule> {
        self.sent().map(|plan| schedule(plan, self.nature.os)).collect()
    }

    /// The digest: 64 hex digits, opaque to the agent.
    #[must_use]
    pub fn digest(&self) -> String {
        digest(&self.document())
    }

    /// All of it but the secrets.
    fn document(&self) -> String {
        let repositories: Vec<_> = self
            .repositories
            .iter()
            .map(|repository| {
                serde_json::json!({
                    "id": repository.id,
                    "name": repository.name,
                    "url": repository.url,
                    "username": repository.username,
                    "ca_pem": repository.ca_pem,
                    "credential": repository.credential_sealed.is_some(),
                    "updated_at": repository.updated_at.as_millisecond(),
                })
            })
            .collect();
        let mut whole = serde_json::json!({
            "schedules": self.schedules(),
            "repositories": repositories,
            "addresses": self.addresses,
        });
        // Hosts without channels keep the digest that they have.
        if !self.channels.is_empty() {
            let channels = self.channels.iter().map(|channel| {
                serde_json::json!({
                    "id": channel.id,
                    "name": channel.name,
                    "kind": channel.kind,
                    "mail": channel.mail,
                    "token": channel.token_sealed.is_some(),
                    "updated_at": channel.updated_at.as_millisecond(),
                })
            });
            whole["channels"] = channels.collect();
            whole["machine"] = self.machine.clone().into();
        }
        // Nor do those change that are always on.
        if let Some(days) = self.nature.stale_after_days {
            whole["stale_after_days"] = days.into();
        }
        whole.to_string()
    }
}

fn digest(document: &str) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(document.as_bytes()))
}

/// What a host's desired state is made from, and its digest.
#[derive(Clone, Debug, PartialEq)]
pub struct Stated {
    /// What it is made from.
    pub sources: Sources,
    /// The digest.
    pub digest: String,
    /// How many bytes it takes as a document without secrets.
    pub bytes: usize,
}

/// What some hosts have their desired states from.
#[derive(Debug)]
struct Parts {
    plans: BTreeMap<PlanId, Plan>,
    repositories: BTreeMap<RepositoryId, Repository>,
    addresses: Vec<String>,
    channels: BTreeMap<ChannelId, Channel>,
}

/// Which of these one host has; each list by id.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Choice {
    nature: Nature,
    plans: Vec<(PlanId, Option<RepositoryId>)>,
    channels: Vec<ChannelId>,
    machine: Option<String>,
}

impl Choice {
    fn new(nature: Nature) -> Self {
        Self { nature, plans: Vec::new(), channels: Vec::new(), machine: None }
    }
}

impl Parts {
    fn state(&self, choice: &Choice) -> Stated {
        let plans: Vec<Plan> = choice
            .plans
            .iter()
            .filter_map(|(id, repository)| {
                Some(Plan { repository_id: *repository, ..self.plans.get(id)?.clone() })
            })
            .collect();
        let used: BTreeSet<RepositoryId> =
            plans.iter().filter_map(|plan| plan.repository_id).collect();
        let sources = Sources {
            nature: choice.nature,
            plans,
            repositories: used.iter().filter_map(|id| self.repositories.get(id)).cloned().collect(),
            addresses: self.addresses.clone(),
            channels: choice
                .channels
                .iter()
                .filter_map(|id| self.channels.get(id))
                .cloned()
                .collect(),
            machine: choice.machine.clone(),
        };
        let document = sources.document();
        Stated { digest: digest(&document), bytes: document.len(), sources }
    }
}

fn by_id<I: Ord, T>(all: Vec<T>, id: impl Fn(&T) -> I) -> BTreeMap<I, T> {
    all.into_iter().map(|one| (id(&one), one)).collect()
}

/// A compiled desired state.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredState {
    /// The first frame.
    pub config: ConfigUpdate,
    /// The second frame.
    pub schedules: ScheduleSet,
}

/// Compiles the documents for an agent that understands version 2.
///
/// # Errors
/// When a repository's secrets do not open.
pub fn compile(
    sources: &Sources,
    vault: &Vault,
    generation: Generation,
    digest: String,
) -> Result<DesiredState, VaultError> {
    let repositories = sources.repositories.iter().map(|repository| unseal(repository, vault));
    let channels = sources.channels.iter().map(|channel| unseal_channel(channel, vault));
    let config = ConfigUpdate {
        generation: Some(generation),
        repositories: Some(repositories.collect::<Result<_, _>>()?),
        addresses: sources.addresses.clone(),
        alarm_channels: channels.collect::<Result<_, _>>()?,
        machine: sources.machine.clone(),
        stale_after_days: sources.nature.stale_after_days,
        ..ConfigUpdate::default()
    };
    let schedules = ScheduleSet {
        version: wire_version(generation),
        schedules: sources.schedules(),
        generation: Some(generation),
        digest: Some(digest),
    };
    Ok(DesiredState { config, schedules })
}

/// Compiles the documents for an agent of version 1, which knows one repository: that of the first
/// plan, and only the plans that use it.
///
/// # Errors
/// When the repository's secrets do not open.
pub fn compile_version_1(
    sources: &Sources,
    vault: &Vault,
    generation: Generation,
) -> Result<DesiredState, VaultError> {
    let only = sources.version_1_repository();
    let repository = sources.repositories.iter().find(|repository| Some(repository.id) == only);
    let mut config = ConfigUpdate {
        repo_url: Patch::Clear,
        repo_password: Patch::Clear,
        repo_username: Patch::Clear,
        repo_credential: Patch::Clear,
        ..ConfigUpdate::default()
    };
    let mut schedules = Vec::new();
    if let Some(repository) = repository {
        let opened = unseal(repository, vault)?;
        config.repo_url = Patch::Set(opened.url);
        config.repo_password = Patch::Set(opened.password);
        config.repo_username = opened.username.map_or(Patch::Clear, Patch::Set);
        config.repo_credential = opened.credential.map_or(Patch::Clear, Patch::Set);
        let of_it = sources.sent().filter(|plan| plan.repository_id == Some(repository.id));
        let of_version_1 = |plan: &Plan| Schedule {
            repository_id: None,
            // Version 1 has a document of its own in this place, and hooks as text alone.
            options: None,
            pre_hook: hook_text(plan.options.hooks.before.as_ref()),
            post_hook: hook_text(plan.options.hooks.after.as_ref()),
            ..schedule(plan, sources.nature.os)
        };
        schedules = of_it.map(of_version_1).collect();
    }
    let version = wire_version(generation);
    let schedules = ScheduleSet { version, schedules, generation: None, digest: None };
    Ok(DesiredState { config, schedules })
}

/// Whether an agent that runs such hooks can do what this plan says.
#[must_use]
pub fn can_run(plan: &Plan, runs: RunsHooks) -> bool {
    let hooks = &plan.options.hooks;
    let is_text = |hook: &Option<Hook>| !matches!(hook, Some(Hook::Named(_)));
    match runs {
        RunsHooks::All => true,
        RunsHooks::TextAround => {
            is_text(&hooks.before)
                && is_text(&hooks.after)
                && hooks.on_success.is_none()
                && hooks.on_failure.is_none()
        }
        RunsHooks::None => hooks.is_empty(),
    }
}

fn hook_text(hook: Option<&Hook>) -> String {
    match hook {
        Some(Hook::Written(written)) => written.text.clone(),
        Some(Hook::Named(_)) | None => String::new(),
    }
}

fn wire_version(generation: Generation) -> i64 {
    i64::try_from(generation.n).unwrap_or(i64::MAX)
}

fn schedule(plan: &Plan, os: HostOs) -> Schedule {
    let presets = plan.presets.iter().filter_map(|name| presets::find(name));
    let left_out = presets.flat_map(|preset| preset.patterns(os)).map(str::to_owned);
    Schedule {
        id: plan.id,
        kind: JobKind::Backup,
        cron_expr: plan.cron.clone(),
        paths: plan.paths.clone(),
        excludes: plan.excludes.iter().cloned().chain(left_out).collect(),
        tags: plan.tags.clone(),
        retention_policy: plan.retention.as_ref().and_then(|r| serde_json::to_value(r).ok()),
        options: (plan.options != PlanOptions::default())
            .then(|| serde_json::to_value(&plan.options).ok())
            .flatten(),
        pre_hook: String::new(),
        post_hook: String::new(),
        enabled: plan.enabled,
        name: plan.name.clone(),
        repository_id: plan.repository_id,
    }
}

/// A repository with its secrets in the clear.
///
/// # Errors
/// When they do not open.
pub fn unseal(repository: &Repository, vault: &Vault) -> Result<RepositoryConfig, VaultError> {
    let id = repository.id;
    let sealed = repository.credential_sealed.as_deref();
    Ok(RepositoryConfig {
        id,
        name: repository.name.clone(),
        url: repository.url.clone(),
        username: repository.username.clone(),
        credential: sealed.map(|it| vault.unseal_text(&credential_place(id), it)).transpose()?,
        password: vault.unseal_text(&password_place(id), &repository.password_sealed)?,
        ca_pem: repository.ca_pem.clone(),
    })
}

/// A channel with its secrets in the clear.
///
/// # Errors
/// When they do not open.
pub fn unseal_channel(channel: &Channel, vault: &Vault) -> Result<AlarmChannel, VaultError> {
    let id = channel.id;
    let open = |place: String, sealed: Option<&Vec<u8>>| {
        sealed.map(|sealed| vault.unseal_text(&place, sealed)).transpose()
    };
    let token = open(channels::token_place(id), channel.token_sealed.as_ref())?;
    let url = open(channels::url_place(id), channel.url_sealed.as_ref())?;
    let target = match (channel.kind, url, &channel.mail) {
        (ChannelKind::Webhook, Some(url), _) => AlarmTarget::Webhook { url, token },
        (ChannelKind::Ntfy, Some(url), _) => AlarmTarget::Ntfy { url, token },
        (ChannelKind::Ping, Some(url), _) => AlarmTarget::Ping { url },
        (ChannelKind::Smtp, _, Some(mail)) => AlarmTarget::Smtp {
            host: mail.host.clone(),
            port: mail.port,
            security: mail.security,
            username: mail.username.clone(),
            password: token,
            from: mail.from.clone(),
            to: mail.to.clone(),
        },
        // Nothing that was entered here; nobody is told by it.
        (
            ChannelKind::Webhook | ChannelKind::Ntfy | ChannelKind::Ping | ChannelKind::Smtp,
            _,
            _,
        ) => AlarmTarget::Unknown,
    };
    Ok(AlarmChannel { id, name: channel.name.clone(), target })
}

/// Gives each of these hosts a new generation if its desired state is another than before, and a
/// repository in the store where one of its plans needs that. To be called in the transaction that
/// changes a plan, a repository or an assignment; after its commit wake the hosts.
///
/// # Errors
/// When a new desired state is too large, the database fails, or a new secret cannot be made or sealed.
pub async fn touch_hosts(
    manager: &Manager,
    tx: &mut Tx,
    hosts: &[HostId],
) -> Result<Vec<HostId>, DesiredError> {
    own::provide(manager, tx).await?;
    restate_within(tx, hosts, manager.now(), MOST_BYTES).await
}

/// The same for what takes something away, or cannot be refused: the agent does not get what is too large then,
/// and the admin hears of it.
///
/// # Errors
/// When the database fails, or a new secret cannot be made or sealed.
pub async fn touch_hosts_anyway(
    manager: &Manager,
    tx: &mut Tx,
    hosts: &[HostId],
) -> Result<Vec<HostId>, DesiredError> {
    own::provide(manager, tx).await?;
    restate(tx, hosts, manager.now()).await
}

/// The same where every host has its repository already.
///
/// # Errors
/// When the database fails.
pub async fn restate(
    tx: &mut Tx,
    hosts: &[HostId],
    now: Timestamp,
) -> Result<Vec<HostId>, DesiredError> {
    restate_within(tx, hosts, now, usize::MAX).await
}

async fn restate_within(
    tx: &mut Tx,
    hosts: &[HostId],
    now: Timestamp,
    most: usize,
) -> Result<Vec<HostId>, DesiredError> {
    let mut changed = Vec::new();
    let briefs = hosts::briefs(&mut **tx, hosts).await?;
    for (host, stated) in Sources::of_hosts(tx, &briefs).await? {
        if hosts::bump_generation(tx, host, &stated.digest).await? {
            if stated.bytes > most {
                return Err(DesiredError::TooLarge(host));
            }
            slots::remember_generation(tx, host, &stated.sources.times(), now).await?;
            changed.push(host);
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests;
