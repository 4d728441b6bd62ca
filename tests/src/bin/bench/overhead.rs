//! What the agent adds to restic.

use crate::{
    Options,
    figure::{Figure, Section},
    source, usage,
};
use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use testkit::{
    agent::Rights,
    fleet::{Fleet, MACHINE},
    rest_server::Deletes,
    wait_for,
};

/// The agent's memory at its peak, in bytes, that counts as 1.
const MEMORY: f64 = 12_000_000.0;

/// A backup that the admin asks for, from the request until the manager tells of its end, against the
/// same restic with the same arguments, environment and repository, started by hand: once for a
/// repository that restic reaches by itself, once for one in the store, which it reaches through the
/// agent.
pub(crate) async fn measure(options: &Options) -> Result<Section> {
    let source = options.root.join("source");
    source::make(&source, options)?;
    let root = options.root.join("rest-server");
    let tools = options.tools();
    let mut fleet = Fleet::start(&root, &tools, &source, Deletes::Allowed).await?;
    // Without the network that stands between in tests.
    let form = json!({
        "name": "Attic", "url": fleet.server.direct_url(MACHINE), "username": MACHINE,
        "append_only": false,
    });
    fleet.api.put(&format!("/api/repositories/{}", fleet.repository), &form).await?;
    fleet.in_sync().await?;
    fleet.run(&fleet.init()).await?.expect("succeeded")?;
    let repository = fleet.server.folder(MACHINE);
    let mut figures = rounds(options, &mut fleet, "overhead", &repository, None).await?;
    drop(fleet);

    let root = options.root.join("store");
    let mut fleet = Fleet::in_store(&root, &tools, &source).await?;
    let direct = format!("127.0.0.1:{}", fleet.manager.port());
    fleet.api.put("/api/system/addresses", &json!({ "addresses": [direct] })).await?;
    fleet.in_sync().await?;
    let repository = fleet.server.repository.clone();
    let url =
        format!("rest:https://localhost:{}/store/{}/", fleet.manager.port(), fleet.repository);
    let name = "overhead, store";
    figures.extend(rounds(options, &mut fleet, name, &repository, Some(&url)).await?);
    let text = format!(
        "{} backed up by the agent of a connected machine, from the admin's request to the manager's \
         word that the run has ended, against the same restic with the same arguments, environment and \
         repository, started by hand. First with a repository on a rest-server, which restic dials \
         itself; then in the store, which restic reaches through the agent, and by hand directly. The \
         agent's memory is told as a share of 12 MB.",
        source::in_words(options)
    );
    Ok(Section { name: "overhead", text, figures })
}

async fn rounds<Place>(
    options: &Options,
    fleet: &mut Fleet<Place>,
    name: &str,
    repository: &Path,
    directly: Option<&str>,
) -> Result<Vec<Figure>> {
    let mut figures = vec![
        Figure::new(format!("{name}: agent CPU"), "processor time of the agent, of restic's", 0.03),
        Figure::new(format!("{name}: wall"), "time to the end of the run", 1.05),
        Figure::new(format!("{name}: agent memory"), "peak resident memory of the agent", 1.0),
    ];
    fleet.agent.restic = options.restic()?;
    fleet.agent.stop().await?;
    fleet.agent.start(Rights::Full)?;
    fleet.in_sync().await?;
    let mut restic = Restic::of_a_run(fleet).await?;
    if let Some(url) = directly {
        restic.environment.insert("RESTIC_REPOSITORY".into(), url.into());
    }
    for n in 0..options.rounds {
        let (ours, bare) = if n % 2 == 0 {
            let ours = by_agent(fleet, repository, &restic).await?;
            (ours, restic.run(repository)?)
        } else {
            let bare = restic.run(repository)?;
            (by_agent(fleet, repository, &restic).await?, bare)
        };
        println!("{name}, round {}: {ours:?}, restic {bare:?}", n + 1);
        figures[0].add(ours.cpu.as_secs_f64(), bare.cpu.as_secs_f64());
        figures[1].add(ours.wall.as_secs_f64(), bare.wall.as_secs_f64());
        figures[2].add(ours.peak, MEMORY);
    }
    Ok(figures)
}

/// What a backup cost who made it.
#[derive(Debug)]
struct Cost {
    wall: Duration,
    /// Without restic's in the agent's case.
    cpu: Duration,
    /// In bytes; the agent's only.
    peak: f64,
}

async fn by_agent<Place>(
    fleet: &mut Fleet<Place>,
    repository: &Path,
    restic: &Restic,
) -> Result<Cost> {
    restic.make_empty(repository)?;
    let agent = fleet.agent.process()?.id();
    usage::forget_peak(agent)?;
    let (cpu, began) = (usage::cpu(agent)?, Instant::now());
    let run = fleet.run(&fleet.backup()).await?.expect("succeeded")?;
    let cost = Cost {
        wall: began.elapsed(),
        cpu: usage::cpu(agent)?.saturating_sub(cpu),
        peak: usage::peak(agent)?,
    };
    // What the agent still has to tell of it is not to disturb the next.
    fleet.lists(&run.snapshot()?).await?;
    Ok(cost)
}

/// restic as the agent calls it.
struct Restic {
    words: Vec<OsString>,
    environment: BTreeMap<OsString, OsString>,
}

impl Restic {
    /// Reads off a backup that the agent makes how it calls restic, and lets it end.
    async fn of_a_run<Place>(fleet: &mut Fleet<Place>) -> Result<Self> {
        let run = fleet.ask(&fleet.backup()).await?;
        let agent = fleet.agent.process()?;
        let restic = wait_for("the agent to call restic", async || {
            ensure!(agent.is_running()?, "the agent has ended");
            let children = agent.children()?;
            let backup = children.iter().find(|(_, words)| words.iter().any(|it| it == "backup"));
            let Some((id, _)) = backup else { return Ok(None) };
            let read = |file: &str| fs::read(format!("/proc/{}/{file}", id.as_raw_nonzero()));
            let (Ok(words), Ok(environment)) = (read("cmdline"), read("environ")) else {
                return Ok(None);
            };
            Ok(Self::read(&words, &environment))
        })
        .await?;
        let run = fleet.reaches(&run, &["succeeded"]).await?;
        let snapshot = run["snapshot_id"].as_str().context("a backup without a snapshot")?;
        fleet.lists(snapshot).await?;
        Ok(restic)
    }

    /// `None` where the process is not restic yet.
    fn read(words: &[u8], environment: &[u8]) -> Option<Self> {
        let pieces = |text: &[u8]| -> Vec<OsString> {
            let text = text.strip_suffix(b"\0").unwrap_or(text);
            text.split(|byte| *byte == 0).map(|it| OsString::from_vec(it.to_owned())).collect()
        };
        let environment: BTreeMap<OsString, OsString> = pieces(environment)
            .into_iter()
            .filter_map(|line| {
                let line = line.into_vec();
                let at = line.iter().position(|byte| *byte == b'=')?;
                let (name, value) = line.split_at(at);
                Some((
                    OsString::from_vec(name.to_owned()),
                    OsString::from_vec(value[1..].to_owned()),
                ))
            })
            .collect();
        let is_restic = environment.contains_key(&OsString::from("RESTIC_REPOSITORY"));
        is_restic.then(|| Self { words: pieces(words), environment })
    }

    fn run(&self, repository: &Path) -> Result<Cost> {
        self.make_empty(repository)?;
        let own = std::process::id();
        let (cpu, began) = (usage::cpu_of_children(own)?, Instant::now());
        let (program, arguments) = self.words.split_first().context("a call without a program")?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(&self.environment).stdout(Stdio::null());
        let output = command.output()?;
        let printed = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "restic: {printed}");
        Ok(Cost {
            wall: began.elapsed(),
            cpu: usage::cpu_of_children(own)?.saturating_sub(cpu),
            peak: f64::NAN,
        })
    }

    /// Makes the repository as it was after its init, takes its cache away, and lets the disk rest.
    fn make_empty(&self, repository: &Path) -> Result<()> {
        for kind in ["data", "index", "snapshots", "locks"] {
            for entry in walkdir::WalkDir::new(repository.join(kind)) {
                let entry = entry?;
                if entry.file_type().is_file() {
                    fs::remove_file(entry.path())?;
                }
            }
        }
        let cache = self.environment.get(&OsString::from("RESTIC_CACHE_DIR"));
        let cache = PathBuf::from(cache.context("restic has no cache")?);
        if cache.exists() {
            fs::remove_dir_all(&cache)?;
            fs::create_dir(&cache)?;
        }
        let status = Command::new("sync").status()?;
        ensure!(status.success(), "sync failed");
        Ok(())
    }
}
