//! Which frame may come when, and when a connection ends by itself. No socket, no clock: time is
//! what has passed since the connection began.

use protocol::{
    AlarmTested, Code, CommandResult, Frame, FrameError, FromAgent, Hello, JobProgress, Problem,
    ProtocolVersion, RepoStats, Secret, SnapshotsReport, TreeReport,
    journal::{ChainHash, JournalElided, is_durable},
};
use std::time::Duration;

/// How long an agent may take to say hello.
pub const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// How long an agent may be silent. It sends a heartbeat every 30 s.
pub const SILENCE: Duration = Duration::from_secs(90);
/// How often the manager sends a ping, which also finds connections that died without a word.
pub const PING_EVERY: Duration = Duration::from_secs(30);
/// Lossy frames that may come at once.
const BURST: u32 = 400;
/// Lossy frames that may come in a second for ever.
const PER_SECOND: u32 = 200;

/// A record of the journal, still as the agent wrote it.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its number.
    pub seq: u64,
    /// The journal's hash after it.
    pub hash: ChainHash,
    /// The frame that it came in: its type, and its content byte for byte.
    pub frame: Frame,
}

impl Record {
    /// The bytes that it takes while it waits.
    #[must_use]
    pub fn size(&self) -> usize {
        self.frame.kind.len() + self.frame.payload.get().len()
    }
}

/// What is to be done about a frame.
#[derive(Debug)]
pub enum Effect {
    /// Compare what both sides remember, and call [`AgentSession::handle_met`].
    Meet(Box<Hello>),
    /// Take a record in.
    Record(Record),
    /// Take in what a version 1 agent said, which has no number, and the size of its frame.
    Direct(Box<FromAgent>, usize),
    /// The agent's answer to a command.
    CommandAnswered(CommandResult),
    /// How far a run is.
    Progress(JobProgress),
    /// What a repository holds.
    Snapshots(SnapshotsReport),
    /// A repository's facts.
    Stats(RepoStats),
    /// A page of a folder that was asked for.
    Tree(TreeReport),
    /// What came of a message for trial.
    Tried(AlarmTested),
    /// The ticket is safe with the agent.
    TicketConfirmed(Secret<String>),
    /// Send a ping and note that the host is there.
    Ping,
    /// End the connection; with a problem, say why first.
    Close(Option<Problem>),
}

/// What came of a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// Commands, records and reports may flow.
    Live {
        /// The version that both sides speak.
        version: ProtocolVersion,
        /// The newest record that the manager has.
        seq: u64,
    },
    /// The admin must decide first.
    Held,
    /// The agent comes back with a new journal.
    Renewing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Greeting,
    Meeting,
    Live { version: ProtocolVersion, seq: u64 },
    Held,
    Renewing,
    Closed,
}

/// The rules of one connection.
#[derive(Debug)]
pub struct AgentSession {
    phase: Phase,
    heard_at: Duration,
    ping_at: Duration,
    tokens: u32,
    filled_at: Duration,
    dropped: u64,
}

impl AgentSession {
    /// A connection that begins now.
    #[must_use]
    pub fn new(now: Duration) -> Self {
        Self {
            phase: Phase::Greeting,
            heard_at: now,
            ping_at: now + PING_EVERY,
            tokens: BURST,
            filled_at: now,
            dropped: 0,
        }
    }

    /// Whether commands may be written.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live { .. })
    }

    /// Lossy frames that were dropped because there were too many.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Takes in a text message.
    pub fn handle_text(&mut self, text: &str, now: Duration) -> Option<Effect> {
        self.heard_at = now;
        match Frame::decode(text) {
            Ok(frame) => self.handle_frame(frame, now),
            Err(error) => self.close(invalid(&error)),
        }
    }

    /// Takes in a pong or ping: the agent is there. Before its hello that says nothing.
    pub fn handle_sign_of_life(&mut self, now: Duration) {
        if !matches!(self.phase, Phase::Greeting) {
            self.heard_at = now;
        }
    }

    /// Takes in a message that is no text.
    pub fn handle_binary(&mut self) -> Option<Effect> {
        self.close(Problem::new(
            Code::FrameInvalid,
            "Frames are JSON in text messages; a binary message came.",
        ))
    }

    /// The socket could not deliver a message because it broke a limit or is no text.
    pub fn handle_unreadable(&mut self, is_too_large: bool) -> Option<Effect> {
        self.close(if is_too_large {
            too_large()
        } else {
            Problem::new(Code::FrameInvalid, "The message is no valid WebSocket text.")
        })
    }

    /// What came of [`Effect::Meet`].
    pub fn handle_met(&mut self, met: Met) {
        if self.phase == Phase::Meeting {
            self.phase = match met {
                Met::Live { version, seq } => Phase::Live { version, seq },
                Met::Held => Phase::Held,
                Met::Renewing => Phase::Renewing,
            };
        }
    }

    /// When [`AgentSession::handle_timeout`] is to be called at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Duration {
        match self.phase {
            Phase::Greeting | Phase::Meeting => self.heard_at + HELLO_WITHIN,
            Phase::Live { .. } | Phase::Held | Phase::Renewing => {
                self.ping_at.min(self.heard_at + SILENCE)
            }
            Phase::Closed => Duration::MAX,
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Duration) -> Option<Effect> {
        match self.phase {
            Phase::Greeting | Phase::Meeting if now >= self.heard_at + HELLO_WITHIN => {
                self.close(Problem::new(Code::HelloExpected, "No hello came in time."))
            }
            Phase::Greeting | Phase::Meeting | Phase::Closed => None,
            Phase::Live { .. } | Phase::Held | Phase::Renewing => {
                if now >= self.heard_at + SILENCE {
                    self.phase = Phase::Closed;
                    return Some(Effect::Close(None));
                }
                (now >= self.ping_at).then(|| {
                    self.ping_at = now + PING_EVERY;
                    Effect::Ping
                })
            }
        }
    }

    fn handle_frame(&mut self, frame: Frame, now: Duration) -> Option<Effect> {
        match self.phase {
            Phase::Greeting => self.handle_greeting(&frame),
            Phase::Live { version, seq } if version.has_journal() => {
                if frame.seq.is_some() || frame.hash.is_some() || is_durable(&frame.kind) {
                    return self.handle_record(frame, version, seq);
                }
                self.handle_message(&frame, now)
            }
            Phase::Live { .. } => self.handle_message(&frame, now),
            // Nothing of it counts: what is durable comes again, and the rest is old by then.
            Phase::Meeting | Phase::Held | Phase::Renewing | Phase::Closed => None,
        }
    }

    fn handle_greeting(&mut self, frame: &Frame) -> Option<Effect> {
        match FromAgent::decode(frame) {
            Ok(FromAgent::Hello(hello)) => {
                self.phase = Phase::Meeting;
                Some(Effect::Meet(hello))
            }
            Err(error) if frame.kind == "hello" => self.close(invalid(&error)),
            Ok(_) | Err(_) => self.close(Problem::new(
                Code::HelloExpected,
                "The first frame of a connection is hello.",
            )),
        }
    }

    fn handle_record(
        &mut self,
        frame: Frame,
        version: ProtocolVersion,
        seq: u64,
    ) -> Option<Effect> {
        let (Some(number), Some(hash)) = (frame.seq, frame.hash) else {
            return self.close(Problem::new(
                Code::FrameInvalid,
                "A record of the journal came without its number or hash.",
            ));
        };
        let next = seq.saturating_add(1);
        if JournalElided::first_of(number, &frame.kind, frame.payload.get()) > next {
            return self.close(Problem::new(
                Code::FrameInvalid,
                format!("Record {next} of the journal was expected, and {number} came."),
            ));
        }
        self.phase = Phase::Live { version, seq: seq.max(number) };
        Some(Effect::Record(Record { seq: number, hash, frame }))
    }

    fn handle_message(&mut self, frame: &Frame, now: Duration) -> Option<Effect> {
        let message = match FromAgent::decode(frame) {
            Ok(message) => message,
            Err(error) => return self.close(invalid(&error)),
        };
        match message {
            FromAgent::JobStarted(_)
            | FromAgent::JobFinished(_)
            | FromAgent::LogLine(_)
            | FromAgent::ScheduleAck(_) => {
                Some(Effect::Direct(Box::new(message), frame.payload.get().len()))
            }
            // Each of these is a write, and an honest agent sends one an answer: who sends hundreds a
            // second is broken.
            FromAgent::CommandResult(_) | FromAgent::TicketConfirm(_) if !self.may_pass(now) => {
                self.close(Problem::new(Code::FrameInvalid, "Too many answers came at once."))
            }
            FromAgent::CommandResult(result) => Some(Effect::CommandAnswered(result)),
            FromAgent::TicketConfirm(confirm) => Some(Effect::TicketConfirmed(confirm.ticket)),
            FromAgent::JobProgress(progress) => {
                self.may_pass(now).then_some(Effect::Progress(progress))
            }
            FromAgent::SnapshotsReport(report) => {
                self.may_pass(now).then_some(Effect::Snapshots(report))
            }
            // Asked for, so they are as many as people ask for; a page that is dropped would leave
            // somebody waiting.
            FromAgent::TreeReport(report) => Some(Effect::Tree(report)),
            FromAgent::AlarmTested(tested) => Some(Effect::Tried(tested)),
            FromAgent::RepoStats(stats) => self.may_pass(now).then_some(Effect::Stats(stats)),
            FromAgent::Heartbeat(_)
            | FromAgent::AgentAwake(_)
            | FromAgent::SlotDeferred(_)
            | FromAgent::AlarmRaised(_)
            | FromAgent::AlarmDelivered(_)
            | FromAgent::JournalGap(_)
            | FromAgent::JournalElided(_)
            | FromAgent::Hello(_)
            | FromAgent::Unknown(_) => None,
        }
    }

    /// Takes a token for a lossy frame.
    fn may_pass(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.filled_at);
        let earned = passed.as_millis() * u128::from(PER_SECOND) / 1000;
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(BURST);
            self.tokens = self.tokens.saturating_add(earned).min(BURST);
            self.filled_at = now;
        }
        let Some(left) = self.tokens.checked_sub(1) else {
            self.dropped += 1;
            return false;
        };
        self.tokens = left;
        true
    }

    fn close(&mut self, problem: Problem) -> Option<Effect> {
        if self.phase == Phase::Closed {
            return None;
        }
        self.phase = Phase::Closed;
        Some(Effect::Close(Some(problem)))
    }
}

fn invalid(error: &FrameError) -> Problem {
    match error {
        FrameError::TooLarge(_) => too_large(),
        // The detail may quote what was sent: it stays out.
        FrameError::Envelope(_) => {
            Problem::new(Code::FrameInvalid, "A frame is no valid JSON envelope.")
        }
        FrameError::Payload { kind, .. } => Problem::new(
            Code::FrameInvalid,
            format!("The payload of a {} frame is not valid.", crate::text::name(kind)),
        ),
    }
}

fn too_large() -> Problem {
    Problem::new(
        Code::FrameTooLarge,
        format!("A frame is larger than {} bytes.", protocol::MAX_FRAME_BYTES),
    )
}

#[cfg(test)]
mod tests;
