//! Tags of hosts, and the plans that go by them.

use super::{Tx, error::DbError, row::Row};
use protocol::{HostId, PlanId};
use sqlx::SqliteExecutor;
use std::collections::BTreeMap;

/// The tags of a host, in order.
///
/// # Errors
/// When the database fails.
pub async fn of_host(db: impl SqliteExecutor<'_>, host: HostId) -> Result<Vec<String>, DbError> {
    let id = host.to_string();
    let tags = sqlx::query_scalar!("SELECT tag FROM host_tags WHERE host_id = ? ORDER BY tag", id)
        .fetch_all(db)
        .await?;
    Ok(tags)
}

/// The tags of all hosts that have some.
///
/// # Errors
/// When the database fails.
pub async fn of_hosts(
    db: impl SqliteExecutor<'_>,
) -> Result<BTreeMap<HostId, Vec<String>>, DbError> {
    let rows = sqlx::query!("SELECT host_id, tag FROM host_tags ORDER BY host_id, tag")
        .fetch_all(db)
        .await?;
    let mut tags: BTreeMap<HostId, Vec<String>> = BTreeMap::new();
    for row in rows {
        let host = Row { table: "host_tags", id: &row.host_id }.parse("host_id", &row.host_id)?;
        tags.entry(host).or_default().push(row.tag);
    }
    Ok(tags)
}

/// Makes these the tags of a host, and no others.
///
/// # Errors
/// When the database fails, or the host does not exist.
pub async fn set_of_host(tx: &mut Tx, host: HostId, tags: &[String]) -> Result<(), DbError> {
    let id = host.to_string();
    sqlx::query!("DELETE FROM host_tags WHERE host_id = ?", id).execute(&mut **tx).await?;
    for tag in tags {
        sqlx::query!("INSERT INTO host_tags (host_id, tag) VALUES (?, ?)", id, tag)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// The tags by which hosts have a plan, in order.
///
/// # Errors
/// When the database fails.
pub async fn of_plan(db: impl SqliteExecutor<'_>, plan: PlanId) -> Result<Vec<String>, DbError> {
    let id = plan.to_string();
    let tags =
        sqlx::query_scalar!("SELECT tag FROM plan_host_tags WHERE plan_id = ? ORDER BY tag", id)
            .fetch_all(db)
            .await?;
    Ok(tags)
}

/// The same of all plans that go by some.
///
/// # Errors
/// When the database fails.
pub async fn of_plans(
    db: impl SqliteExecutor<'_>,
) -> Result<BTreeMap<PlanId, Vec<String>>, DbError> {
    let rows = sqlx::query!("SELECT plan_id, tag FROM plan_host_tags ORDER BY plan_id, tag")
        .fetch_all(db)
        .await?;
    let mut tags: BTreeMap<PlanId, Vec<String>> = BTreeMap::new();
    for row in rows {
        let plan =
            Row { table: "plan_host_tags", id: &row.plan_id }.parse("plan_id", &row.plan_id)?;
        tags.entry(plan).or_default().push(row.tag);
    }
    Ok(tags)
}

/// Makes these the tags by which hosts have a plan, and no others.
///
/// # Errors
/// When the database fails.
pub async fn set_of_plan(tx: &mut Tx, plan: PlanId, tags: &[String]) -> Result<(), DbError> {
    let id = plan.to_string();
    sqlx::query!("DELETE FROM plan_host_tags WHERE plan_id = ?", id).execute(&mut **tx).await?;
    for tag in tags {
        sqlx::query!("INSERT INTO plan_host_tags (plan_id, tag) VALUES (?, ?)", id, tag)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}
