//! Who is told what, and how often.

use super::{timetable::at, *};
use jiff::SignedDuration;
use protocol::{
    AlarmChannel, AlarmDelivered, AlarmRaised, AlarmState, AlarmTarget, AlarmTest, AlarmTested,
    ChannelId, CommandCancel, DeliveryResult,
};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn channel(n: u8, target: AlarmTarget) -> AlarmChannel {
    AlarmChannel { id: ChannelId::new(9, &[n; 10]), name: format!("channel {n}"), target }
}

fn webhook(n: u8) -> AlarmChannel {
    channel(
        n,
        AlarmTarget::Webhook { url: Secret::new("https://x/canary".to_owned()), token: None },
    )
}

fn ping(n: u8, url: &str) -> AlarmChannel {
    channel(n, AlarmTarget::Ping { url: Secret::new(url.to_owned()) })
}

fn not_sent(again: bool) -> Attempt {
    Attempt::NotSent { problem: Problem::new(Code::ChannelUnreachable, "Nothing answers."), again }
}

impl World {
    fn with_channels(channels: Vec<AlarmChannel>) -> Self {
        let mut world = Self::with_times("0 2 * * *", at("2026-03-01T12:00:00Z"));
        world.set_channels(channels);
        world
    }

    fn set_channels(&mut self, channels: Vec<AlarmChannel>) {
        self.desired.alarm_channels = channels;
        let effects = self.brain.handle_desired_stored(self.desired.clone(), self.now);
        self.execute(effects);
    }

    /// A night passes, and its run ends like this.
    fn night(&mut self, code: Option<Code>) {
        self.pass(HOUR * 24);
        match code {
            Some(code) => self.fail(code),
            None => self.finish(0),
        }
        self.pass(MINUTE);
    }

    /// What is on its way ends like this.
    fn arrive(&mut self, attempt: &Attempt) {
        for (key, _) in std::mem::take(&mut self.parcels) {
            let effects = self.brain.handle_delivered(key, attempt.clone(), self.now);
            self.execute(effects);
        }
        self.pass(SignedDuration::ZERO);
    }

    fn good_on_command(&mut self, n: u8, plan: PlanId) {
        self.connect();
        self.command_to(n, RunSpec::Backup { schedule_id: Some(plan) });
        self.hear(&ToAgent::CommandGo(CommandGo { job_id: run_id(n) }));
        self.finish(0);
        self.pass(SignedDuration::ZERO);
    }

    fn states(&self) -> Vec<AlarmState> {
        self.told::<AlarmRaised>("alarm.raised").into_iter().map(|it| it.state).collect()
    }

    fn results(&self) -> Vec<DeliveryResult> {
        self.told::<AlarmDelivered>("alarm.delivered").into_iter().map(|it| it.result).collect()
    }

    fn events(&self) -> Vec<AlarmEvent> {
        self.parcels.iter().map(|(_, parcel)| parcel.message.state).collect()
    }
}

#[test]
fn a_failure_is_told_once_however_often_it_comes_and_so_is_its_end() {
    let mut world = World::with_channels(vec![webhook(1), webhook(2)]);
    world.night(None);
    assert!(world.parcels.is_empty() && world.states().is_empty());
    for _ in 0..3 {
        world.night(Some(Code::WrongPassword));
        world.arrive(&Attempt::Sent);
    }
    world.night(None);
    assert_eq!(world.events(), [AlarmEvent::Good; 2]);
    world.arrive(&Attempt::Sent);
    world.night(None);
    assert!(world.parcels.is_empty());
    assert_eq!(world.states(), [AlarmState::Failed, AlarmState::Good]);
    assert_eq!(world.results(), [DeliveryResult::Sent; 4]);
    assert!(world.disk.deliveries.is_empty());
    let raised: Vec<AlarmRaised> = world.told("alarm.raised");
    assert_eq!((raised[0].was, raised[0].code), (AlarmState::Good, Some(Code::WrongPassword)));
    assert_eq!(raised[0].channels.len(), 2);
    assert!(raised[0].last_good.is_some_and(|good| good < raised[0].at));
}

#[test]
fn a_message_calls_the_machine_as_the_fleet_does() {
    let mut world = World::with_channels(vec![webhook(1)]);
    world.night(Some(Code::WrongPassword));
    assert_eq!(world.parcels[0].1.message.machine, "web-1", "its own name where no other is known");
    world.arrive(&Attempt::Sent);
    world.desired.machine = Some("Shop".to_owned());
    world.set_channels(world.desired.alarm_channels.clone());
    world.night(None);
    let message = &world.parcels[0].1.message;
    assert_eq!(
        (message.machine.as_str(), message.title.as_str()),
        ("Shop", "Backup good again:  on Shop")
    );
}

#[test]
fn what_is_tried_again_is_no_alarm_yet() {
    let mut world = World::with_channels(vec![webhook(1)]);
    world.pass(HOUR * 15);
    for attempt in 1..=4 {
        assert!(world.states().is_empty(), "before attempt {attempt}");
        world.fail(Code::RepositoryUnreachable);
        world.pass(HOUR);
    }
    assert_eq!(world.states(), [AlarmState::Failed]);
    assert_eq!(world.starts().len(), 4);
}

#[test]
fn a_failure_whose_further_attempt_cannot_begin_is_told_when_that_is_due_and_once() {
    for code in [Code::RepositoryUnreachable, Code::OnBattery] {
        let mut world = World::with_channels(vec![webhook(1)]);
        world.desired.schedules[0].options = Some(serde_json::json!({ "not_on_battery": true }));
        world.set_channels(vec![webhook(1)]);
        world.pass(HOUR * 15);
        let failed = world.running[0];
        world.answers = code != Code::RepositoryUnreachable;
        world.closed.on_battery = code == Code::OnBattery;
        world.fail(Code::RepositoryUnreachable);
        world.pass(MINUTE * 4);
        assert!(world.states().is_empty(), "it is tried again");
        world.pass(MINUTE * 5);
        assert_eq!(world.states(), [AlarmState::Failed]);
        let raised: Vec<AlarmRaised> = world.told("alarm.raised");
        assert_eq!((raised[0].code, raised[0].run_id), (Some(code), Some(failed)));
        assert_eq!(world.events(), [AlarmEvent::Failed]);
        world.arrive(&Attempt::Sent);
        world.crash();
        world.pass(HOUR * 50);
        assert_eq!(world.states(), [AlarmState::Failed], "however long it lasts");
        (world.answers, world.closed.on_battery) = (true, false);
        world.pass(MINUTE * 2);
        world.finish(0);
        assert_eq!(world.states(), [AlarmState::Failed, AlarmState::Good]);
    }
}

#[test]
fn a_further_attempt_of_a_machine_that_has_just_come_has_half_an_hour_to_begin() {
    for is_asleep in [true, false] {
        let away = |world: &mut World, time| {
            world.sleep(time);
            if !is_asleep {
                world.crash();
            }
        };
        let mut world = World::with_channels(vec![webhook(1)]);
        world.desired.stale_after_days = Some(3);
        world.set_channels(vec![webhook(1)]);
        world.pass(HOUR * 15);
        world.fail(Code::RepositoryUnreachable);
        world.answers = false;
        away(&mut world, HOUR);
        world.pass(MINUTE * 25);
        assert!(world.states().is_empty());
        world.answers = true;
        world.pass(MINUTE * 2);
        assert_eq!(world.running.len(), 1);
        world.fail(Code::RepositoryUnreachable);
        // The next slot takes the place of the attempt, and does not begin either.
        world.answers = false;
        away(&mut world, HOUR * 24);
        world.pass(MINUTE * 25);
        assert!(world.states().is_empty());
        world.pass(MINUTE * 10);
        assert_eq!(world.states(), [AlarmState::Failed]);
    }
}

#[test]
fn a_further_attempt_that_has_its_place_in_the_queue_keeps_the_failure_back() {
    let mut world = World::with_channels(vec![webhook(1)]);
    world.desired.schedules[0].options = Some(serde_json::json!({ "not_on_battery": true }));
    world.set_channels(vec![webhook(1)]);
    world.pass(HOUR * 15);
    world.fail(Code::RepositoryUnreachable);
    world.connect();
    let (plan, repository_id) =
        (world.desired.schedules[0].id, world.desired.schedules[0].repository_id);
    world.command_to(1, RunSpec::Prune { repository_id, dry_run: false });
    world.hear(&ToAgent::CommandGo(CommandGo { job_id: run_id(1) }));
    world.pass(HOUR * 3);
    assert_eq!(world.running, [run_id(1)]);
    assert!(world.states().is_empty());
    // It waits once more after a restart, and a run on command is good meanwhile.
    world.closed.on_battery = true;
    world.crash();
    world.recover();
    world.good_on_command(2, plan);
    world.pass(HOUR * 2);
    assert!(world.states().is_empty());
}

#[test]
fn an_attempt_that_the_next_slot_would_displace_is_none() {
    let mut world = World::with_channels(vec![webhook(1)]);
    world.set_times("* * * * *", true);
    world.pass(MINUTE * 2);
    world.fail(Code::RepositoryUnreachable);
    assert_eq!(world.states(), [AlarmState::Failed]);
}

#[test]
fn a_run_that_fails_after_its_clock_was_put_back_is_not_tried_again_and_that_is_told() {
    let mut world = World::with_channels(vec![webhook(1)]);
    world.pass(HOUR * 15);
    world.now.wall = at("2026-03-01T12:00:00Z");
    world.fail(Code::RepositoryUnreachable);
    assert_eq!(world.states(), [AlarmState::Failed]);
    world.pass(HOUR);
    assert_eq!(world.starts().len(), 1);
}

#[test]
fn an_attempt_that_a_clock_put_back_has_put_off_keeps_no_failure_back() {
    let mut world = World::with_channels(vec![webhook(1)]);
    world.pass(HOUR * 15);
    world.fail(Code::RepositoryUnreachable);
    assert_eq!(world.states(), [], "it is tried again");
    world.connect();
    world.command_to(1, RunSpec::Backup { schedule_id: Some(world.desired.schedules[0].id) });
    world.hear(&ToAgent::CommandGo(CommandGo { job_id: run_id(1) }));
    // The schedule is not looked at between the two.
    world.now.wall -= HOUR * 50;
    world.fail(Code::RepositoryUnreachable);
    assert_eq!(world.states(), [AlarmState::Failed]);
}

#[test]
fn what_a_person_cancelled_or_what_lacks_some_files_is_no_failure() {
    let mut world = World::with_channels(vec![webhook(1)]);
    world.pass(HOUR * 24);
    world.connect();
    let cancel =
        CommandCancel { job_id: world.running[0], number: None, reason: CancelReason::Admin };
    world.hear(&ToAgent::CommandCancel(cancel));
    assert!(world.running.is_empty());
    world.pass(HOUR * 24);
    let run = world.running.pop().unwrap();
    let event = RunEvent::Finished(Box::new(Outcome::plain(JobStatus::Partial, None)));
    let effects = world.brain.handle_run_event(run, event, world.now);
    world.execute(effects);
    assert!(world.states().is_empty());
}

#[test]
fn what_could_not_begin_for_a_day_is_overdue_with_the_reason() {
    let mut world = World::with_channels(vec![webhook(1)]);
    world.night(None);
    world.answers = false;
    // The night of the second day, and all of the third.
    world.pass(HOUR * 36);
    assert!(world.states().is_empty());
    world.pass(HOUR * 3);
    let raised: Vec<AlarmRaised> = world.told("alarm.raised");
    assert_eq!(raised.len(), 1);
    assert_eq!(raised[0].state, AlarmState::Overdue);
    assert_eq!(raised[0].code, Some(Code::RepositoryUnreachable));
    assert_eq!(world.events(), [AlarmEvent::Overdue]);
    world.arrive(&Attempt::Sent);
    world.pass(HOUR * 72);
    assert_eq!(world.states().len(), 1, "told once, however long it lasts");
    world.answers = true;
    world.pass(MINUTE * 5);
    world.finish(0);
    assert_eq!(world.states(), [AlarmState::Overdue, AlarmState::Good]);
}

#[test]
fn a_laptop_whose_repository_is_away_is_overdue_only_when_its_days_are_over() {
    let mut world = World::with_channels(vec![webhook(1)]);
    world.desired.stale_after_days = Some(3);
    world.set_channels(vec![webhook(1)]);
    world.night(None);
    world.answers = false;
    // The next night is the first that it misses.
    world.pass(HOUR * 86 - MINUTE * 10);
    assert!(world.states().is_empty());
    world.pass(MINUTE * 20);
    assert_eq!(world.states(), [AlarmState::Overdue]);
    world.answers = true;
    world.pass(MINUTE * 5);
    world.finish(0);
    // From now on it is always on, which counts at once.
    world.answers = false;
    world.pass(HOUR * 24 * 2);
    assert_eq!(world.states(), [AlarmState::Overdue, AlarmState::Good]);
    world.desired.stale_after_days = None;
    world.set_channels(vec![webhook(1)]);
    world.pass(HOUR * 12);
    assert_eq!(world.states().last(), Some(&AlarmState::Overdue));
}

#[test]
fn a_machine_that_slept_is_not_overdue_while_it_makes_up_for_it() {
    let mut world = World::with_channels(vec![webhook(1)]);
    world.night(None);
    world.sleep(HOUR * 24 * 7);
    world.pass(MINUTE * 10);
    world.finish(0);
    world.pass(HOUR * 2);
    assert!(world.states().is_empty());
    // One whose repository is away then is overdue once it had its time.
    world.sleep(HOUR * 24 * 7);
    world.answers = false;
    world.pass(MINUTE * 10);
    assert!(world.states().is_empty());
    world.pass(MINUTE * 30);
    assert_eq!(world.states(), [AlarmState::Overdue]);
}

#[test]
fn a_message_that_may_have_arrived_is_not_sent_again() {
    let mut world = World::with_channels(vec![webhook(1)]);
    world.night(Some(Code::WrongPassword));
    assert_eq!(world.parcels.len(), 1);
    let attempts: Vec<u32> = world.disk.deliveries.iter().map(|it| it.attempts).collect();
    assert_eq!(attempts, [1], "an attempt is on the disk before it is made");
    world.parcels.clear();
    world.crash();
    world.pass(HOUR * 12);
    assert!(world.parcels.is_empty());
    assert_eq!(world.results(), [DeliveryResult::Uncertain]);
    // The same without a crash.
    world.night(None);
    let problem = Problem::new(Code::NoAnswer, "No answer.");
    world.arrive(&Attempt::Uncertain(problem));
    world.pass(HOUR * 12);
    assert!(world.parcels.is_empty());
    assert_eq!(world.results(), [DeliveryResult::Uncertain; 2]);
}

#[test]
fn a_message_that_certainly_did_not_arrive_is_sent_again_for_a_day_also_after_a_restart() {
    let mut world = World::with_channels(vec![webhook(1)]);
    world.night(Some(Code::WrongPassword));
    let begun = world.now.mono;
    let mut attempts = 0;
    while world.results().is_empty() {
        world.running.clear();
        attempts += world.parcels.len();
        world.arrive(&not_sent(true));
        if attempts == 3 {
            world.crash();
        }
        world.pass(MINUTE);
    }
    assert_eq!((world.results(), attempts), (vec![DeliveryResult::GaveUp], 30));
    let took = SignedDuration::try_from(world.now.mono.checked_sub(begun).unwrap()).unwrap();
    assert!(took > HOUR * 20 && took < HOUR * 26, "{took}");
    let delivered: Vec<AlarmDelivered> = world.told("alarm.delivered");
    assert_eq!(delivered[0].attempts, 30);
    assert_eq!(delivered[0].problem.as_ref().unwrap().code, Code::ChannelUnreachable);
}

#[test]
fn what_will_never_be_taken_is_given_up_at_once() {
    let mut world = World::with_channels(vec![webhook(1)]);
    world.night(Some(Code::WrongPassword));
    world.arrive(&not_sent(false));
    assert_eq!(world.results(), [DeliveryResult::GaveUp]);
}

#[test]
fn a_newer_message_takes_the_place_of_one_that_waits_and_follows_one_that_is_on_its_way() {
    let mut world = World::with_channels(vec![webhook(1), webhook(2)]);
    world.night(Some(Code::WrongPassword));
    // One channel does not answer, the other has not ended yet.
    let (first, second) = (world.parcels[0].0, world.parcels[1].0);
    let effects = world.brain.handle_delivered(first, not_sent(true), world.now);
    world.execute(effects);
    world.parcels.clear();
    world.good_on_command(7, PlanId::new(3, &[3; 10]));
    assert_eq!(world.results(), [DeliveryResult::Superseded]);
    assert_eq!(world.events(), [AlarmEvent::Good], "not beside one that is on its way");
    let effects = world.brain.handle_delivered(second, not_sent(true), world.now);
    world.execute(effects);
    world.pass(SignedDuration::ZERO);
    assert_eq!(world.events(), [AlarmEvent::Good; 2]);
}

#[test]
fn a_ping_hears_of_each_good_run_and_of_a_failure_once() {
    let mut world = World::with_channels(vec![ping(1, "https://x/check")]);
    world.night(None);
    assert_eq!(world.events(), [AlarmEvent::Good]);
    world.arrive(&Attempt::Sent);
    world.night(Some(Code::WrongPassword));
    assert_eq!(world.events(), [AlarmEvent::Failed]);
    world.arrive(&Attempt::Sent);
    world.night(Some(Code::WrongPassword));
    assert!(world.parcels.is_empty());
    world.night(None);
    assert_eq!(world.events(), [AlarmEvent::Good]);
    world.arrive(&Attempt::Sent);
    // The journal tells of changes only.
    assert_eq!((world.states().len(), world.results().len()), (2, 2));
}

#[test]
fn one_check_for_all_plans_is_well_only_while_all_of_them_are() {
    for (url, hears) in [("https://x/check", 0), ("https://x/{plan}", 1)] {
        let mut world = World::with_channels(vec![ping(1, url)]);
        let mut other = world.desired.schedules[0].clone();
        other.id = PlanId::new(3, &[4; 10]);
        other.cron_expr = String::new();
        world.desired.schedules.push(other);
        world.set_channels(world.desired.alarm_channels.clone());
        world.night(Some(Code::WrongPassword));
        world.arrive(&Attempt::Sent);
        world.good_on_command(7, PlanId::new(3, &[4; 10]));
        assert_eq!(world.parcels.len(), hears, "{url}");
    }
}

#[test]
fn a_paused_plan_that_had_failed_does_not_keep_the_check_of_the_others_silent() {
    let mut world = World::with_channels(vec![ping(1, "https://x/check")]);
    let mut other = world.desired.schedules[0].clone();
    other.id = PlanId::new(3, &[4; 10]);
    other.cron_expr = String::new();
    world.desired.schedules.push(other.clone());
    world.set_channels(world.desired.alarm_channels.clone());
    world.night(Some(Code::WrongPassword));
    world.arrive(&Attempt::Sent);
    let mut hears = Vec::new();
    for (n, is_paused) in [(1, false), (2, true), (3, false)] {
        world.set_times("0 2 * * *", !is_paused);
        world.good_on_command(n, other.id);
        hears.push(world.events());
        world.arrive(&Attempt::Sent);
        world.disconnect();
        if is_paused {
            world.pass(HOUR * 24 * 7);
        }
    }
    assert_eq!(hears, [vec![], vec![AlarmEvent::Good], vec![]]);
    assert_eq!(world.states(), [AlarmState::Failed], "nor is it overdue while it is paused");
}

#[test]
fn a_plan_or_channel_that_is_gone_leaves_nothing_on_its_way() {
    let mut world = World::with_channels(vec![webhook(1)]);
    world.night(Some(Code::WrongPassword));
    world.arrive(&not_sent(true));
    world.set_channels(Vec::new());
    world.pass(MINUTE);
    assert_eq!(world.results(), [DeliveryResult::GaveUp]);
    world.set_channels(vec![webhook(1)]);
    world.night(None);
    world.arrive(&not_sent(true));
    world.desired.schedules.clear();
    world.set_channels(vec![webhook(1)]);
    assert_eq!(world.results(), [DeliveryResult::GaveUp, DeliveryResult::Superseded]);
    assert!(world.disk.alarms.is_empty() && world.disk.deliveries.is_empty());
}

#[test]
fn without_channels_nothing_is_told_and_the_state_is_known_all_the_same() {
    let mut world = World::with_channels(Vec::new());
    world.night(Some(Code::WrongPassword));
    assert!(world.states().is_empty());
    world.set_channels(vec![webhook(1)]);
    world.night(None);
    assert_eq!(world.events(), [AlarmEvent::Good]);
}

#[test]
fn an_agent_that_ends_begins_no_message_and_waits_for_the_one_on_its_way() {
    let mut world = World::with_channels(vec![webhook(1)]);
    world.night(Some(Code::WrongPassword));
    assert!(world.brain.is_delivering());
    let effects = world.brain.handle_stop();
    world.execute(effects);
    world.arrive(&not_sent(true));
    world.pass(HOUR);
    assert!(!world.brain.is_delivering() && world.parcels.is_empty());
}

#[test]
fn a_trial_is_sent_at_once_and_its_end_is_told_over_the_connection() {
    let mut world = World::with_channels(Vec::new());
    world.connect();
    for n in 1..=3 {
        let alarm_id = protocol::AlarmId::new(1, &[n; 10]);
        world.hear(&ToAgent::AlarmTest(Box::new(AlarmTest { alarm_id, channel: webhook(n) })));
    }
    assert_eq!(world.tried.len(), 2);
    let first = world.tried[0].message.clone();
    assert_eq!(first.state, AlarmEvent::Test);
    let effects = world.brain.handle_tried(first.id, Attempt::Sent);
    world.execute(effects);
    let tested: Vec<AlarmTested> = world
        .wire
        .iter()
        .filter(|frame| frame.kind == "alarm.tested")
        .map(|frame| frame.payload().unwrap())
        .collect();
    assert_eq!(tested[0].problem.as_ref().unwrap().code, Code::Conflict);
    assert_eq!((tested[1].alarm_id, &tested[1].problem), (first.id, &None));
}

#[test]
fn a_message_says_who_and_since_when_and_no_secret() {
    let mut world = World::with_channels(vec![webhook(1)]);
    world.desired.schedules[0].name = "Nightly\r\nBcc: x".to_owned();
    world.set_channels(vec![webhook(1)]);
    world.night(None);
    world.night(Some(Code::WrongPassword));
    let message = &world.parcels[0].1.message;
    assert_eq!(message.title, "Backup failed: NightlyBcc: x on web-1");
    assert!(message.text.contains("The repository's password is wrong."), "{}", message.text);
    assert!(
        message.text.contains("The last good run began on 2 March 2026, 02:0"),
        "{}",
        message.text
    );
    let all = format!("{:?} {:?}", world.records, world.disk.deliveries);
    assert!(!all.contains("canary") && !all.contains("/srv") && !all.contains("/home"), "{all}");
}

#[test]
fn the_times_in_a_message_are_whole_seconds() {
    let mut world = World::with_channels(vec![webhook(1)]);
    world.pass(SignedDuration::from_nanos(987_654_321));
    world.night(None);
    world.night(Some(Code::WrongPassword));
    world.arrive(&Attempt::Sent);
    world.night(None);
    let good = world.parcels[0].1.message.clone();
    assert_eq!(good.state, AlarmEvent::Good);
    world.arrive(&Attempt::Sent);
    world.connect();
    let alarm_id = protocol::AlarmId::new(1, &[1; 10]);
    world.hear(&ToAgent::AlarmTest(Box::new(AlarmTest { alarm_id, channel: webhook(1) })));
    let test = world.tried[0].message.clone();
    assert_eq!(test.state, AlarmEvent::Test);
    assert_ne!(world.now.wall.subsec_nanosecond(), 0);
    for message in [good, test] {
        for time in [Some(message.at), message.since].into_iter().flatten() {
            assert_eq!(time.subsec_nanosecond(), 0, "{message:?}");
        }
    }
}
