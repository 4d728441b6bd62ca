//! The brain's rules without clock, disk or network: whatever happens in whatever order, each run
//! begins at most once and ends exactly once.

mod alarms;
mod disk;
mod hooks;
mod presence;
mod readings;
mod timetable;
mod waiting;

use super::*;
use crate::journal::Kept;
use proptest::prelude::*;
use protocol::{
    CommandCancel, CommandGo, CommandRun, ConfigUpdate, Generation, JobFinished, JobKind,
    JobStatus, JournalAck, JournalId, ManagerIdentity, PROTOCOL_VERSION, PlanId, RepoStats,
    Schedule, ScheduleSet, SnapshotsWant, ToAgent, UnreadableFile, Welcome, journal::ChainHash,
};
use serde_json::Value;

fn incarnation() -> Incarnation {
    Incarnation::new(1, &[9; 10])
}

fn run_id(n: u8) -> RunId {
    RunId::new(4, &[n; 10])
}

fn host_id() -> HostId {
    HostId::new(1, &[1; 10])
}

fn number(n: u8) -> CommandNumber {
    CommandNumber { incarnation: incarnation(), n: n.into() }
}

fn facts() -> Facts {
    Facts {
        host_id: host_id(),
        protocol_version: PROTOCOL_VERSION,
        agent_version: "0".to_owned(),
        hostname: "web-1".to_owned(),
        os: HostOs::Linux,
        arch: HostArch::Amd64,
        boot_time: None,
        zone: TimeZone::UTC,
        has_battery: true,
        time_zone_data: None,
        restic: Ok("0.18.0".to_owned()),
    }
}

fn desired() -> Desired {
    let repository_id = RepositoryId::new(2, &[2; 10]);
    Desired {
        generation: Generation { incarnation: incarnation(), n: 1 },
        digest: None,
        version: 1,
        addresses: Vec::new(),
        alarm_channels: Vec::new(),
        machine: None,
        stale_after_days: None,
        repositories: vec![RepositoryConfig {
            id: repository_id,
            name: "store".to_owned(),
            url: "/srv".to_owned(),
            username: None,
            credential: None,
            password: Secret::new("secret".to_owned()),
            ca_pem: None,
        }],
        schedules: vec![Schedule {
            id: PlanId::new(3, &[3; 10]),
            kind: JobKind::Backup,
            cron_expr: String::new(),
            paths: vec!["/home".to_owned()],
            excludes: Vec::new(),
            tags: Vec::new(),
            retention_policy: None,
            options: None,
            pre_hook: String::new(),
            post_hook: String::new(),
            enabled: true,
            name: String::new(),
            repository_id: Some(repository_id),
        }],
    }
}

/// A disk and a manager that are plain memory, and a brain between them.
struct World {
    brain: Brain,
    /// The desired state that is on the disk.
    desired: Desired,
    /// Whether the repository answers.
    answers: bool,
    /// The gates that are closed.
    closed: Gates,
    /// What the machine knows of itself.
    facts: Facts,
    now: Now,
    disk: Memory,
    records: BTreeMap<u64, Record>,
    /// What the manager holds: a journal's records, in order.
    manager: Vec<Record>,
    /// What the brain sent and the manager has not looked at.
    wire: VecDeque<Frame>,
    running: Vec<RunId>,
    /// The order that was given last.
    order: Option<Order>,
    recovering: Vec<RunId>,
    /// The messages that were begun to be sent, in order, and those for trial.
    parcels: Vec<(DeliveryKey, Parcel)>,
    tried: Vec<Parcel>,
    started: BTreeMap<RunId, u32>,
    is_connected: bool,
}

impl World {
    fn new() -> Self {
        let disk = Memory {
            journal: Journal::empty(JournalId::new(1, &[1; 10])),
            incarnation: None,
            ticket: None,
            series: Vec::new(),
            runs: Vec::new(),
            views: Vec::new(),
            marks: Vec::new(),
            awake: None,
            told_zone: None,
            alarms: Vec::new(),
            deliveries: Vec::new(),
        };
        Self {
            brain: Brain::new(facts(), disk.clone(), Some(desired()), 0),
            desired: desired(),
            answers: true,
            closed: Gates::default(),
            facts: facts(),
            now: Now { wall: Timestamp::UNIX_EPOCH, mono: Duration::ZERO },
            disk,
            records: BTreeMap::new(),
            manager: Vec::new(),
            wire: VecDeque::new(),
            running: Vec::new(),
            order: None,
            recovering: Vec::new(),
            parcels: Vec::new(),
            tried: Vec::new(),
            started: BTreeMap::new(),
            is_connected: false,
        }
    }

    fn execute(&mut self, effects: Vec<Effect>) {
        let mut queue = VecDeque::from(effects);
        while let Some(effect) = queue.pop_front() {
            queue.extend(self.carry_out(effect));
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Vec<Effect> {
        match effect {
            Effect::Store(change) => return self.store(change),
            Effect::Send(frame) => self.wire.push_back(*frame),
            Effect::Fetch(room) => {
                let records = self.records.range(room.after + 1..=room.up_to);
                let records = records.take(room.records).map(|(_, record)| record.clone());
                return self.brain.handle_records(records.collect());
            }
            Effect::LookUpHash(seq) => {
                let hash = self.records.get(&seq).map(|record| record.hash);
                let kept = hash.map_or(Kept::Nothing, Kept::Hash);
                return self.brain.handle_hash(kept, self.now);
            }
            Effect::Start(order) => {
                *self.started.entry(order.run_id).or_default() += 1;
                self.running.push(order.run_id);
                self.order = Some(*order);
            }
            Effect::Cancel(run_id) => {
                if self.running.contains(&run_id) {
                    self.running.retain(|running| *running != run_id);
                    let outcome = Outcome::plain(JobStatus::Cancelled, None);
                    let event = RunEvent::Finished(Box::new(outcome));
                    return self.brain.handle_run_event(run_id, event, self.now);
                }
            }
            Effect::Recover { run_id, .. } => self.recovering.push(run_id),
            Effect::SaveDesired(desired) => {
                self.desired = (*desired).clone();
                return self.brain.handle_desired_stored(*desired, self.now);
            }
            Effect::Probe(id, _) => return self.brain.handle_probed(id, self.answers, self.now),
            Effect::LookAtGates(asked) => {
                let closed = Gates {
                    on_battery: asked.on_battery && self.closed.on_battery,
                    metered: asked.metered && self.closed.metered,
                };
                return self.brain.handle_gates(closed, self.now);
            }
            Effect::Deliver(key, parcel) => self.parcels.push((key, *parcel)),
            Effect::TryChannel(parcel) => self.tried.push(*parcel),
            Effect::Renew { .. } => panic!("nothing here forks"),
            Effect::Disconnect { .. } | Effect::Read(_) | Effect::List(..) => {}
        }
        Vec::new()
    }

    fn store(&mut self, change: Change) -> Vec<Effect> {
        match change {
            Change::Append(record, _) => {
                let seq = record.seq;
                self.disk.journal.head = seq;
                self.disk.journal.head_hash = record.hash;
                self.records.insert(seq, record);
                return self.brain.handle_committed(seq);
            }
            Change::Acked(seq) => self.disk.journal.acked = seq,
            Change::Run(run) => {
                self.disk.runs.retain(|old| old.id != run.id);
                self.disk.runs.push(*run);
            }
            Change::Numbers { incarnation, watermark, highest, struck } => {
                let series = match self.disk.series.first_mut() {
                    Some((_, series)) => series,
                    None => {
                        self.disk.series.push((incarnation, Series::default()));
                        &mut self.disk.series[0].1
                    }
                };
                series.watermark = watermark;
                series.highest = highest;
                series.struck.extend(struck);
                series.struck.retain(|&n| n > watermark);
            }
            Change::Incarnation(incarnation) => self.disk.incarnation = Some(incarnation),
            Change::Mark(plan, mark) => {
                self.disk.marks.retain(|(of, _)| *of != plan);
                self.disk.marks.extend(mark.map(|mark| (plan, mark)));
            }
            Change::Awake(awake) => self.disk.awake = Some(awake),
            Change::ToldZone(zone) => self.disk.told_zone = zone,
            Change::PlanAlarm(plan, alarm) => {
                self.disk.alarms.retain(|(of, _)| *of != plan);
                self.disk.alarms.extend(alarm.map(|alarm| (plan, alarm)));
            }
            Change::Delivery(key, delivery) => {
                self.disk.deliveries.retain(|of| of.key() != key);
                self.disk.deliveries.extend(delivery.map(|delivery| *delivery));
            }
            Change::Epoch(_) | Change::Ticket(_) | Change::View(..) => {}
        }
        Vec::new()
    }

    fn hear(&mut self, what: &ToAgent) {
        let frame = what.encode().unwrap();
        let effects = self.brain.handle_frame(&frame, self.now);
        self.execute(effects);
    }

    fn connect(&mut self) {
        self.disconnect();
        self.is_connected = true;
        let effects = self.brain.handle_connected();
        self.execute(effects);
        self.wire.clear();
        let (seq, hash) =
            self.manager.last().map_or((0, ChainHash::START), |record| (record.seq, record.hash));
        let welcome = Welcome {
            protocol_version: PROTOCOL_VERSION,
            host_id: host_id(),
            manager: ManagerIdentity { incarnation: incarnation(), epoch: 1 },
            cursor: Some(protocol::Cursor { journal_id: self.disk.journal.id, seq, hash }),
            renew_journal: None,
            ticket: None,
            hold: None,
            server_time: Timestamp::UNIX_EPOCH,
        };
        self.hear(&ToAgent::Welcome(Box::new(welcome)));
        assert!(self.brain.is_open());
    }

    fn disconnect(&mut self) {
        self.is_connected = false;
        self.wire.clear();
        self.brain.handle_disconnected();
    }

    /// The manager looks at what came, and acknowledges it or not.
    fn deliver(&mut self, acknowledge: bool) {
        while let Some(frame) = self.wire.pop_front() {
            let (Some(seq), Some(hash)) = (frame.seq, frame.hash) else { continue };
            let (last, before) = self
                .manager
                .last()
                .map_or((0, ChainHash::START), |record| (record.seq, record.hash));
            assert_eq!(seq, last + 1, "a record came twice, or one is missing");
            assert_eq!(hash, before.next(seq, &frame.kind, frame.payload.get()));
            self.manager.push(Record {
                seq,
                kind: frame.kind,
                payload: frame.payload.get().to_owned(),
                hash,
                run_id: None,
                at: Timestamp::UNIX_EPOCH,
            });
        }
        if acknowledge && self.is_connected {
            let mut ack = ToAgent::JournalAck(JournalAck {}).encode().unwrap();
            ack.ack = self.manager.last().map(|record| record.seq);
            let effects = self.brain.handle_frame(&ack, self.now);
            self.execute(effects);
        }
    }

    /// Everything in memory is gone; only the disk is left.
    fn crash(&mut self) {
        self.disconnect();
        self.running.clear();
        self.recovering.clear();
        let (facts, desired) = (self.facts.clone(), Some(self.desired.clone()));
        self.brain = Brain::new(facts, self.disk.clone(), desired, 0);
        let effects = self.brain.handle_start(self.now);
        self.execute(effects);
    }

    fn command(&mut self, n: u8) {
        self.command_to(n, RunSpec::Backup { schedule_id: None });
    }

    fn command_to(&mut self, n: u8, spec: RunSpec) {
        self.command_as(n, n, spec);
    }

    fn command_as(&mut self, n: u8, run: u8, spec: RunSpec) {
        let command = CommandRun {
            job_id: run_id(run),
            spec,
            args: Vec::new(),
            number: Some(number(n)),
            expires_at: None,
            signature: None,
        };
        self.hear(&ToAgent::CommandRun(Box::new(command)));
    }

    fn finish(&mut self, nth: usize) {
        if self.running.is_empty() {
            return;
        }
        let run_id = self.running.remove(nth % self.running.len());
        let outcome = Outcome::plain(JobStatus::Succeeded, None);
        let event = RunEvent::Finished(Box::new(outcome));
        let effects = self.brain.handle_run_event(run_id, event, self.now);
        self.execute(effects);
    }

    fn recover(&mut self) {
        for run_id in std::mem::take(&mut self.recovering) {
            let effects = self.brain.handle_recovered(run_id, Recovered::Nothing, self.now);
            self.execute(effects);
        }
    }

    fn ends(&self) -> BTreeMap<RunId, u32> {
        let mut ends = BTreeMap::new();
        for record in &self.manager {
            if record.kind == "job.finished" {
                let finished: JobFinished = serde_json::from_str(&record.payload).unwrap();
                assert!(finished.status.is_terminal());
                *ends.entry(finished.job_id).or_default() += 1;
            }
        }
        ends
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Connect,
    Disconnect,
    Deliver(bool),
    Crash,
    Command(u8),
    Go(u8),
    Cancel(u8, CancelReason),
    Finish(usize),
    Recover,
}

fn step() -> impl Strategy<Value = Step> {
    let run = 1..6_u8;
    prop_oneof![
        2 => Just(Step::Connect),
        1 => Just(Step::Disconnect),
        3 => any::<bool>().prop_map(Step::Deliver),
        1 => Just(Step::Crash),
        6 => run.clone().prop_map(Step::Command),
        6 => run.clone().prop_map(Step::Go),
        1 => (run, prop_oneof![Just(CancelReason::Admin), Just(CancelReason::Expired)])
            .prop_map(|(n, reason)| Step::Cancel(n, reason)),
        3 => (0..5_usize).prop_map(Step::Finish),
        2 => Just(Step::Recover),
    ]
}

fn take(world: &mut World, step: Step) {
    world.now.mono += Duration::from_secs(1);
    match step {
        Step::Connect => world.connect(),
        Step::Disconnect => world.disconnect(),
        Step::Deliver(acknowledge) => world.deliver(acknowledge),
        Step::Crash => world.crash(),
        Step::Command(n) if world.is_connected => world.command(n),
        Step::Go(n) if world.is_connected => {
            world.hear(&ToAgent::CommandGo(CommandGo { job_id: run_id(n) }));
        }
        Step::Cancel(n, reason) if world.is_connected => {
            let cancel = CommandCancel { job_id: run_id(n), number: Some(number(n)), reason };
            world.hear(&ToAgent::CommandCancel(cancel));
        }
        Step::Command(_) | Step::Go(_) | Step::Cancel(..) => {}
        Step::Finish(nth) => world.finish(nth),
        Step::Recover => world.recover(),
    }
    let busy = world.running.len();
    assert!(busy <= 1, "{busy} runs on one repository at once");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_run_begins_at_most_once_and_ends_exactly_once(
        steps in prop::collection::vec(step(), 1..120)
    ) {
        let mut world = World::new();
        for step in steps {
            take(&mut world, step);
        }
        // In the end everything is asked for, gets its go, and has its time.
        world.connect();
        for n in 1..6 {
            world.command(n);
            world.hear(&ToAgent::CommandGo(CommandGo { job_id: run_id(n) }));
        }
        for _ in 0..8 {
            world.recover();
            world.finish(0);
            world.deliver(true);
        }
        let ends = world.ends();
        for n in 1..6 {
            prop_assert_eq!(ends.get(&run_id(n)), Some(&1), "run {} has another number of ends", n);
            let starts = world.started.get(&run_id(n)).copied().unwrap_or(0);
            prop_assert!(starts <= 1, "run {} began {} times", n, starts);
        }
        prop_assert_eq!(world.disk.journal.acked, world.disk.journal.head);
    }
}

#[test]
fn a_command_whose_number_another_one_had_is_refused_and_its_cancel_ends_it() {
    let mut world = World::new();
    world.connect();
    world.command(1);
    world.hear(&ToAgent::CommandGo(CommandGo { job_id: run_id(1) }));
    world.finish(0);
    let (other, third) = (run_id(7), run_id(8));
    world.command_as(1, 7, RunSpec::Backup { schedule_id: None });
    let told = world.wire.iter().rfind(|frame| frame.kind == "command.result").unwrap();
    let answer: CommandResult = told.payload().unwrap();
    let said = (answer.job_id, answer.accepted, answer.code);
    assert_eq!(said, (other, false, Some(Code::ManagerBehind)));
    world.hear(&ToAgent::CommandGo(CommandGo { job_id: other }));
    assert!(world.running.is_empty());

    let cancel =
        CommandCancel { job_id: third, number: Some(number(1)), reason: CancelReason::Admin };
    world.hear(&ToAgent::CommandCancel(cancel));
    world.deliver(true);
    assert_eq!(world.ends(), BTreeMap::from([(run_id(1), 1), (third, 1)]));
}

#[test]
fn a_repository_that_cannot_be_asked_keeps_the_run_open_for_ten_minutes() {
    let mut world = World::new();
    world.connect();
    world.command(1);
    world.hear(&ToAgent::CommandGo(CommandGo { job_id: run_id(1) }));
    world.crash();
    let away = || Recovered::Unreachable("connection refused".to_owned());
    let mut minutes = 0;
    while world.recovering.pop().is_some() {
        let effects = world.brain.handle_recovered(run_id(1), away(), world.now);
        world.execute(effects);
        minutes += 1;
        // A look at the clock comes between.
        while let Some(due) = world.brain.poll_timeout().filter(|_| world.recovering.is_empty()) {
            if world.now.mono > Duration::from_mins(20) {
                break;
            }
            world.now.mono = due;
            let effects = world.brain.handle_timeout(world.now);
            world.execute(effects);
        }
    }
    assert_eq!(minutes, 11, "at once, and then every minute");
    world.connect();
    world.deliver(true);
    let last = world.manager.last().unwrap();
    let finished: JobFinished = serde_json::from_str(&last.payload).unwrap();
    assert_eq!(finished.status, JobStatus::Interrupted);
    assert!(finished.error.unwrap().contains("connection refused"));
}

#[test]
fn nobody_says_that_there_is_no_snapshot_where_nobody_could_look() {
    let mut world = World::new();
    world.connect();
    world.command(1);
    world.hear(&ToAgent::CommandGo(CommandGo { job_id: run_id(1) }));
    world.crash();
    let effects = world.brain.handle_recovered(run_id(1), Recovered::NotAsked, world.now);
    world.execute(effects);
    world.connect();
    world.deliver(true);
    let last = world.manager.last().unwrap();
    let finished: JobFinished = serde_json::from_str(&last.payload).unwrap();
    assert_eq!(finished.status, JobStatus::Interrupted);
    let words = finished.error.unwrap();
    assert!(
        words.contains("nobody could look") && !words.contains("there is no snapshot"),
        "{words}"
    );
}

#[test]
fn a_policy_with_a_rule_that_is_not_known_removes_nothing() {
    let mut world = World::new();
    let mut desired = desired();
    desired.schedules[0].retention_policy =
        Some(serde_json::json!({ "keep_last": 1, "keep_tags": ["forever"] }));
    world.brain.handle_desired_stored(desired, world.now);
    world.connect();
    world
        .command_to(1, RunSpec::Forget { schedule_id: None, dry_run: false, keep_suspects: false });
    let answer = world.wire.iter().find(|frame| frame.kind == "command.result").unwrap();
    let answer: protocol::CommandResult = answer.payload().unwrap();
    assert_eq!((answer.accepted, answer.code), (false, Some(Code::RetentionUnknown)));
}

#[test]
fn a_plan_cannot_give_the_tags_by_which_things_are_recognised() {
    for tag in ["host:other", "plan:other", "run:other", " Host:other"] {
        let mut world = World::new();
        let mut desired = desired();
        desired.schedules[0].tags = vec![tag.to_owned()];
        world.brain.handle_desired_stored(desired, world.now);
        world.connect();
        world.command(1);
        let answer = world.wire.iter().find(|frame| frame.kind == "command.result").unwrap();
        let answer: protocol::CommandResult = answer.payload().unwrap();
        assert_eq!((answer.accepted, answer.code), (false, Some(Code::InvalidInput)), "{tag}");
    }
}

#[test]
fn an_outcome_is_never_too_large_to_travel() {
    let mut world = World::new();
    world.connect();
    world.command(1);
    world.hear(&ToAgent::CommandGo(CommandGo { job_id: run_id(1) }));
    let file = UnreadableFile { path: "\u{1}".repeat(100_000), error: "x".repeat(100_000) };
    let outcome = Outcome {
        stats: Some(Value::from("s".repeat(2_000_000))),
        unreadable: vec![file; 5_000],
        unreadable_count: 5_000,
        ..Outcome::plain(JobStatus::Partial, None)
    };
    let event = RunEvent::Finished(Box::new(outcome));
    let effects = world.brain.handle_run_event(run_id(1), event, world.now);
    world.execute(effects);
    world.deliver(true);
    assert_eq!(world.ends().get(&run_id(1)), Some(&1));
    let last = world.manager.iter().rfind(|record| record.kind == "job.finished").unwrap();
    assert!(last.payload.len() < 300_000);
    assert!(last.payload.contains(r#""unreadable_count":5000"#));
}

#[test]
fn halves_of_a_desired_state_are_taken_together_or_not_at_all() {
    let mut world = World::new();
    world.connect();
    let of = |n| Some(Generation { incarnation: incarnation(), n });
    let set = |n| {
        ToAgent::ScheduleSet(ScheduleSet {
            version: 1,
            schedules: Vec::new(),
            generation: of(n),
            digest: None,
        })
    };
    let config = |n| {
        ToAgent::ConfigUpdate(Box::new(ConfigUpdate {
            generation: of(n),
            repositories: Some(Vec::new()),
            ..ConfigUpdate::default()
        }))
    };
    world.hear(&set(2));
    world.hear(&config(3));
    world.hear(&set(2));
    assert_eq!(world.brain.desired().unwrap().generation.n, 1);
    // A half does not outlive its connection.
    world.hear(&config(4));
    world.connect();
    world.hear(&set(4));
    assert_eq!(world.brain.desired().unwrap().generation.n, 1);
    world.hear(&config(4));
    world.hear(&set(4));
    assert_eq!(world.brain.desired().unwrap().generation.n, 4);
}
