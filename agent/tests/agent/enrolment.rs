//! Every way in which an enrolment or a greeting can go wrong, and the words for it.

use crate::support::{Authority, Bench, FakeManager, status_when};
use agent::{enrol::enrol, identity::Enrolment, status::Link};
use protocol::{Code, Hold, PROTOCOL_VERSION, Problem, Refused, ToAgent, Welcome};
use schedule::{Clock, SystemClock};

/// What a person reads when the manager refuses the token.
async fn refusal(code: Code) -> (String, Bench) {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    let problem = serde_json::to_value(Problem::new(code, "No.")).unwrap();
    let (_, refused) = tokio::join!(
        manager.answer_enrolment("403 Forbidden", &problem),
        enrol(manager.enrol_options(&bench.state), SystemClock.now())
    );
    let error = refused.unwrap_err();
    assert_eq!(error.downcast_ref::<Problem>().unwrap().code, code);
    (format!("{error:#}"), bench)
}

#[tokio::test]
async fn a_refused_token_says_what_to_do_and_leaves_nothing_behind() {
    for (code, words) in [
        (Code::TokenUnknown, "Copy the whole install line"),
        (Code::TokenExpired, "new install line"),
        (Code::TokenUsed, "somebody else did"),
        (Code::HostRevoked, "new install line"),
        (Code::AgentTooOld, "Install the agent that the manager offers"),
    ] {
        let (text, bench) = refusal(code).await;
        assert!(text.contains(words), "{code}: {text}");
        assert!(!text.contains("canary"), "{text}");
        assert!(!bench.state.is_enrolled());
        assert!(!bench.state.key().exists());
    }
}

#[tokio::test]
async fn the_token_travels_in_the_body_and_the_machine_tells_what_it_is() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    let answer = manager.welcome_to_the_fleet();
    let (asked, enrolled) = tokio::join!(
        manager.answer_enrolment("200 OK", &answer),
        enrol(manager.enrol_options(&bench.state), SystemClock.now())
    );
    assert_eq!(asked.token.expose_secret(), "canary-token");
    assert_eq!((asked.hostname.as_str(), asked.protocol_version), ("web-1", PROTOCOL_VERSION));
    assert_eq!(enrolled.unwrap(), Enrolment::load(&bench.state).unwrap());
}

#[tokio::test]
async fn another_authority_is_not_the_manager_and_never_sees_the_token() {
    let ours = Authority::new();
    let theirs = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    let mut options = theirs.enrol_options(&bench.state);
    options.manager_key = ours.manager_key();
    let (handshake, refused) = tokio::join!(theirs.accept_tls(), enrol(options, SystemClock.now()));
    // A client of TLS 1.3 may finish its part after the server's: what counts is what was sent.
    if let Some(mut stream) = handshake {
        let mut bytes = Vec::new();
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut bytes).await;
        assert!(bytes.is_empty(), "something was sent");
    }
    let words = format!("{:#}", refused.unwrap_err());
    assert!(words.contains("is not the manager this machine was enrolled with"), "{words}");
    assert!(words.contains("The token was not used"), "{words}");
    assert!(!bench.state.is_enrolled());
}

#[tokio::test]
async fn a_machine_is_enrolled_anew_only_on_request_and_the_old_state_is_kept() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    manager.enrol(&bench.state).await;
    let key = std::fs::read(bench.state.key()).unwrap();
    let refused = enrol(manager.enrol_options(&bench.state), SystemClock.now()).await;
    let words = refused.unwrap_err().to_string();
    assert!(words.contains("--again"), "{words}");

    let mut options = manager.enrol_options(&bench.state);
    options.joining.again = true;
    let answer = manager.welcome_to_the_fleet();
    let (_, enrolled) = tokio::join!(
        manager.answer_enrolment("200 OK", &answer),
        enrol(options, SystemClock.now())
    );
    enrolled.unwrap();
    assert_ne!(std::fs::read(bench.state.key()).unwrap(), key);
    let kept: Vec<_> = std::fs::read_dir(bench.state.path())
        .unwrap()
        .filter_map(|entry| entry.ok()?.path().join("agent.key").canonicalize().ok())
        .collect();
    assert_eq!(std::fs::read(&kept[0]).unwrap(), key);
}

#[tokio::test]
async fn a_manager_that_moved_is_found_where_it_said_and_a_wrong_address_strands_nobody() {
    let authority = Authority::new();
    let (before, after) =
        (FakeManager::start(&authority).await, FakeManager::start(&authority).await);
    let bench = Bench::new();
    before.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = before.session().await;
    let (repository, source) = (bench.repository(), bench.source());
    let moved = vec![after.address()];
    session.desire_at(&before, 1, &repository, &source, moved).await;
    session.close().await;
    // The next attempt goes to the new address, although the old one still answers.
    let mut session = after.session().await;
    let nowhere = vec!["127.0.0.1:1".to_owned()];
    session.desire_at(&after, 2, &repository, &source, nowhere).await;
    session.close().await;
    let status = status_when(&bench.state, |status| status.addresses[0] == "127.0.0.1:1").await;
    assert_eq!(status.addresses, ["127.0.0.1:1".to_owned(), before.address()]);
    let session = before.session().await;
    drop(session);
    agent.stop().await;
}

#[tokio::test]
async fn a_refused_agent_comes_back_slowly_and_its_status_says_why() {
    for code in [Code::HostRevoked, Code::AgentTooOld, Code::CloneSuspected] {
        let manager = FakeManager::start(&Authority::new()).await;
        let bench = Bench::new();
        manager.enrol(&bench.state).await;
        let agent = bench.start().await;
        let mut session = manager.accept().await;
        let problem = Problem::new(code, "No.").guidance("Ask the admin.");
        session.send(ToAgent::Refused(Refused(problem.clone()))).await;
        // The manager hangs up at once: what it said must not be lost over that.
        drop(session);
        let status = status_when(&bench.state, |status| {
            status.connection.link == Link::Waiting && status.connection.problem.is_some()
        })
        .await;
        assert_eq!(status.connection.problem, Some(problem));
        assert!(status.to_string().contains("Ask the admin."), "{status}");
        agent.stop().await;
    }
}

#[tokio::test]
async fn a_held_agent_stays_connected_sends_no_records_and_takes_no_commands() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    manager.enrol(&bench.state).await;
    let agent = bench.start().await;
    let mut session = manager.accept().await;
    let hold =
        Hold { code: Code::CloneSuspected, message: "Two machines use this identity.".to_owned() };
    let welcome = Welcome { hold: Some(hold), ticket: None, ..manager.welcome() };
    session.send(ToAgent::Welcome(Box::new(welcome))).await;
    session.command(crate::support::run_id(1), manager.number(1), crate::support::backup()).await;
    let (frame, _) = session.next().await;
    assert_eq!(frame.kind, "heartbeat");
    let status = status_when(&bench.state, |status| status.connection.link == Link::Held).await;
    assert!(status.to_string().contains("Two machines"), "{status}");
    agent.stop().await;
    assert_eq!(session.next_frame().await.map(|frame| frame.kind), None);
}

#[tokio::test]
async fn an_older_epoch_of_the_manager_is_refused_before_anything_is_sent() {
    let authority = Authority::new();
    let manager = FakeManager::with_epoch(&authority, 5).await;
    let bench = Bench::new();
    manager.enrol(&bench.state).await;
    let stolen = FakeManager::with_epoch(&authority, 4).await;
    let mut enrolment = Enrolment::load(&bench.state).unwrap();
    enrolment.addresses = vec![stolen.address()];
    enrolment.save(&bench.state).unwrap();
    let agent = bench.start().await;
    if let Some(mut stream) = stolen.accept_tls().await {
        let mut bytes = Vec::new();
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut bytes).await;
        assert!(bytes.is_empty(), "something was sent");
    }
    let status = status_when(&bench.state, |status| status.connection.problem.is_some()).await;
    let words = status.to_string();
    assert!(words.contains("old certificate"), "{words}");
    agent.stop().await;
}

#[tokio::test]
async fn an_agent_that_finds_another_manager_says_so() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    manager.enrol(&bench.state).await;
    let other = FakeManager::start(&Authority::new()).await;
    let mut enrolment = Enrolment::load(&bench.state).unwrap();
    enrolment.addresses = vec![other.address(), manager.address()];
    enrolment.save(&bench.state).unwrap();
    let agent = bench.start().await;
    // The first address is another manager; the second one is ours.
    let (_, session) = tokio::join!(other.accept_tls(), manager.accept());
    assert!(session.hello().ticket.is_none());
    agent.stop().await;
}
