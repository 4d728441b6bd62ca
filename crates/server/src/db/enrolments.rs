//! Enrolments: one-time tokens that let one machine in. Only the SHA-256 of a token is kept.

use super::{
    Tx,
    error::DbError,
    row::{Row, millis},
};
use jiff::Timestamp;
use protocol::{HostId, PlanId};
use sqlx::SqliteExecutor;
use uuid::Uuid;

/// An enrolment as it stands in the database.
#[derive(Clone, Debug, PartialEq)]
pub struct Enrolment {
    /// Its id; not the token.
    pub id: Uuid,
    /// The name that the host will get.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its token ends.
    pub expires_at: Timestamp,
    /// When a machine used it.
    pub used_at: Option<Timestamp>,
    /// The host that this machine became.
    pub host_id: Option<HostId>,
    /// When the admin took it back.
    pub withdrawn_at: Option<Timestamp>,
    /// The plan that the host gets when it arrives.
    pub plan_id: Option<PlanId>,
}

/// Where an enrolment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnrolmentState {
    /// Its token lets one machine in.
    Waiting,
    /// A machine came in with it.
    Used,
    /// Its hour is over.
    Expired,
    /// The admin took it back.
    Withdrawn,
}

impl Enrolment {
    /// Where it stands at this time.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> EnrolmentState {
        if self.used_at.is_some() {
            EnrolmentState::Used
        } else if self.withdrawn_at.is_some() {
            EnrolmentState::Withdrawn
        } else if self.expires_at <= now {
            EnrolmentState::Expired
        } else {
            EnrolmentState::Waiting
        }
    }
}

struct EnrolmentRow {
    id: String,
    name: String,
    created_at: i64,
    expires_at: i64,
    used_at: Option<i64>,
    host_id: Option<String>,
    withdrawn_at: Option<i64>,
    plan_id: Option<String>,
}

impl TryFrom<EnrolmentRow> for Enrolment {
    type Error = DbError;

    fn try_from(stored: EnrolmentRow) -> Result<Self, DbError> {
        let row = Row { table: "enrolments", id: &stored.id };
        Ok(Self {
            id: row.parse("id", &stored.id)?,
            created_at: row.time("created_at", stored.created_at)?,
            expires_at: row.time("expires_at", stored.expires_at)?,
            used_at: row.maybe_time("used_at", stored.used_at)?,
            host_id: row.maybe_parse("host_id", stored.host_id.as_deref())?,
            withdrawn_at: row.maybe_time("withdrawn_at", stored.withdrawn_at)?,
            plan_id: row.maybe_parse("plan_id", stored.plan_id.as_deref())?,
            name: stored.name,
        })
    }
}

/// The newest enrolments first, at most 200.
///
/// # Errors
/// When the database fails.
pub async fn list(db: impl SqliteExecutor<'_>) -> Result<Vec<Enrolment>, DbError> {
    let rows = sqlx::query_as!(
        EnrolmentRow,
        "SELECT id, name, created_at, expires_at, used_at, host_id, withdrawn_at, plan_id
         FROM enrolments ORDER BY created_at DESC, id DESC LIMIT 200"
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(Enrolment::try_from).collect()
}

/// One enrolment.
///
/// # Errors
/// When the database fails.
pub async fn find(db: impl SqliteExecutor<'_>, id: Uuid) -> Result<Option<Enrolment>, DbError> {
    let id = id.to_string();
    let row = sqlx::query_as!(
        EnrolmentRow,
        "SELECT id, name, created_at, expires_at, used_at, host_id, withdrawn_at, plan_id
         FROM enrolments WHERE id = ?",
        id
    )
    .fetch_optional(db)
    .await?;
    row.map(Enrolment::try_from).transpose()
}

/// The enrolment whose token has this SHA-256.
///
/// # Errors
/// When the database fails.
pub async fn find_by_token(
    db: impl SqliteExecutor<'_>,
    token_hash: &[u8],
) -> Result<Option<Enrolment>, DbError> {
    let row = sqlx::query_as!(
        EnrolmentRow,
        "SELECT id, name, created_at, expires_at, used_at, host_id, withdrawn_at, plan_id
         FROM enrolments WHERE token_hash = ?",
        token_hash
    )
    .fetch_optional(db)
    .await?;
    row.map(Enrolment::try_from).transpose()
}

/// Enters an enrolment with the SHA-256 of its token.
///
/// # Errors
/// When the database fails, or the plan does not exist.
pub async fn insert(tx: &mut Tx, enrolment: &Enrolment, token_hash: &[u8]) -> Result<(), DbError> {
    let id = enrolment.id.to_string();
    let plan = enrolment.plan_id.map(|plan| plan.to_string());
    let created = millis(enrolment.created_at);
    let expires = millis(enrolment.expires_at);
    sqlx::query!(
        "INSERT INTO enrolments (id, name, token_hash, created_at, expires_at, plan_id) VALUES (?, ?, ?, ?, ?, ?)",
        id,
        enrolment.name,
        token_hash,
        created,
        expires,
        plan
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Notes that a machine came in as this host.
///
/// # Errors
/// When the database fails.
pub async fn mark_used(tx: &mut Tx, id: Uuid, host: HostId, now: Timestamp) -> Result<(), DbError> {
    let (id, host, now) = (id.to_string(), host.to_string(), millis(now));
    sqlx::query!("UPDATE enrolments SET used_at = ?, host_id = ? WHERE id = ?", now, host, id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Takes an enrolment back, if it still waits; says whether it did.
///
/// # Errors
/// When the database fails.
pub async fn withdraw(tx: &mut Tx, id: Uuid, now: Timestamp) -> Result<bool, DbError> {
    let (id, now) = (id.to_string(), millis(now));
    let done = sqlx::query!(
        "UPDATE enrolments SET withdrawn_at = ? WHERE id = ? AND used_at IS NULL AND withdrawn_at IS NULL",
        now,
        id
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}
