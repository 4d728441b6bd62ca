//! Sends one message by one channel, once, and says what came of it. Whether it is sent again, somebody else
//! decides; so what is certain must be told from what is not: before anything was handed over nothing
//! arrived, after that only an answer counts.

mod guarded;
mod http;
mod mail;

use crate::core::{AlarmEvent, AlarmMessage, Attempt, Parcel};
use hyper::{Method, Uri, header, http::request::Builder};
use protocol::{AlarmTarget, Code, Problem, Secret};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, ServerName};
use sha2::{Digest as _, Sha256};
use std::{fmt, io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// How long connecting may take, TLS included.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);

/// How long handing a message over and the answer may take.
const DONE_WITHIN: Duration = Duration::from_secs(45);

/// Whom to believe about who a server is.
#[derive(Clone, Debug)]
pub enum Roots {
    /// The system's own list, with what its admin has added.
    System,
    /// These alone.
    Only(Vec<CertificateDer<'static>>),
}

impl Roots {
    /// The list is read for each attempt: alarms are seldom, and it takes more memory than the agent.
    fn read(&self) -> Vec<CertificateDer<'static>> {
        match self {
            Self::System => rustls_native_certs::load_native_certs().certs,
            Self::Only(certificates) => certificates.clone(),
        }
    }

    fn config(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(self.read());
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}

/// A connection, plain or secured.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync + fmt::Debug {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync + fmt::Debug> Stream for T {}

/// Secures a connection to the server of this name.
async fn secure(host: &str, stream: TcpStream, roots: &Roots) -> io::Result<Box<dyn Stream>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let config = roots.config().map_err(io::Error::other)?;
    Ok(Box::new(TlsConnector::from(config).connect(name, stream).await?))
}

/// Sends a message.
pub async fn deliver(parcel: &Parcel, roots: &Roots) -> Attempt {
    let message = &parcel.message;
    match &parcel.channel.target {
        AlarmTarget::Webhook { url, token } => {
            let body = serde_json::to_vec(message).unwrap_or_default();
            let request = bearing(Builder::new().method(Method::POST), token.as_ref())
                .header(header::CONTENT_TYPE, "application/json");
            http::send(url, request, body, roots).await
        }
        AlarmTarget::Ntfy { url, token } => {
            let (priority, tags) = match message.state {
                AlarmEvent::Failed => ("4", "rotating_light"),
                AlarmEvent::Overdue => ("4", "hourglass"),
                AlarmEvent::Good => ("3", "white_check_mark"),
                AlarmEvent::Test => ("3", "bell"),
            };
            let request = bearing(Builder::new().method(Method::POST), token.as_ref())
                .header("title", encoded_word(&message.title))
                .header("priority", priority)
                .header("tags", tags)
                .header(header::CONTENT_TYPE, "text/plain; charset=utf-8");
            http::send(url, request, message.text.clone().into_bytes(), roots).await
        }
        AlarmTarget::Ping { url } => match ping_url(url, message) {
            Some(url) => {
                http::send(&url, Builder::new().method(Method::GET), Vec::new(), roots).await
            }
            None => not_sent(no_address(), false),
        },
        AlarmTarget::Smtp { host, port, security, username, password, from, to } => {
            let server = mail::Server {
                host,
                port: *port,
                security: *security,
                sign_in: username.as_deref().zip(password.as_ref()),
            };
            mail::send(&server, from, to, message, roots).await
        }
        AlarmTarget::Unknown => {
            let problem = Problem::new(
                Code::CapabilityMissing,
                "The agent does not know this kind of channel.",
            )
            .guidance("Update the agent on this machine.");
            not_sent(problem, false)
        }
    }
}

/// Where a ping goes: the check itself, its `/fail`, or `/log`, which changes nothing.
fn ping_url(url: &Secret<String>, message: &AlarmMessage) -> Option<Secret<String>> {
    let plan = message.plan.as_deref().unwrap_or("test");
    let filled = url
        .expose_secret()
        .replace("{machine}", &slug(&message.machine))
        .replace("{plan}", &slug(plan));
    let uri: Uri = filled.parse().ok()?;
    let end = match message.state {
        AlarmEvent::Good => "",
        AlarmEvent::Failed | AlarmEvent::Overdue => "/fail",
        AlarmEvent::Test => "/log",
    };
    let query = uri.query().map_or_else(String::new, |query| format!("?{query}"));
    let path = if end.is_empty() { uri.path() } else { uri.path().trim_end_matches('/') };
    Some(Secret::new(format!("{}://{}{path}{end}{query}", uri.scheme_str()?, uri.authority()?)))
}

/// A name as a part of an address: small letters, digits and dashes. Where it cannot be told from what is left
/// of it, a part of its hash follows, so that different names never share a check.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for character in name.chars().flat_map(char::to_lowercase) {
        if character.is_ascii_alphanumeric() {
            slug.push(character);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(slug.trim_end_matches('-').len());
    if slug == name && !slug.is_empty() {
        return slug;
    }
    let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(name)[..4]);
    if slug.is_empty() { hash } else { format!("{slug}-{hash}") }
}

fn bearing(request: Builder, token: Option<&Secret<String>>) -> Builder {
    let Some(token) = token else { return request };
    let value = Secret::new(format!("Bearer {}", token.expose_secret()));
    match header::HeaderValue::from_str(value.expose_secret()) {
        Ok(mut value) => {
            value.set_sensitive(true);
            request.header(header::AUTHORIZATION, value)
        }
        // The manager refuses such a token; without it the server says that one is missing.
        Err(_) => request,
    }
}

/// A text as a header can hold it (RFC 2047).
fn encoded_word(text: &str) -> String {
    if text.is_ascii() && !text.chars().any(|character| character.is_ascii_control()) {
        return text.to_owned();
    }
    format!("=?UTF-8?B?{}?=", data_encoding::BASE64.encode(text.as_bytes()))
}

async fn within(time: Duration, attempt: impl Future<Output = Attempt>) -> Attempt {
    // What is cut off here may be on its way already.
    timeout(time, attempt).await.unwrap_or_else(|_| Attempt::Uncertain(no_answer()))
}

fn not_sent(problem: Problem, again: bool) -> Attempt {
    Attempt::NotSent { problem, again }
}

fn no_answer() -> Problem {
    Problem::new(
        Code::NoAnswer,
        "The message was handed over, and the server did not say whether it took it.",
    )
    .guidance("See there whether it has arrived; it is not sent again.")
}

fn no_address() -> Problem {
    Problem::new(Code::ChannelRefused, "The channel's address is none.")
        .guidance("Correct it in the manager.")
}

/// Why no connection came about. The address stays out: it is a secret.
fn unreachable(error: &io::Error) -> Problem {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::InvalidCertificate(_)) = tls {
        return Problem::new(
            Code::CertificateUnknown,
            "The server's certificate is not valid for this machine; nothing was sent.",
        )
        .guidance(
            "Add the authority that signed it to the machine's own list, or correct the address.",
        );
    }
    let what = if error.kind() == io::ErrorKind::ConnectionRefused {
        "Nothing listens at the channel's address"
    } else if error.kind() == io::ErrorKind::TimedOut {
        "The channel's server did not answer in time"
    } else if tls.is_some() {
        "The connection to the channel's server could not be secured"
    } else {
        "The channel's server cannot be reached"
    };
    Problem::new(Code::ChannelUnreachable, format!("{what}; nothing was sent."))
        .guidance("Check the address, and whether this machine's network lets it through.")
}

#[cfg(test)]
mod tests;
