//! What a `hello` leads to: whether the agent is who it was, and where its journal goes on.

use crate::{
    db::{
        hosts::{Fingerprint, Seen, Tickets},
        journals::JournalCursor,
        notices::NewNotice,
    },
    hooks::{self, Mistake},
};
use protocol::{
    Code, Hello, Hold, HostId, JournalState, ManagerIdentity, Problem, ProtocolVersion,
    journal::ChainHash,
};

/// What an agent may require of its manager. There is nothing optional yet.
const CAPABILITIES: &[&str] = &[];

/// What the manager remembers of a host when it says hello.
#[derive(Clone, Debug)]
pub struct Known {
    /// The host.
    pub host: HostId,
    /// Which manager this is.
    pub manager: ManagerIdentity,
    /// The tickets that the host may come back with.
    pub tickets: Tickets,
    /// The admin's decision that is still open.
    pub hold: Option<Hold>,
    /// The next command number.
    pub next_command: u64,
    /// The generation of the desired state.
    pub generation: u64,
    /// The generation that the host has said it has.
    pub acked: u64,
    /// The journal that the hello names.
    pub journal: Option<KnownJournal>,
    /// Whether the host ever had a journal here.
    pub has_history: bool,
}

impl Known {
    /// Whether the journal is the host's current one already, and stands there.
    #[must_use]
    pub fn is_current_at(&self, seq: u64, hash: ChainHash) -> bool {
        self.journal.is_some_and(|KnownJournal { cursor, .. }| {
            cursor.is_current && (cursor.seq, cursor.hash) == (seq, hash)
        })
    }
}

/// What the manager remembers of the journal that a hello names.
#[derive(Clone, Copy, Debug)]
pub struct KnownJournal {
    /// How far it is.
    pub cursor: JournalCursor,
    /// The hash that was kept for the hello's newest record.
    pub head_mark: Option<ChainHash>,
    /// The hash that was kept for the record before the hello's oldest.
    pub base_mark: Option<ChainHash>,
}

/// What becomes of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalStep {
    /// The agent keeps none (version 1), or is held.
    None,
    /// Records go on after this one; the journal is the host's current one from now on.
    Continue {
        /// The newest record that the manager has, or gives up waiting for.
        seq: u64,
        /// The hash after it.
        hash: ChainHash,
    },
    /// The agent starts a new journal.
    Renew {
        /// Why.
        reason: Code,
        /// Where the old one ends.
        seq: u64,
        /// The hash there.
        hash: ChainHash,
    },
    /// Both sides tell different histories; the journal is to be renewed once the hold has ended.
    Forked,
}

/// What a hello leads to.
#[derive(Clone, Debug, PartialEq)]
pub struct Meeting {
    /// The version that both sides speak.
    pub protocol_version: ProtocolVersion,
    /// Why the host is held.
    pub hold: Option<Hold>,
    /// What becomes of the journal.
    pub journal: JournalStep,
    /// The tickets once a new one is handed out under this hash; `None` when none is.
    pub tickets: Option<Tickets>,
    /// What a person must know.
    pub notices: Vec<NewNotice>,
    /// What the agent has seen and the manager does not remember, for adopting.
    pub ahead: Option<Seen>,
}

/// Why an agent cannot be talked to at all.
///
/// # Errors
/// The refusal.
pub fn check_version(hello: &Hello) -> Result<ProtocolVersion, Problem> {
    if !hello.protocol_version.is_supported() {
        return Err(too_old(hello.protocol_version));
    }
    let missing: Vec<&str> = hello
        .requires
        .iter()
        .map(String::as_str)
        .filter(|required| !CAPABILITIES.contains(required))
        .collect();
    if !missing.is_empty() {
        let list = crate::text::name(&missing.join(", "));
        return Err(Problem::new(
            Code::CapabilityMissing,
            format!("The agent requires what this manager cannot do: {list}."),
        )
        .guidance("Update the manager."));
    }
    Ok(hello.protocol_version.min(protocol::PROTOCOL_VERSION))
}

/// The refusal of an agent that speaks a protocol from before this manager.
#[must_use]
pub fn too_old(version: ProtocolVersion) -> Problem {
    Problem::new(
        Code::AgentTooOld,
        format!(
            "The agent speaks protocol {}, and this manager understands {} and newer.",
            version.0,
            protocol::MIN_SUPPORTED.0
        ),
    )
    .guidance("Update the agent on this machine.")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ticket {
    Confirmed,
    Pending,
    /// There is none to compare with.
    Fresh,
    Wrong,
}

fn ticket(known: &Tickets, shown: Option<&Fingerprint>) -> Ticket {
    match (shown, known.confirmed.as_ref(), known.pending.as_ref()) {
        (_, None, None) => Ticket::Fresh,
        // The first ticket was handed out and never reached the agent's disk.
        (None, None, Some(_)) => Ticket::Fresh,
        (Some(shown), _, Some(pending)) if shown == pending => Ticket::Pending,
        (Some(shown), Some(confirmed), _) if shown == confirmed => Ticket::Confirmed,
        _ if hooks::is_planted(Mistake::IgnoreTicket) => Ticket::Fresh,
        _ => Ticket::Wrong,
    }
}

/// Compares what both sides remember.
///
/// `shown` is the hash of the hello's ticket, `offered` that of the ticket that would be handed out
/// next.
#[must_use]
pub fn meet(
    hello: &Hello,
    known: &Known,
    shown: Option<Fingerprint>,
    offered: Fingerprint,
    version: ProtocolVersion,
) -> Meeting {
    let mut meeting = Meeting {
        protocol_version: version,
        hold: known.hold.clone(),
        journal: JournalStep::None,
        tickets: None,
        notices: Vec::new(),
        ahead: None,
    };
    let ticket = ticket(&known.tickets, shown.as_ref());
    let behind = is_manager_behind(hello, known, ticket);
    if behind {
        meeting.ahead = Some(Seen { manager: hello.manager, ticket: shown });
    }
    if meeting.hold.is_some() {
        return meeting;
    }
    if behind {
        return meeting.held(known.host, Code::ManagerBehind, BEHIND, BEHIND_GUIDANCE);
    }
    if ticket == Ticket::Wrong {
        return meeting.held(known.host, Code::CloneSuspected, CLONE, CLONE_GUIDANCE);
    }
    if !version.has_journal() {
        return meeting;
    }
    if let Some(state) = &hello.journal {
        meeting = negotiate(meeting, state, known);
        if meeting.hold.is_some() {
            return meeting;
        }
    }
    meeting.tickets = Some(Tickets {
        confirmed: match ticket {
            Ticket::Pending => shown,
            Ticket::Confirmed | Ticket::Fresh | Ticket::Wrong => known.tickets.confirmed,
        },
        pending: Some(offered),
    });
    meeting
}

const BEHIND: &str = "This machine knows of commands or plans that the manager has forgotten: the manager's database is an older copy.";
const BEHIND_GUIDANCE: &str = "If you restored the manager from a backup, adopt the machine. Otherwise look for a second manager with the same identity.";
const CLONE: &str = "Two machines use this identity, or the machine came back from an older copy. Both are held without commands.";
const CLONE_GUIDANCE: &str = "If the machine was restored from an image, release it. If it was copied, enrol the copy again under its own name first. If you restored the manager from a backup, release it.";
const FORKED: &str =
    "The machine's journal and the manager's tell different histories of the same records.";
const FORKED_GUIDANCE: &str = "Find out whether the machine was restored or copied, then release it: it will begin a new journal, and the gap stays visible.";

impl Meeting {
    fn held(mut self, host: HostId, code: Code, message: &str, guidance: &str) -> Self {
        self.hold = Some(Hold { code, message: message.to_owned() });
        self.notices.push(NewNotice::of_host(host, code, message).guidance(guidance).hold());
        self
    }
}

/// The hold and notice for journals that tell different histories.
#[must_use]
pub fn forked(host: HostId) -> (Hold, NewNotice) {
    let code = Code::JournalForked;
    (
        Hold { code, message: FORKED.to_owned() },
        NewNotice::of_host(host, code, FORKED).guidance(FORKED_GUIDANCE).hold(),
    )
}

fn is_manager_behind(hello: &Hello, known: &Known, ticket: Ticket) -> bool {
    let numbers = hello.manager.is_some_and(|seen| {
        seen.incarnation == known.manager.incarnation
            && (seen.command >= known.next_command || seen.generation > known.generation)
    });
    // A ticket that the manager has forgotten, from an agent whose records it has forgotten too.
    let records = match (&hello.journal, &known.journal) {
        (Some(state), Some(ours)) => state.acked > ours.cursor.seq,
        _ => false,
    };
    numbers || (records && ticket == Ticket::Wrong)
}

fn negotiate(mut meeting: Meeting, state: &JournalState, known: &Known) -> Meeting {
    let host = known.host;
    let before_first = state.first.saturating_sub(1);
    let at_first = JournalStep::Continue { seq: before_first, hash: state.base_hash };
    let Some(ours) = &known.journal else {
        if state.first > 1 && known.has_history {
            meeting.notices.push(gap(host, state, 0));
        }
        meeting.journal = at_first;
        return meeting;
    };
    let JournalCursor { seq, hash, renew, is_current: _ } = ours.cursor;
    if let Some(reason) = renew {
        meeting.journal = JournalStep::Renew { reason, seq, hash };
        return meeting;
    }
    if is_forked(state, ours) {
        meeting.journal = JournalStep::Forked;
        return meeting.held(host, Code::JournalForked, FORKED, FORKED_GUIDANCE);
    }
    if state.head < seq {
        meeting.notices.push(agent_behind(host, state, seq));
        meeting.journal = JournalStep::Renew { reason: Code::AgentBehind, seq, hash };
        return meeting;
    }
    if state.acked > seq {
        meeting.notices.push(manager_behind(host, state, seq));
    }
    if state.first <= seq.saturating_add(1) {
        meeting.journal = JournalStep::Continue { seq, hash };
    } else {
        meeting.notices.push(gap(host, state, seq));
        meeting.journal = at_first;
    }
    meeting
}

fn is_forked(state: &JournalState, ours: &KnownJournal) -> bool {
    let differs = |mark: Option<ChainHash>, theirs: ChainHash| mark.is_some_and(|m| m != theirs);
    let at_cursor = state.head == ours.cursor.seq && state.head_hash != ours.cursor.hash;
    let base_at_cursor =
        state.first == ours.cursor.seq.saturating_add(1) && state.base_hash != ours.cursor.hash;
    at_cursor
        || base_at_cursor
        || differs(ours.head_mark, state.head_hash)
        || differs(ours.base_mark, state.base_hash)
}

fn gap(host: HostId, state: &JournalState, seq: u64) -> NewNotice {
    NewNotice::of_host(
        host,
        Code::ManagerBehind,
        format!(
            "Records {} to {} of the machine's journal are gone: what happened then is not known here.",
            seq.saturating_add(1),
            state.first.saturating_sub(1)
        ),
    )
    .subject(format!("gap:{}", state.id))
    .guidance("Look at the repository's snapshots to see what was backed up in that time.")
}

fn agent_behind(host: HostId, state: &JournalState, seq: u64) -> NewNotice {
    NewNotice::of_host(
        host,
        Code::AgentBehind,
        format!(
            "The machine's journal ends at record {}, and the manager already has {seq}: the agent's state is an older copy. It begins a new journal.",
            state.head
        ),
    )
    .subject(state.id.to_string())
    .guidance("If you restored the machine, nothing is to be done.")
}

fn manager_behind(host: HostId, state: &JournalState, seq: u64) -> NewNotice {
    NewNotice::of_host(
        host,
        Code::ManagerBehind,
        format!(
            "The manager had acknowledged record {} of the machine's journal and holds {seq}: its database is an older copy. The machine sends what it still has.",
            state.acked
        ),
    )
    .subject(format!("resend:{}", state.id))
    .guidance("If you restored the manager from a backup, nothing is to be done.")
}

#[cfg(test)]
mod tests;
