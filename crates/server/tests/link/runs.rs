//! Commands on their way, and the outcomes on their way back.

use crate::double::{Fleet, finished, line, soon, started};
use jiff::SignedDuration;
use protocol::{
    CancelReason, Code, CommandResult, FromAgent, JobProgress, JobStatus, ProtocolVersion, RunId,
    ToAgent,
};
use server::{
    db::{logs, repositories, runs::Dispatch},
    events::RunNews,
};

fn accepted(job_id: RunId) -> FromAgent {
    FromAgent::CommandResult(CommandResult::accepted(job_id))
}

#[tokio::test]
async fn a_run_goes_out_and_its_outcome_comes_back_once() {
    let fleet = Fleet::start().await;
    let (plan, repository) = fleet.plan().await;
    let mut agent = fleet.agent("box").await;
    fleet.assign(plan, agent.host()).await;
    let (mut link, _) = agent.connect().await;
    let run = fleet.request(agent.host(), Some(plan)).await;

    let command = link.command().await;
    assert_eq!(command.job_id, run);
    assert_eq!(command.number.unwrap().n, 1);
    assert_eq!(fleet.run(run).await.dispatch, Dispatch::Sent);
    link.say(&accepted(run)).await;
    let ToAgent::CommandGo(go) = link.told().await else { panic!() };
    assert_eq!(go.job_id, run);
    assert_eq!(fleet.run(run).await.dispatch, Dispatch::Going);

    let mut news = fleet.manager().events().subscribe_run(run);
    let records = [
        started(run, Some(plan)),
        line(run, 1, "\u{1b}[31mopen\u{1b}[0m repository"),
        line(run, 2, "done"),
        finished(run, JobStatus::Succeeded),
    ];
    for record in &records {
        let frame = agent.journal.push(record);
        link.send_frame(&frame).await;
    }
    link.until_acked(4).await;
    let ended = fleet.run(run).await;
    assert_eq!((ended.status, ended.exit_code), (JobStatus::Succeeded, Some(0)));
    let lines = logs::lines(fleet.db().read(), run, 0, 100).await.unwrap();
    let texts: Vec<&str> = lines.iter().map(|line| line.payload.as_str()).collect();
    assert_eq!(texts, ["open repository", "done"]);
    let repository = repositories::find(fleet.db().read(), repository).await.unwrap().unwrap();
    assert!(repository.initialised_at.is_some());
    let mut seen = Vec::new();
    while let Ok(one) = news.try_recv() {
        if let RunNews::Lines(lines) = one {
            seen.extend(lines.iter().map(|line| line.payload.clone()));
        }
    }
    assert_eq!(seen, texts);

    // The same records again, and another end of the same run, change nothing.
    for frame in agent.journal.after(0) {
        link.send_frame(&frame).await;
    }
    let frame = agent.journal.push(&finished(run, JobStatus::Failed));
    link.send_frame(&frame).await;
    link.until_acked(5).await;
    assert_eq!(fleet.run(run).await, ended);
}

#[tokio::test]
async fn a_run_asked_for_while_the_machine_is_away_waits_for_it_and_expires_without_it() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let first = fleet.request(agent.host(), None).await;
    let (mut link, _) = agent.connect().await;
    assert_eq!(link.command().await.job_id, first);
    drop(link);

    let other = fleet.agent("other").await;
    let late = fleet.request(other.host(), None).await;
    fleet.advance(SignedDuration::from_mins(10));
    let mut other = other;
    let (mut link, _) = other.connect().await;
    let next = fleet.request(other.host(), None).await;
    assert_eq!(link.command().await.job_id, next, "an expired command is never written");
    let late = fleet.run(late).await;
    assert_eq!((late.status, late.code), (JobStatus::Expired, Some(Code::Expired)));
}

#[tokio::test]
async fn a_command_that_expires_before_its_go_is_taken_back_and_only_the_agent_ends_it() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let (mut link, _) = agent.connect().await;
    let run = fleet.request(agent.host(), None).await;
    link.command().await;
    fleet.advance(SignedDuration::from_mins(10));
    link.say(&accepted(run)).await;
    let ToAgent::CommandCancel(cancel) = link.told().await else { panic!() };
    assert_eq!((cancel.job_id, cancel.reason), (run, CancelReason::Expired));
    assert!(cancel.number.is_some());
    assert_eq!(fleet.run(run).await.status, JobStatus::Queued, "no answer is not an end");
    let frame = agent.journal.push(&finished(run, JobStatus::Expired));
    link.send_frame(&frame).await;
    link.until_acked(1).await;
    assert_eq!(fleet.run(run).await.status, JobStatus::Expired);
}

#[tokio::test]
async fn a_cancelled_run_ends_here_before_it_was_written_and_there_afterwards() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let waiting = fleet.request(agent.host(), None).await;
    fleet.cancel(agent.host(), waiting).await;
    assert_eq!(fleet.run(waiting).await.status, JobStatus::Cancelled);

    let (mut link, _) = agent.connect().await;
    let run = fleet.request(agent.host(), None).await;
    assert_eq!(link.command().await.job_id, run);
    fleet.cancel(agent.host(), run).await;
    let ToAgent::CommandCancel(cancel) = link.told().await else { panic!() };
    assert_eq!((cancel.job_id, cancel.reason), (run, CancelReason::Admin));
    assert_eq!(fleet.run(run).await.status, JobStatus::Queued);
}

#[tokio::test]
async fn a_refused_command_is_a_failed_run_with_the_agents_reason() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let (mut link, _) = agent.connect().await;
    let run = fleet.request(agent.host(), None).await;
    link.command().await;
    link.say(&FromAgent::CommandResult(CommandResult {
        job_id: run,
        accepted: false,
        error: Some("There is no such plan here.\u{202e}".to_owned()),
        code: Some(Code::PlanUnknown),
        guidance: Some("Wait until the machine is in sync.\u{1b}".to_owned()),
    }))
    .await;
    let run = fleet.until_run(run, |run| run.status.is_terminal()).await;
    assert_eq!((run.status, run.code), (JobStatus::Failed, Some(Code::PlanUnknown)));
    assert_eq!(run.error.as_deref(), Some("There is no such plan here."));
    assert_eq!(run.guidance.as_deref(), Some("Wait until the machine is in sync."));
}

#[tokio::test]
async fn after_a_lost_connection_the_same_command_comes_again_under_its_number() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let (mut link, _) = agent.connect().await;
    let run = fleet.request(agent.host(), None).await;
    let first = link.command().await;
    agent.saw(&first);
    drop(link);

    let (mut link, _) = agent.connect().await;
    assert_eq!(link.command().await, first);
    link.say(&accepted(run)).await;
    assert!(matches!(link.told().await, ToAgent::CommandGo(_)));
    drop(link);

    // Whether the go arrived is not known: the agent, which never runs a number twice, is asked.
    let (mut link, _) = agent.connect().await;
    assert_eq!(link.command().await, first);
    drop(link);

    // It goes on over there, and the hello says so.
    let mut link = agent.dial().await;
    let mut hello = agent.hello();
    hello.open_runs = vec![run];
    let welcome = link.greet(hello).await.unwrap();
    agent.keep(&mut link, &welcome).await;
    let next = fleet.request(agent.host(), None).await;
    assert_eq!(link.command().await.job_id, next, "what goes on is not sent again");
}

#[tokio::test]
async fn what_ended_while_the_link_was_down_is_not_sent_again() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let (mut link, _) = agent.connect().await;
    let run = fleet.request(agent.host(), None).await;
    agent.saw(&link.command().await);
    link.say(&accepted(run)).await;
    assert!(matches!(link.told().await, ToAgent::CommandGo(_)));
    drop(link);
    agent.journal.push(&started(run, None));
    agent.journal.push(&finished(run, JobStatus::Succeeded));

    let (mut link, welcome) = agent.connect().await;
    assert_eq!(welcome.cursor.unwrap().seq, 0);
    for frame in agent.journal.after(0) {
        link.send_frame(&frame).await;
    }
    link.until_acked(2).await;
    let next = fleet.request(agent.host(), None).await;
    assert_eq!(link.command().await.job_id, next);
    assert_eq!(fleet.run(run).await.status, JobStatus::Succeeded);
}

#[tokio::test]
async fn progress_reaches_the_watchers_of_a_run_of_this_machine_only() {
    let fleet = Fleet::start().await;
    let (mut agent, mut other) = (fleet.agent("box").await, fleet.agent("other").await);
    let (mut link, _) = agent.connect().await;
    let (mut stranger, _) = other.connect().await;
    let run = fleet.request(agent.host(), None).await;
    link.command().await;
    let mut news = fleet.manager().events().subscribe_run(run);
    let told = |percent_done| {
        FromAgent::JobProgress(JobProgress {
            job_id: run,
            percent_done,
            files_done: 1,
            total_files: 2,
            bytes_done: 1,
            total_bytes: 2,
            eta_seconds: 0,
            throughput_bps: 0,
            current_files: Vec::new(),
            unreachable: None,
        })
    };
    stranger.say(&told(0.9)).await;
    stranger.settle(&mut other).await;
    link.say(&told(0.5)).await;
    let progress = soon(async {
        loop {
            if let RunNews::Progress(progress) = news.recv().await.unwrap() {
                return progress;
            }
        }
    })
    .await;
    assert!((progress.percent_done - 0.5).abs() < f64::EPSILON);
}

#[tokio::test]
async fn an_agent_of_version_1_is_understood() {
    let fleet = Fleet::start().await;
    let (plan, _) = fleet.plan().await;
    let (token, _) = fleet.token("old", Some(plan)).await;
    let mut agent = crate::double::Agent::new(&fleet);
    agent.version = ProtocolVersion(1);
    agent.enrol(&token).await.unwrap();
    let mut link = agent.dial().await;
    link.say(&FromAgent::Hello(Box::new(agent.hello()))).await;
    let ToAgent::ConfigUpdate(config) = link.told().await else { panic!() };
    assert!(matches!(config.repo_url, protocol::Patch::Set(_)));
    assert!(config.repositories.is_none() && config.generation.is_none());
    let ToAgent::ScheduleSet(set) = link.told().await else { panic!() };
    assert_eq!((set.version, set.schedules.len()), (1, 1));
    link.say(&FromAgent::ScheduleAck(protocol::ScheduleAck {
        version: 1,
        applied_at: crate::double::at(0),
        generation: None,
        digest: None,
        time_zone: None,
    }))
    .await;
    fleet.until_host(agent.host(), server::db::hosts::Host::in_sync).await;

    let run = fleet.request(agent.host(), Some(plan)).await;
    let command = link.command().await;
    assert!(command.number.is_none());
    link.say(&accepted(run)).await;
    link.say(&started(run, None)).await;
    link.say(&line(run, 1, "hello")).await;
    fleet.until_run(run, |run| run.status == JobStatus::Running).await;
    fleet.cancel(agent.host(), run).await;
    let ToAgent::CommandCancel(_) = link.told().await else { panic!() };
    link.say(&finished(run, JobStatus::Cancelled)).await;
    let run = fleet.until_run(run, |run| run.status.is_terminal()).await;
    assert_eq!(run.status, JobStatus::Cancelled);
}
