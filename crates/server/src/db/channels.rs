//! Alarm channels: by which ways agents tell people that a plan failed or is overdue.

use super::{
    Tx,
    error::DbError,
    row::{Row, millis, to_json},
};
use jiff::Timestamp;
use protocol::{ChannelId, HostId, SmtpSecurity};
use serde::{Deserialize, Serialize};
use sqlx::{SqliteConnection, SqliteExecutor};

/// The most channels there may be: each is sent to each of its machines.
pub const MOST: usize = 50;

/// A channel as it stands in the database; its secrets stay sealed.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// Its id.
    pub id: ChannelId,
    /// What the admin calls it.
    pub name: String,
    /// What it is.
    pub kind: ChannelKind,
    /// Where it leads, without what is secret.
    pub place: String,
    /// Its address, sealed for [`url_place`]; mail has none.
    pub url_sealed: Option<Vec<u8>>,
    /// Its token, or the password of its mail server, sealed for [`token_place`].
    pub token_sealed: Option<Vec<u8>>,
    /// Its mail server.
    pub mail: Option<Mail>,
    /// Whether it is for every machine.
    pub all_hosts: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When an admin last changed it.
    pub updated_at: Timestamp,
    /// Grows with each change.
    pub revision: i64,
}

/// A kind of channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelKind {
    /// JSON by `POST`.
    Webhook,
    /// A topic of an ntfy server.
    Ntfy,
    /// A check in the manner of Healthchecks.
    Ping,
    /// Mail.
    Smtp,
}

impl ChannelKind {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Ntfy => "ntfy",
            Self::Ping => "ping",
            Self::Smtp => "smtp",
        }
    }
}

/// A mail server, and whose mail goes to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// The server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is secured.
    pub security: SmtpSecurity,
    /// The user name, if it asks for one.
    pub username: Option<String>,
    /// Whose mail it is.
    pub from: String,
    /// Who gets it.
    pub to: Vec<String>,
}

/// Where a channel's address is sealed.
#[must_use]
pub fn url_place(id: ChannelId) -> String {
    format!("alarm_channels.url.{id}")
}

/// Where a channel's token or password is sealed.
#[must_use]
pub fn token_place(id: ChannelId) -> String {
    format!("alarm_channels.token.{id}")
}

struct ChannelRow {
    id: String,
    name: String,
    kind: String,
    place: String,
    url_sealed: Option<Vec<u8>>,
    token_sealed: Option<Vec<u8>>,
    mail: Option<String>,
    all_hosts: i64,
    created_at: i64,
    updated_at: i64,
    revision: i64,
}

impl TryFrom<ChannelRow> for Channel {
    type Error = DbError;

    fn try_from(stored: ChannelRow) -> Result<Self, DbError> {
        let row = Row { table: "alarm_channels", id: &stored.id };
        Ok(Self {
            id: row.parse("id", &stored.id)?,
            kind: row.word("kind", &stored.kind)?,
            mail: row.maybe_json("mail", stored.mail.as_deref())?,
            created_at: row.time("created_at", stored.created_at)?,
            updated_at: row.time("updated_at", stored.updated_at)?,
            name: stored.name,
            place: stored.place,
            url_sealed: stored.url_sealed,
            token_sealed: stored.token_sealed,
            all_hosts: stored.all_hosts != 0,
            revision: stored.revision,
        })
    }
}

/// All channels, by name.
///
/// # Errors
/// When the database fails.
pub async fn list(db: impl SqliteExecutor<'_>) -> Result<Vec<Channel>, DbError> {
    let rows = sqlx::query_as!(
        ChannelRow,
        "SELECT id, name, kind, place, url_sealed, token_sealed, mail, all_hosts, created_at, updated_at,
                revision
         FROM alarm_channels ORDER BY name COLLATE NOCASE, id"
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(Channel::try_from).collect()
}

/// One channel.
///
/// # Errors
/// When the database fails.
pub async fn find(db: impl SqliteExecutor<'_>, id: ChannelId) -> Result<Option<Channel>, DbError> {
    let id = id.to_string();
    let row = sqlx::query_as!(
        ChannelRow,
        "SELECT id, name, kind, place, url_sealed, token_sealed, mail, all_hosts, created_at, updated_at,
                revision
         FROM alarm_channels WHERE id = ?",
        id
    )
    .fetch_optional(db)
    .await?;
    row.map(Channel::try_from).transpose()
}

/// A channel of a host.
#[derive(Clone, Debug, PartialEq)]
pub struct OfHost {
    /// The host.
    pub host: HostId,
    /// Its name.
    pub host_name: String,
    /// The channel.
    pub channel: Channel,
}

/// The channels of these hosts whose agents send alarms; a pair may come more than once.
///
/// # Errors
/// When the database fails.
pub async fn of_hosts(db: &mut SqliteConnection, hosts: &[HostId]) -> Result<Vec<OfHost>, DbError> {
    let wanted = to_json("alarm_channels", "host_id", "many", hosts)?;
    let pairs = sqlx::query!(
        r#"SELECT channel_id AS "channel_id!: String", host_id AS "host_id!: String",
                  hosts.name AS "host_name!: String"
           FROM alarm_channel_assignments JOIN hosts ON hosts.id = host_id
           WHERE host_id IN (SELECT value FROM json_each(?))
             AND EXISTS (SELECT 1 FROM json_each(hosts.capabilities) AS capability
                         WHERE capability.value = 'alarms')"#,
        wanted
    )
    .fetch_all(&mut *db)
    .await?;
    if pairs.is_empty() {
        return Ok(Vec::new());
    }
    let all = list(&mut *db).await?;
    let mut found = Vec::new();
    for pair in pairs {
        let row = Row { table: "alarm_channel_assignments", id: &pair.channel_id };
        let id: ChannelId = row.parse("channel_id", &pair.channel_id)?;
        if let Some(channel) = all.iter().find(|channel| channel.id == id) {
            let host = row.parse("host_id", &pair.host_id)?;
            found.push(OfHost { host, host_name: pair.host_name, channel: channel.clone() });
        }
    }
    Ok(found)
}

/// The channels of a host.
///
/// # Errors
/// When the database fails.
pub async fn of_host(db: impl SqliteExecutor<'_>, host: HostId) -> Result<Vec<Channel>, DbError> {
    let host = host.to_string();
    let rows = sqlx::query_as!(
        ChannelRow,
        "SELECT id, name, kind, place, url_sealed, token_sealed, mail, all_hosts, created_at, updated_at,
                revision
         FROM alarm_channels
         WHERE id IN (SELECT channel_id FROM alarm_channel_assignments WHERE host_id = ?) ORDER BY id",
        host
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(Channel::try_from).collect()
}

/// The channel of this name, without regard to case.
///
/// # Errors
/// When the database fails.
pub async fn find_by_name(
    db: impl SqliteExecutor<'_>,
    name: &str,
) -> Result<Option<ChannelId>, DbError> {
    let id =
        sqlx::query_scalar!("SELECT id FROM alarm_channels WHERE name = ? COLLATE NOCASE", name)
            .fetch_optional(db)
            .await?;
    id.map(|id| Row { table: "alarm_channels", id: &id }.parse("id", &id)).transpose()
}

/// Enters a channel.
///
/// # Errors
/// When the database fails.
pub async fn insert(tx: &mut Tx, channel: &Channel) -> Result<(), DbError> {
    let (id, kind) = (channel.id.to_string(), channel.kind.as_str());
    let mail = mail_json(channel)?;
    let (created, updated) = (millis(channel.created_at), millis(channel.updated_at));
    sqlx::query!(
        "INSERT INTO alarm_channels
             (id, name, kind, place, url_sealed, token_sealed, mail, all_hosts, created_at, updated_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        id,
        channel.name,
        kind,
        channel.place,
        channel.url_sealed,
        channel.token_sealed,
        mail,
        channel.all_hosts,
        created,
        updated
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes a changed channel back.
///
/// # Errors
/// When the database fails.
pub async fn update(tx: &mut Tx, channel: &Channel) -> Result<(), DbError> {
    let id = channel.id.to_string();
    let mail = mail_json(channel)?;
    let updated = millis(channel.updated_at);
    sqlx::query!(
        "UPDATE alarm_channels SET name = ?, place = ?, url_sealed = ?, token_sealed = ?, mail = ?,
                all_hosts = ?, updated_at = ?, revision = ? WHERE id = ?",
        channel.name,
        channel.place,
        channel.url_sealed,
        channel.token_sealed,
        mail,
        channel.all_hosts,
        updated,
        channel.revision,
        id
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn mail_json(channel: &Channel) -> Result<Option<String>, DbError> {
    let mail = channel.mail.as_ref();
    mail.map(|mail| to_json("alarm_channels", "mail", channel.id, mail)).transpose()
}

/// Deletes a channel; what was told by it stays.
///
/// # Errors
/// When the database fails.
pub async fn delete(tx: &mut Tx, id: ChannelId) -> Result<(), DbError> {
    let id = id.to_string();
    sqlx::query!("DELETE FROM alarm_channels WHERE id = ?", id).execute(&mut **tx).await?;
    Ok(())
}

/// The hosts that have a channel.
///
/// # Errors
/// When the database fails.
pub async fn hosts(db: impl SqliteExecutor<'_>, id: ChannelId) -> Result<Vec<HostId>, DbError> {
    let key = id.to_string();
    let ids = sqlx::query_scalar!(
        r#"SELECT DISTINCT host_id AS "host_id!: String" FROM alarm_channel_assignments
           WHERE channel_id = ? ORDER BY 1"#,
        key
    )
    .fetch_all(db)
    .await?;
    let row = Row { table: "alarm_channel_assignments", id: &key };
    ids.iter().map(|host| row.parse("host_id", host)).collect()
}

/// The hosts that were chosen one by one.
///
/// # Errors
/// When the database fails.
pub async fn chosen_hosts(
    db: impl SqliteExecutor<'_>,
    id: ChannelId,
) -> Result<Vec<HostId>, DbError> {
    let key = id.to_string();
    let ids = sqlx::query_scalar!(
        "SELECT host_id FROM alarm_channel_hosts WHERE channel_id = ? ORDER BY host_id",
        key
    )
    .fetch_all(db)
    .await?;
    let row = Row { table: "alarm_channel_hosts", id: &key };
    ids.iter().map(|host| row.parse("host_id", host)).collect()
}

/// The tags that were chosen, in order.
///
/// # Errors
/// When the database fails.
pub async fn chosen_tags(
    db: impl SqliteExecutor<'_>,
    id: ChannelId,
) -> Result<Vec<String>, DbError> {
    let id = id.to_string();
    let tags = sqlx::query_scalar!(
        "SELECT tag FROM alarm_channel_tags WHERE channel_id = ? ORDER BY tag",
        id
    )
    .fetch_all(db)
    .await?;
    Ok(tags)
}

/// Makes these the hosts and tags that were chosen, and no others.
///
/// # Errors
/// When the database fails, or a host does not exist.
pub async fn choose(
    tx: &mut Tx,
    id: ChannelId,
    hosts: &[HostId],
    tags: &[String],
) -> Result<(), DbError> {
    let id = id.to_string();
    sqlx::query!("DELETE FROM alarm_channel_hosts WHERE channel_id = ?", id)
        .execute(&mut **tx)
        .await?;
    sqlx::query!("DELETE FROM alarm_channel_tags WHERE channel_id = ?", id)
        .execute(&mut **tx)
        .await?;
    for host in hosts {
        let host = host.to_string();
        sqlx::query!(
            "INSERT OR IGNORE INTO alarm_channel_hosts (channel_id, host_id) VALUES (?, ?)",
            id,
            host
        )
        .execute(&mut **tx)
        .await?;
    }
    for tag in tags {
        sqlx::query!(
            "INSERT OR IGNORE INTO alarm_channel_tags (channel_id, tag) VALUES (?, ?)",
            id,
            tag
        )
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}
