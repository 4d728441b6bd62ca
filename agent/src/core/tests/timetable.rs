//! The agent's own schedule, with nobody listening.

use super::*;
use jiff::SignedDuration;
use protocol::{AwakeInterval, JobStarted, SlotDeferred};
use schedule::Cron;

pub(super) const HOUR: SignedDuration = SignedDuration::from_hours(1);

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(super) fn plan() -> PlanId {
    PlanId::new(3, &[3; 10])
}

impl World {
    /// The machine at some time, with its plan at these times.
    pub(super) fn with_times(cron: &str, start: Timestamp) -> Self {
        let mut world = Self::new();
        world.now.wall = start;
        let effects = world.brain.handle_start(world.now);
        world.execute(effects);
        world.set_times(cron, true);
        world
    }

    pub(super) fn set_times(&mut self, cron: &str, enabled: bool) {
        self.desired.schedules[0].cron_expr = cron.to_owned();
        self.desired.schedules[0].enabled = enabled;
        let effects = self.brain.handle_desired_stored(self.desired.clone(), self.now);
        self.execute(effects);
    }

    /// Time passes, and whatever is due in it is done when it is due.
    pub(super) fn pass(&mut self, time: SignedDuration) {
        let until = self.now.mono + time.unsigned_abs();
        while let Some(due) = self.brain.poll_timeout().filter(|due| *due <= until) {
            self.advance(due.max(self.now.mono));
            let effects = self.brain.handle_timeout(self.now);
            self.execute(effects);
        }
        self.advance(until);
    }

    fn advance(&mut self, mono: Duration) {
        self.now.wall +=
            SignedDuration::try_from(mono.checked_sub(self.now.mono).unwrap()).unwrap();
        self.now.mono = mono;
    }

    /// The machine is asleep: only the wall clock goes on.
    pub(super) fn sleep(&mut self, time: SignedDuration) {
        self.now.wall += time;
    }

    /// The runs of the plan that the journal tells of, in order.
    pub(super) fn starts(&self) -> Vec<JobStarted> {
        let started: Vec<JobStarted> = self.told("job.started");
        for started in &started {
            assert_eq!((started.schedule_id, started.command), (Some(plan()), None));
        }
        started
    }

    /// When the first attempt at each slot began.
    fn begun(&self) -> Vec<(Timestamp, Timestamp)> {
        let first = self.starts().into_iter().filter(|started| started.attempt.is_none());
        first.map(|started| (started.started_at, started.slot.unwrap())).collect()
    }

    /// What the journal tells of a kind, in order.
    pub(super) fn told<T: serde::de::DeserializeOwned>(&self, kind: &str) -> Vec<T> {
        let records = self.records.values().filter(|record| record.kind == kind);
        records.map(|record| serde_json::from_str(&record.payload).unwrap()).collect()
    }

    pub(super) fn slots(&self) -> Vec<Timestamp> {
        self.begun().into_iter().map(|(_, slot)| slot).collect()
    }
}

#[test]
fn a_plan_runs_on_time_with_nobody_listening() {
    let mut world = World::with_times("0 2 * * *", at("2026-03-01T12:00:00Z"));
    for _ in 0..3 {
        world.pass(HOUR * 24);
        world.finish(0);
    }
    let two = |day: u8| at(&format!("2026-03-0{day}T02:00:00Z"));
    assert_eq!(world.slots(), [two(2), two(3), two(4)]);
    for (began, slot) in world.begun() {
        assert!(
            began >= slot && began < slot + SignedDuration::from_mins(10),
            "{began} for {slot}"
        );
    }
    // What was never told before is told now, with the slots that were served.
    world.connect();
    world.deliver(true);
    assert_eq!(world.ends().values().sum::<u32>(), 3);
}

#[test]
fn after_a_week_off_one_run_catches_up_and_no_restart_repeats_it() {
    let mut world = World::with_times("0 2 * * *", at("2026-03-01T12:00:00Z"));
    world.sleep(HOUR * 24 * 7);
    world.crash();
    assert_eq!(world.slots(), [at("2026-03-08T02:00:00Z")]);
    world.finish(0);
    for _ in 0..3 {
        world.crash();
        world.pass(HOUR);
    }
    assert_eq!(world.slots().len(), 1);
}

#[test]
fn a_machine_that_was_asleep_notices_within_a_minute() {
    let mut world = World::with_times("0 2 * * *", at("2026-03-01T12:00:00Z"));
    world.sleep(HOUR * 20);
    world.pass(SignedDuration::from_mins(1));
    assert_eq!(world.slots(), [at("2026-03-02T02:00:00Z")]);
}

#[test]
fn nothing_from_before_a_plan_came_or_changed_or_was_paused_is_caught_up() {
    let mut world = World::with_times("0 2 * * *", at("2026-03-01T12:00:00Z"));
    world.pass(HOUR);
    world.set_times("0 * * * *", true);
    world.pass(HOUR / 2);
    assert!(world.slots().is_empty());
    world.pass(HOUR);
    assert_eq!(world.slots(), [at("2026-03-01T14:00:00Z")]);
    world.finish(0);
    world.set_times("0 * * * *", false);
    world.pass(HOUR * 5);
    world.set_times("0 * * * *", true);
    world.pass(HOUR);
    assert_eq!(world.slots()[1..], [at("2026-03-01T20:00:00Z")]);
    // The same plan once more changes nothing.
    world.finish(0);
    world.sleep(HOUR);
    world.set_times("0 * * * *", true);
    assert_eq!(world.slots()[2..], [at("2026-03-01T21:00:00Z")]);
}

#[test]
fn slots_that_come_while_the_plan_runs_are_served_by_one_run_after_it() {
    let mut world = World::with_times("*/10 * * * *", at("2026-03-01T12:05:00Z"));
    world.pass(HOUR);
    assert_eq!(world.slots(), [at("2026-03-01T12:10:00Z")]);
    world.finish(0);
    assert_eq!(world.slots()[1..], [at("2026-03-01T13:00:00Z")]);
}

#[test]
fn another_run_on_the_repository_is_waited_for_even_over_a_restart() {
    let mut world = World::with_times("0 2 * * *", at("2026-03-01T01:00:00Z"));
    world.connect();
    let check = RunSpec::Check { repository_id: None, read_data: false };
    world.command_to(1, check);
    world.hear(&ToAgent::CommandGo(CommandGo { job_id: run_id(1) }));
    world.pass(HOUR * 2);
    assert_eq!(world.running, [run_id(1)]);
    world.crash();
    assert!(world.running.is_empty());
    world.recover();
    assert_eq!(world.running.len(), 1);
    let started = world.records.values().rfind(|record| record.kind == "job.started").unwrap();
    let started: JobStarted = serde_json::from_str(&started.payload).unwrap();
    assert_eq!(started.slot, Some(at("2026-03-01T02:00:00Z")));
}

#[test]
fn a_clock_that_is_put_back_repeats_once_and_does_not_stand_still() {
    let mut world = World::with_times("0 2 * * *", at("2026-03-01T12:00:00Z"));
    // The clock was a year ahead when the plan ran.
    world.sleep(HOUR * 24 * 365);
    world.pass(HOUR);
    world.finish(0);
    assert_eq!(world.slots().len(), 1);
    world.now.wall = at("2026-03-02T12:00:00Z");
    world.pass(HOUR * 24);
    world.finish(0);
    world.pass(HOUR * 24);
    assert_eq!(world.slots()[1..], [at("2026-03-03T02:00:00Z"), at("2026-03-04T02:00:00Z")]);
}

#[test]
fn a_plan_that_cannot_run_as_it_is_fails_where_everybody_sees_it() {
    let mut world = World::new();
    world.now.wall = at("2026-03-01T12:00:00Z");
    world.desired.schedules[0].paths.clear();
    world.set_times("0 2 * * *", true);
    world.pass(HOUR * 24);
    assert_eq!(world.slots(), [at("2026-03-02T02:00:00Z")]);
    assert!(world.running.is_empty());
    world.connect();
    world.deliver(true);
    let last = world.manager.last().unwrap();
    let finished: JobFinished = serde_json::from_str(&last.payload).unwrap();
    assert_eq!((finished.status, finished.code), (JobStatus::Failed, Some(Code::SourceMissing)));
}

#[test]
fn what_is_due_waits_for_a_repository_that_is_away_and_runs_once_when_it_is_back() {
    let mut world = World::with_times("0 * * * *", at("2026-03-01T12:30:00Z"));
    world.answers = false;
    world.pass(HOUR * 5);
    world.crash();
    world.pass(HOUR);
    assert!(world.slots().is_empty());
    world.answers = true;
    world.pass(SignedDuration::from_mins(2));
    assert_eq!(world.slots(), [at("2026-03-01T18:00:00Z")]);
    world.finish(0);
    world.pass(HOUR);
    assert_eq!(world.slots()[1..], [at("2026-03-01T19:00:00Z")]);
}

#[derive(Clone, Copy, Debug)]
enum Happening {
    Pass(i64),
    Sleep(i64),
    Crash,
    Finish,
    Fail(Code),
    Recover,
    Pause,
    Resume,
    Away,
    Back,
    Close,
    Open,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => (1..20_000_i64).prop_map(Happening::Pass),
        2 => (1..400_000_i64).prop_map(Happening::Sleep),
        1 => Just(Happening::Crash),
        3 => Just(Happening::Finish),
        3 => Just(Happening::Fail(Code::RepositoryUnreachable)),
        1 => Just(Happening::Fail(Code::WrongPassword)),
        2 => Just(Happening::Recover),
        1 => Just(Happening::Pause),
        1 => Just(Happening::Resume),
        1 => Just(Happening::Away),
        2 => Just(Happening::Back),
        1 => Just(Happening::Close),
        2 => Just(Happening::Open),
    ]
}

/// What the journal may tell, whatever happened: it is read record by record.
fn check_journal(world: &World) {
    let mut served: Option<(Timestamp, u32)> = None;
    let mut open = None;
    let mut deferred = None;
    let mut awake_until = None;
    for record in world.records.values() {
        match record.kind.as_str() {
            "job.started" => {
                let started: JobStarted = serde_json::from_str(&record.payload).unwrap();
                assert_eq!(open.replace(started.job_id), None, "two runs at once");
                let (slot, attempt) = (started.slot.unwrap(), started.attempt.unwrap_or(1));
                match served.filter(|_| attempt > 1) {
                    Some(before) => assert_eq!(before, (slot, attempt - 1)),
                    None => {
                        assert_eq!(attempt, 1);
                        assert!(served.is_none_or(|(before, _)| before < slot));
                    }
                }
                assert!(attempt <= 4 && slot <= started.started_at);
                served = Some((slot, attempt));
                deferred = None;
            }
            "job.finished" => {
                let finished: JobFinished = serde_json::from_str(&record.payload).unwrap();
                assert_eq!(open.take(), Some(finished.job_id));
            }
            // With other times it is another plan.
            "schedule.ack" => deferred = None,
            "slot.deferred" => {
                let told: SlotDeferred = serde_json::from_str(&record.payload).unwrap();
                assert!(told.slot <= told.at);
                assert_ne!(deferred.replace(told.code), Some(told.code), "told twice");
            }
            "agent.awake" => {
                let AwakeInterval { from, until } = serde_json::from_str(&record.payload).unwrap();
                assert!(until.duration_since(from) >= SignedDuration::from_mins(1));
                assert!(awake_until.is_none_or(|before| before <= from));
                awake_until = Some(until);
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever happens to the machine: each slot is served by at most one first attempt, in order and not
    /// before its time, never while the plan was paused, and in the end none is left out. Attempts follow
    /// each other and never overlap, what waits is told once, and no sleep counts as being awake.
    #[test]
    fn every_slot_is_served_once_or_covered_by_a_later_one(
        cron in prop::sample::select(vec!["*/20 * * * *", "7 * * * *", "0 2 * * *", "0 0 * * mon"]),
        happenings in prop::collection::vec(happening(), 1..60),
    ) {
        let start = at("2026-03-25T12:00:00Z");
        let mut world = World::with_times(cron, start);
        world.desired.schedules[0].options = Some(serde_json::json!({ "not_on_battery": true }));
        world.set_times(cron, true);
        let (mut is_on, mut on_since) = (true, start);
        // The spans in which the plan was on, and those in which the machine slept.
        let (mut spans, mut sleeps) = (Vec::new(), Vec::new());
        for happening in happenings {
            match happening {
                Happening::Pass(seconds) => world.pass(SignedDuration::from_secs(seconds)),
                Happening::Sleep(seconds) => {
                    sleeps.push((world.now.wall, SignedDuration::from_secs(seconds)));
                    world.sleep(SignedDuration::from_secs(seconds));
                }
                Happening::Crash => world.crash(),
                Happening::Finish => world.finish(0),
                Happening::Fail(code) => world.fail(code),
                Happening::Recover => world.recover(),
                Happening::Away => world.answers = false,
                Happening::Back => world.answers = true,
                Happening::Close => world.closed.on_battery = true,
                Happening::Open => world.closed.on_battery = false,
                Happening::Pause if is_on => {
                    is_on = false;
                    spans.push((on_since, world.now.wall));
                    world.set_times(cron, false);
                }
                Happening::Resume if !is_on => {
                    (is_on, on_since) = (true, world.now.wall);
                    world.set_times(cron, true);
                }
                Happening::Pause | Happening::Resume => {}
            }
            prop_assert!(world.running.len() <= 1);
        }
        // In the end all that is open ends, and what is due is done.
        world.answers = true;
        world.closed = Gates::default();
        for _ in 0..3 {
            world.recover();
            world.pass(SignedDuration::from_mins(12));
            world.finish(0);
        }
        check_journal(&world);
        if is_on {
            spans.push((on_since, world.now.wall));
        }
        for (began, slot) in world.begun() {
            prop_assert!(slot <= began);
            prop_assert!(spans.iter().any(|(from, to)| *from < slot && slot <= *to), "{slot}");
        }
        let begun = world.now.wall - SignedDuration::from_mins(10);
        let times: Cron = cron.parse().unwrap();
        if is_on && let Some(last) = times.between(on_since, begun, &TimeZone::UTC).last() {
            let served = world.slots();
            prop_assert!(served.last().is_some_and(|slot| *slot >= last), "{last} of {served:?}");
        }
        for AwakeInterval { from, until } in world.told("agent.awake") {
            for (fell_asleep, time) in &sleeps {
                let is_within = from <= *fell_asleep && *fell_asleep + *time <= until;
                prop_assert!(!is_within || *time <= SignedDuration::from_mins(2), "{from} {until}");
            }
        }
    }
}
