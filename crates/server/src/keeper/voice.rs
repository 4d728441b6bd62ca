//! What a run of the manager's own says: into the database, and from there to whoever watches. The
//! words come from restic, which quotes names out of a repository that its machine has written.

use crate::{
    db::{error::DbError, logs},
    manager::Manager,
    text,
};
use outcome::{LogCap, Outcome, Said, no_progress, translate, words};
use protocol::{JobProgress, LogLine, LogStream, RunId};
use restic::Event;
use std::{error::Error, time::Duration};
use tokio::{sync::mpsc, time::Instant};

/// Lines and progress that may wait for the database.
const WAITING: usize = 16 * 1024;
/// Lines that are stored at once.
const BATCH: usize = 500;

/// A run's voice. Never waits: what there is no room for is left out, and counted.
#[derive(Debug)]
pub(super) struct Voice {
    sender: mpsc::Sender<Said>,
    cap: LogCap<LogStream>,
    progress: JobProgress,
    began: Instant,
}

/// Stores what a voice says.
#[derive(Debug)]
pub(super) struct Log {
    manager: Manager,
    run: RunId,
    said: mpsc::Receiver<Said>,
}

/// A voice and its log.
pub(super) fn open(manager: Manager, run: RunId) -> (Voice, Log) {
    let (sender, said) = mpsc::channel(WAITING);
    let (cap, progress) = (LogCap::default(), no_progress(run));
    let voice = Voice { sender, cap, progress, began: Instant::now() };
    (voice, Log { manager, run, said })
}

impl Voice {
    /// restic said something.
    pub fn hear(&mut self, event: Event) {
        for said in translate(event, &mut self.progress) {
            match said {
                Said::Log(stream, line) => self.log(stream, line),
                Said::Progress(_) => drop(self.sender.try_send(said)),
                Said::Spawned(_) | Said::ItemError => {}
            }
        }
    }

    /// A sentence of the manager's.
    pub fn say(&mut self, line: impl Into<String>) {
        self.log(LogStream::Event, words::one_line(&line.into()));
    }

    fn log(&mut self, stream: LogStream, line: String) {
        let Some((stream, line)) = self.cap.push(stream, line) else { return };
        if self.sender.try_send(Said::Log(stream, line)).is_err() {
            self.cap.leave_out();
        }
    }

    /// The last words, which always find room.
    pub async fn end(mut self, outcome: &Outcome) {
        let took: Duration = self.began.elapsed();
        let ends = words::one_line(&words::ends(outcome, took));
        let (left_out, last) = self.cap.end();
        let event = |line| (LogStream::Event, line);
        for (stream, line) in left_out.map(event).into_iter().chain(last).chain([event(ends)]) {
            // Without a log there is nobody left to be told.
            let _ = self.sender.send(Said::Log(stream, line)).await;
        }
    }
}

impl Log {
    /// Stores until the voice has ended, and says how many lines there are.
    pub async fn write(mut self) -> u64 {
        let (mut batch, mut last) = (Vec::with_capacity(BATCH), 0);
        while self.said.recv_many(&mut batch, BATCH).await > 0 {
            let mut lines = Vec::new();
            let mut newest = None;
            for said in batch.drain(..) {
                match said {
                    Said::Log(stream, line) => {
                        last += 1;
                        lines.push(self.line(last, stream, &line));
                    }
                    Said::Progress(progress) => newest = Some(progress),
                    Said::Spawned(_) | Said::ItemError => {}
                }
            }
            if let Err(error) = self.store(lines).await {
                tracing::error!(error = &error as &dyn Error, run.id = %self.run, "failed to store lines of a log");
            }
            if let Some(mut progress) = newest {
                progress.current_files.iter_mut().for_each(|name| *name = text::name(name));
                self.manager.events().progress(*progress);
            }
        }
        last
    }

    fn line(&self, seq: u64, stream: LogStream, line: &str) -> LogLine {
        let (ts, payload) = (self.manager.now(), text::log_line(line.to_owned()));
        LogLine { job_id: self.run, seq, ts, stream, payload }
    }

    async fn store(&self, lines: Vec<LogLine>) -> Result<(), DbError> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut tx = self.manager.db().begin().await?;
        for line in &lines {
            logs::insert(&mut tx, None, line).await?;
        }
        tx.commit().await?;
        self.manager.events().lines(self.run, lines.into());
        Ok(())
    }
}
