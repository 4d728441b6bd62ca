//! Repositories: where backups go, and the sealed secrets that open them.

use super::{
    Tx,
    error::DbError,
    row::{Row, millis, to_json},
};
use jiff::Timestamp;
use protocol::{HostId, PlanId, RepositoryId, RunId};
use sqlx::SqliteExecutor;
use std::collections::BTreeSet;

/// A repository as it stands in the database; its secrets stay sealed.
#[derive(Clone, Debug, PartialEq)]
pub struct Repository {
    /// Its id.
    pub id: RepositoryId,
    /// What the admin calls it.
    pub name: String,
    /// restic's location, without credentials.
    pub url: String,
    /// The user name for its server.
    pub username: Option<String>,
    /// Its own password, sealed for [`password_place`].
    pub password_sealed: Vec<u8>,
    /// The password for its server, sealed for [`credential_place`].
    pub credential_sealed: Option<Vec<u8>>,
    /// The authority of its server's certificate.
    pub ca_pem: Option<String>,
    /// Whether agents may only add.
    pub append_only: bool,
    /// Whose it is, for a repository in the store.
    pub store_host_id: Option<HostId>,
    /// When it was entered.
    pub created_at: Timestamp,
    /// When the admin last changed it.
    pub updated_at: Timestamp,
    /// When it was first known to exist.
    pub initialised_at: Option<Timestamp>,
    /// Grows with each change.
    pub revision: i64,
}

/// Where a repository's own password is sealed.
#[must_use]
pub fn password_place(id: RepositoryId) -> String {
    format!("repositories.password.{id}")
}

/// Where the password for a repository's server is sealed.
#[must_use]
pub fn credential_place(id: RepositoryId) -> String {
    format!("repositories.credential.{id}")
}

struct RepositoryRow {
    id: String,
    name: String,
    url: String,
    username: Option<String>,
    password_sealed: Vec<u8>,
    credential_sealed: Option<Vec<u8>>,
    ca_pem: Option<String>,
    append_only: i64,
    store_host_id: Option<String>,
    created_at: i64,
    updated_at: i64,
    initialised_at: Option<i64>,
    revision: i64,
}

impl TryFrom<RepositoryRow> for Repository {
    type Error = DbError;

    fn try_from(stored: RepositoryRow) -> Result<Self, DbError> {
        let row = Row { table: "repositories", id: &stored.id };
        Ok(Self {
            id: row.parse("id", &stored.id)?,
            created_at: row.time("created_at", stored.created_at)?,
            updated_at: row.time("updated_at", stored.updated_at)?,
            initialised_at: row.maybe_time("initialised_at", stored.initialised_at)?,
            name: stored.name,
            url: stored.url,
            username: stored.username,
            password_sealed: stored.password_sealed,
            credential_sealed: stored.credential_sealed,
            ca_pem: stored.ca_pem,
            append_only: stored.append_only != 0,
            store_host_id: row.maybe_parse("store_host_id", stored.store_host_id.as_deref())?,
            revision: stored.revision,
        })
    }
}

/// All repositories, by name.
///
/// # Errors
/// When the database fails.
pub async fn list(db: impl SqliteExecutor<'_>) -> Result<Vec<Repository>, DbError> {
    let rows = sqlx::query_as!(
        RepositoryRow,
        "SELECT id, name, url, username, password_sealed, credential_sealed, ca_pem, append_only,
                store_host_id, created_at, updated_at, initialised_at, revision
         FROM repositories ORDER BY name COLLATE NOCASE, id"
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(Repository::try_from).collect()
}

/// One repository.
///
/// # Errors
/// When the database fails.
pub async fn find(
    db: impl SqliteExecutor<'_>,
    id: RepositoryId,
) -> Result<Option<Repository>, DbError> {
    let id = id.to_string();
    let row = sqlx::query_as!(
        RepositoryRow,
        "SELECT id, name, url, username, password_sealed, credential_sealed, ca_pem, append_only,
                store_host_id, created_at, updated_at, initialised_at, revision
         FROM repositories WHERE id = ?",
        id
    )
    .fetch_optional(db)
    .await?;
    row.map(Repository::try_from).transpose()
}

/// These repositories.
///
/// # Errors
/// When the database fails.
pub async fn find_all(
    db: impl SqliteExecutor<'_>,
    ids: &BTreeSet<RepositoryId>,
) -> Result<Vec<Repository>, DbError> {
    let ids = to_json("repositories", "id", "many", ids)?;
    let rows = sqlx::query_as!(
        RepositoryRow,
        "SELECT id, name, url, username, password_sealed, credential_sealed, ca_pem, append_only,
                store_host_id, created_at, updated_at, initialised_at, revision
         FROM repositories WHERE id IN (SELECT value FROM json_each(?))",
        ids
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(Repository::try_from).collect()
}

/// The repository of this name, without regard to case.
///
/// # Errors
/// When the database fails.
pub async fn find_by_name(
    db: impl SqliteExecutor<'_>,
    name: &str,
) -> Result<Option<RepositoryId>, DbError> {
    let id = sqlx::query_scalar!("SELECT id FROM repositories WHERE name = ? COLLATE NOCASE", name)
        .fetch_optional(db)
        .await?;
    id.map(|id| Row { table: "repositories", id: &id }.parse("id", &id)).transpose()
}

/// Enters a repository.
///
/// # Errors
/// When the database fails.
pub async fn insert(tx: &mut Tx, repository: &Repository) -> Result<(), DbError> {
    let id = repository.id.to_string();
    let (created, updated) = (millis(repository.created_at), millis(repository.updated_at));
    let store_host = repository.store_host_id.map(|host| host.to_string());
    sqlx::query!(
        "INSERT INTO repositories
             (id, name, url, username, password_sealed, credential_sealed, ca_pem, append_only, store_host_id,
              created_at, updated_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        id,
        repository.name,
        repository.url,
        repository.username,
        repository.password_sealed,
        repository.credential_sealed,
        repository.ca_pem,
        repository.append_only,
        store_host,
        created,
        updated
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes a changed repository back.
///
/// # Errors
/// When the database fails.
pub async fn update(tx: &mut Tx, repository: &Repository) -> Result<(), DbError> {
    let id = repository.id.to_string();
    let updated = millis(repository.updated_at);
    let initialised = repository.initialised_at.map(millis);
    sqlx::query!(
        "UPDATE repositories SET name = ?, url = ?, username = ?, password_sealed = ?, credential_sealed = ?,
                ca_pem = ?, append_only = ?, updated_at = ?, initialised_at = ?, revision = revision + 1
         WHERE id = ?",
        repository.name,
        repository.url,
        repository.username,
        repository.password_sealed,
        repository.credential_sealed,
        repository.ca_pem,
        repository.append_only,
        updated,
        initialised,
        id
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Forgets a repository; what lies in it is untouched.
///
/// # Errors
/// When the database fails, or a plan still uses it.
pub async fn delete(tx: &mut Tx, id: RepositoryId) -> Result<(), DbError> {
    let id = id.to_string();
    sqlx::query!("DELETE FROM repositories WHERE id = ?", id).execute(&mut **tx).await?;
    Ok(())
}

/// The hosts that have a plan into this repository.
///
/// # Errors
/// When the database fails.
pub async fn hosts(db: impl SqliteExecutor<'_>, id: RepositoryId) -> Result<Vec<HostId>, DbError> {
    let key = id.to_string();
    let ids = sqlx::query_scalar!(
        r#"SELECT DISTINCT host_id AS "host_id!: String" FROM plan_targets WHERE repository_id = ?
           ORDER BY 1"#,
        key
    )
    .fetch_all(db)
    .await?;
    ids.iter().map(|host| Row { table: "plan_targets", id: &key }.parse("host_id", host)).collect()
}

/// The plans that write into this repository.
///
/// # Errors
/// When the database fails.
pub async fn plans(db: impl SqliteExecutor<'_>, id: RepositoryId) -> Result<Vec<PlanId>, DbError> {
    let key = id.to_string();
    let ids = sqlx::query_scalar!(
        r#"SELECT id AS "id!: String" FROM plans WHERE repository_id = ?1
           UNION SELECT plan_id FROM plan_targets WHERE repository_id = ?1 ORDER BY 1"#,
        key
    )
    .fetch_all(db)
    .await?;
    ids.iter().map(|plan| Row { table: "plans", id: plan }.parse("id", plan)).collect()
}

/// The repositories that the plans of this host use.
///
/// # Errors
/// When the database fails.
pub async fn of_host(
    db: impl SqliteExecutor<'_>,
    host: HostId,
) -> Result<Vec<Repository>, DbError> {
    let host = host.to_string();
    let rows = sqlx::query_as!(
        RepositoryRow,
        "SELECT id, name, url, username, password_sealed, credential_sealed, ca_pem, append_only,
                store_host_id, created_at, updated_at, initialised_at, revision
         FROM repositories WHERE id IN (SELECT repository_id FROM plan_targets WHERE host_id = ?)
         ORDER BY name COLLATE NOCASE, id",
        host
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(Repository::try_from).collect()
}

/// Notes that a repository is known to exist. Says whether that is news.
///
/// # Errors
/// When the database fails.
pub async fn note_initialised(
    tx: &mut Tx,
    id: RepositoryId,
    now: Timestamp,
) -> Result<bool, DbError> {
    let (id, now) = (id.to_string(), millis(now));
    let done = sqlx::query!(
        "UPDATE repositories SET initialised_at = ?, revision = revision + 1
         WHERE id = ? AND initialised_at IS NULL",
        now,
        id
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Notes that the repositories of these runs, which have ended well, exist: a backup wrote a snapshot, or
/// they were created. A host proves nothing about what it does not have. Returns those of which that is
/// news.
///
/// # Errors
/// When the database fails.
pub async fn note_proven(
    tx: &mut Tx,
    runs: &[RunId],
    now: Timestamp,
) -> Result<Vec<RepositoryId>, DbError> {
    let (runs, now) = (to_json("runs", "id", "many", runs)?, millis(now));
    let ids = sqlx::query_scalar!(
        "UPDATE repositories SET initialised_at = ?1, revision = revision + 1
         WHERE initialised_at IS NULL AND id IN (
             SELECT plan_targets.repository_id FROM json_each(?2) AS proof
             CROSS JOIN runs ON runs.id = proof.value AND runs.kind IN ('backup', 'init')
             CROSS JOIN plan_targets ON plan_targets.host_id = runs.host_id
                 AND iif(runs.repository_id IS NULL, plan_targets.plan_id = runs.plan_id,
                     plan_targets.repository_id = runs.repository_id))
         RETURNING id",
        now,
        runs
    )
    .fetch_all(&mut **tx)
    .await?;
    ids.iter().map(|id| Row { table: "repositories", id }.parse("id", id)).collect()
}
