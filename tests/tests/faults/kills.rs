//! Agent and manager are killed again and again, at any moment, and started again at once.

use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
    process::Command,
    time::Duration,
};
use testkit::{
    agent::Rights,
    api::Api,
    counted::Counted,
    dice::Dice,
    fleet::{Fleet, MACHINE, text},
    process::{Orphan, Process},
    rest_server::Deletes,
    told,
    tools::Tools,
    tree, wait_for,
};

/// Names the seed of the rounds, to play them once more.
const SEED: &str = "RESTIC_MANAGER_TEST_SEED";
const ROUNDS: u64 = 50;
/// The latest moment of a round at which somebody dies: a backup of the small tree takes about as long.
const LONGEST_MILLIS: u64 = 2500;
/// So many runs may be open before those that go on get the time to end.
const MOST_OPEN: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_at_any_moment_lose_nothing_and_do_nothing_twice() {
    let seed = match env::var(SEED) {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => getrandom::u64().unwrap(),
    };
    println!("{SEED}={seed}");
    // Beside each other, since in most of a round nothing is done but waiting.
    let (one, other) = tokio::join!(play(seed), play(seed.wrapping_add(1)));
    let (mut ends, by_the_clock) = (one.ends, one.by_the_clock + other.by_the_clock);
    for (status, count) in other.ends {
        *ends.entry(status).or_insert(0) += count;
    }
    println!("{ends:?}, {by_the_clock} by the clock");
    // Rounds in which nobody died in the middle of anything would show nothing.
    assert!(ends["succeeded"] > 5 && ends["interrupted"] > 3, "{ends:?}");
}

/// What became of the runs of a fleet.
struct Played {
    /// How many ended in which way.
    ends: BTreeMap<String, usize>,
    by_the_clock: usize,
}

/// Plays half of the rounds with a fleet of its own.
async fn play(seed: u64) -> Played {
    let dir = tempfile::tempdir().unwrap();
    let mut rounds = Rounds::new(dir.path(), seed).await;
    for _ in 0..ROUNDS / 2 {
        rounds.play().await;
    }
    rounds.come_to_rest().await;
    rounds.judge().await
}

/// Who dies in a round.
#[derive(Clone, Copy, Debug)]
enum Dies {
    Agent,
    Manager,
    Both,
    /// The agent's machine loses its power: every restic dies with it and leaves its lock.
    Machine,
}

struct Rounds {
    fleet: Fleet,
    dice: Dice,
    restic: Counted,
    /// The plans, all with one repository.
    plans: Vec<String>,
    /// The lock of another machine, which nobody may remove.
    foreign: String,
    /// What was running when its agent died.
    orphans: Vec<Orphan>,
    /// Runs that had ended when somebody looked.
    ended: BTreeMap<String, Value>,
}

impl Rounds {
    async fn new(root: &Path, seed: u64) -> Self {
        let source = root.join("source");
        tree::make_small(&source).unwrap();
        let tools = Tools::of_workspace();
        let mut fleet = Fleet::initialised(root, &tools, &source, Deletes::Allowed).await.unwrap();
        let restic = Counted::new(&root.join("counted"), &tools.restic().unwrap()).unwrap();
        fleet.agent.stop().await.unwrap();
        fleet.agent.restic.clone_from(&restic.program);
        fleet.agent.start(Rights::Full).unwrap();
        let mut plans = vec![fleet.plan.clone()];
        for name in ["Once more", "And again"] {
            let form = json!({
                "name": name, "repository_id": fleet.repository, "paths": [source],
                "host_ids": [fleet.host],
            });
            plans.push(text(&fleet.api.post("/api/plans", &form).await.unwrap(), "id").unwrap());
        }
        // The first one runs by the clock too.
        let path = format!("/api/plans/{}", fleet.plan);
        fleet.api.put(&path, &json!({ "cron": "* * * * *" })).await.unwrap();
        fleet.in_sync().await.unwrap();
        let foreign = foreign_lock(&fleet, &tools.restic().unwrap(), root).await;
        let (dice, orphans, ended) = (Dice::new(seed), Vec::new(), BTreeMap::new());
        Self { fleet, dice, restic, plans, foreign, orphans, ended }
    }

    /// Somebody asks for runs, and somebody dies.
    async fn play(&mut self) {
        let api = self.fleet.api.clone();
        if open(&api).await > MOST_OPEN {
            wait_for("some runs to end", async || {
                Ok((open(&api).await <= MOST_OPEN / 2).then_some(()))
            })
            .await
            .unwrap();
        }
        let requests: Vec<Value> = (0..=self.dice.below(3)).map(|_| self.request()).collect();
        let dies = match self.dice.below(10) {
            0..4 => Dies::Agent,
            4..7 => Dies::Manager,
            7..9 => Dies::Both,
            _ => Dies::Machine,
        };
        let moment = Duration::from_millis(self.dice.below(LONGEST_MILLIS));
        let waits_for_ends = self.dice.below(5) == 0;
        let host = self.fleet.host.clone();
        let asks = async {
            for request in requests {
                // The answer may be lost with the manager, or refuse what is open already. What came
                // of it is looked up.
                let _ = api.post(&format!("/api/hosts/{host}/runs"), &request).await;
            }
        };
        let kills = async {
            if waits_for_ends {
                // However busy this computer is, some runs come to their end, and to what follows it.
                wait_for("the runs to end", async || Ok((open(&api).await == 0).then_some(())))
                    .await
                    .unwrap();
            }
            // No condition is waited for: the moment is what the dice say.
            tokio::time::sleep(moment).await;
            match dies {
                Dies::Agent => self.kill_agent(false).await,
                Dies::Manager => self.fleet.manager.kill_9().await.unwrap(),
                Dies::Both => {
                    self.kill_agent(false).await;
                    self.fleet.manager.kill_9().await.unwrap();
                }
                Dies::Machine => self.kill_agent(true).await,
            }
        };
        tokio::join!(asks, kills);
        if !matches!(dies, Dies::Manager) {
            self.fleet.agent.start(Rights::Full).unwrap();
        }
        if matches!(dies, Dies::Manager | Dies::Both) {
            self.fleet.manager.start().await.unwrap();
        }
        self.look().await;
    }

    fn request(&mut self) -> Value {
        let (fleet, dice) = (&self.fleet, &mut self.dice);
        match dice.below(5) {
            // Stopped by the foreign lock.
            0 => json!({ "kind": "check", "repository_id": fleet.repository }),
            n => json!({ "kind": "backup", "plan_id": self.plans[n as usize % self.plans.len()] }),
        }
    }

    /// Kills the agent, and what it started if the whole machine dies.
    async fn kill_agent(&mut self, with_machine: bool) {
        let agent = self.fleet.agent.process().unwrap();
        // Stopped, it starts nothing between the look at its children and its end.
        agent.signal(Signal::STOP).unwrap();
        let children: Vec<Pid> = agent.children().unwrap().into_iter().map(|(id, _)| id).collect();
        let orphans: Vec<Orphan> =
            children.iter().map(|child| Orphan::of(*child).unwrap()).collect();
        if with_machine {
            // restic would hear that its agent is gone, and remove its lock.
            for child in &children {
                let _ = kill_process(*child, Signal::STOP);
            }
        }
        self.fleet.agent.kill_9().await.unwrap();
        if with_machine {
            for child in &children {
                let _ = kill_process(*child, Signal::KILL);
            }
            // A machine that starts again knows nothing of its earlier processes.
            for orphan in orphans {
                orphan.buried().await.unwrap();
            }
        } else {
            self.orphans.extend(orphans);
        }
    }

    /// What has ended stays as it is.
    async fn look(&mut self) {
        for run in runs(&self.fleet.api).await {
            if run["is_terminal"] != true {
                continue;
            }
            let id = text(&run, "id").unwrap();
            let end: Value = ["status", "code", "finished_at", "snapshot_id", "log_lines", "error"]
                .iter()
                .map(|field| run[field].clone())
                .collect();
            let before = self.ended.entry(id).or_insert_with(|| end.clone());
            assert_eq!(*before, end, "an end changed: {run:#}");
        }
    }

    async fn come_to_rest(&mut self) {
        let path = format!("/api/plans/{}", self.fleet.plan);
        self.fleet.api.put(&path, &json!({ "cron": null })).await.unwrap();
        self.fleet.in_sync().await.unwrap();
        told::idle(&self.fleet.agent, &self.fleet.api).await.unwrap();
        for orphan in std::mem::take(&mut self.orphans) {
            orphan.buried().await.unwrap();
        }
        self.look().await;
    }

    /// Holds what must hold in the end, and tells what became of the runs.
    async fn judge(&mut self) -> Played {
        let written = told::written(&self.fleet.agent).await.unwrap();
        let runs = runs(&self.fleet.api).await;
        let known: BTreeSet<String> = runs.iter().map(|run| text(run, "id").unwrap()).collect();
        let there: BTreeSet<String> = written.keys().cloned().collect();
        assert_eq!(known, there, "runs of the manager, and of the agent");
        let (mut ends, mut slots) = (BTreeMap::new(), BTreeSet::new());
        for run in &known {
            let shown = told::agree(&self.fleet.api, run, &written).await.unwrap();
            let status = text(&shown, "status").unwrap();
            *ends.entry(status.clone()).or_insert(0) += 1;
            match status.as_str() {
                "succeeded" | "interrupted" => {}
                // The foreign lock stands in the way of what needs the repository for itself.
                "failed" => assert_eq!(
                    (&shown["kind"], &shown["code"]),
                    (&json!("check"), &json!("repository_locked")),
                    "{shown:#}"
                ),
                _ => panic!("nothing ends so here: {shown:#}"),
            }
            let backups = self.restic.backups(run).unwrap();
            assert!(backups <= 1, "restic ran {backups} times for {shown:#}");
            if let Some(slot) = shown["slot"].as_str() {
                assert!(slots.insert(slot.to_owned()), "{slot} was served twice");
            }
        }
        one_at_a_time(&runs);
        let notices = self.fleet.api.get("/api/notices").await.unwrap();
        assert_eq!(notices, json!([]), "nothing of this is for a person to decide");
        self.judge_repository(&runs).await;
        Played { ends, by_the_clock: slots.len() }
    }

    async fn judge_repository(&mut self, runs: &[Value]) {
        let fleet = &self.fleet;
        let listed = format!("/api/repositories/{}/snapshots", fleet.repository);
        let there = self.snapshots();
        wait_for("the list to be that of the repository", async || {
            let list = fleet.api.get(&listed).await?;
            let all = list["snapshots"].as_array().unwrap().iter();
            let here: BTreeSet<String> = all.map(|one| text(one, "id").unwrap()).collect();
            Ok(there.keys().cloned().eq(here).then_some(()))
        })
        .await
        .unwrap();
        for run in runs {
            let tag = format!("run:{}", text(run, "id").unwrap());
            let of_run: Vec<&String> =
                there.iter().filter(|(_, tags)| tags.contains(&tag)).map(|(id, _)| id).collect();
            let expected: Vec<&str> = run["snapshot_id"].as_str().into_iter().collect();
            assert_eq!(of_run, expected, "snapshots of {run:#}");
        }
        // The agent itself may still be reading.
        wait_for("no restic to be left", async || {
            Ok(left_over(&fleet.server.url(MACHINE)).is_empty().then_some(()))
        })
        .await
        .unwrap();
        // Whatever lock of ours stands in the way is removed; the foreign one stands for ever.
        let lock = fleet.server.folder(MACHINE).join("locks").join(&self.foreign);
        assert!(lock.exists(), "a foreign lock was removed");
        fs::remove_file(lock).unwrap();
        let check = json!({ "kind": "check", "repository_id": fleet.repository });
        fleet.run(&check).await.unwrap().expect("succeeded").unwrap();
        assert_eq!(fleet.server.locks(MACHINE).unwrap(), 0);
    }

    /// The snapshots of the repository and their tags, as restic tells them.
    fn snapshots(&self) -> BTreeMap<String, Vec<String>> {
        let mut restic = plain(&self.fleet, &Tools::of_workspace().restic().unwrap());
        let output = restic.args(["snapshots", "--json", "--no-lock"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let list: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let tags = |one: &Value| serde_json::from_value(one["tags"].clone()).unwrap();
        list.iter().map(|one| (text(one, "id").unwrap(), tags(one))).collect()
    }
}

/// The newest runs of the fleet, which are all.
async fn runs(api: &Api) -> Vec<Value> {
    let runs = api.get("/api/runs?limit=200").await.unwrap();
    let runs = runs.as_array().unwrap().clone();
    assert!(runs.len() < 200, "there may be more");
    runs
}

/// All of them work on one repository, so none began before the one before it had ended.
fn one_at_a_time(runs: &[Value]) {
    let mut begun: Vec<(Timestamp, Timestamp)> = runs.iter().filter_map(times).collect();
    begun.sort_unstable();
    for pair in begun.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "two runs at once: {pair:?}");
    }
}

/// When a run began, if it did, and when it ended.
fn times(run: &Value) -> Option<(Timestamp, Timestamp)> {
    let time = |field: &str| run[field].as_str().map(|text| text.parse().unwrap());
    Some((time("started_at")?, time("finished_at")?))
}

async fn open(api: &Api) -> usize {
    api.get("/api/runs?open=true&limit=200").await.unwrap().as_array().unwrap().len()
}

/// restic on the folder itself.
fn plain(fleet: &Fleet, restic: &Path) -> Command {
    let mut command = Command::new(restic);
    command.env("RESTIC_PASSWORD", &fleet.secrets.repository);
    command.args(["--no-cache", "--repo"]).arg(fleet.server.folder(MACHINE));
    command
}

/// Leaves the lock of a restic that died on another machine. Its name.
async fn foreign_lock(fleet: &Fleet, restic: &Path, root: &Path) -> String {
    let mut elsewhere = Command::new("unshare");
    elsewhere.args(["--map-root-user", "--uts", "sh", "-c"]);
    elsewhere.args([r#"hostname elsewhere && exec "$@""#, "sh"]);
    let inner = plain(fleet, restic);
    elsewhere.arg(inner.get_program()).args(inner.get_args()).args(["backup", "--stdin"]);
    elsewhere.env("RESTIC_PASSWORD", &fleet.secrets.repository);
    let process = Process::spawn_asking("elsewhere", elsewhere, root).unwrap();
    wait_for("the foreign lock", async || Ok((fleet.server.locks(MACHINE)? == 1).then_some(())))
        .await
        .unwrap();
    process.kill_9().await.unwrap();
    let names = tree::names(&fleet.server.folder(MACHINE).join("locks")).unwrap();
    names[0].to_str().unwrap().to_owned()
}

/// The processes that still work on this repository.
fn left_over(url: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        // What ends while it is looked at is not there, and what is somebody else's is none of ours.
        let Ok(environment) = fs::read(entry.path().join("environ")) else { continue };
        if String::from_utf8_lossy(&environment).contains(url) {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push(String::from_utf8_lossy(&line).replace('\0', " "));
        }
    }
    found
}
