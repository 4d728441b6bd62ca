//! Hellos, each met in a transaction, and those that come at the same moment in one.

use super::{
    core::Met,
    handshake::{self, JournalStep, Known, KnownJournal, Meeting},
    needs::{self, Needs},
};
use crate::{
    db::{
        Tx,
        error::DbError,
        hosts::{self, Fingerprint, Heard, HostState, Remembered},
        journals::{self, Found, Records},
        notices, snapshots,
    },
    hooks::{self, Mistake},
    manager::Manager,
    text,
    vault::VaultError,
};
use protocol::{Code, Cursor, Hello, HostId, JournalId, Problem, ProtocolVersion, Secret, Welcome};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use thiserror::Error;

/// Words about what an agent can do that are kept.
const MAX_CAPABILITIES: usize = 50;

/// Why a hello could not be met.
#[derive(Debug, Error)]
pub(super) enum GreetError {
    /// The database failed.
    #[error("failed to meet an agent")]
    Db(#[from] DbError),
    /// Whoever met it together with others gave no answer.
    #[error("nobody met this agent")]
    Unanswered,
    /// There is no ticket to hand out.
    #[error("failed to make a ticket")]
    Ticket(#[from] VaultError),
}

/// What came of a hello.
#[derive(Debug)]
pub(crate) enum Greeted {
    /// The connection ends.
    Refused(Problem),
    /// The connection goes on.
    Met(Box<Greeting>),
}

/// How a connection goes on.
#[derive(Debug)]
pub(crate) struct Greeting {
    pub met: Met,
    /// The version that both sides speak.
    pub version: ProtocolVersion,
    /// The answer; a version 1 agent gets none.
    pub welcome: Option<Welcome>,
    pub held: Option<Code>,
    pub journal: Option<JournalId>,
    /// The newest record that the agent has.
    pub head: u64,
    /// Whether the agent has older plans than it had acknowledged.
    pub has_older_plans: bool,
    pub has_notices: bool,
    /// What the host needs now.
    pub needs: Option<Needs>,
}

/// The SHA-256 of a ticket or token.
pub(crate) fn hash(secret: &Secret<String>) -> Fingerprint {
    Sha256::digest(secret.expose_secret().as_bytes()).into()
}

/// Refuses a host that does not belong to the fleet any more.
pub(crate) fn check_state(state: HostState) -> Result<(), Problem> {
    match state {
        HostState::Enrolled => Ok(()),
        HostState::Revoked | HostState::Removed => Err(Problem::new(
            Code::HostRevoked,
            "This machine was taken out of the fleet by its manager.",
        )
        .guidance("Enrol it again with a new install line, if it shall come back.")),
    }
}

/// A hello, and what it is answered with if it is welcome.
#[derive(Debug)]
pub(crate) struct Asked {
    host: HostId,
    hello: Hello,
    version: ProtocolVersion,
    ticket: Secret<String>,
}

pub(super) async fn greet(
    manager: &Manager,
    host: HostId,
    hello: Hello,
) -> Result<Greeted, GreetError> {
    let version = match handshake::check_version(&hello) {
        Ok(version) => version,
        Err(problem) => return Ok(Greeted::Refused(problem)),
    };
    let ticket = Secret::new(data_encoding::BASE64URL_NOPAD.encode(&manager.random_bytes::<32>()?));
    let asked = Arc::new(Asked { host, hello: cleaned(hello), version, ticket });
    let answer = |asked| greet_all(manager, asked);
    manager.batches().hellos.ask(asked, answer).await?.ok_or(GreetError::Unanswered)
}

/// Meets several hellos in one transaction, as if they had come one after another.
async fn greet_all(manager: &Manager, asked: Vec<Arc<Asked>>) -> Result<Vec<Greeted>, GreetError> {
    let mut tx = manager.db().begin().await?;
    let mut greeted = BTreeMap::new();
    while greeted.len() < asked.len() {
        // What one hello of a machine leads to is what its next one finds.
        let mut here = BTreeSet::new();
        let round: Vec<(usize, &Asked)> = asked
            .iter()
            .enumerate()
            .filter(|(n, it)| !greeted.contains_key(n) && here.insert(it.host))
            .map(|(n, it)| (n, &**it))
            .collect();
        greeted.extend(greet_round(manager, &mut tx, &round).await?);
    }
    tx.commit().await.map_err(DbError::from)?;
    Ok(greeted.into_values().collect())
}

/// Meets one hello of each of several machines.
async fn greet_round(
    manager: &Manager,
    tx: &mut Tx,
    round: &[(usize, &Asked)],
) -> Result<Vec<(usize, Greeted)>, GreetError> {
    let ids: Vec<HostId> = round.iter().map(|(_, asked)| asked.host).collect();
    let hosts = hosts::remembered(tx, &ids).await?;
    let hosts: BTreeMap<HostId, Remembered> =
        hosts.into_iter().map(|host| (host.id, host)).collect();
    let journals: Vec<_> = round.iter().filter_map(|(_, asked)| asked.records()).collect();
    let journals = journals::cursors(&mut **tx, &journals).await?;
    let (mut greeted, mut met, mut heard) = (Vec::new(), Vec::new(), Vec::new());
    for &(n, asked) in round {
        let host = match hosts.get(&asked.host).map(|host| (host, check_state(host.state))) {
            Some((host, Ok(()))) => host,
            Some((_, Err(problem))) => {
                greeted.push((n, Greeted::Refused(problem)));
                continue;
            }
            None => {
                greeted.push((n, Greeted::Refused(unknown())));
                continue;
            }
        };
        let state = asked.hello.journal.as_ref();
        let journal = state.and_then(|state| journals.get(&(asked.host, state.id)).copied());
        let known = known(manager, tx, host, journal).await?;
        let (greeting, said) = meet(manager, tx, asked, &known).await?;
        met.push((n, greeting));
        heard.push(said);
    }
    // Read here, where it stands with all of this: whatever changes later wakes the session.
    let hosts = hosts::note_hellos(tx, &heard, manager.now()).await?;
    let mut needs = needs::read(tx, hosts).await?;
    for ((n, greeting), heard) in met.into_iter().zip(&heard) {
        let greeting = Greeting { needs: needs.remove(&heard.host), ..greeting };
        greeted.push((n, Greeted::Met(Box::new(greeting))));
    }
    Ok(greeted)
}

/// The refusal of a host that is not known.
pub(super) fn unknown() -> Problem {
    Problem::new(Code::HostUnknown, "This machine is not enrolled with this manager.")
}

impl Asked {
    /// The hello's journal, with the records of it that are compared.
    fn records(&self) -> Option<Records> {
        let state = self.hello.journal.as_ref()?;
        Some((self.host, state.id, [state.head, state.first.saturating_sub(1)]))
    }
}

/// Compares what both sides remember, and stores what comes of it but for what is noted of every hello.
async fn meet<'a>(
    manager: &Manager,
    tx: &mut Tx,
    asked: &'a Asked,
    known: &Known,
) -> Result<(Greeting, Heard<'a>), GreetError> {
    let Asked { host, hello, version, ticket } = asked;
    let shown = hello.ticket.as_ref().map(hash);
    let meeting = handshake::meet(hello, known, shown, hash(ticket), *version);
    store(manager, tx, *host, hello, known, &meeting).await?;
    let tickets = meeting.tickets;
    let greeting = answer(manager, known, hello, meeting, ticket.clone());
    let has_told_all = matches!(greeting.met, Met::Live { seq, .. } if seq >= greeting.head);
    let heard = Heard { host: *host, hello, has_told_all, tickets };
    Ok((greeting, heard))
}

/// What a machine says of itself, as it may be stored and shown.
fn cleaned(mut hello: Hello) -> Hello {
    for name in [&mut hello.hostname, &mut hello.agent_version, &mut hello.restic_version] {
        *name = text::name(name);
    }
    hello.time_zone = hello.time_zone.as_deref().map(text::name);
    hello.capabilities.truncate(MAX_CAPABILITIES);
    for capability in &mut hello.capabilities {
        *capability = text::name(capability);
    }
    hello
}

async fn known(
    manager: &Manager,
    tx: &mut Tx,
    host: &Remembered,
    journal: Option<Found>,
) -> Result<Known, DbError> {
    let journal = journal.map(|(cursor, [head_mark, base_mark])| KnownJournal {
        cursor,
        head_mark,
        base_mark,
    });
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

async fn store(
    manager: &Manager,
    tx: &mut Tx,
    id: HostId,
    hello: &Hello,
    known: &Known,
    meeting: &Meeting,
) -> Result<(), DbError> {
    let now = manager.now();
    if let Some(hold) = &meeting.hold {
        hosts::set_hold(tx, id, hold).await?;
    }
    if let Some(seen) = &meeting.ahead {
        hosts::note_ahead(tx, id, seen).await?;
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
        version,
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
        needs: None,
    }
}
