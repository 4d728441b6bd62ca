//! Machines and managers that came back from a copy: nothing of it is silent.

use crate::double::{Fleet, Journal, finished, run_id, started};
use protocol::{Code, JobStatus, ProtocolVersion};

#[tokio::test]
async fn a_crash_before_the_ticket_was_kept_is_no_clone() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    // The first ticket never reached the disk, twice.
    for _ in 0..2 {
        let mut link = agent.dial().await;
        assert!(link.greet(agent.hello()).await.unwrap().hold.is_none());
    }
    let (mut link, _) = agent.connect().await;
    let run = fleet.request(agent.host(), None).await;
    assert_eq!(link.command().await.job_id, run);
    // The next one was confirmed. The one after it was lost again; the confirmed one still counts.
    for _ in 0..2 {
        let mut link = agent.dial().await;
        assert!(link.greet(agent.hello()).await.unwrap().hold.is_none());
    }
    // One that was kept and never confirmed counts as well.
    let mut link = agent.dial().await;
    let welcome = link.greet(agent.hello()).await.unwrap();
    agent.ticket = welcome.ticket;
    let mut link = agent.dial().await;
    assert!(link.greet(agent.hello()).await.unwrap().hold.is_none());
}

#[tokio::test]
async fn a_copied_machine_and_its_original_are_both_held_without_commands() {
    let fleet = Fleet::start().await;
    let mut original = fleet.agent("box").await;
    let (link, _) = original.connect().await;
    drop(link);
    let mut copy = original.clone();
    // The original goes on, and its tickets with it.
    for _ in 0..2 {
        original.connect().await;
    }
    let (mut link, welcome) = original.connect().await;
    assert!(welcome.hold.is_none());

    let (mut copied, welcome) = copy.connect().await;
    assert_eq!(welcome.hold.unwrap().code, Code::CloneSuspected);
    assert!(welcome.ticket.is_none() && welcome.cursor.is_none());
    let why = link.ended().await.map(|problem| problem.code);
    assert!(matches!(why, None | Some(Code::ConnectionReplaced)), "{why:?}");
    let (mut link, welcome) = original.connect().await;
    assert_eq!(welcome.hold.unwrap().code, Code::CloneSuspected);
    copied.ended().await;

    let run = fleet.request(original.host(), None).await;
    let frame = original.journal.push(&started(run_id(1), None));
    link.send_frame(&frame).await;
    assert!(fleet.notices().await.iter().any(|notice| notice.code == Code::CloneSuspected));
    // Released, the original goes on where it was, and gets what waited.
    assert!(fleet.manager().release(original.host()).await.unwrap());
    assert!(link.ended().await.is_none(), "held, it was told nothing");
    let (mut link, welcome) = original.connect().await;
    assert!(welcome.hold.is_none());
    for frame in original.journal.after(welcome.cursor.unwrap().seq) {
        link.send_frame(&frame).await;
    }
    assert_eq!(link.command().await.job_id, run);
}

#[tokio::test]
async fn an_older_protocol_is_no_way_around_the_ticket() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let (mut link, _) = agent.connect().await;
    link.settle(&mut agent).await;
    assert!(fleet.host(agent.host()).await.tickets.confirmed.is_some());
    agent.version = ProtocolVersion(1);
    agent.ticket = None;
    let mut link = agent.dial().await;
    link.say(&protocol::FromAgent::Hello(Box::new(agent.hello()))).await;
    let host = fleet.until_host(agent.host(), |host| host.hold.is_some()).await;
    assert_eq!(host.hold.unwrap().code, Code::CloneSuspected);
}

#[tokio::test]
async fn an_older_state_folder_is_told_and_begins_a_new_journal() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let (mut link, _) = agent.connect().await;
    let frame = agent.journal.push(&started(run_id(1), None));
    link.send_frame(&frame).await;
    link.until_acked(1).await;
    let image = agent.clone();
    let (mut link, _) = agent.connect().await;
    let frame = agent.journal.push(&finished(run_id(1), JobStatus::Succeeded));
    link.send_frame(&frame).await;
    link.until_acked(2).await;

    let mut agent = image;
    let (_link, welcome) = agent.connect().await;
    assert_eq!(welcome.hold.unwrap().code, Code::CloneSuspected, "the ticket is an old one");
    assert!(fleet.manager().release(agent.host()).await.unwrap());
    let (_link, welcome) = agent.connect().await;
    assert_eq!(welcome.renew_journal, Some(Code::AgentBehind));
    assert_eq!(welcome.cursor.unwrap().seq, 2);
    assert!(fleet.notices().await.iter().any(|notice| notice.code == Code::AgentBehind));
    agent.journal = Journal::new(9);
    let (mut link, welcome) = agent.connect().await;
    assert!(welcome.renew_journal.is_none() && welcome.hold.is_none());
    let frame = agent.journal.push(&finished(run_id(2), JobStatus::Failed));
    link.send_frame(&frame).await;
    link.until_acked(1).await;
    assert_eq!(fleet.run(run_id(1)).await.status, JobStatus::Succeeded);
}

#[tokio::test]
async fn a_run_that_its_agent_has_forgotten_is_lost_and_stands_in_nobodys_way() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let (mut link, _) = agent.connect().await;
    link.settle(&mut agent).await;
    let image = agent.clone();
    let run = fleet.request(agent.host(), None).await;
    agent.saw(&link.command().await);
    let frame = agent.journal.push(&started(run, None));
    link.send_frame(&frame).await;
    fleet.until_run(run, |run| run.status == JobStatus::Running).await;
    // A link that drops is nothing to the run: its agent still knows of it.
    drop(link);
    let (link, _) = agent.connect().await;
    assert_eq!(fleet.run(run).await.status, JobStatus::Running);
    drop(link);

    // The machine comes back from a copy that was made before the run.
    let ticket = agent.ticket.take();
    let mut agent = image;
    agent.ticket = ticket;
    agent.journal = Journal::new(9);
    let (_link, welcome) = agent.connect().await;
    assert!(welcome.hold.is_none(), "{welcome:?}");
    let lost = fleet.until_run(run, |run| run.status.is_terminal()).await;
    assert_eq!((lost.status, lost.code), (JobStatus::Lost, Some(Code::Lost)));
    assert!(lost.guidance.unwrap().contains("snapshots"));
}

#[tokio::test]
async fn a_run_that_begins_after_the_hello_is_not_taken_for_a_forgotten_one() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let (mut link, _) = agent.connect().await;
    // A plan's own run, of which no command ever told.
    let frame = agent.journal.push(&started(run_id(1), None));
    link.send_frame(&frame).await;
    link.until_acked(1).await;
    let next = fleet.request(agent.host(), None).await;
    assert_eq!(link.command().await.job_id, next);
    assert_eq!(fleet.run(run_id(1)).await.status, JobStatus::Running);
}

#[tokio::test]
async fn an_older_database_asks_the_admin_and_then_takes_over_what_the_agent_knows() {
    let mut fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let (mut link, _) = agent.connect().await;
    link.settle(&mut agent).await;
    agent.journal.acked = 1;
    drop(link);
    let copy = fleet.back_up().await;
    agent.redial(&fleet);

    let (mut link, _) = agent.connect().await;
    let lost = fleet.request(agent.host(), None).await;
    agent.saw(&link.command().await);
    for record in [started(lost, None), finished(lost, JobStatus::Succeeded)] {
        let frame = agent.journal.push(&record);
        link.send_frame(&frame).await;
    }
    link.until_acked(3).await;
    agent.journal.acked = 3;

    fleet.restore(&copy).await;
    agent.redial(&fleet);
    let before = fleet.manager().identity().manager().incarnation;
    let (mut link, welcome) = agent.connect().await;
    assert_eq!(welcome.hold.unwrap().code, Code::ManagerBehind);
    assert!(fleet.notices().await.iter().any(|notice| notice.code == Code::ManagerBehind));

    assert!(fleet.manager().adopt(agent.host()).await.unwrap());
    assert!(!fleet.manager().adopt(agent.host()).await.unwrap());
    link.ended().await;
    let (mut link, welcome) = agent.connect().await;
    assert!(welcome.hold.is_none() && welcome.ticket.is_some());
    assert_ne!(welcome.manager.incarnation, before);
    let cursor = welcome.cursor.unwrap();
    assert_eq!(cursor.seq, 1, "what is still there is sent again");
    for frame in agent.journal.after(cursor.seq) {
        link.send_frame(&frame).await;
    }
    link.until_acked(3).await;
    assert_eq!(fleet.run(lost).await.status, JobStatus::Succeeded, "its history came back");
    let next = fleet.request(agent.host(), None).await;
    let command = link.command().await;
    assert_eq!(command.job_id, next);
    assert_eq!(command.number.unwrap().incarnation, welcome.manager.incarnation);
    drop(link);
    let (_link, welcome) = agent.connect().await;
    assert!(welcome.hold.is_none(), "once adopted, it stays so");
}

#[tokio::test]
async fn a_new_database_shows_the_hole_in_what_the_agent_still_has() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let (mut link, _) = agent.connect().await;
    for n in 1..=3 {
        let frame = agent.journal.push(&finished(run_id(n), JobStatus::Succeeded));
        link.send_frame(&frame).await;
    }
    link.until_acked(3).await;
    for n in 4..=8 {
        agent.journal.push(&finished(run_id(n), JobStatus::Succeeded));
    }
    // Records 4 and 5 had to make room before anyone had them.
    agent.journal.forget(5);
    let (mut link, welcome) = agent.connect().await;
    assert_eq!(welcome.cursor.unwrap().seq, 5);
    for frame in agent.journal.after(5) {
        link.send_frame(&frame).await;
    }
    link.until_acked(8).await;
    let notices = fleet.notices().await;
    assert!(notices[0].message.contains("Records 4 to 5"), "{notices:?}");
}
