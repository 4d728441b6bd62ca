//! Readings of repositories: made after what changes them, again where they failed, and in order
//! whatever the clock does.

use super::*;

#[test]
fn a_wanted_list_that_was_never_read_is_read() {
    let mut world = World::new();
    world.connect();
    let repository_id = RepositoryId::new(2, &[2; 10]);
    world.brain.handle_reading(repository_id, None, world.now);
    let want =
        ToAgent::SnapshotsWant(SnapshotsWant { repository_id, anew: false }).encode().unwrap();
    let effects = world.brain.handle_frame(&want, world.now);
    assert!(matches!(effects.as_slice(), [Effect::Read(_)]), "{effects:?}");
    // While it is being read, one more wish is remembered and no second reading begins.
    assert!(world.brain.handle_frame(&want, world.now).is_empty());
    let effects = world.brain.handle_reading(repository_id, None, world.now);
    assert!(matches!(effects.as_slice(), [Effect::Read(_)]), "{effects:?}");
}

#[test]
fn a_list_that_is_wanted_anew_is_read_first() {
    let mut world = World::new();
    world.connect();
    read_nothing(&mut world);
    let want = SnapshotsWant { repository_id: RepositoryId::new(2, &[2; 10]), anew: true };
    let want = ToAgent::SnapshotsWant(want).encode().unwrap();
    let effects = world.brain.handle_frame(&want, world.now);
    assert!(matches!(effects.as_slice(), [Effect::Read(_)]), "{effects:?}");
}

#[test]
fn a_reading_that_failed_is_made_again_after_a_growing_pause() {
    let mut world = World::new();
    let repository_id = RepositoryId::new(2, &[2; 10]);
    world.brain.handle_reading(repository_id, None, world.now);
    for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
        let due = world.now.mono + Duration::from_mins(minutes);
        assert_eq!(world.brain.due_reading(), Some(due));
        world.now.mono = due - Duration::from_secs(1);
        assert!(world.brain.read_again(world.now).is_empty());
        world.now.mono = due;
        assert!(matches!(world.brain.read_again(world.now).as_slice(), [Effect::Read(_)]));
        // Once only, and nobody wakes up for it meanwhile.
        assert_eq!(world.brain.due_reading(), None);
        world.brain.handle_reading(repository_id, None, world.now);
    }
    world.now.mono += Duration::from_hours(1);
    world.brain.read_again(world.now);
    let reading = Reading { read_at: world.now.wall, snapshots: Some(Vec::new()), stats: None };
    world.brain.handle_reading(repository_id, Some(reading), world.now);
    assert_eq!(world.brain.due_reading(), None);
}

#[test]
fn an_agent_that_starts_reads_what_the_one_before_it_may_not_have_read() {
    let mut world = World::new();
    world.connect();
    read_nothing(&mut world);
    world.command(1);
    world.hear(&ToAgent::CommandGo(CommandGo { job_id: run_id(1) }));
    let process = Process { pid: 7, start: "s".to_owned() };
    let effects = world.brain.handle_run_event(run_id(1), RunEvent::Spawned(process), world.now);
    world.execute(effects);
    let done = Outcome::plain(JobStatus::Succeeded, None);
    let effects =
        world.brain.handle_run_event(run_id(1), RunEvent::Finished(Box::new(done)), world.now);
    assert!(is_read(&effects));
    world.execute(effects);
    // It dies before it has read. What it finds then is told once somebody listens, so it waits for that.
    let effects = start_again(&mut world);
    assert!(!is_read(&effects), "{effects:?}");
    let effects = meet(&mut world, None);
    let readings = effects.iter().filter(|effect| matches!(effect, Effect::Read(_))).count();
    assert_eq!(readings, 1, "{effects:?}");
}

#[test]
fn a_list_is_as_old_as_the_beginning_of_its_reading() {
    let mut world = World::new();
    world.connect();
    world.now.wall = Timestamp::from_second(1_000).unwrap();
    let began = Timestamp::from_second(900).unwrap();
    let reading = Reading { read_at: began, snapshots: Some(Vec::new()), stats: None };
    let effects =
        world.brain.handle_reading(RepositoryId::new(2, &[2; 10]), Some(reading), world.now);
    world.execute(effects);
    let report = world.wire.iter().find(|frame| frame.kind == "snapshots.report").unwrap();
    let told: protocol::SnapshotsReport = report.payload().unwrap();
    assert_eq!(told.read_at, Some(began));
}

#[test]
fn a_list_that_is_read_after_the_clock_was_put_back_is_newer_all_the_same() {
    let mut world = World::new();
    world.connect();
    let id = RepositoryId::new(2, &[2; 10]);
    for second in [1_000, 400, 401, 1_001] {
        let read_at = Timestamp::from_second(second).unwrap();
        let reading = Reading { read_at, snapshots: Some(Vec::new()), stats: None };
        let effects = world.brain.handle_reading(id, Some(reading), world.now);
        world.execute(effects);
    }
    let reports = world.wire.iter().filter(|frame| frame.kind == "snapshots.report");
    let told =
        reports.filter_map(|frame| frame.payload::<protocol::SnapshotsReport>().unwrap().read_at);
    let told: Vec<i64> = told.map(Timestamp::as_millisecond).collect();
    assert_eq!(told, [1_000_000, 1_000_001, 1_000_002, 1_001_000]);
}

#[test]
fn only_a_check_that_looked_changes_the_last_check() {
    let mut world = World::new();
    world.connect();
    let repository_id = RepositoryId::new(2, &[2; 10]);
    let failed =
        |code| Outcome::plain(JobStatus::Failed, Some(Problem::new(code, "It did not work.")));
    for (n, outcome, word) in [
        (1, failed(Code::RepositoryLocked), None),
        (2, Outcome::plain(JobStatus::Succeeded, None), Some("ok")),
        (3, failed(Code::RepositoryLocked), Some("ok")),
        (4, failed(Code::RepositoryUnreachable), Some("ok")),
        (5, failed(Code::ResticFailed), Some("ok")),
        (6, failed(Code::RepositoryDamaged), Some("failed")),
    ] {
        let check = RunSpec::Check { repository_id: Some(repository_id), read_data: false };
        world.command_to(n, check);
        world.hear(&ToAgent::CommandGo(CommandGo { job_id: run_id(n) }));
        assert_eq!(world.running, [run_id(n)], "{n}");
        world.running.clear();
        let event = RunEvent::Finished(Box::new(outcome));
        let effects = world.brain.handle_run_event(run_id(n), event, world.now);
        world.execute(effects);
        let stats = RepoStats {
            size_bytes: 1,
            snapshot_count: 0,
            dedup_ratio: 0.0,
            last_check_at: None,
            last_check_status: None,
            lock_state: "unlocked".to_owned(),
            repository_id: Some(repository_id),
            read_at: None,
            locks: Vec::new(),
        };
        let reading = Reading { read_at: world.now.wall, snapshots: None, stats: Some(stats) };
        let effects = world.brain.handle_reading(repository_id, Some(reading), world.now);
        world.execute(effects);
        let told = world.wire.iter().rfind(|frame| frame.kind == "repo.stats").unwrap();
        let told: RepoStats = told.payload().unwrap();
        assert_eq!(told.last_check_status.as_deref(), word, "{n}");
    }
}

#[test]
fn an_agent_that_was_held_or_begins_a_new_journal_looks_at_its_repositories_anew() {
    let mut world = World::new();
    assert!(is_read(&meet(&mut world, None)), "it has just started");
    read_nothing(&mut world);
    assert!(!is_read(&meet(&mut world, None)));
    assert!(!is_read(&meet(&mut world, Some(hold()))));
    assert!(is_read(&meet(&mut world, None)));
    read_nothing(&mut world);
    assert!(!is_read(&meet(&mut world, None)));
    world.brain.handle_renewed(&Journal::empty(JournalId::new(2, &[2; 10])));
    assert!(is_read(&meet(&mut world, None)));
}

#[test]
fn an_agent_that_was_held_looks_anew_also_where_it_started_again_before_it_could() {
    let mut world = World::new();
    meet(&mut world, None);
    read_nothing(&mut world);
    meet(&mut world, Some(hold()));
    // Released while the agent was off.
    start_again(&mut world);
    assert!(is_read(&meet(&mut world, None)));
    // Off once more before the reading has ended.
    start_again(&mut world);
    assert!(is_read(&meet(&mut world, None)));
    read_nothing(&mut world);
    assert!(!is_read(&meet(&mut world, None)));
}

fn is_read(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Read(_)))
}

fn hold() -> protocol::Hold {
    protocol::Hold { code: Code::CloneSuspected, message: String::new() }
}

/// The repository is read, and there is nothing in it.
fn read_nothing(world: &mut World) {
    let reading = Reading { read_at: world.now.wall, snapshots: Some(Vec::new()), stats: None };
    world.brain.handle_reading(RepositoryId::new(2, &[2; 10]), Some(reading), world.now);
}

/// The agent dies and another one starts on what it has left.
fn start_again(world: &mut World) -> Vec<Effect> {
    world.brain = Brain::new(facts(), world.disk.clone(), Some(desired()), 0);
    world.brain.handle_start(world.now)
}

/// A manager that has nothing of the journal yet greets the agent.
fn meet(world: &mut World, hold: Option<protocol::Hold>) -> Vec<Effect> {
    world.disconnect();
    world.brain.handle_connected();
    let id = world.brain.journal().id();
    let welcome = ToAgent::Welcome(Box::new(Welcome {
        protocol_version: PROTOCOL_VERSION,
        host_id: host_id(),
        manager: ManagerIdentity { incarnation: incarnation(), epoch: 1 },
        cursor: Some(protocol::Cursor { journal_id: id, seq: 0, hash: ChainHash::START }),
        renew_journal: None,
        ticket: None,
        hold,
        server_time: Timestamp::UNIX_EPOCH,
    }));
    let effects = world.brain.handle_frame(&welcome.encode().unwrap(), world.now);
    assert_eq!(world.brain.is_open(), world.brain.hold().is_none());
    effects
}
