//! The connection as the brain sees it: greeting, comparing what both sides remember, and then the
//! frames of an open session.
//!
//! ```text
//!  Down ──connected──▶ Greeting ──welcome──▶ (Comparing) ──hashes equal──▶ Open
//!                        │   │                    │ differ: a new journal, dial again
//!                        │   └──welcome, hold──▶ Held   (no commands, no records)
//!                        └──refused──▶ Down
//! ```

use super::{Brain, Change, Effect, Now, Redial, RunState, reports::Told, send};
use crate::journal::{Fit, Journal, Kept};
use protocol::{
    Code, ConfigUpdate, Cursor, Frame, FromAgent, Heartbeat, Hello, Hold, JobStatus, JournalState,
    Problem, RepositoryId, RunId, SeenManager, TicketConfirm, ToAgent, Welcome, journal::ChainHash,
};
use schedule::zone;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// The time between two heartbeats.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(30);

/// What this agent can do beyond its protocol version.
const CAPABILITIES: [&str; 4] = ["restore", "stats", "hooks", protocol::ALARMS];

/// The state of the connection.
#[derive(Debug)]
pub(super) enum Link {
    Down,
    Greeting,
    Comparing { cursor: Cursor, ack: Option<u64>, early: Vec<Frame> },
    Held { hold: Hold, heartbeat: Duration },
    Open(Box<Session>),
}

/// What belongs to one open connection only.
#[derive(Debug, Default)]
pub(super) struct Session {
    heartbeat: Duration,
    /// The runs whose command was accepted over this connection: only they may get their `go`.
    pub(super) accepted: BTreeSet<RunId>,
    /// The first half of a desired state.
    pub(super) config: Option<ConfigUpdate>,
    /// What the manager was told of each repository.
    pub(super) told: BTreeMap<RepositoryId, Told>,
}

impl Link {
    pub(super) fn due(&self) -> Option<Duration> {
        match self {
            Self::Open(session) => Some(session.heartbeat),
            Self::Held { heartbeat, .. } => Some(*heartbeat),
            Self::Down | Self::Greeting | Self::Comparing { .. } => None,
        }
    }

    pub(super) fn session(&mut self) -> Option<&mut Session> {
        match self {
            Self::Open(session) => Some(session),
            Self::Down | Self::Greeting | Self::Comparing { .. } | Self::Held { .. } => None,
        }
    }
}

impl Brain {
    /// Whether an open session takes frames.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.link, Link::Open(_))
    }

    /// A connection is there: the first frame is `hello`.
    pub fn handle_connected(&mut self) -> Vec<Effect> {
        self.link = Link::Greeting;
        let manager = self.incarnation.map(|incarnation| SeenManager {
            incarnation,
            command: self.numbers.get(&incarnation).map_or(0, super::Numbers::highest),
            generation: self
                .desired
                .as_ref()
                .map(|desired| desired.generation)
                .filter(|generation| generation.incarnation == incarnation)
                .map_or(0, |generation| generation.n),
        });
        let hello = Hello {
            protocol_version: self.facts.protocol_version,
            agent_version: self.facts.agent_version.clone(),
            restic_version: self.facts.restic.clone().unwrap_or_default(),
            hostname: self.facts.hostname.clone(),
            os: self.facts.os,
            arch: self.facts.arch,
            boot_time: self.facts.boot_time,
            capabilities: CAPABILITIES.map(str::to_owned).to_vec(),
            requires: Vec::new(),
            time_zone: zone::name(&self.facts.zone),
            time_zone_data: self.facts.time_zone_data.clone(),
            journal: Some(self.journal.state()),
            manager,
            ticket: self.ticket.clone(),
            open_runs: self.open_runs().map(|run| run.id).collect(),
            awake_since: self.presence.since(),
            has_battery: Some(self.facts.has_battery),
        };
        send(&FromAgent::Hello(Box::new(hello))).into_iter().collect()
    }

    /// The connection is gone.
    pub fn handle_disconnected(&mut self) {
        self.link = Link::Down;
    }

    /// The manager said something.
    pub fn handle_frame(&mut self, frame: &Frame, now: Now) -> Vec<Effect> {
        if let Link::Comparing { early, .. } = &mut self.link {
            early.push(frame.clone());
            return Vec::new();
        }
        let message = match ToAgent::decode(frame) {
            Ok(message) => message,
            Err(error) => return disconnect(Redial::Backoff, Some(frame_invalid(&error))),
        };
        match (&self.link, message) {
            (Link::Greeting, ToAgent::Welcome(welcome)) => self.welcomed(*welcome, frame.ack, now),
            (_, ToAgent::Refused(refused)) => refused_by_manager(refused.0),
            (Link::Open(_), message) => self.handle_message(message, frame.ack, now),
            // Held or not yet greeted: nothing else counts, and nothing is lost by it.
            (Link::Down | Link::Greeting | Link::Held { .. } | Link::Comparing { .. }, _) => {
                Vec::new()
            }
        }
    }

    fn handle_message(&mut self, message: ToAgent, ack: Option<u64>, now: Now) -> Vec<Effect> {
        let mut effects = self.acknowledged(ack);
        effects.extend(match message {
            ToAgent::CommandRun(command) => self.command_run(*command, now),
            ToAgent::CommandGo(go) => self.command_go(go.job_id, now),
            ToAgent::CommandCancel(cancel) => self.command_cancel(&cancel, now),
            ToAgent::ConfigUpdate(config) => self.config_update(*config),
            ToAgent::ScheduleSet(set) => self.schedule_set(set),
            ToAgent::TreeWant(want) => self.tree_wanted(want),
            ToAgent::AlarmTest(test) => self.alarm_test(*test, now),
            ToAgent::SnapshotsWant(want) if want.anew => {
                self.read(want.repository_id).into_iter().collect()
            }
            ToAgent::SnapshotsWant(want) => self.snapshots_wanted(want.repository_id),
            ToAgent::JournalAck(_) | ToAgent::AgentUpdateAvailable(_) | ToAgent::Unknown(_) => {
                Vec::new()
            }
            // A second greeting changes nothing; a refusal was dealt with before.
            ToAgent::Welcome(_) | ToAgent::Refused(_) => Vec::new(),
        });
        effects
    }

    fn acknowledged(&mut self, ack: Option<u64>) -> Vec<Effect> {
        let Some(seq) = ack else { return Vec::new() };
        if !self.journal.acknowledge(seq) {
            return Vec::new();
        }
        let mut effects = vec![Effect::Store(Change::Acked(seq))];
        effects.extend(self.fetch());
        effects
    }

    fn welcomed(&mut self, welcome: Welcome, ack: Option<u64>, now: Now) -> Vec<Effect> {
        if let Some(problem) = self.objection(&welcome) {
            return disconnect(Redial::Slowly, Some(problem));
        }
        let mut effects = self.meet_manager(&welcome, now);
        if let Some(ticket) = welcome.ticket {
            self.ticket = Some(ticket.clone());
            effects.push(Effect::Store(Change::Ticket(ticket.clone())));
            effects.extend(send(&FromAgent::TicketConfirm(TicketConfirm { ticket })));
        }
        if let Some(hold) = welcome.hold {
            self.is_view_doubtful = true;
            self.link = Link::Held { hold, heartbeat: now.mono };
            return effects;
        }
        if let Some(reason) = welcome.renew_journal {
            let after_seq = welcome.cursor.map_or(0, |cursor| cursor.seq);
            effects.push(Effect::Renew { reason, after_seq });
            return effects;
        }
        effects.extend(self.compare(welcome.cursor, ack, now));
        effects
    }

    /// Why this welcome cannot be taken.
    fn objection(&self, welcome: &Welcome) -> Option<Problem> {
        if welcome.host_id != self.facts.host_id {
            return Some(
                Problem::new(
                    Code::HostUnknown,
                    "The manager takes this machine for another one; nothing was sent.",
                )
                .guidance("Enrol this machine again."),
            );
        }
        (welcome.manager.epoch < self.epoch).then(|| {
            Problem::new(
                Code::ManagerBehind,
                format!(
                    "The manager is of epoch {} and epoch {} has been seen; nothing was sent.",
                    welcome.manager.epoch, self.epoch
                ),
            )
            .guidance(
                "Check which manager runs at that address: somebody may be using an old copy.",
            )
        })
    }

    fn meet_manager(&mut self, welcome: &Welcome, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        if welcome.manager.epoch > self.epoch {
            self.epoch = welcome.manager.epoch;
            effects.push(Effect::Store(Change::Epoch(self.epoch)));
        }
        let incarnation = welcome.manager.incarnation;
        if self.incarnation != Some(incarnation) {
            self.incarnation = Some(incarnation);
            effects.push(Effect::Store(Change::Incarnation(incarnation)));
            effects.extend(self.end_commands_of_other_lives(now));
        }
        effects
    }

    /// Commands of an earlier life of the manager will never get their `go`.
    fn end_commands_of_other_lives(&mut self, now: Now) -> Vec<Effect> {
        let old: Vec<RunId> = self
            .runs
            .values()
            .filter(|run| run.state == RunState::Accepted)
            .filter(|run| run.number.map(|number| number.incarnation) != self.incarnation)
            .map(|run| run.id)
            .collect();
        old.into_iter()
            .flat_map(|run| {
                let problem = Problem::new(
                    Code::Expired,
                    "The manager's database was restored from a copy before the run began; it was not run.",
                );
                self.finish_unbegun(run, JobStatus::Expired, problem, now)
            })
            .collect()
    }

    fn compare(&mut self, cursor: Option<Cursor>, ack: Option<u64>, now: Now) -> Vec<Effect> {
        // A cursor into another journal says nothing of this one.
        let Some(cursor) = cursor.filter(|cursor| cursor.journal_id == self.journal.id()) else {
            return self.open(None, ack, now);
        };
        match self.journal.fit(cursor.seq) {
            Fit::Known(hash) => self.compared(cursor, Some(hash), ack, now),
            Fit::LookUp => {
                self.link = Link::Comparing { cursor, ack, early: Vec::new() };
                vec![Effect::LookUpHash(cursor.seq)]
            }
            Fit::AgentBehind => renew(Code::AgentBehind, cursor.seq),
            Fit::Hole => renew(Code::ManagerBehind, cursor.seq),
        }
    }

    /// What an [`Effect::LookUpHash`] found.
    pub fn handle_hash(&mut self, kept: Kept, now: Now) -> Vec<Effect> {
        match std::mem::replace(&mut self.link, Link::Down) {
            Link::Comparing { cursor, ack, early } => {
                let mut effects = match kept {
                    Kept::Hash(hash) => self.compared(cursor, Some(hash), ack, now),
                    // Acknowledged before the manager's database was put back; it goes on behind it.
                    Kept::LeftOut if cursor.seq <= self.journal.acked() => {
                        self.open(Some(cursor.seq), ack, now)
                    }
                    // A copy of this machine has told the manager more than this one ever did.
                    Kept::LeftOut | Kept::Nothing => self.compared(cursor, None, ack, now),
                };
                for frame in early {
                    effects.extend(self.handle_frame(&frame, now));
                }
                effects
            }
            // The connection went away meanwhile.
            link @ (Link::Down | Link::Greeting | Link::Held { .. } | Link::Open(_)) => {
                self.link = link;
                Vec::new()
            }
        }
    }

    fn compared(
        &mut self,
        cursor: Cursor,
        own: Option<ChainHash>,
        ack: Option<u64>,
        now: Now,
    ) -> Vec<Effect> {
        if own == Some(cursor.hash) {
            return self.open(Some(cursor.seq), ack, now);
        }
        self.link = Link::Greeting;
        renew(Code::JournalForked, cursor.seq)
    }

    fn open(&mut self, cursor: Option<u64>, ack: Option<u64>, now: Now) -> Vec<Effect> {
        let before = self.journal.acked();
        self.journal.resume(cursor);
        self.link = Link::Open(Box::new(Session { heartbeat: now.mono, ..Session::default() }));
        let mut effects = Vec::new();
        if self.journal.acked() != before {
            effects.push(Effect::Store(Change::Acked(self.journal.acked())));
        }
        effects.extend(self.acknowledged(ack));
        effects.extend(self.fetch());
        effects.extend(self.tell_digests());
        effects.extend(self.read_what_is_doubtful());
        effects.extend(self.heartbeat(now));
        self.recover_next = self.recover_next.map(|_| now.mono);
        effects
    }

    /// The new journal of an [`Effect::Renew`]. The manager learns its name from the next `hello`.
    pub fn handle_renewed(&mut self, journal: &JournalState) -> Vec<Effect> {
        self.journal = Journal::new(journal);
        self.is_view_doubtful = true;
        disconnect(Redial::Now, None)
    }

    pub(super) fn heartbeat(&mut self, now: Now) -> Vec<Effect> {
        let next = now.mono + HEARTBEAT;
        match &mut self.link {
            Link::Open(session) if session.heartbeat <= now.mono => session.heartbeat = next,
            Link::Held { heartbeat, .. } if *heartbeat <= now.mono => *heartbeat = next,
            Link::Open(_)
            | Link::Held { .. }
            | Link::Down
            | Link::Greeting
            | Link::Comparing { .. } => return Vec::new(),
        }
        send(&FromAgent::Heartbeat(Heartbeat { sent_at: now.wall })).into_iter().collect()
    }
}

fn renew(reason: Code, after_seq: u64) -> Vec<Effect> {
    vec![Effect::Renew { reason, after_seq }]
}

fn disconnect(redial: Redial, problem: Option<Problem>) -> Vec<Effect> {
    vec![Effect::Disconnect { redial, problem }]
}

fn frame_invalid(error: &protocol::FrameError) -> Problem {
    Problem::new(Code::FrameInvalid, format!("The manager sent something unreadable: {error}."))
        .guidance("Update the agent on this machine to the manager's version.")
}

fn refused_by_manager(problem: Problem) -> Vec<Effect> {
    disconnect(redial_after(problem.code), Some(problem))
}

/// When to come back after a refusal: what only a person can change is asked again slowly.
#[must_use]
pub fn redial_after(code: Code) -> Redial {
    let needs_a_person = matches!(
        code,
        Code::HostUnknown
            | Code::HostRevoked
            | Code::ClientKeyMissing
            | Code::AgentTooOld
            | Code::CapabilityMissing
            | Code::CloneSuspected
            | Code::EnrolmentSuspect
            | Code::ConnectionReplaced
    );
    if needs_a_person { Redial::Slowly } else { Redial::Backoff }
}
