//! The bound of the journal: logs make room, oldest first, and nothing else ever does.

use agent::{
    core::{Change, Run, RunState, lighten},
    journal::{Journal, Kept, Record, Room},
    store::{HISTORY, Store},
};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use protocol::{Code, JournalId, RunId, RunSpec, journal::ChainHash};
use std::collections::{BTreeMap, BTreeSet};

const ALL: Room = Room { after: 0, up_to: 1_000_000, records: 1_000_000, bytes: 1 << 30 };
const KIB: u64 = 1024;

fn id(n: u8) -> JournalId {
    JournalId::new(n.into(), &[n; 10])
}

fn run_id(n: u16) -> RunId {
    RunId::new(n.into(), &[7; 10])
}

fn run(n: u16, state: RunState) -> Change {
    Change::Run(Box::new(Run {
        id: run_id(n),
        state,
        spec: RunSpec::Backup { schedule_id: None },
        number: None,
        slot: None,
        attempt: 1,
        refusal: None,
        repository_id: None,
        log_lines: 0,
        had_item_error: false,
        process: None,
        created_at: Timestamp::UNIX_EPOCH,
        finished_at: (state == RunState::Finished).then_some(Timestamp::UNIX_EPOCH),
    }))
}

/// A journal that is written as the brain writes it.
struct Writer {
    store: Store,
    journal: Journal,
    lines: BTreeMap<RunId, u64>,
    at: Timestamp,
}

impl Writer {
    async fn new(path: &std::path::Path, bound: u64) -> Self {
        let mut store = Store::open(path, id(1)).await.unwrap();
        store.set_bound(bound);
        let journal = Journal::new(&Journal::empty(id(1)));
        Self { store, journal, lines: BTreeMap::new(), at: Timestamp::UNIX_EPOCH }
    }

    fn line(&mut self, n: u16, size: usize) -> Change {
        let line = self.lines.entry(run_id(n)).or_default();
        *line += 1;
        let text = format!(r#"{{"seq":{line},"payload":"{}"}}"#, "x".repeat(size));
        let line = *line;
        let record = self.journal.append("log.stream", text, Some(run_id(n)), self.at);
        Change::Append(record, Some(line))
    }

    fn outcome(&mut self, n: u16) -> Change {
        let record = self.journal.append("job.finished", "{}".to_owned(), Some(run_id(n)), self.at);
        Change::Append(record, None)
    }

    async fn commit(&mut self, changes: &[Change]) {
        self.store.commit(changes).await.unwrap();
        let head = changes.iter().rev().find_map(|change| match change {
            Change::Append(record, _) => Some(record.seq),
            _ => None,
        });
        self.journal.committed(head.unwrap_or(0));
    }

    /// A run with so many lines, from its beginning to its end.
    async fn whole_run(&mut self, n: u16, lines: usize) {
        self.commit(&[run(n, RunState::Running)]).await;
        let mut changes: Vec<Change> = (0..lines).map(|_| self.line(n, 200)).collect();
        changes.push(run(n, RunState::Finished));
        changes.push(self.outcome(n));
        self.commit(&changes).await;
    }
}

/// Whether the chain holds from its beginning to the journal's head, as a manager checks it.
fn check_chain(records: &[Record], from: (u64, ChainHash)) -> (u64, ChainHash) {
    let (mut seq, mut hash) = from;
    for record in records {
        match record.elided() {
            Some(elided) => assert_eq!(elided.first_seq, seq + 1),
            None => {
                assert_eq!(record.seq, seq + 1);
                assert_eq!(record.hash, hash.next(record.seq, &record.kind, &record.payload));
            }
        }
        (seq, hash) = (record.seq, record.hash);
    }
    (seq, hash)
}

/// Lines of runs.
type Lines = BTreeSet<(RunId, u64)>;

/// The lines that are there, and those that are named as missing.
fn lines(records: &[Record]) -> (Lines, Lines) {
    let (mut there, mut missing) = (BTreeSet::new(), BTreeSet::new());
    for record in records {
        if record.kind == "log.stream" {
            let value: serde_json::Value = serde_json::from_str(&record.payload).unwrap();
            let line = value["seq"].as_u64().unwrap();
            assert!(there.insert((record.run_id.unwrap(), line)), "a line is there twice");
        }
        for run in record.elided().iter().flat_map(|elided| &elided.runs) {
            for line in run.first_line..=run.last_line {
                assert!(missing.insert((run.job_id, line)), "a line is named twice");
            }
        }
    }
    (there, missing)
}

fn outcomes(records: &[Record]) -> usize {
    records.iter().filter(|record| record.kind == "job.finished").count()
}

#[tokio::test]
async fn logs_make_room_in_their_order_and_outcomes_never_do() {
    let base = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(&base.path().join("journal.db"), 3 * 1024 * KIB).await;
    writer.whole_run(1, 3_000).await;
    writer.whole_run(2, 3_000).await;
    // The manager has the second, and that makes the first old as well.
    let acked = writer.journal.head();
    writer.commit(&[Change::Acked(acked)]).await;
    writer.whole_run(3, 3_000).await;
    writer.commit(&[run(4, RunState::Running)]).await;
    let more: Vec<Change> = (0..3_000).map(|_| writer.line(4, 200)).collect();
    writer.commit(&more).await;

    let whole = writer.store.fetch(ALL).await.unwrap();
    let hashes: Vec<ChainHash> = whole.iter().map(|record| record.hash).collect();
    let missing = |records: &[Record]| {
        let (_, missing) = lines(records);
        [1, 2, 3, 4].map(|n| missing.iter().filter(|(run, _)| *run == run_id(n)).count())
    };
    let elided = writer.store.keep_within_bound().await.unwrap();
    assert!(elided > 0);
    assert!(writer.store.used().await.unwrap() <= 3 * 1024 * KIB);
    let records = writer.store.fetch(ALL).await.unwrap();
    let [first, .., third, running] = missing(&records);
    assert!(first > 0 && (third, running) == (0, 0), "{:?}", missing(&records));

    // What the manager does not have goes when the rest is gone, and what runs comes last.
    writer.store.set_bound(1024 * KIB);
    writer.commit(&[run(5, RunState::Finished)]).await;
    let more: Vec<Change> = (0..50).map(|_| writer.line(4, 200)).collect();
    writer.commit(&more).await;
    writer.store.keep_within_bound().await.unwrap();
    let records = writer.store.fetch(ALL).await.unwrap();
    let [first, second, third, running] = missing(&records);
    assert_eq!((first, second, third), (3_000, 3_000, 3_000));
    assert!(running < 3_050, "the newest lines stay");
    assert!(writer.store.used().await.unwrap() <= 1024 * KIB);
    assert_eq!(outcomes(&records), 3);
    let end = check_chain(&records, (0, ChainHash::START));
    let state = writer.store.journal().await.unwrap();
    assert_eq!((end, end.0), ((state.head, state.head_hash), writer.journal.head()));
    let (there, missing) = lines(&records);
    assert!(there.is_disjoint(&missing));
    assert_eq!(there.len() + missing.len(), 9_000 + 3_050);

    // Of what was acknowledged before it made room nothing is left to compare; of what came behind it is.
    assert_eq!(writer.store.kept_at(100).await.unwrap(), Kept::LeftOut);
    for seq in [state.acked + 2, state.acked + 2_000] {
        let hash = hashes[usize::try_from(seq).unwrap() - 1];
        assert_eq!(writer.store.kept_at(seq).await.unwrap(), Kept::Hash(hash));
    }
    assert_eq!(writer.store.kept_at(state.head + 1).await.unwrap(), Kept::Nothing);
    // What is left is as good for a new journal.
    let renewed =
        writer.store.renew(id(2), Code::AgentBehind, 0, Timestamp::UNIX_EPOCH).await.unwrap();
    let records = writer.store.fetch(ALL).await.unwrap();
    assert_eq!(check_chain(&records, (0, ChainHash::START)), (renewed.head, renewed.head_hash));
    assert_eq!(lines(&records), (there, missing));
}

#[tokio::test]
async fn a_year_of_outcomes_is_no_reason_to_look_all_the_time_and_nothing_of_it_goes() {
    let base = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(&base.path().join("journal.db"), 256 * KIB).await;
    for _ in 0..20 {
        let many: Vec<Change> = (0..1_000).map(|n| writer.outcome(n)).collect();
        writer.commit(&many).await;
        assert_eq!(writer.store.keep_within_bound().await.unwrap(), 0);
    }
    assert!(writer.store.used().await.unwrap() > 256 * KIB);
    assert_eq!(outcomes(&writer.store.fetch(ALL).await.unwrap()), 20_000);
}

#[tokio::test]
async fn acknowledged_outcomes_stay_for_ninety_days_whatever_made_room() {
    let base = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(&base.path().join("journal.db"), 512 * KIB).await;
    let day = |n: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * n);
    for n in 0..100_u16 {
        writer.at = day(n.into());
        writer.whole_run(n, 100).await;
        let acked = writer.journal.head();
        writer.commit(&[Change::Acked(acked)]).await;
        writer.store.keep_within_bound().await.unwrap();
    }
    let now = day(99);
    let (state, _) = writer.store.prune(now).await.unwrap();
    let records = writer.store.fetch(ALL).await.unwrap();
    assert_eq!(outcomes(&records), 91);
    assert!(records.iter().all(|record| record.at >= now - HISTORY));
    let end = check_chain(&records, (state.first - 1, state.base_hash));
    assert_eq!(end, (state.head, state.head_hash));
    assert!(writer.store.used().await.unwrap() <= 512 * KIB);
}

#[tokio::test]
async fn room_for_outcomes_is_kept_in_the_file_and_given_when_the_disk_is_full() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("journal.db");
    let mut writer = Writer::new(&path, 1 << 30).await;
    assert!(!writer.store.has_room_for_outcomes().await.unwrap());
    writer.store.fill_reserve().await.unwrap();
    assert!(writer.store.has_room_for_outcomes().await.unwrap());
    writer.whole_run(1, 100).await;
    writer.store.make_room(|| false).await;
    assert!(writer.store.has_room_for_outcomes().await.unwrap());
    let size = std::fs::metadata(&path).unwrap().len();
    let mut outcomes = 0;
    while writer.store.has_room_for_outcomes().await.unwrap() {
        let outcome = writer.outcome(outcomes);
        writer.commit(&[outcome]).await;
        outcomes += 1;
    }
    assert!(outcomes > 500, "{outcomes} outcomes found room");
    writer.store.make_room(|| false).await;
    assert_eq!(std::fs::metadata(&path).unwrap().len(), size, "the file did not grow");
    writer.store.fill_reserve().await.unwrap();
    assert!(writer.store.has_room_for_outcomes().await.unwrap());
}

#[derive(Clone, Debug)]
enum Step {
    Line(u16, usize),
    Outcome(u16),
    /// Pending lines are left out, as on a full disk.
    Full,
    Commit,
    Elide(u64),
    Deliver,
    Acknowledge(u64),
    /// The manager came back with so many records less.
    Reconnect(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3_u16, 1..2_000_usize).prop_map(|(run, size)| Step::Line(run, size)),
        1 => (0..3_u16).prop_map(Step::Outcome),
        1 => Just(Step::Full),
        3 => Just(Step::Commit),
        2 => (16..200_u64).prop_map(|kib| Step::Elide(kib * KIB)),
        3 => Just(Step::Deliver),
        2 => (0..200_u64).prop_map(Step::Acknowledge),
        1 => (0..50_u64).prop_map(Step::Reconnect),
    ]
}

/// What a manager has of a journal: it takes a record as `server::session::cursor` does.
#[derive(Default)]
struct Manager {
    places: Vec<(u64, ChainHash)>,
    there: BTreeSet<(RunId, u64)>,
    missing: BTreeSet<(RunId, u64)>,
    outcomes: BTreeSet<u64>,
}

impl Manager {
    fn place(&self) -> (u64, ChainHash) {
        self.places.last().copied().unwrap_or((0, ChainHash::START))
    }

    fn take(&mut self, record: &Record) {
        let (seq, hash) = self.place();
        match record.elided() {
            Some(elided) => {
                assert!(elided.first_seq <= seq + 1 && record.seq > seq);
                for run in &elided.runs {
                    self.missing.extend((run.first_line..=run.last_line).map(|n| (run.job_id, n)));
                }
            }
            None => {
                assert_eq!(check_chain(std::slice::from_ref(record), (seq, hash)).0, record.seq)
            }
        }
        self.there.extend(lines(std::slice::from_ref(record)).0);
        if record.kind == "job.finished" {
            self.outcomes.insert(record.seq);
        }
        self.places.push((record.seq, record.hash));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whenever logs make room, and wherever a manager stands meanwhile: it gets each outcome, and each line
    /// or its number, and the chain holds.
    #[test]
    fn a_manager_gets_each_line_or_hears_that_it_is_missing(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(steps));
    }
}

async fn play(steps: Vec<Step>) {
    let base = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(&base.path().join("journal.db"), 1 << 30).await;
    let mut manager = Manager::default();
    let (mut pending, mut written) = (Vec::new(), BTreeSet::new());
    let finish = [Step::Commit].into_iter().chain((0..400).map(|_| Step::Deliver));
    for step in steps.into_iter().chain(finish) {
        match step {
            Step::Line(run, size) => pending.push(writer.line(run, size)),
            Step::Outcome(run) => {
                pending.push(writer.outcome(run));
                written.insert(writer.journal.head());
            }
            Step::Full => pending = lighten(pending),
            Step::Commit => {
                let changes: Vec<Change> = std::mem::take(&mut pending);
                writer.commit(&changes).await;
            }
            Step::Elide(bound) => {
                writer.store.set_bound(bound);
                let change = run(9, RunState::Finished);
                writer.store.commit(&[change]).await.unwrap();
                writer.store.keep_within_bound().await.unwrap();
            }
            Step::Deliver => {
                let Some(room) = writer.journal.take_room() else {
                    writer.journal.acknowledge(manager.place().0);
                    continue;
                };
                let fetched = writer.store.fetch(room).await.unwrap();
                assert!(!fetched.is_empty());
                for record in writer.journal.sending(fetched) {
                    manager.take(&record);
                }
            }
            Step::Acknowledge(less) => {
                let seq = manager.place().0.saturating_sub(less);
                if writer.journal.acknowledge(seq) {
                    writer.commit(&[Change::Acked(seq)]).await;
                }
            }
            Step::Reconnect(less) => {
                let keep = manager.places.len().saturating_sub(usize::try_from(less).unwrap());
                manager.places.truncate(keep);
                let (seq, hash) = manager.place();
                if seq > 0 && seq < writer.journal.head() {
                    match writer.store.kept_at(seq).await.unwrap() {
                        Kept::Hash(kept) => assert_eq!(kept, hash),
                        Kept::LeftOut => {
                            let acked = writer.store.journal().await.unwrap().acked;
                            assert!(seq <= acked, "nothing is left to compare record {seq} by");
                        }
                        Kept::Nothing => assert!(!pending.is_empty(), "record {seq} is gone"),
                    }
                }
                writer.journal.resume(Some(seq));
            }
        }
    }
    assert_eq!(manager.place().0, writer.journal.head());
    assert_eq!(manager.outcomes, written);
    let all: BTreeSet<(RunId, u64)> = writer
        .lines
        .iter()
        .flat_map(|(run, lines)| (1..=*lines).map(|line| (*run, line)))
        .collect();
    let told: BTreeSet<_> = manager.there.union(&manager.missing).copied().collect();
    assert_eq!(told, all);
}
