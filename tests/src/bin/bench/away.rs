//! A machine that was away for a month tells what it did, against bare inserts of the same rows.

use crate::{
    Options,
    crowd::{Crowd, Wanted},
    figure::{Figure, Section},
    month::{Month, Ran, TIMES},
    usage,
};
use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use protocol::{FromAgent, HostId, JobFinished, JobStarted, LogLine, RunId, RunSpec};
use serde_json::Value;
use server::db::{Db, Tx};
use sqlx::QueryBuilder;
use std::{
    cell::Cell,
    collections::BTreeMap,
    convert::Infallible,
    fs,
    time::{Duration, Instant},
};
use testkit::{api::Api, teller::Teller};

/// Records in one transaction, as the intake has it.
const BATCH: usize = 500;
/// How often the interface is asked meanwhile.
const ASKED_EVERY: Duration = Duration::from_millis(100);
/// Runs whose log is read line by line afterwards.
const READ_LOGS: usize = 12;
/// How many runs the interface gives at once.
const PAGE: usize = 200;

/// What it took.
#[derive(Clone, Copy, Debug)]
struct Cost {
    wall: Duration,
    cpu: Duration,
}

/// One machine with three hourly plans whose manager was away, until the manager has acknowledged its
/// whole journal, against the same rows inserted into the same tables.
pub(crate) async fn measure(options: &Options) -> Result<Section> {
    let now = Timestamp::now();
    let hour = Timestamp::from_second(now.as_second() / 3600 * 3600)?;
    let since = hour - SignedDuration::from_hours(24 * options.days);
    let wanted = Wanted { machines: 1, times: &TIMES, since: Some(since) };
    let mut crowd = Crowd::make(&options.root, &wanted).await?;
    let month = Month::make(&crowd.plans, crowd.repository, since, options.days, options.lines)?;
    println!("away: {} records, {} runs of them", month.told.len(), month.runs.len());
    let mut teller = Teller::new()?;
    for told in &month.told {
        teller.record(told)?;
    }
    teller.awake_since = Some(month.awake_since);
    let rows = Rows::of(&month, crowd.hosts[0], now)?;
    let mut figures = vec![
        Figure::new("away: wall", "time until everything is acknowledged", 4.0),
        Figure::new("away: CPU", "processor time of the manager", 4.0),
    ];
    for n in 0..options.rounds {
        let (ours, bare) = if n % 2 == 0 {
            let ours = meet(&mut crowd, &mut teller, &month).await?;
            (ours, rows.insert(options, &crowd).await?)
        } else {
            let bare = rows.insert(options, &crowd).await?;
            (meet(&mut crowd, &mut teller, &month).await?, bare)
        };
        println!("away, round {}: manager {ours:?}, bare inserts {bare:?}", n + 1);
        figures[0].add(ours.wall.as_secs_f64(), bare.wall.as_secs_f64());
        figures[1].add(ours.cpu.as_secs_f64(), bare.cpu.as_secs_f64());
    }
    let text = format!(
        "A machine with three hourly plans whose manager was away for {} days tells what it did, in {} \
         records: {} runs with {} log lines, nights in which it slept, hours in which its repository did \
         not answer. From its connection until all is acknowledged, against the same runs, lines, times \
         awake and deferrals inserted into the same tables with the same indexes and settings, a \
         transaction for {BATCH} records and as few statements as SQLite takes. Meanwhile the interface \
         is asked for the machines; afterwards it is looked whether all is in, in order.",
        options.days,
        month.told.len(),
        month.runs.len(),
        options.lines
    );
    Ok(Section { name: "away", text, figures })
}

async fn meet(crowd: &mut Crowd, teller: &mut Teller, month: &Month) -> Result<Cost> {
    crowd.start_afresh().await?;
    teller.forget_manager();
    let api = crowd.manager.api().await?;
    let manager = crowd.manager.id()?;
    let slowest = Cell::new(Duration::ZERO);
    let (cpu, began) = (usage::cpu(manager)?, Instant::now());
    let telling = async {
        let mut link = teller.connect(&crowd.machines[0]).await?;
        link.tell(teller).await?;
        let cost = Cost { wall: began.elapsed(), cpu: usage::cpu(manager)?.saturating_sub(cpu) };
        anyhow::Ok((link, cost))
    };
    let (mut link, cost) = tokio::select! {
        told = telling => told?,
        failed = keep_asking(&api, "/api/hosts", &slowest) => match failed? {},
    };
    println!("away: GET /api/hosts took at most {:?} meanwhile", slowest.get());
    link.settle().await?;
    check(&api, crowd.hosts[0], month).await?;
    drop(link);
    crowd.manager.stop().await?;
    Ok(cost)
}

/// Asks the interface the same again and again, and notes its slowest answer.
pub(crate) async fn keep_asking(
    api: &Api,
    path: &str,
    slowest: &Cell<Duration>,
) -> Result<Infallible> {
    let mut ticks = tokio::time::interval(ASKED_EVERY);
    loop {
        ticks.tick().await;
        let asked = Instant::now();
        api.get(path).await?;
        slowest.set(slowest.get().max(asked.elapsed()));
    }
}

/// Looks whether everything is in, in order.
async fn check(api: &Api, host: HostId, month: &Month) -> Result<()> {
    let mut told: BTreeMap<String, Value> = BTreeMap::new();
    let mut before = String::new();
    loop {
        let path = format!("/api/runs?host_id={host}&limit={PAGE}{before}");
        let page = api.get(&path).await?;
        let page = page.as_array().context("no list of runs")?;
        for run in page {
            told.insert(run["id"].as_str().context("a run without an id")?.to_owned(), run.clone());
        }
        let Some(last) = page.last().filter(|_| page.len() == PAGE) else { break };
        before = format!("&before={}", last["id"].as_str().context("a run without an id")?);
    }
    ensure!(told.len() == month.runs.len(), "{} of {} runs are in", told.len(), month.runs.len());
    for ran in &month.runs {
        let run = told.get(&ran.id.to_string()).context("a run is missing")?;
        ensure!(
            run["status"] == "succeeded"
                && run["log_lines"] == ran.lines
                && run["plan_id"] == ran.plan.to_string()
                && run["slot"] == ran.slot.to_string(),
            "a run is not as it was told: {run:#}"
        );
    }
    let apart = month.runs.len().div_ceil(READ_LOGS).max(1);
    for ran in month.runs.iter().step_by(apart).chain(month.runs.last()) {
        check_log(api, ran).await?;
    }
    check_strip(api, host).await
}

async fn check_log(api: &Api, ran: &Ran) -> Result<()> {
    let (id, mut after) = (ran.id, 0);
    loop {
        let page = api.get(&format!("/api/runs/{id}/log?after_line={after}&limit=1000")).await?;
        let lines = page["lines"].as_array().context("no list of lines")?;
        for line in lines {
            after += 1;
            ensure!(line["seq"] == after, "line {after} of run {id} is not in its place: {line}");
        }
        if lines.is_empty() || page["is_complete"] == true {
            break;
        }
    }
    ensure!(after == ran.lines, "run {id} has {after} of {} lines", ran.lines);
    Ok(())
}

/// Every day between the first and today has its 72 slots, and what became of each is known.
async fn check_strip(api: &Api, host: HostId) -> Result<()> {
    let strips = api.get(&format!("/api/slots?host_id={host}")).await?;
    let days = strips[0]["days"].as_array().context("no strip")?;
    // Of days before it had plans it has none; its first day began in the middle of one.
    let told = days.iter().map(|day| day.as_array().map_or(&[][..], Vec::as_slice));
    let told: Vec<&[Value]> = told.skip_while(|day| day.is_empty()).collect();
    let inner = told.get(1..told.len().saturating_sub(1)).unwrap_or_default();
    ensure!(!inner.is_empty(), "the strip has no whole day: {strips:#}");
    for day in inner {
        let count: u64 = day.iter().filter_map(|it| it["count"].as_u64()).sum();
        ensure!(count == 24 * 3, "a day has {count} slots: {day:?}");
        for standing in ["unknown", "missed", "due", "running"] {
            let is_there = day.iter().any(|it| it["standing"] == standing);
            ensure!(!is_there, "a slot of the past is {standing}: {day:?}");
        }
    }
    Ok(())
}

/// The rows that the database has afterwards, by the transactions that write them.
struct Rows {
    host: String,
    told_at: i64,
    batches: Vec<Vec<Row>>,
}

enum Row {
    Run(Box<(JobStarted, JobFinished)>),
    Line(LogLine),
    Awake(i64, i64),
    Deferral { plan: String, at: i64, slot: i64, code: &'static str },
}

impl Rows {
    fn of(month: &Month, host: HostId, now: Timestamp) -> Result<Self> {
        let ended: BTreeMap<RunId, &JobFinished> = month
            .told
            .iter()
            .filter_map(|told| {
                let FromAgent::JobFinished(finished) = told else { return None };
                Some((finished.job_id, &**finished))
            })
            .collect();
        let mut batches = Vec::new();
        for records in month.told.chunks(BATCH) {
            let mut batch = Vec::new();
            for record in records {
                if let FromAgent::JobStarted(started) = record {
                    let finished = *ended.get(&started.job_id).context("a run without end")?;
                    batch.push(Row::Run(Box::new((started.clone(), finished.clone()))));
                } else if let FromAgent::LogLine(line) = record {
                    batch.push(Row::Line(line.clone()));
                } else if let FromAgent::AgentAwake(awake) = record {
                    let (from, until) = (awake.from, awake.until);
                    batch.push(Row::Awake(from.as_millisecond(), until.as_millisecond()));
                } else if let FromAgent::SlotDeferred(deferred) = record {
                    batch.push(Row::Deferral {
                        plan: deferred.schedule_id.to_string(),
                        at: deferred.at.as_millisecond(),
                        slot: deferred.slot.as_millisecond(),
                        code: deferred.code.as_str(),
                    });
                } else {
                    // An end is in the row of its run.
                    let is_end = matches!(record, FromAgent::JobFinished(_));
                    ensure!(is_end, "a month does not tell this: {record:?}");
                }
            }
            batches.push(batch);
        }
        Ok(Self { host: host.to_string(), told_at: now.as_millisecond(), batches })
    }

    /// Inserts them into a copy of the manager's database from before the machine came.
    async fn insert(&self, options: &Options, crowd: &Crowd) -> Result<Cost> {
        let folder = options.root.join("bare");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let path = folder.join("server.db");
        crowd.copy_database(&path)?;
        let db = Db::open(&path).await?;
        let own = std::process::id();
        let (cpu, began) = (usage::cpu(own)?, Instant::now());
        for batch in &self.batches {
            let mut tx = db.begin().await?;
            self.insert_batch(&mut tx, batch).await?;
            tx.commit().await?;
        }
        let cost = Cost { wall: began.elapsed(), cpu: usage::cpu(own)?.saturating_sub(cpu) };
        db.close().await;
        Ok(cost)
    }

    async fn insert_batch(&self, tx: &mut Tx, batch: &[Row]) -> Result<()> {
        let mut lines = Vec::new();
        for row in batch {
            match row {
                Row::Run(run) => self.insert_run(tx, &run.0, &run.1).await?,
                Row::Line(line) => lines.push(line),
                Row::Awake(from, until) => {
                    sqlx::query("INSERT INTO awake (host_id, from_at, until_at) VALUES (?, ?, ?)")
                        .bind(&self.host)
                        .bind(from)
                        .bind(until)
                        .execute(&mut **tx)
                        .await?;
                }
                Row::Deferral { plan, at, slot, code } => {
                    sqlx::query(
                        "INSERT INTO deferrals (host_id, plan_id, at, slot, code) \
                         VALUES (?, ?, ?, ?, ?)",
                    )
                    .bind(&self.host)
                    .bind(plan)
                    .bind(at)
                    .bind(slot)
                    .bind(code)
                    .execute(&mut **tx)
                    .await?;
                }
            }
        }
        if lines.is_empty() {
            return Ok(());
        }
        let mut insert =
            QueryBuilder::new("INSERT INTO log_lines (run_id, seq, ts, stream, text) ");
        insert.push_values(lines, |mut row, line| {
            row.push_bind(line.job_id.to_string())
                .push_bind(i64::try_from(line.seq).unwrap_or(i64::MAX))
                .push_bind(line.ts.as_millisecond())
                .push_bind(line.stream.as_str())
                .push_bind(&line.payload);
        });
        insert.build().execute(&mut **tx).await?;
        Ok(())
    }

    async fn insert_run(
        &self,
        tx: &mut Tx,
        started: &JobStarted,
        finished: &JobFinished,
    ) -> Result<()> {
        let spec = RunSpec::Backup { schedule_id: started.schedule_id };
        let begun = started.started_at.as_millisecond();
        sqlx::query(
            "INSERT INTO runs (id, host_id, plan_id, repository_id, kind, spec, status, dispatch, \
             requested_by, created_at, started_at, finished_at, exit_code, snapshot_id, stats, \
             log_lines, revision, slot, told_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, 'agent', 'agent', ?, ?, ?, ?, ?, ?, ?, 2, ?, ?)",
        )
        .bind(started.job_id.to_string())
        .bind(&self.host)
        .bind(started.schedule_id.map(|plan| plan.to_string()))
        .bind(started.repository_id.map(|repository| repository.to_string()))
        .bind(started.kind.as_str())
        .bind(serde_json::to_string(&spec)?)
        .bind(finished.status.as_str())
        .bind(begun)
        .bind(begun)
        .bind(finished.finished_at.as_millisecond())
        .bind(finished.exit_code)
        .bind(&finished.snapshot_id)
        .bind(finished.stats.as_ref().map(Value::to_string))
        .bind(i64::try_from(finished.log_lines)?)
        .bind(started.slot.map(Timestamp::as_millisecond))
        .bind(self.told_at)
        .execute(&mut **tx)
        .await?;
        Ok(())
    }
}
