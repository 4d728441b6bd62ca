//! Folders of snapshots: asked of the agent, put together from its pages, kept.

use super::socket::{Connection, Ended, Wire};
use crate::{
    db::{
        error::DbError,
        folders::{self, Folder},
    },
    text,
};
use protocol::{Code, Problem, ToAgent, TreeEntry, TreeReport, TreeWant};
use std::collections::{BTreeMap, BTreeSet};

/// The most entries of one folder that are put together.
const MAX_ENTRIES: usize = 100_000;

/// What goes on over one connection.
#[derive(Debug, Default)]
pub(super) struct Folders {
    asked: BTreeSet<TreeWant>,
    pages: BTreeMap<TreeWant, Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    last: u32,
    entries: Vec<TreeEntry>,
}

impl<W: Wire> Connection<W> {
    /// Asks what somebody waits for and was not asked over this connection.
    pub(super) async fn send_wants(&mut self) -> Result<(), Ended> {
        let wanted = self.shared.manager.trees().wanted_of(self.host);
        let Some(live) = self.live.as_mut().filter(|live| live.version.has_journal()) else {
            return Ok(());
        };
        // What nobody waits for any more may be asked again later.
        live.folders.asked.retain(|asked| wanted.contains(asked));
        let asked = &live.folders.asked;
        let news: Vec<TreeWant> = wanted.into_iter().filter(|want| !asked.contains(want)).collect();
        for want in news {
            if let Some(live) = self.live.as_mut() {
                live.folders.asked.insert(want.clone());
            }
            self.write(&ToAgent::TreeWant(want)).await?;
        }
        Ok(())
    }

    pub(super) async fn tree_told(&mut self, report: TreeReport) -> Result<(), Ended> {
        let Some(live) = self.live.as_mut() else { return Ok(()) };
        let TreeReport { want, page, last, entries, problem } = report;
        // Only what was asked is taken: an agent cannot fill the database with its own questions.
        if !live.folders.asked.contains(&want) {
            return Ok(());
        }
        if let Some(problem) = problem {
            self.answer_tree(&want, Err(cleaned(problem)));
            return Ok(());
        }
        let pages = live.folders.pages.entry(want.clone()).or_default();
        if page == 1 {
            *pages = Pages::default();
        }
        let is_next = page == pages.last.saturating_add(1);
        if !is_next || pages.entries.len() + entries.len() > MAX_ENTRIES {
            let problem = Problem::new(Code::FrameInvalid, "The machine's answer does not fit.")
                .guidance("Open the folder again; if it stays so, update the agent.");
            self.answer_tree(&want, Err(problem));
            return Ok(());
        }
        pages.last = page;
        pages.entries.extend(entries);
        if !last {
            return Ok(());
        }
        let entries = std::mem::take(&mut pages.entries);
        let manager = self.shared.manager.clone();
        let mut tx = manager.db().begin().await?;
        folders::keep(&mut tx, &want, &Folder { entries, read_at: manager.now() }).await?;
        tx.commit().await.map_err(DbError::from)?;
        self.answer_tree(&want, Ok(()));
        Ok(())
    }

    fn answer_tree(&mut self, want: &TreeWant, answer: Result<(), Problem>) {
        if let Some(live) = self.live.as_mut() {
            live.folders.asked.remove(want);
            live.folders.pages.remove(want);
        }
        self.shared.manager.trees().answer(self.host, want, &answer);
    }
}

pub(super) fn cleaned(problem: Problem) -> Problem {
    Problem {
        code: problem.code,
        message: text::sentence(&problem.message),
        guidance: problem.guidance.as_deref().map(text::sentence),
        field: None,
    }
}
