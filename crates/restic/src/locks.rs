//! `restic list locks` and `restic cat lock`: who holds the repository.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::CancelToken;
use crate::call::{Arguments, Call, log};
use crate::environment::Repository;
use crate::event::{Sink, Stream};
use crate::failure::Failure;
use crate::messages::Message;
use crate::process::Stdout;
use crate::program::Restic;

/// A lock in the repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lock {
    /// Its id, 64 hex digits.
    #[serde(default)]
    pub id: String,
    /// When it was made or last refreshed: a running restic does so every five minutes.
    pub time: Timestamp,
    /// Whether it keeps everybody else out, also readers that lock.
    #[serde(default)]
    pub exclusive: bool,
    /// The name of the machine, as its system tells it.
    #[serde(default)]
    pub hostname: String,
    /// The user on it.
    #[serde(default)]
    pub username: String,
    /// The process.
    #[serde(default)]
    pub pid: u32,
    /// Every other field.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Restic {
    /// Lists the locks with their holders. Takes no lock itself, so it works in every state. One
    /// that is removed while we look is left out.
    ///
    /// # Errors
    /// All that can keep a repository from being read.
    pub async fn locks(
        &self,
        repository: &Repository,
        sink: Sink<'_>,
        cancel: &CancelToken,
    ) -> Result<Vec<Lock>, Failure> {
        let mut locks = Vec::new();
        let ids = self.lock_ids(repository, sink, cancel).await?;
        for id in &ids {
            match self.cat_lock(repository, id, sink, cancel).await {
                Ok(lock) => locks.push(lock),
                Err(failure) => {
                    // Gone meanwhile, or a failure that the next listing meets as well.
                    if self.lock_ids(repository, sink, cancel).await?.contains(id) {
                        return Err(failure);
                    }
                }
            }
        }
        Ok(locks)
    }

    async fn lock_ids(
        &self,
        repository: &Repository,
        sink: Sink<'_>,
        cancel: &CancelToken,
    ) -> Result<Vec<String>, Failure> {
        let mut ids = Vec::new();
        let call =
            Call { restic: self, repository, arguments: list_arguments(), stdout: Stdout::Lines };
        call.run(sink, cancel, &mut |stream, message| {
            if let Message::Text(line) = &message
                && stream == Stream::Stdout
                && is_id(line)
            {
                ids.push(line.clone());
                return None;
            }
            log(stream, message)
        })
        .await?
        .success()?;
        Ok(ids)
    }

    async fn cat_lock(
        &self,
        repository: &Repository,
        id: &str,
        sink: Sink<'_>,
        cancel: &CancelToken,
    ) -> Result<Lock, Failure> {
        let call = Call {
            restic: self,
            repository,
            arguments: cat_arguments(id),
            stdout: Stdout::Document,
        };
        let finished = call.run(sink, cancel, &mut log).await?.success()?;
        let lock: Lock = finished.into_answer()?;
        Ok(Lock { id: id.to_owned(), ..lock })
    }
}

fn is_id(line: &str) -> bool {
    line.len() == 64 && line.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn list_arguments() -> Arguments {
    Arguments::json("list").flag("--no-lock").operands(["locks"])
}

fn cat_arguments(id: &str) -> Arguments {
    Arguments::json("cat").flag("--no-lock").operands(["lock", id])
}

#[cfg(test)]
mod tests {
    #[test]
    fn argv() {
        assert_eq!(super::list_arguments().to_text(), "--json list --no-lock -- locks");
        assert_eq!(super::cat_arguments("ab12").to_text(), "--json cat --no-lock -- lock ab12");
    }
}
