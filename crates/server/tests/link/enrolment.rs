//! Who comes in by a token, and what a second use of it means.

use crate::double::{Agent, Fleet, soon};
use jiff::SignedDuration;
use protocol::{Code, ProtocolVersion};
use server::db::{audit, enrolments, hosts};

#[tokio::test]
async fn a_token_lets_one_machine_in_with_the_name_and_plan_of_its_enrolment() {
    let fleet = Fleet::start().await;
    let (plan, repository) = fleet.plan().await;
    let (token, _) = fleet.token("web server", Some(plan)).await;
    let mut agent = Agent::new(&fleet);
    agent.enrol(&token).await.unwrap();
    let host = fleet.host(agent.host()).await;
    assert_eq!((host.name.as_str(), host.hostname.as_str()), ("web server", "box"));
    assert_eq!(host.generation, 1);
    let noted = audit::list(fleet.db().read(), None, 10).await.unwrap();
    assert!(noted.iter().any(|it| it.action == "host.enrol" && it.detail == "web server"));

    let (mut link, welcome) = agent.connect().await;
    assert_eq!(welcome.host_id, agent.host());
    assert!(welcome.ticket.is_some() && welcome.hold.is_none());
    let protocol::ToAgent::ConfigUpdate(config) = link.told().await else { panic!() };
    let repositories = config.repositories.unwrap();
    assert_eq!(repositories[0].id, repository);
    assert_eq!(repositories[0].password.expose_secret(), "open sesame");
    let protocol::ToAgent::ScheduleSet(set) = link.told().await else { panic!() };
    assert_eq!(set.schedules[0].id, plan);
    assert_eq!(set.generation, config.generation);
    assert_eq!(set.generation.unwrap().n, 1);
}

#[tokio::test]
async fn a_token_that_is_unknown_expired_or_withdrawn_lets_nobody_in() {
    let fleet = Fleet::start().await;
    let mut agent = Agent::new(&fleet);
    let (status, problem) = agent.enrol("no such token").await.unwrap_err();
    assert_eq!((status, problem.code), (401, Code::TokenUnknown));
    assert!(problem.guidance.is_some());

    let (token, id) = fleet.token("withdrawn", None).await;
    let mut tx = fleet.db().begin().await.unwrap();
    assert!(enrolments::withdraw(&mut tx, id, fleet.manager().now()).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(agent.enrol(&token).await.unwrap_err().1.code, Code::TokenUnknown);

    let (token, _) = fleet.token("expired", None).await;
    fleet.advance(SignedDuration::from_mins(61));
    assert_eq!(agent.enrol(&token).await.unwrap_err().1.code, Code::TokenExpired);
    assert!(hosts::list(fleet.db().read()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_second_use_of_a_token_holds_the_first_machine_at_once() {
    let fleet = Fleet::start().await;
    let (token, _) = fleet.token("box", None).await;
    let mut first = Agent::new(&fleet);
    first.enrol(&token).await.unwrap();
    let (mut link, _) = first.connect().await;

    let mut second = Agent::new(&fleet);
    let (status, problem) = second.enrol(&token).await.unwrap_err();
    assert_eq!((status, problem.code), (401, Code::TokenUsed));
    link.ended().await;
    let (_link, welcome) = first.connect().await;
    assert_eq!(welcome.hold.unwrap().code, Code::EnrolmentSuspect);
    assert!(welcome.ticket.is_none());
    let notices = fleet.notices().await;
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].code, Code::EnrolmentSuspect);

    // The admin looked, and the first machine is the right one.
    assert!(fleet.manager().release(first.host()).await.unwrap());
    let (_link, welcome) = first.connect().await;
    assert!(welcome.hold.is_none() && welcome.ticket.is_some());
    assert!(fleet.notices().await.is_empty());
}

#[tokio::test]
async fn the_same_machine_may_ask_again_because_its_answer_was_lost() {
    let fleet = Fleet::start().await;
    let (token, _) = fleet.token("box", None).await;
    let mut agent = Agent::new(&fleet);
    agent.enrol(&token).await.unwrap();
    let first = agent.host();
    agent.enrol(&token).await.unwrap();
    assert_eq!(agent.host(), first);
    assert!(fleet.notices().await.is_empty());

    let (other, _) = fleet.token("other", None).await;
    assert_eq!(agent.enrol(&other).await.unwrap_err().1.code, Code::KeyAlreadyEnrolled);
}

#[tokio::test]
async fn an_agent_of_an_unknown_past_or_without_a_key_is_refused_by_name() {
    let fleet = Fleet::start().await;
    let (token, _) = fleet.token("box", None).await;
    let mut agent = Agent::new(&fleet);
    agent.version = ProtocolVersion(0);
    let (status, problem) = agent.enrol(&token).await.unwrap_err();
    assert_eq!((status, problem.code), (400, Code::AgentTooOld));

    let (status, body) = agent.http(false, "POST /agent/enrol", "{}").await;
    assert_eq!(status, 401);
    assert!(body.contains("client_key_missing"), "{body}");
    let (status, body) = agent.http(true, "POST /agent/enrol", "[[[[").await;
    assert_eq!(status, 400);
    assert!(body.contains("invalid_input"), "{body}");
    let (status, _) = agent.http(true, "POST /agent/enrol", &"x".repeat(100_000)).await;
    assert_eq!(status, 413);
}

#[tokio::test]
async fn wrong_tokens_are_slowed_down_by_address() {
    let fleet = Fleet::start().await;
    let mut agent = Agent::new(&fleet);
    for _ in 0..10 {
        assert_eq!(agent.enrol("wrong").await.unwrap_err().0, 401);
    }
    let (status, problem) = agent.enrol("wrong").await.unwrap_err();
    assert_eq!((status, problem.code), (429, Code::TooManyAttempts));
    fleet.advance(SignedDuration::from_mins(1));
    assert_eq!(agent.enrol("wrong").await.unwrap_err().0, 401);
}

#[tokio::test]
async fn two_machines_that_race_with_one_token_leave_one_enrolled_and_held() {
    let fleet = Fleet::start().await;
    let (token, _) = fleet.token("box", None).await;
    let (mut one, mut two) = (Agent::new(&fleet), Agent::new(&fleet));
    let (first, second) = soon(async { tokio::join!(one.enrol(&token), two.enrol(&token)) }).await;
    assert!(first.is_ok() != second.is_ok());
    let host = if first.is_ok() { one.host() } else { two.host() };
    let held = fleet.until_host(host, |host| host.hold.is_some()).await;
    assert_eq!(held.hold.unwrap().code, Code::EnrolmentSuspect);
}
