//! `POST /agent/programs/{system}/{processor}/{program}`: a program for a machine that is being set up. Who
//! shows a token of this manager's that has not run out gets it; the token is not used up by that.

use super::{
    AgentState, Peer, Refusal,
    enrol::{failed, token_expired, token_unknown, too_many},
};
use crate::{
    db::enrolments::{self, EnrolmentState},
    programs::Program,
    session::greet::hash,
    store::Download,
};
use axum::{
    Extension,
    body::Body,
    extract::{Path, Request, State},
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_LENGTH, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use protocol::{Code, HostArch, HostOs, Problem, Secret};
use std::time::Duration;
use tokio::task::spawn_blocking;

/// How long the token may take.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// How large it may be.
const BODY_BYTES: usize = 1024;

pub(super) async fn hand_out(
    State(state): State<AgentState>,
    Extension(peer): Extension<Peer>,
    Path((system, processor, program)): Path<(String, String, String)>,
    request: Request,
) -> Result<Response, Refusal> {
    let manager = state.manager();
    let now = manager.now();
    if !state.attempts.may_try(peer.address.ip(), now) {
        return Err(too_many());
    }
    let token = read_token(request).await?;
    let found = enrolments::find_by_token(manager.db().read(), &hash(&token)).await;
    let is_known = match found.map_err(|error| failed(&error.into()))? {
        None => false,
        Some(enrolment) => match enrolment.state(now) {
            EnrolmentState::Withdrawn => false,
            EnrolmentState::Expired => {
                return Err(Refusal(StatusCode::UNAUTHORIZED, token_expired()));
            }
            // Whoever pastes the line once more gets on, as long as the line holds.
            EnrolmentState::Used if enrolment.expires_at <= now => {
                return Err(Refusal(StatusCode::UNAUTHORIZED, token_expired()));
            }
            EnrolmentState::Waiting | EnrolmentState::Used => true,
        },
    };
    if !is_known {
        state.attempts.note(peer.address.ip(), now);
        return Err(Refusal(StatusCode::UNAUTHORIZED, token_unknown()));
    }
    let (os, arch) = (os_of(&system), arch_of(&processor));
    let file = program_of(&program).and_then(|it| manager.programs().find(it, os, arch));
    let Some(file) = file else { return Err(none(&system, &processor)) };
    let opening = spawn_blocking(move || Download::open(&file)).await;
    let opened = opening.map_err(std::io::Error::other).and_then(|opened| opened);
    let download = opened.map_err(|error| unreadable(&error))?;
    let size = download.size();
    let content = HeaderValue::from_static("application/octet-stream");
    let headers = [(CONTENT_TYPE, content), (CONTENT_LENGTH, size.into())];
    Ok((headers, Body::from_stream(download.read(0..size))).into_response())
}

async fn read_token(request: Request) -> Result<Secret<String>, Refusal> {
    let reading = axum::body::to_bytes(request.into_body(), BODY_BYTES);
    let body = match tokio::time::timeout(BODY_WITHIN, reading).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) | Err(_) => return Err(Refusal(StatusCode::BAD_REQUEST, token_unknown())),
    };
    let token = std::str::from_utf8(&body).unwrap_or_default().trim();
    Ok(Secret::new(token.to_owned()))
}

fn program_of(word: &str) -> Option<Program> {
    match word {
        "agent" => Some(Program::Agent),
        "restic" => Some(Program::Restic),
        _ => None,
    }
}

/// By what `uname -s` says.
fn os_of(word: &str) -> HostOs {
    match word {
        "Linux" => HostOs::Linux,
        "Darwin" => HostOs::Darwin,
        "Windows" => HostOs::Windows,
        _ => HostOs::Unknown,
    }
}

/// By what `uname -m` says.
fn arch_of(word: &str) -> HostArch {
    match word {
        "x86_64" | "amd64" => HostArch::Amd64,
        "aarch64" | "arm64" => HostArch::Arm64,
        _ => HostArch::Unknown,
    }
}

fn none(system: &str, processor: &str) -> Refusal {
    let kind = crate::text::name(&format!("{system} on {processor}"));
    let problem =
        Problem::new(Code::NotFound, format!("This manager has no such program for {kind}."));
    Refusal(
        StatusCode::NOT_FOUND,
        problem.guidance("Install it by hand; the manual says which systems are supported."),
    )
}

fn unreadable(error: &std::io::Error) -> Refusal {
    tracing::error!(error = error as &dyn std::error::Error, "failed to open a program");
    let problem = Problem::new(Code::Internal, "The manager cannot read this program.");
    Refusal(
        StatusCode::INTERNAL_SERVER_ERROR,
        problem.guidance("Its own log has the cause. Try again after that."),
    )
}
