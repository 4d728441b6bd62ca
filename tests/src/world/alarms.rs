//! Whether alarms are as they were designed: what machines told of their plans, against what an observer has
//! seen of their runs.
//!
//! Each change of how a plan stands is looked at in the commit that makes it: what led to it must be there
//! too, and so must all messages of it. From then on each message is followed to its one end, and the far end
//! says whether that is true. Nothing may stand otherwise than the runs say, and nothing may be told twice.

use super::{World, channels::Letter, invariants::Teller, machine::short, overdue::Clockwork, say};
use agent::core::{AlarmEvent, Change, Delivery, DeliveryKey, Mark, PlanAlarm};
use anyhow::Result;
use jiff::Timestamp;
use protocol::{
    AlarmDelivered, AlarmId, AlarmRaised, AlarmState, ChannelId, DeliveryResult, HostId,
    JobFinished, JobKind, JobStatus, RunId, journal::kind,
};
use server::db::alarms;
use std::collections::{BTreeMap, BTreeSet};

/// So many alarms of a machine its manager keeps.
const KEPT: u32 = 500;

/// What was told in a world.
#[derive(Debug, Default)]
pub struct Told {
    /// How the plan of each machine stands.
    pub(super) standing: BTreeMap<usize, PlanAlarm>,
    raised: BTreeMap<AlarmId, (HostId, AlarmRaised)>,
    /// In which order messages were written down.
    numbers: u64,
    ways: BTreeMap<(Teller, DeliveryKey), Way>,
    /// The newest message that arrived by each channel.
    newest: BTreeMap<(Teller, ChannelId), u64>,
}

/// A message on its way.
#[derive(Debug)]
struct Way {
    number: u64,
    is_news: bool,
    attempts: u32,
    is_going: bool,
    heard: u32,
    is_turned_away: bool,
    ended: Option<DeliveryResult>,
}

impl Way {
    fn new(number: u64, delivery: &Delivery) -> Self {
        let Delivery { is_news, attempts, is_going, .. } = *delivery;
        Self { number, is_news, attempts, is_going, heard: 0, is_turned_away: false, ended: None }
    }
}

/// What one commit says of the alarms of a plan.
#[derive(Debug, Default)]
struct Commit {
    /// The runs of the plan that ended.
    ends: Vec<End>,
    marks: Vec<Timestamp>,
    changes: Vec<Turned>,
    raised: Vec<AlarmRaised>,
    /// Messages whose way has ended, and whether it was said how.
    gone: BTreeMap<DeliveryKey, bool>,
    begun: BTreeMap<DeliveryKey, bool>,
}

#[derive(Clone, Copy, Debug)]
struct End {
    run: RunId,
    status: JobStatus,
    created: Timestamp,
}

/// A change of how the plan stands.
#[derive(Clone, Copy, Debug)]
struct Turned {
    was: AlarmState,
    state: AlarmState,
    at: Timestamp,
}

/// Whether a run that ended makes its plan stand otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Makes {
    Good,
    Failed,
    /// It is a matter of moments whether it is tried again before its next time.
    PerhapsFailed,
    Nothing,
}

impl World {
    /// A machine has the memory of another time or of another machine: what that one knew of its alarms.
    pub(super) fn learn_alarms(&mut self, machine: usize) {
        let it = &self.machines[machine];
        let (plan, teller) = (it.enrolled.plan, self.teller(machine));
        match it.disk.alarm(plan).cloned() {
            Some(alarm) => self.told.standing.insert(machine, alarm),
            None => self.told.standing.remove(&machine),
        };
        let deliveries: Vec<Delivery> = it.disk.deliveries().cloned().collect();
        for delivery in deliveries {
            self.told.numbers += 1;
            let way = Way::new(self.told.numbers, &delivery);
            self.told.ways.insert((teller, delivery.key()), way);
        }
    }

    /// An agent has committed these changes.
    pub(super) fn saw_alarms(&mut self, machine: usize, changes: &[Change]) {
        let plan = self.machines[machine].enrolled.plan;
        let mut commit = Commit::default();
        for change in changes {
            if let Change::Append(record, _) = change {
                self.saw_told_of(machine, &record.kind, &record.payload, &mut commit);
            }
            if let Change::Mark(id, Some(Mark { served, .. })) = change
                && *id == plan
            {
                commit.marks.push(*served);
            }
            if let Change::PlanAlarm(id, alarm) = change
                && *id == plan
            {
                self.saw_standing(machine, alarm.as_ref(), &mut commit);
            }
            if let Change::Delivery(key, delivery) = change {
                self.saw_delivery(machine, *key, delivery.as_deref(), &mut commit);
            }
        }
        self.check_commit(machine, &commit);
    }

    fn wrong(&mut self, machine: usize, what: &str) {
        let name = self.machines[machine].name();
        self.violated(format!("alarms of {name}: {what}"));
    }

    fn saw_told_of(&mut self, machine: usize, of: &str, payload: &str, commit: &mut Commit) {
        let host = self.machines[machine].enrolled.host;
        if of == kind::JOB_FINISHED
            && let Ok(it) = serde_json::from_str::<JobFinished>(payload)
            && let Some(run) = self.machines[machine].disk.run(it.job_id)
            && run.spec.kind() == JobKind::Backup
        {
            let (run, created) = (run.id, run.created_at);
            commit.ends.push(End { run, status: it.status, created });
        }
        if of == kind::ALARM_RAISED
            && let Ok(raised) = serde_json::from_str::<AlarmRaised>(payload)
        {
            self.met.count(match raised.state {
                AlarmState::Failed => "alarm: failed",
                AlarmState::Overdue => "alarm: overdue",
                AlarmState::Good | AlarmState::Unknown => "alarm: good again",
            });
            self.told.raised.entry(raised.alarm_id).or_insert_with(|| (host, raised.clone()));
            commit.raised.push(raised);
        }
        if of == kind::ALARM_DELIVERED
            && let Ok(told) = serde_json::from_str::<AlarmDelivered>(payload)
        {
            self.saw_end_of_way(machine, &told, commit);
        }
    }

    fn saw_standing(&mut self, machine: usize, alarm: Option<&PlanAlarm>, commit: &mut Commit) {
        let before = match alarm {
            Some(alarm) => self.told.standing.insert(machine, alarm.clone()),
            None => self.told.standing.remove(&machine),
        };
        let Some(alarm) = alarm else { return };
        let Some(before) = before else {
            if alarm.state != AlarmState::Good {
                self.wrong(machine, "a plan that just came does not stand well");
            }
            return;
        };
        if before.state != alarm.state {
            let (was, state, at) = (before.state, alarm.state, alarm.changed);
            commit.changes.push(Turned { was, state, at });
            if state == AlarmState::Overdue {
                self.check_overdue_told(machine, &before, at);
            }
        }
        // From when on slots count that nobody served: a good run, or times that just came.
        let is_explained = before.covered == alarm.covered
            || commit.marks.contains(&alarm.covered)
            || commit.ends.iter().any(|end| end.created >= alarm.covered)
            || alarm.covered < before.covered;
        if !is_explained {
            self.wrong(machine, &format!("nothing was good at {}", alarm.covered));
        }
    }

    fn saw_delivery(
        &mut self,
        machine: usize,
        key: DeliveryKey,
        delivery: Option<&Delivery>,
        commit: &mut Commit,
    ) {
        let teller = self.teller(machine);
        let Some(delivery) = delivery else {
            let is_news = self.told.ways.get(&(teller, key)).is_some_and(|way| way.is_news);
            commit.gone.entry(key).or_insert(!is_news);
            return;
        };
        let Some(way) = self.told.ways.get_mut(&(teller, key)) else {
            self.told.numbers += 1;
            let way = Way::new(self.told.numbers, delivery);
            self.told.ways.insert((teller, key), way);
            commit.begun.insert(key, delivery.is_news);
            return;
        };
        let is_attempt = delivery.is_going && !way.is_going;
        let attempts = way.attempts + u32::from(is_attempt);
        let is_over = way.ended.is_some() || delivery.attempts != attempts;
        way.attempts = delivery.attempts;
        way.is_going = delivery.is_going;
        if is_attempt && attempts > 1 {
            self.met.count("alarm tried again");
        }
        if is_over {
            self.wrong(machine, "the attempts at a message do not count");
        }
    }

    fn saw_end_of_way(&mut self, machine: usize, told: &AlarmDelivered, commit: &mut Commit) {
        let key = (told.alarm_id, told.channel_id);
        let teller = self.teller(machine);
        let Some(way) = self.told.ways.get_mut(&(teller, key)) else {
            return self.wrong(machine, "a message has an end that never had a beginning");
        };
        let (heard, attempts) = (way.heard, way.attempts);
        let ended = way.ended.replace(told.result);
        let is_turned_away = way.is_turned_away;
        commit.gone.insert(key, true);
        if ended.is_some() || attempts != told.attempts {
            self.wrong(machine, "a message ended twice, or after other attempts than there were");
        }
        let (met, is_true) = match told.result {
            DeliveryResult::Sent => ("alarm taken", heard == 1),
            DeliveryResult::GaveUp => ("alarm given up", heard == 0 && attempts > 0),
            DeliveryResult::Superseded => ("alarm gave way to a newer one", heard == 0),
            DeliveryResult::Uncertain if heard == 1 => ("alarm uncertain that had arrived", true),
            DeliveryResult::Uncertain => ("alarm uncertain that had not arrived", heard == 0),
            DeliveryResult::Unknown => ("alarm of an unknown end", false),
        };
        self.met.count(met);
        let has_channel = self.channels_of(machine).contains(&told.channel_id);
        let may_give_up = is_turned_away || !has_channel;
        let gave_up = told.result == DeliveryResult::GaveUp && has_channel;
        if !(is_true || told.result == DeliveryResult::GaveUp && !has_channel)
            || gave_up && !may_give_up
        {
            let result = told.result.as_str();
            self.wrong(
                machine,
                &format!("a message ended as {result} and was heard {heard} times"),
            );
        }
    }

    /// A far end turned a message away for good.
    pub(super) fn saw_turned_away(&mut self, machine: usize, key: DeliveryKey) {
        let teller = self.teller(machine);
        if let Some(way) = self.told.ways.get_mut(&(teller, key)) {
            way.is_turned_away = true;
        }
    }

    /// A far end heard something.
    pub(super) fn saw_heard(&mut self, machine: usize, letter: &Letter) {
        let Letter { key, message } = letter;
        let teller = self.teller(machine);
        let Some(way) = self.told.ways.get_mut(&(teller, *key)) else {
            return self.wrong(machine, "something was heard that nobody wrote down");
        };
        way.heard += 1;
        let (heard, is_news, number) = (way.heard, way.is_news, way.number);
        if !is_news {
            self.met.count("sign of life");
        }
        if heard > 1 {
            self.wrong(machine, "the same was told twice by one channel");
        }
        let newest = self.told.newest.entry((teller, key.1)).or_default();
        let is_late = *newest > number;
        *newest = number.max(*newest);
        if is_late {
            self.wrong(machine, "something older was told after something newer");
        }
        let state = self.told.raised.get(&key.0).map(|(_, raised)| raised.state);
        let wanted = match state {
            Some(AlarmState::Failed) => AlarmEvent::Failed,
            Some(AlarmState::Overdue) => AlarmEvent::Overdue,
            Some(AlarmState::Good | AlarmState::Unknown) | None => AlarmEvent::Good,
        };
        if message.state != wanted || is_news && state.is_none() {
            self.wrong(machine, &format!("{:?} was told and {state:?} written", message.state));
        }
    }

    /// An agent was killed: whether it was about to send something.
    pub(super) fn saw_killed(&mut self, machine: usize) {
        let teller = self.teller(machine);
        let going = self.told.ways.iter().filter(|((it, _), way)| {
            *it == teller && way.is_going && way.ended.is_none() && way.is_news
        });
        if going.count() > 0 {
            self.met.count("agent killed while it sent an alarm");
        }
    }

    fn channels_of(&self, machine: usize) -> BTreeSet<ChannelId> {
        let desired = self.machines[machine].disk.desired.as_ref();
        let channels = desired.map_or(&[][..], |desired| &desired.alarm_channels);
        channels.iter().map(|channel| channel.id).collect()
    }

    /// What a commit says must fit together, and fit what was seen.
    fn check_commit(&mut self, machine: usize, commit: &Commit) {
        for change in &commit.changes {
            self.check_change(machine, *change, commit);
        }
        if commit.raised.len() > commit.changes.len() {
            self.wrong(machine, "an alarm is told of a plan that stands as before");
        }
        for (key, is_news) in &commit.begun {
            let is_raised = commit.raised.iter().any(|it| it.alarm_id == key.0);
            let is_well = commit.ends.iter().any(|end| self.makes(machine, *end) == Makes::Good);
            if !(if *is_news { is_raised } else { is_well }) {
                self.wrong(machine, "a message was begun without a reason");
            }
        }
        if commit.gone.values().any(|is_told| !is_told) {
            self.wrong(machine, "the end of a message is not told");
        }
        let Some(standing) = self.told.standing.get(&machine).map(|it| it.state) else { return };
        let Some(last) = commit.ends.last().copied() else { return };
        let makes = self.makes(machine, last);
        let is_other = match makes {
            Makes::Good => standing != AlarmState::Good,
            Makes::Failed => standing != AlarmState::Failed,
            Makes::PerhapsFailed | Makes::Nothing => false,
        };
        if is_other && self.knows_plan(machine) {
            let (run, status) = (short(last.run), last.status.as_str());
            self.wrong(machine, &format!("run {run} is {status}, and the plan is {standing:?}"));
        }
    }

    fn check_change(&mut self, machine: usize, change: Turned, commit: &Commit) {
        let Turned { was, state, at } = change;
        say!(self, self.machines[machine].name(), "its plan was {was:?} and is {state:?}");
        let makes: Vec<Makes> = commit.ends.iter().map(|end| self.makes(machine, *end)).collect();
        let is_founded = match state {
            AlarmState::Good => makes.contains(&Makes::Good),
            AlarmState::Failed => {
                makes.contains(&Makes::Failed)
                    || makes.contains(&Makes::PerhapsFailed)
                    || self.is_attempt_kept(machine, at)
            }
            // That was looked at by the clock.
            AlarmState::Overdue => was == AlarmState::Good,
            AlarmState::Unknown => false,
        };
        if state == AlarmState::Failed && makes.is_empty() {
            self.met.count("alarm: failed since no further attempt could begin");
        }
        if !is_founded {
            self.wrong(machine, &format!("the plan was {was:?} and is {state:?} without a reason"));
        }
        let channels = self.channels_of(machine);
        let raised = commit.raised.iter().find(|it| (it.state, it.at) == (state, at));
        let is_told = raised.is_some_and(|it| {
            let told: BTreeSet<ChannelId> = it.channels.iter().copied().collect();
            let begun: BTreeSet<ChannelId> = commit
                .begun
                .keys()
                .filter(|(alarm, _)| *alarm == it.alarm_id)
                .map(|(_, channel)| *channel)
                .collect();
            it.was == was && told == channels && begun == channels
        });
        if is_told == channels.is_empty() {
            self.wrong(machine, &format!("not all channels are told that it is {state:?}"));
        }
    }

    fn knows_plan(&self, machine: usize) -> bool {
        let it = &self.machines[machine];
        let desired = it.disk.desired.as_ref();
        desired.is_some_and(|desired| desired.plan(Some(it.enrolled.plan)).is_some())
    }

    /// What the end of a run makes of its plan.
    fn makes(&self, machine: usize, end: End) -> Makes {
        let it = &self.machines[machine];
        let has_begun = it
            .disk
            .records()
            .any(|record| record.kind == kind::JOB_STARTED && record.run_id == Some(end.run));
        match end.status {
            JobStatus::Succeeded | JobStatus::Partial => Makes::Good,
            JobStatus::Interrupted if !has_begun && !self.is_told_anew(machine) => Makes::Nothing,
            // Of a run of another journal nobody can tell any more whether it had begun.
            JobStatus::Interrupted if !has_begun => Makes::PerhapsFailed,
            JobStatus::Failed | JobStatus::Interrupted => self.makes_failed(machine),
            JobStatus::Cancelled
            | JobStatus::Expired
            | JobStatus::Lost
            | JobStatus::Queued
            | JobStatus::Running
            | JobStatus::Unknown => Makes::Nothing,
        }
    }

    fn makes_failed(&self, machine: usize) -> Makes {
        let it = &self.machines[machine];
        let Some(mark) = it.disk.mark(it.enrolled.plan) else { return Makes::Failed };
        let (Some(retry), Some(clockwork)) = (mark.retry, Clockwork::of(it)) else {
            return Makes::Failed;
        };
        let Some((least, most)) = clockwork.begins_after(mark.served) else {
            return Makes::Nothing;
        };
        if retry.at < least {
            Makes::Nothing
        } else if retry.at > most {
            Makes::Failed
        } else {
            Makes::PerhapsFailed
        }
    }

    /// Whether a machine may tell again what it or another one has told before.
    fn is_told_anew(&self, machine: usize) -> bool {
        self.seen.rewound || self.seen.retold.contains(&self.machines[machine].enrolled.host)
    }

    /// What a machine has not told yet although it was to.
    pub(super) fn untold(&self, machine: usize) -> Option<String> {
        let it = &self.machines[machine];
        let waiting = it.disk.deliveries().count();
        (waiting > 0).then(|| format!("{} has {waiting} messages to send", it.name()))
    }

    /// All has come to rest: each message has its end, and the manager knows of all of them.
    pub(super) async fn check_alarms(&mut self) -> Result<()> {
        for machine in 0..self.machines.len() {
            let it = &self.machines[machine];
            if it.is_gone {
                continue;
            }
            let (host, teller) = (it.enrolled.host, self.teller(machine));
            let open = self
                .told
                .ways
                .iter()
                .any(|((of, _), way)| *of == teller && way.is_news && way.ended.is_none());
            if open {
                self.wrong(machine, "a message has no end");
            }
            let mut db = self.office.db().read().acquire().await?;
            let known = alarms::list(&mut db, Some(host), KEPT).await?;
            drop(db);
            let is_new = self.is_told_anew(machine);
            let mut listed = BTreeSet::new();
            for alarm in known {
                listed.insert(alarm.id);
                let raised = self.told.raised.get(&alarm.id).map(|(_, raised)| raised.clone());
                let fits = raised.is_some_and(|raised| {
                    let (one, other) = ((raised.state, raised.was), (alarm.state, alarm.was));
                    one == other && (is_new || raised.channels.len() == alarm.deliveries.len())
                });
                let told = |channel| self.told.ways.get(&(teller, (alarm.id, channel)));
                let are_told = alarm
                    .deliveries
                    .iter()
                    .all(|it| told(it.channel_id).is_some_and(|way| way.ended == it.result));
                if !fits || !(are_told || is_new) {
                    self.wrong(machine, "the manager shows an alarm otherwise than it was");
                }
            }
            let missing = self
                .told
                .raised
                .iter()
                .filter(|(id, (of, _))| *of == host && !listed.contains(id))
                .count();
            if missing > 0 && !is_new {
                self.wrong(machine, &format!("the manager does not know of {missing} alarms"));
            }
        }
        Ok(())
    }
}
