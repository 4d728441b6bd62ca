//! `POST /agent/enrol`: a machine comes in with a one-time token. Its identity is the key of its
//! connection; the token only says that it may.

use super::{AgentState, Peer, Refusal};
use crate::{
    db::{
        Tx, audit,
        enrolments::{self, Enrolment, EnrolmentState},
        error::DbError,
        hosts::{self, Fingerprint, Host, HostState},
        notices::{self, NewNotice},
    },
    desired::DesiredError,
    events::Topic,
    manager::Manager,
    newcomer::{Newcomer, answer, take_in},
    session::{greet::hash, handshake::too_old},
    text,
};
use axum::{
    Extension, Json,
    extract::{Request, State},
    http::StatusCode,
};
use protocol::{Code, EnrolRequest, EnrolResponse, Hold, HostId, Problem};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// How long the body may take.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// How large it may be.
const BODY_BYTES: usize = 16 * 1024;

pub(super) async fn enrol(
    State(state): State<AgentState>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Json<EnrolResponse>, Refusal> {
    let key = peer.key.ok_or_else(key_missing)?;
    let manager = state.manager();
    let now = manager.now();
    if !state.attempts.may_try(peer.address.ip(), now) {
        return Err(too_many());
    }
    let request: EnrolRequest = read(request).await?;
    if !request.protocol_version.is_supported() {
        return Err(Refusal(StatusCode::BAD_REQUEST, too_old(request.protocol_version)));
    }
    let outcome = let_in(manager, &request, key).await.map_err(|error| failed(&error))?;
    match outcome {
        Outcome::In { host, is_new } => {
            if is_new {
                manager.events().publish(Topic::Enrolments);
                manager.announce(host).await;
            }
            answer(manager, host).await.map(Json).map_err(|error| failed(&error.into()))
        }
        Outcome::Refused { problem, suspect } => {
            if let Some(host) = suspect {
                manager.announce(host).await;
            }
            if problem.code == Code::TokenUnknown {
                state.attempts.note(peer.address.ip(), now);
            }
            Err(Refusal(StatusCode::UNAUTHORIZED, problem))
        }
    }
}

/// Reads the JSON of a stranger's request.
pub(super) async fn read<T: DeserializeOwned>(request: Request) -> Result<T, Refusal> {
    let reading = axum::body::to_bytes(request.into_body(), BODY_BYTES);
    match tokio::time::timeout(BODY_WITHIN, reading).await {
        Ok(Ok(body)) => serde_json::from_slice(&body).map_err(|_| invalid()),
        Ok(Err(_)) => Err(Refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            Problem::new(Code::TooLarge, "The request is too large."),
        )),
        Err(_) => Err(Refusal(
            StatusCode::REQUEST_TIMEOUT,
            Problem::new(Code::InvalidInput, "The request did not come in time."),
        )),
    }
}

enum Outcome {
    In { host: HostId, is_new: bool },
    Refused { problem: Problem, suspect: Option<HostId> },
}

impl Outcome {
    fn refused(problem: Problem) -> Self {
        Self::Refused { problem, suspect: None }
    }
}

async fn let_in(
    manager: &Manager,
    request: &EnrolRequest,
    key: Fingerprint,
) -> Result<Outcome, DesiredError> {
    let mut tx = manager.db().begin().await?;
    let Some(enrolment) = enrolments::find_by_token(&mut *tx, &hash(&request.token)).await? else {
        return Ok(Outcome::refused(token_unknown()));
    };
    let known = hosts::find_by_key(&mut *tx, &key).await?;
    let outcome = match enrolment.state(manager.now()) {
        EnrolmentState::Withdrawn => Outcome::refused(token_unknown()),
        EnrolmentState::Expired => Outcome::refused(token_expired()),
        EnrolmentState::Used => used(manager, &mut tx, &enrolment, known.as_ref()).await?,
        EnrolmentState::Waiting if known.is_some() => Outcome::refused(already_enrolled()),
        EnrolmentState::Waiting => {
            let newcomer = newcomer(request, key);
            let plan = enrolment.plan_id;
            let host = take_in(manager, &mut tx, &enrolment.name, &newcomer, plan).await?;
            enrolments::mark_used(&mut tx, enrolment.id, host, manager.now()).await?;
            Outcome::In { host, is_new: true }
        }
    };
    tx.commit().await.map_err(DbError::from)?;
    Ok(outcome)
}

fn newcomer(request: &EnrolRequest, key: Fingerprint) -> Newcomer {
    Newcomer {
        key,
        hostname: text::name(&request.hostname),
        os: request.os,
        arch: request.arch,
        agent_version: text::name(&request.agent_version),
        protocol_version: request.protocol_version,
    }
}

/// A token comes a second time. From the machine that has it, the first answer was lost; from any
/// other, one of the two machines is not the admin's.
async fn used(
    manager: &Manager,
    tx: &mut Tx,
    enrolment: &Enrolment,
    known: Option<&Host>,
) -> Result<Outcome, DesiredError> {
    let Some(first) = enrolment.host_id else { return Ok(Outcome::refused(token_used())) };
    if let Some(known) = known.filter(|known| known.id == first) {
        return Ok(match known.state {
            HostState::Enrolled => Outcome::In { host: first, is_new: false },
            HostState::Revoked | HostState::Removed => Outcome::refused(already_enrolled()),
        });
    }
    let message = format!(
        "The one-time token of {} was used by a second machine. One of the two is not the one you meant.",
        text::name(&enrolment.name)
    );
    let hold = Hold { code: Code::EnrolmentSuspect, message: message.clone() };
    hosts::set_hold(tx, first, &hold).await?;
    let subject = format!("host:{first}");
    audit::insert(tx, manager.now(), "agent", "host.hold", &subject, &enrolment.name).await?;
    let notice = NewNotice::of_host(first, Code::EnrolmentSuspect, message)
        .guidance("Check on the machine itself that it is enrolled, then release it; or remove it and enrol again.")
        .hold();
    notices::open(tx, manager.new_id(), &notice, manager.now()).await?;
    Ok(Outcome::Refused { problem: token_used(), suspect: Some(first) })
}

fn invalid() -> Refusal {
    let problem = Problem::new(Code::InvalidInput, "The request is no valid JSON document.");
    Refusal(StatusCode::BAD_REQUEST, problem)
}

pub(super) fn failed(error: &DesiredError) -> Refusal {
    tracing::error!(error = error as &dyn std::error::Error, "failed to enrol a machine");
    Refusal(
        StatusCode::INTERNAL_SERVER_ERROR,
        Problem::new(
            Code::Internal,
            "The manager could not enrol the machine; nothing was changed.",
        )
        .guidance("Try again; the manager's log has the cause."),
    )
}

pub(super) fn key_missing() -> Refusal {
    let problem = Problem::new(
        Code::ClientKeyMissing,
        "The connection shows no client certificate, so nothing says who the agent is.",
    );
    Refusal(StatusCode::UNAUTHORIZED, problem.guidance("Enrol with the agent of this product."))
}

pub(super) fn too_many() -> Refusal {
    let problem =
        Problem::new(Code::TooManyAttempts, "Too many wrong tokens came from this address.");
    Refusal(StatusCode::TOO_MANY_REQUESTS, problem.guidance("Wait a minute and try again."))
}

pub(super) fn token_unknown() -> Problem {
    Problem::new(Code::TokenUnknown, "This token is not known here, or was withdrawn.")
        .guidance("Make a new install line for this machine in the manager.")
}

pub(super) fn token_expired() -> Problem {
    Problem::new(Code::TokenExpired, "This token is too old.")
        .guidance("Make a new install line for this machine in the manager.")
}

fn token_used() -> Problem {
    Problem::new(
        Code::TokenUsed,
        "This token was used before. The machine that used it is held until the admin has looked.",
    )
    .guidance("Make a new install line for this machine in the manager, and look at its notices.")
}

pub(super) fn already_enrolled() -> Problem {
    Problem::new(Code::KeyAlreadyEnrolled, "The agent's key already belongs to a machine.")
        .guidance("Remove the agent's state folder on this machine, so that it makes a new key, and enrol again.")
}
