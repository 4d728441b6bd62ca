//! The stable codes by which programs tell one refusal or failure from another.
//!
//! The UI and the agent branch on the code, never on the text. A code exists only where something
//! uses it; it is never renamed and never given another meaning.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A stable reason. Peers may send codes that this build does not know: they read as
        /// [`Code::Unknown`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
            /// A code of a newer peer.
            #[serde(other, rename = "unknown")]
            Unknown,
        }

        impl Code {
            /// Every code this build knows, for documents and tests.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The code as it stands on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Code::$name => $text,)*
                    Code::Unknown => "unknown",
                }
            }
        }
    };
}

codes! {
    // Enrolment and the link.
    /// The one-time token is not known to the manager.
    TokenUnknown = "token_unknown",
    /// The one-time token is older than its hour.
    TokenExpired = "token_expired",
    /// The one-time token was used before; the first machine that used it is held too.
    TokenUsed = "token_used",
    /// The agent's key is not enrolled here.
    HostUnknown = "host_unknown",
    /// The host was revoked.
    HostRevoked = "host_revoked",
    /// The agent presented no client certificate, so nothing says who it is.
    ClientKeyMissing = "client_key_missing",
    /// This key already belongs to an enrolled host.
    KeyAlreadyEnrolled = "key_already_enrolled",
    /// What the agent reveals is not what it committed to.
    CommitmentBroken = "commitment_broken",
    /// The machine's announcement is not known here: its quarter of an hour is over, or the manager
    /// was started anew.
    AnnouncementOver = "announcement_over",
    /// The admin refused the machine.
    AnnouncementRefused = "announcement_refused",
    /// The agent speaks a protocol that the manager no longer understands.
    AgentTooOld = "agent_too_old",
    /// The agent requires something that the manager cannot do.
    CapabilityMissing = "capability_missing",
    /// Two agents use one identity, or an agent came back from an older copy.
    CloneSuspected = "clone_suspected",
    /// The enrolment token of this host was used a second time.
    EnrolmentSuspect = "enrolment_suspect",
    /// The agent knows more than the manager: the manager's database is an older copy.
    ManagerBehind = "manager_behind",
    /// The agent's journal is behind what the manager has acknowledged: its state is an older copy.
    AgentBehind = "agent_behind",
    /// The journals of both sides disagree about the same records.
    JournalForked = "journal_forked",
    /// The agent's journal could not be read as it was written; a new one was begun.
    JournalDamaged = "journal_damaged",
    /// A newer connection of the same agent took over.
    ConnectionReplaced = "connection_replaced",
    /// A frame could not be understood.
    FrameInvalid = "frame_invalid",
    /// A frame was larger than the limit.
    FrameTooLarge = "frame_too_large",
    /// The first frame was not `hello`.
    HelloExpected = "hello_expected",

    // Commands and runs.
    /// The kind of run is not known here.
    KindUnknown = "kind_unknown",
    /// The plan is not part of the agent's desired state.
    PlanUnknown = "plan_unknown",
    /// What a host's plans say together is more than fits into one message to its agent.
    PlansTooLarge = "plans_too_large",
    /// The repository is not part of the agent's desired state.
    RepositoryUnknown = "repository_unknown",
    /// The endpoint's policy does not allow it.
    PolicyForbids = "policy_forbids",
    /// The command was not started in time.
    Expired = "expired",
    /// A person cancelled the run.
    Cancelled = "cancelled",
    /// The agent ended in the middle of the run.
    Interrupted = "interrupted",
    /// The run's host was removed before it ended.
    Lost = "lost",
    /// The machine runs on its battery, and the plan does not.
    OnBattery = "on_battery",
    /// The network is paid for by the byte, and the plan does not use it.
    Metered = "metered",
    /// Another run of this machine uses the repository.
    RepositoryBusy = "repository_busy",
    /// The run took longer than its plan allows.
    TimedOut = "timed_out",
    /// Neither bytes nor files moved for longer than the plan allows.
    Stalled = "stalled",
    /// A hook of the plan failed, or could not be run.
    HookFailed = "hook_failed",
    /// The machine has no hook of this name.
    HookUnknown = "hook_unknown",

    // Alarms.
    /// Nothing answers where the channel leads.
    ChannelUnreachable = "channel_unreachable",
    /// The channel's other side does not take the message.
    ChannelRefused = "channel_refused",

    // The store.
    /// The store has no folder yet.
    StoreHomeless = "store_homeless",
    /// The folder of the store is not there: its disk is not connected.
    StoreAway = "store_away",
    /// Snapshots are dated after they arrived, or are another host's: retention does not count them.
    SnapshotsSuspect = "snapshots_suspect",

    // restic.
    /// There is no restic on the endpoint.
    ResticMissing = "restic_missing",
    /// The endpoint's restic is too old.
    ResticTooOld = "restic_too_old",
    /// There is no repository at the location.
    RepositoryMissing = "repository_missing",
    /// There is a repository at the location already.
    RepositoryExists = "repository_exists",
    /// The repository password is wrong.
    WrongPassword = "wrong_password",
    /// The repository is locked.
    RepositoryLocked = "repository_locked",
    /// The server refused the user name or password.
    RepositoryAuth = "repository_auth",
    /// The server refused the deletion (append-only).
    RepositoryAppendOnly = "repository_append_only",
    /// The repository cannot be reached.
    RepositoryUnreachable = "repository_unreachable",
    /// The repository server's certificate is not signed by a known authority.
    CertificateUnknown = "certificate_unknown",
    /// The repository is damaged.
    RepositoryDamaged = "repository_damaged",
    /// The repository's location is not valid.
    RepositoryUrlInvalid = "repository_url_invalid",
    /// A source path does not exist.
    SourceMissing = "source_missing",
    /// There was not one file to back up.
    SourceEmpty = "source_empty",
    /// A disk is full: the repository's, the target's or that of temporary files.
    DiskFull = "disk_full",
    /// The snapshot does not exist.
    SnapshotUnknown = "snapshot_unknown",
    /// The retention policy would keep nothing.
    RetentionEmpty = "retention_empty",
    /// The retention policy has a rule that the agent does not know.
    RetentionUnknown = "retention_unknown",
    /// Some source files could not be read; the snapshot was written.
    FilesUnreadable = "files_unreadable",
    /// restic failed in a way that has no code of its own.
    ResticFailed = "restic_failed",

    // The manager's own interface.
    /// No machine that could do it is connected.
    HostOffline = "host_offline",
    /// The machine did not answer in time.
    NoAnswer = "no_answer",
    /// A field of the request is not acceptable; the problem names it.
    InvalidInput = "invalid_input",
    /// There is nothing of this name.
    NotFound = "not_found",
    /// Sign in first.
    Unauthenticated = "unauthenticated",
    /// The request came from another site.
    ForeignOrigin = "foreign_origin",
    /// The password is wrong.
    SignInFailed = "sign_in_failed",
    /// Too many attempts.
    TooManyAttempts = "too_many_attempts",
    /// The state of things does not allow it now.
    Conflict = "conflict",
    /// What was to be changed was changed since it was read.
    Stale = "stale",
    /// The typed name does not confirm the act.
    NotConfirmed = "not_confirmed",
    /// The request is larger than the limit.
    TooLarge = "too_large",
    /// This computer has no keyring that could hold the vault's key.
    KeyringMissing = "keyring_missing",
    /// The keyring is locked, or nobody allowed its use.
    KeyringLocked = "keyring_locked",
    /// The keyring did not do what it was asked.
    KeyringFailed = "keyring_failed",
    /// The database holds sealed secrets, and the key that opens them is not there.
    VaultKeyMissing = "vault_key_missing",
    /// The key that is there does not open what the database holds.
    VaultKeyWrong = "vault_key_wrong",
    /// A newer version of this program wrote the database.
    DatabaseTooNew = "database_too_new",
    /// The data folder or the database cannot be used.
    DataUnusable = "data_unusable",
    /// Another program listens where agents dial in, or the address is not this computer's.
    ListenFailed = "listen_failed",
    /// The manager is shutting down.
    Stopping = "stopping",
    /// Something broke in the manager; its log has the cause.
    Internal = "internal",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The body of every refusal over HTTP, and of `refused` over the link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The stable reason.
    pub code: Code,
    /// What happened and what was kept, in a sentence for a person.
    pub message: String,
    /// What to do next, in a sentence for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<String>,
    /// The field of the request that is at fault, as it stands in its JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl Problem {
    /// A problem without guidance or field.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), guidance: None, field: None }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn guidance(mut self, guidance: impl Into<String>) -> Self {
        self.guidance = Some(guidance.into());
        self
    }

    /// Names the field at fault.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if let Some(guidance) = &self.guidance {
            // What other programs say seldom ends as a sentence does.
            let ends = self.message.trim_end().ends_with(['.', '!', '?', ':']);
            write!(f, "{} {guidance}", if ends { "" } else { "." })?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::Code;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_reads_back_and_is_unique() {
        let mut seen = BTreeSet::new();
        for &code in Code::ALL {
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(json, format!("\"{}\"", code.as_str()));
            assert_eq!(serde_json::from_str::<Code>(&json).unwrap(), code);
            assert!(seen.insert(code.as_str()), "{code} stands twice");
        }
    }

    #[test]
    fn a_code_of_a_newer_peer_is_unknown_and_not_an_error() {
        assert_eq!(serde_json::from_str::<Code>("\"from_the_future\"").unwrap(), Code::Unknown);
    }
}
