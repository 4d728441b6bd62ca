//! A disk that is full: what is left out, what is said of it, and what is not begun.

use super::{
    timetable::{HOUR, at},
    *,
};
use protocol::{JobFinished, LogLine};

impl World {
    fn set_disk(&mut self, is_full: bool, refusal: Option<Problem>) {
        let effects = self.brain.set_disk(Disk { is_full, refusal }, self.now);
        self.execute(effects);
    }

    fn say(&mut self, words: &str) {
        let event = RunEvent::Log(protocol::LogStream::Stderr, words.to_owned());
        let run = self.running[0];
        let effects = self.brain.handle_run_event(run, event, self.now);
        self.execute(effects);
    }

    fn lines(&self) -> Vec<(u64, String)> {
        let lines: Vec<LogLine> = self.told("log.stream");
        lines.into_iter().map(|line| (line.seq, line.payload)).collect()
    }
}

fn line(seq: u64, words: &str) -> (u64, String) {
    (seq, words.to_owned())
}

#[test]
fn lines_are_left_out_while_the_disk_is_full_and_the_log_says_how_many() {
    let mut world = World::with_times("0 * * * *", at("2026-03-01T12:30:00Z"));
    world.pass(HOUR);
    world.say("one");
    world.set_disk(true, None);
    world.say("two");
    world.say("three");
    world.set_disk(true, None);
    world.set_disk(false, None);
    world.say("four");
    let counted = "[…2 lines were left out: the disk of this machine was full]";
    assert_eq!(world.lines(), [line(1, "one"), line(2, counted), line(3, "four")]);
    // A run that ends meanwhile says it at its end.
    world.set_disk(true, None);
    world.say("five");
    world.finish(0);
    let counted = "[…1 line was left out: the disk of this machine was full]";
    assert_eq!(world.lines()[3..], [line(4, counted)]);
    let ended: Vec<JobFinished> = world.told("job.finished");
    assert_eq!((ended[0].status, ended[0].log_lines), (JobStatus::Succeeded, 4));
}

#[test]
fn what_has_no_room_is_not_begun_and_the_schedule_tries_again() {
    let mut world = World::with_times("0 * * * *", at("2026-03-01T12:30:00Z"));
    let refusal = Problem::new(Code::DiskFull, "There is no room.").guidance("Make some.");
    world.set_disk(false, Some(refusal));
    world.pass(HOUR);
    assert!(world.running.is_empty() && world.started.is_empty());
    let ended: Vec<JobFinished> = world.told("job.finished");
    assert!(ended.iter().all(|it| it.code == Some(Code::DiskFull)), "{ended:?}");
    assert!(ended.len() > 1, "it was not tried again");
    assert_eq!(ended[0].guidance.as_deref(), Some("Make some."));
    world.set_disk(false, None);
    world.pass(HOUR);
    assert_eq!(world.running.len(), 1);
}
