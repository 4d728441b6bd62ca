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
use std::collections::BTreeSet;

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

/// Takes in lines of runs of hosts and returns those that are new; a line of a run that somebody else
/// does, or of none, is not taken.
///
/// # Errors
/// When the database fails.
pub async fn insert_all(
    tx: &mut Tx,
    lines: Vec<(HostId, LogLine)>,
) -> Result<Vec<LogLine>, DbError> {
    let runs: Vec<_> = lines
        .chunk_by(|(host, line), (same, next)| (host, line.job_id) == (same, next.job_id))
        .map(|lines| {
            let of_run: Vec<_> = lines
                .iter()
                .map(|(_, line)| {
                    (count(line.seq), millis(line.ts), line.stream.as_str(), &line.payload)
                })
                .collect();
            (lines.first().map(|(host, line)| (line.job_id, host)), of_run)
        })
        .collect();
    let runs = to_json("log_lines", "text", "many", &runs)?;
    // A line that is not to be taken has no run here, and the table refuses the statement as a whole.
    let done = sqlx::query!(
        "INSERT INTO log_lines (run_id, seq, ts, stream, text) \
         SELECT runs.id, line.value ->> 0, line.value ->> 1, line.value ->> 2, line.value ->> 3 \
         FROM json_each(?) AS of_run LEFT JOIN runs ON runs.id = of_run.value ->> '$[0][0]' \
         AND runs.dispatch <> 'manager' AND runs.host_id = of_run.value ->> '$[0][1]' \
         JOIN json_each(of_run.value, '$[1]') AS line",
        runs
    )
    .execute(&mut **tx)
    .await;
    match done {
        Ok(_) => Ok(lines.into_iter().map(|(_, line)| line).collect()),
        Err(sqlx::Error::Database(error))
            if matches!(error.kind(), ErrorKind::UniqueViolation | ErrorKind::NotNullViolation) =>
        {
            insert_some(tx, &runs, lines).await
        }
        Err(error) => Err(error.into()),
    }
}

/// The same where not all of them can be taken.
async fn insert_some(
    tx: &mut Tx,
    runs: &str,
    lines: Vec<(HostId, LogLine)>,
) -> Result<Vec<LogLine>, DbError> {
    let taken = sqlx::query!(
        "INSERT INTO log_lines (run_id, seq, ts, stream, text) \
         SELECT runs.id, line.value ->> 0, line.value ->> 1, line.value ->> 2, line.value ->> 3 \
         FROM json_each(?) AS of_run CROSS JOIN runs ON runs.id = of_run.value ->> '$[0][0]' \
         AND runs.dispatch <> 'manager' AND runs.host_id = of_run.value ->> '$[0][1]' \
         CROSS JOIN json_each(of_run.value, '$[1]') AS line WHERE true \
         ON CONFLICT (run_id, seq) DO NOTHING \
         RETURNING run_id AS \"run_id!\", seq AS \"seq!\", text AS \"text!\"",
        runs
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut taken: BTreeSet<(String, u64, String)> =
        taken.into_iter().map(|line| (line.run_id, uncount(line.seq), line.text)).collect();
    let mut lines: Vec<LogLine> = lines.into_iter().map(|(_, line)| line).collect();
    lines.retain(|line| taken.remove(&(line.job_id.to_string(), line.seq, line.payload.clone())));
    Ok(lines)
}
