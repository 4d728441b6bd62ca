//! Slots: what the manager says of each time at which a plan should have run, from what agents told.

use crate::double::{Agent, Fleet, Link, finished, run_id};
use jiff::{SignedDuration, Timestamp};
use protocol::{
    AwakeInterval, Code, FromAgent, Hello, Hook, JobKind, JobStarted, JobStatus, PlanId, RunId,
    ScheduleAck, SeenManager, SlotDeferred, ToAgent,
};
use schedule::{Clock, slots::Standing};
use server::{
    db::plans,
    desired,
    slots::{self, Day},
};

/// A plan of these times on an agent's machine.
async fn timed(fleet: &Fleet, agent: &Agent, plan: PlanId, cron: &str) {
    let mut tx = fleet.db().begin().await.unwrap();
    let mut changed = plans::find(&mut *tx, plan).await.unwrap().unwrap();
    changed.cron = cron.to_owned();
    plans::update(&mut tx, &changed).await.unwrap();
    plans::assign(&mut tx, plan, agent.host()).await.unwrap();
    desired::touch_hosts(fleet.manager(), &mut tx, &[agent.host()]).await.unwrap();
    tx.commit().await.unwrap();
    fleet.manager().links().wake(agent.host()).await;
}

/// Applies the desired state that the manager sends, at this moment and in this zone.
async fn apply(link: &mut Link, agent: &mut Agent, at: Timestamp, zone: &str) {
    let set = loop {
        match link.told().await {
            ToAgent::ScheduleSet(set) => break set,
            ToAgent::ConfigUpdate(_) => {}
            other => panic!("{other:?}"),
        }
    };
    say(link, agent, &ack(&set, at, zone)).await;
}

fn ack(set: &protocol::ScheduleSet, at: Timestamp, zone: &str) -> FromAgent {
    FromAgent::ScheduleAck(ScheduleAck {
        version: set.version,
        applied_at: at,
        generation: set.generation,
        digest: set.digest.clone(),
        time_zone: Some(zone.to_owned()),
    })
}

async fn say(link: &mut Link, agent: &mut Agent, what: &FromAgent) {
    let frame = agent.journal.push(what);
    link.send_frame(&frame).await;
    link.until_acked(frame.seq.unwrap()).await;
}

fn started(run: RunId, plan: PlanId, slot: Timestamp) -> FromAgent {
    FromAgent::JobStarted(JobStarted {
        job_id: run,
        kind: JobKind::Backup,
        started_at: slot + SignedDuration::from_mins(3),
        schedule_id: Some(plan),
        repository_id: None,
        command: None,
        slot: Some(slot),
        attempt: None,
    })
}

fn moment(text: &str) -> Timestamp {
    text.parse().unwrap()
}

async fn day(fleet: &Fleet, agent: &Agent, day: &str) -> Vec<(Timestamp, Standing, Option<RunId>)> {
    let slots = slots::of_day(fleet.manager(), agent.host(), day.parse().unwrap()).await.unwrap();
    slots.into_iter().map(|it| (it.slot.at, it.slot.standing, it.slot.run)).collect()
}

async fn last_days(fleet: &Fleet, agent: &Agent, days: usize) -> Vec<Option<Standing>> {
    let ledger = slots::of_host(fleet.manager(), agent.host()).await.unwrap();
    let strip = ledger.strips.get(&agent.host());
    strip.map_or(Vec::new(), |strip| {
        strip.days.iter().map(Day::worst).skip(strip.days.len() - days).collect()
    })
}

#[tokio::test]
async fn each_time_of_a_plan_is_told_by_what_the_agent_said_of_it() {
    let fleet = Fleet::start().await;
    let (plan, _) = fleet.plan().await;
    let mut agent = fleet.agent("box").await;
    timed(&fleet, &agent, plan, "0 2 * * *").await;
    assert_eq!(last_days(&fleet, &agent, 4).await, [], "nothing was applied yet");
    let (mut link, _) = agent.connect().await;
    // In Berlin it is one o'clock in the afternoon.
    apply(&mut link, &mut agent, fleet.clock.now(), "Europe/Berlin").await;
    let nights =
        ["24", "25", "26", "27", "28"].map(|day| moment(&format!("2026-11-{day}T01:00:00Z")));
    // One ran, one could not, the next two made up for by the one after them.
    let began = fleet.clock.now();
    fleet.clock.set(moment("2026-11-28T12:00:00Z"));
    say(&mut link, &mut agent, &started(run_id(1), plan, nights[0])).await;
    say(&mut link, &mut agent, &finished(run_id(1), JobStatus::Partial)).await;
    let awake = AwakeInterval { from: began, until: nights[0] + SignedDuration::from_hours(3) };
    say(&mut link, &mut agent, &FromAgent::AgentAwake(awake)).await;
    let deferred = SlotDeferred {
        schedule_id: plan,
        slot: nights[4],
        at: nights[4] + SignedDuration::from_mins(2),
        code: Code::RepositoryUnreachable,
    };
    say(&mut link, &mut agent, &started(run_id(2), plan, nights[3])).await;
    say(&mut link, &mut agent, &finished(run_id(2), JobStatus::Succeeded)).await;
    say(&mut link, &mut agent, &FromAgent::SlotDeferred(deferred)).await;
    drop(link);
    let (mut link, _) = agent.connect().await;
    link.settle(&mut agent).await;

    assert_eq!(
        day(&fleet, &agent, "2026-11-24").await,
        [(nights[0], Standing::Partial, Some(run_id(1)))]
    );
    assert_eq!(
        day(&fleet, &agent, "2026-11-26").await,
        [(nights[2], Standing::Covered, Some(run_id(2)))]
    );
    let expected = [
        None,
        Some(Standing::Partial),
        Some(Standing::Covered),
        Some(Standing::Covered),
        Some(Standing::Ran),
        Some(Standing::Waiting),
    ];
    assert_eq!(last_days(&fleet, &agent, 6).await, expected);

    // The next night nothing is heard of the machine.
    fleet.clock.set(moment("2026-11-29T12:00:00Z"));
    assert_eq!(last_days(&fleet, &agent, 2).await[1], Some(Standing::Unknown));
}

#[tokio::test]
async fn an_edit_never_rewrites_the_past() {
    let fleet = Fleet::start().await;
    let (plan, _) = fleet.plan().await;
    let mut agent = fleet.agent("box").await;
    timed(&fleet, &agent, plan, "0 14 * * *").await;
    let (mut link, _) = agent.connect().await;
    apply(&mut link, &mut agent, fleet.clock.now(), "UTC").await;
    fleet.clock.set(moment("2026-11-24T00:10:00Z"));
    say(&mut link, &mut agent, &started(run_id(1), plan, moment("2026-11-23T14:00:00Z"))).await;
    say(&mut link, &mut agent, &finished(run_id(1), JobStatus::Succeeded)).await;
    // Two edits; the agent was there for the first one only, and its word of that comes after the second.
    timed(&fleet, &agent, plan, "0 16 * * *").await;
    let first = loop {
        if let ToAgent::ScheduleSet(set) = link.told().await {
            break set;
        }
    };
    fleet.clock.set(moment("2026-11-24T16:30:00Z"));
    timed(&fleet, &agent, plan, "0 18 * * *").await;
    let late = agent.journal.push(&ack(&first, moment("2026-11-24T00:30:00Z"), "UTC"));
    link.send_frame(&late).await;
    fleet.clock.set(moment("2026-11-24T17:10:00Z"));
    apply(&mut link, &mut agent, moment("2026-11-24T17:00:00Z"), "UTC").await;
    fleet.clock.set(moment("2026-11-24T20:00:00Z"));
    let slots = |found: Vec<(Timestamp, Standing, Option<RunId>)>| -> Vec<Timestamp> {
        found.into_iter().map(|(at, ..)| at).collect()
    };
    assert_eq!(slots(day(&fleet, &agent, "2026-11-23").await), [moment("2026-11-23T14:00:00Z")]);
    assert_eq!(
        slots(day(&fleet, &agent, "2026-11-24").await),
        [moment("2026-11-24T16:00:00Z"), moment("2026-11-24T18:00:00Z")],
        "each time holds from when the machine had it until it had another"
    );
    // A plan that is taken away has no times any more.
    fleet.clock.set(moment("2026-11-24T17:20:00Z"));
    let mut tx = fleet.db().begin().await.unwrap();
    plans::set_hosts(&mut tx, plan, &[]).await.unwrap();
    desired::touch_hosts(fleet.manager(), &mut tx, &[agent.host()]).await.unwrap();
    tx.commit().await.unwrap();
    fleet.manager().links().wake(agent.host()).await;
    fleet.clock.set(moment("2026-11-24T20:00:00Z"));
    apply(&mut link, &mut agent, moment("2026-11-24T17:30:00Z"), "UTC").await;
    assert_eq!(slots(day(&fleet, &agent, "2026-11-24").await), [moment("2026-11-24T16:00:00Z")]);
}

#[tokio::test]
async fn a_machine_that_was_awake_and_did_nothing_has_missed_it() {
    let fleet = Fleet::start().await;
    let (plan, _) = fleet.plan().await;
    let mut agent = fleet.agent("box").await;
    timed(&fleet, &agent, plan, "0 2 * * *").await;
    let (mut link, _) = agent.connect().await;
    apply(&mut link, &mut agent, fleet.clock.now(), "UTC").await;
    drop(link);
    fleet.clock.set(moment("2026-11-25T12:00:00Z"));
    let mut link = agent.dial().await;
    let mut hello = agent.hello();
    hello.awake_since = Some(moment("2026-11-25T01:00:00Z"));
    link.greet(hello).await.unwrap();
    // What was due the night before, while it slept, was still due when it woke up.
    assert_eq!(last_days(&fleet, &agent, 2).await, [Some(Standing::Missed); 2]);
}

#[tokio::test]
async fn a_clock_that_ran_ahead_says_nothing_of_what_is_still_to_come() {
    let fleet = Fleet::start().await;
    let (plan, _) = fleet.plan().await;
    let mut agent = fleet.agent("box").await;
    timed(&fleet, &agent, plan, "0 2 * * *").await;
    let (mut link, _) = agent.connect().await;
    apply(&mut link, &mut agent, fleet.clock.now(), "europe/BERLIN").await;
    let far = moment("2030-01-01T01:00:00Z");
    say(&mut link, &mut agent, &started(run_id(1), plan, far)).await;
    say(&mut link, &mut agent, &finished(run_id(1), JobStatus::Succeeded)).await;
    let deferred =
        SlotDeferred { schedule_id: plan, slot: far, at: far, code: Code::RepositoryUnreachable };
    say(&mut link, &mut agent, &FromAgent::SlotDeferred(deferred)).await;
    let awake = AwakeInterval { from: fleet.clock.now(), until: far };
    say(&mut link, &mut agent, &FromAgent::AgentAwake(awake)).await;
    fleet.clock.set(moment("2026-11-26T12:00:00Z"));
    drop(link);
    let (mut link, _) = agent.connect().await;
    link.settle(&mut agent).await;
    assert_eq!(last_days(&fleet, &agent, 3).await, [Some(Standing::Asleep); 3]);
}

#[tokio::test]
async fn a_day_long_after_the_word_says_the_same_as_the_strip() {
    let fleet = Fleet::start().await;
    let (plan, _) = fleet.plan().await;
    let mut agent = fleet.agent("box").await;
    timed(&fleet, &agent, plan, "0 2 * * *").await;
    let (mut link, _) = agent.connect().await;
    let began = fleet.clock.now();
    apply(&mut link, &mut agent, began, "UTC").await;
    fleet.clock.set(moment("2026-12-05T12:00:00Z"));
    let first = moment("2026-11-24T02:00:00Z");
    let (slot, code) = (first, Code::RepositoryUnreachable);
    let deferred = SlotDeferred { schedule_id: plan, slot, at: first, code };
    say(&mut link, &mut agent, &FromAgent::SlotDeferred(deferred)).await;
    let awake = AwakeInterval { from: began, until: fleet.clock.now() };
    say(&mut link, &mut agent, &FromAgent::AgentAwake(awake)).await;
    drop(link);
    let (mut link, _) = agent.connect().await;
    link.settle(&mut agent).await;
    assert_eq!(last_days(&fleet, &agent, 2).await, [Some(Standing::Waiting); 2]);
    let at = moment("2026-12-05T02:00:00Z");
    assert_eq!(day(&fleet, &agent, "2026-12-05").await, [(at, Standing::Waiting, None)]);
}

#[tokio::test]
async fn a_machine_that_comes_back_with_older_plans_gets_the_newest_again() {
    let fleet = Fleet::start().await;
    let (plan, _) = fleet.plan().await;
    let mut agent = fleet.agent("box").await;
    timed(&fleet, &agent, plan, "0 14 * * *").await;
    let (mut link, _) = agent.connect().await;
    apply(&mut link, &mut agent, fleet.clock.now(), "UTC").await;
    let host = fleet.until_host(agent.host(), |host| host.in_sync()).await;
    let incarnation = fleet.manager().identity().manager().incarnation;
    let has = |agent: &Agent, generation| Hello {
        manager: Some(SeenManager { incarnation, command: 0, generation }),
        ..agent.hello()
    };
    // Who says that it has the newest plans gets nothing but what it is asked to do.
    let mut link = agent.dial().await;
    let hello = has(&agent, host.generation);
    agent.ticket = link.greet(hello).await.unwrap().ticket;
    let run = fleet.request(agent.host(), None).await;
    let ToAgent::CommandRun(command) = link.told().await else { panic!("plans came again") };
    assert_eq!(command.job_id, run);
    // Who has older ones than it had is set right, although it once acknowledged these.
    let mut link = agent.dial().await;
    let hello = has(&agent, host.generation - 1);
    assert!(link.greet(hello).await.unwrap().hold.is_none());
    let ToAgent::ConfigUpdate(config) = link.told().await else { panic!("no plans came") };
    assert_eq!(config.generation.map(|generation| generation.n), Some(host.generation));
}

#[tokio::test]
async fn an_agent_whose_clock_is_behind_ends_no_plan_before_its_edit_was_made() {
    let fleet = Fleet::start().await;
    let (plan, _) = fleet.plan().await;
    let mut agent = fleet.agent("box").await;
    timed(&fleet, &agent, plan, "0 * * * *").await;
    let (mut link, _) = agent.connect().await;
    apply(&mut link, &mut agent, fleet.clock.now(), "UTC").await;
    fleet.clock.set(moment("2026-11-23T20:30:00Z"));
    timed(&fleet, &agent, plan, "15 * * * *").await;
    // Its clock shows five hours less than it is.
    apply(&mut link, &mut agent, moment("2026-11-23T15:30:00Z"), "UTC").await;
    fleet.clock.set(moment("2026-11-23T22:00:00Z"));
    let slots = day(&fleet, &agent, "2026-11-23").await;
    let told: Vec<String> = slots.into_iter().map(|(at, ..)| at.to_string()).collect();
    let expected =
        ["13:00", "14:00", "15:00", "16:00", "17:00", "18:00", "19:00", "20:00", "21:15"];
    assert_eq!(told, expected.map(|time| format!("2026-11-23T{time}:00Z")));
}

#[tokio::test]
async fn a_machine_whose_zone_has_no_name_is_counted_by_its_rule() {
    let fleet = Fleet::start().await;
    let (plan, _) = fleet.plan().await;
    let mut agent = fleet.agent("box").await;
    timed(&fleet, &agent, plan, "0 2 * * *").await;
    let (mut link, _) = agent.connect().await;
    apply(&mut link, &mut agent, fleet.clock.now(), "CET-1CEST,M3.5.0,M10.5.0/3").await;
    drop(link);
    fleet.clock.set(moment("2026-11-24T12:00:00Z"));
    let mut link = agent.dial().await;
    let mut hello = agent.hello();
    hello.time_zone = Some("CET-1CEST,M3.5.0,M10.5.0/3".to_owned());
    link.greet(hello).await.unwrap();
    let night = day(&fleet, &agent, "2026-11-24").await;
    assert_eq!(night.iter().map(|it| it.0).collect::<Vec<_>>(), [moment("2026-11-24T01:00:00Z")]);
}

#[tokio::test]
async fn an_agent_that_runs_no_hooks_gets_its_plan_once_it_does() {
    let fleet = Fleet::start().await;
    let (plan, _) = fleet.plan().await;
    let mut agent = fleet.agent("box").await;
    timed(&fleet, &agent, plan, "0 2 * * *").await;
    let mut tx = fleet.db().begin().await.unwrap();
    let mut changed = plans::find(&mut *tx, plan).await.unwrap().unwrap();
    changed.options.hooks.before = Some(Hook::Named("dump".to_owned()));
    plans::update(&mut tx, &changed).await.unwrap();
    desired::touch_hosts(fleet.manager(), &mut tx, &[agent.host()]).await.unwrap();
    tx.commit().await.unwrap();
    let mut told = Vec::new();
    for can in [Vec::new(), vec!["hooks".to_owned()]] {
        let mut link = agent.dial().await;
        let mut hello = agent.hello();
        hello.capabilities = can;
        let welcome = link.greet(hello).await.unwrap();
        agent.keep(&mut link, &welcome).await;
        let set = loop {
            if let ToAgent::ScheduleSet(set) = link.told().await {
                break set;
            }
        };
        told.push(set.schedules.len());
    }
    assert_eq!(told, [0, 1]);
}
