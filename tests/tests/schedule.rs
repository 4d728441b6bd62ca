//! Plans run on time on their own machines, whoever listens: with real programs, a real restic and a clock
//! that goes as this computer's does. It is ahead of that by less than two minutes, so that nobody waits for the
//! first slot.
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop")]

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use schedule::Rhythm;
use serde_json::{Value, json};
use std::{path::Path, time::Duration};
use testkit::{
    agent::Rights,
    clock::Ahead,
    fleet::{Fleet, MACHINE},
    rest_server::Deletes,
    tools::Tools,
    tree, wait_for, wait_for_within,
};

/// A slot a minute, and a repository that is away is asked once a minute: what depends on both.
const WAITS: Duration = Duration::from_mins(5);

/// A slot a minute.
const EACH_MINUTE: &str = "* * * * *";

/// The first run begins so long after the plan has its times: what is done meanwhile is done before it.
const UNTIL_FIRST: SignedDuration = SignedDuration::from_secs(12);

/// A fleet with an initialised repository, and the clock that its programs go by.
async fn fleet(root: &Path) -> (Fleet, Ahead) {
    let source = root.join("source");
    tree::make_small(&source).unwrap();
    let tools = Tools::of_workspace();
    let mut fleet = Fleet::initialised(root, &tools, &source, Deletes::Refused).await.unwrap();
    let clock = Ahead::new(&root.join("clock")).unwrap();
    fleet.agent.stop().await.unwrap();
    fleet.manager.stop().await.unwrap();
    fleet.agent.environment.push(clock.environment());
    fleet.manager.environment.push(clock.environment());
    fleet.manager.start().await.unwrap();
    fleet.agent.start(Rights::Full).unwrap();
    fleet.in_sync().await.unwrap();
    (fleet, clock)
}

/// Gives the plan a slot a minute, the first of which comes soon.
async fn begin_soon(fleet: &Fleet, clock: &Ahead) {
    let zone = TimeZone::system();
    let rhythm = Rhythm::new(EACH_MINUTE.parse().unwrap(), zone, &fleet.host, &fleet.plan);
    let now = Timestamp::now() + UNTIL_FIRST;
    clock.set_before(rhythm.wakes(now, now).unwrap(), UNTIL_FIRST).unwrap();
    set_times(fleet, Some(EACH_MINUTE)).await;
}

/// The runs of the plan that served a slot, newest first.
async fn served(fleet: &Fleet) -> Vec<Value> {
    let runs = fleet.api.get(&format!("/api/runs?plan_id={}&limit=200", fleet.plan)).await.unwrap();
    let runs = runs.as_array().unwrap().iter();
    runs.filter(|run| run["slot"].is_string()).cloned().collect()
}

/// What became of the slots of today and yesterday on the machine, by time.
async fn slots(fleet: &Fleet) -> Vec<Value> {
    let strips = fleet.api.get("/api/slots").await.unwrap();
    let Some(strip) = strips.as_array().unwrap().first() else { return Vec::new() };
    let first: jiff::civil::Date = strip["first"].as_str().unwrap().parse().unwrap();
    let mut slots = Vec::new();
    // Midnight may pass while this test runs.
    for days in [28, 29] {
        let day = first.saturating_add(jiff::Span::new().days(days));
        let host = strip["host_id"].as_str().unwrap();
        let of_day = fleet.api.get(&format!("/api/hosts/{host}/slots?day={day}")).await.unwrap();
        slots.extend(of_day.as_array().unwrap().iter().cloned());
    }
    slots
}

fn time(run: &Value, field: &str) -> Timestamp {
    run[field].as_str().unwrap().parse().unwrap()
}

async fn set_times(fleet: &Fleet, cron: Option<&str>) {
    let plan = format!("/api/plans/{}", fleet.plan);
    fleet.api.put(&plan, &json!({ "cron": cron })).await.unwrap();
    fleet.in_sync().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_runs_with_the_manager_away_and_is_told_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (mut fleet, clock) = fleet(dir.path()).await;
    begin_soon(&fleet, &clock).await;
    fleet.manager.stop().await.unwrap();
    wait_for("a snapshot with nobody listening", async || {
        Ok((fleet.server.snapshots(MACHINE)? > 0).then_some(()))
    })
    .await
    .unwrap();
    // What the agent knows, it still knows after it was killed, and does not do it again.
    fleet.agent.kill_9().await.unwrap();
    fleet.agent.start(Rights::Full).unwrap();
    fleet.manager.start().await.unwrap();
    fleet.in_sync().await.unwrap();
    let runs = wait_for("the runs to be told", async || {
        let runs = served(&fleet).await;
        let is_told = runs.iter().any(|run| run["is_terminal"] == true);
        Ok(is_told.then_some(runs))
    })
    .await
    .unwrap();
    let named: Vec<&str> = runs.iter().map(|run| run["slot"].as_str().unwrap()).collect();
    let mut once = named.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), named.len(), "a slot was served twice: {named:?}");
    for run in runs.iter().filter(|run| run["is_terminal"] == true) {
        assert_eq!((&run["requested_by"], &run["kind"]), (&json!("agent"), &json!("backup")));
        assert!(time(run, "slot") <= time(run, "started_at"), "{run:#}");
        // Perhaps one was killed with its agent.
        assert!(run["status"] == "succeeded" || run["code"] == "interrupted", "{run:#}");
    }
    // Every minute since the plan came is told as what became of it, and those that ran are named.
    let slots = slots(&fleet).await;
    for run in runs.iter().filter(|run| run["status"] == "succeeded") {
        let slot = slots.iter().find(|slot| slot["at"] == run["slot"]).unwrap();
        assert_eq!((&slot["standing"], &slot["run_id"]), (&json!("ran"), &run["id"]));
    }
    assert!(slots.iter().all(|slot| slot["standing"] != "missed"), "{slots:#?}");
    // A plan without times runs by hand only.
    set_times(&fleet, None).await;
    let plan = fleet.api.get(&format!("/api/plans/{}", fleet.plan)).await.unwrap();
    assert!(plan["cron"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_repository_is_told_and_made_up_for_by_one_run() {
    let dir = tempfile::tempdir().unwrap();
    let (mut fleet, clock) = fleet(dir.path()).await;
    // Without the network between, which goes on to answer when the server is gone.
    let repository = format!("/api/repositories/{}", fleet.repository);
    let direct = fleet.server.direct_url(MACHINE);
    fleet.api.put(&repository, &json!({ "url": direct })).await.unwrap();
    fleet.server.kill().await.unwrap();
    begin_soon(&fleet, &clock).await;
    let standing = |slots: &[Value], wanted: &str| {
        slots.iter().find(|slot| slot["standing"] == wanted).map(|slot| slot["at"].clone())
    };
    let waited = wait_for_within("a slot that waits for its repository", WAITS, async || {
        Ok(standing(&slots(&fleet).await, "waiting"))
    })
    .await
    .unwrap();
    assert_eq!(served(&fleet).await.len(), 0, "nothing runs while nothing answers");
    fleet.server.restart().await.unwrap();
    let (slot, run) = wait_for_within("the run that makes up for it", WAITS, async || {
        let slots = slots(&fleet).await;
        let slot = slots.into_iter().find(|slot| slot["at"] == waited).unwrap();
        let run = served(&fleet).await.into_iter().find(|run| run["id"] == slot["run_id"]);
        Ok(run.filter(|run| run["is_terminal"] == true).map(|run| (slot, run)))
    })
    .await
    .unwrap();
    assert_eq!(run["status"], "succeeded", "{run:#}");
    let expected = if run["slot"] == waited { "ran" } else { "covered" };
    assert_eq!(slot["standing"], expected, "{slot:#}");
}
