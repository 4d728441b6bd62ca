//! All SQL of the agent: the journal and whatever else outlives it, in one SQLite file.
//!
//! One connection, one owner. A commit is synced to the disk (`synchronous=FULL`, and `fullfsync`
//! on macOS, where a plain sync stops at the drive's cache), because what was committed is told to
//! the manager as done.

mod alarms;
mod bound;
mod damage;
mod error;
mod log;
mod plans;
mod transaction;

pub use bound::BOUND;
pub(crate) use bound::LOG_BYTES;
pub use damage::{Begin, Damage, Opened};
pub use error::StoreError;

use crate::{
    core::{Change, Memory, Process, Run, RunState, Series, View},
    journal::{Journal, Kept, Record, Room},
    paths::close_file,
};
use bound::Bound;
use damage::OpenMark;
use error::{Result, chain_hash, inconsistent, json, parse, record, signed, time, unsigned};
use jiff::{SignedDuration, Timestamp};
use protocol::{
    Code, CommandNumber, FromAgent, Incarnation, JournalId, JournalState, RepoStats, RepositoryId,
    RunId, RunSpec, Secret, Snapshot, journal::JournalGap,
};
use sqlx::{
    Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use std::path::Path;
use transaction::within;

/// How long acknowledged records and ended runs stay, so that a rebuilt manager gets them back.
pub const HISTORY: SignedDuration = SignedDuration::from_hours(90 * 24);

/// No record has a higher number: SQLite's integers are signed.
const MAX_SEQ: u64 = u64::MAX >> 1;

/// The size of a page of a new database, as SQLite has it since 3.12.
const PAGE_BYTES: u64 = 4096;

/// The agent's database.
#[derive(Debug)]
pub struct Store {
    connection: SqliteConnection,
    bound: Bound,
    _open: Option<OpenMark>,
}

impl Store {
    /// Opens the database, creates it where it is missing, and brings its schema up to date. The
    /// identifier is for a new journal.
    ///
    /// # Errors
    /// When SQLite says so, or when the database belongs to a newer agent.
    pub async fn open(path: &Path, fresh: JournalId) -> Result<Self> {
        // SQLite gives its files beside the database the rights of the database.
        close_file(path).map_err(sqlx::Error::Io)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("fullfsync", "ON")
            .pragma("wal_autocheckpoint", (LOG_BYTES / PAGE_BYTES).to_string())
            .busy_timeout(std::time::Duration::from_secs(5));
        let mut connection = SqliteConnection::connect_with(&options).await?;
        sqlx::migrate!("../migrations/agent").run(&mut connection).await?;
        let state = Journal::empty(fresh);
        let (id, hash) = (state.id.to_string(), state.base_hash.as_bytes().to_vec());
        sqlx::query!(
            "INSERT OR IGNORE INTO agent_state (id, journal_id, base_hash, first_seq, acked_seq) \
             VALUES (1, ?, ?, 1, 0)",
            id,
            hash
        )
        .execute(&mut connection)
        .await?;
        Ok(Self { connection, bound: Bound::default(), _open: Some(OpenMark::set(path)?) })
    }

    /// Opens the database only to look at it, beside a running agent.
    ///
    /// # Errors
    /// When it is missing or SQLite says so.
    pub async fn open_to_read(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new().filename(path).read_only(true);
        Self::unmarked(&options).await
    }

    async fn unmarked(options: &SqliteConnectOptions) -> Result<Self> {
        let connection = SqliteConnection::connect_with(options).await?;
        Ok(Self { connection, bound: Bound::default(), _open: None })
    }

    /// Everything the agent remembers.
    ///
    /// # Errors
    /// When SQLite says so, or something makes no sense.
    pub async fn load(&mut self) -> Result<Memory> {
        let journal = self.journal().await?;
        let state = sqlx::query!("SELECT incarnation, ticket FROM agent_state WHERE id = 1")
            .fetch_one(&mut self.connection)
            .await?;
        Ok(Memory {
            journal,
            incarnation: state
                .incarnation
                .map(|text| parse("agent_state", "incarnation", "1", &text))
                .transpose()?,
            ticket: state.ticket.map(Secret::new),
            series: self.series().await?,
            runs: self.runs().await?,
            views: self.views().await?,
            marks: self.marks().await?,
            awake: self.awake().await?,
            told_zone: self.told_zone().await?,
            alarms: self.alarms().await?,
            deliveries: self.deliveries().await?,
        })
    }

    /// The highest epoch of the manager that was seen.
    ///
    /// # Errors
    /// When SQLite says so.
    pub async fn epoch(&mut self) -> Result<u64> {
        let row = sqlx::query!("SELECT highest_epoch FROM agent_state WHERE id = 1")
            .fetch_one(&mut self.connection)
            .await?;
        Ok(unsigned(row.highest_epoch))
    }

    /// Where the journal stands.
    ///
    /// # Errors
    /// When SQLite says so, or something makes no sense.
    pub async fn journal(&mut self) -> Result<JournalState> {
        let state = sqlx::query!(
            "SELECT journal_id, base_hash, first_seq, acked_seq FROM agent_state WHERE id = 1"
        )
        .fetch_one(&mut self.connection)
        .await?;
        let newest = sqlx::query!("SELECT seq, hash FROM record ORDER BY seq DESC LIMIT 1")
            .fetch_optional(&mut self.connection)
            .await?;
        let base_hash = chain_hash("agent_state", &state.base_hash)?;
        let first = unsigned(state.first_seq);
        let (head, head_hash) = match newest {
            Some(record) => (unsigned(record.seq), chain_hash("record", &record.hash)?),
            None => (first.saturating_sub(1), base_hash),
        };
        Ok(JournalState {
            id: parse("agent_state", "journal_id", "1", &state.journal_id)?,
            first,
            base_hash,
            head,
            head_hash,
            acked: unsigned(state.acked_seq),
        })
    }

    async fn series(&mut self) -> Result<Vec<(Incarnation, Series)>> {
        let rows = sqlx::query!("SELECT incarnation, watermark, highest FROM command_series")
            .fetch_all(&mut self.connection)
            .await?;
        let mut series = Vec::new();
        for row in rows {
            let struck = sqlx::query_scalar!(
                "SELECT number FROM command_struck WHERE incarnation = ?",
                row.incarnation
            )
            .fetch_all(&mut self.connection)
            .await?;
            let life = parse("command_series", "incarnation", &row.incarnation, &row.incarnation)?;
            series.push((
                life,
                Series {
                    watermark: unsigned(row.watermark),
                    highest: unsigned(row.highest),
                    struck: struck.into_iter().map(unsigned).collect(),
                },
            ));
        }
        Ok(series)
    }

    async fn runs(&mut self) -> Result<Vec<Run>> {
        let rows = sqlx::query_as!(
            RunRow,
            "SELECT id, state, spec, incarnation, number, refusal, repository_id, created_ms, \
             finished_ms, log_lines, had_item_error, pid, pid_start, slot_ms, attempt FROM run"
        )
        .fetch_all(&mut self.connection)
        .await?;
        rows.into_iter().map(RunRow::into_run).collect()
    }

    async fn views(&mut self) -> Result<Vec<(RepositoryId, View)>> {
        let rows =
            sqlx::query!("SELECT repository_id, read_ms, snapshots, stats FROM repository_view")
                .fetch_all(&mut self.connection)
                .await?;
        let mut views = Vec::new();
        for row in rows {
            let id =
                parse("repository_view", "repository_id", &row.repository_id, &row.repository_id)?;
            // A reading can be made again: one that does not fit is no reason to stop.
            let Ok(snapshots) = serde_json::from_str::<Vec<Snapshot>>(&row.snapshots) else {
                continue;
            };
            let stats = row.stats.and_then(|text| serde_json::from_str::<RepoStats>(&text).ok());
            let read_at = time("repository_view", "read_ms", &row.repository_id, row.read_ms)?;
            views.push((id, View { read_at, snapshots, stats }));
        }
        Ok(views)
    }

    /// Writes changes, all or none, and returns when they are on the disk.
    ///
    /// # Errors
    /// When SQLite says so; then none of them is written.
    pub async fn commit(&mut self, changes: &[Change]) -> Result<()> {
        within(&mut self.connection, async |connection| {
            for change in changes {
                apply(connection, change).await?;
            }
            Ok(())
        })
        .await?;
        self.bound.note(changes);
        Ok(())
    }

    /// Records for the manager.
    ///
    /// # Errors
    /// When SQLite says so, or something makes no sense.
    pub async fn fetch(&mut self, room: Room) -> Result<Vec<Record>> {
        let (after, up_to) = (signed(room.after), signed(room.up_to));
        let limit = signed(room.records as u64);
        let rows = sqlx::query!(
            "SELECT seq, kind, payload, hash, run_id, at_ms FROM record \
             WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
            after,
            up_to,
            limit
        )
        .fetch_all(&mut self.connection)
        .await?;
        let mut records: Vec<Record> = Vec::new();
        let mut bytes = 0;
        for row in rows {
            bytes += row.payload.len();
            if bytes > room.bytes && !records.is_empty() {
                break;
            }
            records.push(record(row.seq, row.kind, row.payload, &row.hash, row.run_id, row.at_ms)?);
        }
        Ok(records)
    }

    /// What is left of a record.
    ///
    /// # Errors
    /// When SQLite says so, or something makes no sense.
    pub async fn kept_at(&mut self, seq: u64) -> Result<Kept> {
        let room = Room { after: seq.saturating_sub(1), up_to: MAX_SEQ, records: 1, bytes: 0 };
        let next = self.fetch(room).await?.pop();
        match next {
            Some(record) if record.seq == seq => Ok(Kept::Hash(record.hash)),
            Some(record) if record.elided().is_some_and(|it| it.first_seq <= seq) => {
                let hash = bound::hash_left(&mut self.connection, seq).await?;
                Ok(hash.map_or(Kept::LeftOut, Kept::Hash))
            }
            Some(_) | None => Ok(Kept::Nothing),
        }
    }

    /// Starts a new journal: a gap that names what the old one may have lost, then everything of
    /// the old one that the manager has not acknowledged.
    ///
    /// # Errors
    /// When SQLite says so, or something makes no sense; then the old journal is untouched.
    pub async fn renew(
        &mut self,
        id: JournalId,
        reason: Code,
        after_seq: u64,
        now: Timestamp,
    ) -> Result<JournalState> {
        let old = self.journal().await?;
        let kept = self
            .fetch(Room {
                after: after_seq.min(old.acked),
                up_to: old.head,
                records: usize::MAX >> 1,
                bytes: usize::MAX,
            })
            .await?;
        let mut journal = Journal::new(&Journal::empty(id));
        let gap = FromAgent::JournalGap(JournalGap { journal_id: old.id, after_seq, reason });
        let gap = gap.encode().map_err(|error| inconsistent("record", "payload", "gap", error))?;
        let mut records = vec![journal.append(&gap.kind, gap.payload.get().to_owned(), None, now)];
        for record in kept {
            records.push(journal.adopt(record));
        }
        let state = journal.state();
        let (id, base) = (state.id.to_string(), state.base_hash.as_bytes().to_vec());
        within(&mut self.connection, async |connection| {
            sqlx::query!("DELETE FROM record").execute(&mut *connection).await?;
            sqlx::query!("DELETE FROM hash_left").execute(&mut *connection).await?;
            sqlx::query!(
            "UPDATE agent_state SET journal_id = ?, base_hash = ?, first_seq = 1, acked_seq = 0 \
             WHERE id = 1",
            id,
            base
        )
        .execute(&mut *connection)
        .await?;
            for record in &records {
                insert_record(connection, record).await?;
            }
            Ok(())
        })
        .await?;
        Ok(state)
    }

    /// Lets go of acknowledged records and ended runs that are older than the history. Gives back where the journal stands and which runs are gone.
    ///
    /// # Errors
    /// When SQLite says so, or something makes no sense.
    pub async fn prune(&mut self, now: Timestamp) -> Result<(JournalState, Vec<RunId>)> {
        let state = self.journal().await?;
        let since = now.saturating_sub(HISTORY).map_or(0, Timestamp::as_millisecond);
        let acked = signed(state.acked);
        // The first record that must stay ends what may go: a journal has no holes.
        let first_young =
            sqlx::query_scalar!("SELECT MIN(seq) FROM record WHERE at_ms >= ?", since)
                .fetch_one(&mut self.connection)
                .await?;
        let last = first_young.map_or(acked, |seq| seq - 1).min(acked);
        let gone = within(&mut self.connection, async |connection| {
            // One that stands for many goes with the last of them.
            let newest = sqlx::query!(
                "SELECT seq, hash FROM record WHERE seq <= ? ORDER BY seq DESC LIMIT 1",
                last
            )
            .fetch_optional(&mut *connection)
            .await?;
            if let Some(newest) = newest {
                let (last, hash) = (newest.seq, newest.hash);
                sqlx::query!("DELETE FROM record WHERE seq <= ?", last)
                    .execute(&mut *connection)
                    .await?;
                let first = last + 1;
                sqlx::query!(
                    "UPDATE agent_state SET first_seq = ?, base_hash = ? WHERE id = 1",
                    first,
                    hash
                )
                .execute(&mut *connection)
                .await?;
            }
            let gone = sqlx::query_scalar!(
                "DELETE FROM run WHERE finished_ms < ? \
             AND id NOT IN (SELECT run_id FROM record WHERE run_id IS NOT NULL) RETURNING id",
                since
            )
            .fetch_all(&mut *connection)
            .await?;
            Ok(gone)
        })
        .await?;
        let gone: Result<Vec<RunId>> = gone.iter().map(|id| parse("run", "id", id, id)).collect();
        Ok((self.journal().await?, gone?))
    }

    /// Closes the database properly; a killed agent does without.
    ///
    /// # Errors
    /// When SQLite says so.
    pub async fn close(self) -> Result<()> {
        self.connection.close().await?;
        Ok(())
    }
}

async fn apply(connection: &mut SqliteConnection, change: &Change) -> Result<()> {
    match change {
        Change::Append(record, line) => append(connection, record, *line).await,
        Change::Acked(seq) => {
            let seq = signed(*seq);
            sqlx::query!("UPDATE agent_state SET acked_seq = ? WHERE id = 1", seq)
                .execute(connection)
                .await?;
            Ok(())
        }
        Change::Run(run) => put_run(connection, run).await,
        Change::Numbers { incarnation, watermark, highest, struck } => {
            put_numbers(connection, *incarnation, *watermark, *highest, *struck).await
        }
        Change::Incarnation(incarnation) => {
            let incarnation = incarnation.to_string();
            sqlx::query!("UPDATE agent_state SET incarnation = ? WHERE id = 1", incarnation)
                .execute(connection)
                .await?;
            Ok(())
        }
        Change::Epoch(epoch) => {
            let epoch = signed(*epoch);
            sqlx::query!("UPDATE agent_state SET highest_epoch = ? WHERE id = 1", epoch)
                .execute(connection)
                .await?;
            Ok(())
        }
        Change::Ticket(ticket) => {
            let ticket = ticket.expose_secret();
            sqlx::query!("UPDATE agent_state SET ticket = ? WHERE id = 1", ticket)
                .execute(connection)
                .await?;
            Ok(())
        }
        Change::View(id, view) => put_view(connection, *id, view).await,
        Change::Mark(plan, mark) => plans::put_mark(connection, *plan, mark.as_ref()).await,
        Change::Awake(awake) => plans::put_awake(connection, *awake).await,
        Change::ToldZone(zone) => plans::put_told_zone(connection, zone.as_deref()).await,
        Change::PlanAlarm(plan, alarm) => {
            alarms::put_alarm(connection, *plan, alarm.as_ref()).await
        }
        Change::Delivery(key, delivery) => {
            alarms::put_delivery(connection, *key, delivery.as_deref()).await
        }
    }
}

async fn append(
    connection: &mut SqliteConnection,
    record: &Record,
    line: Option<u64>,
) -> Result<()> {
    insert_record(connection, record).await?;
    if let (Some(run_id), Some(line)) = (record.run_id, line) {
        let (run_id, line) = (run_id.to_string(), signed(line));
        sqlx::query!("UPDATE run SET log_lines = ? WHERE id = ?", line, run_id)
            .execute(connection)
            .await?;
    }
    Ok(())
}

async fn insert_record(connection: &mut SqliteConnection, record: &Record) -> Result<()> {
    let seq = signed(record.seq);
    let hash = record.hash.as_bytes().to_vec();
    let run_id = record.run_id.map(|id| id.to_string());
    let at = record.at.as_millisecond();
    sqlx::query!(
        "INSERT INTO record (seq, kind, payload, hash, run_id, at_ms) VALUES (?, ?, ?, ?, ?, ?)",
        seq,
        record.kind,
        record.payload,
        hash,
        run_id,
        at
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn put_run(connection: &mut SqliteConnection, run: &Run) -> Result<()> {
    let id = run.id.to_string();
    let state = state_word(run.state);
    let spec = json("run", "spec", &id, &run.spec)?;
    let incarnation = run.number.map(|number| number.incarnation.to_string());
    let number = run.number.map(|number| signed(number.n));
    let refusal =
        run.refusal.as_ref().map(|refusal| json("run", "refusal", &id, refusal)).transpose()?;
    let repository_id = run.repository_id.map(|id| id.to_string());
    let created = run.created_at.as_millisecond();
    let finished = run.finished_at.map(Timestamp::as_millisecond);
    let lines = signed(run.log_lines);
    let pid = run.process.as_ref().map(|process| process.pid);
    let pid_start = run.process.as_ref().map(|process| process.start.as_str());
    let slot = run.slot.map(Timestamp::as_millisecond);
    sqlx::query!(
        "INSERT OR REPLACE INTO run (id, state, spec, incarnation, number, refusal, \
         repository_id, created_ms, finished_ms, log_lines, had_item_error, pid, pid_start, slot_ms, \
         attempt) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        id,
        state,
        spec,
        incarnation,
        number,
        refusal,
        repository_id,
        created,
        finished,
        lines,
        run.had_item_error,
        pid,
        pid_start,
        slot,
        run.attempt
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn put_numbers(
    connection: &mut SqliteConnection,
    incarnation: Incarnation,
    watermark: u64,
    highest: u64,
    struck: Option<u64>,
) -> Result<()> {
    let incarnation = incarnation.to_string();
    let (watermark, highest) = (signed(watermark), signed(highest));
    sqlx::query!(
        "INSERT OR REPLACE INTO command_series (incarnation, watermark, highest) VALUES (?, ?, ?)",
        incarnation,
        watermark,
        highest
    )
    .execute(&mut *connection)
    .await?;
    if let Some(number) = struck.map(signed).filter(|&number| number > watermark) {
        sqlx::query!(
            "INSERT OR IGNORE INTO command_struck (incarnation, number) VALUES (?, ?)",
            incarnation,
            number
        )
        .execute(&mut *connection)
        .await?;
    }
    sqlx::query!(
        "DELETE FROM command_struck WHERE incarnation = ? AND number <= ?",
        incarnation,
        watermark
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn put_view(connection: &mut SqliteConnection, id: RepositoryId, view: &View) -> Result<()> {
    let id = id.to_string();
    let read = view.read_at.as_millisecond();
    let snapshots = json("repository_view", "snapshots", &id, &view.snapshots)?;
    let stats = view
        .stats
        .as_ref()
        .map(|stats| json("repository_view", "stats", &id, stats))
        .transpose()?;
    sqlx::query!(
        "INSERT OR REPLACE INTO repository_view (repository_id, read_ms, snapshots, stats) \
         VALUES (?, ?, ?, ?)",
        id,
        read,
        snapshots,
        stats
    )
    .execute(connection)
    .await?;
    Ok(())
}

struct RunRow {
    id: String,
    state: String,
    spec: String,
    incarnation: Option<String>,
    number: Option<i64>,
    refusal: Option<String>,
    repository_id: Option<String>,
    created_ms: i64,
    finished_ms: Option<i64>,
    log_lines: i64,
    had_item_error: i64,
    pid: Option<i64>,
    pid_start: Option<String>,
    slot_ms: Option<i64>,
    attempt: i64,
}

impl RunRow {
    fn into_run(self) -> Result<Run> {
        let row = &self.id;
        let incarnation: Option<Incarnation> =
            self.incarnation.map(|text| parse("run", "incarnation", row, &text)).transpose()?;
        Ok(Run {
            id: parse("run", "id", row, row)?,
            state: state_of(&self.state)
                .ok_or_else(|| inconsistent("run", "state", row, &self.state))?,
            spec: serde_json::from_str::<RunSpec>(&self.spec)
                .map_err(|error| inconsistent("run", "spec", row, error))?,
            number: incarnation
                .zip(self.number)
                .map(|(incarnation, n)| CommandNumber { incarnation, n: unsigned(n) }),
            refusal: self
                .refusal
                .map(|text| serde_json::from_str(&text))
                .transpose()
                .map_err(|error| inconsistent("run", "refusal", row, error))?,
            repository_id: self
                .repository_id
                .map(|text| parse("run", "repository_id", row, &text))
                .transpose()?,
            log_lines: unsigned(self.log_lines),
            had_item_error: self.had_item_error != 0,
            process: self
                .pid
                .and_then(|pid| u32::try_from(pid).ok())
                .map(|pid| Process { pid, start: self.pid_start.unwrap_or_default() }),
            created_at: time("run", "created_ms", row, self.created_ms)?,
            finished_at: self
                .finished_ms
                .map(|ms| time("run", "finished_ms", row, ms))
                .transpose()?,
            slot: self.slot_ms.map(|ms| time("run", "slot_ms", row, ms)).transpose()?,
            attempt: u32::try_from(unsigned(self.attempt)).unwrap_or(u32::MAX),
        })
    }
}

fn state_word(state: RunState) -> &'static str {
    match state {
        RunState::Accepted => "accepted",
        RunState::Refused => "refused",
        RunState::Queued => "queued",
        RunState::Running => "running",
        RunState::Finished => "finished",
    }
}

fn state_of(word: &str) -> Option<RunState> {
    Some(match word {
        "accepted" => RunState::Accepted,
        "refused" => RunState::Refused,
        "queued" => RunState::Queued,
        "running" => RunState::Running,
        "finished" => RunState::Finished,
        _ => return None,
    })
}
