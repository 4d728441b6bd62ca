//! What the product costs, as ratios against a yardstick that is measured in the same run: rounds
//! alternate between the two, and the median of the rounds' ratios counts. The last line is a JSON
//! object; `cargo xtask bench` builds this program in the release profile and hands over to it.
#![expect(clippy::print_stdout, reason = "printing the figures is what it is for")]

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use serde_json::{Value, json};
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};
use testkit::{
    fleet::{Fleet, StoreFolder},
    planted_secret,
    rest_server::{Deletes, RestServer},
    tools::Tools,
};

/// How the benches are run.
#[derive(Debug, Parser)]
struct Options {
    /// Where everything is written.
    #[arg(long)]
    root: PathBuf,
    /// The pinned tools.
    #[arg(long)]
    tools: PathBuf,
    /// Where the table goes.
    #[arg(long)]
    table: Option<PathBuf>,
    /// Fail when a ratio is over its budget.
    #[arg(long)]
    check: bool,
    /// Rounds of each bench.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// MiB that are backed up.
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// The bench to run; without a name, all.
    name: Option<String>,
}

/// A ratio with its budget.
struct Figure {
    name: &'static str,
    of: &'static str,
    budget: f64,
    /// One a round.
    ratios: Vec<f64>,
}

impl Figure {
    fn median(&self) -> f64 {
        let mut sorted = self.ratios.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn spread(&self) -> (f64, f64) {
        let fold =
            |start: f64, pick: fn(f64, f64) -> f64| self.ratios.iter().copied().fold(start, pick);
        (fold(f64::INFINITY, f64::min), fold(f64::NEG_INFINITY, f64::max))
    }

    fn holds(&self) -> bool {
        self.median() <= self.budget
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let known = ["repository"];
    if let Some(name) = &options.name {
        ensure!(known.contains(&name.as_str()), "there is no bench {name}; there are {known:?}");
    }
    if options.root.exists() {
        fs::remove_dir_all(&options.root)?;
    }
    fs::create_dir_all(&options.root)?;
    let figures = repository(&options).await?;
    if let Some(table) = &options.table {
        fs::write(table, markdown(&figures, &options))?;
    }
    let results: Vec<Value> = figures
        .iter()
        .map(|it| {
            let (least, most) = it.spread();
            json!({ "name": it.name, "ratio": round(it.median()), "spread": [round(least), round(most)],
                "budget": it.budget, "holds": it.holds() })
        })
        .collect();
    let all_hold = figures.iter().all(Figure::holds);
    let is_ok = all_hold || !options.check;
    println!("{}", json!({ "ok": is_ok, "results": results }));
    Ok(if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn round(ratio: f64) -> f64 {
    (ratio * 1000.0).round() / 1000.0
}

/// What a backup and a restore cost.
#[derive(Clone, Copy, Debug)]
struct Cost {
    wall: Duration,
    cpu: Duration,
    peak_kib: u64,
}

/// The store against rest-server: the same data backed up and restored by the same restic, both over
/// TLS on loopback and on one disk.
async fn repository(options: &Options) -> Result<Vec<Figure>> {
    let tools = Tools::new(&options.tools);
    let restic = tools.every_restic()?.pop().context("there is no restic")?;
    let source = options.root.join("source");
    make_source(&source, options.mib)?;
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
    .map(|(name, of, budget)| Figure { name, of, budget, ratios: Vec::new() });
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
        figures[0].ratios.push(ours.wall.as_secs_f64() / theirs.wall.as_secs_f64());
        figures[1].ratios.push(ours.cpu.as_secs_f64() / theirs.cpu.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a ratio")]
        figures[2].ratios.push(ours.peak_kib as f64 / theirs.peak_kib as f64);
    }
    Ok(figures.into())
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
        forget_peak(self.process)?;
        let (before, began) = (cpu(self.process)?, Instant::now());
        let (from, to) = (source.display().to_string(), target.display().to_string());
        self.restic(restic, &["backup", &from])?;
        self.restic(restic, &["restore", "latest", "--target", &to])?;
        Ok(Cost {
            wall: began.elapsed(),
            cpu: cpu(self.process)?.saturating_sub(before),
            peak_kib: peak_kib(self.process)?,
        })
    }
}

/// Files of all sizes whose content does not compress: a part of the bytes in small ones, the rest in
/// large ones.
fn make_source(root: &Path, mib: u64) -> Result<()> {
    const SMALL: u64 = 2000;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut chunk = vec![0; 1024 * 1024];
    let mut fill = |chunk: &mut [u8]| {
        for word in chunk.chunks_mut(8) {
            // A xorshift generator: fast, and the same bytes each time.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
        }
    };
    for n in 0..SMALL {
        let folder = root.join(format!("small/{}", n % 20));
        fs::create_dir_all(&folder)?;
        let size = usize::try_from(1024 + n * 37 % 60_000)?;
        fill(&mut chunk[..size]);
        fs::write(folder.join(n.to_string()), &chunk[..size])?;
    }
    fs::create_dir_all(root.join("large"))?;
    for n in 0..mib.div_ceil(64) {
        let mut file = fs::File::create(root.join(format!("large/{n}")))?;
        for _ in 0..64 {
            fill(&mut chunk);
            file.write_all(&chunk)?;
        }
    }
    Ok(())
}

/// Processor time of a process so far, in user and in kernel mode.
fn cpu(process: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name may hold anything; what follows it does not.
    let (_, rest) = stat.rsplit_once(')').context("no name in stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: u64 = fields.get(11).context("no utime")?.parse::<u64>()?
        + fields.get(12).context("no stime")?.parse::<u64>()?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_millis(ticks * 1000 / per_second))
}

/// Lets the kernel forget the largest resident size so far.
fn forget_peak(process: u32) -> Result<()> {
    Ok(fs::write(format!("/proc/{process}/clear_refs"), "5")?)
}

/// The largest resident size since then, in KiB.
fn peak_kib(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()).context("no VmHWM")?;
    Ok(number.parse()?)
}

fn markdown(figures: &[Figure], options: &Options) -> String {
    let mut text = format!(
        "# Benchmarks\n\n\
         Written by `cargo xtask bench`. A figure is a ratio against a yardstick that was measured in the \
         same run, in {} alternating rounds: the median, and the least and most of the rounds. Absolute \
         times would tell more of the machine than of the product.\n\n\
         *repository*: {} MiB backed up and restored by one restic, to the store and to rest-server, both \
         with TLS on loopback and on the same disk.\n\n\
         | figure | ratio | spread | budget | |\n| --- | --- | --- | --- | --- |\n",
        options.rounds, options.mib
    );
    for it in figures {
        let (least, most) = it.spread();
        let holds = if it.holds() { "holds" } else { "**missed**" };
        text += &format!(
            "| {} ({}) | {:.3} | {least:.3} to {most:.3} | {:.2} | {holds} |\n",
            it.name,
            it.of,
            it.median(),
            it.budget
        );
    }
    text
}
