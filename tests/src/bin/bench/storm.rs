//! Every machine coming back at once after a restart of the manager, against the bare handshakes.

use crate::{
    Options,
    away::keep_asking,
    bare::{Bare, Yardstick},
    crowd::{Crowd, Wanted, allow_sockets, machines},
    figure::{Figure, Section},
    month, usage,
};
use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use std::{
    cell::Cell,
    time::{Duration, Instant},
};
use testkit::{
    puppet::Machine,
    teller::{Link, Teller},
};

/// Machines that come at once: as many as the manager looks at together.
const AT_ONCE: usize = 256;
/// What the interface is asked meanwhile: who is signed in, which costs the same however many machines
/// there are.
const ASKED: &str = "/api/session";
/// Lines of the run that each has told of before.
const LINES: u64 = 8;

/// Machines that the manager knows, with their journals, tickets and plans, after it was restarted,
/// against TLS handshakes with client certificates and upgrades to WebSocket.
pub(crate) async fn measure(options: &Options) -> Result<Section> {
    let most = options.machines.iter().copied().max().context("how many machines?")?;
    allow_sockets(most)?;
    let since = Timestamp::now() - SignedDuration::from_hours(1);
    let wanted = Wanted { machines: most, times: &["0 3 * * *"], since: Some(since) };
    let mut crowd = Crowd::make(&options.root, &wanted).await?;
    let mut tellers = first_meeting(&mut crowd, since).await?;
    let mut figures = Vec::new();
    for &count in &options.machines {
        let name = format!("storm of {count}: CPU");
        let mut figure = Figure::new(name, "processor time of the manager until all are back", 2.0);
        for n in 0..options.rounds {
            let (ours, bare) = if n % 2 == 0 {
                let ours = storm(&mut crowd, &mut tellers, count).await?;
                (ours, handshakes(options, count).await?)
            } else {
                let bare = handshakes(options, count).await?;
                (storm(&mut crowd, &mut tellers, count).await?, bare)
            };
            println!("{count} machines, round {}: manager {ours:?}, handshakes {bare:?}", n + 1);
            figure.add(ours.as_secs_f64(), bare.as_secs_f64());
        }
        figures.push(figure);
    }
    let text = format!(
        "Machines that come back after a restart of their manager, {AT_ONCE} at a time, each with its \
         journal, its ticket and its plans, until the manager has welcomed them, taken in that they keep \
         their new tickets, and looked what they need; the interface answers meanwhile and shows all of \
         them afterwards. Against the same TLS handshakes with client certificates and upgrades to WebSocket \
         on an axum server that does nothing else."
    );
    Ok(Section { name: "storm", text, figures })
}

/// Lets every machine come once and tell of a run. The manager does not run afterwards.
async fn first_meeting(crowd: &mut Crowd, since: Timestamp) -> Result<Vec<Teller>> {
    crowd.start_afresh().await?;
    let (plan, repository, generation) = (crowd.plans[0], crowd.repository, crowd.generation);
    let met = (0_u64..).zip(&crowd.machines).map(|(n, machine)| async move {
        let mut teller = Teller::new()?;
        (teller.awake_since, teller.generation) = (Some(since), generation);
        let mut link = teller.connect(machine).await?;
        for told in month::run(month::run_id(since, n)?, plan, repository, None, since, LINES) {
            teller.record(&told)?;
        }
        link.tell(&mut teller).await?;
        link.settle().await?;
        anyhow::Ok(teller)
    });
    let tellers = stream::iter(met).buffered(AT_ONCE).try_collect().await?;
    crowd.manager.stop().await?;
    Ok(tellers)
}

async fn storm(crowd: &mut Crowd, tellers: &mut [Teller], count: usize) -> Result<Duration> {
    crowd.manager.start().await?;
    let api = crowd.manager.api().await?;
    let manager = crowd.manager.id()?;
    let slowest = Cell::new(Duration::ZERO);
    let (before, began) = (usage::cpu(manager)?, Instant::now());
    let coming = async {
        let coming = crowd.machines.iter().zip(tellers).take(count).map(come_back);
        let links: Vec<Link> = stream::iter(coming).buffer_unordered(AT_ONCE).try_collect().await?;
        anyhow::Ok((links, usage::cpu(manager)?.saturating_sub(before)))
    };
    let (links, cpu) = tokio::select! {
        back = coming => back?,
        failed = keep_asking(&api, ASKED, &slowest) => match failed? {},
    };
    println!(
        "storm: {count} machines were back after {:?}; GET {ASKED} took at most {:?} meanwhile",
        began.elapsed(),
        slowest.get()
    );
    let hosts = api.get("/api/hosts").await?;
    let hosts = hosts.as_array().context("no list of machines")?;
    let online = hosts.iter().filter(|host| host["is_online"] == true).count();
    let in_sync = hosts.iter().filter(|host| host["in_sync"] == true).count();
    ensure!(online == count, "{online} of {count} machines are back");
    ensure!(in_sync == hosts.len(), "{in_sync} of {} machines are in sync", hosts.len());
    drop(links);
    crowd.manager.stop().await?;
    Ok(cpu)
}

async fn come_back((machine, teller): (&Machine, &mut Teller)) -> Result<Link> {
    let mut link = teller.connect(machine).await?;
    link.settle().await?;
    Ok(link)
}

async fn handshakes(options: &Options, count: usize) -> Result<Duration> {
    let server = Bare::start(&options.root, Yardstick::Take).await?;
    let machines = machines(&server.ready, count)?;
    let before = usage::cpu(server.id())?;
    let sockets: Vec<_> = stream::iter(&machines)
        .map(Machine::socket)
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let cpu = usage::cpu(server.id())?.saturating_sub(before);
    drop(sockets);
    server.end().await?;
    Ok(cpu)
}
