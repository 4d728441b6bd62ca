//! What became of each slot: what the manager computes from what it was told, against what an observer
//! has seen who was there.
//!
//! Green is checked in every world. Slot by slot the two are compared where clocks go right: what a slot
//! is called whose clock was moved is a matter of words.

use super::{World, invariants::Teller, machine::short};
use agent::{
    core::{Change, Run, RunState},
    desired::Desired,
};
use anyhow::Result;
use jiff::{SignedDuration, Timestamp, ToSpan, tz::TimeZone};
use protocol::{JobFinished, JobKind, JobStarted, JobStatus, PlanId, RunId, journal::kind};
use schedule::{
    Cron,
    slots::{Standing, Time, times},
};
use server::slots::{PlanSlot, of_day};
use std::collections::BTreeMap;

/// By how much clocks that go right may differ.
const DIFFER: SignedDuration = SignedDuration::from_secs(5);

/// So long after a slot is late everybody has told what there is to tell.
const TOLD_WITHIN: SignedDuration = SignedDuration::from_mins(5);

/// Slots of one machine, at most.
const MOST: usize = 1_000;

/// What was seen of one machine, by its own clock.
#[derive(Debug, Default)]
pub struct Story {
    /// From when on its plan had which times, if it had some.
    times: Vec<(Timestamp, Option<String>)>,
    /// Between taking plans and noting that it took them it may have died, and then says so later.
    unsaid: Vec<(Timestamp, Option<Timestamp>)>,
    /// When its agent did not run, or the machine slept.
    away: Vec<(Timestamp, Option<Timestamp>)>,
    /// When the repository was found away.
    refused: Vec<Timestamp>,
    /// When a gate was found closed.
    closed: Vec<Timestamp>,
    /// What ran.
    runs: Vec<Seen>,
    /// What serves no slot, from when it stood in its repository's queue until it ended.
    by_hand: BTreeMap<RunId, (Timestamp, Option<Timestamp>)>,
}

/// A run as it was seen.
#[derive(Debug)]
struct Seen {
    run: RunId,
    slot: Option<Timestamp>,
    plan: Option<PlanId>,
    began: Timestamp,
    ended: Option<(Timestamp, JobStatus)>,
}

impl Story {
    fn is_away(&self) -> bool {
        self.away.last().is_some_and(|(_, until)| until.is_none())
    }

    /// When the agent did not run, or the machine slept.
    pub fn sleeps(&self) -> impl Iterator<Item = (Timestamp, Option<Timestamp>)> {
        self.away.iter().copied()
    }

    /// Whether nothing ran since then.
    pub fn was_idle_since(&self, since: Timestamp) -> bool {
        self.runs.iter().all(|run| run.ended.is_some_and(|(at, _)| at < since))
    }

    /// When something that was due was kept from beginning.
    pub fn kept(&self) -> impl Iterator<Item = Timestamp> {
        self.refused.iter().chain(&self.closed).copied()
    }

    /// A run was written down.
    fn note(&mut self, run: &Run, wall: Timestamp) {
        match run.state {
            RunState::Queued | RunState::Running if run.slot.is_none() => {
                self.by_hand.entry(run.id).or_insert((wall, None));
            }
            RunState::Finished => {
                if let Some((_, ended)) = self.by_hand.get_mut(&run.id) {
                    ended.get_or_insert(wall);
                }
            }
            RunState::Accepted | RunState::Refused | RunState::Queued | RunState::Running => {}
        }
    }

    /// Whether it is a matter of moments which times the plan had then.
    fn is_at_edge(&self, slot: Timestamp) -> bool {
        self.unsaid.iter().any(|(from, until)| {
            from.duration_since(slot) <= DIFFER
                && until.is_none_or(|until| slot.duration_since(until) <= DIFFER)
        })
    }

    /// Whether something kept the machine from beginning the plan's run all through this time.
    fn was_kept(&self, from: Timestamp, until: Timestamp) -> bool {
        let meets = |began: Timestamp, ended: Option<Timestamp>| {
            began <= until && ended.is_none_or(|ended| ended >= from)
        };
        let is_busy = |run: &Seen| meets(run.began, run.ended.map(|(at, _)| at));
        self.away.iter().any(|(began, ended)| meets(*began, *ended))
            || self.runs.iter().any(is_busy)
    }
}

impl World {
    fn story(&mut self, machine: usize) -> &mut Story {
        self.stories.entry(machine).or_default()
    }

    /// The agent has come or gone, or the machine has fallen asleep or woken up.
    pub(super) fn saw_presence(&mut self, machine: usize) {
        let is_away = self.machines[machine].shell.is_none() || self.is_asleep(machine);
        let wall = self.wall(machine);
        let story = self.story(machine);
        match (story.is_away(), is_away, story.away.last_mut()) {
            (false, true, _) => story.away.push((wall, None)),
            (true, false, Some((_, until))) => *until = Some(wall),
            (true, ..) | (false, ..) => {}
        }
    }

    /// The repository of a plan was asked for, and did not answer.
    pub(super) fn saw_refused(&mut self, machine: usize) {
        let wall = self.wall(machine);
        self.story(machine).refused.push(wall);
    }

    /// A gate of a plan was found closed.
    pub(super) fn saw_closed(&mut self, machine: usize) {
        let wall = self.wall(machine);
        self.story(machine).closed.push(wall);
    }

    /// A machine has taken these plans.
    pub(super) fn saw_plans(&mut self, machine: usize, desired: &Desired) {
        let wall = self.wall(machine);
        let plan = self.machines[machine].enrolled.plan;
        let found = desired.schedules.iter().find(|it| it.id == plan && it.enabled);
        let cron = found.map(|it| it.cron_expr.clone()).filter(|cron| !cron.is_empty());
        let story = self.story(machine);
        story.unsaid.push((wall, None));
        if story.times.last().is_none_or(|(_, before)| *before != cron) {
            story.times.push((wall, cron));
        }
    }

    /// An agent has committed these changes: what it tells of its runs.
    pub(super) fn saw_told(&mut self, machine: usize, changes: &[Change]) {
        let wall = self.wall(machine);
        for change in changes {
            if let Change::Run(run) = change {
                self.story(machine).note(run, wall);
            }
            let Change::Append(record, _) = change else { continue };
            if record.kind == kind::SCHEDULE_ACK {
                let open = |unsaid: &&mut (Timestamp, Option<Timestamp>)| unsaid.1.is_none();
                self.story(machine)
                    .unsaid
                    .iter_mut()
                    .filter(open)
                    .for_each(|it| it.1 = Some(record.at));
            }
            if record.kind == kind::JOB_STARTED
                && let Ok(it) = serde_json::from_str::<JobStarted>(&record.payload)
            {
                let (run, slot, plan) = (it.job_id, it.slot, it.schedule_id);
                let plan = plan.filter(|_| it.kind == JobKind::Backup);
                let began = it.started_at;
                self.story(machine).runs.push(Seen { run, slot, plan, began, ended: None });
            }
            if record.kind == kind::JOB_FINISHED
                && let Ok(it) = serde_json::from_str::<JobFinished>(&record.payload)
                && let Some(run) =
                    self.story(machine).runs.iter_mut().find(|run| run.run == it.job_id)
            {
                run.ended = Some((it.finished_at, it.status));
            }
        }
    }

    /// All has come to rest: the manager's slots are what was seen.
    pub(super) async fn check_slots(&mut self) -> Result<()> {
        let Some(manager) = self.up.as_ref().map(|up| up.manager.clone()) else { return Ok(()) };
        for machine in 0..self.machines.len() {
            let it = &self.machines[machine];
            if it.is_gone {
                continue;
            }
            let (host, zone) = (it.enrolled.host, it.zone.clone());
            let mut slots = Vec::new();
            let mut day = zone.to_datetime(self.began).date();
            let last = zone.to_datetime(self.true_time()).date();
            while day <= last {
                slots.extend(of_day(&manager, host, day).await?);
                day = day.saturating_add(1.day());
            }
            for slot in &slots {
                self.check_green(slot);
            }
            let is_told_once = !self.seen.rewound && !self.seen.retold.contains(&host);
            if self.has_right_clocks && is_told_once {
                self.compare(machine, &zone, &slots);
            }
        }
        Ok(())
    }

    /// Green is where a run succeeded, and nowhere else.
    fn check_green(&mut self, slot: &PlanSlot) {
        let PlanSlot { slot, .. } = slot;
        let wanted = match slot.standing {
            Standing::Ran | Standing::Covered => JobStatus::Succeeded,
            Standing::Partial => JobStatus::Partial,
            Standing::Due
            | Standing::Running
            | Standing::Asleep
            | Standing::Skipped
            | Standing::Waiting
            | Standing::Unknown
            | Standing::Cancelled
            | Standing::Interrupted
            | Standing::Missed
            | Standing::Failed => return,
        };
        let is_proven = slot
            .run
            .is_some_and(|run| self.seen.written.contains(&run) && self.has_ended(run, wanted));
        if !is_proven {
            let run = slot.run.map(short);
            self.violated(format!("slot {} is {:?} by run {run:?}", slot.at, slot.standing));
        }
    }

    /// Slot by slot, for a machine whose clock and whose manager's clock go right.
    fn compare(&mut self, machine: usize, zone: &TimeZone, slots: &[PlanSlot]) {
        let now = self.true_time();
        let computed: BTreeMap<Timestamp, Standing> =
            slots.iter().map(|it| (it.slot.at, it.slot.standing)).collect();
        let story = self.stories.remove(&machine).unwrap_or_default();
        let mut wrong = Vec::new();
        let mut expected = Vec::new();
        for (at, (from, cron)) in story.times.iter().enumerate() {
            let until = story.times.get(at + 1).map_or(now, |next| next.0);
            let Some(cron) = cron.as_ref().and_then(|cron| cron.parse::<Cron>().ok()) else {
                continue;
            };
            let all = times(&cron, zone, *from, until, MOST);
            expected.extend(all.into_iter().map(|time| (*from, until, time)));
        }
        for (from, until, time) in &expected {
            let standing = computed.get(&time.slot).copied();
            let is_at_edge =
                story.is_at_edge(time.slot) || now.duration_since(time.slot).abs() <= DIFFER;
            match standing {
                _ if is_at_edge => {}
                // It was still to come when the plan got other times.
                None if *until < time.late + DIFFER => {}
                None => wrong.push(format!("slot {} is not known", time.slot)),
                Some(standing) => {
                    let fitting = story.fitting(*time, (*from, *until), now);
                    if !fitting.contains(&standing) {
                        wrong.push(format!(
                            "slot {} is {standing:?}, and {fitting:?} was seen",
                            time.slot
                        ));
                    }
                }
            }
        }
        for slot in computed.keys() {
            if !story.is_at_edge(*slot) && !expected.iter().any(|(.., time)| time.slot == *slot) {
                wrong.push(format!("there is no slot {slot}"));
            }
        }
        for standing in computed.values() {
            self.met.count(met(*standing));
        }
        let name = self.machines[machine].name();
        for what in wrong {
            self.violated(format!("{name}: {what}"));
        }
    }

    fn has_ended(&self, run: RunId, status: JobStatus) -> bool {
        self.seen.ends_of(run).any(|(_, ended): (Teller, JobStatus)| ended == status)
    }
}

fn status(run: &Seen) -> Option<JobStatus> {
    run.ended.map(|(_, status)| status)
}

/// Which of the attempts at a slot says what became of it.
fn telling<'a>(attempts: &[&'a Seen]) -> Option<&'a Seen> {
    let done = attempts.iter().rfind(|run| status(run) == Some(JobStatus::Succeeded));
    let not_cancelled = || attempts.iter().rfind(|run| status(run) != Some(JobStatus::Cancelled));
    done.or_else(not_cancelled).or(attempts.last()).copied()
}

impl Story {
    /// What this slot may be called, by what was seen.
    fn fitting(
        &self,
        time: Time,
        (since, ended): (Timestamp, Timestamp),
        now: Timestamp,
    ) -> Vec<Standing> {
        let Time { slot: at, late } = time;
        let mut serving: Vec<&Seen> =
            self.runs.iter().filter(|run| run.plan.is_some() && run.slot.is_some()).collect();
        serving.sort_by_key(|run| (run.slot, run.began));
        let own: Vec<&Seen> = serving.iter().filter(|run| run.slot == Some(at)).copied().collect();
        if let Some(telling) = telling(&own) {
            return vec![match status(telling) {
                None | Some(JobStatus::Queued | JobStatus::Running) => Standing::Running,
                Some(JobStatus::Succeeded) => Standing::Ran,
                Some(JobStatus::Partial) => Standing::Partial,
                Some(JobStatus::Cancelled) => Standing::Cancelled,
                Some(JobStatus::Interrupted | JobStatus::Expired | JobStatus::Lost) => {
                    Standing::Interrupted
                }
                Some(JobStatus::Failed | JobStatus::Unknown) => Standing::Failed,
            }];
        }
        let next = serving.iter().find(|run| run.slot > Some(at)).and_then(|run| run.slot);
        let later: Vec<&Seen> = serving.iter().filter(|run| run.slot == next).copied().collect();
        if next.is_some()
            && let Some(telling) = telling(&later)
        {
            match status(telling) {
                Some(JobStatus::Succeeded) => return vec![Standing::Covered],
                Some(JobStatus::Partial) => return vec![Standing::Partial],
                Some(_) | None => {}
            }
        }
        let began = next.and_then(|_| later.first()).map(|run| run.began);
        let until = began.unwrap_or(now).min(ended);
        let before = serving.iter().rfind(|run| run.slot < Some(at));
        let after = before.map_or(since, |run| run.began.max(since));
        let is_meant = |found: &&Timestamp| **found >= after && **found <= until + DIFFER;
        let mut fitting = Vec::new();
        // A plan also waits for runs that serve no slot, and says so once, like all that it waits for.
        let is_busy = |(queued, ended): &(Timestamp, Option<Timestamp>)| {
            *queued < until && ended.is_none_or(|ended| ended >= after)
        };
        if self.refused.iter().any(|found| is_meant(&found)) || self.by_hand.values().any(is_busy) {
            fitting.push(Standing::Waiting);
        }
        if self.closed.iter().any(|found| is_meant(&found)) {
            fitting.push(Standing::Skipped);
        }
        if self.was_kept(at, late.min(until)) || until < late {
            fitting.push(Standing::Asleep);
        }
        if now < late + TOLD_WITHIN {
            fitting.extend([Standing::Due, Standing::Unknown]);
        }
        fitting
    }
}

/// What was met when a slot is called this.
fn met(standing: Standing) -> &'static str {
    match standing {
        Standing::Due => "slot due at the end",
        Standing::Running => "slot running at the end",
        Standing::Ran => "slot ran",
        Standing::Covered => "slot covered",
        Standing::Asleep => "slot asleep",
        Standing::Skipped => "slot skipped",
        Standing::Waiting => "slot waiting",
        Standing::Unknown => "slot unknown at the end",
        Standing::Cancelled => "slot cancelled",
        Standing::Partial => "slot partial",
        Standing::Interrupted => "slot interrupted",
        Standing::Missed => "slot missed",
        Standing::Failed => "slot failed",
    }
}
