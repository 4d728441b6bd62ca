//! What an announcing agent says, when it says it, and to whom.

use crate::support::{Authority, Bench, FakeManager};
use agent::{announce::announce, identity::Enrolment};
use protocol::{
    AnnounceRequest, AnnounceResponse, Code, Commitment, Meeting, Nonce, Problem, RevealRequest,
    ShortCode,
};
use schedule::{Clock, SystemClock};
use serde_json::{Value, json};
use std::cell::Cell;

fn response() -> AnnounceResponse {
    AnnounceResponse { id: uuid::Uuid::from_bytes([1; 16]), nonce: Nonce::from([2; 32]) }
}

/// The commitment, and then the nonce, of an agent that announces itself here.
async fn hears(manager: &FakeManager) -> (AnnounceRequest, Nonce) {
    let answer = serde_json::to_value(response()).unwrap();
    let (line, announced) = manager.answer("200 OK", &answer).await;
    assert_eq!(line.trim_end(), "POST /agent/announce HTTP/1.1");
    let (line, revealed) = manager.answer("200 OK", &Value::Null).await;
    assert!(line.contains("/01010101-0101-0101-0101-010101010101/reveal "), "{line}");
    let reveal: RevealRequest = serde_json::from_value(revealed).unwrap();
    (serde_json::from_value(announced).unwrap(), reveal.nonce)
}

#[tokio::test]
async fn the_nonce_is_revealed_last_and_the_pin_is_the_key_that_the_code_covers() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    let shown = Cell::new(None);
    let ask = |code: ShortCode| {
        shown.set(Some(code));
        Ok(code.to_string())
    };
    let plays = async {
        let (announced, nonce) = hears(&manager).await;
        assert_eq!(announced.hostname, "web-1");
        // The admin takes a while, and the first answer after that is lost.
        let (line, _) = manager.answer("202 Accepted", &Value::Null).await;
        assert!(line.contains("/confirm "), "{line}");
        drop(manager.accept_tls().await);
        manager.answer("200 OK", &manager.welcome_to_the_fleet()).await;
        (announced, nonce)
    };
    let joining = manager.joining(&bench.state);
    let ((announced, agent_nonce), enrolled) =
        tokio::join!(plays, announce(joining, SystemClock.now(), ask));
    let enrolled = enrolled.unwrap();
    assert_eq!(enrolled, Enrolment::load(&bench.state).unwrap());
    assert_eq!(enrolled.manager_key, manager.key);
    let identity = agent::identity::Identity::load(&bench.state).unwrap();
    let agent_key = identity.fingerprint().unwrap();
    assert_eq!(announced.commitment, Commitment::to(&agent_key, agent_nonce));
    let manager_key = *manager.key.as_bytes();
    let meeting = Meeting { agent_key, manager_key, agent_nonce, manager_nonce: response().nonce };
    assert_eq!(shown.get(), Some(meeting.code()));
}

#[tokio::test]
async fn another_manager_in_the_middle_of_it_hears_nothing() {
    let mut manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    let joining = manager.joining(&bench.state);
    let plays = async {
        let answer = serde_json::to_value(response()).unwrap();
        manager.answer("200 OK", &answer).await;
        manager.becomes(&Authority::new());
        // A client of TLS 1.3 may finish its part after the server's: what counts is what was sent.
        if let Some(mut stream) = manager.accept_tls().await {
            let mut bytes = Vec::new();
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut bytes).await;
            assert!(bytes.is_empty(), "something was sent");
        }
    };
    let ask = |_| panic!("there is no code to show");
    let ((), refused) = tokio::join!(plays, announce(joining, SystemClock.now(), ask));
    let words = format!("{:#}", refused.unwrap_err());
    assert!(words.contains("Nothing was written"), "{words}");
    assert!(!bench.state.is_enrolled() && !bench.state.key().exists());
}

#[tokio::test]
async fn a_refusal_says_what_to_do_and_leaves_nothing_behind() {
    for (code, words) in [
        (Code::AnnouncementOver, "Announce the machine again"),
        (Code::AnnouncementRefused, "Ask the manager's admin"),
        (Code::TooManyAttempts, "try again"),
    ] {
        let manager = FakeManager::start(&Authority::new()).await;
        let bench = Bench::new();
        let plays = async {
            hears(&manager).await;
            let problem = serde_json::to_value(Problem::new(code, "No.")).unwrap();
            manager.answer("403 Forbidden", &problem).await;
        };
        let ask = |code: ShortCode| Ok(code.to_string());
        let joining = manager.joining(&bench.state);
        let ((), refused) = tokio::join!(plays, announce(joining, SystemClock.now(), ask));
        let error = refused.unwrap_err();
        assert_eq!(error.downcast_ref::<Problem>().unwrap().code, code);
        assert!(format!("{error:#}").contains(words), "{code}: {error:#}");
        assert!(!bench.state.is_enrolled() && !bench.state.key().exists());
    }
}

#[tokio::test]
async fn a_code_that_is_not_the_one_shown_ends_it_before_anything_is_confirmed() {
    for typed in ["AAAA-AAAA", "no code", "yes"] {
        let manager = FakeManager::start(&Authority::new()).await;
        let bench = Bench::new();
        let joining = manager.joining(&bench.state);
        let ask = |_| Ok(typed.to_owned());
        let (_, refused) = tokio::join!(hears(&manager), announce(joining, SystemClock.now(), ask));
        let words = format!("{:#}", refused.unwrap_err());
        assert!(words.contains("Nothing was written"), "{words}");
        assert!(!bench.state.is_enrolled() && !bench.state.key().exists());
    }
}

#[tokio::test]
async fn a_server_that_is_no_manager_gets_nothing() {
    let manager = FakeManager::start(&Authority::new()).await;
    let bench = Bench::new();
    let joining = manager.joining(&bench.state);
    let ask = |_| panic!("there is no code to show");
    let nothing = json!("?");
    let answers = manager.answer("404 Not Found", &nothing);
    let (_, refused) = tokio::join!(answers, announce(joining, SystemClock.now(), ask));
    let words = format!("{:#}", refused.unwrap_err());
    assert!(words.contains("is no manager that this agent understands"), "{words}");
}
