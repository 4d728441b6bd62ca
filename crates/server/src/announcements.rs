//! Machines that ask to join without a token. Nothing of them is stored until the admin approves: an
//! announcement lives in memory, for a quarter of an hour.
//!
//! ```text
//!             reveal               confirm                 the admin
//!  announced ───────▶ shown with ────────▶ confirmed on ──────────────▶ approved, a host
//!                     its code             the machine   └────────────▶ refused
//! ```
//!
//! Anybody who reaches the agents' port may announce, so what waits is bounded, in all and for each
//! address. Whoever came first stays: a flood keeps later ones out, and removes nobody.

use crate::{
    db::hosts::Fingerprint,
    events::{Events, Topic},
    newcomer::Newcomer,
};
use jiff::{SignedDuration, Timestamp};
use protocol::{Commitment, HostId, Meeting, Nonce, ShortCode};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;
use uuid::Uuid;

/// How long an announcement may take, and how long a decision is kept for the machine to hear.
pub const VALID: SignedDuration = SignedDuration::from_mins(15);
/// How long the making of a decision may take.
const DECIDED_WITHIN: SignedDuration = SignedDuration::from_mins(1);
/// Announcements that may wait at once.
pub const MOST: usize = 32;
/// Announcements of one address that may wait at once.
pub const MOST_OF_ADDRESS: usize = 3;

/// An announcement whose code is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Its id.
    pub id: Uuid,
    /// The code that the machine shows too.
    pub code: ShortCode,
    /// What the machine says of itself.
    pub newcomer: Newcomer,
    /// From where it dialled.
    pub address: IpAddr,
    /// When it asked.
    pub announced_at: Timestamp,
    /// When it is over.
    pub expires_at: Timestamp,
    /// Whether root has typed the code on the machine.
    pub is_confirmed: bool,
}

/// A machine that asks.
#[derive(Clone, Debug)]
pub struct NewAnnouncement {
    /// The announcement's id.
    pub id: Uuid,
    /// To what its agent is bound.
    pub commitment: Commitment,
    /// What it is answered.
    pub manager_nonce: Nonce,
    /// What it says of itself.
    pub newcomer: Newcomer,
    /// From where it dialled.
    pub address: IpAddr,
    /// All of whose addresses count as one.
    pub network: IpAddr,
}

/// Too many machines ask already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// Why a machine that asks is not heard any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unheard {
    /// There is no such announcement of this key, or not any more.
    Over,
    /// What was revealed is not what was committed to; the announcement is over.
    CommitmentBroken,
    /// The admin refused.
    Refused,
}

/// What a machine hears that has confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The admin has not decided.
    Waiting,
    /// The admin approved: it is this host.
    Approved(HostId),
}

#[derive(Debug)]
enum Stage {
    Announced,
    Shown {
        code: ShortCode,
        is_confirmed: bool,
    },
    Approved(HostId),
    Refused,
    /// What was revealed was not what was committed to. It keeps its place to its end: else whoever
    /// looks for a code that fits could try as often as it likes.
    Broken,
}

#[derive(Debug)]
struct Held {
    new: NewAnnouncement,
    announced_at: Timestamp,
    expires_at: Timestamp,
    stage: Stage,
}

impl Held {
    /// Whether it takes a place.
    fn waits(&self) -> bool {
        matches!(self.stage, Stage::Announced | Stage::Shown { .. } | Stage::Broken)
    }

    fn shown(&self) -> Option<Announcement> {
        let Stage::Shown { code, is_confirmed } = self.stage else { return None };
        Some(Announcement {
            id: self.new.id,
            code,
            newcomer: self.new.newcomer.clone(),
            address: self.new.address,
            announced_at: self.announced_at,
            expires_at: self.expires_at,
            is_confirmed,
        })
    }
}

/// The machines that ask to join. Each change that can be seen is told as an event.
#[derive(Debug)]
pub struct Announcements {
    held: Mutex<BTreeMap<Uuid, Held>>,
    /// One decision at a time: what is approved must not be refused meanwhile.
    deciding: tokio::sync::Mutex<()>,
    /// Changes whenever one is decided or over.
    ended: watch::Sender<()>,
    events: Events,
}

impl Announcements {
    /// None yet.
    #[must_use]
    pub fn new(events: Events) -> Self {
        let (held, deciding) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { held, deciding, ended: watch::Sender::new(()), events }
    }

    /// Takes note of a machine that asks.
    ///
    /// # Errors
    /// When too many ask already; then nothing is noted.
    pub fn announce(&self, new: NewAnnouncement, now: Timestamp) -> Result<(), TooMany> {
        let mut held = self.current(now);
        let waiting = held.values().filter(|it| it.waits());
        let (all, own) = waiting.fold((0, 0), |(all, own), it| {
            (all + 1, own + usize::from(it.new.network == new.network))
        });
        if all >= MOST || own >= MOST_OF_ADDRESS {
            return Err(TooMany);
        }
        let (announced_at, expires_at) = (now, now + VALID);
        held.insert(new.id, Held { new, announced_at, expires_at, stage: Stage::Announced });
        Ok(())
    }

    /// A machine reveals its nonce. Answers with the announcement the first time.
    ///
    /// # Errors
    /// When the machine is not heard; see [`Unheard`].
    pub fn reveal(
        &self,
        id: Uuid,
        key: &Fingerprint,
        nonce: Nonce,
        manager_key: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<Announcement>, Unheard> {
        let mut held = self.current(now);
        let it = find(&mut held, id, key)?;
        match it.stage {
            Stage::Announced => {}
            Stage::Broken => return Err(Unheard::Over),
            Stage::Shown { .. } | Stage::Approved(_) | Stage::Refused => return Ok(None),
        }
        if Commitment::to(key, nonce) != it.new.commitment {
            it.stage = Stage::Broken;
            return Err(Unheard::CommitmentBroken);
        }
        let meeting = Meeting {
            agent_key: *key,
            manager_key: *manager_key,
            agent_nonce: nonce,
            manager_nonce: it.new.manager_nonce,
        };
        it.stage = Stage::Shown { code: meeting.code(), is_confirmed: false };
        self.events.publish(Topic::Announcements);
        Ok(it.shown())
    }

    /// Root has confirmed the code on the machine, which now waits for the admin.
    ///
    /// # Errors
    /// When the machine is not heard; see [`Unheard`].
    pub fn confirm(&self, id: Uuid, key: &Fingerprint, now: Timestamp) -> Result<Answer, Unheard> {
        let mut held = self.current(now);
        match &mut find(&mut held, id, key)?.stage {
            // Nobody can have confirmed a code that does not exist.
            Stage::Announced | Stage::Broken => Err(Unheard::Over),
            Stage::Shown { is_confirmed, .. } => {
                if !std::mem::replace(is_confirmed, true) {
                    self.events.publish(Topic::Announcements);
                }
                Ok(Answer::Waiting)
            }
            Stage::Approved(host) => Ok(Answer::Approved(*host)),
            Stage::Refused => Err(Unheard::Refused),
        }
    }

    /// Tells from now on when an announcement was decided or is over.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<()> {
        self.ended.subscribe()
    }

    /// The announcements that wait for the admin, oldest first.
    #[must_use]
    pub fn list(&self, now: Timestamp) -> Vec<Announcement> {
        let mut all: Vec<_> = self.current(now).values().filter_map(Held::shown).collect();
        all.sort_by_key(|it| (it.announced_at, it.id));
        all
    }

    /// Begins a decision about an announcement; there is none about one that does not wait.
    pub async fn decide(&self, id: Uuid, now: Timestamp) -> Option<Decision<'_>> {
        let one = self.deciding.lock().await;
        let mut held = self.current(now);
        let it = held.get_mut(&id)?;
        let announcement = it.shown()?;
        // It must not end while somebody decides.
        it.expires_at = it.expires_at.max(now + DECIDED_WITHIN);
        drop(held);
        Some(Decision { announcement, all: self, _one: one })
    }

    /// Forgets what is over.
    pub fn sweep(&self, now: Timestamp) {
        drop(self.current(now));
    }

    /// What is not over.
    fn current(&self, now: Timestamp) -> MutexGuard<'_, BTreeMap<Uuid, Held>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let before = held.len();
        held.retain(|_, it| it.expires_at > now);
        if held.len() < before {
            self.tell();
        }
        held
    }

    fn decided(&self, announcement: &Announcement, stage: Stage, now: Timestamp) {
        let mut held = self.current(now);
        if let Some(it) = held.get_mut(&announcement.id) {
            (it.stage, it.expires_at) = (stage, now + VALID);
        }
        drop(held);
        self.tell();
    }

    fn tell(&self) {
        self.events.publish(Topic::Announcements);
        self.ended.send_replace(());
    }
}

/// An announcement belongs to the key that made it: to any other it does not exist.
fn find<'a>(
    held: &'a mut BTreeMap<Uuid, Held>,
    id: Uuid,
    key: &Fingerprint,
) -> Result<&'a mut Held, Unheard> {
    held.get_mut(&id).filter(|it| it.new.newcomer.key == *key).ok_or(Unheard::Over)
}

/// A decision that is being made. Dropped, the announcement waits on.
#[derive(Debug)]
pub struct Decision<'a> {
    announcement: Announcement,
    all: &'a Announcements,
    _one: tokio::sync::MutexGuard<'a, ()>,
}

impl Decision<'_> {
    /// What is decided about.
    #[must_use]
    pub fn about(&self) -> &Announcement {
        &self.announcement
    }

    /// The machine is this host. Call it after the commit.
    pub fn approved(self, host: HostId, now: Timestamp) {
        self.all.decided(&self.announcement, Stage::Approved(host), now);
    }

    /// The machine does not come in. Call it after the commit.
    pub fn refused(self, now: Timestamp) {
        self.all.decided(&self.announcement, Stage::Refused, now);
    }
}
