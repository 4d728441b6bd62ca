//! `GET /agent/connect`: an enrolled agent opens its WebSocket.
//!
//! Refusals are said over the WebSocket too: an agent that could read a body here could not be
//! told apart from a proxy's error page.

use super::{AgentState, Peer, Refusal};
use crate::{
    db::{
        error::DbError,
        hosts::{self, Fingerprint, HostState},
    },
    manager::Manager,
    session::{self, greet::check_state},
};
use axum::{
    Extension,
    extract::{
        State, WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket, close_code, rejection::WebSocketUpgradeRejection},
    },
    http::StatusCode,
    response::Response,
};
use protocol::{Code, HostId, MAX_FRAME_BYTES, Problem, Refused, ToAgent};
use std::{collections::BTreeMap, time::Duration};

/// Memory of a connection: the default of 128 KiB would cost ten times as much.
const READ_BUFFER_BYTES: usize = 4_096;
/// What may wait to be written before a session waits itself.
const WRITE_BUFFER_BYTES: usize = 2 * MAX_FRAME_BYTES;
/// Above a frame's limit by the room for saying that it was passed.
const MESSAGE_BYTES: usize = MAX_FRAME_BYTES + 1_024;
/// How long a refusal may take to be written.
const REFUSE_WITHIN: Duration = Duration::from_secs(5);

pub(super) async fn connect(
    State(state): State<AgentState>,
    Extension(peer): Extension<Peer>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let upgrade = upgrade.map_err(|_| {
        let problem = Problem::new(Code::InvalidInput, "This address speaks WebSocket only.");
        Refusal(StatusCode::BAD_REQUEST, problem)
    })?;
    let admission = admit(&state, &peer).await.map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "failed to look up an agent");
        let problem = Problem::new(Code::Internal, "The manager could not look the agent up.");
        Refusal(StatusCode::INTERNAL_SERVER_ERROR, problem)
    })?;
    let admission = admission.and_then(|host| match state.sockets.take(host) {
        Some(place) => Ok((host, place)),
        None => Err(Problem::new(
            Code::TooManyAttempts,
            "This machine has too many connections open already.",
        )),
    });
    let upgrade = upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER_BYTES)
        .max_message_size(MESSAGE_BYTES)
        .max_frame_size(MESSAGE_BYTES);
    // axum runs what follows in a task of its own, which nobody would wait for at shutdown. The
    // token from the tracker stands for it there.
    let token = state.tasks.token();
    let hard = state.hard.clone();
    Ok(upgrade.on_upgrade(move |socket| async move {
        let _token = token;
        let serve = async {
            match admission {
                Ok((host, _place)) => session::socket::run(state.shared, socket, host).await,
                Err(problem) => refuse(socket, problem).await,
            }
        };
        tokio::select! {
            () = serve => {}
            () = hard.cancelled() => {}
        }
    }))
}

async fn admit(state: &AgentState, peer: &Peer) -> Result<Result<HostId, Problem>, DbError> {
    let Some(key) = peer.key else {
        return Ok(Err(Problem::new(
            Code::ClientKeyMissing,
            "The connection shows no client certificate, so nothing says who the agent is.",
        )));
    };
    let manager = state.manager();
    let found = manager.batches().keys.ask(key, |keys| find(manager, keys)).await?.flatten();
    let Some((host, state)) = found else {
        return Ok(Err(Problem::new(
            Code::HostUnknown,
            "This agent's key is not enrolled with this manager.",
        )
        .guidance("Enrol this machine with an install line of this manager.")));
    };
    Ok(check_state(state).map(|()| host))
}

/// Whose these keys are.
async fn find(
    manager: &Manager,
    keys: Vec<Fingerprint>,
) -> Result<Vec<Option<(HostId, HostState)>>, DbError> {
    let hosts = hosts::find_by_keys(manager.db().read(), &keys).await?;
    let hosts: BTreeMap<_, _> = hosts.into_iter().collect();
    Ok(keys.iter().map(|key| hosts.get(key).copied()).collect())
}

async fn refuse(mut socket: WebSocket, problem: Problem) {
    let Ok(text) = ToAgent::Refused(Refused(problem)).encode().and_then(|frame| frame.encode())
    else {
        return;
    };
    let close = CloseFrame { code: close_code::POLICY, reason: "refused".into() };
    let _ = tokio::time::timeout(REFUSE_WITHIN, async {
        socket.send(Message::text(text)).await?;
        socket.send(Message::Close(Some(close))).await
    })
    .await;
}
