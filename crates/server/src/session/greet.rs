//! A hello, met in one transaction.

use super::{
    core::Met,
    handshake::{self, JournalStep, Known, KnownJournal, Meeting},
};
use crate::{
    db::{
        Tx,
        error::DbError,
        hosts::{self, Fingerprint, Host, HostState},
        journals, notices, snapshots,
    },
    hooks::{self, Mistake},
    manager::Manager,
    text,
    vault::VaultError,
};
use protocol::{Code, Cursor, Hello, HostId, JournalId, JournalState, Problem, Secret, Welcome};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Words about what an agent can do that are kept.
const MAX_CAPABILITIES: usize = 50;

/// Why a hello could not be met.
#[derive(Debug, Error)]
pub(super) enum GreetError {
    /// The database failed.
    #[error("failed to meet an agent")]
    Db(#[from] DbError),
    /// There is no ticket to hand out.
    #[error("failed to make a ticket")]
    Ticket(#[from] VaultError),
}

/// What came of a hello.
#[derive(Debug)]
pub(super) enum Greeted {
    /// The connection ends.
    Refused(Problem),
    /// The connection goes on.
    Met(Box<Greeting>),
}

/// How a connection goes on.
#[derive(Debug)]
pub(super) struct Greeting {
    pub met: Met,
    /// The answer; a version 1 agent gets none.
    pub welcome: Option<Welcome>,
    pub held: Option<Code>,
    pub journal: Option<JournalId>,
    /// The newest record that the agent has.
    pub head: u64,
    /// Whether the agent has older plans than it had acknowledged.
    pub has_older_plans: bool,
    pub has_notices: bool,
}

/// The SHA-256 of a ticket or token.
pub(crate) fn hash(secret: &Secret<String>) -> Fingerprint {
    Sha256::digest(secret.expose_secret().as_bytes()).into()
}

/// Refuses a host that does not belong to the fleet any more.
pub(crate) fn check_state(host: &Host) -> Result<(), Problem> {
    match host.state {
        HostState::Enrolled => Ok(()),
        HostState::Revoked | HostState::Removed => Err(Problem::new(
            Code::HostRevoked,
            "This machine was taken out of the fleet by its manager.",
        )
        .guidance("Enrol it again with a new install line, if it shall come back.")),
    }
}

pub(super) async fn greet(
    manager: &Manager,
    id: HostId,
    hello: &Hello,
) -> Result<Greeted, GreetError> {
    let version = match handshake::check_version(hello) {
        Ok(version) => version,
        Err(problem) => return Ok(Greeted::Refused(problem)),
    };
    let ticket = Secret::new(data_encoding::BASE64URL_NOPAD.encode(&manager.random_bytes::<32>()?));
    let now = manager.now();
    let mut tx = manager.db().begin().await?;
    let Some(host) = hosts::find(&mut *tx, id).await? else {
        return Ok(Greeted::Refused(Problem::new(
            Code::HostUnknown,
            "This machine is not enrolled with this manager.",
        )));
    };
    if let Err(problem) = check_state(&host) {
        return Ok(Greeted::Refused(problem));
    }
    let known = known(manager, &mut tx, &host, hello).await?;
    let shown = hello.ticket.as_ref().map(hash);
    let meeting = handshake::meet(hello, &known, shown, hash(&ticket), version);
    store(manager, &mut tx, &host, hello, &known, &meeting).await?;
    let greeting = answer(manager, &known, hello, meeting, ticket);
    let has_told_all = matches!(greeting.met, Met::Live { seq, .. } if seq >= greeting.head);
    hosts::note_hello(&mut tx, id, &cleaned(hello), has_told_all, now).await?;
    tx.commit().await.map_err(DbError::from)?;
    Ok(Greeted::Met(Box::new(greeting)))
}

fn cleaned(hello: &Hello) -> Hello {
    Hello {
        hostname: text::name(&hello.hostname),
        agent_version: text::name(&hello.agent_version),
        restic_version: text::name(&hello.restic_version),
        time_zone: hello.time_zone.as_deref().map(text::name),
        capabilities: hello
            .capabilities
            .iter()
            .take(MAX_CAPABILITIES)
            .map(|it| text::name(it))
            .collect(),
        ..hello.clone()
    }
}

async fn known(
    manager: &Manager,
    tx: &mut Tx,
    host: &Host,
    hello: &Hello,
) -> Result<Known, DbError> {
    let journal = match &hello.journal {
        Some(state) => known_journal(tx, host.id, state).await?,
        None => None,
    };
    Ok(Known {
        host: host.id,
        manager: manager.identity().manager(),
        tickets: host.tickets,
        hold: host.hold.clone(),
        next_command: host.next_command,
        generation: host.generation,
        acked: host.acked_generation,
        has_history: journal.is_some() || journals::has_any(&mut **tx, host.id).await?,
        journal,
    })
}

async fn known_journal(
    tx: &mut Tx,
    host: HostId,
    state: &JournalState,
) -> Result<Option<KnownJournal>, DbError> {
    let records = [state.head, state.first.saturating_sub(1)];
    let found = journals::cursor(&mut **tx, host, state.id, records).await?;
    Ok(found.map(|(cursor, [head_mark, base_mark])| KnownJournal { cursor, head_mark, base_mark }))
}

async fn store(
    manager: &Manager,
    tx: &mut Tx,
    host: &Host,
    hello: &Hello,
    known: &Known,
    meeting: &Meeting,
) -> Result<(), DbError> {
    let (id, now) = (host.id, manager.now());
    if let Some(hold) = &meeting.hold {
        hosts::set_hold(tx, id, hold).await?;
    }
    if let Some(seen) = &meeting.ahead {
        hosts::note_ahead(tx, id, seen).await?;
    }
    if let Some(tickets) = &meeting.tickets {
        hosts::set_tickets(tx, id, tickets).await?;
    }
    if let Some(state) = &hello.journal {
        match meeting.journal {
            // Nothing has changed where a machine comes back as it was, which is what nearly all do.
            JournalStep::Continue { seq, hash } if known.is_current_at(seq, hash) => {}
            JournalStep::Continue { seq, hash } => {
                if !known.journal.is_some_and(|ours| ours.cursor.is_current) {
                    snapshots::forget_order(tx, id).await?;
                }
                journals::set(tx, id, state.id, seq, hash, now).await?;
            }
            JournalStep::Renew { reason, .. } => {
                journals::set_renew(tx, id, state.id, reason).await?;
            }
            JournalStep::Forked => {
                journals::set_renew(tx, id, state.id, Code::JournalForked).await?;
            }
            JournalStep::None => {}
        }
    }
    let is_told = !hooks::is_planted(Mistake::KeepSilent);
    for notice in meeting.notices.iter().filter(|_| is_told) {
        notices::open(tx, manager.new_id(), notice, now).await?;
    }
    Ok(())
}

fn answer(
    manager: &Manager,
    known: &Known,
    hello: &Hello,
    meeting: Meeting,
    ticket: Secret<String>,
) -> Greeting {
    let version = meeting.protocol_version;
    let journal = hello.journal.as_ref().map(|state| state.id);
    let (seq, cursor, renew) = match meeting.journal {
        JournalStep::Continue { seq, hash } => {
            (seq, journal.map(|journal_id| Cursor { journal_id, seq, hash }), None)
        }
        JournalStep::Renew { reason, seq, hash } => {
            (seq, journal.map(|journal_id| Cursor { journal_id, seq, hash }), Some(reason))
        }
        JournalStep::None | JournalStep::Forked => (0, None, None),
    };
    let met = match (&meeting.hold, renew) {
        (Some(_), _) => Met::Held,
        (None, Some(_)) => Met::Renewing,
        (None, None) => Met::Live { version, seq },
    };
    let held = meeting.hold.as_ref().map(|hold| hold.code);
    let welcome = version.has_journal().then(|| Welcome {
        protocol_version: version,
        host_id: known.host,
        manager: known.manager,
        cursor,
        renew_journal: renew,
        ticket: meeting.tickets.is_some().then_some(ticket),
        hold: meeting.hold,
        server_time: manager.now(),
    });
    Greeting {
        met,
        welcome,
        held,
        journal,
        head: hello.journal.as_ref().map_or(0, |state| state.head),
        has_older_plans: hello.manager.is_some_and(|seen| {
            // Under an earlier incarnation the number counts nothing.
            seen.incarnation == known.manager.incarnation
                && seen.generation < known.acked
                && !hooks::is_planted(Mistake::TrustAcknowledged)
        }),
        has_notices: !meeting.notices.is_empty(),
    }
}
