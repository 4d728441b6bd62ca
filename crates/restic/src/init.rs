//! `restic init`: makes a repository.

use serde::Serialize;

use crate::CancelToken;
use crate::call::{self, Arguments, Call, Finished, log};
use crate::environment::Repository;
use crate::event::{Event, Sink, Stream};
use crate::failure::{Failure, FailureKind};
use crate::messages::Message;
use crate::process::Stdout;
use crate::program::Restic;
use crate::replay::Recorded;

/// A repository that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InitOutcome {
    /// Its id, 64 hex digits.
    pub repository_id: String,
}

impl Restic {
    /// Makes a repository. Takes two to three seconds, because restic measures how costly it can
    /// make the guessing of passwords.
    ///
    /// # Errors
    /// [`FailureKind::RepositoryExists`] if there is one; it is left as it is.
    pub async fn init(
        &self,
        repository: &Repository,
        sink: Sink<'_>,
        cancel: &CancelToken,
    ) -> Result<InitOutcome, Failure> {
        let mut reading = Reading::default();
        let call = Call { restic: self, repository, arguments: arguments(), stdout: Stdout::Lines };
        let finished =
            call.run(sink, cancel, &mut |stream, message| reading.handle(stream, message)).await?;
        reading.conclude(finished)
    }
}

/// What the operation makes of an output; see [`crate::replay`].
pub(crate) fn replay(recorded: &Recorded<'_>) -> Result<InitOutcome, Failure> {
    let mut reading = Reading::default();
    let finished = call::replay(recorded, Stdout::Lines, &mut |stream, message| {
        reading.handle(stream, message)
    });
    reading.conclude(finished)
}

#[derive(Default)]
struct Reading {
    made: Option<String>,
}

impl Reading {
    fn handle(&mut self, stream: Stream, message: Message) -> Option<Event> {
        if let Message::Initialized(new) = message {
            self.made = Some(new.id);
            return None;
        }
        log(stream, message)
    }

    fn conclude(self, finished: Finished) -> Result<InitOutcome, Failure> {
        let finished = finished.success()?;
        match self.made {
            Some(repository_id) => Ok(InitOutcome { repository_id }),
            None => Err(finished.into_other_failure(
                FailureKind::UnexpectedOutput,
                "restic made a repository but did not tell its id",
            )),
        }
    }
}

fn arguments() -> Arguments {
    Arguments::json("init")
}

#[cfg(test)]
mod tests {
    #[test]
    fn argv() {
        assert_eq!(super::arguments().to_text(), "--json init");
    }
}
