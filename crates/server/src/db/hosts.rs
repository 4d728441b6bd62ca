//! Hosts: who is enrolled, what the manager may tell them, and what each side last knew.

use super::{
    Tx,
    error::DbError,
    row::{Row, count, millis, to_json, uncount},
};
use jiff::Timestamp;
use protocol::{Code, Hold, HostArch, HostId, HostOs, Incarnation, ProtocolVersion, SeenManager};
use sqlx::SqliteExecutor;

mod mode;
pub use mode::{HostMode, Nature, Patience, RunsHooks, set_patience};

/// Where a host stands with its manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostState {
    /// It belongs to the fleet.
    Enrolled,
    /// Its key is refused, its history is kept.
    Revoked,
    /// It is gone from the fleet; only its runs still name it.
    Removed,
}

impl HostState {
    /// The word in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enrolled => "enrolled",
            Self::Revoked => "revoked",
            Self::Removed => "removed",
        }
    }

    fn read(row: Row<'_>, word: &str) -> Result<Self, DbError> {
        match word {
            "enrolled" => Ok(Self::Enrolled),
            "revoked" => Ok(Self::Revoked),
            "removed" => Ok(Self::Removed),
            _ => Err(row.inconsistent("state")),
        }
    }
}

/// The SHA-256 of a client key's SPKI, or of a ticket or token.
pub type Fingerprint = [u8; 32];

/// The hashes of the tickets that a host may come back with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tickets {
    /// The one the agent has confirmed.
    pub confirmed: Option<Fingerprint>,
    /// The one that was handed out last and is not confirmed.
    pub pending: Option<Fingerprint>,
}

impl Tickets {
    fn read(
        row: Row<'_>,
        confirmed: Option<Vec<u8>>,
        pending: Option<Vec<u8>>,
    ) -> Result<Self, DbError> {
        Ok(Self {
            confirmed: row.maybe_bytes("ticket_hash", confirmed.as_deref())?,
            pending: row.maybe_bytes("pending_ticket_hash", pending.as_deref())?,
        })
    }
}

fn hold(
    row: Row<'_>,
    code: Option<&str>,
    message: Option<String>,
) -> Result<Option<Hold>, DbError> {
    let Some(code) = code else { return Ok(None) };
    let code = row.word("hold_code", code)?;
    Ok(Some(Hold { code, message: message.unwrap_or_default() }))
}

/// A host.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// Its id.
    pub id: HostId,
    /// What the admin calls it.
    pub name: String,
    /// What the machine calls itself.
    pub hostname: String,
    /// Its operating system.
    pub os: HostOs,
    /// Its processor architecture.
    pub arch: HostArch,
    /// The agent's version.
    pub agent_version: String,
    /// The version of its restic; empty when there is none.
    pub restic_version: String,
    /// The protocol that the agent speaks.
    pub protocol_version: ProtocolVersion,
    /// Its time zone, as [`schedule::zone`] calls it.
    pub time_zone: Option<String>,
    /// When the machine was started.
    pub boot_time: Option<Timestamp>,
    /// The SHA-256 of its client key.
    pub key_fingerprint: Fingerprint,
    /// Where it stands.
    pub state: HostState,
    /// Set while the admin must decide.
    pub hold: Option<Hold>,
    /// The tickets it may come back with.
    pub tickets: Tickets,
    /// When it was enrolled.
    pub enrolled_at: Timestamp,
    /// When it was last heard of.
    pub last_seen_at: Option<Timestamp>,
    /// The next command number.
    pub next_command: u64,
    /// The generation of its desired state, 0 before there is one.
    pub generation: u64,
    /// The digest of its desired state.
    pub desired_digest: Option<String>,
    /// The generation that the agent last applied.
    pub acked_generation: u64,
    /// The digest that the agent last applied.
    pub acked_digest: Option<String>,
    /// When it applied it, by its own clock.
    pub acked_at: Option<Timestamp>,
    /// Since when its agent is awake that is connected, or was last.
    pub awake_since: Option<Timestamp>,
    /// Up to when the machine has told everything.
    pub heard_until: Option<Timestamp>,
    /// How long it may go without a backup.
    pub patience: Patience,
    /// Which hooks its agent runs, as far as it has said what it can do.
    pub runs_hooks: RunsHooks,
    /// Grows with each change.
    pub revision: u64,
}

impl Host {
    /// Whether the agent has applied the newest desired state.
    #[must_use]
    pub fn in_sync(&self) -> bool {
        self.generation == self.acked_generation && self.desired_digest == self.acked_digest
    }
}

struct HostRow {
    id: String,
    name: String,
    hostname: String,
    os: String,
    arch: String,
    agent_version: String,
    restic_version: String,
    protocol_version: i64,
    time_zone: Option<String>,
    boot_time: Option<i64>,
    key_fingerprint: Vec<u8>,
    state: String,
    hold_code: Option<String>,
    hold_message: Option<String>,
    ticket_hash: Option<Vec<u8>>,
    pending_ticket_hash: Option<Vec<u8>>,
    enrolled_at: i64,
    last_seen_at: Option<i64>,
    next_command: i64,
    generation: i64,
    desired_digest: Option<String>,
    acked_generation: i64,
    acked_digest: Option<String>,
    acked_at: Option<i64>,
    awake_since: Option<i64>,
    heard_until: Option<i64>,
    mode: Option<String>,
    has_battery: bool,
    stale_after_days: i64,
    runs_hooks: bool,
    revision: i64,
}

impl TryFrom<HostRow> for Host {
    type Error = DbError;

    fn try_from(host: HostRow) -> Result<Self, DbError> {
        let row = Row { table: "hosts", id: &host.id };
        let version = u16::try_from(host.protocol_version)
            .map_err(|_| row.inconsistent("protocol_version"))?;
        Ok(Self {
            id: row.parse("id", &host.id)?,
            os: row.word("os", &host.os)?,
            arch: row.word("arch", &host.arch)?,
            protocol_version: ProtocolVersion(version),
            boot_time: row.maybe_time("boot_time", host.boot_time)?,
            key_fingerprint: row.bytes("key_fingerprint", &host.key_fingerprint)?,
            state: HostState::read(row, &host.state)?,
            hold: hold(row, host.hold_code.as_deref(), host.hold_message)?,
            tickets: Tickets::read(row, host.ticket_hash, host.pending_ticket_hash)?,
            enrolled_at: row.time("enrolled_at", host.enrolled_at)?,
            last_seen_at: row.maybe_time("last_seen_at", host.last_seen_at)?,
            next_command: uncount(host.next_command),
            generation: uncount(host.generation),
            acked_generation: uncount(host.acked_generation),
            acked_at: row.maybe_time("acked_at", host.acked_at)?,
            awake_since: row.maybe_time("awake_since", host.awake_since)?,
            heard_until: row.maybe_time("heard_until", host.heard_until)?,
            patience: Patience::read(
                row,
                host.mode.as_deref(),
                host.has_battery,
                host.stale_after_days,
            )?,
            runs_hooks: RunsHooks::read(host.runs_hooks, ProtocolVersion(version)),
            revision: uncount(host.revision),
            name: host.name,
            hostname: host.hostname,
            agent_version: host.agent_version,
            restic_version: host.restic_version,
            time_zone: host.time_zone,
            desired_digest: host.desired_digest,
            acked_digest: host.acked_digest,
        })
    }
}

/// The hosts that a condition picks.
macro_rules! select_host {
    ($tail:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            HostRow,
            "SELECT id, name, hostname, os, arch, agent_version, restic_version, \
             protocol_version, time_zone, boot_time, key_fingerprint, state, hold_code, \
             hold_message, ticket_hash, pending_ticket_hash, enrolled_at, last_seen_at, \
             next_command, generation, desired_digest, acked_generation, acked_digest, \
             acked_at, awake_since, heard_until, mode, has_battery AS \"has_battery: bool\", \
             stale_after_days, capabilities IS NULL OR EXISTS (SELECT 1 FROM json_each(capabilities) \
             WHERE value = 'hooks') AS \"runs_hooks!: bool\", revision FROM hosts " + $tail
            $(, $argument)*
        )
    };
}

#[macro_use]
mod brief;
mod fleet;
mod heard;
// Below the macros that they use.
pub use brief::{Brief, brief, briefs};
pub use fleet::{Fleet, fleet, list};
pub use heard::{Heard, Remembered, confirm_tickets, note_hellos, note_seen, remembered};

/// One host, removed ones too.
///
/// # Errors
/// When the database fails.
pub async fn find(db: impl SqliteExecutor<'_>, host: HostId) -> Result<Option<Host>, DbError> {
    let id = host.to_string();
    select_host!("WHERE id = ?", id).fetch_optional(db).await?.map(Host::try_from).transpose()
}

/// Whose these client keys are, and where they stand.
///
/// # Errors
/// When the database fails.
pub async fn find_by_keys(
    db: impl SqliteExecutor<'_>,
    keys: &[Fingerprint],
) -> Result<Vec<(Fingerprint, (HostId, HostState))>, DbError> {
    let keys: Vec<String> = keys.iter().map(hex).collect();
    let keys = to_json("hosts", "key_fingerprint", "many", &keys)?;
    let rows = sqlx::query!(
        "SELECT key_fingerprint, id, state FROM hosts \
         WHERE key_fingerprint IN (SELECT unhex(value) FROM json_each(?))",
        keys
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|host| {
            let row = Row { table: "hosts", id: &host.id };
            let key = row.bytes("key_fingerprint", &host.key_fingerprint)?;
            Ok((key, (row.parse("id", &host.id)?, HostState::read(row, &host.state)?)))
        })
        .collect()
}

/// A hash for a statement that takes many as JSON.
fn hex(hash: &Fingerprint) -> String {
    data_encoding::HEXLOWER.encode(hash)
}

/// The host of a client key.
///
/// # Errors
/// When the database fails.
pub async fn find_by_key(
    db: impl SqliteExecutor<'_>,
    key: &Fingerprint,
) -> Result<Option<Host>, DbError> {
    let key = key.as_slice();
    select_host!("WHERE key_fingerprint = ?", key)
        .fetch_optional(db)
        .await?
        .map(Host::try_from)
        .transpose()
}

/// Whether a host's agent sends alarms.
///
/// # Errors
/// When the database fails.
pub async fn sends_alarms(db: impl SqliteExecutor<'_>, host: HostId) -> Result<bool, DbError> {
    let id = host.to_string();
    let sends = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM hosts, json_each(hosts.capabilities)
           WHERE hosts.id = ? AND json_each.value = 'alarms') AS "sends!: bool""#,
        id
    )
    .fetch_one(db)
    .await?;
    Ok(sends)
}

/// A host that comes in by a token.
#[derive(Clone, Debug)]
pub struct NewHost<'a> {
    /// Its id.
    pub id: HostId,
    /// What the admin calls it.
    pub name: &'a str,
    /// What the machine calls itself.
    pub hostname: &'a str,
    /// Its operating system.
    pub os: HostOs,
    /// Its processor architecture.
    pub arch: HostArch,
    /// The agent's version.
    pub agent_version: &'a str,
    /// The protocol that the agent speaks.
    pub protocol_version: ProtocolVersion,
    /// The SHA-256 of its client key.
    pub key_fingerprint: Fingerprint,
    /// Now.
    pub enrolled_at: Timestamp,
}

/// Takes a host in.
///
/// # Errors
/// When the database fails, or the key is enrolled already.
pub async fn insert(tx: &mut Tx, host: &NewHost<'_>) -> Result<(), DbError> {
    let (id, os, arch) = (host.id.to_string(), host.os.as_str(), host.arch.as_str());
    let version = i64::from(host.protocol_version.0);
    let (key, at) = (host.key_fingerprint.as_slice(), millis(host.enrolled_at));
    sqlx::query!(
        "INSERT INTO hosts (id, name, hostname, os, arch, agent_version, restic_version, \
         protocol_version, key_fingerprint, state, enrolled_at) \
         VALUES (?, ?, ?, ?, ?, ?, '', ?, ?, 'enrolled', ?)",
        id,
        host.name,
        host.hostname,
        os,
        arch,
        host.agent_version,
        version,
        key,
        at
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Renames a host. Says whether there is such a host.
///
/// # Errors
/// When the database fails.
pub async fn rename(tx: &mut Tx, host: HostId, name: &str) -> Result<bool, DbError> {
    let id = host.to_string();
    let done = sqlx::query!(
        "UPDATE hosts SET name = ?, revision = revision + 1 WHERE id = ? AND state <> 'removed'",
        name,
        id
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Revokes or removes a host. Either leaves its tags, a removed one also its plans; its open runs are for
/// [`super::runs::finish_lost`]. Says whether the state changed; no state is left for an earlier one.
///
/// # Errors
/// When the database fails.
pub async fn set_state(tx: &mut Tx, host: HostId, state: HostState) -> Result<bool, DbError> {
    let (id, word) = (host.to_string(), state.as_str());
    let done = sqlx::query!(
        "UPDATE hosts SET state = ?1, revision = revision + 1 \
         WHERE id = ?2 AND state <> ?1 AND state <> 'removed' AND ?1 <> 'enrolled'",
        word,
        id
    )
    .execute(&mut **tx)
    .await?;
    mode::leave_tags(tx, host, state).await?;
    Ok(done.rows_affected() > 0)
}

/// Holds a host: no commands, no records, until the admin has decided. The first reason stays: a
/// later one must not hide it. Says whether the host was not held before.
///
/// # Errors
/// When the database fails.
pub async fn set_hold(tx: &mut Tx, host: HostId, hold: &Hold) -> Result<bool, DbError> {
    let (id, code) = (host.to_string(), hold.code.as_str());
    let done = sqlx::query!(
        "UPDATE hosts SET hold_code = ?, hold_message = ?, revision = revision + 1 \
         WHERE id = ? AND hold_code IS NULL",
        code,
        hold.message,
        id
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Lets a held host go on, because the admin said so: the next connection is taken as it comes,
/// with whatever ticket it has. Says whether the host was held.
///
/// # Errors
/// When the database fails.
pub async fn clear_hold(tx: &mut Tx, host: HostId) -> Result<bool, DbError> {
    let id = host.to_string();
    let done = sqlx::query!(
        "UPDATE hosts SET hold_code = NULL, hold_message = NULL, ticket_hash = NULL, \
         pending_ticket_hash = NULL, seen_incarnation = NULL, seen_command = NULL, \
         seen_generation = NULL, seen_ticket_hash = NULL, revision = revision + 1 \
         WHERE id = ? AND hold_code IS NOT NULL",
        id
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Takes the next command number of a host.
///
/// # Errors
/// When the database fails or there is no such host.
pub async fn next_command(tx: &mut Tx, host: HostId) -> Result<u64, DbError> {
    let id = host.to_string();
    let taken = sqlx::query_scalar!(
        "UPDATE hosts SET next_command = next_command + 1 WHERE id = ? \
         RETURNING next_command - 1 AS \"n!: i64\"",
        id
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(uncount(taken))
}

/// Notes the digest of a host's desired state; another digest is a new generation. Says whether it
/// was another one.
///
/// # Errors
/// When the database fails.
pub async fn bump_generation(tx: &mut Tx, host: HostId, digest: &str) -> Result<bool, DbError> {
    let id = host.to_string();
    let done = sqlx::query!(
        "UPDATE hosts SET generation = generation + 1, desired_digest = ?1, \
         revision = revision + 1 WHERE id = ?2 AND desired_digest IS NOT ?1",
        digest,
        id
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Notes which desired state the agent has applied.
///
/// # Errors
/// When the database fails.
pub async fn acknowledge(
    tx: &mut Tx,
    host: HostId,
    generation: u64,
    digest: &str,
    at: Timestamp,
) -> Result<(), DbError> {
    let (id, generation, at) = (host.to_string(), count(generation), millis(at));
    sqlx::query!(
        "UPDATE hosts SET acked_generation = ?, acked_digest = ?, acked_at = ?, \
         revision = revision + 1 WHERE id = ?",
        generation,
        digest,
        at,
        id
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What an agent has seen that this manager does not remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What the agent told of its manager.
    pub manager: Option<SeenManager>,
    /// The hash of the agent's ticket.
    pub ticket: Option<Fingerprint>,
}

/// Keeps what the agent has seen for [`adopt`].
///
/// # Errors
/// When the database fails.
pub async fn note_ahead(tx: &mut Tx, host: HostId, seen: &Seen) -> Result<(), DbError> {
    let id = host.to_string();
    let incarnation = seen.manager.map(|manager| manager.incarnation.to_string());
    let command = seen.manager.map(|manager| count(manager.command));
    let generation = seen.manager.map(|manager| count(manager.generation));
    let ticket = seen.ticket.as_ref().map(<[u8; 32]>::as_slice);
    sqlx::query!(
        "UPDATE hosts SET seen_incarnation = ?, seen_command = ?, seen_generation = ?, \
         seen_ticket_hash = ? WHERE id = ?",
        incarnation,
        command,
        generation,
        ticket,
        id
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Takes over what an agent has seen of a manager whose database is an older copy: its numbers go
/// on beyond what the agent knows, the agent's ticket is the valid one, and the hold ends. Returns
/// the incarnation that the agent had seen, or `None` when the host is not held for that reason.
///
/// # Errors
/// When the database fails.
pub async fn adopt(tx: &mut Tx, host: HostId) -> Result<Option<Adopted>, DbError> {
    let (id, code) = (host.to_string(), Code::ManagerBehind.as_str());
    let seen = sqlx::query!(
        "UPDATE hosts SET hold_code = NULL, hold_message = NULL, \
         ticket_hash = seen_ticket_hash, pending_ticket_hash = NULL, \
         next_command = max(next_command, coalesce(seen_command, 0) + 1), \
         generation = max(generation, coalesce(seen_generation, 0)) + 1, \
         seen_command = NULL, seen_generation = NULL, seen_ticket_hash = NULL, \
         revision = revision + 1 \
         WHERE id = ? AND hold_code = ? RETURNING seen_incarnation",
        id,
        code
    )
    .fetch_optional(&mut **tx)
    .await?;
    let Some(seen) = seen else { return Ok(None) };
    let row = Row { table: "hosts", id: &id };
    let incarnation = row.maybe_parse("seen_incarnation", seen.seen_incarnation.as_deref())?;
    Ok(Some(Adopted { incarnation }))
}

/// What [`adopt`] took over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// The incarnation that the agent had seen.
    pub incarnation: Option<Incarnation>,
}
