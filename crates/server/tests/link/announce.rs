//! A machine that asks to join, request by request: what binds it, what bounds it, and what it hears.

use crate::double::{Agent, Fleet, soon};
use jiff::SignedDuration;
use protocol::{
    AnnounceRequest, AnnounceResponse, Code, Commitment, EnrolResponse, HostArch, HostOs, Meeting,
    Nonce, PROTOCOL_VERSION, Problem, RevealRequest,
};
use server::{
    announcements::{Announcement, MOST, MOST_OF_ADDRESS, NewAnnouncement, VALID},
    db::hosts,
    newcomer::{Newcomer, take_in},
};
use std::net::{IpAddr, Ipv4Addr};

fn nonce() -> Nonce {
    Nonce::from([5; 32])
}

fn request(agent: &Agent, hostname: &str) -> String {
    let request = AnnounceRequest {
        commitment: Commitment::to(&agent.fingerprint(), nonce()),
        protocol_version: PROTOCOL_VERSION,
        agent_version: "0.1.0".to_owned(),
        hostname: hostname.to_owned(),
        os: HostOs::Linux,
        arch: HostArch::Amd64,
    };
    serde_json::to_string(&request).unwrap()
}

async fn announce(agent: &Agent) -> AnnounceResponse {
    let (status, body) = agent.http(true, "POST /agent/announce", &request(agent, "box")).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

async fn reveal(agent: &Agent, to: &AnnounceResponse, nonce: Nonce) -> (u16, String) {
    let body = serde_json::to_string(&RevealRequest { nonce }).unwrap();
    agent.http(true, &format!("POST /agent/announce/{}/reveal", to.id), &body).await
}

async fn confirm(agent: &Agent, to: &AnnounceResponse) -> (u16, String) {
    agent.http(true, &format!("POST /agent/announce/{}/confirm", to.id), "{}").await
}

fn code(body: &str) -> Code {
    serde_json::from_str::<Problem>(body).unwrap().code
}

fn listed(fleet: &Fleet) -> Vec<Announcement> {
    fleet.manager().announcements().list(fleet.manager().now())
}

/// Waits until root's confirmation has come, then lets the machine in.
async fn approve(fleet: &Fleet) {
    let (manager, announcements) = (fleet.manager(), fleet.manager().announcements());
    let mut events = manager.events().subscribe();
    while !announcements.list(manager.now())[0].is_confirmed {
        events.recv().await.unwrap();
    }
    let id = announcements.list(manager.now())[0].id;
    let decision = announcements.decide(id, manager.now()).await.unwrap();
    let mut tx = fleet.db().begin().await.unwrap();
    let host = take_in(manager, &mut tx, "web", &decision.about().newcomer, None).await.unwrap();
    tx.commit().await.unwrap();
    decision.approved(host, manager.now());
}

#[tokio::test]
async fn a_machine_that_is_approved_is_enrolled_with_the_key_of_its_connections() {
    let fleet = Fleet::start().await;
    let mut agent = Agent::new(&fleet);
    let to = announce(&agent).await;
    assert!(listed(&fleet).is_empty(), "there is no code before the nonce is revealed");
    assert_eq!(reveal(&agent, &to, nonce()).await.0, 204);
    assert_eq!(reveal(&agent, &to, nonce()).await.0, 204, "its answer may have been lost");
    let meeting = Meeting {
        agent_key: agent.fingerprint(),
        manager_key: *fleet.manager().identity().root_public_key(),
        agent_nonce: nonce(),
        manager_nonce: to.nonce,
    };
    assert_eq!(listed(&fleet)[0].code, meeting.code());
    let ((status, body), ()) =
        soon(async { tokio::join!(confirm(&agent, &to), approve(&fleet)) }).await;
    assert_eq!(status, 200, "{body}");
    let answer: EnrolResponse = serde_json::from_str(&body).unwrap();
    let again = confirm(&agent, &to).await;
    assert_eq!(again, (200, body), "its answer may have been lost");
    agent.came_in(answer.host_id);
    let (_link, welcome) = agent.connect().await;
    assert_eq!(welcome.host_id, answer.host_id);
    // It is one of the fleet now, and cannot ask again.
    let (status, body) = agent.http(true, "POST /agent/announce", &request(&agent, "box")).await;
    assert_eq!((status, code(&body)), (409, Code::KeyAlreadyEnrolled));
}

#[tokio::test]
async fn what_was_not_committed_to_ends_the_announcement() {
    let fleet = Fleet::start().await;
    let agent = Agent::new(&fleet);
    let to = announce(&agent).await;
    let (status, body) = reveal(&agent, &to, Nonce::from([6; 32])).await;
    assert_eq!((status, code(&body)), (403, Code::CommitmentBroken));
    // There is no second try at a nonce that fits, and as few at all as when people see them.
    let (status, body) = reveal(&agent, &to, nonce()).await;
    assert_eq!((status, code(&body)), (404, Code::AnnouncementOver));
    assert!(listed(&fleet).is_empty());
    for _ in 1..MOST_OF_ADDRESS {
        announce(&Agent::new(&fleet)).await;
    }
    let (status, _) = agent.http(true, "POST /agent/announce", &request(&agent, "box")).await;
    assert_eq!(status, 429);
}

#[tokio::test]
async fn an_announcement_belongs_to_the_key_that_made_it() {
    let fleet = Fleet::start().await;
    let (agent, other) = (Agent::new(&fleet), Agent::new(&fleet));
    let to = announce(&agent).await;
    for answer in [reveal(&other, &to, nonce()).await, confirm(&other, &to).await] {
        assert_eq!((answer.0, code(&answer.1)), (404, Code::AnnouncementOver));
    }
    assert_eq!(reveal(&agent, &to, nonce()).await.0, 204);
    assert_eq!(confirm(&other, &to).await.0, 404);
    assert!(!listed(&fleet)[0].is_confirmed);
    let (status, body) = agent.http(false, "POST /agent/announce", "{}").await;
    assert_eq!((status, code(&body)), (401, Code::ClientKeyMissing));
}

#[tokio::test]
async fn an_announcement_is_over_after_a_quarter_of_an_hour() {
    let fleet = Fleet::start().await;
    let agent = Agent::new(&fleet);
    let to = announce(&agent).await;
    assert_eq!(reveal(&agent, &to, nonce()).await.0, 204);
    fleet.advance(VALID - SignedDuration::from_secs(1));
    assert_eq!(listed(&fleet).len(), 1);
    fleet.advance(SignedDuration::from_secs(1));
    let (status, body) = confirm(&agent, &to).await;
    assert_eq!((status, code(&body)), (404, Code::AnnouncementOver));
    let manager = fleet.manager();
    assert!(manager.announcements().decide(to.id, manager.now()).await.is_none());
    assert!(hosts::list(fleet.db().read()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_machine_that_is_refused_hears_so_and_frees_its_place() {
    let fleet = Fleet::start().await;
    let agent = Agent::new(&fleet);
    let to = announce(&agent).await;
    assert_eq!(reveal(&agent, &to, nonce()).await.0, 204);
    let (manager, announcements) = (fleet.manager(), fleet.manager().announcements());
    announcements.decide(to.id, manager.now()).await.unwrap().refused(manager.now());
    let (status, body) = confirm(&agent, &to).await;
    assert_eq!((status, code(&body)), (403, Code::AnnouncementRefused));
    for _ in 0..MOST_OF_ADDRESS {
        announce(&Agent::new(&fleet)).await;
    }
    let one_more = Agent::new(&fleet);
    let (status, body) =
        one_more.http(true, "POST /agent/announce", &request(&one_more, "x")).await;
    assert_eq!((status, code(&body)), (429, Code::TooManyAttempts));
}

#[tokio::test]
async fn an_address_announces_ten_times_a_minute_at_most() {
    let fleet = Fleet::start().await;
    let agent = Agent::new(&fleet);
    // What is malformed counts too.
    for _ in 0..10 {
        assert_eq!(agent.http(true, "POST /agent/announce", "{}").await.0, 400);
    }
    assert_eq!(agent.http(true, "POST /agent/announce", &request(&agent, "box")).await.0, 429);
    fleet.advance(SignedDuration::from_mins(1));
    announce(&agent).await;
}

#[tokio::test]
async fn what_a_machine_calls_itself_is_made_safe_to_show() {
    let fleet = Fleet::start().await;
    let agent = Agent::new(&fleet);
    let body = request(&agent, "We\u{202e}b\u{1b}[31m-1: code ABCD-EFGH\n");
    let (_, body) = agent.http(true, "POST /agent/announce", &body).await;
    let to: AnnounceResponse = serde_json::from_str(&body).unwrap();
    reveal(&agent, &to, nonce()).await;
    assert_eq!(listed(&fleet)[0].newcomer.hostname, "web-1--code-abcd-efgh");
}

#[tokio::test]
async fn a_flood_from_many_addresses_keeps_later_ones_out_and_removes_nobody() {
    let fleet = Fleet::start().await;
    let manager = fleet.manager();
    let new = |n: u32| {
        let address = IpAddr::V4(Ipv4Addr::from(n));
        NewAnnouncement {
            id: manager.new_id(),
            commitment: Commitment::from([0; 32]),
            manager_nonce: nonce(),
            newcomer: Newcomer {
                key: [0; 32],
                hostname: "x".to_owned(),
                os: HostOs::Linux,
                arch: HostArch::Amd64,
                agent_version: "0.1.0".to_owned(),
                protocol_version: PROTOCOL_VERSION,
            },
            address,
            network: address,
        }
    };
    let agent = Agent::new(&fleet);
    let to = announce(&agent).await;
    let let_in = (0..1_000_u32)
        .filter(|n| manager.announcements().announce(new(*n), manager.now()).is_ok())
        .count();
    assert_eq!(let_in, MOST - 1);
    assert_eq!(reveal(&agent, &to, nonce()).await.0, 204, "whoever came first stays");
}
