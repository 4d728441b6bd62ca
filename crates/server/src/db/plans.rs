//! Plans: what is backed up, into which repository, how, and on which hosts.

use super::{
    Tx,
    error::DbError,
    row::{Row, millis, to_json},
};
use jiff::Timestamp;
use protocol::{HostId, PlanId, PlanOptions, RepositoryId, Retention};
use sqlx::SqliteExecutor;
use std::collections::BTreeSet;

/// A plan as it stands in the database.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Its id, which is also its restic tag.
    pub id: PlanId,
    /// What the admin calls it.
    pub name: String,
    /// Where its snapshots go; `None` for the store, where each host has a repository of its own. In
    /// the plans of one host ([`targets`]) it is the repository that this host uses.
    pub repository_id: Option<RepositoryId>,
    /// What is backed up.
    pub paths: Vec<String>,
    /// restic exclude patterns.
    pub excludes: Vec<String>,
    /// Names of [`crate::presets`], whose patterns are left out too.
    pub presets: Vec<String>,
    /// Tags beside the plan's and the run's own.
    pub tags: Vec<String>,
    /// How long snapshots are kept; without it, all are.
    pub retention: Option<Retention>,
    /// How its backups run.
    pub options: PlanOptions,
    /// When it runs: five-field cron in the time zone of each machine; empty for a plan that runs by hand.
    pub cron: String,
    /// Whether it may run.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When the admin last changed it.
    pub updated_at: Timestamp,
    /// Grows with each change.
    pub revision: i64,
}

struct PlanRow {
    id: String,
    name: String,
    repository_id: Option<String>,
    paths: String,
    excludes: String,
    presets: String,
    tags: String,
    retention: Option<String>,
    options: String,
    cron: String,
    enabled: i64,
    created_at: i64,
    updated_at: i64,
    revision: i64,
}

impl TryFrom<PlanRow> for Plan {
    type Error = DbError;

    fn try_from(stored: PlanRow) -> Result<Self, DbError> {
        let row = Row { table: "plans", id: &stored.id };
        Ok(Self {
            id: row.parse("id", &stored.id)?,
            repository_id: row.maybe_parse("repository_id", stored.repository_id.as_deref())?,
            paths: row.json("paths", &stored.paths)?,
            excludes: row.json("excludes", &stored.excludes)?,
            presets: row.json("presets", &stored.presets)?,
            tags: row.json("tags", &stored.tags)?,
            options: row.json("options", &stored.options)?,
            retention: row.maybe_json("retention", stored.retention.as_deref())?,
            created_at: row.time("created_at", stored.created_at)?,
            updated_at: row.time("updated_at", stored.updated_at)?,
            name: stored.name,
            cron: stored.cron,
            enabled: stored.enabled != 0,
            revision: stored.revision,
        })
    }
}

/// The columns that hold JSON, written.
struct Written {
    paths: String,
    excludes: String,
    presets: String,
    tags: String,
    retention: Option<String>,
    options: String,
}

impl Written {
    fn of(plan: &Plan) -> Result<Self, DbError> {
        let list = |column, items: &[String]| to_json("plans", column, plan.id, items);
        let retention = plan.retention.as_ref();
        Ok(Self {
            paths: list("paths", &plan.paths)?,
            excludes: list("excludes", &plan.excludes)?,
            presets: list("presets", &plan.presets)?,
            tags: list("tags", &plan.tags)?,
            options: to_json("plans", "options", plan.id, &plan.options)?,
            retention: retention.map(|r| to_json("plans", "retention", plan.id, r)).transpose()?,
        })
    }
}

/// All plans, by name.
///
/// # Errors
/// When the database fails.
pub async fn list(db: impl SqliteExecutor<'_>) -> Result<Vec<Plan>, DbError> {
    let rows = sqlx::query_as!(
        PlanRow,
        "SELECT id, name, repository_id, paths, excludes, presets, tags, retention, options, cron, enabled, created_at,
                updated_at, revision
         FROM plans ORDER BY name COLLATE NOCASE, id"
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(Plan::try_from).collect()
}

/// One plan.
///
/// # Errors
/// When the database fails.
pub async fn find(db: impl SqliteExecutor<'_>, id: PlanId) -> Result<Option<Plan>, DbError> {
    let id = id.to_string();
    let row = sqlx::query_as!(
        PlanRow,
        "SELECT id, name, repository_id, paths, excludes, presets, tags, retention, options, cron, enabled, created_at,
                updated_at, revision
         FROM plans WHERE id = ?",
        id
    )
    .fetch_optional(db)
    .await?;
    row.map(Plan::try_from).transpose()
}

/// The plan of this name, without regard to case.
///
/// # Errors
/// When the database fails.
pub async fn find_by_name(
    db: impl SqliteExecutor<'_>,
    name: &str,
) -> Result<Option<PlanId>, DbError> {
    let id = sqlx::query_scalar!("SELECT id FROM plans WHERE name = ? COLLATE NOCASE", name)
        .fetch_optional(db)
        .await?;
    id.map(|id| Row { table: "plans", id: &id }.parse("id", &id)).transpose()
}

/// The plans of one host, by name, each with the repository that this host uses.
///
/// # Errors
/// When the database fails.
pub async fn of_host(db: impl SqliteExecutor<'_>, host: HostId) -> Result<Vec<Plan>, DbError> {
    let host = host.to_string();
    let rows = sqlx::query_as!(
        PlanRow,
        r#"SELECT id AS "id!: String", name AS "name!: String",
                  plan_targets.repository_id AS "repository_id?: String", paths AS "paths!: String",
                  excludes AS "excludes!: String", presets AS "presets!: String", tags AS "tags!: String",
                  retention AS "retention?: String", options AS "options!: String", cron AS "cron!: String",
                  enabled AS "enabled!: i64", created_at AS "created_at!: i64", updated_at AS "updated_at!: i64",
                  revision AS "revision!: i64"
           FROM plans JOIN plan_targets ON plan_targets.plan_id = plans.id WHERE plan_targets.host_id = ?
           ORDER BY name COLLATE NOCASE, id"#,
        host
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(Plan::try_from).collect()
}

/// A plan of a host, and the repository that this host uses for it.
pub type Target = (HostId, PlanId, Option<RepositoryId>);

/// The plans of these hosts.
///
/// # Errors
/// When the database fails.
pub async fn targets(
    db: impl SqliteExecutor<'_>,
    hosts: &[HostId],
) -> Result<Vec<Target>, DbError> {
    let wanted = to_json("plan_targets", "host_id", "many", hosts)?;
    let rows = sqlx::query!(
        r#"SELECT host_id AS "host_id!: String", plan_id AS "plan_id!: String",
                  repository_id AS "repository_id?: String"
           FROM plan_targets WHERE host_id IN (SELECT value FROM json_each(?))"#,
        wanted
    )
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|target| {
            let (plan, host) = pair("plan_targets", &target.plan_id, &target.host_id)?;
            let row = Row { table: "plan_targets", id: &target.plan_id };
            Ok((host, plan, row.maybe_parse("repository_id", target.repository_id.as_deref())?))
        })
        .collect()
}

/// These plans.
///
/// # Errors
/// When the database fails.
pub async fn find_all(
    db: impl SqliteExecutor<'_>,
    ids: &BTreeSet<PlanId>,
) -> Result<Vec<Plan>, DbError> {
    let ids = to_json("plans", "id", "many", ids)?;
    let rows = sqlx::query_as!(
        PlanRow,
        "SELECT id, name, repository_id, paths, excludes, presets, tags, retention, options, cron, enabled, created_at,
                updated_at, revision
         FROM plans WHERE id IN (SELECT value FROM json_each(?))",
        ids
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(Plan::try_from).collect()
}

/// The hosts that have a plan, one by one or by a tag.
///
/// # Errors
/// When the database fails.
pub async fn hosts(db: impl SqliteExecutor<'_>, id: PlanId) -> Result<Vec<HostId>, DbError> {
    let key = id.to_string();
    let ids = sqlx::query_scalar!(
        r#"SELECT host_id AS "host_id!: String" FROM plan_assignments WHERE plan_id = ? ORDER BY host_id"#,
        key
    )
    .fetch_all(db)
    .await?;
    ids.iter()
        .map(|host| Row { table: "plan_assignments", id: &key }.parse("host_id", host))
        .collect()
}

/// Which host has which plan, one by one or by a tag: all pairs.
///
/// # Errors
/// When the database fails.
pub async fn assignments(db: impl SqliteExecutor<'_>) -> Result<Vec<(PlanId, HostId)>, DbError> {
    let rows = sqlx::query!(
        r#"SELECT plan_id AS "plan_id!: String", host_id AS "host_id!: String" FROM plan_assignments
           ORDER BY plan_id, host_id"#
    )
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| pair("plan_assignments", &row.plan_id, &row.host_id)).collect()
}

/// The hosts that a plan was assigned to one by one.
///
/// # Errors
/// When the database fails.
pub async fn chosen_hosts(db: impl SqliteExecutor<'_>, id: PlanId) -> Result<Vec<HostId>, DbError> {
    let key = id.to_string();
    let ids = sqlx::query_scalar!(
        "SELECT host_id FROM plan_hosts WHERE plan_id = ? ORDER BY host_id",
        key
    )
    .fetch_all(db)
    .await?;
    ids.iter().map(|host| Row { table: "plan_hosts", id: &key }.parse("host_id", host)).collect()
}

/// The same of all plans.
///
/// # Errors
/// When the database fails.
pub async fn choices(db: impl SqliteExecutor<'_>) -> Result<Vec<(PlanId, HostId)>, DbError> {
    let rows = sqlx::query!("SELECT plan_id, host_id FROM plan_hosts ORDER BY plan_id, host_id")
        .fetch_all(db)
        .await?;
    rows.iter().map(|row| pair("plan_hosts", &row.plan_id, &row.host_id)).collect()
}

fn pair(table: &'static str, plan: &str, host: &str) -> Result<(PlanId, HostId), DbError> {
    let row = Row { table, id: plan };
    Ok((row.parse("plan_id", plan)?, row.parse("host_id", host)?))
}

/// Enters a plan.
///
/// # Errors
/// When the database fails.
pub async fn insert(tx: &mut Tx, plan: &Plan) -> Result<(), DbError> {
    let (id, repository) = (plan.id.to_string(), plan.repository_id.map(|id| id.to_string()));
    let (created, updated) = (millis(plan.created_at), millis(plan.updated_at));
    let json = Written::of(plan)?;
    sqlx::query!(
        "INSERT INTO plans
             (id, name, repository_id, paths, excludes, presets, tags, retention, options, cron, enabled, created_at,
              updated_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        id,
        plan.name,
        repository,
        json.paths,
        json.excludes,
        json.presets,
        json.tags,
        json.retention,
        json.options,
        plan.cron,
        plan.enabled,
        created,
        updated
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes a changed plan back.
///
/// # Errors
/// When the database fails.
pub async fn update(tx: &mut Tx, plan: &Plan) -> Result<(), DbError> {
    let (id, repository) = (plan.id.to_string(), plan.repository_id.map(|id| id.to_string()));
    let updated = millis(plan.updated_at);
    let json = Written::of(plan)?;
    sqlx::query!(
        "UPDATE plans SET name = ?, repository_id = ?, paths = ?, excludes = ?, presets = ?, tags = ?,
                retention = ?, options = ?, cron = ?, enabled = ?, updated_at = ?, revision = revision + 1
         WHERE id = ?",
        plan.name,
        repository,
        json.paths,
        json.excludes,
        json.presets,
        json.tags,
        json.retention,
        json.options,
        plan.cron,
        plan.enabled,
        updated,
        id
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Makes these the hosts that the plan is assigned to one by one, and no others.
///
/// # Errors
/// When the database fails, or a host does not exist.
pub async fn set_hosts(tx: &mut Tx, id: PlanId, hosts: &[HostId]) -> Result<(), DbError> {
    let key = id.to_string();
    sqlx::query!("DELETE FROM plan_hosts WHERE plan_id = ?", key).execute(&mut **tx).await?;
    for host in hosts {
        assign(tx, id, *host).await?;
    }
    Ok(())
}

/// Assigns the plan to one more host.
///
/// # Errors
/// When the database fails, or the host does not exist.
pub async fn assign(tx: &mut Tx, id: PlanId, host: HostId) -> Result<(), DbError> {
    let (id, host) = (id.to_string(), host.to_string());
    sqlx::query!("INSERT OR IGNORE INTO plan_hosts (plan_id, host_id) VALUES (?, ?)", id, host)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Deletes a plan; its snapshots stay in the repository, and waiting enrolments lose it.
///
/// # Errors
/// When the database fails.
pub async fn delete(tx: &mut Tx, id: PlanId) -> Result<(), DbError> {
    let id = id.to_string();
    sqlx::query!("UPDATE enrolments SET plan_id = NULL WHERE plan_id = ?", id)
        .execute(&mut **tx)
        .await?;
    sqlx::query!("DELETE FROM plans WHERE id = ?", id).execute(&mut **tx).await?;
    Ok(())
}
