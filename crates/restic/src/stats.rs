//! `restic stats --mode raw-data`: what the repository really holds.
//!
//! The default mode walks every file of every snapshot, which may take hours; this one reads each
//! folder once.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::CancelToken;
use crate::call::{Arguments, Call, log};
use crate::environment::Repository;
use crate::event::Sink;
use crate::failure::Failure;
use crate::process::Stdout;
use crate::program::Restic;

/// The size of a repository. restic leaves out what is zero.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RawDataStats {
    /// Bytes stored, without what no snapshot uses any more.
    pub total_size: u64,
    /// The same before compression.
    pub total_uncompressed_size: u64,
    /// Uncompressed by stored; 0.0 if unknown.
    pub compression_ratio: f64,
    /// Pieces of data.
    pub total_blob_count: u64,
    /// Snapshots.
    pub snapshots_count: u64,
    /// Every other field.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Restic {
    /// Measures the repository. Takes no lock. It reads every folder of every snapshot once, so
    /// it is not for a view that is opened often.
    ///
    /// # Errors
    /// All that can keep a repository from being read.
    pub async fn raw_data_stats(
        &self,
        repository: &Repository,
        sink: Sink<'_>,
        cancel: &CancelToken,
    ) -> Result<RawDataStats, Failure> {
        let call =
            Call { restic: self, repository, arguments: arguments(), stdout: Stdout::Document };
        let finished = call.run(sink, cancel, &mut log).await?.success()?;
        finished.into_answer()
    }
}

fn arguments() -> Arguments {
    Arguments::json("stats").flag("--no-lock").option("--mode", "raw-data")
}

#[cfg(test)]
mod tests {
    #[test]
    fn argv() {
        assert_eq!(super::arguments().to_text(), "--json stats --no-lock --mode=raw-data");
    }
}
