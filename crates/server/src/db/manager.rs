//! The one row that says who this manager is.

use super::{
    Tx,
    error::DbError,
    row::{Row, count, millis, to_json, uncount},
};
use jiff::Timestamp;
use protocol::{Incarnation, ManagerIdentity};
use sqlx::SqliteExecutor;

const ROW: Row<'static> = Row { table: "manager", id: "1" };

/// The manager's identity as it is stored; its private keys stay sealed.
#[derive(Clone, Debug)]
pub struct StoredIdentity {
    /// Which life and epoch this is.
    pub manager: ManagerIdentity,
    /// The fleet's root key, raw Ed25519.
    pub root_public_key: [u8; 32],
    /// Its private half, PKCS #8, while it is here.
    pub root_key_sealed: Option<Vec<u8>>,
    /// The root certificate, DER.
    pub root_cert: Vec<u8>,
    /// The instance certificate, DER.
    pub instance_cert: Vec<u8>,
    /// Its private key, PKCS #8.
    pub instance_key_sealed: Vec<u8>,
}

/// The identity, if there is one yet.
///
/// # Errors
/// When the database fails.
pub async fn identity(db: impl SqliteExecutor<'_>) -> Result<Option<StoredIdentity>, DbError> {
    let row = sqlx::query!(
        "SELECT incarnation, epoch, root_public_key, root_key_sealed, root_cert, instance_cert, \
         instance_key_sealed FROM manager WHERE id = 1"
    )
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let incarnation = ROW.parse("incarnation", &row.incarnation)?;
    Ok(Some(StoredIdentity {
        manager: ManagerIdentity { incarnation, epoch: uncount(row.epoch) },
        root_public_key: ROW.bytes("root_public_key", &row.root_public_key)?,
        root_key_sealed: row.root_key_sealed,
        root_cert: row.root_cert,
        instance_cert: row.instance_cert,
        instance_key_sealed: row.instance_key_sealed,
    }))
}

/// Stores the identity of a new manager.
///
/// # Errors
/// When the database fails or there is one already.
pub async fn insert(tx: &mut Tx, identity: &StoredIdentity, now: Timestamp) -> Result<(), DbError> {
    let incarnation = identity.manager.incarnation.to_string();
    let (epoch, now) = (count(identity.manager.epoch), millis(now));
    let public = identity.root_public_key.as_slice();
    sqlx::query!(
        "INSERT INTO manager (id, incarnation, epoch, root_public_key, root_key_sealed, \
         root_cert, instance_cert, instance_key_sealed, addresses, created_at) \
         VALUES (1, ?, ?, ?, ?, ?, ?, ?, '[]', ?)",
        incarnation,
        epoch,
        public,
        identity.root_key_sealed,
        identity.root_cert,
        identity.instance_cert,
        identity.instance_key_sealed,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Begins a new life of this database.
///
/// # Errors
/// When the database fails.
pub async fn set_incarnation(tx: &mut Tx, incarnation: Incarnation) -> Result<(), DbError> {
    let incarnation = incarnation.to_string();
    sqlx::query!("UPDATE manager SET incarnation = ? WHERE id = 1", incarnation)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The addresses that agents may dial, best first.
///
/// # Errors
/// When the database fails.
pub async fn addresses(db: impl SqliteExecutor<'_>) -> Result<Vec<String>, DbError> {
    let text = sqlx::query_scalar!("SELECT addresses FROM manager WHERE id = 1")
        .fetch_optional(db)
        .await?;
    Ok(ROW.maybe_json("addresses", text.as_deref())?.unwrap_or_default())
}

/// Sets the addresses that agents may dial.
///
/// # Errors
/// When the database fails.
pub async fn set_addresses(tx: &mut Tx, addresses: &[String]) -> Result<(), DbError> {
    let text = to_json("manager", "addresses", 1, addresses)?;
    sqlx::query!("UPDATE manager SET addresses = ? WHERE id = 1", text).execute(&mut **tx).await?;
    Ok(())
}

/// The hash of the admin's password, once one is set.
///
/// # Errors
/// When the database fails.
pub async fn password_hash(db: impl SqliteExecutor<'_>) -> Result<Option<String>, DbError> {
    let hash = sqlx::query_scalar!("SELECT admin_password_hash FROM manager WHERE id = 1")
        .fetch_optional(db)
        .await?;
    Ok(hash.flatten())
}

/// Sets the hash of the admin's password.
///
/// # Errors
/// When the database fails.
pub async fn set_password_hash(tx: &mut Tx, hash: &str) -> Result<(), DbError> {
    sqlx::query!("UPDATE manager SET admin_password_hash = ? WHERE id = 1", hash)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// How much there is of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Hosts that are not removed.
    pub hosts: u32,
    /// Plans.
    pub plans: u32,
    /// Repositories.
    pub repositories: u32,
    /// Runs that have not ended.
    pub open_runs: u32,
    /// Notices that are not resolved.
    pub open_notices: u32,
}

/// Counts, and reads nothing of it.
///
/// # Errors
/// When the database fails.
pub async fn counts(db: impl SqliteExecutor<'_>) -> Result<Counts, DbError> {
    let counts = sqlx::query_as!(
        Counts,
        r#"SELECT
           (SELECT count(*) FROM hosts WHERE state <> 'removed') AS "hosts!: u32",
           (SELECT count(*) FROM plans) AS "plans!: u32",
           (SELECT count(*) FROM repositories) AS "repositories!: u32",
           (SELECT count(*) FROM runs WHERE finished_at IS NULL) AS "open_runs!: u32",
           (SELECT count(*) FROM notices WHERE resolved_at IS NULL) AS "open_notices!: u32""#
    )
    .fetch_one(db)
    .await?;
    Ok(counts)
}

/// When the admin last looked at the fleet; `None` before the first time.
///
/// # Errors
/// When the database fails.
pub async fn looked_at(db: impl SqliteExecutor<'_>) -> Result<Option<Timestamp>, DbError> {
    let at =
        sqlx::query_scalar!("SELECT looked_at FROM manager WHERE id = 1").fetch_one(db).await?;
    ROW.maybe_time("looked_at", at)
}

/// The admin has seen everything up to this moment, if not more already.
///
/// # Errors
/// When the database fails.
pub async fn look(tx: &mut Tx, until: Timestamp) -> Result<(), DbError> {
    let until = millis(until);
    sqlx::query!(
        "UPDATE manager SET looked_at = max(coalesce(looked_at, 0), ?) WHERE id = 1",
        until
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
