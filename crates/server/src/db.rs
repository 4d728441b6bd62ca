//! The database: one connection that writes, and a pool that only reads.
//!
//! SQLite in WAL mode with `synchronous=FULL`: a commit that returned is on the disk, which is what
//! an acknowledgement to an agent promises. All SQL lives in this module's files, one an aggregate.

pub mod alarms;
pub mod audit;
pub mod channels;
pub mod enrolments;
pub mod error;
pub mod folders;
pub mod hosts;
pub mod journals;
pub mod logs;
pub mod manager;
pub mod notices;
pub mod plans;
pub mod repositories;
pub mod row;
pub mod runs;
pub mod sessions;
pub mod slots;
pub mod snapshots;
pub mod store;
pub mod tags;

use error::DbError;
use sqlx::{
    Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::path::{Path, PathBuf};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/server");

/// What the writer may keep in memory, in KiB, which SQLite writes as a negative number. SQLite's default of
/// 2,000 does not hold what one transaction changes when hundreds of machines tell of their runs, so that pages
/// would be written before its end, and again at its end.
const WRITER_CACHE_KIB: &str = "-8192";
/// Pages in the write-ahead log, 16 MiB of them, after which it is folded into the file. Four times SQLite's
/// default: pages that change again and again are written to the file less often.
const CHECKPOINT_PAGES: &str = "4000";

/// Connections that read at the same time. Each keeps its own statements, schema and pages.
const READERS: u32 = 2;

/// A write transaction. Dropped without commit it leaves nothing behind.
pub type Tx = Transaction<'static, Sqlite>;

/// The open database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Db {
    writer: SqlitePool,
    reader: SqlitePool,
}

impl Db {
    /// Opens the database in this file, makes it when it is missing, and migrates it after a copy
    /// was put aside (`<file>.before-<version>`).
    ///
    /// # Errors
    /// When it cannot be opened, or was written by a newer version of this product.
    pub async fn open(path: &Path) -> Result<Self, DbError> {
        close_file(path).map_err(|source| DbError::open(path, source.into()))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(std::time::Duration::from_secs(10));
        #[cfg(target_os = "macos")]
        let options = options.pragma("fullfsync", "1");
        // A connection is a handle to a file and cannot have gone away meanwhile, so that nobody asks it
        // whether it has before each use.
        let writing = options
            .clone()
            .pragma("cache_size", WRITER_CACHE_KIB)
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false)
            .connect_with(writing)
            .await
            .map_err(|source| DbError::open(path, source))?;
        migrate(&writer, path).await?;
        let reader = SqlitePoolOptions::new()
            .max_connections(READERS)
            .test_before_acquire(false)
            .connect_with(options.read_only(true).create_if_missing(false))
            .await
            .map_err(|source| DbError::open(path, source))?;
        Ok(Self { writer, reader })
    }

    /// Begins a write transaction; there is one at a time.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn begin(&self) -> Result<Tx, DbError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// The pool for reading.
    #[must_use]
    pub fn read(&self) -> &SqlitePool {
        &self.reader
    }

    /// Closes all connections; the write-ahead log is folded into the file.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

async fn migrate(writer: &SqlitePool, path: &Path) -> Result<(), DbError> {
    let newest = MIGRATIONS.iter().map(|m| m.version).max().unwrap_or(0);
    if let Some(present) = present_version(writer).await? {
        if present > newest {
            return Err(DbError::TooNew { path: path.display().to_string(), present, newest });
        }
        if present < newest {
            copy_aside(writer, path, present).await?;
        }
    }
    MIGRATIONS
        .run(writer)
        .await
        .map_err(|source| DbError::Migrate { path: path.display().to_string(), source })
}

async fn present_version(writer: &SqlitePool) -> Result<Option<i64>, DbError> {
    let known: Option<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'",
    )
    .fetch_optional(writer)
    .await?;
    if known.is_none() {
        return Ok(None);
    }
    Ok(sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(writer).await?)
}

async fn copy_aside(writer: &SqlitePool, path: &Path, present: i64) -> Result<(), DbError> {
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".before-{present}{suffix}"));
        PathBuf::from(name)
    };
    let (copy, half) = (beside(""), beside(".new"));
    if copy.exists() {
        return Ok(());
    }
    let failed = |source: std::io::Error| DbError::open(&copy, source.into());
    // What an attempt that was cut off left there; SQLite wants a file that is empty.
    let _ = std::fs::remove_file(&half);
    close_file(&half).map_err(failed)?;
    sqlx::query("VACUUM INTO ?").bind(half.display().to_string()).execute(writer).await?;
    std::fs::rename(&half, &copy).map_err(failed)
}

/// Makes a file that only its owner can read where it is missing, and closes it to others where it
/// is not, whatever the umask says. SQLite gives its files beside the database the same rights.
fn close_file(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    #[cfg(not(unix))]
    drop(file);
    Ok(())
}

#[cfg(test)]
mod tests;
