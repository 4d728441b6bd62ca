//! Clocks are set, forward and back, while programs go by them.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::{Value, json};
use testkit::{
    agent::Rights,
    clock::Ahead,
    counted::Counted,
    fleet::{Fleet, MACHINE, text},
    proxy::Mode,
    rest_server::Deletes,
    told,
    tools::Tools,
    tree, wait_for,
};

const DAY: i64 = 24 * 60 * 60;

/// A fleet whose agent and manager go by clocks of their own, and a restic that counts.
struct Scene {
    fleet: Fleet,
    restic: Counted,
    agents: Ahead,
    managers: Ahead,
    _dir: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let source = root.join("source");
        tree::make_small(&source).unwrap();
        let tools = Tools::of_workspace();
        let mut fleet = Fleet::initialised(root, &tools, &source, Deletes::Allowed).await.unwrap();
        let restic = Counted::new(&root.join("counted"), &tools.restic().unwrap()).unwrap();
        let agents = Ahead::new(&root.join("clock of the agent")).unwrap();
        let managers = Ahead::new(&root.join("clock of the manager")).unwrap();
        fleet.agent.stop().await.unwrap();
        fleet.manager.stop().await.unwrap();
        fleet.agent.restic.clone_from(&restic.program);
        fleet.agent.environment.push(agents.environment());
        fleet.manager.environment.push(managers.environment());
        fleet.manager.start().await.unwrap();
        fleet.agent.start(Rights::Full).unwrap();
        fleet.in_sync().await.unwrap();
        Self { fleet, restic, agents, managers, _dir: dir }
    }

    /// A backup that a person asks for, and that its machine lists.
    async fn backs_up(&self) {
        let run = self.fleet.run(&self.fleet.backup()).await.unwrap();
        let run = run.expect("succeeded").unwrap();
        self.fleet.lists(&run.snapshot().unwrap()).await.unwrap();
    }

    /// A backup that has begun, and stays where it is until the network is open again.
    async fn begins(&self) -> String {
        self.fleet.server.network.set(Mode::Silent);
        let run = self.fleet.ask(&self.fleet.backup()).await.unwrap();
        self.fleet.reaches(&run, &["running"]).await.unwrap();
        run
    }

    async fn ends_well(&self, run: &str) {
        self.fleet.server.network.set(Mode::Open);
        self.fleet.reaches(run, &["succeeded"]).await.unwrap();
    }

    /// The runs that nobody asked for, once there are so many that have ended.
    async fn by_the_clock(&self, count: usize) -> Vec<Value> {
        wait_for(&format!("{count} runs by the clock"), async || {
            let runs = self.fleet.api.get("/api/runs?limit=200").await?;
            let runs = runs.as_array().unwrap().iter();
            let told: Vec<Value> =
                runs.filter(|run| run["requested_by"] == "agent").cloned().collect();
            let are_over = told.iter().all(|run| run["is_terminal"] == true);
            Ok((are_over && told.len() >= count).then_some(told))
        })
        .await
        .unwrap()
    }

    /// Both sides tell the same, and each backup wrote one snapshot.
    async fn all_agrees(&self) {
        told::idle(&self.fleet.agent, &self.fleet.api).await.unwrap();
        let written = told::written(&self.fleet.agent).await.unwrap();
        let mut backups = 0;
        for run in written.keys() {
            let shown = told::agree(&self.fleet.api, run, &written).await.unwrap();
            assert_eq!(shown["status"], "succeeded", "{shown:#}");
            if shown["kind"] == "backup" {
                backups += 1;
                assert_eq!(self.restic.backups(run).unwrap(), 1);
            }
        }
        assert_eq!(self.fleet.server.snapshots(MACHINE).unwrap(), backups);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_clock_is_set_serves_a_slot_once_each_time_that_it_comes() {
    let scene = Scene::new().await;
    let fleet = &scene.fleet;
    // Once a day, in half a day: no slot comes but by the clock that is set.
    let at = Timestamp::now() + SignedDuration::from_hours(12);
    let at = TimeZone::system().to_datetime(at);
    let cron = format!("{} {} * * *", at.minute(), at.hour());
    let plan = format!("/api/plans/{}", fleet.plan);
    fleet.api.put(&plan, &json!({ "cron": cron })).await.unwrap();
    fleet.in_sync().await.unwrap();
    scene.backs_up().await;

    // A run that goes on is not too long, and does not stall, because the clock says so.
    let going = scene.begins().await;
    scene.agents.set(DAY).unwrap();
    scene.ends_well(&going).await;
    assert_eq!(scene.by_the_clock(1).await.len(), 1);
    scene.backs_up().await;

    let going = scene.begins().await;
    scene.agents.set(0).unwrap();
    scene.ends_well(&going).await;
    scene.backs_up().await;
    assert_eq!(scene.by_the_clock(1).await.len(), 1, "what was served is not served again");

    // What the clock shows once more may run once more, and no more than that.
    scene.agents.set(DAY).unwrap();
    assert_eq!(scene.by_the_clock(2).await.len(), 2);
    scene.agents.set(0).unwrap();
    scene.backs_up().await;
    let told = scene.by_the_clock(2).await;
    assert_eq!(told.len(), 2);
    // The manager believes nothing about a time that is still to come.
    assert!(told.iter().all(|run| run["slot"].is_null()), "{told:#?}");
    scene.all_agrees().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_whose_clock_is_set_lets_runs_expire_once_and_still_knows_its_machines() {
    let mut scene = Scene::new().await;
    scene.fleet.agent.stop().await.unwrap();
    let late = scene.fleet.ask(&scene.fleet.backup()).await.unwrap();
    scene.managers.set(60 * DAY).unwrap();
    // That a session is over after hours is right by this clock.
    scene.fleet.api = scene.fleet.manager.api().await.unwrap();
    scene.fleet.reaches(&late, &["expired"]).await.unwrap();

    for ahead in [60 * DAY, 0, -DAY, 0] {
        scene.managers.set(ahead).unwrap();
        if ahead == -DAY {
            // What knows its certificates takes them still.
            scene.fleet.manager.stop().await.unwrap();
            scene.fleet.manager.start().await.unwrap();
        }
        // A session that began by another clock may be over by this one.
        scene.fleet.api = scene.fleet.manager.api().await.unwrap();
        if scene.fleet.agent.process().is_err() {
            scene.fleet.agent.start(Rights::Full).unwrap();
        }
        let host = scene.fleet.in_sync().await.unwrap();
        assert_eq!(text(&host, "id").unwrap(), scene.fleet.host);
        scene.backs_up().await;
    }
    let shown = scene.fleet.show(&late).await.unwrap();
    assert_eq!(shown["status"], "expired", "{shown:#}");
    assert_eq!(scene.restic.backups(&late).unwrap(), 0);
    scene.all_agrees().await;
}
