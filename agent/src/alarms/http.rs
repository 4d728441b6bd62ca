//! One request over HTTP, of whose answer the status alone counts. A redirection is not followed: what the
//! request bears is meant for this server.

use super::{
    CONNECT_WITHIN, DONE_WITHIN, Roots, Stream, no_address, no_answer, not_sent, secure,
    unreachable, within,
};
use crate::core::Attempt;
use http_body_util::Full;
use hyper::{
    StatusCode, Uri,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
    http::request::Builder,
};
use hyper_util::rt::TokioIo;
use protocol::{Code, Problem, Secret};
use std::io;
use tokio::{net::TcpStream, time::timeout};

/// What an address says.
struct Place {
    is_tls: bool,
    host: String,
    port: u16,
    /// As the header `host` names it.
    authority: String,
    path: String,
}

fn place(url: &Secret<String>) -> Option<Place> {
    let uri: Uri = url.expose_secret().parse().ok()?;
    let is_tls = match uri.scheme_str()? {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let authority = uri.authority()?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let name = authority.as_str();
    // Nobody's name and password belong into this header.
    let authority = name.rsplit_once('@').map_or(name, |(_, after)| after).to_owned();
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    Some(Place { is_tls, host, port, authority, path })
}

pub(super) async fn send(
    url: &Secret<String>,
    request: Builder,
    body: Vec<u8>,
    roots: &Roots,
) -> Attempt {
    let Some(place) = place(url) else { return not_sent(no_address(), false) };
    let request = request
        .uri(place.path.as_str())
        .header(header::HOST, &place.authority)
        .header(header::USER_AGENT, "restic-manager-agent")
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::from(body)));
    let Ok(request) = request else { return not_sent(no_address(), false) };
    let connected = timeout(CONNECT_WITHIN, connect(&place, roots))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    match connected {
        Ok(stream) => within(DONE_WITHIN, exchange(stream, request)).await,
        Err(error) => not_sent(unreachable(&error), true),
    }
}

async fn connect(place: &Place, roots: &Roots) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect((place.host.as_str(), place.port)).await?;
    if place.is_tls { secure(&place.host, stream, roots).await } else { Ok(Box::new(stream)) }
}

async fn exchange(stream: Box<dyn Stream>, request: hyper::Request<Full<Bytes>>) -> Attempt {
    let Ok((mut sender, connection)) = http1::handshake(TokioIo::new(stream)).await else {
        return not_sent(unreachable(&io::ErrorKind::ConnectionReset.into()), true);
    };
    let answer = sender.send_request(request);
    tokio::pin!(answer);
    let answer = tokio::select! {
        answer = &mut answer => answer,
        // The connection's own task ends when the server closes; the answer may be there.
        _ = connection => answer.await,
    };
    match answer {
        Ok(answer) => judge(&answer),
        // It was never begun.
        Err(error) if error.is_canceled() => {
            not_sent(unreachable(&io::ErrorKind::ConnectionReset.into()), true)
        }
        Err(_) => Attempt::Uncertain(no_answer()),
    }
}

fn judge(answer: &hyper::Response<Incoming>) -> Attempt {
    let status = answer.status();
    if status.is_success() {
        return Attempt::Sent;
    }
    if status.is_redirection() {
        let problem = Problem::new(
            Code::ChannelRefused,
            format!(
                "The server answered {}, which leads elsewhere; nothing is sent there.",
                status.as_u16()
            ),
        )
        .guidance("Enter the address to which it leads.");
        return not_sent(problem, false);
    }
    let passes = status.is_server_error()
        || [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS]
            .contains(&status);
    let problem = Problem::new(
        Code::ChannelRefused,
        format!("The server answered {} and did not take the message.", status.as_u16()),
    );
    let problem = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            problem.guidance("Check the channel's token.")
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            problem.guidance("Check the channel's address.")
        }
        _ => problem,
    };
    not_sent(problem, passes)
}
