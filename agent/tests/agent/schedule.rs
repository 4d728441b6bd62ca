//! The agent's own schedule in the running agent, over the machine's real gates and a real probe.

use crate::support::{Authority, Bench, FakeManager, plan, plan_id};
use jiff::SignedDuration;
use protocol::{FromAgent, JobStarted, Schedule};
use schedule::{Clock, ManualClock, SystemClock};
use std::sync::Arc;

#[tokio::test]
async fn what_was_due_while_the_agent_was_off_runs_at_its_start_through_open_gates() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    std::fs::create_dir(bench.repository()).unwrap();
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    manager.enrol(&bench.state).await;
    let agent = bench.start_by(clock.clone()).await;
    let mut session = manager.session().await;
    assert_eq!(session.hello().awake_since, Some(clock.now()));
    let plan = Schedule {
        cron_expr: "0 2 * * *".to_owned(),
        // A gate that nobody can look at is open, and a machine that runs tests is hardly on its battery.
        options: Some(serde_json::json!({ "not_metered": true })),
        ..plan(&bench.source())
    };
    session.desire_plan(&manager, 1, &bench.repository(), plan, Vec::new()).await;
    agent.stop().await;

    clock.advance(SignedDuration::from_hours(49));
    let agent = bench.start_by(clock.clone()).await;
    let mut session = manager.session().await;
    assert_eq!(session.hello().awake_since, Some(clock.now()));
    let started: JobStarted = session
        .until(|what| match what {
            FromAgent::JobStarted(started) => Some(started),
            _ => None,
        })
        .await;
    assert_eq!(
        (started.schedule_id, started.command, started.attempt),
        (Some(plan_id()), None, None)
    );
    assert!(started.slot.is_some_and(|slot| slot <= clock.now()), "{started:?}");
    session.until_finished(started.job_id).await;
    agent.stop().await;
}
