//! What it costs to take in what machines tell, against a bare echo, and how soon a watcher hears of it.

use crate::{
    Options,
    bare::{Bare, Yardstick},
    crowd::{Crowd, Wanted, allow_sockets, machines},
    figure::{Figure, Section},
    month, usage,
};
use anyhow::{Context as _, Result, ensure};
use futures_util::{SinkExt as _, StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use testkit::{
    api::{Api, Flow},
    puppet::{Machine, Socket},
    teller::{Link, Teller},
    wait_for,
};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Machines that connect at once.
const AT_ONCE: usize = 64;
/// Lines of a run; its beginning and its end are events too.
const LINES: u64 = 48;
/// Runs of each machine whose beginning is waited for by a watcher.
const TURNS: u64 = 5;
/// The time from one run of a machine to the next then.
const TURN: Duration = Duration::from_secs(1);
/// Lines of each of these runs.
const LINES_OF_TURN: u64 = 3;

/// Many machines that tell of their runs, until the last event is on the manager's disk and acknowledged,
/// against the same messages read as JSON, written again and sent back.
pub(crate) async fn measure(options: &Options) -> Result<Section> {
    allow_sockets(options.tellers)?;
    let since = Timestamp::now() - SignedDuration::from_hours(1);
    let wanted = Wanted { machines: options.tellers, times: &[""], since: Some(since) };
    let mut crowd = Crowd::make(&options.root, &wanted).await?;
    let mut figure = Figure::new("intake: CPU", "processor time for a durable event", 3.0);
    for n in 0..options.rounds {
        let (ours, bare) = if n % 2 == 0 {
            let ours = take_in(options, &mut crowd, since).await?;
            (ours, echo(options, &crowd, since).await?)
        } else {
            let bare = echo(options, &crowd, since).await?;
            (take_in(options, &mut crowd, since).await?, bare)
        };
        println!("intake, round {}: manager {ours:?}, echo {bare:?}", n + 1);
        figure.add(ours.as_secs_f64(), bare.as_secs_f64());
    }
    let text = format!(
        "{} machines that tell {} durable events each, all at once: runs with {LINES} log lines. From the \
         first message until the last event is on the disk and acknowledged, against the same messages on \
         an axum server that reads each as JSON, writes it again and sends it back over the same kind of \
         connection. The command also tells how long it takes from the beginning of a run until a watcher \
         of the interface's events hears of it, while as many runs are live.",
        options.tellers, options.events
    );
    Ok(Section { name: "intake", text, figures: vec![figure] })
}

/// What a machine tells: so many events at least, in whole runs.
fn tell(
    teller: &mut Teller,
    crowd: &Crowd,
    machine: u64,
    since: Timestamp,
    events: u64,
) -> Result<()> {
    let (plan, repository) = (crowd.plans[0], crowd.repository);
    for n in 0..events.div_ceil(LINES + 2) {
        let id = month::run_id(since, machine << 32 | n)?;
        for told in month::run(id, plan, repository, None, since, LINES) {
            teller.record(&told)?;
        }
    }
    Ok(())
}

async fn take_in(options: &Options, crowd: &mut Crowd, since: Timestamp) -> Result<Duration> {
    crowd.start_afresh().await?;
    let manager = crowd.manager.id()?;
    let mut links: Vec<(Teller, Link)> = stream::iter(&crowd.machines)
        .map(|machine| async {
            let mut teller = Teller::new()?;
            let mut link = teller.connect(machine).await?;
            link.settle().await?;
            anyhow::Ok((teller, link))
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    for (n, (teller, _)) in (0..).zip(&mut links) {
        tell(teller, crowd, n, since, options.events)?;
    }
    let (before, began) = (usage::cpu(manager)?, Instant::now());
    try_join_all(links.iter_mut().map(|(teller, link)| link.tell(teller))).await?;
    let (cpu, took) = (usage::cpu(manager)?.saturating_sub(before), began.elapsed());
    let events: u64 = links.iter().map(|(teller, _)| teller.head()).sum();
    println!("intake: {events} events in {took:?}");
    let api = crowd.manager.api().await?;
    hear_of_runs(&api, crowd, &mut links).await?;
    drop(links);
    crowd.manager.stop().await?;
    Ok(cpu / u32::try_from(events)?)
}

/// The beginnings of runs that were told and that the watcher has not heard of yet, and how long it took
/// to hear of the others.
#[derive(Default)]
struct Heard {
    told: HashMap<String, Instant>,
    after: Vec<Duration>,
}

/// Lets every machine have a run that goes on, one after the other, and tells how long after the beginning
/// of each a watcher hears of it.
async fn hear_of_runs(api: &Api, crowd: &Crowd, links: &mut [(Teller, Link)]) -> Result<()> {
    let heard = Mutex::new(Heard::default());
    let lock = || heard.lock().unwrap_or_else(PoisonError::into_inner);
    let count = u32::try_from(links.len())?;
    let wanted = links.len() * usize::try_from(TURNS)?;
    let listening = api.stream("/api/events", |event, change| {
        let mut heard = lock();
        if change["topic"] == "run"
            && let Some(told) = change["id"].as_str().and_then(|id| heard.told.remove(id))
        {
            heard.after.push(told.elapsed());
        }
        // Who is told to read everything again has missed what is waited for.
        if event == "resync" { Flow::Stop } else { Flow::Continue }
    });
    let begin = tokio::time::Instant::now() + TURN;
    let telling = try_join_all((0..).zip(links).map(|(n, (teller, link))| {
        let lock = &lock;
        async move {
            for turn in 0..TURNS {
                let at = TURN * u32::try_from(turn)? + TURN * n / count;
                tokio::time::sleep_until(begin + at).await;
                let now = Timestamp::now();
                let id = month::run_id(now, u64::from(n) << 32 | turn)?;
                teller.record(&month::started(id, crowd.plans[0], crowd.repository, None, now))?;
                lock().told.insert(id.to_string(), Instant::now());
                link.tell(teller).await?;
                for seq in 1..=LINES_OF_TURN {
                    teller.record(&month::line(id, seq, now))?;
                }
                link.tell(teller).await?;
                // It goes on until it is this machine's turn again.
                tokio::time::sleep_until(begin + at + TURN).await;
                teller.record(&month::finished(id, now, LINES_OF_TURN))?;
                link.tell(teller).await?;
            }
            anyhow::Ok(())
        }
    }));
    let telling = async {
        telling.await?;
        let is_done = async || Ok((lock().after.len() == wanted).then_some(()));
        wait_for("the watcher to hear of every run", is_done).await
    };
    tokio::select! {
        ended = listening => ended?,
        told = telling => told?,
    }
    let mut after = std::mem::take(&mut lock().after);
    ensure!(after.len() == wanted, "the watcher heard of {} of {wanted} runs", after.len());
    after.sort_unstable();
    let at = |hundredths: usize| after.get(after.len() * hundredths / 100).copied();
    println!(
        "intake: a watcher hears of a run {:?} after it was told, and in 99 of 100 cases within {:?}, with \
         {count} live runs",
        at(50).context("no run")?,
        at(99).context("no run")?
    );
    Ok(())
}

async fn echo(options: &Options, crowd: &Crowd, since: Timestamp) -> Result<Duration> {
    let server = Bare::start(&options.root, Yardstick::Echo).await?;
    let machines = machines(&server.ready, options.tellers)?;
    let sockets: Vec<Socket> = stream::iter(&machines)
        .map(Machine::socket)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let tellers: Vec<Teller> = (0..)
        .take(sockets.len())
        .map(|n| {
            let mut teller = Teller::new()?;
            tell(&mut teller, crowd, n, since, options.events)?;
            anyhow::Ok(teller)
        })
        .collect::<Result<_>>()?;
    let before = usage::cpu(server.id())?;
    let said =
        sockets.into_iter().zip(&tellers).map(|(socket, it)| hear_back(socket, it.records()));
    try_join_all(said).await?;
    let cpu = usage::cpu(server.id())?.saturating_sub(before);
    server.end().await?;
    let events: u64 = tellers.iter().map(Teller::head).sum();
    Ok(cpu / u32::try_from(events)?)
}

/// Says all of it, in the same writes as a [`Link`] does, and waits until all of it has come back.
async fn hear_back(socket: Socket, messages: &[Utf8Bytes]) -> Result<()> {
    let (mut sink, mut stream) = socket.split();
    let said = async {
        for message in messages {
            sink.feed(Message::Text(message.clone())).await?;
        }
        anyhow::Ok(sink.flush().await?)
    };
    let heard = async {
        for _ in messages {
            stream.next().await.context("the echo ended")??;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(said, heard)?;
    Ok(())
}
