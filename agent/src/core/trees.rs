//! Folders of snapshots, listed for a person who browses. Nothing of it is remembered: an answer that
//! the connection loses is asked for again.

use super::{Brain, Effect, order::check_in_snapshot, send};
use protocol::{Code, FromAgent, Problem, RepositoryConfig, TreeEntry, TreeReport, TreeWant};
use std::collections::VecDeque;

/// Listings that go on at a time: each is a restic that reads the repository's index.
const AT_ONCE: usize = 2;

/// Listings that may wait for their turn.
const WAITING: usize = 32;

/// The most bytes of entries in one report: well below the largest frame, with its envelope.
const PAGE_BYTES: usize = 600 * 1024;

/// Entries that are told of one folder at most.
const MAX_ENTRIES: usize = 100_000;

/// The listings that were asked for.
#[derive(Debug, Default)]
pub(super) struct Trees {
    going: Vec<TreeWant>,
    waiting: VecDeque<TreeWant>,
}

impl Brain {
    pub(super) fn tree_wanted(&mut self, want: TreeWant) -> Vec<Effect> {
        if self.trees.going.contains(&want) || self.trees.waiting.contains(&want) {
            return Vec::new();
        }
        if self.trees.waiting.len() >= WAITING {
            let problem = Problem::new(Code::Conflict, "Too many folders are being read.")
                .guidance("Wait a moment, then open the folder again.");
            return refused(want, problem);
        }
        self.trees.waiting.push_back(want);
        self.list_next()
    }

    /// What came of an [`Effect::List`].
    pub fn handle_listed(
        &mut self,
        want: &TreeWant,
        listed: Result<Vec<TreeEntry>, Problem>,
    ) -> Vec<Effect> {
        self.trees.going.retain(|going| going != want);
        let mut effects = if self.is_open() {
            match listed {
                Ok(entries) => pages(want, entries),
                Err(problem) => refused(want.clone(), problem),
            }
        } else {
            Vec::new()
        };
        effects.extend(self.list_next());
        effects
    }

    fn list_next(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        while self.trees.going.len() < AT_ONCE
            && let Some(want) = self.trees.waiting.pop_front()
        {
            match self.repository_of(&want) {
                Ok(repository) => {
                    self.trees.going.push(want.clone());
                    effects.push(Effect::List(Box::new(repository), want));
                }
                Err(problem) => effects.extend(refused(want, problem)),
            }
        }
        effects
    }

    fn repository_of(&self, want: &TreeWant) -> Result<RepositoryConfig, Problem> {
        check_in_snapshot(&want.snapshot_id, std::slice::from_ref(&want.path))?;
        let repository =
            self.desired.as_ref().and_then(|desired| desired.repository(Some(want.repository_id)));
        repository.cloned().ok_or_else(|| {
            Problem::new(Code::RepositoryUnknown, "This machine does not have that repository.")
                .guidance("Wait until the machine is in sync, then try again.")
        })
    }
}

fn refused(want: TreeWant, problem: Problem) -> Vec<Effect> {
    report(TreeReport { want, page: 1, last: true, entries: Vec::new(), problem: Some(problem) })
}

fn report(report: TreeReport) -> Vec<Effect> {
    send(&FromAgent::TreeReport(report)).into_iter().collect()
}

fn pages(want: &TreeWant, entries: Vec<TreeEntry>) -> Vec<Effect> {
    if entries.len() > MAX_ENTRIES {
        let problem = Problem::new(
            Code::TooLarge,
            format!("The folder has {} entries, which is more than can be shown.", entries.len()),
        )
        .guidance("Restore the folder as a whole.");
        return refused(want.clone(), problem);
    }
    let mut pages = vec![Vec::new()];
    let mut size = 0;
    for entry in entries {
        // What stands around the name is shorter than this.
        let bytes = 200 + 6 * entry.name.len();
        if size + bytes > PAGE_BYTES {
            pages.push(Vec::new());
            size = 0;
        }
        size += bytes;
        if let Some(page) = pages.last_mut() {
            page.push(entry);
        }
    }
    let count = pages.len();
    let numbered = pages.into_iter().enumerate().map(|(at, entries)| TreeReport {
        want: want.clone(),
        page: u32::try_from(at + 1).unwrap_or(u32::MAX),
        last: at + 1 == count,
        entries,
        problem: None,
    });
    numbered.flat_map(report).collect()
}
