//! What a connected machine costs the manager in memory, against a bare connection.

use crate::{
    Options,
    bare::{Bare, Yardstick},
    crowd::{Crowd, Wanted, allow_sockets, machines},
    figure::{Figure, Section},
    usage,
};
use anyhow::{Context as _, Result};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use testkit::puppet::{Machine, Puppet};

/// Machines that come at once.
const AT_ONCE: usize = 64;
/// Heartbeats of each machine before its memory counts: what they stir up stays.
const BEATS: usize = 3;

/// Machines on a real manager, each with a key of its own, one plan in common and an acknowledged
/// desired state, against the same connections to a server that does nothing with them.
pub(crate) async fn measure(options: &Options) -> Result<Section> {
    let most = options.machines.iter().copied().max().context("how many machines?")?;
    allow_sockets(most)?;
    let wanted = Wanted { machines: most, times: &[""], since: None };
    let mut place = Place { options, crowd: Crowd::make(&options.root, &wanted).await? };
    let mut figures = Vec::new();
    for &count in &options.machines {
        let name = format!("fleet of {count}: memory");
        let mut figure = Figure::new(name, "resident memory of a connected machine", 1.5);
        for n in 0..options.rounds {
            let (ours, bare) = if n % 2 == 0 {
                let ours = place.manager(count).await?;
                (ours, place.bare(count).await?)
            } else {
                let bare = place.bare(count).await?;
                (place.manager(count).await?, bare)
            };
            println!("{count} machines, round {}: manager {ours:.0} B, bare {bare:.0} B", n + 1);
            figure.add(ours, bare);
        }
        figures.push(figure);
    }
    let text = "Machines that are connected to a manager and have acknowledged their plan, against the \
                same connections to an axum server that takes WebSockets over TLS with a read buffer of \
                4,096 bytes and does nothing with them. Counted is by how much the server's resident \
                memory grows, for each connection, from before the first until all are at rest."
        .to_owned();
    Ok(Section { name: "fleet", text, figures })
}

struct Place<'a> {
    options: &'a Options,
    crowd: Crowd,
}

impl Place<'_> {
    async fn manager(&mut self, count: usize) -> Result<f64> {
        self.crowd.start_afresh().await?;
        let machines: Vec<&Machine> = self.crowd.machines.iter().take(count).collect();
        let grown = grown_by(self.crowd.manager.id()?, &machines).await?;
        self.crowd.manager.stop().await?;
        Ok(grown)
    }

    async fn bare(&self, count: usize) -> Result<f64> {
        let server = Bare::start(&self.options.root, Yardstick::Hold).await?;
        let machines = machines(&server.ready, count)?;
        let grown = grown_by(server.id(), &machines.iter().collect::<Vec<_>>()).await?;
        server.end().await?;
        Ok(grown)
    }
}

/// Connects the machines to the server in this process, and tells by how many bytes for each of them
/// it has grown once all are at rest.
async fn grown_by(server: u32, machines: &[&Machine]) -> Result<f64> {
    let before = usage::resident(server)?;
    let puppets: Vec<Puppet> = stream::iter(machines)
        .map(|machine| Puppet::connect(machine))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    for _ in 0..BEATS {
        stream::iter(&puppets).map(Ok).try_for_each_concurrent(AT_ONCE, Puppet::beat).await?;
    }
    let after = usage::resident(server)?;
    #[expect(clippy::cast_precision_loss, reason = "there are not that many machines")]
    Ok((after - before) / puppets.len() as f64)
}
