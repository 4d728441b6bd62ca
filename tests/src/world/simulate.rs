//! Many worlds, on a few threads.

use super::{Met, World, template::Template};
use agent::points::Mistake as InAgent;
use anyhow::{Result, anyhow};
use serde_json::{Value, json};
use server::hooks::Mistake as InManager;
use std::{
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// A mistake that is planted to show that it would be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// In the manager.
    Manager(InManager),
    /// In the agents.
    Agent(InAgent),
}

impl Mistake {
    /// All there are, by the names under which they can be asked for.
    pub const ALL: [(&str, Self); 19] = [
        ("acknowledge-before-commit", Self::Manager(InManager::AcknowledgeBeforeCommit)),
        ("lose-before-caught-up", Self::Manager(InManager::LoseBeforeCaughtUp)),
        ("keep-stale-generation", Self::Manager(InManager::KeepStaleGeneration)),
        ("go-on-unsynced", Self::Agent(InAgent::GoOnUnsynced)),
        ("forget-lines", Self::Agent(InAgent::ForgetLines)),
        ("ignore-busy", Self::Agent(InAgent::IgnoreBusy)),
        ("forget-slots", Self::Agent(InAgent::ForgetSlots)),
        ("forget-to-read", Self::Agent(InAgent::ForgetToRead)),
        ("forget-executed", Self::Agent(InAgent::ForgetExecuted)),
        ("elide-outcome", Self::Agent(InAgent::ElideOutcome)),
        ("forget-told", Self::Agent(InAgent::ForgetTold)),
        ("good-too-soon", Self::Agent(InAgent::GoodTooSoon)),
        ("overdue-at-once", Self::Agent(InAgent::OverdueAtOnce)),
        ("miscount", Self::Agent(InAgent::Miscount)),
        ("ignore-ticket", Self::Manager(InManager::IgnoreTicket)),
        ("keep-silent", Self::Manager(InManager::KeepSilent)),
        ("trust-acknowledged", Self::Manager(InManager::TrustAcknowledged)),
        ("believe-anyone", Self::Manager(InManager::BelieveAnyone)),
        ("paint-green", Self::Manager(InManager::PaintGreen)),
    ];

    /// The mistake of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, mistake)| *mistake)
    }

    /// Plants it, or none, in all that runs in this thread.
    fn plant(mistake: Option<Self>) {
        let (manager, agents) = match mistake {
            Some(Self::Manager(mistake)) => (Some(mistake), None),
            Some(Self::Agent(mistake)) => (None, Some(mistake)),
            None => (None, None),
        };
        server::hooks::plant(manager);
        agent::points::plant(agents);
    }
}

/// Which worlds.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The first seed.
    pub first: u64,
    /// How many seeds.
    pub seeds: u64,
    /// On so many threads.
    pub threads: usize,
    /// What is planted in them.
    pub mistake: Option<Mistake>,
}

/// What came of them.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Worlds that were simulated. It ends early when something was wrong in one of them.
    pub seeds: u64,
    /// Seeds, and what was wrong in their worlds.
    pub violations: Vec<(u64, String)>,
    /// What was met in all worlds together.
    pub met: Met,
}

impl Report {
    /// The report as one line of JSON.
    #[must_use]
    pub fn json(&self, seeds_per_second: f64) -> Value {
        let faults: serde_json::Map<String, Value> =
            self.met.iter().map(|(kind, count)| (kind.to_owned(), json!(count))).collect();
        json!({
            "ok": self.violations.is_empty(),
            "seeds": self.seeds,
            "violations": self.violations.len(),
            "seeds_per_second": (seeds_per_second * 10.0).round() / 10.0,
            "faults": faults,
        })
    }
}

/// A thread's place to simulate in.
struct Stage {
    runtime: Runtime,
    folder: TempDir,
}

impl Stage {
    fn new() -> Result<Self> {
        // What is synced a thousand times a second and thrown away is kept off the disk, where there is
        // such a place.
        let memory = Path::new("/dev/shm");
        let builder = || tempfile::Builder::new().prefix("restic-manager-world-").to_owned();
        let folder = match builder().tempdir_in(memory) {
            Ok(folder) => folder,
            Err(_) => builder().tempdir()?,
        };
        Ok(Self { runtime: Builder::new_current_thread().enable_all().build()?, folder })
    }

    fn template(&self) -> Result<Template> {
        self.runtime.block_on(Template::make())
    }

    fn play(&self, template: &Template, seed: u64, traced: bool) -> Result<super::Fate> {
        server::hooks::kill_at(None);
        let file = self.folder.path().join("server.db");
        self.runtime
            .block_on(async { World::new(template, &file, seed, traced).await?.run().await })
    }
}

/// Simulates one world and tells what happened in it.
///
/// # Errors
/// When it cannot be simulated.
pub fn replay(seed: u64, mistake: Option<Mistake>) -> Result<super::Fate> {
    Mistake::plant(mistake);
    let stage = Stage::new()?;
    let template = stage.template()?;
    let fate = stage.play(&template, seed, true);
    Mistake::plant(None);
    fate
}

/// Simulates worlds until one is wrong or all are done, and says after each how many were simulated.
///
/// # Errors
/// When they cannot be simulated.
pub fn simulate(wanted: Wanted, done: impl Fn(u64) + Sync) -> Result<Report> {
    let template = Stage::new()?.template()?;
    let next = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    let report = Mutex::new(Report::default());
    let work = || -> Result<()> {
        Mistake::plant(wanted.mistake);
        let stage = Stage::new()?;
        while !is_over.load(Ordering::Relaxed) {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= wanted.seeds {
                break;
            }
            let seed = wanted.first + n;
            let fate = stage.play(&template, seed, false);
            let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
            report.seeds += 1;
            done(report.seeds);
            let violations = match fate {
                Ok(fate) => {
                    report.met.add(&fate.met);
                    fate.violations
                }
                Err(error) => vec![format!("{error:#}")],
            };
            if !violations.is_empty() {
                is_over.store(true, Ordering::Relaxed);
                report.violations.extend(violations.into_iter().map(|what| (seed, what)));
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..wanted.threads.max(1)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| Err(anyhow!("a world broke its thread")))
        })
    })?;
    Ok(report.into_inner().unwrap_or_else(PoisonError::into_inner))
}
