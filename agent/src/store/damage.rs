//! A database that is not as it was written: found at the start, kept aside, read as far as it can be, and
//! followed by a new journal whose first record is a gap.
//!
//! | what is found | what follows |
//! | --- | --- |
//! | no file, or an empty one, where an agent has run before | a new journal with a gap |
//! | SQLite calls it malformed, a table is missing, a record does not continue the chain, a value makes no sense | the file is kept; what can be read goes into a new journal behind a gap |
//! | the log beside it is gone, though no agent has closed it, or commits of it that were synced are not as they were written | the file is whole, but older than the agent was: a new journal with a gap |
//! | there is nothing in it, though an agent has run before | a new journal with a gap |

use super::{
    Store, StoreError,
    error::{Result, inconsistent, record, unsigned},
    log,
};
use crate::{
    core::{Change, Memory},
    journal::{Journal, Record, Room},
};
use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use protocol::{Code, FromAgent, JournalId, JournalState, Secret, journal::JournalGap};
use sqlx::sqlite::SqliteConnectOptions;
use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

/// Records that are looked at together.
const CHUNK: Room =
    Room { after: 0, up_to: super::MAX_SEQ, records: 1_000, bytes: 8 * 1024 * 1024 };

/// What a new journal begins with.
#[derive(Clone, Debug)]
pub struct Begin {
    /// Its identifier.
    pub fresh: JournalId,
    /// The time.
    pub now: Timestamp,
    /// The same for the name of a file.
    pub stamp: String,
    /// Whether an agent has run here before, so that there must be a journal.
    pub has_run: bool,
}

/// An opened database.
#[derive(Debug)]
pub struct Opened {
    /// The database.
    pub store: Store,
    /// What it holds.
    pub memory: Memory,
    /// What was wrong with the one that was there.
    pub damage: Option<Damage>,
}

/// What was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What, in a sentence's end.
    pub why: String,
    /// The file that was kept.
    pub kept: Option<PathBuf>,
}

/// A file that is there while a database is open: after a crash the log beside the database must be there
/// too.
#[derive(Debug)]
pub(super) struct OpenMark(PathBuf);

impl OpenMark {
    pub(super) fn set(database: &Path) -> Result<Self> {
        let path = beside(database, "-open");
        // A disk without room for an entry finds no lost log later, and that is all.
        if let Err(error) = fs::write(&path, b"") {
            tracing::debug!(%error, "The journal is not marked as open");
        }
        Ok(Self(path))
    }
}

impl Drop for OpenMark {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Store {
    /// Opens the database, and begins a new journal where it is not as it was written.
    ///
    /// # Errors
    /// When SQLite says so, or when the database belongs to a newer agent.
    pub async fn open_or_begin_anew(path: &Path, begin: &Begin) -> Result<Opened> {
        let was_open = beside(path, "-open").exists();
        let is_there = fs::metadata(path).is_ok_and(|about| about.len() > 0);
        if !is_there {
            let is_lost = begin.has_run || was_open;
            let kept = if is_lost { put_aside(path, &begin.stamp)? } else { None };
            let mut store = Self::open(path, begin.fresh).await?;
            if is_lost {
                store.commit(&Saved::default().changes(begin)?).await?;
            }
            let memory = store.load().await?;
            let damage =
                is_lost.then(|| Damage { why: "its file is gone or empty".to_owned(), kept });
            return Ok(Opened { store, memory, damage });
        }
        let log = beside(path, "-wal");
        let is_log_gone = was_open && !log.exists();
        // To be looked at before SQLite takes of it what it can.
        let is_log_damaged = log::is_damaged(&log);
        let error = match Self::open_checked(path, begin.fresh).await {
            Ok((mut store, memory)) => {
                let JournalState { id, head, .. } = memory.journal;
                let is_empty = begin.has_run && id == begin.fresh && head == 0;
                let why = match (is_log_gone, is_log_damaged, is_empty) {
                    (true, _, _) => "the log beside its file is gone",
                    (_, true, _) => "the log beside its file is not as it was written",
                    (_, _, true) => "there is nothing in it",
                    (false, false, false) => return Ok(Opened { store, memory, damage: None }),
                };
                let after = memory.journal.acked;
                store.renew(begin.fresh, Code::JournalDamaged, after, begin.now).await?;
                let memory = store.load().await?;
                let damage = Some(Damage { why: why.to_owned(), kept: None });
                return Ok(Opened { store, memory, damage });
            }
            Err(error) if error.is_damage() => error,
            Err(error) => return Err(error),
        };
        let saved = Saved::read(path).await;
        let kept = put_aside(path, &begin.stamp)?;
        let mut store = Self::open(path, begin.fresh).await?;
        store.commit(&saved.changes(begin)?).await?;
        let memory = store.load().await?;
        let why = format!("{:#}", anyhow::Error::from(error));
        Ok(Opened { store, memory, damage: Some(Damage { why, kept }) })
    }

    async fn open_checked(path: &Path, fresh: JournalId) -> Result<(Self, Memory)> {
        let mut store = Self::open(path, fresh).await?;
        store.check().await?;
        let memory = store.load().await?;
        Ok((store, memory))
    }

    /// Looks whether the file is whole and each record continues the one before it.
    async fn check(&mut self) -> Result<()> {
        let said: String =
            sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut self.connection).await?;
        if said != "ok" {
            return Err(inconsistent("sqlite_schema", "quick_check", "1", said));
        }
        let state = self.journal().await?;
        let (mut seq, mut hash) = (state.first.saturating_sub(1), state.base_hash);
        loop {
            let records = self.fetch(Room { after: seq, ..CHUNK }).await?;
            if records.is_empty() {
                return Ok(());
            }
            for record in records {
                let continues = match record.elided() {
                    Some(elided) => elided.first_seq == seq + 1,
                    None => {
                        record.seq == seq + 1
                            && record.hash == hash.next(record.seq, &record.kind, &record.payload)
                    }
                };
                if !continues {
                    let row = record.seq.to_string();
                    return Err(inconsistent("record", "hash", &row, "it does not continue"));
                }
                (seq, hash) = (record.seq, record.hash);
            }
        }
    }
}

/// What could be read of a damaged database.
#[derive(Debug, Default)]
struct Saved {
    journal: Option<(JournalId, u64)>,
    changes: Vec<Change>,
    records: Vec<Record>,
}

impl Saved {
    async fn read(path: &Path) -> Self {
        let options = SqliteConnectOptions::new().filename(path);
        let Ok(mut old) = Store::unmarked(&options).await else { return Self::default() };
        let mut saved = Self::default();
        let row = sqlx::query!(
            "SELECT journal_id, acked_seq, incarnation, ticket FROM agent_state WHERE id = 1"
        );
        if let Ok(row) = row.fetch_one(&mut old.connection).await {
            saved.journal = row.journal_id.parse().ok().map(|id| (id, unsigned(row.acked_seq)));
            let incarnation = row.incarnation.and_then(|text| text.parse().ok());
            saved.changes.extend(incarnation.map(Change::Incarnation));
            saved.changes.extend(row.ticket.map(|ticket| Change::Ticket(Secret::new(ticket))));
        }
        saved.changes.extend(old.epoch().await.ok().map(Change::Epoch));
        for (incarnation, series) in old.series().await.unwrap_or_default() {
            let struck = series.struck.into_iter().map(Some).chain([None]);
            saved.changes.extend(struck.map(|struck| Change::Numbers {
                incarnation,
                watermark: series.watermark,
                highest: series.highest,
                struck,
            }));
        }
        let runs = old.runs().await.unwrap_or_default();
        saved.changes.extend(runs.into_iter().map(|run| Change::Run(Box::new(run))));
        let marks = old.marks().await.unwrap_or_default();
        saved.changes.extend(marks.into_iter().map(|(plan, mark)| Change::Mark(plan, Some(mark))));
        let alarms = old.alarms().await.unwrap_or_default();
        saved
            .changes
            .extend(alarms.into_iter().map(|(plan, alarm)| Change::PlanAlarm(plan, Some(alarm))));
        let deliveries = old.deliveries().await.unwrap_or_default();
        saved.changes.extend(
            deliveries.into_iter().map(|it| Change::Delivery(it.key(), Some(Box::new(it)))),
        );
        saved.changes.extend(old.awake().await.ok().flatten().map(Change::Awake));
        saved.changes.extend(old.told_zone().await.ok().map(Change::ToldZone));
        let after = saved.journal.map_or(0, |(_, acked)| acked);
        saved.records = old.whole_records(after).await;
        let _ = old.close().await;
        saved
    }

    /// All of it as the beginning of a new journal.
    fn changes(self, begin: &Begin) -> Result<Vec<Change>> {
        let mut journal = Journal::new(&Journal::empty(begin.fresh));
        let (journal_id, after_seq) = self.journal.unwrap_or((begin.fresh, 0));
        let reason = Code::JournalDamaged;
        let gap = FromAgent::JournalGap(JournalGap { journal_id, after_seq, reason });
        let gap = gap.encode().map_err(|error| inconsistent("record", "payload", "gap", error))?;
        let gap = journal.append(&gap.kind, gap.payload.get().to_owned(), None, begin.now);
        let records = self.records.into_iter().map(|record| journal.adopt(record));
        let records: Vec<Record> = [gap].into_iter().chain(records).collect();
        let records = records.into_iter().map(|record| Change::Append(record, None));
        Ok(self.changes.into_iter().chain(records).collect())
    }
}

impl Store {
    /// The records after this one that can be read and are as they were written, by the hash of the one
    /// before each.
    async fn whole_records(&mut self, after: u64) -> Vec<Record> {
        let from = super::signed(after);
        let mut rows = sqlx::query!(
            "SELECT seq, kind, payload, hash, run_id, at_ms FROM record WHERE seq >= ? ORDER BY seq",
            from
        )
        .fetch(&mut self.connection);
        let mut whole = Vec::new();
        let mut before: Option<Record> = None;
        while let Ok(Some(row)) = rows.try_next().await {
            let read = record(row.seq, row.kind, row.payload, &row.hash, row.run_id, row.at_ms);
            let Ok(read) = read else {
                before = None;
                continue;
            };
            let is_whole = read.elided().is_some()
                || before.as_ref().is_none_or(|before| {
                    before.hash.next(read.seq, &read.kind, &read.payload) == read.hash
                });
            if is_whole && read.seq > after {
                whole.push(read.clone());
            }
            before = Some(read);
        }
        whole
    }
}

impl StoreError {
    /// Whether the database is not as it was written. It will not heal.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Inconsistent { .. } => true,
            Self::Database(error) => is_damage(error),
            Self::Migrate(
                sqlx::migrate::MigrateError::Execute(error)
                | sqlx::migrate::MigrateError::ExecuteMigration(error, _),
            ) => is_damage(error),
            // Migrations that were released never change: what was noted of one did.
            Self::Migrate(sqlx::migrate::MigrateError::VersionMismatch(_)) => true,
            Self::Migrate(_) => false,
        }
    }
}

fn is_damage(error: &sqlx::Error) -> bool {
    let makes_no_sense = matches!(
        error,
        sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::RowNotFound
            | sqlx::Error::ColumnNotFound(_)
    );
    // ERROR, such as a table that is missing; READONLY, where the file says that it was written by a newer
    // SQLite; CORRUPT; NOTADB.
    makes_no_sense || matches!(super::error::primary_code(error), Some(1 | 8 | 11 | 26))
}

/// Moves the database and what belongs to it out of the way. What was kept before goes: one is enough to
/// look at, and they may be large.
fn put_aside(path: &Path, stamp: &str) -> Result<Option<PathBuf>> {
    let kept = beside(path, &format!(".damaged-{stamp}"));
    let prefix = beside(path, ".damaged-");
    let name = prefix.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = path.parent().and_then(|folder| fs::read_dir(folder).ok());
    for old in folder.into_iter().flatten().flatten() {
        if old.file_name().to_string_lossy().starts_with(&name) {
            let _ = fs::remove_file(old.path());
        }
    }
    for end in ["-wal", "-shm", ""] {
        match fs::rename(beside(path, end), beside(&kept, end)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(sqlx::Error::Io(error).into());
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(kept.exists().then_some(kept))
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}
