//! Taking records in: one task batches what all sessions bring into one transaction, and only then
//! acknowledges it. A transaction that is acknowledged is on the disk.

mod apply;
mod disk;

use crate::{
    db::{
        Tx,
        error::DbError,
        hosts,
        journals::{self, Place, Stretch},
        notices,
    },
    events::Topic,
    hooks::{self, Mistake, Point},
    manager::Manager,
    session::{
        core::Record,
        cursor::{Offer, Offered, Position},
        handshake,
    },
};
use apply::Applied;
use disk::Disk;
use futures_util::FutureExt as _;
use protocol::{
    FromAgent, HostId, JournalId,
    journal::{ChainHash, kind},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// Records in one transaction.
const BATCH: usize = 4_000;
/// How long a transaction waits for more of them. Nobody sees such a delay, and many small transactions
/// would cost several times as much.
const GATHER_FOR: Duration = Duration::from_millis(5);
/// How often it waits at most, and how many must have come meanwhile for it to wait once more.
const GATHERINGS: usize = 4;
const MANY: usize = 32;
/// Records that may wait.
const QUEUE: usize = 8_000;
/// Bytes of records that may wait, over all sessions.
const QUEUE_BYTES: usize = 32 * 1024 * 1024;
/// How many bytes one byte of a record counts for that names many rows, each of which takes a statement. So who
/// sends such records in a row waits for them to be stored sooner than the others do.
const DEAR: usize = 64;
/// What an item takes beside its content.
const ITEM_BYTES: usize = 512;

/// How far the records of one session are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The newest record that is on the disk.
    pub acked: u64,
    /// Why no more is taken in from this session.
    pub stopped: Option<Stopped>,
}

/// Why no more is taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Records are missing; the agent sends them when it connects again.
    Gap,
    /// The journal is not the one that the manager knows; the host is held.
    Forked,
    /// The database failed; nothing was acknowledged.
    Failed,
    /// The disk of the database is nearly full; the agent keeps what it has to say.
    Full,
}

/// What a session brings.
#[derive(Debug)]
enum Content {
    Record { journal: JournalId, record: Record },
    Direct(Box<FromAgent>),
}

#[derive(Debug)]
struct Item {
    host: HostId,
    content: Content,
    progress: Arc<watch::Sender<Progress>>,
    _bytes: OwnedSemaphorePermit,
}

impl Item {
    fn is_outcome(&self) -> bool {
        matches!(&self.content, Content::Record { record, .. } if record.frame.kind == kind::JOB_FINISHED)
    }
}

/// The way to the intake. Cheap to clone.
#[derive(Clone, Debug)]
pub struct IntakeHandle {
    items: mpsc::Sender<Item>,
    bytes: Arc<Semaphore>,
}

/// One session's way to the intake.
#[derive(Debug)]
pub struct Lane {
    host: HostId,
    journal: Option<JournalId>,
    intake: IntakeHandle,
    progress: Arc<watch::Sender<Progress>>,
}

impl IntakeHandle {
    /// The handle, and the task to run.
    #[must_use]
    pub fn new() -> (Self, Intake) {
        let (sender, items) = mpsc::channel(QUEUE);
        let bytes = Arc::new(Semaphore::new(QUEUE_BYTES));
        (Self { items: sender, bytes }, Intake { items })
    }

    /// How many bytes of records wait, or are taken in just now.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        QUEUE_BYTES.saturating_sub(self.bytes.available_permits())
    }

    /// A way for one session, and how far its records are.
    #[must_use]
    pub fn lane(
        &self,
        host: HostId,
        journal: Option<JournalId>,
    ) -> (Lane, watch::Receiver<Progress>) {
        let progress = Arc::new(watch::Sender::new(Progress::default()));
        let receiver = progress.subscribe();
        (Lane { host, journal, intake: self.clone(), progress }, receiver)
    }
}

impl Lane {
    /// Hands a record over. Waits while too much is waiting, and with it the session stops reading
    /// its socket: that is the back-pressure. Says whether the intake still runs.
    pub async fn record(&self, record: Record) -> bool {
        let Some(journal) = self.journal else { return true };
        let names_many =
            matches!(record.frame.kind.as_str(), kind::JOURNAL_ELIDED | kind::ALARM_RAISED);
        let size = record.size().saturating_mul(if names_many { DEAR } else { 1 });
        self.hand_over(Content::Record { journal, record }, size).await
    }

    /// Hands over what has no number, and came in a frame of this size.
    pub async fn direct(&self, message: Box<FromAgent>, size: usize) -> bool {
        self.hand_over(Content::Direct(message), size).await
    }

    async fn hand_over(&self, content: Content, size: usize) -> bool {
        // Everything that is kept until it is stored counts, or a machine could fill the memory by
        // what does not.
        let size = size.saturating_add(ITEM_BYTES).min(QUEUE_BYTES / 4);
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let Ok(bytes) = Arc::clone(&self.intake.bytes).acquire_many_owned(size).await else {
            return false;
        };
        let progress = Arc::clone(&self.progress);
        let item = Item { host: self.host, content, progress, _bytes: bytes };
        self.intake.items.send(item).await.is_ok()
    }
}

/// The task.
#[derive(Debug)]
pub struct Intake {
    items: mpsc::Receiver<Item>,
}

impl Intake {
    /// How many records wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.items.len()
    }

    /// Takes in what waits, so many records at most, in one transaction; or nothing, where there is no room
    /// for it. For who drives the intake by hand instead of in a task.
    pub async fn turn(&mut self, manager: &Manager, most: usize, has_room: bool) {
        let mut batch = Vec::new();
        while batch.len() < most.min(BATCH)
            && let Ok(item) = self.items.try_recv()
        {
            batch.push(item);
        }
        if !batch.is_empty() {
            take_in_with_room(manager, &batch, has_room).await;
        }
    }

    /// Waits a moment for more: a transaction costs nearly the same for one record as for many. Nobody
    /// wakes it meanwhile, which would cost more than the record that does.
    async fn gather(&mut self, batch: &mut Vec<Item>) {
        for _ in 0..GATHERINGS {
            tokio::time::sleep(GATHER_FOR).await;
            let left = BATCH.saturating_sub(batch.len());
            let more = self.items.recv_many(batch, left).now_or_never();
            if more.is_none_or(|more| more < MANY) || batch.len() >= BATCH {
                return;
            }
        }
    }

    /// Takes records in until the last session and handle are gone. The database lies in this folder.
    pub async fn run(mut self, manager: Manager, folder: PathBuf) {
        let mut disk = Disk::of(folder);
        let mut batch = Vec::with_capacity(BATCH);
        while self.items.recv_many(&mut batch, BATCH).await > 0 {
            if batch.len() < BATCH {
                self.gather(&mut batch).await;
            }
            let has_room = disk.has_room(&manager).await;
            take_in_with_room(&manager, &batch, has_room).await;
            batch.clear();
        }
    }
}

async fn take_in_with_room(manager: &Manager, batch: &[Item], has_room: bool) {
    if has_room {
        take_in(manager, batch).await;
    } else {
        batch.iter().for_each(|item| stop(item, Stopped::Full));
    }
}

/// Stores a batch. When it fails as a whole, each item is tried alone: one that cannot be stored
/// must not keep the records of other machines out.
async fn take_in(manager: &Manager, batch: &[Item]) {
    let Err(error) = store(manager, batch).await else { return };
    tracing::warn!(
        error = &error as &dyn std::error::Error,
        "failed to take in a batch of records"
    );
    for item in batch {
        if item.progress.borrow().stopped.is_some() {
            continue;
        }
        if let Err(error) = store(manager, std::slice::from_ref(item)).await {
            let host = item.host;
            tracing::error!(error = &error as &dyn std::error::Error, host.id = %host, "failed to take in a record");
            stop(item, Stopped::Failed);
        }
    }
}

fn stop(item: &Item, why: Stopped) {
    item.progress.send_modify(|progress| progress.stopped = Some(why));
}

/// What a batch has done so far.
#[derive(Default)]
struct Batch {
    /// Where the journals stood before.
    before: BTreeMap<(HostId, JournalId), Position>,
    /// Where those stand that have moved on.
    positions: BTreeMap<(HostId, JournalId), Position>,
    /// The hashes of the records that were applied: of those that follow each other, by the first.
    marks: BTreeMap<(HostId, JournalId, u64), Vec<ChainHash>>,
    /// What to tell each session after the commit, with the index of an item of it.
    told: BTreeMap<usize, (usize, Progress)>,
    applied: Applied,
    forked: Vec<HostId>,
    /// Items after which nothing more is taken in from their session.
    stopped: Vec<usize>,
}

async fn store(manager: &Manager, items: &[Item]) -> Result<(), DbError> {
    let mut tx = manager.db().begin().await?;
    let mut batch = Batch { before: positions(&mut tx, items).await?, ..Batch::default() };
    for (index, item) in items.iter().enumerate() {
        let is_stopped = item.progress.borrow().stopped.is_some()
            || batch.stopped.iter().any(|at| Arc::ptr_eq(&items[*at].progress, &item.progress));
        if is_stopped {
            continue;
        }
        match &item.content {
            Content::Direct(message) => {
                let message = FromAgent::clone(message);
                apply::message(manager, &mut tx, item.host, message, &mut batch.applied).await?;
            }
            Content::Record { journal, record } => {
                let result =
                    store_record(manager, &mut tx, item.host, *journal, record, &mut batch).await?;
                if result.is_err() {
                    batch.stopped.push(index);
                }
                batch.note(index, item, result);
            }
        }
    }
    apply::rest(manager, &mut tx, &mut batch.applied).await?;
    batch.write(&mut tx).await?;
    if hooks::is_planted(Mistake::AcknowledgeBeforeCommit) {
        batch.tell(items);
    }
    let holds_outcome = items.iter().any(Item::is_outcome);
    if holds_outcome {
        hooks::reach(Point::AfterOutcomeBeforeCommit);
    }
    tx.commit().await?;
    if holds_outcome {
        hooks::reach(Point::AfterOutcomeBeforeAck);
    }
    batch.tell(items);
    batch.applied.publish(manager);
    for host in batch.forked {
        manager.announce(host).await;
    }
    Ok(())
}

/// Where the journals of a batch stand, those that the manager knows.
async fn positions(
    tx: &mut Tx,
    items: &[Item],
) -> Result<BTreeMap<(HostId, JournalId), Position>, DbError> {
    let journals: BTreeSet<_> = items
        .iter()
        .filter_map(|item| match &item.content {
            Content::Record { journal, .. } => Some((item.host, *journal)),
            Content::Direct(_) => None,
        })
        .collect();
    if journals.is_empty() {
        return Ok(BTreeMap::new());
    }
    let journals: Vec<_> = journals.into_iter().collect();
    let places = journals::places(tx, &journals).await?;
    Ok(places
        .into_iter()
        .map(|(host, journal, seq, hash)| ((host, journal), Position { seq, hash }))
        .collect())
}

impl Batch {
    fn note(&mut self, index: usize, item: &Item, result: Result<u64, Stopped>) {
        let session = Arc::as_ptr(&item.progress).addr();
        let (_, progress) = self.told.entry(session).or_insert((index, Progress::default()));
        match result {
            Ok(seq) => progress.acked = progress.acked.max(seq),
            Err(why) => progress.stopped = Some(why),
        }
    }

    /// Tells the sessions how far their records are, each once: it wakes the session.
    fn tell(&mut self, items: &[Item]) {
        for (index, news) in std::mem::take(&mut self.told).into_values() {
            items[index].progress.send_modify(|progress| {
                progress.acked = progress.acked.max(news.acked);
                progress.stopped = progress.stopped.or(news.stopped);
            });
        }
    }

    /// Stores how far the journals are. One statement for all of a kind: with one for each record or
    /// journal, handing them to SQLite would cost several times what SQLite does with them.
    async fn write(&self, tx: &mut Tx) -> Result<(), DbError> {
        if self.positions.is_empty() {
            return Ok(());
        }
        let places: Vec<Place> = self
            .positions
            .iter()
            .map(|(&(host, journal), position)| (host, journal, position.seq, position.hash))
            .collect();
        let stretches: Vec<Stretch> = self
            .marks
            .iter()
            .map(|(&(host, journal, first), hashes)| (host, journal, first, hashes.clone()))
            .collect();
        journals::keep_marks(tx, &stretches).await?;
        journals::advance(tx, &places).await?;
        let from = |(host, journal, ..): &Place| {
            self.before.get(&(*host, *journal)).map_or(0, |before| before.seq)
        };
        let moved = places.into_iter().map(|place| (place, from(&place)));
        journals::prune_marks(tx, moved).await
    }

    /// Notes the hash of a record that was applied. Where others were left out it does not follow the one
    /// before it.
    fn mark(&mut self, (host, journal): (HostId, JournalId), seq: u64, hash: ChainHash) {
        let before = self.marks.range_mut((host, journal, 0)..=(host, journal, seq)).next_back();
        match before {
            Some(((.., first), hashes)) if usize::try_from(seq - first) == Ok(hashes.len()) => {
                hashes.push(hash);
            }
            Some(_) | None => drop(self.marks.insert((host, journal, seq), vec![hash])),
        }
    }

    /// The hash of a record that lies behind, if it is kept.
    async fn mark_of(
        &self,
        tx: &mut Tx,
        key: (HostId, JournalId),
        seq: u64,
    ) -> Result<Option<ChainHash>, DbError> {
        let (host, journal) = key;
        let before = self.marks.range((host, journal, 0)..=(host, journal, seq)).next_back();
        let here = before.and_then(|((.., first), hashes)| {
            hashes.get(usize::try_from(seq - first).ok()?).copied()
        });
        match here {
            Some(hash) => Ok(Some(hash)),
            None => journals::mark_of(&mut **tx, host, journal, seq).await,
        }
    }
}

async fn store_record(
    manager: &Manager,
    tx: &mut Tx,
    host: HostId,
    journal: JournalId,
    record: &Record,
    batch: &mut Batch,
) -> Result<Result<u64, Stopped>, DbError> {
    let key = (host, journal);
    let Some(&(mut position)) = batch.positions.get(&key).or_else(|| batch.before.get(&key)) else {
        return Ok(Err(Stopped::Gap));
    };
    let Record { seq, hash, frame } = record;
    let offered =
        Offered { seq: *seq, hash: *hash, kind: &frame.kind, payload: frame.payload.get() };
    match position.offer(&offered) {
        Offer::Next => {
            apply::record(manager, tx, host, record, &mut batch.applied).await?;
            batch.mark(key, *seq, *hash);
            batch.positions.insert(key, position);
            Ok(Ok(position.seq))
        }
        Offer::Behind => match batch.mark_of(tx, key, *seq).await? {
            Some(mark) if mark != *hash => alarm(manager, tx, host, journal, batch).await,
            Some(_) | None => Ok(Ok(position.seq)),
        },
        Offer::Gap => Ok(Err(Stopped::Gap)),
        Offer::Forked => alarm(manager, tx, host, journal, batch).await,
    }
}

/// The same record with another content: nothing more is taken in before the admin has looked.
async fn alarm(
    manager: &Manager,
    tx: &mut Tx,
    host: HostId,
    journal: JournalId,
    batch: &mut Batch,
) -> Result<Result<u64, Stopped>, DbError> {
    let (hold, notice) = handshake::forked(host);
    hosts::set_hold(tx, host, &hold).await?;
    journals::set_renew(tx, host, journal, hold.code).await?;
    notices::open(tx, manager.new_id(), &notice, manager.now()).await?;
    batch.forked.push(host);
    Ok(Err(Stopped::Forked))
}

impl Applied {
    fn publish(self, manager: &Manager) {
        let events = manager.events();
        for (run, lines) in self.lines {
            events.lines(run, lines.into());
        }
        for run in self.runs {
            events.publish(Topic::Run(run));
        }
        for run in self.ended {
            events.run_ended(run);
        }
        for host in self.hosts {
            events.publish(Topic::Host(host));
        }
        for repository in self.repositories {
            events.publish(Topic::Repository(repository));
        }
        if self.has_alarms {
            events.publish(Topic::Alarms);
        }
        if self.has_notices {
            events.publish(Topic::Notices);
        }
    }
}

#[cfg(test)]
mod tests;
