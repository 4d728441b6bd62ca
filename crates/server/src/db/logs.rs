//! The lines of the runs' logs. A line is keyed by its run and its number, so a line that comes
//! twice is there once. Lines that were left out on the machine stand there as one, in their place.

use super::{
    Tx,
    error::DbError,
    row::{Row, count, millis, to_json, uncount},
};
use jiff::Timestamp;
use protocol::{HostId, LogLine, LogStream, RunId, journal::ElidedLines};
use sqlx::{SqliteExecutor, error::ErrorKind};

struct LineRow {
    run_id: String,
    seq: i64,
    ts: i64,
    stream: String,
    text: String,
}

/// The lines of a run after the line `after_seq`, in order.
///
/// # Errors
/// When the database fails.
pub async fn lines(
    db: impl SqliteExecutor<'_>,
    run: RunId,
    after_seq: u64,
    limit: u32,
) -> Result<Vec<LogLine>, DbError> {
    let (id, after, limit) = (run.to_string(), count(after_seq), i64::from(limit));
    let rows = sqlx::query_as!(
        LineRow,
        "SELECT run_id, seq, ts, stream, text FROM log_lines \
         WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?",
        id,
        after,
        limit
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(|line| read_line(run, line)).collect()
}

fn read_line(run: RunId, line: LineRow) -> Result<LogLine, DbError> {
    let row = Row { table: "log_lines", id: &line.run_id };
    Ok(LogLine {
        job_id: run,
        seq: uncount(line.seq),
        ts: row.time("ts", line.ts)?,
        stream: row.word("stream", &line.stream)?,
        payload: line.text,
    })
}

/// Takes in a line of a run from a host, or from the manager itself where it names none. Says whether
/// it is new; a line of a run that somebody else does, or of none, is not taken.
///
/// # Errors
/// When the database fails.
pub async fn insert(tx: &mut Tx, host: Option<HostId>, line: &LogLine) -> Result<bool, DbError> {
    let (run, host) = (line.job_id.to_string(), host.map(|host| host.to_string()));
    let (seq, ts, stream) = (count(line.seq), millis(line.ts), line.stream.as_str());
    let done = sqlx::query!(
        "INSERT INTO log_lines (run_id, seq, ts, stream, text) \
         SELECT id, ?2, ?3, ?4, ?5 FROM runs WHERE id = ?1 \
         AND iif(dispatch = 'manager', ?6 IS NULL, host_id = ?6) \
         ON CONFLICT (run_id, seq) DO NOTHING",
        run,
        seq,
        ts,
        stream,
        line.payload,
        host
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Takes in that lines of a run were left out by its host, those of them that are not there. Gives back
/// the line that stands for them, unless they are all there.
///
/// # Errors
/// When the database fails.
pub async fn note_elided(
    tx: &mut Tx,
    host: HostId,
    elided: &ElidedLines,
    ts: Timestamp,
) -> Result<Option<LogLine>, DbError> {
    if elided.count().is_none() {
        return Ok(None);
    }
    let (run, host) = (elided.job_id.to_string(), host.to_string());
    // Lines come in order, so what is there of these is the first of them.
    let newest = sqlx::query_scalar!(
        r#"SELECT coalesce(last_seq, seq) AS "seq: i64" FROM log_lines WHERE run_id = ?
           ORDER BY seq DESC LIMIT 1"#,
        run
    )
    .fetch_optional(&mut **tx)
    .await?;
    let first = elided.first_line.max(newest.map_or(0, uncount).saturating_add(1));
    let missing = ElidedLines { first_line: first, ..*elided };
    let Some(lines) = missing.count() else { return Ok(None) };
    let last = missing.last_line;
    let payload = match lines {
        1 => format!("[…line {first} was left out on the machine]"),
        _ => format!("[…lines {first} to {last} were left out on the machine: {lines} lines]"),
    };
    let line = LogLine { job_id: elided.job_id, seq: first, ts, stream: LogStream::Event, payload };
    let (seq, last, ts) = (count(first), count(last), millis(ts));
    let stream = line.stream.as_str();
    let done = sqlx::query!(
        "INSERT INTO log_lines (run_id, seq, ts, stream, text, last_seq) \
         SELECT id, ?2, ?3, ?4, ?5, ?6 FROM runs WHERE id = ?1 \
         AND dispatch <> 'manager' AND host_id = ?7 \
         ON CONFLICT (run_id, seq) DO NOTHING",
        run,
        seq,
        ts,
        stream,
        line.payload,
        last,
        host
    )
    .execute(&mut **tx)
    .await?;
    Ok((done.rows_affected() > 0).then_some(line))
}

/// Takes in lines of runs of hosts in one statement, all or none of them, and says whether it did. It
/// takes none when one of them is there already, or is of a run that somebody else does or of none:
/// [`insert`] takes those that can be taken.
///
/// # Errors
/// When the database fails.
pub async fn insert_all(tx: &mut Tx, lines: &[(HostId, LogLine)]) -> Result<bool, DbError> {
    let rows: Vec<_> = lines
        .iter()
        .map(|(host, line)| {
            let (stream, ts) = (line.stream.as_str(), millis(line.ts));
            (line.job_id, host, count(line.seq), ts, stream, &line.payload)
        })
        .collect();
    let rows = to_json("log_lines", "text", "many", &rows)?;
    // A line that is not to be taken has no run here, and the table refuses the statement as a whole.
    let done = sqlx::query!(
        "INSERT INTO log_lines (run_id, seq, ts, stream, text) \
         SELECT (SELECT id FROM runs WHERE id = value ->> 0 AND dispatch <> 'manager' \
         AND host_id = value ->> 1), value ->> 2, value ->> 3, value ->> 4, value ->> 5 \
         FROM json_each(?)",
        rows
    )
    .execute(&mut **tx)
    .await;
    match done {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(error))
            if matches!(error.kind(), ErrorKind::UniqueViolation | ErrorKind::NotNullViolation) =>
        {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}
