//! What must stay within its bounds at every moment: the journals of agents, what is on its way to either side,
//! and what waits for the intake; and the lines of logs that make room where a journal is over its bound.

use super::{World, invariants::Seen, machine::short, say};
use agent::journal::{Turn, WINDOW_BYTES, WINDOW_RECORDS};
use anyhow::Result;
use protocol::{Frame, RunId, journal::kind};
use sqlx::SqlitePool;

/// Lines that are looked at together: few, so that often only some of them make room.
const CHUNK: u32 = 25;

/// Records that wait for the intake, at most.
const INTAKE_RECORDS: usize = 1_000;

/// Bytes of records that wait for the intake, at most.
const INTAKE_BYTES: usize = 32 * 1024 * 1024;

/// Frames on their way to an agent, at most. A manager says something once, and then waits for what comes of it.
const ON_THE_WAY_DOWN: usize = 200;

/// The lines of a run's log as a manager shows them: from where to where, and whether one stands for them.
pub type Lines = Vec<(u64, u64, bool)>;

/// The lines of this run.
///
/// # Errors
/// When the database fails.
pub async fn lines_of(db: &SqlitePool, run: RunId) -> Result<Lines> {
    let rows: Vec<(i64, Option<i64>)> =
        sqlx::query_as("SELECT seq, last_seq FROM log_lines WHERE run_id = ? ORDER BY seq")
            .bind(run.to_string())
            .fetch_all(db)
            .await?;
    let lines = rows.into_iter().map(|(first, last)| {
        let number = |number: i64| u64::try_from(number).unwrap_or(0);
        (number(first), number(last.unwrap_or(first)), last.is_some())
    });
    Ok(lines.collect())
}

/// What is wrong with the lines of a run: they must follow each other from the first to the last, and where one
/// stands for many, those must really have made room. Gives back the last line otherwise. What was told by two,
/// one of whom knew lines that had made room elsewhere, may be there twice.
pub fn check_lines(
    run: RunId,
    lines: &Lines,
    seen: &Seen,
    may_overlap: bool,
) -> Result<u64, String> {
    let mut last = 0;
    for &(first, until, is_elided) in lines {
        if first > last + 1 || (first <= last && !may_overlap) || until < first {
            return Err(format!("lines {first} to {until} follow line {last}"));
        }
        if is_elided && let Some(line) = (first..=until).find(|line| !seen.has_elided(run, *line)) {
            return Err(format!("line {line} is said to have made room, and did not"));
        }
        last = last.max(until);
    }
    Ok(last)
}

impl World {
    /// An agent has committed: its journal is kept within its bound.
    pub(super) fn keep_within_bound(&mut self, machine: usize) {
        let Some(bound) = self.bound else { return };
        let disk = &mut self.machines[machine].disk;
        if disk.bytes() <= bound {
            return;
        }
        let target = bound - bound / 8;
        let mut elided = Vec::new();
        for turn in Turn::ALL {
            let mut after = Some(0);
            while let Some(from) = after
                && disk.bytes() > target
            {
                let (next, lines) = disk.elide_some(turn, from, CHUNK);
                elided.extend(lines);
                after = next;
            }
        }
        let acked = disk.journal().acked;
        let is_over = disk.bytes() > bound;
        let could_be = is_over && disk.could_make_room();
        if !elided.is_empty() {
            let (name, lines) = (self.machines[machine].name(), elided.len());
            self.met.count("journal over its bound");
            say!(self, name, "{lines} lines make room in its journal");
        }
        if elided.iter().any(|line| line.seq > acked) {
            self.met.count("lines made room before the manager had them");
        }
        if elided.iter().any(|line| line.seq <= acked) {
            self.met.count("lines made room that the manager had");
        }
        for line in elided {
            self.seen.saw_elided(line.run_id, line.line);
        }
        if could_be {
            let name = self.machines[machine].name();
            self.violated(format!("the journal of {name} is over its bound and has lines left"));
        }
    }

    /// A record goes out over a line: the window holds the sender back.
    pub(super) fn saw_on_its_way(&mut self, line: u64, frame: &Frame) {
        let Some(seq) = frame.seq else { return };
        let Some(found) = self.lines.get_mut(&line) else { return };
        found.window.push_back((seq, frame.payload.get().len()));
        let records = found.window.len();
        let bytes: usize = found.window.iter().map(|(_, bytes)| bytes).sum();
        if frame.kind == kind::JOURNAL_ELIDED {
            self.met.count("what stands for lines sent");
        }
        if records == WINDOW_RECORDS || bytes > WINDOW_BYTES - 32 * 1024 {
            self.met.count("sending window full");
        }
        if records > WINDOW_RECORDS || (bytes > WINDOW_BYTES && records > 1) {
            self.violated(format!("{records} records of {bytes} bytes are on their way at once"));
        }
    }

    /// An agent heard how far its records are taken in.
    pub(super) fn saw_taken_in(&mut self, line: u64, frame: &Frame) {
        if let (Some(acked), Some(found)) = (frame.ack, self.lines.get_mut(&line)) {
            while found.window.front().is_some_and(|(seq, _)| *seq <= acked) {
                found.window.pop_front();
            }
        }
    }

    /// What waits now is within its bounds.
    pub(super) fn check_bounds(&mut self) {
        if let Some(up) = &self.up {
            let (records, bytes) = (up.intake.waiting(), up.shared.intake.waiting_bytes());
            if records > INTAKE_RECORDS || bytes > INTAKE_BYTES {
                self.violated(format!("{records} records of {bytes} bytes wait for the intake"));
            }
        }
        let longest = self.lines.iter().map(|(&line, found)| (found.on_the_way_down, line)).max();
        if let Some((frames, line)) = longest.filter(|(frames, _)| *frames > ON_THE_WAY_DOWN) {
            self.violated(format!("{frames} frames are on their way to the agent of line {line}"));
        }
    }

    /// Whether a log that its manager shows lacks lines that had made room.
    pub(super) fn saw_log(&mut self, lines: &Lines) {
        if lines.iter().any(|(.., is_elided)| *is_elided) {
            self.met.count("log in which one line stands for many");
        }
    }

    /// The words of a line of a log.
    pub(super) fn words(&mut self, run: RunId) -> String {
        let most = u64::try_from(self.longest_line).unwrap_or(0);
        let more = if most > 0 { self.dice.below(most) } else { 0 };
        let more = "x".repeat(usize::try_from(more).unwrap_or(0));
        format!("restic says something of {}{more}", short(run))
    }
}
