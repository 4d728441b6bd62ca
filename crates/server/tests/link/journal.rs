//! Records: taken once, in order, acknowledged when they are safe, and never a reason to stop.

use crate::double::{Agent, Fleet, Journal, at, finished, line, run_id, started};
use futures_util::future::join_all;
use protocol::{
    Code, Frame, FromAgent, Generation, HostId, JobStatus, RunId, ScheduleAck, journal::ChainHash,
};
use server::db::{hosts::Host, journals, logs, runs, runs::Dispatch};

#[tokio::test]
async fn a_run_of_the_agents_own_schedule_appears_with_its_first_record() {
    let fleet = Fleet::start().await;
    let (plan, _) = fleet.plan().await;
    let mut agent = fleet.agent("box").await;
    let run = run_id(1);
    for record in [started(run, Some(plan)), line(run, 1, "x"), finished(run, JobStatus::Partial)] {
        agent.journal.push(&record);
    }
    let (mut link, _) = agent.connect().await;
    for frame in agent.journal.after(0) {
        link.send_frame(&frame).await;
    }
    link.until_acked(3).await;
    let run = fleet.run(run).await;
    assert_eq!((run.status, run.dispatch), (JobStatus::Partial, Dispatch::Agent));
    assert_eq!((run.plan_id, run.requested_by.as_str()), (Some(plan), "agent"));
}

#[tokio::test]
async fn an_outcome_without_a_beginning_is_still_an_outcome() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let (mut link, _) = agent.connect().await;
    let frame = agent.journal.push(&finished(run_id(1), JobStatus::Interrupted));
    link.send_frame(&frame).await;
    link.until_acked(1).await;
    assert_eq!(fleet.run(run_id(1)).await.status, JobStatus::Interrupted);
}

#[tokio::test]
async fn a_manager_that_was_killed_before_its_commit_gets_the_records_again() {
    let mut fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let run = run_id(1);
    for n in 0..100 {
        agent.journal.push(&if n == 0 { started(run, None) } else { line(run, n, "x") });
    }
    let (mut link, _) = agent.connect().await;
    for frame in &agent.journal.after(0)[..40] {
        link.send_frame(frame).await;
    }
    link.until_acked(1).await;
    fleet.stop().await;
    fleet.resume().await;
    agent.redial(&fleet);

    let (mut link, welcome) = agent.connect().await;
    let cursor = welcome.cursor.unwrap();
    assert!((1..=40).contains(&cursor.seq), "{cursor:?}");
    for frame in agent.journal.after(cursor.seq) {
        link.send_frame(&frame).await;
    }
    link.until_acked(100).await;
    let lines = logs::lines(fleet.db().read(), run, 0, 1000).await.unwrap();
    let numbers: Vec<u64> = lines.iter().map(|line| line.seq).collect();
    assert_eq!(numbers, (1..100).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_hole_in_the_numbers_ends_the_connection_and_nothing_of_it_is_kept() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let (mut link, _) = agent.connect().await;
    agent.journal.push(&started(run_id(1), None));
    let later = agent.journal.push(&finished(run_id(1), JobStatus::Succeeded));
    link.send_frame(&later).await;
    assert_eq!(link.ended().await.unwrap().code, Code::FrameInvalid);
    assert!(runs::find(fleet.db().read(), run_id(1)).await.unwrap().is_none());
}

#[tokio::test]
async fn a_record_with_another_content_than_before_is_an_alarm() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let (mut link, _) = agent.connect().await;
    let mut other = agent.journal.clone();
    let frame = agent.journal.push(&started(run_id(1), None));
    link.send_frame(&frame).await;
    link.until_acked(1).await;
    let frame = other.push(&started(run_id(2), None));
    link.send_frame(&frame).await;
    link.ended().await;
    let host = fleet.until_host(agent.host(), |host| host.hold.is_some()).await;
    assert_eq!(host.hold.unwrap().code, Code::JournalForked);

    // Released, the agent begins a new journal, and the gap stays visible.
    let (_link, welcome) = agent.connect().await;
    assert!(welcome.hold.is_some() && welcome.ticket.is_none());
    assert!(fleet.manager().release(agent.host()).await.unwrap());
    let (_link, welcome) = agent.connect().await;
    assert_eq!(welcome.renew_journal, Some(Code::JournalForked));
    assert_eq!(welcome.cursor.unwrap().seq, 1);
    agent.journal = Journal::new(2);
    let (mut link, welcome) = agent.connect().await;
    assert_eq!(welcome.renew_journal, None);
    let frame = agent.journal.push(&started(run_id(3), None));
    link.send_frame(&frame).await;
    link.until_acked(1).await;
}

#[tokio::test]
async fn a_broken_chain_is_an_alarm_too() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let (mut link, _) = agent.connect().await;
    let mut frame = agent.journal.push(&started(run_id(1), None));
    frame.hash = Some(ChainHash::from([7; 16]));
    link.send_frame(&frame).await;
    link.ended().await;
    let host = fleet.until_host(agent.host(), |host| host.hold.is_some()).await;
    assert_eq!(host.hold.unwrap().code, Code::JournalForked);
}

#[tokio::test]
async fn a_record_that_makes_no_sense_is_skipped_and_told() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let (mut link, _) = agent.connect().await;
    let strange = [
        Frame::new("job.started", &serde_json::json!({ "job_id": 7 })).unwrap(),
        Frame::new("from.the.future", &serde_json::json!({ "x": 1 })).unwrap(),
    ];
    for frame in strange {
        let frame = agent.journal.push_raw(frame);
        link.send_frame(&frame).await;
    }
    let frame = agent.journal.push(&started(run_id(1), None));
    link.send_frame(&frame).await;
    link.until_acked(3).await;
    assert_eq!(fleet.run(run_id(1)).await.status, JobStatus::Running);
    let notices = fleet.notices().await;
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].code, Code::FrameInvalid);
}

#[tokio::test]
async fn nobody_reports_on_a_run_of_another_machine() {
    let fleet = Fleet::start().await;
    let (mut one, mut two) = (fleet.agent("one").await, fleet.agent("two").await);
    let run = fleet.request(one.host(), None).await;
    let (mut link, _) = two.connect().await;
    for record in [started(run, None), line(run, 1, "x"), finished(run, JobStatus::Succeeded)] {
        let frame = two.journal.push(&record);
        link.send_frame(&frame).await;
    }
    link.until_acked(3).await;
    assert_eq!(fleet.run(run).await.status, JobStatus::Queued);
    assert!(logs::lines(fleet.db().read(), run, 0, 10).await.unwrap().is_empty());
    assert_eq!(fleet.notices().await.len(), 1);
    let (mut link, _) = one.connect().await;
    assert_eq!(link.command().await.job_id, run);
}

#[tokio::test]
async fn many_machines_share_the_intake_and_each_gets_its_own_acknowledgements() {
    let fleet = Fleet::start().await;
    let mut links = Vec::new();
    for n in 0..8_u8 {
        let mut agent = fleet.agent(&format!("box {n}")).await;
        let (link, _) = agent.connect().await;
        links.push((n, agent, link));
    }
    for round in 1..=50_u64 {
        for (n, agent, link) in &mut links {
            let record =
                if round == 1 { started(run_id(*n), None) } else { line(run_id(*n), round, "x") };
            let frame = agent.journal.push(&record);
            link.send_frame(&frame).await;
        }
    }
    for (n, _, link) in &mut links {
        link.until_acked(50).await;
        let lines = logs::lines(fleet.db().read(), run_id(*n), 0, 100).await.unwrap();
        assert_eq!(lines.len(), 49);
    }
}

#[tokio::test]
async fn a_line_that_is_there_already_keeps_no_other_out() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let (mut link, _) = agent.connect().await;
    agent.journal.push(&started(run_id(1), None));
    for n in 1..=3 {
        agent.journal.push(&line(run_id(1), n, "first"));
    }
    // Told again in other words, with more, and beside lines of a run that nobody knows.
    for n in 2..=5 {
        agent.journal.push(&line(run_id(1), n, "again"));
        agent.journal.push(&line(run_id(2), n, "lost"));
    }
    for frame in agent.journal.after(0) {
        link.send_frame(&frame).await;
    }
    link.until_acked(12).await;
    let lines = logs::lines(fleet.db().read(), run_id(1), 0, 100).await.unwrap();
    let lines: Vec<(u64, &str)> = lines.iter().map(|it| (it.seq, it.payload.as_str())).collect();
    assert_eq!(lines, [(1, "first"), (2, "first"), (3, "first"), (4, "again"), (5, "again")]);
    assert!(logs::lines(fleet.db().read(), run_id(2), 0, 100).await.unwrap().is_empty());
}

#[tokio::test]
async fn lines_that_were_left_out_on_the_machine_are_named_and_counted_once() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let (mut link, _) = agent.connect().await;
    let run = run_id(1);
    agent.journal.push(&started(run, None));
    for n in 1..=10 {
        agent.journal.push(&line(run, n, "x"));
    }
    agent.journal.push(&finished(run, JobStatus::Succeeded));
    // The manager has three lines when those from the second to the ninth make room.
    for frame in &agent.journal.after(0)[..4] {
        link.send_frame(frame).await;
    }
    link.until_acked(4).await;
    agent.journal.elide(run, (3, 10), 2);
    let (mut link, welcome) = agent.connect().await;
    assert_eq!(welcome.cursor.unwrap().seq, 4);
    let after = agent.journal.after(4);
    assert_eq!(after.len(), 3);
    // Told twice, as after a lost acknowledgement.
    for frame in after.iter().chain(&after) {
        link.send_frame(frame).await;
    }
    link.until_acked(12).await;
    let lines = logs::lines(fleet.db().read(), run, 0, 100).await.unwrap();
    let lines: Vec<(u64, &str)> = lines.iter().map(|it| (it.seq, it.payload.as_str())).collect();
    let left_out = "[…lines 4 to 9 were left out on the machine: 6 lines]";
    assert_eq!(lines, [(1, "x"), (2, "x"), (3, "x"), (4, left_out), (10, "x")]);
    assert_eq!(fleet.run(run).await.status, JobStatus::Succeeded);
}

#[tokio::test]
async fn an_elision_that_does_not_count_leaves_a_hole() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let (mut link, _) = agent.connect().await;
    for n in 1..=5 {
        agent.journal.push(&line(run_id(1), n, "x"));
    }
    agent.journal.elide(run_id(1), (1, 4), 1);
    let mut frame = agent.journal.after(0)[0].clone();
    frame.seq = Some(3);
    link.send_frame(&frame).await;
    assert_eq!(link.ended().await.unwrap().code, Code::FrameInvalid);
    let (_link, welcome) = agent.connect().await;
    assert_eq!(welcome.cursor.unwrap().seq, 0);
}

#[tokio::test]
async fn a_record_may_come_twice_at_once_and_not_with_another_content() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let (mut link, _) = agent.connect().await;
    let frames: Vec<Frame> = [started(run_id(1), None), line(run_id(1), 1, "x")]
        .iter()
        .map(|record| agent.journal.push(record))
        .collect();
    // As quickly as possible, so that they are taken in together.
    for frame in frames.iter().chain(&frames) {
        link.send_frame(frame).await;
    }
    let mut other = frames[1].clone();
    other.hash = Some(ChainHash::from([7; 16]));
    link.send_frame(&other).await;
    link.ended().await;
    let host = fleet.until_host(agent.host(), |host| host.hold.is_some()).await;
    assert_eq!(host.hold.unwrap().code, Code::JournalForked);
    let lines = logs::lines(fleet.db().read(), run_id(1), 0, 10).await.unwrap();
    assert_eq!(lines.len(), 1);
}

#[tokio::test]
async fn a_line_of_a_foreign_run_is_left_out_and_keeps_no_other_line_out() {
    let fleet = Fleet::start().await;
    let (mut one, mut other) = (fleet.agent("one").await, fleet.agent("other").await);
    let (ours, theirs) = (run_id(1), run_id(2));
    let (mut link, _) = other.connect().await;
    link.send_frame(&other.journal.push(&started(theirs, None))).await;
    link.until_acked(1).await;
    let told = [line(ours, 1, "a"), line(theirs, 1, "b"), line(ours, 2, "c"), line(ours, 2, "d")];
    one.journal.push(&started(ours, None));
    told.iter().for_each(|told| drop(one.journal.push(told)));
    one.journal.push(&line(run_id(3), 1, "of no run"));
    let (mut link, _) = one.connect().await;
    for frame in one.journal.after(0) {
        link.send_frame(&frame).await;
    }
    link.until_acked(6).await;
    let lines = logs::lines(fleet.db().read(), ours, 0, 10).await.unwrap();
    assert_eq!(lines.iter().map(|line| line.payload.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    assert!(logs::lines(fleet.db().read(), theirs, 0, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn machines_that_come_back_at_once_are_each_met_as_what_they_are() {
    let mut fleet = Fleet::start().await;
    let mut agents = Vec::new();
    for n in 1..=12_u8 {
        let mut agent = fleet.agent(&format!("box{n}")).await;
        let (mut link, _) = agent.connect().await;
        for record in 0..=n {
            let told = if record == 0 { started(run_id(n), None) } else { line(run_id(n), 1, "x") };
            link.send_frame(&agent.journal.push(&told)).await;
        }
        link.until_acked(u64::from(n) + 1).await;
        agents.push(agent);
    }
    fleet.stop().await;
    fleet.resume().await;
    // One of them is a copy that was not told of its newest ticket.
    let stale = agents[0].hello();
    agents.iter_mut().for_each(|agent| agent.redial(&fleet));
    let mut links = join_all(agents.iter_mut().map(Agent::connect)).await;
    for ((link, welcome), agent) in links.iter_mut().zip(&mut agents) {
        assert_eq!(welcome.host_id, agent.host());
        assert_eq!(welcome.cursor.unwrap().seq, agent.journal.after(0).len() as u64);
        link.settle(agent).await;
    }
    let copies = [agents[0].dial().await, agents[1].dial().await];
    let hellos = [stale, agents[1].hello()];
    let welcomed = join_all(
        copies
            .into_iter()
            .zip(hellos)
            .map(|(mut copy, hello)| async move { copy.greet(hello).await.unwrap() }),
    );
    let held: Vec<bool> = welcomed.await.iter().map(|welcome| welcome.hold.is_some()).collect();
    assert_eq!(held, [true, false]);
}

#[tokio::test]
async fn the_hashes_of_the_newest_records_are_kept_and_those_far_behind_go() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let (mut link, _) = agent.connect().await;
    agent.journal.push(&started(run_id(1), None));
    for n in 1..3_000 {
        agent.journal.push(&line(run_id(1), n, "x"));
    }
    for frame in agent.journal.after(0) {
        link.send_frame(&frame).await;
    }
    link.until_acked(3_000).await;
    let (host, journal) = (agent.host(), agent.journal.id);
    let mark = async |seq| journals::mark_of(fleet.db().read(), host, journal, seq).await.unwrap();
    for frame in agent.journal.after(1_000) {
        assert_eq!(mark(frame.seq.unwrap()).await, frame.hash);
    }
    // What one transaction took in goes together.
    assert_eq!(mark(400).await, None);
}

async fn acknowledged(fleet: &Fleet, host: HostId) -> Host {
    fleet.until_host(host, Host::in_sync).await
}

#[tokio::test]
async fn a_desired_state_is_sent_until_it_is_acknowledged_and_only_then_in_sync() {
    let fleet = Fleet::start().await;
    let (plan, _) = fleet.plan().await;
    let mut agent = fleet.agent("box").await;
    fleet.assign(plan, agent.host()).await;
    assert!(!fleet.host(agent.host()).await.in_sync());
    for _ in 0..2 {
        let (mut link, _) = agent.connect().await;
        assert!(matches!(link.told().await, protocol::ToAgent::ConfigUpdate(_)));
    }
    let (mut link, welcome) = agent.connect().await;
    link.told().await;
    let protocol::ToAgent::ScheduleSet(set) = link.told().await else { panic!() };
    let generation = Generation { incarnation: welcome.manager.incarnation, n: 2 };
    assert_eq!(set.generation, Some(generation));
    let ack = ScheduleAck {
        version: 2,
        applied_at: at(0),
        generation: set.generation,
        digest: set.digest,
        time_zone: None,
    };
    let frame = agent.journal.push(&FromAgent::ScheduleAck(ack));
    link.send_frame(&frame).await;
    assert_eq!(acknowledged(&fleet, agent.host()).await.acked_generation, 2);
    drop(link);
    // It says which plans it has: with older ones it would get them again.
    agent.manager.as_mut().unwrap().generation = 2;
    let (mut link, _) = agent.connect().await;
    let run: RunId = fleet.request(agent.host(), Some(plan)).await;
    let protocol::ToAgent::CommandRun(command) = link.told().await else { panic!() };
    assert_eq!(command.job_id, run, "what is in sync is not sent again");
}

#[tokio::test]
async fn of_many_runs_that_are_told_at_once_each_is_taken_as_what_it_is() {
    let fleet = Fleet::start().await;
    let (mut one, mut other) = (fleet.agent("one").await, fleet.agent("other").await);
    let theirs = run_id(1);
    let (mut link, _) = other.connect().await;
    link.send_frame(&other.journal.push(&started(theirs, None))).await;
    link.until_acked(1).await;
    // Many more than are written together. One is told of by who does not do it, one ends before it begins,
    // and one ends twice.
    for n in 2..=250 {
        one.journal.push(&started(run_id(n), None));
        one.journal.push(&line(run_id(n), 1, "x"));
        one.journal.push(&finished(run_id(n), JobStatus::Succeeded));
    }
    one.journal.push(&started(theirs, None));
    one.journal.push(&finished(theirs, JobStatus::Failed));
    one.journal.push(&finished(run_id(251), JobStatus::Partial));
    one.journal.push(&started(run_id(251), None));
    one.journal.push(&started(run_id(252), None));
    one.journal.push(&finished(run_id(252), JobStatus::Cancelled));
    one.journal.push(&finished(run_id(252), JobStatus::Succeeded));
    one.journal.push(&started(run_id(253), None));
    let (mut link, _) = one.connect().await;
    let frames = one.journal.after(0);
    let last = frames.len() as u64;
    for frame in frames {
        link.send_frame(&frame).await;
    }
    link.until_acked(last).await;
    for n in 2..=250 {
        let run = fleet.run(run_id(n)).await;
        assert_eq!((run.status, run.host_id), (JobStatus::Succeeded, one.host()), "run {n}");
        assert_eq!(run.snapshot_id, Some("ab".repeat(32)));
        let lines = logs::lines(fleet.db().read(), run_id(n), 0, 5).await.unwrap();
        assert_eq!(lines.len(), 1, "run {n}");
    }
    let ends = [1, 251, 252, 253].map(|n| fleet.run(run_id(n)));
    let ends: Vec<_> = join_all(ends).await.into_iter().map(|run| run.status).collect();
    let expected =
        [JobStatus::Running, JobStatus::Partial, JobStatus::Cancelled, JobStatus::Running];
    assert_eq!(ends, expected);
    let foreign = fleet.notices().await;
    let foreign = foreign.iter().filter(|notice| notice.subject == theirs.to_string());
    assert_eq!(foreign.count(), 1);
}
