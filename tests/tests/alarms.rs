//! Alarms reach people with the manager away, once for each change: with real programs, a real restic and
//! real TLS. The clock is set from day to day, since a plan has a slot a day.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop")]

use agent::{
    core::{Memory, RunState},
    paths::StateDir,
    points,
    store::Store,
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use schedule::Rhythm;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use testkit::{
    agent::Rights,
    clock::Ahead,
    fleet::{Fleet, MACHINE},
    rest_server::Deletes,
    tools::Tools,
    tree, wait_for,
    webhook::Webhook,
};

/// So long before a slot its agent starts: it waits for the slot, and not long.
const BEFORE: SignedDuration = SignedDuration::from_secs(2);

const TOKEN: &str = "canary-t0ken";

/// The days of a fleet by the clock of its programs.
struct Days {
    clock: Ahead,
    rhythm: Rhythm,
    /// When the run of today begins.
    begins: Timestamp,
}

impl Days {
    /// Sets the clock to a moment before the run of the next day.
    fn go_on(&mut self) {
        self.begins = self.rhythm.wakes(self.begins, self.begins).unwrap();
        self.clock.set_before(self.begins, BEFORE).unwrap();
    }
}

/// A fleet whose machine tells its alarms to a webhook.
struct Scene {
    fleet: Fleet,
    days: Days,
    place: PathBuf,
    aside: PathBuf,
}

impl Scene {
    async fn new(root: &Path, hook: &Webhook) -> Self {
        let source = root.join("source");
        tree::make_small(&source).unwrap();
        let mut fleet = Fleet::initialised(root, &Tools::of_workspace(), &source, Deletes::Refused)
            .await
            .unwrap();
        let clock = Ahead::new(&root.join("clock")).unwrap();
        // The authority is one that the machine's admin has added to its list.
        fleet.agent.stop().await.unwrap();
        let trusted = hook.ca_file.display().to_string();
        fleet.agent.environment.push(("SSL_CERT_FILE".to_owned(), trusted));
        fleet.agent.environment.push(clock.environment());
        // From its next start on.
        fleet.manager.environment.push(clock.environment());
        fleet.agent.start(Rights::Full).unwrap();
        let form = json!({"name": "Chat", "kind": "webhook", "url": hook.url, "token": TOKEN, "all_hosts": true});
        fleet.api.post("/api/alarm-channels", &form).await.unwrap();
        // Once a day, in half a day: no slot comes but by the clock that is set.
        let begins = Timestamp::now();
        let zone = TimeZone::system();
        let at = zone.to_datetime(begins + SignedDuration::from_hours(12));
        let cron = format!("{} {} * * *", at.minute(), at.hour());
        let plan = format!("/api/plans/{}", fleet.plan);
        fleet.api.put(&plan, &json!({ "cron": cron })).await.unwrap();
        fleet.in_sync().await.unwrap();
        let rhythm = Rhythm::new(cron.parse().unwrap(), zone, &fleet.host, &fleet.plan);
        let place = fleet.server.folder(MACHINE);
        let days = Days { clock, rhythm, begins };
        Self { fleet, days, place, aside: root.join("aside") }
    }

    fn take_repository_away(&self) {
        std::fs::rename(&self.place, &self.aside).unwrap();
    }

    fn put_repository_back(&self) {
        std::fs::rename(&self.aside, &self.place).unwrap();
    }

    /// Starts the agent on the next day, so that it ends at this point, as by a loss of power; or not at
    /// all.
    fn start_on_next_day(&mut self, until: Option<&str>) {
        self.days.go_on();
        let agent = &mut self.fleet.agent;
        agent.environment.retain(|(name, _)| name != points::VARIABLE);
        let variable = until.map(|point| (points::VARIABLE.to_owned(), point.to_owned()));
        agent.environment.extend(variable);
        agent.start(Rights::Full).unwrap();
    }

    /// What the agent has on its disk.
    async fn memory(&self) -> Memory {
        let path = StateDir::new(self.fleet.agent.state()).database();
        Store::open_to_read(&path).await.unwrap().load().await.unwrap()
    }

    /// Waits until the agent knows of so many runs that have ended.
    async fn wait_for_ended(&self, count: usize) {
        wait_for(&format!("{count} runs to have ended"), async || {
            let runs = self.memory().await.runs;
            let ended = runs.iter().filter(|run| run.state == RunState::Finished).count();
            assert!(ended <= count, "{runs:#?}");
            Ok((ended == count).then_some(()))
        })
        .await
        .unwrap();
    }

    /// Waits until the agent has written down what became of all that it told.
    async fn wait_for_noted(&self) {
        wait_for("the agent to note what came of it", async || {
            Ok(self.memory().await.deliveries.is_empty().then_some(()))
        })
        .await
        .unwrap();
    }

    async fn alarms(&self) -> Vec<Value> {
        self.fleet.api.get("/api/alarms").await.unwrap().as_array().unwrap().clone()
    }

    /// The manager is back, days later: whoever was signed in is not any more.
    async fn start_manager(&mut self) {
        self.fleet.manager.start().await.unwrap();
        self.fleet.api = self.fleet.manager.api().await.unwrap();
    }
}

async fn wait_for_states(hook: &Webhook, wanted: &[&str]) {
    wait_for(&format!("the webhook to hear {wanted:?}"), async || {
        Ok((hook.states() == wanted).then_some(()))
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}: {:#?}", hook.told()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_and_its_end_are_told_once_each_with_nobody_listening() {
    let dir = tempfile::tempdir().unwrap();
    let hook = Webhook::start(dir.path()).await.unwrap();
    let mut scene = Scene::new(dir.path(), &hook).await;
    let fleet = &mut scene.fleet;
    let channels = fleet.api.get("/api/alarm-channels").await.unwrap();
    assert!(!channels.to_string().contains(TOKEN) && !channels.to_string().contains(&hook.url));
    let test = format!("/api/alarm-channels/{}/test", channels[0]["id"].as_str().unwrap());
    let tried = fleet.api.post(&test, &json!({ "host_id": fleet.host })).await.unwrap();
    assert_eq!(tried["machine"], MACHINE);
    assert_eq!(hook.states(), ["test"]);
    fleet.manager.stop().await.unwrap();
    fleet.agent.stop().await.unwrap();
    scene.take_repository_away();
    scene.start_on_next_day(None);
    wait_for_states(&hook, &["test", "failed"]).await;
    let told = &hook.told()[1..];
    assert_eq!(told[0].line, "POST /hook");
    assert!(told[0].head.contains(&format!("authorization: bearer {TOKEN}")), "{}", told[0].head);
    let body = &told[0].body;
    assert_eq!(
        (&body["plan"], &body["repository"]),
        (&json!("Everything that matters"), &json!("Attic"))
    );
    assert_eq!(body["code"], "repository_missing");
    let text = body.to_string();
    for secret in
        [&scene.fleet.secrets.repository, &scene.fleet.secrets.credential, "source", TOKEN]
    {
        assert!(!text.contains(secret), "{text}");
    }
    // It fails once more, in an agent that was killed meanwhile, and nobody is told again.
    scene.wait_for_noted().await;
    scene.fleet.agent.kill_9().await.unwrap();
    scene.start_on_next_day(None);
    scene.wait_for_ended(3).await;
    scene.fleet.agent.stop().await.unwrap();
    scene.put_repository_back();
    scene.start_on_next_day(None);
    wait_for_states(&hook, &["test", "failed", "good"]).await;
    scene.start_manager().await;
    scene.fleet.in_sync().await.unwrap();
    let mut seen = Vec::new();
    let alarms = wait_for("the manager to hear of both", async || {
        seen = scene.alarms().await;
        let sent = |alarm: &Value| alarm["deliveries"][0]["result"] == "sent";
        Ok((seen.len() == 2 && seen.iter().all(sent)).then_some(seen.clone()))
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}: {seen:#?}"));
    assert_eq!((&alarms[0]["state"], &alarms[0]["was"]), (&json!("good"), &json!("failed")));
    assert_eq!(
        (&alarms[1]["state"], &alarms[1]["code"]),
        (&json!("failed"), &json!("repository_missing"))
    );
    assert_eq!(alarms[1]["deliveries"][0]["channel_name"], "Chat");
    assert_eq!(hook.states(), ["test", "failed", "good"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dies_while_it_tells_loses_a_message_and_never_doubles_one() {
    let dir = tempfile::tempdir().unwrap();
    let hook = Webhook::start(dir.path()).await.unwrap();
    let mut scene = Scene::new(dir.path(), &hook).await;
    scene.fleet.manager.stop().await.unwrap();
    scene.fleet.agent.stop().await.unwrap();
    scene.take_repository_away();
    scene.start_on_next_day(Some("before-alarm-sent"));
    scene.fleet.agent.crashed().await.unwrap();
    assert_eq!(hook.states(), [""; 0]);
    // It fails once more, which is no news, and what it wanted to tell is not tried again.
    scene.start_on_next_day(None);
    scene.wait_for_ended(3).await;
    scene.fleet.agent.stop().await.unwrap();
    assert_eq!(hook.states(), [""; 0]);
    scene.put_repository_back();
    scene.start_on_next_day(Some("after-alarm-sent"));
    scene.fleet.agent.crashed().await.unwrap();
    assert_eq!(hook.states(), ["good"]);
    scene.start_on_next_day(None);
    scene.wait_for_ended(5).await;
    assert_eq!(hook.states(), ["good"]);
    scene.start_manager().await;
    wait_for("the manager to hear that nobody knows", async || {
        let alarms = scene.alarms().await;
        let unsure = |alarm: &Value| alarm["deliveries"][0]["result"] == "uncertain";
        Ok((alarms.len() == 2 && alarms.iter().all(unsure)).then_some(()))
    })
    .await
    .unwrap();
}
