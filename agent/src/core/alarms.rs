//! Alarms: how each plan stands, and who is told when that changes. Nobody has to listen for it.
//!
//! ```text
//!          run failed, no further attempt          no good run long after a slot
//!   Good ────────────────────────────────▶ Failed ◀──── Overdue ◀──────────────── Good
//!    ▲                                       │             │
//!    └────────────── good run ───────────────┴─────────────┘
//! ```
//!
//! A change and its messages, one for each channel, are written in one commit. Each attempt to send a message
//! is written down *before* it is made: an agent that dies in the middle does not send it again, so nobody is
//! told twice, and at worst not at all. What has no answer counts in the same way. A message whose plan stands
//! otherwise meanwhile is not sent any more; the newer one is.

use super::{
    Brain, Change, Effect, Now, Run, RunState, message::AlarmMessage, send, timetable::Waiting,
};
use crate::{
    desired::Desired,
    points::{self, Mistake},
};
use jiff::{SignedDuration, Timestamp};
use protocol::{
    AlarmChannel, AlarmDelivered, AlarmId, AlarmRaised, AlarmState, AlarmTarget, AlarmTest,
    AlarmTested, ChannelId, Code, DeliveryResult, FromAgent, JobKind, JobStatus, PlanId, Problem,
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// The pauses after the first attempts to send a message; all others are [`LONGEST`].
const PAUSES: [Duration; 7] = [
    Duration::from_secs(30),
    Duration::from_mins(1),
    Duration::from_mins(2),
    Duration::from_mins(5),
    Duration::from_mins(10),
    Duration::from_mins(20),
    Duration::from_mins(30),
];

/// The longest pause between two attempts.
const LONGEST: Duration = Duration::from_hours(1);

/// Attempts at one message, which take about a day.
const MAX_ATTEMPTS: u32 = 30;

/// Messages that are on their way at a time; one channel has one at most, so that they come in their order.
const AT_ONCE: usize = 4;

/// Messages for trial that are on their way at a time.
const TRIALS: usize = 2;

/// How long a machine must be awake before anything is told that did not begin: so long it has to make up for
/// its sleep.
const SETTLES: SignedDuration = SignedDuration::from_mins(30);

/// How far a time may be ahead of the clock. Beyond that the clock was put back.
const AHEAD: SignedDuration = SignedDuration::from_mins(1);

/// How a plan stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanAlarm {
    /// How.
    pub state: AlarmState,
    /// Since when.
    pub changed: Timestamp,
    /// No slot up to here is missing: a good run began here, or the plan came, or its times did.
    pub covered: Timestamp,
    /// When the last good run began.
    pub last_good: Option<Timestamp>,
}

/// What tells one message from all others.
pub type DeliveryKey = (AlarmId, ChannelId);

/// A message on its way to one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The alarm.
    pub alarm: AlarmId,
    /// The channel.
    pub channel: ChannelId,
    /// The plan that it is about.
    pub plan: PlanId,
    /// Whether it tells of a change. The others are the signs of life that a ping gets after each good run;
    /// the manager does not hear of them.
    pub is_news: bool,
    /// What is told.
    pub message: AlarmMessage,
    /// How often sending was begun.
    pub attempts: u32,
    /// Whether the last attempt has no end yet.
    pub is_going: bool,
}

impl Delivery {
    /// What tells it from all others.
    #[must_use]
    pub fn key(&self) -> DeliveryKey {
        (self.alarm, self.channel)
    }
}

/// What came of an attempt to send a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The other side took it.
    Sent,
    /// It certainly did not.
    NotSent {
        /// Why.
        problem: Problem,
        /// Whether it might another time.
        again: bool,
    },
    /// Nobody knows: it was sent, and no answer came.
    Uncertain(Problem),
}

/// A message that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// By which way.
    pub channel: AlarmChannel,
    /// What.
    pub message: AlarmMessage,
}

/// A message that waits, or is on its way.
#[derive(Debug)]
struct Held {
    delivery: Delivery,
    /// Not before this.
    at: Duration,
}

/// How the plans stand, and what is still to be told.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    plans: BTreeMap<PlanId, PlanAlarm>,
    overdue_at: BTreeMap<PlanId, Timestamp>,
    held: BTreeMap<DeliveryKey, Held>,
    trials: BTreeSet<AlarmId>,
}

impl Alarms {
    pub(super) fn new(plans: Vec<(PlanId, PlanAlarm)>, deliveries: Vec<Delivery>) -> Self {
        let held = deliveries.into_iter().map(|delivery| {
            let held = Held { delivery, at: Duration::ZERO };
            (held.delivery.key(), held)
        });
        Self { plans: plans.into_iter().collect(), held: held.collect(), ..Self::default() }
    }

    /// When [`Brain::deliver`] has something to do.
    pub(super) fn due(&self) -> Option<Duration> {
        if self.going().count() >= AT_ONCE {
            return None;
        }
        self.free().map(|held| held.at).min()
    }

    fn going(&self) -> impl Iterator<Item = &Delivery> {
        self.held.values().map(|held| &held.delivery).filter(|delivery| delivery.is_going)
    }

    /// What waits for a channel on which nothing is on its way.
    fn free(&self) -> impl Iterator<Item = &Held> {
        let busy: BTreeSet<ChannelId> = self.going().map(|delivery| delivery.channel).collect();
        self.held
            .values()
            .filter(move |held| !held.delivery.is_going && !busy.contains(&held.delivery.channel))
    }

    fn has_other(&self, of: &Delivery) -> bool {
        self.held.values().any(|held| {
            let it = &held.delivery;
            it.alarm != of.alarm && (it.channel, it.plan) == (of.channel, of.plan)
        })
    }

    fn is_good(&self, plan: PlanId) -> bool {
        self.plans.get(&plan).is_none_or(|alarm| alarm.state == AlarmState::Good)
    }
}

impl Brain {
    /// Whether a message is on its way: an agent that ends waits for it.
    #[must_use]
    pub fn is_delivering(&self) -> bool {
        self.alarms.going().next().is_some()
    }

    /// The agent starts. What was on its way when the one before ended may have arrived.
    pub(super) fn end_what_was_going(&mut self, now: Now) -> Vec<Effect> {
        let going: Vec<DeliveryKey> = self.alarms.going().map(Delivery::key).collect();
        let problem = Problem::new(Code::Interrupted, "The agent ended while it sent the message.");
        going
            .into_iter()
            .flat_map(|key| {
                self.end_delivery(key, DeliveryResult::Uncertain, Some(problem.clone()), now)
            })
            .collect()
    }

    /// The plans or channels are others. `renewed` are the plans that came, or came with other times: what
    /// was before that is no slot of theirs.
    pub(super) fn read_alarms(&mut self, renewed: &BTreeSet<PlanId>, now: Now) -> Vec<Effect> {
        let Some(desired) = &self.desired else { return Vec::new() };
        let plans: BTreeSet<PlanId> = desired
            .schedules
            .iter()
            .filter(|it| it.kind == JobKind::Backup)
            .map(|it| it.id)
            .collect();
        let mut effects = Vec::new();
        let known: Vec<PlanId> = self.alarms.plans.keys().copied().collect();
        for gone in known.into_iter().filter(|plan| !plans.contains(plan)) {
            self.alarms.plans.remove(&gone);
            effects.push(Effect::Store(Change::PlanAlarm(gone, None)));
            effects.extend(self.supersede(|delivery| delivery.plan == gone, now));
        }
        self.alarms.overdue_at.clear();
        for plan in plans {
            let fresh = PlanAlarm {
                state: AlarmState::Good,
                changed: now.wall,
                covered: now.wall,
                last_good: None,
            };
            let known = self.alarms.plans.get(&plan).cloned();
            let mut alarm = known.clone().unwrap_or(fresh);
            if renewed.contains(&plan) || alarm.covered.duration_since(now.wall) > AHEAD {
                alarm.covered = now.wall;
            }
            match known == Some(alarm.clone()) {
                true => self.foresee(plan),
                false => effects.push(self.put_alarm(plan, alarm)),
            }
        }
        // Whoever mended a channel does not want to wait.
        self.alarms.held.values_mut().for_each(|held| held.at = now.mono);
        effects
    }

    /// A run has ended: what that says of its plan. To be called once it is known whether it is tried again.
    pub(super) fn note_outcome(
        &mut self,
        run: &Run,
        status: JobStatus,
        code: Option<Code>,
        now: Now,
    ) -> Vec<Effect> {
        if run.spec.kind() != JobKind::Backup {
            return Vec::new();
        }
        let plan = self.desired.as_ref().and_then(|it| it.plan(run.spec.plan_id())).map(|it| it.id);
        let Some(plan) = plan.filter(|plan| self.alarms.plans.contains_key(plan)) else {
            return Vec::new();
        };
        match status {
            // A partial run wrote its snapshot.
            JobStatus::Succeeded | JobStatus::Partial => self.was_good(plan, run, now),
            JobStatus::Cancelled if points::is_planted(Mistake::GoodTooSoon) => {
                self.was_good(plan, run, now)
            }
            // One that was stopped before it began has not shown anything.
            JobStatus::Interrupted if run.state != RunState::Running => Vec::new(),
            JobStatus::Failed | JobStatus::Interrupted if !self.is_tried_again(plan, now) => {
                self.stands(plan, AlarmState::Failed, code, Some(run), now)
            }
            JobStatus::Failed
            | JobStatus::Interrupted
            | JobStatus::Cancelled
            | JobStatus::Expired
            | JobStatus::Lost
            | JobStatus::Queued
            | JobStatus::Running
            | JobStatus::Unknown => Vec::new(),
        }
    }

    /// Whether a further attempt comes before the next slot takes its place.
    fn is_tried_again(&self, plan: PlanId, now: Now) -> bool {
        // Of an attempt that a clock put back has put off by days nobody would hear.
        let Some(mark) = self.timetable.mark(plan).map(|mark| mark.set_right(now.wall)) else {
            return false;
        };
        let next = self.timetable.rhythm(plan).and_then(|it| it.wakes(mark.served, now.wall));
        mark.retry.is_some_and(|retry| next.is_none_or(|next| retry.at < next))
    }

    /// What is due cannot begin, for this reason. A failure that was kept back for the sake of a further attempt
    /// is told now, since nobody knows when that one will begin. What has its place in the queue will.
    pub(super) fn note_kept(&mut self, waiting: Waiting, code: Code, now: Now) -> Vec<Effect> {
        let Waiting { plan, attempt, .. } = waiting;
        let retry = self.timetable.mark(plan).and_then(|mark| mark.retry);
        let is_further = attempt > 1 || retry.is_some();
        // A machine that has just woken up may find its network in a moment.
        if !is_further || code == Code::RepositoryBusy || !self.is_settled(now) {
            return Vec::new();
        }
        let ended = self.runs.values().filter(|run| {
            run.is_by_the_clock()
                && run.spec.plan_id() == Some(plan)
                && run.state == RunState::Finished
        });
        let failed = ended.max_by_key(|run| run.finished_at).cloned();
        // An attempt that is written down already waits on where a run on command went well meanwhile.
        let last_good = self.alarms.plans.get(&plan).and_then(|alarm| alarm.last_good);
        if retry.is_none() && last_good > failed.as_ref().and_then(|run| run.finished_at) {
            return Vec::new();
        }
        self.stands(plan, AlarmState::Failed, Some(code), failed.as_ref(), now)
    }

    fn was_good(&mut self, plan: PlanId, run: &Run, now: Now) -> Vec<Effect> {
        let mut effects = self.stands(plan, AlarmState::Good, None, Some(run), now);
        let Some(alarm) = self.alarms.plans.get(&plan).cloned() else { return effects };
        let began = run.created_at.min(now.wall);
        let covered = alarm.covered.max(began);
        let is_told = effects.iter().any(|it| matches!(it, Effect::Store(Change::Delivery(..))));
        effects.push(self.put_alarm(plan, PlanAlarm { covered, last_good: Some(began), ..alarm }));
        // To a ping silence is the alarm.
        let pings: Vec<AlarmChannel> = self
            .channels_for(plan, AlarmState::Good)
            .into_iter()
            .filter(|channel| !is_told && matches!(channel.target, AlarmTarget::Ping { .. }))
            .collect();
        if !pings.is_empty() {
            let alarm = self.alarm_id(plan, now);
            let message = self.message(alarm, plan, AlarmState::Good, None, None, now);
            effects.extend(self.hand_over(plan, &pings, &message, false, now));
        }
        effects
    }

    /// Looks for plans that are overdue. A machine that has just woken up is given time to make up for it.
    pub(super) fn look_for_overdue(&mut self, now: Now) -> Vec<Effect> {
        let is_settled = self.is_settled(now) || points::is_planted(Mistake::OverdueAtOnce);
        if self.is_stopping || !is_settled {
            return Vec::new();
        }
        let overdue = self.alarms.overdue_at.iter().filter(|(_, at)| **at <= now.wall);
        let overdue: Vec<PlanId> = overdue
            .map(|(plan, _)| *plan)
            .filter(|plan| {
                let state = self.alarms.plans.get(plan).map(|alarm| alarm.state);
                state == Some(AlarmState::Good) && !self.is_going(*plan)
            })
            .collect();
        overdue
            .into_iter()
            .flat_map(|plan| {
                let code = self.timetable.mark(plan).and_then(|mark| mark.deferred);
                self.stands(plan, AlarmState::Overdue, code, None, now)
            })
            .collect()
    }

    /// Whether the machine has been awake for long enough to make up for its sleep.
    fn is_settled(&self, now: Now) -> bool {
        self.presence.since().is_some_and(|since| now.wall.duration_since(since) >= SETTLES)
    }

    /// Sends what is due.
    pub(super) fn deliver(&mut self, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        while !self.is_stopping && self.alarms.due().is_some_and(|due| due <= now.mono) {
            let next = self.alarms.free().filter(|held| held.at <= now.mono).map(|it| it.at);
            let Some(earliest) = next.min() else { break };
            let next = self.alarms.free().find(|held| held.at == earliest);
            let Some(mut delivery) = next.map(|held| held.delivery.clone()) else { break };
            let Some(channel) = self.channel(delivery.channel) else {
                let problem =
                    Problem::new(Code::NotFound, "This machine no longer has the channel.");
                let ended = DeliveryResult::GaveUp;
                effects.extend(self.end_delivery(delivery.key(), ended, Some(problem), now));
                continue;
            };
            delivery.attempts += 1;
            delivery.is_going = true;
            let parcel = Parcel { channel, message: delivery.message.clone() };
            let key = delivery.key();
            let noted = self.put_delivery(delivery, now.mono);
            effects.extend(Some(noted).filter(|_| !points::is_planted(Mistake::ForgetTold)));
            effects.push(Effect::Deliver(key, Box::new(parcel)));
        }
        effects
    }

    /// What came of an [`Effect::Deliver`].
    pub fn handle_delivered(
        &mut self,
        key: DeliveryKey,
        attempt: Attempt,
        now: Now,
    ) -> Vec<Effect> {
        let Some(held) = self.alarms.held.get(&key).filter(|held| held.delivery.is_going) else {
            return Vec::new();
        };
        let mut delivery = held.delivery.clone();
        let (result, problem) = match attempt {
            Attempt::Sent => (DeliveryResult::Sent, None),
            Attempt::Uncertain(problem) => (DeliveryResult::Uncertain, Some(problem)),
            Attempt::NotSent { problem, .. } if self.alarms.has_other(&delivery) => {
                (DeliveryResult::Superseded, Some(problem))
            }
            Attempt::NotSent { again: true, .. } if delivery.attempts < MAX_ATTEMPTS => {
                delivery.is_going = false;
                let pause = PAUSES.get(delivery.attempts as usize - 1).copied().unwrap_or(LONGEST);
                return vec![self.put_delivery(delivery, now.mono + pause)];
            }
            Attempt::NotSent { problem, .. } => (DeliveryResult::GaveUp, Some(problem)),
        };
        self.end_delivery(key, result, problem, now)
    }

    /// The manager wants a message sent for trial.
    pub(super) fn alarm_test(&mut self, test: AlarmTest, now: Now) -> Vec<Effect> {
        let AlarmTest { alarm_id, channel } = test;
        if self.alarms.trials.len() >= TRIALS {
            let problem = Problem::new(Code::Conflict, "Other messages are being tried just now.")
                .guidance("Wait a moment, then try again.");
            let tested = AlarmTested { alarm_id, problem: Some(problem) };
            return send(&FromAgent::AlarmTested(tested)).into_iter().collect();
        }
        self.alarms.trials.insert(alarm_id);
        let schedules = self.desired.as_ref().map_or(&[][..], |desired| &desired.schedules);
        // A check that is named by a plan is there for a plan that is there.
        let plan = schedules.first().map(|plan| plan.name.clone());
        let message = AlarmMessage::test(alarm_id, self.machine_name(), plan, now.wall);
        vec![Effect::TryChannel(Box::new(Parcel { channel, message }))]
    }

    /// What came of an [`Effect::TryChannel`]. A manager that has gone meanwhile does not wait for it.
    pub fn handle_tried(&mut self, alarm_id: AlarmId, attempt: Attempt) -> Vec<Effect> {
        self.alarms.trials.remove(&alarm_id);
        let problem = match attempt {
            Attempt::Sent => None,
            Attempt::NotSent { problem, .. } | Attempt::Uncertain(problem) => Some(problem),
        };
        if !self.is_open() {
            return Vec::new();
        }
        send(&FromAgent::AlarmTested(AlarmTested { alarm_id, problem })).into_iter().collect()
    }

    /// A plan stands like this. Where that is news, it is written down with all messages of it.
    fn stands(
        &mut self,
        plan: PlanId,
        state: AlarmState,
        code: Option<Code>,
        run: Option<&Run>,
        now: Now,
    ) -> Vec<Effect> {
        let Some(before) = self.alarms.plans.get(&plan).filter(|it| it.state != state).cloned()
        else {
            return Vec::new();
        };
        let channels = self.channels_for(plan, state);
        let since = match state {
            AlarmState::Good => Some(before.changed),
            AlarmState::Failed | AlarmState::Overdue | AlarmState::Unknown => before.last_good,
        };
        let (was, last_good) = (before.state, before.last_good);
        let mut effects =
            vec![self.put_alarm(plan, PlanAlarm { state, changed: now.wall, ..before })];
        if channels.is_empty() {
            return effects;
        }
        let alarm_id = self.alarm_id(plan, now);
        let message = self.message(alarm_id, plan, state, code, since, now);
        let raised = AlarmRaised {
            alarm_id,
            schedule_id: plan,
            repository_id: self.place_of(plan),
            state,
            was,
            at: now.wall,
            last_good,
            code,
            run_id: run.map(|run| run.id),
            channels: channels.iter().map(|channel| channel.id).collect(),
        };
        effects.push(self.append(&FromAgent::AlarmRaised(raised), None, None, now));
        effects.extend(self.hand_over(plan, &channels, &message, true, now));
        effects
    }

    /// Puts a message on its way to each channel; what waits there of the same plan is old.
    fn hand_over(
        &mut self,
        plan: PlanId,
        channels: &[AlarmChannel],
        message: &AlarmMessage,
        is_news: bool,
        now: Now,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        for channel in channels {
            let is_old = |it: &Delivery| (it.channel, it.plan) == (channel.id, plan);
            effects.extend(self.supersede(is_old, now));
            let delivery = Delivery {
                alarm: message.id,
                channel: channel.id,
                plan,
                is_news,
                message: message.clone(),
                attempts: 0,
                is_going: false,
            };
            effects.push(self.put_delivery(delivery, now.mono));
        }
        effects
    }

    fn supersede(&mut self, is_meant: impl Fn(&Delivery) -> bool, now: Now) -> Vec<Effect> {
        let waiting = self.alarms.held.values().map(|held| &held.delivery);
        let meant = waiting.filter(|it| !it.is_going && is_meant(it)).map(Delivery::key);
        let meant: Vec<DeliveryKey> = meant.collect();
        meant
            .into_iter()
            .flat_map(|key| self.end_delivery(key, DeliveryResult::Superseded, None, now))
            .collect()
    }

    fn end_delivery(
        &mut self,
        key: DeliveryKey,
        result: DeliveryResult,
        problem: Option<Problem>,
        now: Now,
    ) -> Vec<Effect> {
        let Some(Held { delivery, .. }) = self.alarms.held.remove(&key) else { return Vec::new() };
        let mut effects = vec![Effect::Store(Change::Delivery(key, None))];
        if delivery.is_news {
            let delivered = AlarmDelivered {
                alarm_id: delivery.alarm,
                channel_id: delivery.channel,
                result,
                at: now.wall,
                attempts: delivery.attempts,
                problem,
            };
            effects.push(self.append(&FromAgent::AlarmDelivered(delivered), None, None, now));
        }
        effects
    }

    /// The channels that hear that a plan stands like this.
    fn channels_for(&self, plan: PlanId, state: AlarmState) -> Vec<AlarmChannel> {
        let channels = self.desired.as_ref().map_or(&[][..], |desired| &desired.alarm_channels);
        let takes = |channel: &&AlarmChannel| match &channel.target {
            AlarmTarget::Webhook { .. } | AlarmTarget::Ntfy { .. } | AlarmTarget::Smtp { .. } => {
                true
            }
            // One check for all plans of a machine is well only while all of them are.
            AlarmTarget::Ping { url } => {
                state != AlarmState::Good
                    || url.expose_secret().contains("{plan}")
                    || self.is_well_beside(plan)
            }
            AlarmTarget::Unknown => false,
        };
        channels.iter().filter(takes).cloned().collect()
    }

    /// Whether all other plans are good. One that is paused has no next run that could make it good again, and
    /// does not count until it goes on.
    fn is_well_beside(&self, plan: PlanId) -> bool {
        let schedules = self.desired.as_ref().map_or(&[][..], |desired| &desired.schedules);
        let mut others = schedules.iter().filter(|other| other.enabled && other.id != plan);
        others.all(|other| self.alarms.is_good(other.id))
    }

    fn channel(&self, id: ChannelId) -> Option<AlarmChannel> {
        self.desired.as_ref()?.alarm_channels.iter().find(|channel| channel.id == id).cloned()
    }

    fn message(
        &self,
        id: AlarmId,
        plan: PlanId,
        state: AlarmState,
        code: Option<Code>,
        since: Option<Timestamp>,
        now: Now,
    ) -> AlarmMessage {
        let desired = self.desired.as_ref();
        let schedule = desired.and_then(|desired| desired.plan(Some(plan)));
        let repository =
            desired.zip(schedule).and_then(|(desired, it)| desired.repository(it.repository_id));
        AlarmMessage::new(
            id,
            state,
            self.machine_name(),
            schedule.map_or_else(|| plan.to_string(), |schedule| schedule.name.clone()),
            repository.map(|repository| repository.name.clone()),
            code,
            now.wall,
            since,
            &self.facts.zone,
        )
    }

    /// What this machine is called where people look for it: its name in the fleet, else its own.
    fn machine_name(&self) -> &str {
        let named = self.desired.as_ref().and_then(|desired| desired.machine.as_deref());
        named.unwrap_or(&self.facts.hostname)
    }

    /// An id that no other alarm has: this journal is the agent's alone, and moves with each change.
    fn alarm_id(&self, plan: PlanId, now: Now) -> AlarmId {
        let journal = self.journal.state();
        let hash = Sha256::new_with_prefix("alarm")
            .chain_update(journal.id.as_uuid().as_bytes())
            .chain_update(journal.head.to_be_bytes())
            .chain_update(plan.as_uuid().as_bytes())
            .finalize();
        let mut random = [0; 10];
        random.copy_from_slice(&hash[..10]);
        AlarmId::new(u64::try_from(now.wall.as_millisecond()).unwrap_or(0), &random)
    }

    fn put_alarm(&mut self, plan: PlanId, alarm: PlanAlarm) -> Effect {
        self.alarms.plans.insert(plan, alarm.clone());
        self.foresee(plan);
        Effect::Store(Change::PlanAlarm(plan, Some(alarm)))
    }

    /// Computes when a plan will be overdue.
    fn foresee(&mut self, plan: PlanId) {
        let covered = self.alarms.plans.get(&plan).map(|alarm| alarm.covered);
        let rhythm = self.timetable.rhythm(plan);
        let patience = self.desired.as_ref().map(Desired::patience).unwrap_or_default();
        let overdue = covered.zip(rhythm);
        match overdue.and_then(|(covered, rhythm)| rhythm.overdue_at(covered, patience)) {
            Some(at) => self.alarms.overdue_at.insert(plan, at),
            None => self.alarms.overdue_at.remove(&plan),
        };
    }

    fn put_delivery(&mut self, delivery: Delivery, at: Duration) -> Effect {
        let key = delivery.key();
        self.alarms.held.insert(key, Held { delivery: delivery.clone(), at });
        Effect::Store(Change::Delivery(key, Some(Box::new(delivery))))
    }
}
