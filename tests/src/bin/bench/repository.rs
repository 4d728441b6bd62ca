//! The store against rest-server.

use crate::{
    Options,
    figure::{Figure, Section},
    source, usage,
};
use anyhow::{Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use testkit::{
    fleet::{Fleet, StoreFolder},
    planted_secret,
    rest_server::{Deletes, RestServer},
};

/// What a backup and a restore cost.
#[derive(Clone, Copy, Debug)]
struct Cost {
    wall: Duration,
    cpu: Duration,
    /// In bytes.
    peak: f64,
}

/// The store against rest-server: the same data backed up and restored by the same restic, both over
/// TLS on loopback and on one disk.
pub(crate) async fn measure(options: &Options) -> Result<Section> {
    let (tools, restic) = (options.tools(), options.restic()?);
    let source = options.root.join("source");
    source::make(&source, options)?;
    let small = options.root.join("small");
    testkit::tree::make_small(&small)?;
    let fleet = Fleet::in_store(&options.root.join("fleet"), &tools, &small).await?;
    let credential = planted_secret("rest credential");
    let users = [("bench", credential.as_str())];
    let server =
        RestServer::start(&tools, &options.root.join("rest-server"), Deletes::Refused, &users)
            .await?;

    let store = Side::store(&fleet, &options.root)?;
    let rest = Side::rest_server(&server, &credential, &options.root)?;
    let mut figures = [
        ("repository: wall", "time of a backup and a restore", 1.05),
        ("repository: server CPU", "processor time of the server", 0.8),
        ("repository: server memory", "peak resident memory of the server", 1.0),
    ]
    .map(|(name, what, budget)| Figure::new(name, what, budget));
    for n in 0..options.rounds {
        let target = options.root.join("restored");
        // Whoever goes first finds the disk as the other left it: they take turns.
        let (ours, theirs) = if n % 2 == 0 {
            let ours = store.measure(&restic, &source, &target)?;
            (ours, rest.measure(&restic, &source, &target)?)
        } else {
            let theirs = rest.measure(&restic, &source, &target)?;
            (store.measure(&restic, &source, &target)?, theirs)
        };
        println!("round {}: store {ours:?}, rest-server {theirs:?}", n + 1);
        figures[0].add(ours.wall.as_secs_f64(), theirs.wall.as_secs_f64());
        figures[1].add(ours.cpu.as_secs_f64(), theirs.cpu.as_secs_f64());
        figures[2].add(ours.peak, theirs.peak);
    }
    let text = format!(
        "{} backed up and restored by one restic, to the store and to rest-server, both with TLS on \
         loopback and on one disk.",
        source::in_words(options)
    );
    Ok(Section { name: "repository", text, figures: figures.into() })
}

/// A server with a repository that is made anew for each round.
struct Side {
    process: u32,
    folder: PathBuf,
    url: String,
    ca: PathBuf,
    user: String,
    credential: String,
    password: String,
    home: PathBuf,
}

impl Side {
    fn store(fleet: &Fleet<StoreFolder>, root: &Path) -> Result<Self> {
        let ca = root.join("store.pem");
        fs::write(&ca, &fleet.manager.ready().ca_pem)?;
        Ok(Self {
            process: fleet.manager.id()?,
            folder: fleet.server.repository.clone(),
            url: format!(
                "rest:https://localhost:{}/store/{}/",
                fleet.manager.port(),
                fleet.repository
            ),
            ca,
            user: fleet.repository.clone(),
            credential: fleet.secrets.credential.clone(),
            password: fleet.secrets.repository.clone(),
            home: root.join("home"),
        })
    }

    fn rest_server(server: &RestServer, credential: &str, root: &Path) -> Result<Self> {
        let ca = root.join("rest-server.pem");
        fs::write(&ca, &server.ca_pem)?;
        Ok(Self {
            process: server.id()?,
            folder: server.folder("bench"),
            url: server.direct_url("bench"),
            ca,
            user: "bench".to_owned(),
            credential: credential.to_owned(),
            password: planted_secret("repository password"),
            home: root.join("home"),
        })
    }

    fn restic(&self, restic: &Path, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(restic);
        command.env_clear().env("HOME", &self.home).env("RESTIC_PASSWORD", &self.password);
        command.env("RESTIC_REST_USERNAME", &self.user);
        command.env("RESTIC_REST_PASSWORD", &self.credential);
        command.args(["--quiet", "--no-cache", "--repo", &self.url, "--cacert"]).arg(&self.ca);
        let output = command.args(arguments).output()?;
        let printed = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "restic {arguments:?}: {printed}");
        Ok(())
    }

    fn measure(&self, restic: &Path, source: &Path, target: &Path) -> Result<Cost> {
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder)?;
        }
        if target.exists() {
            fs::remove_dir_all(target)?;
        }
        self.restic(restic, &["init"])?;
        let flush = Command::new("sync").status()?;
        ensure!(flush.success(), "sync failed");
        usage::forget_peak(self.process)?;
        let (before, began) = (usage::cpu(self.process)?, Instant::now());
        let (from, to) = (source.display().to_string(), target.display().to_string());
        self.restic(restic, &["backup", &from])?;
        self.restic(restic, &["restore", "latest", "--target", &to])?;
        Ok(Cost {
            wall: began.elapsed(),
            cpu: usage::cpu(self.process)?.saturating_sub(before),
            peak: usage::peak(self.process)?,
        })
    }
}
