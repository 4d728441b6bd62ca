//! Notices: what a person must know or decide. The unique index over the open ones is the
//! de-duplication; telling one twice counts it up.

use super::{
    Tx,
    error::DbError,
    row::{Row, millis, uncount},
};
use jiff::Timestamp;
use protocol::{Code, HostId};
use sqlx::SqliteExecutor;
use uuid::Uuid;

/// Notices of one host that may be open at once, beside those that tell why the host is held.
const OPEN_OF_HOST: i64 = 100;

/// A notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Its id.
    pub id: Uuid,
    /// The host that it is about.
    pub host_id: Option<HostId>,
    /// The stable reason.
    pub code: Code,
    /// Tells two notices of one code apart; often empty.
    pub subject: String,
    /// What happened, for a person.
    pub message: String,
    /// What to do next, for a person.
    pub guidance: Option<String>,
    /// When it was first told.
    pub opened_at: Timestamp,
    /// When it was last told.
    pub last_at: Timestamp,
    /// How often it was told.
    pub times: u64,
    /// When it was resolved.
    pub resolved_at: Option<Timestamp>,
}

struct NoticeRow {
    id: String,
    host_id: Option<String>,
    code: String,
    subject: String,
    message: String,
    guidance: Option<String>,
    opened_at: i64,
    last_at: i64,
    times: i64,
    resolved_at: Option<i64>,
}

impl TryFrom<NoticeRow> for Notice {
    type Error = DbError;

    fn try_from(notice: NoticeRow) -> Result<Self, DbError> {
        let row = Row { table: "notices", id: &notice.id };
        Ok(Self {
            id: row.parse("id", &notice.id)?,
            host_id: row.maybe_parse("host_id", notice.host_id.as_deref())?,
            code: row.word("code", &notice.code)?,
            opened_at: row.time("opened_at", notice.opened_at)?,
            last_at: row.time("last_at", notice.last_at)?,
            times: uncount(notice.times),
            resolved_at: row.maybe_time("resolved_at", notice.resolved_at)?,
            subject: notice.subject,
            message: notice.message,
            guidance: notice.guidance,
        })
    }
}

/// What is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNotice {
    /// The host that it is about.
    pub host_id: Option<HostId>,
    /// The stable reason.
    pub code: Code,
    /// Tells two notices of one code apart.
    pub subject: String,
    /// What happened, for a person.
    pub message: String,
    /// What to do next, for a person.
    pub guidance: Option<String>,
    /// Whether it tells why a host is held: then it is told however many others are open, since those may be
    /// a thief's.
    pub is_hold: bool,
}

impl NewNotice {
    /// A notice about a host.
    #[must_use]
    pub fn of_host(host: HostId, code: Code, message: impl Into<String>) -> Self {
        Self {
            host_id: Some(host),
            code,
            subject: String::new(),
            message: message.into(),
            guidance: None,
            is_hold: false,
        }
    }

    /// Tells why the host is held.
    #[must_use]
    pub fn hold(self) -> Self {
        Self { is_hold: true, ..self }
    }

    /// Tells it apart from others of its code.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = subject.into();
        self
    }

    /// Adds what to do next.
    #[must_use]
    pub fn guidance(mut self, guidance: impl Into<String>) -> Self {
        self.guidance = Some(guidance.into());
        self
    }
}

/// Opens a notice under a new id, or counts up the open one of the same host, code and subject. A
/// host that has very many open ones gets no more, unless it is held: a machine must not bury the admin.
///
/// # Errors
/// When the database fails.
pub async fn open(
    tx: &mut Tx,
    id: Uuid,
    notice: &NewNotice,
    now: Timestamp,
) -> Result<(), DbError> {
    let (id, code, now) = (id.to_string(), notice.code.as_str(), millis(now));
    let host = notice.host_id.map(|host| host.to_string());
    let most = if notice.is_hold { i64::MAX } else { OPEN_OF_HOST };
    sqlx::query!(
        "INSERT INTO notices (id, host_id, code, subject, message, guidance, opened_at, last_at) \
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7 WHERE ?2 IS NULL OR EXISTS (SELECT 1 FROM notices \
         WHERE host_id = ?2 AND code = ?3 AND subject = ?4 AND resolved_at IS NULL) \
         OR (SELECT count(*) FROM notices WHERE host_id = ?2 AND resolved_at IS NULL) < ?8 \
         ON CONFLICT (coalesce(host_id, ''), code, subject) WHERE resolved_at IS NULL \
         DO UPDATE SET times = times + 1, last_at = excluded.last_at, \
         message = excluded.message, guidance = excluded.guidance",
        id,
        host,
        code,
        notice.subject,
        notice.message,
        notice.guidance,
        now,
        most
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The open notices, newest first.
///
/// # Errors
/// When the database fails.
pub async fn list_open(db: impl SqliteExecutor<'_>) -> Result<Vec<Notice>, DbError> {
    let rows = sqlx::query_as!(
        NoticeRow,
        "SELECT id, host_id, code, subject, message, guidance, opened_at, last_at, times, \
         resolved_at FROM notices WHERE resolved_at IS NULL ORDER BY last_at DESC, id DESC"
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(Notice::try_from).collect()
}

/// Resolves one notice. Says whether it was open.
///
/// # Errors
/// When the database fails.
pub async fn resolve(tx: &mut Tx, id: Uuid, now: Timestamp) -> Result<bool, DbError> {
    let (id, now) = (id.to_string(), millis(now));
    let done = sqlx::query!(
        "UPDATE notices SET resolved_at = ? WHERE id = ? AND resolved_at IS NULL",
        now,
        id
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Resolves what is open with this code about a host, or about the manager itself.
///
/// # Errors
/// When the database fails.
pub async fn resolve_code(
    tx: &mut Tx,
    host: Option<HostId>,
    code: Code,
    now: Timestamp,
) -> Result<bool, DbError> {
    let (host, code, now) = (host.map(|host| host.to_string()), code.as_str(), millis(now));
    let done = sqlx::query!(
        "UPDATE notices SET resolved_at = ? \
         WHERE host_id IS ? AND code = ? AND resolved_at IS NULL",
        now,
        host,
        code
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}
