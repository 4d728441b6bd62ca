//! The manager's turns: its connections, its intake, and how it starts and ends.

use super::{
    Down, Event, World,
    network::{Line, Pipe},
    say,
};
use anyhow::{Result, bail};
use axum::extract::ws::Message;
use futures_util::FutureExt as _;
use protocol::HostId;
use server::{
    hooks::{self, Killed, Point},
    server::expire,
    session::socket::{Connection, Ended},
};
use std::{any::Any, collections::VecDeque, panic::AssertUnwindSafe, time::Duration};

/// How often the manager looks for what has expired.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// So many records wait for the intake before it gets a turn out of the order: a session that hands over
/// one more than fit would wait for ever in a world where one thing happens at a time.
const MOST_WAITING: usize = 400;

impl World {
    fn set_office_clock(&self) {
        let now = self.true_time().saturating_add(self.office_skew);
        if let Ok(now) = now {
            self.office.set_clock(now);
        }
    }

    pub(super) async fn open_office(&mut self) -> Result<()> {
        if self.up.is_some() {
            return Ok(());
        }
        self.set_office_clock();
        self.up = Some(self.office.start().await?);
        say!(self, "manager", "starts");
        self.check_acknowledged().await
    }

    /// A machine dials: a line, if the manager is there.
    pub(super) fn open_line(&mut self, machine: usize, host: HostId) -> Option<u64> {
        let up = self.up.as_ref().filter(|up| !up.shared.stop.is_cancelled())?;
        let pipe = Pipe::default();
        let connection = Connection::new(up.shared.clone(), pipe.clone(), host);
        self.events += 1;
        let id = self.events;
        self.lines.insert(
            id,
            Line {
                machine,
                opened: self.now,
                pipe,
                connection: Some(Box::new(connection)),
                turn: None,
                is_cut: false,
                late: None,
                last_up: self.now,
                last_down: self.now,
                window: VecDeque::new(),
                on_the_way_down: 0,
            },
        );
        self.poke(id);
        Some(id)
    }

    /// How long a message is on its way.
    fn delay(&mut self) -> Duration {
        match self.dice.below(40) {
            0 => self.millis(200, 4_000),
            _ => self.millis(1, 60),
        }
    }

    pub(super) fn send_up(&mut self, line: u64, text: String) {
        let delay = self.delay();
        let now = self.now;
        let Some(found) = self.lines.get_mut(&line) else { return };
        let late = if found.is_cut { found.late } else { Some(Duration::ZERO) };
        let Some(late) = late else { return };
        found.last_up = found.last_up.max(now + delay + late);
        let at = found.last_up;
        self.at(at, Event::ToManager(line, Some(text)));
    }

    /// The agent's side of the line is gone, and in time the manager finds out.
    pub(super) fn send_gone_up(&mut self, line: u64) {
        let delay = self.delay();
        let now = self.now;
        let Some(found) = self.lines.get_mut(&line) else { return };
        if found.is_cut {
            return;
        }
        found.last_up = found.last_up.max(now + delay);
        let at = found.last_up;
        self.at(at, Event::ToManager(line, None));
    }

    fn send_down(&mut self, line: u64, down: Option<Down>) {
        let delay = self.delay();
        let now = self.now;
        let Some(found) = self.lines.get_mut(&line).filter(|line| !line.is_cut) else { return };
        found.last_down = found.last_down.max(now + delay);
        found.on_the_way_down += 1;
        let at = found.last_down;
        self.at(at, Event::ToAgent(line, down));
    }

    /// A message for the manager.
    pub(super) fn manager_hears(&mut self, line: u64, text: Option<String>) {
        let Some(found) = self.lines.get(&line) else { return };
        // A newer line is there, and what was sent over the older one still comes.
        let shell = self.machines.get(found.machine).and_then(|it| it.shell.as_ref());
        let is_late = shell.is_some_and(|shell| shell.line.is_some_and(|current| current != line));
        if is_late && text.is_some() {
            self.met.count("message of an older connection came after a newer one");
        }
        match text {
            Some(text) => found.pipe.arrive(Message::text(text)),
            None => found.pipe.close(),
        }
        self.poke(line);
    }

    /// The manager looks at this connection soon.
    fn poke(&mut self, line: u64) {
        let wait = if self.once_in(50) { self.millis(100, 3_000) } else { self.millis(0, 5) };
        self.turn_at(line, self.now + wait);
    }

    fn turn_at(&mut self, line: u64, at: Duration) {
        let Some(found) = self.lines.get(&line).filter(|line| line.connection.is_some()) else {
            return;
        };
        if let Some(turn) = found.turn {
            if turn.0 <= at {
                return;
            }
            self.queue.remove(&turn);
        }
        let turn = self.at(at, Event::Turn(line));
        if let Some(found) = self.lines.get_mut(&line) {
            found.turn = Some(turn);
        }
    }

    /// Something has happened in the manager: whoever it concerns finds out.
    pub(super) fn poke_all(&mut self) {
        let open: Vec<u64> = self
            .lines
            .iter()
            .filter(|(_, line)| line.connection.is_some())
            .map(|(&id, _)| id)
            .collect();
        for line in open {
            self.poke(line);
        }
        let waiting = self.up.as_ref().map_or(0, |up| up.intake.waiting());
        if waiting > 0 && self.intake.is_none() {
            let wait = if self.once_in(30) { self.millis(100, 2_000) } else { self.millis(0, 8) };
            self.intake = Some(self.after(wait, Event::Intake));
        }
    }

    /// Lets the registry of connections, which is a task, do what it was asked: who is woken is woken now.
    async fn settle(&self) {
        if let Some(up) = &self.up {
            up.manager.links().online().await;
        }
    }

    pub(super) async fn turn(&mut self, line: u64) -> Result<()> {
        if self.up.as_ref().is_some_and(|up| up.intake.waiting() > MOST_WAITING) {
            self.take_in().await?;
        }
        self.set_office_clock();
        self.settle().await;
        let now = self.now;
        let Some(found) = self.lines.get_mut(&line) else { return Ok(()) };
        found.turn = None;
        let Some(mut connection) = found.connection.take() else { return Ok(()) };
        found.pipe.set_age(now - found.opened);
        let turned = AssertUnwindSafe(connection.turn()).catch_unwind().await;
        self.flush(line);
        match turned {
            Ok(Ok(has_acted)) => {
                let due = connection.due();
                if let Some(found) = self.lines.get_mut(&line) {
                    let at = found.opened.saturating_add(due);
                    found.connection = Some(connection);
                    if !has_acted && due < Duration::MAX {
                        self.turn_at(line, at.max(now + Duration::from_millis(1)));
                    }
                }
                if has_acted {
                    self.poke_all();
                }
            }
            Ok(Err(ended)) => self.end_connection(line, connection, ended).await,
            Err(panic) => self.killed_by(panic)?,
        }
        Ok(())
    }

    async fn end_connection(&mut self, line: u64, connection: Box<Connection<Pipe>>, ended: Ended) {
        say!(self, "manager", "ends line {line}: {ended:?}");
        connection.end(ended).await;
        self.flush(line);
        self.send_down(line, None);
        if let Some(found) = self.lines.get(&line) {
            found.pipe.close();
        }
        self.poke_all();
    }

    fn flush(&mut self, line: u64) {
        let sent = self.lines.get(&line).map(|line| line.pipe.take_sent()).unwrap_or_default();
        for message in sent {
            match message {
                Message::Text(text) => self.send_down(line, Some(Down::Text(text.to_string()))),
                Message::Ping(_) => self.send_down(line, Some(Down::Ping)),
                // The line's end is told in any case.
                Message::Close(_) | Message::Pong(_) | Message::Binary(_) => {}
            }
        }
    }

    pub(super) async fn take_in(&mut self) -> Result<()> {
        if let Some(at) = self.intake.take() {
            self.queue.remove(&at);
        }
        self.set_office_clock();
        let most = if self.once_in(4) { 1 + self.dice.below(6) } else { 500 };
        let Some(up) = self.up.as_mut() else { return Ok(()) };
        let most = usize::try_from(most)?;
        let waiting = up.intake.waiting();
        let has_room = self.now >= self.office_full_until;
        if !has_room && waiting > 0 {
            self.met.count("records came while the manager's disk was full");
        }
        let turn = up.intake.turn(&up.manager, most, has_room);
        let taken = AssertUnwindSafe(turn).catch_unwind().await;
        match taken {
            Ok(()) => {
                let left = self.up.as_ref().map_or(0, |up| up.intake.waiting());
                if waiting > left {
                    say!(self, "manager", "takes in {} records", waiting - left);
                }
                self.poke_all();
            }
            Err(panic) => {
                // The rest of the process lives a moment longer than the one that was struck.
                if panic.is::<Killed>() {
                    self.turn_all_once().await;
                }
                self.killed_by(panic)?;
            }
        }
        Ok(())
    }

    /// Every connection gets one more turn.
    async fn turn_all_once(&mut self) {
        let open: Vec<u64> = self.lines.keys().copied().collect();
        for line in open {
            let Some(found) = self.lines.get_mut(&line) else { continue };
            if let Some(connection) = &mut found.connection {
                // Whatever comes of it, the process is about to end.
                let _ = connection.turn().await;
                self.flush(line);
            }
        }
    }

    fn killed_by(&mut self, panic: Box<dyn Any + Send>) -> Result<()> {
        if panic.is::<Killed>() {
            self.met.count("manager killed at a named point");
            self.kill_office();
            return Ok(());
        }
        let words = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        bail!("the manager panicked: {}", words.unwrap_or("without words"))
    }

    pub(super) async fn sweep(&mut self) -> Result<()> {
        self.after(SWEEP_EVERY, Event::Sweep);
        self.check_overdue_missing();
        self.set_office_clock();
        if let Some(up) = &self.up {
            expire(&up.manager).await?;
            self.poke_all();
        }
        self.decide().await?;
        self.give_up_old_runs().await?;
        Ok(())
    }

    /// The manager is killed: what it had not committed is gone, and so are its connections.
    pub(super) fn kill_office(&mut self) {
        if self.up.take().is_none() {
            return;
        }
        hooks::kill_at(None);
        say!(self, "manager", "is killed");
        self.drop_office();
        let wait = self.millis(200, 240_000);
        self.after(wait, Event::Open);
    }

    fn drop_office(&mut self) {
        if let Some(at) = self.intake.take() {
            self.queue.remove(&at);
        }
        let lines: Vec<u64> = self.lines.keys().copied().collect();
        for line in lines {
            self.send_down(line, None);
            if let Some(found) = self.lines.get_mut(&line) {
                found.connection = None;
                found.pipe.close();
                if let Some(turn) = found.turn.take() {
                    self.queue.remove(&turn);
                }
            }
        }
    }

    /// The manager is told to stop, and ends its connections first.
    pub(super) fn stop_office(&mut self) {
        let Some(up) = &self.up else { return };
        up.shared.stop.cancel();
        say!(self, "manager", "is told to stop");
        self.poke_all();
        self.after(Duration::from_secs(4), Event::Close);
    }

    pub(super) async fn close_office(&mut self) -> Result<()> {
        let is_stopping = self.up.as_ref().is_some_and(|up| up.shared.stop.is_cancelled());
        if !is_stopping {
            return Ok(());
        }
        self.take_in().await?;
        self.up = None;
        say!(self, "manager", "has stopped");
        self.drop_office();
        let wait = self.millis(200, 240_000);
        self.after(wait, Event::Open);
        Ok(())
    }

    /// The manager is struck at the next such point.
    pub(super) fn strike_office(&mut self) {
        const POINTS: [Point; 4] = [
            Point::AfterSentBeforeWrite,
            Point::AfterGoingBeforeWrite,
            Point::AfterOutcomeBeforeCommit,
            Point::AfterOutcomeBeforeAck,
        ];
        let at = usize::try_from(self.dice.below(4)).unwrap_or(0);
        hooks::kill_at(Some(POINTS[at]));
        say!(self, "world", "the manager will be killed {}", POINTS[at].name());
    }
}
