//! Why the server did not start, in words for the person in front of the screen.

use protocol::{Code, Problem};
use server::{db::error::DbError, identity::IdentityError, server::StartError, vault::VaultError};
use std::{io, path::Path};

/// The problem for a start that failed: what happened, what was kept, what to do next.
#[must_use]
pub fn start_refused(error: &StartError, data_dir: &Path) -> Problem {
    match error {
        StartError::DataDir { path, source } => {
            let message = format!("The folder {path} cannot be used: {source}.");
            Problem::new(Code::DataUnusable, message)
                .guidance("Make sure that it can be written and that its disk is there.")
        }
        StartError::InUse { path } => Problem::new(
            Code::DataUnusable,
            format!("Another Restic Manager uses the data in {path}. Nothing was changed."),
        )
        .guidance("Quit it first, then try again. It may belong to another session of yours."),
        StartError::Db(error) | StartError::Identity(IdentityError::Db(error)) => database(error),
        StartError::Vault(error) | StartError::Identity(IdentityError::Vault(error)) => {
            vault(error, data_dir)
        }
        StartError::Identity(error) => Problem::new(
            Code::Internal,
            format!("The manager's identity could not be made or read: {error}."),
        )
        .guidance("Nothing was changed. The log has the cause."),
        StartError::Programs { path, source } => {
            let message = format!("The programs for machines are not in {path}: {source}.");
            Problem::new(Code::Internal, message).guidance("Install the app again.")
        }
        StartError::Listen { address, source } => {
            let message = format!("Agents could not dial in at {address}: {source}.");
            let guidance = if source.kind() == io::ErrorKind::AddrInUse {
                "Another program uses this port, perhaps another Restic Manager. End it, then try \
                 again. Backups by agents go on meanwhile."
            } else {
                "Look at the network settings, or start with --agent-listen and another address. \
                 Backups by agents go on meanwhile."
            };
            Problem::new(Code::ListenFailed, message).guidance(guidance)
        }
    }
}

fn database(error: &DbError) -> Problem {
    if let DbError::TooNew { .. } = error {
        return Problem::new(
            Code::DatabaseTooNew,
            "A newer version of Restic Manager wrote the database. It was not touched.",
        )
        .guidance("Install the newer version again.");
    }
    Problem::new(Code::DataUnusable, format!("The database cannot be used: {}.", causes(error)))
        .guidance("Nothing was changed. Make sure that its disk is there, writable and not full.")
}

fn vault(error: &VaultError, data_dir: &Path) -> Problem {
    let data_dir = data_dir.display();
    match error {
        VaultError::KeyMissing => Problem::new(
            Code::VaultKeyMissing,
            "The database holds sealed passwords, but the key that opens them is not in this \
             keyring. Nothing was changed.",
        )
        .guidance(format!(
            "Use the keyring of the user and computer that made it, or put the keyring's backup \
             back. To begin anew instead, move {data_dir} away: backups are not touched by that."
        )),
        VaultError::DoesNotOpen { .. } | VaultError::Malformed { .. } => Problem::new(
            Code::VaultKeyWrong,
            "The key in the keyring does not open the passwords in the database. Nothing was \
             changed.",
        )
        .guidance(format!(
            "The database in {data_dir} belongs to another keyring. Bring the two that belong \
             together."
        )),
        VaultError::Store { .. } | VaultError::Exposed { .. } | VaultError::Random => {
            let message = format!("The key to the passwords could not be used: {}.", causes(error));
            Problem::new(Code::KeyringFailed, message)
                .guidance("Nothing was changed. Unlock the keyring, then try again.")
        }
    }
}

/// An error with what caused it.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
