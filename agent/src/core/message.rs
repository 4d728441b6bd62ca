//! What people are told: names, times and reasons in plain words. No secret, no path, and nothing that restic
//! said, since that may hold both.

use jiff::{Timestamp, tz::TimeZone};
use protocol::{AlarmId, AlarmState, Code};
use serde::{Deserialize, Serialize};

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlarmEvent {
    /// A backup failed.
    Failed,
    /// A backup is overdue.
    Overdue,
    /// Backups are good again; for a ping, they still are.
    Good,
    /// Nothing: somebody tries the channel.
    Test,
}

/// A message. In this form a webhook gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmMessage {
    /// The alarm; the same by all channels.
    pub id: AlarmId,
    /// What it is about.
    pub state: AlarmEvent,
    /// The machine.
    pub machine: String,
    /// The plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Its repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// When it came to this.
    pub at: Timestamp,
    /// The last good run; when all is good again, since when it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// The stable reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// In a line.
    pub title: String,
    /// In some sentences.
    pub text: String,
}

impl AlarmMessage {
    #[expect(clippy::too_many_arguments, reason = "each is a part of the message")]
    pub(super) fn new(
        id: AlarmId,
        state: AlarmState,
        machine: &str,
        plan: String,
        repository: Option<String>,
        code: Option<Code>,
        at: Timestamp,
        since: Option<Timestamp>,
        zone: &TimeZone,
    ) -> Self {
        let machine = plain(machine);
        let plan = plain(&plan);
        let repository = repository.map(|name| plain(&name));
        let place = repository.as_ref().map_or_else(String::new, |name| format!(" into {name}"));
        let (at, since) = (whole(at), since.map(whole));
        let shown = |time: Timestamp| {
            time.to_zoned_datetime(zone.clone()).strftime("%-d %B %Y, %H:%M %Z").to_string()
        };
        let last = since.map_or_else(
            || "There was no good run yet.".to_owned(),
            |since| format!("The last good run began on {}.", shown(since)),
        );
        let reason = code.map_or_else(String::new, |code| format!(" {}", sentence(code)));
        let (state, title, text) = match state {
            AlarmState::Failed => (
                AlarmEvent::Failed,
                format!("Backup failed: {plan} on {machine}"),
                format!("The backup “{plan}” of {machine}{place} failed on {}.{reason} {last}", shown(at)),
            ),
            AlarmState::Overdue => (
                AlarmEvent::Overdue,
                format!("Backup overdue: {plan} on {machine}"),
                format!("The backup “{plan}” of {machine}{place} is overdue.{reason} {last}"),
            ),
            AlarmState::Good | AlarmState::Unknown => (
                AlarmEvent::Good,
                format!("Backup good again: {plan} on {machine}"),
                since.map_or_else(
                    || format!("The backup “{plan}” of {machine}{place} is good."),
                    |since| format!(
                        "The backup “{plan}” of {machine}{place} is good again. It was not since {}.",
                        shown(since)
                    ),
                ),
            ),
        };
        let plan = Some(plan);
        Self { id, state, machine, plan, repository, at, since, code, title, text }
    }

    pub(super) fn test(id: AlarmId, machine: &str, plan: Option<String>, at: Timestamp) -> Self {
        let machine = plain(machine);
        Self {
            id,
            state: AlarmEvent::Test,
            title: format!("Test message from {machine}"),
            text: format!(
                "This is a test. In this way {machine} tells when a backup failed or is overdue."
            ),
            machine,
            plan: plan.map(|name| plain(&name)),
            repository: None,
            at: whole(at),
            since: None,
            code: None,
        }
    }
}

/// A time in whole seconds: what is finer says nothing to people, and not every reader of JSON takes it.
fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// A name without what moves a cursor or begins a new header.
fn plain(name: &str) -> String {
    name.chars().filter(|character| !character.is_control()).take(200).collect()
}

/// A reason in words, where there are some that are better than the code.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others say enough by their name")]
fn sentence(code: Code) -> String {
    let words = match code {
        Code::RepositoryUnreachable | Code::StoreAway => "The repository cannot be reached.",
        Code::RepositoryMissing => "There is no repository at its place.",
        Code::RepositoryLocked => "The repository is locked.",
        Code::RepositoryAuth => "The repository's server refused the sign-in.",
        Code::RepositoryDamaged => "The repository is damaged.",
        Code::WrongPassword => "The repository's password is wrong.",
        Code::CertificateUnknown => "The repository server's certificate is not trusted.",
        Code::SourceMissing => "A folder that is to be backed up does not exist.",
        Code::SourceEmpty => "There was no file to back up.",
        Code::DiskFull => "A disk is full.",
        Code::HookFailed => "A hook of the plan failed.",
        Code::HookUnknown => "The machine has no hook of the name that the plan uses.",
        Code::ResticMissing => "There is no restic on the machine.",
        Code::ResticTooOld => "The machine's restic is too old.",
        Code::TimedOut => "It took longer than the plan allows.",
        Code::Stalled => "Nothing moved for longer than the plan allows.",
        Code::Interrupted => "It was interrupted.",
        Code::OnBattery => "The machine runs on its battery.",
        Code::Metered => "The network is paid for by the byte.",
        _ => return format!("Reason: {code}."),
    };
    words.to_owned()
}
