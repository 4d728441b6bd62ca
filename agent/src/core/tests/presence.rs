//! Since when the machine is awake.

use super::{
    timetable::{HOUR, at},
    *,
};
use jiff::SignedDuration;
use protocol::{AwakeInterval, Hello};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

impl World {
    /// A machine that is switched on at some time.
    fn switched_on(start: Timestamp) -> Self {
        let mut world = Self::new();
        world.now.wall = start;
        let effects = world.brain.handle_start(world.now);
        world.execute(effects);
        world
    }

    fn awake(&self) -> Vec<(Timestamp, Timestamp)> {
        let told: Vec<AwakeInterval> = self.told("agent.awake");
        told.into_iter().map(|told| (told.from, told.until)).collect()
    }

    fn awake_since(&mut self) -> Option<Timestamp> {
        let effects = self.brain.handle_connected();
        let Some(Effect::Send(frame)) = effects.first() else { panic!("no hello") };
        let hello: Hello = frame.payload().unwrap();
        hello.awake_since
    }
}

#[test]
fn a_sleep_ends_one_interval_and_begins_another() {
    let mut world = World::switched_on(at("2026-03-01T08:00:00Z"));
    world.pass(HOUR);
    assert_eq!(world.awake_since(), Some(at("2026-03-01T08:00:00Z")));
    world.sleep(HOUR * 9);
    world.pass(MINUTE);
    let woke = at("2026-03-01T18:00:30Z");
    assert_eq!(world.awake(), [(at("2026-03-01T08:00:00Z"), at("2026-03-01T09:00:00Z"))]);
    assert_eq!(world.awake_since(), Some(woke));
    assert_eq!(world.disk.awake.unwrap().since, woke);
}

#[test]
fn a_machine_that_just_woke_up_says_so_in_its_hello_however_soon_that_comes() {
    let mut world = World::switched_on(at("2026-03-01T08:00:00Z"));
    world.pass(HOUR);
    world.sleep(HOUR * 9);
    world.now.mono += Duration::from_millis(5);
    let effects = world.brain.handle_timeout(world.now);
    world.execute(effects);
    assert_eq!(world.awake_since(), Some(at("2026-03-01T18:00:00Z")));
    assert_eq!(world.awake(), [(at("2026-03-01T08:00:00Z"), at("2026-03-01T09:00:00Z"))]);
}

#[test]
fn a_connection_does_not_outlive_a_sleep() {
    let mut world = World::switched_on(at("2026-03-01T08:00:00Z"));
    world.connect();
    world.pass(HOUR);
    world.sleep(HOUR);
    world.now.mono += Duration::from_secs(30);
    let effects = world.brain.handle_timeout(world.now);
    let ends = effects
        .iter()
        .any(|effect| matches!(effect, Effect::Disconnect { redial: Redial::Now, problem: None }));
    assert!(ends, "{effects:?}");
}

#[test]
fn a_machine_that_lost_its_power_tells_at_the_next_start_until_when_it_was_there() {
    let mut world = World::switched_on(at("2026-03-01T08:00:00Z"));
    world.pass(HOUR + MINUTE * 5);
    world.sleep(HOUR * 9);
    world.crash();
    let told = world.awake();
    let [(from, until)] = told[..] else { panic!("{told:?}") };
    assert_eq!(from, at("2026-03-01T08:00:00Z"));
    assert!(until > at("2026-03-01T08:54:00Z") && until <= at("2026-03-01T09:05:00Z"), "{until}");
}

#[test]
fn an_agent_that_is_told_to_stop_knows_until_when_it_was_there() {
    let mut world = World::switched_on(at("2026-03-01T08:00:00Z"));
    world.pass(MINUTE * 4);
    let effects = world.brain.handle_stop();
    world.execute(effects);
    world.sleep(MINUTE * 20);
    world.crash();
    assert_eq!(world.awake(), [(at("2026-03-01T08:00:00Z"), at("2026-03-01T08:04:00Z"))]);
}

#[test]
fn an_agent_that_starts_over_and_over_tells_nothing() {
    let mut world = World::switched_on(at("2026-03-01T08:00:00Z"));
    let head = world.disk.journal.head;
    for _ in 0..100 {
        world.pass(SignedDuration::from_secs(40));
        world.crash();
    }
    assert!(world.awake().is_empty());
    assert_eq!(world.disk.journal.head, head);
}

#[test]
fn a_clock_that_is_set_forward_is_no_sleep_where_the_system_counts_that() {
    let mut world = World::switched_on(at("2026-03-01T08:00:00Z"));
    world.brain.set_slept(Duration::from_secs(100));
    world.pass(HOUR);
    world.sleep(HOUR * 24);
    world.pass(HOUR);
    assert!(world.awake().is_empty());
    world.brain.set_slept(Duration::from_secs(300));
    world.pass(MINUTE);
    assert_eq!(world.awake().len(), 1);
}

#[test]
fn a_clock_that_is_put_back_ends_an_interval_where_it_was() {
    let mut world = World::switched_on(at("2026-03-01T08:00:00Z"));
    world.pass(HOUR);
    world.now.wall = at("2026-02-01T08:00:00Z");
    world.pass(HOUR);
    assert_eq!(world.awake(), [(at("2026-03-01T08:00:00Z"), at("2026-03-01T09:00:00Z"))]);
    assert_eq!(world.awake_since(), Some(at("2026-02-01T08:00:30Z")));
}

#[test]
fn a_clock_that_goes_on_while_the_machine_sleeps_shows_it_by_a_late_look() {
    let mut world = World::switched_on(at("2026-03-01T08:00:00Z"));
    world.pass(HOUR);
    world.now.mono += Duration::from_hours(1);
    world.now.wall += HOUR;
    world.pass(MINUTE);
    assert_eq!(world.awake(), [(at("2026-03-01T08:00:00Z"), at("2026-03-01T09:00:00Z"))]);
}
