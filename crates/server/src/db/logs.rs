//! The lines of the runs' logs. A line is keyed by its run and its number, so a line that comes
//! twice is there once. Lines that were left out on the machine stand there as one, in their place.

use super::{
    Tx,
    error::DbError,
    row::{Row, count, millis, to_json, uncount},
};
use jiff::Timestamp;
use protocol::{HostId, LogLine, LogStream, RunId, journal::ElidedLines};
use sqlx::{QueryBuilder, Sqlite, SqliteExecutor, error::ErrorKind};
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

/// Lines that are written by one statement, the most first: a statement costs more to hand over to SQLite
/// than to run, and one of another length has to be read anew.
const ROWS: [usize; 4] = [256, 32, 4, 1];

/// Takes in lines of runs of hosts and returns those that are new; a line of a run that somebody else
/// does, or of none, is not taken.
///
/// # Errors
/// When the database fails.
pub async fn insert_all(
    tx: &mut Tx,
    mut lines: Vec<(HostId, LogLine)>,
) -> Result<Vec<LogLine>, DbError> {
    let own = own_runs(tx, &lines).await?;
    lines.retain(|(host, line)| own.contains(&(*host, line.job_id)));
    // As they lie in the database, so that one statement changes few pages of it.
    lines.sort_by_key(|(_, line)| (line.job_id, line.seq));
    let mut are_new = Vec::with_capacity(lines.len());
    let mut rest = lines.as_slice();
    for rows in ROWS {
        while let Some((some, behind)) = rest.split_at_checked(rows) {
            rest = behind;
            if insert_new(tx, some).await? {
                are_new.resize(are_new.len() + rows, true);
                continue;
            }
            for (host, line) in some {
                are_new.push(insert(tx, Some(*host), line).await?);
            }
        }
    }
    let lines = lines.into_iter().map(|(_, line)| line).zip(are_new);
    Ok(lines.filter_map(|(line, is_new)| is_new.then_some(line)).collect())
}

/// Which of the runs of these lines are done by the hosts that tell of them.
async fn own_runs(
    tx: &mut Tx,
    lines: &[(HostId, LogLine)],
) -> Result<BTreeSet<(HostId, RunId)>, DbError> {
    let told: BTreeSet<_> = lines.iter().map(|(host, line)| (*host, line.job_id)).collect();
    let told_json = to_json("runs", "id", "many", &told)?;
    let own = sqlx::query_scalar!(
        r#"SELECT told.key + 0 AS "at!: i64" FROM json_each(?) AS told CROSS JOIN runs
           WHERE runs.id = told.value ->> 1 AND runs.host_id = told.value ->> 0
           AND runs.dispatch <> 'manager' ORDER BY told.key"#,
        told_json
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut own = own.into_iter().map(uncount).peekable();
    Ok((0..).zip(told).filter(|(n, _)| own.next_if_eq(n).is_some()).map(|(_, it)| it).collect())
}

/// Writes lines of runs that are there; says whether all of them are new, and writes none otherwise.
async fn insert_new(tx: &mut Tx, lines: &[(HostId, LogLine)]) -> Result<bool, DbError> {
    let mut insert =
        QueryBuilder::<Sqlite>::new("INSERT INTO log_lines (run_id, seq, ts, stream, text) ");
    insert.push_values(lines, |mut row, (_, line)| {
        row.push_bind(line.job_id.to_string())
            .push_bind(count(line.seq))
            .push_bind(millis(line.ts))
            .push_bind(line.stream.as_str())
            .push_bind(line.payload.clone());
    });
    match insert.build().execute(&mut **tx).await {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(error)) if error.kind() == ErrorKind::UniqueViolation => {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}
