//! What is due and cannot begin, and what failed and is tried again.

use super::{
    timetable::{HOUR, at, plan},
    *,
};
use jiff::SignedDuration;
use protocol::{JobStarted, ScheduleAck, SlotDeferred};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

fn backup() -> RunSpec {
    RunSpec::Backup { schedule_id: Some(plan()) }
}

impl World {
    /// The run that goes on fails.
    pub(super) fn fail(&mut self, code: Code) {
        let Some(run_id) = self.running.pop() else { return };
        let problem = Problem::new(code, "It did not work.");
        let outcome = Outcome::plain(JobStatus::Failed, Some(problem));
        let event = RunEvent::Finished(Box::new(outcome));
        let effects = self.brain.handle_run_event(run_id, event, self.now);
        self.execute(effects);
    }

    fn set_options(&mut self, options: Value) {
        self.desired.schedules[0].options = Some(options);
        let effects = self.brain.handle_desired_stored(self.desired.clone(), self.now);
        self.execute(effects);
    }

    fn deferred(&self) -> Vec<(Timestamp, Code)> {
        let told: Vec<SlotDeferred> = self.told("slot.deferred");
        told.into_iter()
            .map(|told| {
                assert_eq!(told.schedule_id, plan());
                (told.slot, told.code)
            })
            .collect()
    }

    fn attempts(&self) -> Vec<(Timestamp, Option<u32>)> {
        let starts = self.starts().into_iter();
        starts.map(|started| (started.started_at, started.attempt)).collect()
    }
}

#[test]
fn what_waits_for_its_repository_is_told_once_even_over_restarts() {
    let mut world = World::with_times("0 * * * *", at("2026-03-01T12:30:00Z"));
    world.answers = false;
    world.pass(HOUR * 3);
    world.crash();
    world.pass(HOUR * 3);
    let away = Code::RepositoryUnreachable;
    assert_eq!(world.deferred(), [(at("2026-03-01T13:00:00Z"), away)]);
    world.answers = true;
    world.pass(MINUTE * 2);
    world.finish(0);
    assert_eq!(world.slots(), [at("2026-03-01T18:00:00Z")]);
    // A run began: the next time it is told anew.
    world.answers = false;
    world.pass(HOUR);
    assert_eq!(world.deferred()[1..], [(at("2026-03-01T19:00:00Z"), away)]);
}

#[test]
fn a_run_on_command_begins_while_the_plan_waits_and_the_plan_says_again_that_it_does() {
    let mut world = World::with_times("0 2 * * *", at("2026-03-01T01:30:00Z"));
    world.set_options(serde_json::json!({ "not_on_battery": true }));
    world.closed.on_battery = true;
    world.pass(HOUR);
    assert!(world.running.is_empty());
    world.connect();
    world.command_to(1, backup());
    world.hear(&ToAgent::CommandGo(CommandGo { job_id: run_id(1) }));
    assert_eq!(world.running, [run_id(1)]);
    world.finish(0);
    world.pass(MINUTE);
    let slot = at("2026-03-01T02:00:00Z");
    assert_eq!(world.deferred(), [(slot, Code::OnBattery), (slot, Code::OnBattery)]);
}

#[test]
fn a_gate_that_opens_is_noticed_within_a_minute() {
    for (option, code) in [("not_on_battery", Code::OnBattery), ("not_metered", Code::Metered)] {
        let mut world = World::with_times("0 2 * * *", at("2026-03-01T01:30:00Z"));
        let mut options = serde_json::Map::new();
        options.insert(option.to_owned(), Value::Bool(true));
        world.set_options(Value::Object(options));
        world.closed = Gates { on_battery: true, metered: true };
        world.pass(HOUR * 3);
        assert_eq!(world.deferred(), [(at("2026-03-01T02:00:00Z"), code)]);
        // Its repository went away meanwhile: another reason, told as well.
        (world.closed, world.answers) = (Gates::default(), false);
        world.pass(MINUTE);
        assert_eq!(
            world.deferred()[1..],
            [(at("2026-03-01T02:00:00Z"), Code::RepositoryUnreachable)]
        );
        world.answers = true;
        world.pass(MINUTE);
        assert_eq!(world.slots(), [at("2026-03-01T02:00:00Z")]);
    }
}

#[test]
fn gates_that_a_plan_does_not_have_keep_nothing_up() {
    let mut world = World::with_times("0 2 * * *", at("2026-03-01T01:30:00Z"));
    world.closed = Gates { on_battery: true, metered: true };
    world.pass(HOUR);
    assert_eq!(world.slots(), [at("2026-03-01T02:00:00Z")]);
}

#[test]
fn what_fails_for_a_passing_reason_is_tried_three_times_more_with_growing_pauses() {
    let mut world = World::with_times("0 2 * * *", at("2026-03-01T01:30:00Z"));
    world.pass(HOUR);
    for minutes in [5, 15, 45] {
        world.fail(Code::RepositoryLocked);
        let failed = world.now.wall;
        world.pass(MINUTE * minutes);
        assert!(world.running.is_empty(), "{minutes}");
        // A fifth more for the spread, and the time between two looks.
        world.crash();
        world.pass(MINUTE * minutes / 5 + MINUTE);
        assert_eq!(world.running.len(), 1, "{minutes} after {failed}");
    }
    world.fail(Code::RepositoryLocked);
    world.pass(HOUR * 20);
    let attempts: Vec<Option<u32>> = world.attempts().iter().map(|(_, attempt)| *attempt).collect();
    assert_eq!(attempts, [None, Some(2), Some(3), Some(4)]);
    assert_eq!(world.slots(), [at("2026-03-01T02:00:00Z")]);
    // The next slot begins at the first attempt again.
    world.pass(HOUR * 5);
    assert_eq!(
        world.attempts()[4..].iter().map(|(_, attempt)| *attempt).collect::<Vec<_>>(),
        [None]
    );
    assert_eq!(world.slots()[1..], [at("2026-03-02T02:00:00Z")]);
}

#[test]
fn the_next_slot_takes_the_place_of_an_attempt() {
    let mut world = World::with_times("*/10 * * * *", at("2026-03-01T12:05:00Z"));
    world.pass(MINUTE * 7);
    world.fail(Code::RepositoryUnreachable);
    world.pass(MINUTE * 7);
    world.fail(Code::RepositoryUnreachable);
    world.pass(MINUTE * 7);
    world.fail(Code::RepositoryUnreachable);
    let attempts: Vec<Option<u32>> = world.attempts().iter().map(|(_, attempt)| *attempt).collect();
    assert_eq!(attempts.iter().filter(|attempt| attempt.is_none()).count(), 2, "{attempts:?}");
}

#[test]
fn what_waiting_cannot_heal_is_not_tried_again() {
    for code in [
        Code::WrongPassword,
        Code::SourceMissing,
        Code::ResticMissing,
        Code::RepositoryDamaged,
        Code::PolicyForbids,
        Code::InvalidInput,
        Code::HookFailed,
    ] {
        let mut world = World::with_times("0 2 * * *", at("2026-03-01T01:30:00Z"));
        world.pass(HOUR);
        world.fail(code);
        world.pass(HOUR * 20);
        assert_eq!(world.attempts().len(), 1, "{code}");
    }
}

#[test]
fn a_run_that_a_person_cancelled_is_not_tried_again() {
    let mut world = World::with_times("0 2 * * *", at("2026-03-01T01:30:00Z"));
    world.pass(HOUR);
    world.connect();
    let cancel =
        CommandCancel { job_id: world.running[0], number: None, reason: CancelReason::Admin };
    world.hear(&ToAgent::CommandCancel(cancel));
    assert!(world.running.is_empty());
    world.pass(HOUR * 20);
    assert_eq!(world.attempts().len(), 1);
}

#[test]
fn a_run_on_command_that_went_well_makes_another_attempt_needless_and_is_never_tried_again() {
    let mut world = World::with_times("0 2 * * *", at("2026-03-01T01:30:00Z"));
    world.pass(HOUR);
    world.fail(Code::RepositoryUnreachable);
    world.connect();
    world.command_to(1, backup());
    world.hear(&ToAgent::CommandGo(CommandGo { job_id: run_id(1) }));
    world.finish(0);
    world.command_to(2, backup());
    world.hear(&ToAgent::CommandGo(CommandGo { job_id: run_id(2) }));
    world.fail(Code::RepositoryUnreachable);
    world.pass(HOUR * 20);
    assert_eq!(world.told::<JobStarted>("job.started").len(), 3);
}

#[test]
fn a_run_that_the_agents_end_interrupted_is_tried_again() {
    let mut world = World::with_times("0 2 * * *", at("2026-03-01T01:30:00Z"));
    world.pass(HOUR);
    let effects = world.brain.handle_stop();
    world.execute(effects);
    world.crash();
    world.pass(MINUTE * 8);
    assert_eq!(world.attempts().len(), 2);
    // And by one that nobody ended gently.
    world.crash();
    world.recover();
    world.pass(MINUTE * 20);
    assert_eq!(world.attempts()[2].1, Some(3));
}

#[test]
fn an_attempt_waits_in_silence_for_what_the_slot_was_told_to_have_had() {
    let mut world = World::with_times("0 2 * * *", at("2026-03-01T01:30:00Z"));
    world.pass(HOUR);
    world.answers = false;
    world.fail(Code::RepositoryUnreachable);
    world.pass(HOUR * 10);
    assert!(world.deferred().is_empty());
    world.answers = true;
    world.pass(MINUTE * 2);
    assert_eq!(world.attempts()[1].1, Some(2));
}

#[test]
fn a_run_that_was_written_down_and_not_begun_asks_for_its_repository_once_more() {
    let mut world = World::with_times("0 2 * * *", at("2026-03-01T01:00:00Z"));
    world.connect();
    let check = RunSpec::Check { repository_id: None, read_data: false };
    world.command_to(1, check);
    world.hear(&ToAgent::CommandGo(CommandGo { job_id: run_id(1) }));
    world.pass(HOUR * 2);
    world.answers = false;
    world.crash();
    world.recover();
    world.pass(HOUR);
    assert!(world.running.is_empty());
    let slot = at("2026-03-01T02:00:00Z");
    let told = [(slot, Code::RepositoryBusy), (slot, Code::RepositoryUnreachable)];
    assert_eq!(world.deferred(), told);
    world.answers = true;
    world.pass(MINUTE * 2);
    assert_eq!(world.running.len(), 1);
    world.finish(0);
    world.pass(HOUR);
    assert_eq!(world.told::<JobStarted>("job.started").len(), 2);
}

#[test]
fn a_clock_that_is_put_back_does_not_put_an_attempt_off() {
    let mut world = World::with_times("0 2 * * *", at("2026-03-01T01:30:00Z"));
    world.sleep(HOUR * 24 * 365);
    world.pass(MINUTE * 10);
    world.fail(Code::RepositoryUnreachable);
    world.now.wall = at("2026-03-02T01:30:00Z");
    world.pass(HOUR);
    world.finish(0);
    let attempts = world.attempts();
    assert_eq!(attempts.len(), 2, "{attempts:?}");
    assert_eq!(attempts[1].1, None);
}

#[test]
fn the_zone_of_the_machine_is_told_before_any_run_by_it_and_once() {
    let mut world = World::with_times("0 2 * * *", at("2026-03-01T03:00:00Z"));
    let zones = |world: &World| -> Vec<String> {
        let told: Vec<ScheduleAck> = world.told("schedule.ack");
        told.into_iter().filter_map(|ack| ack.time_zone).collect()
    };
    let before = zones(&world).len();
    world.facts.zone = TimeZone::get("America/New_York").unwrap();
    world.brain.set_facts(world.facts.clone());
    world.pass(HOUR * 5);
    assert_eq!(world.slots(), [at("2026-03-01T07:00:00Z")]);
    assert_eq!(zones(&world)[before..], ["America/New_York"]);
    let kinds: Vec<&str> = world.records.values().map(|record| record.kind.as_str()).collect();
    let place = |kind| kinds.iter().rposition(|it| *it == kind);
    assert!(place("schedule.ack") < place("job.started"), "{kinds:?}");
    // Another zone while the agent was off is told at its start, before what is due in it.
    world.finish(0);
    world.crash();
    assert_eq!(zones(&world).len(), before + 1);
    world.facts.zone = TimeZone::UTC;
    world.sleep(HOUR * 24);
    world.crash();
    assert_eq!(zones(&world)[before..], ["America/New_York", "UTC"]);
    assert_eq!(world.slots()[1..], [at("2026-03-02T02:00:00Z")]);
}

#[test]
fn what_waits_is_told_once_more_under_another_zone() {
    let mut world = World::with_times("0 2 * * *", at("2026-03-01T01:30:00Z"));
    world.answers = false;
    world.pass(HOUR);
    let slots = |world: &World| -> Vec<Timestamp> {
        let told: Vec<SlotDeferred> = world.told("slot.deferred");
        told.into_iter().map(|it| it.slot).collect()
    };
    assert_eq!(slots(&world), [at("2026-03-01T02:00:00Z")]);
    world.facts.zone = TimeZone::get("America/New_York").unwrap();
    world.brain.set_facts(world.facts.clone());
    world.pass(HOUR * 6);
    assert_eq!(slots(&world).last(), Some(&at("2026-03-01T07:00:00Z")));
    let told = slots(&world).len();
    world.pass(HOUR * 24);
    assert_eq!(slots(&world).len(), told, "it is told once");
}

#[test]
fn options_that_cannot_be_read_are_a_visible_failure_and_gates_among_them_hide_nothing() {
    let mut world = World::with_times("0 2 * * *", at("2026-03-01T01:30:00Z"));
    world.set_options(serde_json::json!({ "not_on_battery": true, "read_concurrency": "many" }));
    world.closed.on_battery = true;
    world.pass(HOUR * 20);
    assert_eq!(world.slots(), [at("2026-03-01T02:00:00Z")]);
    assert!(world.running.is_empty());
    let ended: Vec<JobFinished> = world.told("job.finished");
    let ended: Vec<_> = ended.into_iter().map(|ended| (ended.status, ended.code)).collect();
    assert_eq!(ended, [(JobStatus::Failed, Some(Code::InvalidInput))]);
}

#[test]
fn a_run_by_the_clock_waits_for_locks_and_one_on_command_only_where_the_plan_says_so() {
    let waits = |world: &World| {
        let task = &world.order.as_ref().unwrap().task;
        let Task::Backup { options, .. } = task else { panic!("{task:?}") };
        options.retry_lock_minutes
    };
    let mut world = World::with_times("0 2 * * *", at("2026-03-01T01:30:00Z"));
    world.pass(HOUR);
    assert_eq!(waits(&world), Some(10));
    world.finish(0);
    world.connect();
    world.command_to(1, backup());
    world.hear(&ToAgent::CommandGo(CommandGo { job_id: run_id(1) }));
    assert_eq!(waits(&world), None);
    world.finish(0);
    world.set_options(serde_json::json!({ "retry_lock_minutes": 3 }));
    world.pass(HOUR * 24);
    assert_eq!(waits(&world), Some(3));
}

#[test]
fn what_waits_for_another_run_of_its_repository_says_so_once() {
    let mut world = World::with_times("0 * * * *", at("2026-03-01T12:30:00Z"));
    world.connect();
    let repository_id = world.desired.schedules[0].repository_id;
    world.command_to(1, RunSpec::Prune { repository_id, dry_run: false });
    world.hear(&ToAgent::CommandGo(CommandGo { job_id: run_id(1) }));
    assert_eq!(world.running, [run_id(1)]);
    world.pass(HOUR * 3);
    let one = at("2026-03-01T13:00:00Z");
    assert_eq!(world.deferred(), [(one, Code::RepositoryBusy)]);
    let served = |world: &World| -> Vec<Timestamp> {
        let told: Vec<JobStarted> = world.told("job.started");
        told.into_iter().filter_map(|started| started.slot).collect()
    };
    assert!(served(&world).is_empty());
    // It has its turn, and serves its slot; what came meanwhile is due after it.
    world.finish(0);
    assert_eq!(served(&world), [one]);
    world.finish(0);
    world.pass(MINUTE);
    assert_eq!(served(&world), [one, at("2026-03-01T15:00:00Z")]);
    assert_eq!(world.deferred().len(), 1);
}

#[test]
fn a_slot_that_comes_while_its_plan_is_run_by_hand_is_told_to_wait_once() {
    let mut world = World::with_times("0 * * * *", at("2026-03-01T12:30:00Z"));
    world.connect();
    world.command_to(1, backup());
    world.hear(&ToAgent::CommandGo(CommandGo { job_id: run_id(1) }));
    world.pass(MINUTE * 29);
    assert_eq!(world.deferred(), [], "nothing was due");
    world.pass(HOUR * 2);
    assert_eq!(world.deferred(), [(at("2026-03-01T13:00:00Z"), Code::RepositoryBusy)]);
    // A run by the clock says itself which slot it has, and what comes after that waits for it.
    world.finish(0);
    world.pass(HOUR * 2);
    assert_eq!(world.deferred().len(), 1);
    let told: Vec<JobStarted> = world.told("job.started");
    let served: Vec<Timestamp> = told.into_iter().filter_map(|started| started.slot).collect();
    assert_eq!(served, [at("2026-03-01T14:00:00Z")]);
}
