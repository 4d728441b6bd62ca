//! `restic cat config`: the cheapest proof that a repository is there and opens.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::CancelToken;
use crate::call::{Arguments, Call, log};
use crate::environment::Repository;
use crate::event::Sink;
use crate::failure::Failure;
use crate::process::Stdout;
use crate::program::Restic;

/// What a repository says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RepositoryConfig {
    /// Its id, 64 hex digits.
    pub id: String,
    /// The version of its format: 2 can compress.
    pub version: u32,
    /// Every other field.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Restic {
    /// Opens the repository and reads its configuration. Takes no lock.
    ///
    /// # Errors
    /// [`NoRepository`](crate::FailureKind::NoRepository),
    /// [`WrongPassword`](crate::FailureKind::WrongPassword), and all that can keep a repository
    /// from being reached.
    pub async fn cat_config(
        &self,
        repository: &Repository,
        sink: Sink<'_>,
        cancel: &CancelToken,
    ) -> Result<RepositoryConfig, Failure> {
        let call =
            Call { restic: self, repository, arguments: arguments(), stdout: Stdout::Document };
        let finished = call.run(sink, cancel, &mut log).await?.success()?;
        finished.into_answer()
    }
}

fn arguments() -> Arguments {
    Arguments::json("cat").flag("--no-lock").operands(["config"])
}

#[cfg(test)]
mod tests {
    #[test]
    fn argv() {
        assert_eq!(super::arguments().to_text(), "--json cat --no-lock -- config");
    }
}
