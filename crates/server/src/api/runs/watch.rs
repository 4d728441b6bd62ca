//! Following one run without missing or repeating anything.
//!
//! ```text
//!            subscribe
//!                │
//!                ▼            page was full
//!   ┌──────▶ Reading ◀──────────────────────┐
//!   │            │ state, then lines ───────┘
//!   │            ├─ terminal ──▶ Ended
//!   │            ▼
//!   └──────── Following ── lines in order, progress: told as they come
//!     changed, gap, lagged, closed
//! ```
//!
//! The subscription comes before the first reading, so whatever is committed after that reading is
//! also told. The state is read before the lines: an agent's lines are committed before its end, so
//! a terminal state means that the lines read after it are all there are.

use crate::{
    api::error::ApiResult,
    db::{
        logs,
        runs::{self, Run},
    },
    events::RunNews,
    manager::Manager,
};
use protocol::{JobProgress, LogLine, RunId};
use std::{collections::VecDeque, sync::Arc};
use tokio::sync::broadcast::{Receiver, error::RecvError};

const PAGE: u32 = 500;

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Signal {
    /// The next lines.
    Lines(Vec<LogLine>),
    /// How far it is.
    Progress(Arc<JobProgress>),
    /// Its state changed.
    State(Box<Run>),
    /// It has ended, and all its lines were told.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Reading,
    Following,
    Ended,
}

/// A watcher of one run.
#[derive(Debug)]
pub struct Watch {
    manager: Manager,
    run: RunId,
    news: Receiver<RunNews>,
    last_line: u64,
    revision: Option<u64>,
    told: VecDeque<Signal>,
    phase: Phase,
}

impl Watch {
    /// Watches from the line after this one.
    #[must_use]
    pub fn new(manager: Manager, run: RunId, after_line: u64) -> Self {
        let news = manager.events().subscribe_run(run);
        Self {
            manager,
            run,
            news,
            last_line: after_line,
            revision: None,
            told: VecDeque::new(),
            phase: Phase::Reading,
        }
    }

    /// The last line that was told.
    #[must_use]
    pub fn last_line(&self) -> u64 {
        self.last_line
    }

    /// The next signal; `None` after [`Signal::End`], or when the run is gone.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn next(&mut self) -> ApiResult<Option<Signal>> {
        loop {
            if let Some(signal) = self.told.pop_front() {
                return Ok(Some(signal));
            }
            match self.phase {
                Phase::Reading => self.read().await?,
                Phase::Following => self.follow().await,
                Phase::Ended => return Ok(None),
            }
        }
    }

    async fn read(&mut self) -> ApiResult<()> {
        let db = self.manager.db().read();
        let Some(run) = runs::find(db, self.run).await? else {
            self.end();
            return Ok(());
        };
        let lines = logs::lines(db, self.run, self.last_line, PAGE).await?;
        let is_whole = u32::try_from(lines.len()).is_ok_and(|n| n < PAGE);
        let has_ended = run.status.is_terminal();
        if self.revision.is_none()
            && let Some(progress) = self.manager.events().last_progress(self.run)
            && !has_ended
        {
            self.told.push_back(Signal::Progress(progress));
        }
        if self.revision.replace(run.revision) != Some(run.revision) {
            self.told.push_back(Signal::State(Box::new(run)));
        }
        if let Some(last) = lines.last() {
            self.last_line = last.seq;
            self.told.push_back(Signal::Lines(lines));
        }
        if is_whole && has_ended {
            self.told.push_back(Signal::End);
            self.end();
        } else if is_whole {
            self.phase = Phase::Following;
        }
        Ok(())
    }

    async fn follow(&mut self) {
        match self.news.recv().await {
            Ok(RunNews::Lines(lines)) => self.take(&lines),
            Ok(RunNews::Progress(progress)) => self.told.push_back(Signal::Progress(progress)),
            Ok(RunNews::Changed) | Err(RecvError::Lagged(_)) => self.phase = Phase::Reading,
            Err(RecvError::Closed) => {
                // The hub forgot the run. Subscribing before reading holds here too.
                self.news = self.manager.events().subscribe_run(self.run);
                self.phase = Phase::Reading;
            }
        }
    }

    /// Tells lines as they come, if they are the next ones; otherwise the database says which are.
    fn take(&mut self, lines: &[LogLine]) {
        let fresh: Vec<LogLine> =
            lines.iter().filter(|line| line.seq > self.last_line).cloned().collect();
        let Some(last) = fresh.last().map(|line| line.seq) else { return };
        let mut expected = self.last_line;
        let is_next = fresh.iter().all(|line| {
            expected += 1;
            line.seq == expected
        });
        if is_next {
            self.last_line = last;
            self.told.push_back(Signal::Lines(fresh));
        } else {
            self.phase = Phase::Reading;
        }
    }

    fn end(&mut self) {
        self.phase = Phase::Ended;
        // Watching made an entry in the hub, and nobody else will end it for a run that is over.
        self.manager.events().run_ended(self.run);
    }
}
