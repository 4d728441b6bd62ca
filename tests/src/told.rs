//! What agent and manager tell of the same runs, and what must hold between the two.

use crate::{agent::Agent, api::Api, fleet::text, wait_for};
use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use protocol::journal::kind;
use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, Row as _, sqlite::SqliteConnectOptions};
use std::collections::BTreeMap;

/// What an agent has written of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    /// How often it began.
    pub started: usize,
    /// The numbers of its log lines, in order.
    pub lines: Vec<u64>,
    /// How it ended, each time.
    pub ends: Vec<Value>,
}

/// What is in an agent's journal, by run. What was acknowledged stays there for months.
///
/// # Errors
/// When it cannot be read.
pub async fn written(agent: &Agent) -> Result<BTreeMap<String, Written>> {
    let path = agent.state().join("journal.db");
    let mut journal = SqliteConnectOptions::new().filename(path).read_only(true).connect().await?;
    let rows = sqlx::query("SELECT kind, payload FROM record ORDER BY seq");
    let mut runs: BTreeMap<String, Written> = BTreeMap::new();
    for row in rows.fetch_all(&mut journal).await? {
        let payload: Value = serde_json::from_str(row.try_get("payload")?)?;
        let of_run = [kind::JOB_STARTED, kind::LOG_STREAM, kind::JOB_FINISHED];
        let kind: &str = row.try_get("kind")?;
        if !of_run.contains(&kind) {
            continue;
        }
        let run = runs.entry(text(&payload, "job_id")?).or_default();
        match kind {
            kind::JOB_STARTED => run.started += 1,
            kind::LOG_STREAM => {
                run.lines.push(payload["seq"].as_u64().context("a line without a number")?);
            }
            _ => run.ends.push(payload),
        }
    }
    Ok(runs)
}

/// Waits until nothing goes on and everything is told: no run is open on either side, and the manager
/// has all of the agent's journal.
///
/// # Errors
/// When that does not happen.
pub async fn idle(agent: &Agent, api: &Api) -> Result<()> {
    wait_for("both sides to be idle", async || {
        let status = agent.status()?;
        let journal = &status["journal"];
        let is_told = journal["head"] == journal["acked"];
        let is_idle = status["open_runs"] == json!([]);
        let is_there = status["connection"]["link"] == "connected";
        let open = api.get("/api/runs?open=true").await?;
        Ok((is_told && is_idle && is_there && open == json!([])).then_some(()))
    })
    .await
}

/// The numbers of the lines of a run's log, as the manager has them.
///
/// # Errors
/// When they cannot be read.
pub async fn lines(api: &Api, run: &str) -> Result<Vec<u64>> {
    let (mut lines, mut last) = (Vec::new(), 0);
    loop {
        let path = format!("/api/runs/{run}/log?after_line={last}&limit=1000");
        let page = api.get(&path).await?;
        let of_page = page["lines"].as_array().context("no lines")?;
        lines.extend(of_page.iter().filter_map(|line| line["seq"].as_u64()));
        if page["is_complete"] == true {
            return Ok(lines);
        }
        ensure!(page["last_line"].as_u64() > Some(last), "run {run} has not ended");
        last = page["last_line"].as_u64().unwrap_or(last);
    }
}

/// Holds that both tell the same of an ended run, that it began and ended once, and that its log is
/// whole. Returns the run as the manager shows it.
///
/// # Errors
/// When it is not so.
pub async fn agree(api: &Api, run: &str, written: &BTreeMap<String, Written>) -> Result<Value> {
    let shown = api.get(&format!("/api/runs/{run}")).await?;
    ensure!(shown["is_terminal"] == true, "it goes on: {shown:#}");
    let written = written.get(run).with_context(|| format!("no agent knows of {shown:#}"))?;
    ensure!(written.started <= 1, "run {run} began {} times", written.started);
    ensure!(written.ends.len() == 1, "run {run} ended more or less than once: {:#?}", written.ends);
    let end = &written.ends[0];
    for field in ["status", "exit_code", "finished_at", "code", "error", "snapshot_id"] {
        ensure!(
            same(&end[field], &shown[field]),
            "{field} of run {run} is {} there and {} here",
            end[field],
            shown[field]
        );
    }
    let here = lines(api, run).await?;
    ensure!(here == written.lines, "lines of run {run}: {:?} there, {here:?} here", written.lines);
    let count = u64::try_from(here.len())?;
    ensure!(here.iter().copied().eq(1..=count), "lines of run {run}: {here:?}");
    ensure!(end["log_lines"].as_u64().unwrap_or(0) == count, "{count} lines of {end:#}");
    ensure!(shown["log_lines"].as_u64() == Some(count), "{count} lines of {shown:#}");
    Ok(shown)
}

/// Moments are kept to the millisecond here and to the nanosecond there, and an error is one line here.
fn same(there: &Value, here: &Value) -> bool {
    let (Some(there), Some(here)) = (there.as_str(), here.as_str()) else { return there == here };
    let moment = |text: &str| text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond);
    match (moment(there), moment(here)) {
        (Some(there), Some(here)) => there == here,
        _ => there.split_whitespace().eq(here.split_whitespace()),
    }
}
