//! Presence, revocation, and what the repositories hold.

use crate::double::{Agent, Fleet};
use jiff::Timestamp;
use protocol::{
    Code, EntryKind, FromAgent, Problem, RepoStats, RepositoryId, Snapshot, SnapshotsReport,
    SnapshotsWant, ToAgent, TreeEntry, TreeReport, TreeWant, snapshots_digest,
};
use server::{
    db::{
        folders,
        hosts::{self, HostState},
        notices, plans, runs, snapshots,
    },
    events::Topic,
};

#[tokio::test]
async fn a_revoked_machine_is_cut_off_and_stays_out() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let (mut link, _) = agent.connect().await;
    let mut tx = fleet.db().begin().await.unwrap();
    assert!(hosts::set_state(&mut tx, agent.host(), HostState::Revoked).await.unwrap());
    tx.commit().await.unwrap();
    fleet.manager().announce(agent.host()).await;
    assert_eq!(link.ended().await.unwrap().code, Code::HostRevoked);
    let mut link = agent.dial().await;
    assert_eq!(link.ended().await.unwrap().code, Code::HostRevoked);
    assert!(fleet.manager().links().online().await.is_empty());
}

#[tokio::test]
async fn the_open_runs_of_a_removed_machine_are_lost() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let (mut link, _) = agent.connect().await;
    let run = fleet.request(agent.host(), None).await;
    link.command().await;
    let mut tx = fleet.db().begin().await.unwrap();
    hosts::set_state(&mut tx, agent.host(), HostState::Removed).await.unwrap();
    let lost = runs::finish_lost(&mut tx, agent.host(), fleet.manager().now()).await.unwrap();
    tx.commit().await.unwrap();
    fleet.manager().announce(agent.host()).await;
    assert_eq!(lost, [run]);
    link.ended().await;
    assert!(hosts::list(fleet.db().read()).await.unwrap().is_empty());
}

#[tokio::test]
async fn plans_that_are_too_large_are_told_to_the_admin_and_hold_up_no_command() {
    let fleet = Fleet::start().await;
    let (plan, _) = fleet.plan().await;
    let mut tx = fleet.db().begin().await.unwrap();
    let mut large = plans::find(&mut *tx, plan).await.unwrap().unwrap();
    large.excludes = vec!["x".repeat(4000); 300];
    plans::update(&mut tx, &large).await.unwrap();
    tx.commit().await.unwrap();
    let (token, _) = fleet.token("box", Some(plan)).await;
    let mut agent = Agent::new(&fleet);
    agent.enrol(&token).await.expect("the token is good");
    let (mut link, _) = agent.connect().await;
    let run = fleet.request(agent.host(), None).await;
    assert_eq!(link.command().await.job_id, run);
    let open = notices::list_open(fleet.db().read()).await.unwrap();
    let told: Vec<_> = open.iter().map(|notice| (notice.host_id, notice.code)).collect();
    assert_eq!(told, [(Some(agent.host()), Code::PlansTooLarge)]);
}

#[tokio::test]
async fn a_machine_is_online_while_it_is_connected_and_the_newest_connection_counts() {
    let fleet = Fleet::start().await;
    let mut agent = fleet.agent("box").await;
    let links = fleet.manager().links().clone();
    assert!(links.online().await.is_empty());
    let (mut first, _) = agent.connect().await;
    assert!(links.online().await.contains(&agent.host()));
    let (second, _) = agent.connect().await;
    assert_eq!(first.ended().await.unwrap().code, Code::ConnectionReplaced);
    assert!(links.online().await.contains(&agent.host()));

    let mut events = fleet.manager().events().subscribe();
    drop(second);
    while links.online().await.contains(&agent.host()) {
        events.recv().await.unwrap();
    }
    let host = fleet.until_host(agent.host(), |host| host.last_seen_at.is_some()).await;
    assert_eq!(host.restic_version, "0.18.0");
    assert_eq!(host.time_zone.as_deref(), Some("Europe/Berlin"));
}

fn snapshot(n: u64) -> Snapshot {
    let id = format!("{n:064x}");
    Snapshot {
        short_id: id[..8].to_owned(),
        id,
        time: Timestamp::from_second(1_790_000_000).unwrap(),
        hostname: "box".to_owned(),
        paths: vec!["/home".to_owned()],
        tags: vec!["x".to_owned()],
        size_bytes: Some(n),
        file_count: None,
        added_bytes: Some(0),
    }
}

fn digest(list: &[Snapshot]) -> String {
    snapshots_digest(list.iter().map(|one| one.id.as_str()))
}

fn report(repository: RepositoryId, whole: &[Snapshot]) -> SnapshotsReport {
    SnapshotsReport {
        repository_id: Some(repository),
        digest: Some(digest(whole)),
        read_at: Some(Timestamp::from_second(1_790_000_000).unwrap()),
        ..SnapshotsReport::default()
    }
}

async fn until_digest(fleet: &Fleet, repository: RepositoryId, expected: &str) {
    crate::double::soon(async {
        let mut events = fleet.manager().events().subscribe();
        while snapshots::digest(fleet.db().read(), repository).await.unwrap() != expected {
            while events.recv().await.unwrap().topic != Topic::Repository(repository) {}
        }
    })
    .await;
}

#[tokio::test]
async fn snapshots_are_compared_by_digest_fetched_in_pages_and_followed_by_deltas() {
    let fleet = Fleet::start().await;
    let (plan, repository) = fleet.plan().await;
    let (_, foreign) = fleet.plan().await;
    let mut agent = fleet.agent("box").await;
    fleet.assign(plan, agent.host()).await;
    let (mut link, _) = agent.connect().await;
    link.told().await;
    link.told().await;

    let list: Vec<Snapshot> = (0..600).map(snapshot).collect();
    link.say(&FromAgent::SnapshotsReport(report(repository, &list))).await;
    let ToAgent::SnapshotsWant(want) = link.told().await else { panic!() };
    assert_eq!(want.repository_id, repository);
    for (page, part, last) in [(1, &list[..500], false), (2, &list[500..], true)] {
        let mut report = report(repository, &list);
        report.snapshots = part.to_vec();
        report.page = Some(page);
        report.last = last;
        link.say(&FromAgent::SnapshotsReport(report)).await;
    }
    until_digest(&fleet, repository, &digest(&list)).await;
    assert_eq!(snapshots::count_of(fleet.db().read(), repository).await.unwrap(), 600);

    let mut later = list[1..].to_vec();
    later.push(snapshot(1000));
    let mut delta = report(repository, &later);
    delta.base = Some(digest(&list));
    delta.snapshots = vec![snapshot(1000)];
    delta.removed = vec![list[0].id.clone()];
    link.say(&FromAgent::SnapshotsReport(delta.clone())).await;
    until_digest(&fleet, repository, &digest(&later)).await;

    // A delta whose result is not what it says leaves the list alone and asks for all of it.
    delta.base = Some(digest(&later));
    delta.snapshots = vec![snapshot(2000)];
    delta.digest = Some("wrong".to_owned());
    link.say(&FromAgent::SnapshotsReport(delta)).await;
    assert!(matches!(link.told().await, ToAgent::SnapshotsWant(_)));
    until_digest(&fleet, repository, &digest(&later)).await;

    // Nobody reports on a repository that is not theirs.
    let mut stolen = report(foreign, &list[..1]);
    stolen.snapshots = list[..1].to_vec();
    stolen.page = Some(1);
    stolen.last = true;
    link.say(&FromAgent::SnapshotsReport(stolen)).await;
    link.settle(&mut agent).await;
    assert_eq!(snapshots::count_of(fleet.db().read(), foreign).await.unwrap(), 0);
}

#[tokio::test]
async fn a_machine_whose_list_another_machine_contradicts_must_look_again() {
    let fleet = Fleet::start().await;
    let (plan, repository) = fleet.plan().await;
    let (mut one, mut other) = (fleet.agent("one").await, fleet.agent("other").await);
    for agent in [&one, &other] {
        fleet.assign(plan, agent.host()).await;
    }
    let whole = |list: &[Snapshot], read_at: i64| {
        let mut report = report(repository, list);
        report.read_at = Some(Timestamp::from_second(read_at).unwrap());
        (report.page, report.last, report.snapshots) = (Some(1), true, list.to_vec());
        FromAgent::SnapshotsReport(report)
    };
    let asked = |anew| ToAgent::SnapshotsWant(SnapshotsWant { repository_id: repository, anew });
    let (newer, older) = ([snapshot(1), snapshot(2)], [snapshot(1)]);
    let (mut link, _) = one.connect().await;
    link.say(&whole(&newer, 1_790_000_000)).await;
    until_digest(&fleet, repository, &digest(&newer)).await;

    // Its clock is ahead, so that by the times alone it looked last.
    let (mut second, _) = other.connect().await;
    second.told().await;
    second.told().await;
    for _ in 0..2 {
        second.say(&whole(&older, 1_795_000_000)).await;
    }
    assert_eq!(second.told().await, asked(true));
    second.settle(&mut other).await;
    assert_eq!(snapshots::digest(fleet.db().read(), repository).await.unwrap(), digest(&newer));

    // While it looks the first one tells of a third snapshot, which the second may not have seen.
    let newest = [snapshot(1), snapshot(2), snapshot(3)];
    link.say(&whole(&newest, 1_790_000_100)).await;
    until_digest(&fleet, repository, &digest(&newest)).await;
    second.say(&whole(&newer, 1_795_000_010)).await;
    assert_eq!(second.told().await, asked(true));
    link.settle(&mut one).await;
    assert_eq!(snapshots::digest(fleet.db().read(), repository).await.unwrap(), digest(&newest));

    // It looked, and what it saw is what there is: somebody has forgotten all but one.
    second.say(&whole(&older, 1_795_000_020)).await;
    until_digest(&fleet, repository, &digest(&older)).await;
}

#[tokio::test]
async fn facts_of_a_repository_are_kept_newest_first() {
    let fleet = Fleet::start().await;
    let (plan, repository) = fleet.plan().await;
    let mut agent = fleet.agent("box").await;
    fleet.assign(plan, agent.host()).await;
    let (mut link, _) = agent.connect().await;
    link.told().await;
    link.told().await;
    let told = |size_bytes, second: i64| RepoStats {
        size_bytes,
        snapshot_count: 3,
        dedup_ratio: 1.5,
        last_check_at: None,
        last_check_status: None,
        lock_state: "unlocked".to_owned(),
        repository_id: Some(repository),
        read_at: Some(Timestamp::from_second(1_790_000_000 + second).unwrap()),
        locks: Vec::new(),
    };
    let (newer, older) = (told(100, 10), told(50, 5));
    link.say(&FromAgent::RepoStats(newer)).await;
    link.say(&FromAgent::RepoStats(older)).await;
    link.settle(&mut agent).await;
    let facts = snapshots::facts(fleet.db().read(), repository).await.unwrap();
    assert_eq!((facts.size_bytes, facts.snapshot_count), (Some(100), Some(3)));
}

#[tokio::test]
async fn a_folder_is_asked_for_once_put_together_from_its_pages_and_kept() {
    let fleet = Fleet::start().await;
    let (_, repository) = fleet.plan().await;
    let mut agent = fleet.agent("box").await;
    let (mut link, _) = agent.connect().await;
    let want = TreeWant {
        repository_id: repository,
        snapshot_id: "ab".repeat(32),
        path: "/etc".to_owned(),
    };
    let trees = fleet.manager().trees().clone();
    let (one, two) = (
        trees.ask(agent.host(), want.clone()).unwrap(),
        trees.ask(agent.host(), want.clone()).unwrap(),
    );
    for _ in 0..2 {
        fleet.manager().links().wake(agent.host()).await;
    }
    assert_eq!(link.tree_want().await, want);
    let entry = |name: &str| TreeEntry {
        name: name.to_owned(),
        kind: EntryKind::File,
        size_bytes: Some(7),
        modified_at: None,
        permissions: "-rw-r--r--".to_owned(),
    };
    let page = |page, last, name: &str| {
        FromAgent::TreeReport(TreeReport {
            want: want.clone(),
            page,
            last,
            entries: vec![entry(name)],
            problem: None,
        })
    };
    link.say(&page(1, false, "hosts")).await;
    link.say(&page(2, true, "passwd")).await;
    assert_eq!((one.await.unwrap(), two.await.unwrap()), (Ok(()), Ok(())));
    let folder = folders::find(fleet.db().read(), &want).await.unwrap().unwrap();
    assert_eq!(folder.entries, [entry("hosts"), entry("passwd")]);

    // What nobody asked for is not kept, and a reason reaches whoever asked.
    let other = TreeWant { path: "/other".to_owned(), ..want.clone() };
    let problem = Problem::new(Code::RepositoryUnreachable, "It is away.\u{202e}");
    let refusal = |want: &TreeWant, problem: Option<Problem>| {
        FromAgent::TreeReport(TreeReport {
            want: want.clone(),
            page: 1,
            last: true,
            entries: Vec::new(),
            problem,
        })
    };
    link.say(&refusal(&other, None)).await;
    let third = TreeWant { path: "/third".to_owned(), ..want.clone() };
    let answer = trees.ask(agent.host(), third.clone()).unwrap();
    fleet.manager().links().wake(agent.host()).await;
    // Woken twice, it was asked once: the next question is this one.
    assert_eq!(link.tree_want().await, third);
    link.say(&refusal(&third, Some(problem))).await;
    let problem = answer.await.unwrap().unwrap_err();
    assert_eq!(
        (problem.code, problem.message.as_str()),
        (Code::RepositoryUnreachable, "It is away.")
    );
    assert!(folders::find(fleet.db().read(), &other).await.unwrap().is_none());
}

#[tokio::test]
async fn after_a_new_journal_or_a_hold_the_next_reading_counts_whatever_its_clock_shows() {
    let fleet = Fleet::start().await;
    let (plan, repository) = fleet.plan().await;
    let mut agent = fleet.agent("box").await;
    fleet.assign(plan, agent.host()).await;
    let read = |list: &[Snapshot], second| {
        let mut report = report(repository, list);
        report.read_at = Some(Timestamp::from_second(second).unwrap());
        (report.page, report.last, report.snapshots) = (Some(1), true, list.to_vec());
        FromAgent::SnapshotsReport(report)
    };
    let (first, second) = ([snapshot(1)], [snapshot(1), snapshot(2)]);
    let (mut link, _) = agent.connect().await;
    link.say(&read(&first, 1_790_000_000)).await;
    until_digest(&fleet, repository, &digest(&first)).await;
    // By the clock of the same machine this is an old list that came late.
    link.say(&read(&second, 1_780_000_000)).await;
    link.settle(&mut agent).await;
    assert_eq!(
        snapshots::digest(fleet.db().read(), repository).await.unwrap(),
        digest(&first),
        "an old list has taken the place of a newer one"
    );
    // A copy of the machine, or an older state of it, begins a new journal by another clock.
    agent.journal = crate::double::Journal::new(9);
    let (mut link, _) = agent.connect().await;
    link.say(&read(&second, 1_780_000_000)).await;
    until_digest(&fleet, repository, &digest(&second)).await;
    // A copy that was taken away had another clock, too.
    agent.ticket = None;
    let (_link, welcome) = agent.connect().await;
    assert!(welcome.hold.is_some());
    assert!(fleet.manager().release(agent.host()).await.unwrap());
    let (mut link, _) = agent.connect().await;
    link.say(&read(&first, 1_770_000_000)).await;
    until_digest(&fleet, repository, &digest(&first)).await;
}
