//! A machine's disk: what its agent wrote and synced, and nothing else. It stands in for
//! [`agent::store::Store`] and for the file of the desired state, and
//! `tests/tests/simulation.rs` holds it to the real store, change by change.

use agent::{
    core::{
        Awake, Change, Delivery, DeliveryKey, Mark, Memory, PlanAlarm, Retry, Run, RunState,
        Series, View,
    },
    desired::Desired,
    journal::{HASHES_LEFT, Journal, Kept, Line, Record, Room, Turn, elide},
};
use jiff::Timestamp;
use protocol::{
    Code, FromAgent, Incarnation, JournalId, JournalState, LogLine, PlanId, RepositoryId, RunId,
    Secret,
    journal::{ChainHash, JournalElided, JournalGap, kind},
};
use std::collections::BTreeMap;

/// One thing that was written, all of it or nothing.
#[derive(Clone, Debug)]
pub enum Written {
    /// Changes.
    Changes(Vec<Change>),
    /// A new journal.
    Renewed(JournalId, Code, u64, Timestamp),
    /// Lines made room: whose, after which record, and how many at most.
    Elided(Turn, u64, u32),
}

/// What is on the disk.
#[derive(Clone, Debug)]
pub struct Disk {
    first_journal: JournalId,
    journal: JournalState,
    records: BTreeMap<u64, Record>,
    hashes_left: BTreeMap<u64, ChainHash>,
    incarnation: Option<Incarnation>,
    ticket: Option<Secret<String>>,
    series: BTreeMap<Incarnation, Series>,
    runs: BTreeMap<RunId, Run>,
    views: BTreeMap<RepositoryId, View>,
    marks: BTreeMap<PlanId, Mark>,
    awake: Option<Awake>,
    told_zone: Option<String>,
    alarms: BTreeMap<PlanId, PlanAlarm>,
    deliveries: BTreeMap<DeliveryKey, Delivery>,
    epoch: u64,
    /// Everything that was ever committed, if somebody wants to compare.
    history: Option<Vec<Written>>,
    /// The file of the desired state, which is replaced as a whole.
    pub desired: Option<Desired>,
}

impl Disk {
    /// The disk of a machine that was enrolled just now.
    #[must_use]
    pub fn new(journal: JournalId, epoch: u64, is_compared: bool) -> Self {
        Self {
            first_journal: journal,
            journal: Journal::empty(journal),
            records: BTreeMap::new(),
            hashes_left: BTreeMap::new(),
            incarnation: None,
            ticket: None,
            series: BTreeMap::new(),
            runs: BTreeMap::new(),
            views: BTreeMap::new(),
            marks: BTreeMap::new(),
            awake: None,
            told_zone: None,
            alarms: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            epoch,
            history: is_compared.then(Vec::new),
            desired: None,
        }
    }

    /// What an agent that starts reads.
    #[must_use]
    pub fn memory(&self) -> Memory {
        Memory {
            journal: self.journal.clone(),
            incarnation: self.incarnation,
            ticket: self.ticket.clone(),
            series: self.series.iter().map(|(life, series)| (*life, series.clone())).collect(),
            runs: self.runs.values().cloned().collect(),
            views: self.views.iter().map(|(id, view)| (*id, view.clone())).collect(),
            marks: self.marks.iter().map(|(id, mark)| (*id, mark.clone())).collect(),
            awake: self.awake,
            told_zone: self.told_zone.clone(),
            alarms: self.alarms.iter().map(|(id, alarm)| (*id, alarm.clone())).collect(),
            deliveries: self.deliveries.values().cloned().collect(),
        }
    }

    /// The highest epoch of a manager that was seen.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Where the journal stands.
    #[must_use]
    pub fn journal(&self) -> &JournalState {
        &self.journal
    }

    /// The ticket of the last session.
    #[must_use]
    pub fn ticket(&self) -> Option<&Secret<String>> {
        self.ticket.as_ref()
    }

    /// The records, oldest first.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// The runs.
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.runs.values()
    }

    /// One run.
    #[must_use]
    pub fn run(&self, id: RunId) -> Option<&Run> {
        self.runs.get(&id)
    }

    /// Where a plan stands that runs by the clock.
    #[must_use]
    pub fn mark(&self, plan: PlanId) -> Option<&Mark> {
        self.marks.get(&plan)
    }

    /// How a plan stands.
    #[must_use]
    pub fn alarm(&self, plan: PlanId) -> Option<&PlanAlarm> {
        self.alarms.get(&plan)
    }

    /// The messages that are on their way.
    pub fn deliveries(&self) -> impl Iterator<Item = &Delivery> {
        self.deliveries.values()
    }

    /// The journal that was there before any other.
    #[must_use]
    pub fn first_journal(&self) -> JournalId {
        self.first_journal
    }

    /// Everything that was ever committed, one commit after the other; nothing where nobody asked for it.
    #[must_use]
    pub fn history(&self) -> &[Written] {
        self.history.as_deref().unwrap_or_default()
    }

    /// Writes changes, all of them, and syncs.
    pub fn commit(&mut self, changes: &[Change]) {
        for change in changes {
            self.apply(change.clone());
        }
        if let Some(history) = &mut self.history {
            history.push(Written::Changes(changes.to_vec()));
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Append(record, line) => {
                if let (Some(run), Some(line)) = (record.run_id, line)
                    && let Some(run) = self.runs.get_mut(&run)
                {
                    run.log_lines = line;
                }
                self.append(Record { at: stored(record.at), ..record });
            }
            Change::Acked(seq) => self.journal.acked = seq,
            Change::Run(run) => {
                let run = Run {
                    created_at: stored(run.created_at),
                    finished_at: run.finished_at.map(stored),
                    slot: run.slot.map(stored),
                    ..*run
                };
                self.runs.insert(run.id, run);
            }
            Change::Numbers { incarnation, watermark, highest, struck } => {
                let series = self.series.entry(incarnation).or_default();
                series.watermark = watermark;
                series.highest = highest;
                series.struck.extend(struck);
                series.struck.retain(|number| *number > watermark);
                series.struck.sort_unstable();
                series.struck.dedup();
            }
            Change::Incarnation(incarnation) => self.incarnation = Some(incarnation),
            Change::Epoch(epoch) => self.epoch = epoch,
            Change::Ticket(ticket) => self.ticket = Some(ticket),
            Change::View(id, view) => {
                self.views.insert(id, View { read_at: stored(view.read_at), ..*view });
            }
            Change::Mark(plan, Some(mark)) => {
                let retry =
                    mark.retry.map(|it| Retry { slot: stored(it.slot), at: stored(it.at), ..it });
                self.marks.insert(plan, Mark { served: stored(mark.served), retry, ..mark });
            }
            Change::Mark(plan, None) => {
                self.marks.remove(&plan);
            }
            Change::Awake(Awake { since, until }) => {
                self.awake = Some(Awake { since: stored(since), until: stored(until) });
            }
            Change::ToldZone(zone) => self.told_zone = zone,
            Change::PlanAlarm(plan, Some(alarm)) => {
                let alarm = PlanAlarm {
                    changed: stored(alarm.changed),
                    covered: stored(alarm.covered),
                    last_good: alarm.last_good.map(stored),
                    ..alarm
                };
                self.alarms.insert(plan, alarm);
            }
            Change::PlanAlarm(plan, None) => {
                self.alarms.remove(&plan);
            }
            Change::Delivery(key, Some(delivery)) => {
                self.deliveries.insert(key, *delivery);
            }
            Change::Delivery(key, None) => {
                self.deliveries.remove(&key);
            }
        }
    }

    fn append(&mut self, record: Record) {
        self.journal.head = record.seq;
        self.journal.head_hash = record.hash;
        self.records.insert(record.seq, record);
    }

    /// Records for the manager.
    #[must_use]
    pub fn fetch(&self, room: Room) -> Vec<Record> {
        let mut bytes = 0;
        self.records
            .range(room.after + 1..=room.up_to)
            .take(room.records)
            .map(|(_, record)| record)
            .take_while(|record| {
                let is_first = bytes == 0;
                bytes += record.payload.len();
                is_first || bytes <= room.bytes
            })
            .cloned()
            .collect()
    }

    /// What is left of a record.
    #[must_use]
    pub fn kept_at(&self, seq: u64) -> Kept {
        match self.records.range(seq..).next() {
            Some((_, record)) if record.seq == seq => Kept::Hash(record.hash),
            Some((_, record)) if record.elided().is_some_and(|it| it.first_seq <= seq) => {
                self.hashes_left.get(&seq).copied().map_or(Kept::LeftOut, Kept::Hash)
            }
            Some(_) | None => Kept::Nothing,
        }
    }

    /// What the records take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.records.values().map(|record| record.payload.len()).sum()
    }

    /// Lets some lines make room, so many at most, as [`agent::store::Store::elide_some`] does. Gives back
    /// where to go on, and the lines.
    pub fn elide_some(&mut self, turn: Turn, after: u64, most: u32) -> (Option<u64>, Vec<Line>) {
        if let Some(history) = &mut self.history {
            history.push(Written::Elided(turn, after, most));
        }
        let lines: Vec<Line> = self.lines(turn, after).take(most as usize).collect();
        let mut elided = Vec::new();
        for group in lines.chunk_by(|one, other| one.seq + 1 == other.seq) {
            let before = group.first().and_then(|first| self.records.get(&(first.seq - 1)));
            let stands = elide(before.and_then(Record::elided), group);
            if !stands.is_empty() {
                elided.extend_from_slice(group);
            }
            for (seq, one) in stands {
                self.replace(seq, &one);
            }
        }
        let acked = self.journal.acked;
        self.hashes_left.retain(|seq, _| *seq > acked);
        (lines.last().map(|line| line.seq), elided)
    }

    /// Whether there are lines that could make room.
    #[must_use]
    pub fn could_make_room(&self) -> bool {
        self.lines(Turn::Any, 0).any(|line| {
            let before = self.records.get(&(line.seq - 1));
            line.bytes >= 300
                || before.is_some_and(|it| it.kind == kind::LOG_STREAM || it.elided().is_some())
        })
    }

    fn lines(&self, turn: Turn, after: u64) -> impl Iterator<Item = Line> {
        let up_to = if turn == Turn::Acknowledged { self.journal.acked } else { u64::MAX };
        let is_open = |run: RunId| {
            self.runs.get(&run).is_some_and(|run| {
                matches!(run.state, RunState::Accepted | RunState::Queued | RunState::Running)
            })
        };
        let records = self.records.values().filter(move |record| {
            record.seq > after && record.seq <= up_to && record.kind == kind::LOG_STREAM
        });
        records.filter_map(move |record| {
            let run_id = record.run_id.filter(|run| turn == Turn::Any || !is_open(*run))?;
            let line = serde_json::from_str::<LogLine>(&record.payload).ok()?.seq;
            let bytes = record.payload.len() as u64;
            Some(Line { seq: record.seq, run_id, at: record.at, line, bytes })
        })
    }

    fn replace(&mut self, seq: u64, elided: &JournalElided) {
        let Some(last) = self.records.get(&seq).cloned() else { return };
        let acked = self.journal.acked;
        let first = elided.first_seq.max(acked + 1);
        let left = self
            .records
            .range(first..seq.max(first))
            .take_while(|(number, _)| **number <= acked + HASHES_LEFT);
        self.hashes_left.extend(left.map(|(number, record)| (*number, record.hash)));
        self.records.retain(|number, _| *number < elided.first_seq || *number > seq);
        let run_id = match elided.runs.as_slice() {
            [one] => Some(one.job_id),
            _ => None,
        };
        let payload = serde_json::to_string(elided).unwrap_or_default();
        let kind = kind::JOURNAL_ELIDED.to_owned();
        self.records.insert(seq, Record { kind, payload, run_id, ..last });
    }

    /// Starts a new journal, as [`agent::store::Store::renew`] does.
    pub fn renew(&mut self, id: JournalId, reason: Code, after_seq: u64, now: Timestamp) {
        if let Some(history) = &mut self.history {
            history.push(Written::Renewed(id, reason, after_seq, now));
        }
        let old = self.journal.clone();
        let kept: Vec<Record> = self
            .records
            .range(after_seq.min(old.acked) + 1..)
            .map(|(_, record)| record.clone())
            .collect();
        let mut journal = Journal::new(&Journal::empty(id));
        self.records.clear();
        self.hashes_left.clear();
        self.journal = journal.state();
        let gap = FromAgent::JournalGap(JournalGap { journal_id: old.id, after_seq, reason });
        if let Ok(gap) = gap.encode() {
            let payload = gap.payload.get().to_owned();
            self.append(journal.append(&gap.kind, payload, None, stored(now)));
        }
        for record in kept {
            self.append(journal.adopt(record));
        }
    }
}

/// A time as the store keeps it.
fn stored(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}
