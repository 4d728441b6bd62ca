//! What is heard of hosts: their hellos, that they are there, and that their tickets are safe.

use super::{Brief, Fingerprint, HostState, Tickets, hex, hold};
use crate::db::{
    Tx,
    error::DbError,
    row::{Row, millis, to_json, uncount},
};
use jiff::Timestamp;
use protocol::{Hello, Hold, HostId};

/// What a `hello` of a host is compared with.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// The host.
    pub id: HostId,
    /// Where it stands.
    pub state: HostState,
    /// Set while the admin must decide.
    pub hold: Option<Hold>,
    /// The tickets it may come back with.
    pub tickets: Tickets,
    /// The next command number.
    pub next_command: u64,
    /// The generation of its desired state, 0 before there is one.
    pub generation: u64,
    /// The generation that the agent last applied.
    pub acked_generation: u64,
}

/// What is remembered of these hosts, removed ones too.
///
/// # Errors
/// When the database fails.
pub async fn remembered(tx: &mut Tx, hosts: &[HostId]) -> Result<Vec<Remembered>, DbError> {
    let ids = to_json("hosts", "id", "many", hosts)?;
    let rows = sqlx::query!(
        "SELECT id, state, hold_code, hold_message, ticket_hash, pending_ticket_hash, next_command, \
         generation, acked_generation FROM hosts WHERE id IN (SELECT value FROM json_each(?))",
        ids
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter()
        .map(|host| {
            let row = Row { table: "hosts", id: &host.id };
            Ok(Remembered {
                id: row.parse("id", &host.id)?,
                state: HostState::read(row, &host.state)?,
                hold: hold(row, host.hold_code.as_deref(), host.hold_message)?,
                tickets: Tickets::read(row, host.ticket_hash, host.pending_ticket_hash)?,
                next_command: uncount(host.next_command),
                generation: uncount(host.generation),
                acked_generation: uncount(host.acked_generation),
            })
        })
        .collect()
}

/// What is to be noted of a `hello`.
#[derive(Clone, Debug)]
pub struct Heard<'a> {
    /// Who said it.
    pub host: HostId,
    /// What it says about the machine.
    pub hello: &'a Hello,
    /// Whether the machine has told everything by now.
    pub has_told_all: bool,
    /// The tickets that it may come back with; `None` where they stay.
    pub tickets: Option<Tickets>,
}

/// Notes what machines said in their hellos, of each machine one, and returns the machines as they are then.
///
/// # Errors
/// When the database fails.
pub async fn note_hellos(
    tx: &mut Tx,
    heard: &[Heard<'_>],
    now: Timestamp,
) -> Result<Vec<Brief>, DbError> {
    let rows: Vec<_> = heard
        .iter()
        .map(|Heard { host, hello, has_told_all, tickets }| {
            let (boot, awake) = (hello.boot_time.map(millis), hello.awake_since.map(millis));
            let ticket = |it: fn(&Tickets) -> Option<Fingerprint>| {
                tickets.as_ref().and_then(it).as_ref().map(hex)
            };
            let machine = (
                &hello.hostname,
                hello.os.as_str(),
                hello.arch.as_str(),
                &hello.agent_version,
                &hello.restic_version,
                hello.protocol_version.0,
                &hello.time_zone,
                hello.has_battery,
                &hello.capabilities,
            );
            let tickets = (tickets.is_some(), ticket(|it| it.confirmed), ticket(|it| it.pending));
            (host, machine, boot, awake, has_told_all, tickets)
        })
        .collect();
    let (rows, now) = (to_json("hosts", "id", "many", &rows)?, millis(now));
    let hosts = brief_rows!(
        "UPDATE hosts SET hostname = heard.value ->> '$[1][0]', os = heard.value ->> '$[1][1]', \
         arch = heard.value ->> '$[1][2]', agent_version = heard.value ->> '$[1][3]', \
         restic_version = heard.value ->> '$[1][4]', protocol_version = heard.value ->> '$[1][5]', \
         time_zone = coalesce(heard.value ->> '$[1][6]', time_zone), \
         has_battery = coalesce(heard.value ->> '$[1][7]', has_battery), \
         capabilities = heard.value ->> '$[1][8]', \
         boot_time = heard.value ->> 2, awake_since = coalesce(heard.value ->> 3, awake_since), \
         last_seen_at = ?2, heard_until = iif(heard.value ->> 4, ?2, heard_until), \
         ticket_hash = iif(heard.value ->> '$[5][0]', unhex(heard.value ->> '$[5][1]'), ticket_hash), \
         pending_ticket_hash = \
         iif(heard.value ->> '$[5][0]', unhex(heard.value ->> '$[5][2]'), pending_ticket_hash), \
         revision = revision + 1 \
         FROM json_each(?1) AS heard WHERE hosts.id = heard.value ->> 0 RETURNING",
        "",
        rows,
        now
    )
    .fetch_all(&mut **tx)
    .await?;
    hosts.into_iter().map(Brief::try_from).collect()
}

/// Notes that a host was heard of, and whether it has told everything by now.
///
/// # Errors
/// When the database fails.
pub async fn note_seen(
    tx: &mut Tx,
    host: HostId,
    has_told_all: bool,
    now: Timestamp,
) -> Result<(), DbError> {
    let (id, now) = (host.to_string(), millis(now));
    sqlx::query!(
        "UPDATE hosts SET last_seen_at = ?1, heard_until = iif(?2, ?1, heard_until) WHERE id = ?3",
        now,
        has_told_all,
        id
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The pending tickets of hosts are safe with their agents. Another ticket than the pending one changes
/// nothing.
///
/// # Errors
/// When the database fails.
pub async fn confirm_tickets(
    tx: &mut Tx,
    tickets: &[(HostId, Fingerprint)],
) -> Result<(), DbError> {
    let tickets: Vec<_> = tickets.iter().map(|(host, hash)| (host, hex(hash))).collect();
    let tickets = to_json("hosts", "pending_ticket_hash", "many", &tickets)?;
    sqlx::query!(
        "UPDATE hosts SET ticket_hash = pending_ticket_hash, pending_ticket_hash = NULL \
         FROM json_each(?) AS shown \
         WHERE hosts.id = shown.value ->> 0 AND pending_ticket_hash = unhex(shown.value ->> 1)",
        tickets
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
