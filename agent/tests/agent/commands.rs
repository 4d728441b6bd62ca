//! Commands: once, in order, and only on their go.

use crate::support::{Authority, Bench, FakeManager, backup, plan_id, repository_id, run_id};
use protocol::{Code, FromAgent, JobStatus, PlanId, RunSpec};

#[tokio::test]
async fn a_backup_runs_from_enrolment_to_report() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    session.until(|what| matches!(what, FromAgent::TicketConfirm(_)).then_some(())).await;
    session.desire(&manager, 1, &bench.repository(), &bench.source()).await;
    session.run(run_id(1), manager.number(1), backup()).await;
    let started = session.until_started(run_id(1)).await;
    assert_eq!(started.command, Some(manager.number(1)));
    assert_eq!(started.schedule_id, Some(plan_id()));
    assert_eq!(started.repository_id, Some(repository_id()));
    let finished = session.until_finished(run_id(1)).await;
    assert_eq!(finished.status, JobStatus::Succeeded, "{finished:?}");
    assert!(finished.snapshot_id.is_some());
    agent.stop().await;

    let call = bench.restic.read("calls").lines().next().unwrap().to_owned();
    for word in [
        format!("--tag={}", plan_id().tag()),
        format!("--tag={}", run_id(1).tag()),
        "--tag=daily".to_owned(),
        "--host=".to_owned(),
    ] {
        assert!(call.contains(&word), "{word} is not in {call}");
    }
}

#[tokio::test]
async fn every_kind_of_run_ends_well() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    session.desire(&manager, 1, &bench.repository(), &bench.source()).await;
    let repository_id = Some(repository_id());
    let specs = [
        RunSpec::Init { repository_id },
        RunSpec::Prune { repository_id, dry_run: true },
        RunSpec::Check { repository_id, read_data: true },
        RunSpec::Unlock { repository_id },
        RunSpec::Stats { repository_id },
        RunSpec::Forget { schedule_id: Some(plan_id()), dry_run: true, keep_suspects: false },
    ];
    for (n, spec) in (1..).zip(specs) {
        let kind = spec.kind();
        session.run(run_id(n), manager.number(n.into()), spec).await;
        let finished = session.until_finished(run_id(n)).await;
        assert_eq!(finished.status, JobStatus::Succeeded, "{kind:?}: {finished:?}");
    }
    agent.stop().await;
}

#[tokio::test]
async fn what_cannot_be_run_is_answered_with_its_reason_again_and_again() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    session.desire(&manager, 1, &bench.repository(), &bench.source()).await;
    let unknown = RunSpec::Backup { schedule_id: Some(PlanId::new(7, &[7; 10])) };
    for _ in 0..2 {
        session.command(run_id(1), manager.number(1), unknown.clone()).await;
        let answer = session.until_answered(run_id(1)).await;
        assert_eq!((answer.accepted, answer.code), (false, Some(Code::PlanUnknown)));
        assert!(answer.guidance.unwrap().contains("in sync"));
    }
    session.command(run_id(2), manager.number(2), RunSpec::Unknown).await;
    let answer = session.until_answered(run_id(2)).await;
    assert_eq!(answer.code, Some(Code::KindUnknown));
    // A go without an acceptance starts nothing; the next command still runs.
    session.go(run_id(1)).await;
    session.run(run_id(3), manager.number(3), backup()).await;
    session.until_finished(run_id(3)).await;
    agent.stop().await;
    assert_eq!(bench.restic.calls("backup"), 1);
}

#[tokio::test]
async fn a_machine_without_restic_says_so_and_takes_the_next_one_once_it_is_there() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    let (there, away) = (bench.restic.path(), bench.restic.path().with_extension("away"));
    std::fs::rename(&there, &away).unwrap();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    assert_eq!(session.hello().restic_version, "");
    session.desire(&manager, 1, &bench.repository(), &bench.source()).await;
    session.command(run_id(1), manager.number(1), backup()).await;
    let answer = session.until_answered(run_id(1)).await;
    assert_eq!(answer.code, Some(Code::ResticMissing));
    assert!(answer.guidance.unwrap().contains("Install restic"));
    std::fs::rename(&away, &there).unwrap();
    session.run(run_id(2), manager.number(2), backup()).await;
    assert_eq!(session.until_finished(run_id(2)).await.status, JobStatus::Succeeded);
    agent.stop().await;
}

#[tokio::test]
async fn a_repeated_command_is_accepted_again_and_runs_once() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    session.desire(&manager, 1, &bench.repository(), &bench.source()).await;
    session.run(run_id(1), manager.number(1), backup()).await;
    session.until_finished(run_id(1)).await;
    for _ in 0..2 {
        session.run(run_id(1), manager.number(1), backup()).await;
    }
    session.run(run_id(2), manager.number(2), backup()).await;
    session.until_finished(run_id(2)).await;
    agent.stop().await;
    assert_eq!(bench.restic.calls("backup"), 2);
}

#[tokio::test]
async fn a_go_counts_only_over_the_connection_of_its_acceptance() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    session.desire(&manager, 1, &bench.repository(), &bench.source()).await;
    session.command(run_id(1), manager.number(1), backup()).await;
    assert!(session.until_answered(run_id(1)).await.accepted);
    drop(session);

    let mut session = manager.session().await;
    session.go(run_id(1)).await;
    // Asked again over this connection it is accepted again, and now its go counts.
    session.run(run_id(1), manager.number(1), backup()).await;
    assert_eq!(session.until_finished(run_id(1)).await.status, JobStatus::Succeeded);
    agent.stop().await;
    assert_eq!(bench.restic.calls("backup"), 1);
}

#[tokio::test]
async fn two_runs_on_one_repository_never_overlap() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    session.desire(&manager, 1, &bench.repository(), &bench.source()).await;
    let hold = bench.restic.hold();
    session.run(run_id(1), manager.number(1), backup()).await;
    session.until_started(run_id(1)).await;
    session.run(run_id(2), manager.number(2), backup()).await;
    std::fs::remove_file(hold).unwrap();
    let mut order = Vec::new();
    while order.len() < 3 {
        order.push(
            session
                .until(|what| match what {
                    FromAgent::JobStarted(started) => Some(("started", started.job_id)),
                    FromAgent::JobFinished(finished) => Some(("finished", finished.job_id)),
                    _ => None,
                })
                .await,
        );
    }
    let expected = [("finished", run_id(1)), ("started", run_id(2)), ("finished", run_id(2))];
    assert_eq!(order, expected);
    agent.stop().await;
}

#[tokio::test]
async fn a_run_outlives_the_connection_and_is_told_at_the_next_one() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    session.desire(&manager, 1, &bench.repository(), &bench.source()).await;
    let hold = bench.restic.hold();
    session.run(run_id(1), manager.number(1), backup()).await;
    session.until_started(run_id(1)).await;
    drop(session);
    std::fs::remove_file(hold).unwrap();
    let mut session = manager.session().await;
    assert_eq!(session.until_finished(run_id(1)).await.status, JobStatus::Succeeded);
    agent.stop().await;
}

#[tokio::test]
async fn an_older_desired_state_is_ignored() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.session().await;
    session.desire(&manager, 5, &bench.repository(), &bench.source()).await;
    let generation = protocol::Generation { incarnation: manager.identity.incarnation, n: 4 };
    let config = protocol::ConfigUpdate {
        generation: Some(generation),
        repositories: Some(Vec::new()),
        ..protocol::ConfigUpdate::default()
    };
    let set = protocol::ScheduleSet {
        version: 4,
        schedules: Vec::new(),
        generation: Some(generation),
        digest: None,
    };
    session.send(protocol::ToAgent::ConfigUpdate(Box::new(config))).await;
    session.send(protocol::ToAgent::ScheduleSet(set)).await;
    session.run(run_id(1), manager.number(1), backup()).await;
    session.until_finished(run_id(1)).await;
    agent.stop().await;
    assert_eq!(agent::desired::peek(&bench.state).unwrap().unwrap().unwrap().generation.n, 5);
}
