//! `POST /agent/announce` and what follows it: a machine without a token asks to join. The three
//! requests come on connections of one key, which becomes the machine's identity.

use super::{
    AgentState, Peer, Refusal,
    enrol::{already_enrolled, failed, key_missing, read},
    rate::network,
};
use crate::{
    announcements::{Announcement, Answer, NewAnnouncement, Unheard},
    db::{
        audit,
        error::DbError,
        hosts::{self, Fingerprint},
    },
    manager::Manager,
    newcomer::{Newcomer, answer},
    session::handshake::too_old,
    text,
};
use axum::{
    Extension, Json,
    extract::{Path, Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use protocol::{AnnounceRequest, AnnounceResponse, Code, Nonce, Problem, RevealRequest};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How long a machine is kept waiting for an answer before it has to ask again.
const WAIT: Duration = Duration::from_secs(20);

pub(super) async fn announce(
    State(state): State<AgentState>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Json<AnnounceResponse>, Refusal> {
    let key = peer.key.ok_or_else(key_missing)?;
    let (manager, address) = (state.manager(), peer.address.ip());
    let now = manager.now();
    if !state.announced.may_try(address, now) {
        return Err(too_often());
    }
    state.announced.note(address, now);
    let request: AnnounceRequest = read(request).await?;
    if !request.protocol_version.is_supported() {
        return Err(Refusal(StatusCode::BAD_REQUEST, too_old(request.protocol_version)));
    }
    let known = hosts::find_by_key(manager.db().read(), &key).await;
    if known.map_err(|error| failed(&error.into()))?.is_some() {
        return Err(Refusal(StatusCode::CONFLICT, already_enrolled()));
    }
    let nonce = manager.random_bytes().map(Nonce::from).map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "failed to make a nonce");
        let problem = Problem::new(Code::Internal, "The manager has no random numbers.");
        Refusal(StatusCode::INTERNAL_SERVER_ERROR, problem)
    })?;
    let newcomer = Newcomer {
        key,
        hostname: text::label(&request.hostname),
        os: request.os,
        arch: request.arch,
        agent_version: text::label(&request.agent_version),
        protocol_version: request.protocol_version,
    };
    let new = NewAnnouncement {
        id: manager.new_id(),
        commitment: request.commitment,
        manager_nonce: nonce,
        newcomer,
        address: address.to_canonical(),
        network: network(address),
    };
    let id = new.id;
    manager.announcements().announce(new, now).map_err(|_| too_many())?;
    Ok(Json(AnnounceResponse { id, nonce }))
}

pub(super) async fn reveal(
    State(state): State<AgentState>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    request: Request,
) -> Result<StatusCode, Refusal> {
    let (key, id) = (peer.key.ok_or_else(key_missing)?, read_id(&id)?);
    let RevealRequest { nonce } = read(request).await?;
    let manager = state.manager();
    let (root, now) = (manager.identity().root_public_key(), manager.now());
    let shown = manager.announcements().reveal(id, &key, nonce, root, now).map_err(unheard)?;
    if let Some(shown) = shown {
        note(manager, &shown).await.map_err(|error| failed(&error.into()))?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// That a machine asked stands in the audit log, whatever becomes of it.
async fn note(manager: &Manager, shown: &Announcement) -> Result<(), DbError> {
    let mut tx = manager.db().begin().await?;
    let subject = format!("announcement:{}", shown.id);
    let detail = &shown.newcomer.hostname;
    audit::insert(&mut tx, manager.now(), "agent", "announcement.create", &subject, detail).await?;
    tx.commit().await?;
    Ok(())
}

/// Waits for the admin's decision, but not for long: `202 Accepted` says to ask again.
pub(super) async fn confirm(
    State(state): State<AgentState>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let (key, id) = (peer.key.ok_or_else(key_missing)?, read_id(&id)?);
    let until = Instant::now() + WAIT;
    let manager = state.manager();
    let mut decisions = manager.announcements().watch();
    loop {
        match heard(manager, id, &key)? {
            Answer::Approved(host) => {
                let answer = answer(manager, host).await.map_err(|error| failed(&error.into()))?;
                return Ok(Json(answer).into_response());
            }
            Answer::Waiting => {}
        }
        if tokio::time::timeout_at(until, decisions.changed()).await.is_err() {
            return Ok(StatusCode::ACCEPTED.into_response());
        }
    }
}

fn heard(manager: &Manager, id: Uuid, key: &Fingerprint) -> Result<Answer, Refusal> {
    manager.announcements().confirm(id, key, manager.now()).map_err(unheard)
}

fn read_id(text: &str) -> Result<Uuid, Refusal> {
    text.parse().map_err(|_| unheard(Unheard::Over))
}

fn unheard(why: Unheard) -> Refusal {
    match why {
        Unheard::Over => Refusal(
            StatusCode::NOT_FOUND,
            Problem::new(
                Code::AnnouncementOver,
                "This machine's announcement is over: nobody approved it within a quarter of an hour, or the manager was started anew.",
            )
            .guidance("Announce the machine again."),
        ),
        Unheard::CommitmentBroken => Refusal(
            StatusCode::FORBIDDEN,
            Problem::new(
                Code::CommitmentBroken,
                "What the agent revealed is not what it had committed to, so the announcement was dropped.",
            )
            .guidance("Somebody between this machine and the manager may have changed it. Announce the machine again over another network, or use an install line."),
        ),
        Unheard::Refused => Refusal(
            StatusCode::FORBIDDEN,
            Problem::new(Code::AnnouncementRefused, "The manager's admin refused this machine.")
                .guidance("Ask why. If it was a mistake, announce the machine again."),
        ),
    }
}

fn too_often() -> Refusal {
    let message = "This address has announced machines too often; this one was not added.";
    let problem = Problem::new(Code::TooManyAttempts, message);
    Refusal(StatusCode::TOO_MANY_REQUESTS, problem.guidance("Wait a minute and try again."))
}

fn too_many() -> Refusal {
    let problem = Problem::new(
        Code::TooManyAttempts,
        "Too many machines ask to join already; this one was not added.",
    )
    .guidance("Approve or refuse those that ask in the manager, or wait a quarter of an hour.");
    Refusal(StatusCode::TOO_MANY_REQUESTS, problem)
}
