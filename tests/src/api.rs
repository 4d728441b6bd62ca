//! A client of the manager's interface, as the UI is one: HTTPS pinned to the manager's certificate, a
//! session cookie, JSON, and server-sent events.

use crate::canary::Answer;
use anyhow::{Context as _, Result, bail, ensure};
use axum::{
    body::{Body, Bytes},
    http::Request,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::{
    Method, StatusCode,
    header::{self, HeaderMap},
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// What is on its way to somebody who reads nothing, at most.
const UNREAD_BYTES: u32 = 16 * 1024;

/// The request that signs in; its answer sets the session cookie.
pub const SIGN_IN: &str = "POST /api/session";

/// A signed-in client.
#[derive(Clone, Debug)]
pub struct Api {
    client: reqwest::Client,
    base: String,
    ca_pem: String,
    cookie: Option<String>,
    seen: Seen,
}

/// Every answer, for the search for planted secrets.
#[derive(Clone, Debug, Default)]
struct Seen(Arc<Mutex<Vec<Answer>>>);

impl Seen {
    fn add(&self, to: &str, headers: &HeaderMap, body: &[u8]) {
        let mut bytes = Vec::new();
        for (name, value) in headers {
            bytes.extend_from_slice(
                &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\n"].concat(),
            );
        }
        bytes.extend_from_slice(body);
        let answer = Answer { to: to.to_owned(), bytes };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
    }
}

impl Api {
    /// A client of the manager at `base` (`https://host:port`) whose certificate is `ca_pem`, or signed by it.
    ///
    /// # Errors
    /// When the certificate is none.
    pub fn new(base: &str, ca_pem: &str) -> Result<Self> {
        // A second installation finds the first in place, which is what was wanted.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ca = reqwest::Certificate::from_pem(ca_pem.as_bytes())?;
        let client = reqwest::Client::builder()
            .tls_certs_only([ca])
            .connect_timeout(Duration::from_secs(10))
            .build()?;
        let (base, ca_pem) = (base.to_owned(), ca_pem.to_owned());
        Ok(Self { client, base, ca_pem, cookie: None, seen: Seen::default() })
    }

    /// Signs in.
    ///
    /// # Errors
    /// When the password is wrong or the manager is not there.
    pub async fn sign_in(&mut self, password: &str) -> Result<()> {
        let answer = self
            .request(Method::POST, "/api/session")
            .json(&json!({ "password": password }))
            .send()
            .await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await?;
        self.seen.add(SIGN_IN, &headers, &body);
        let words = String::from_utf8_lossy(&body);
        ensure!(status.is_success(), "sign-in was refused: {words}");
        let cookie = headers.get(header::SET_COOKIE);
        let cookie = cookie.context("sign-in set no cookie")?;
        let pair = cookie.to_str()?.split(';').next().unwrap_or_default();
        self.cookie = Some(pair.to_owned());
        Ok(())
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.base))
            .header(header::ORIGIN, &self.base);
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        request
    }

    /// Sends a request and returns status and body.
    ///
    /// # Errors
    /// When the manager does not answer with JSON.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value)> {
        let mut request = self.request(method.clone(), path);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer =
            request.send().await.with_context(|| format!("{method} {path} got no answer"))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let bytes = answer.bytes().await?;
        self.seen.add(&format!("{method} {path}"), &headers, &bytes);
        if bytes.is_empty() {
            return Ok((status, Value::Null));
        }
        let value = serde_json::from_slice(&bytes).with_context(|| {
            format!("{method} {path}: {status}: {}", String::from_utf8_lossy(&bytes))
        })?;
        Ok((status, value))
    }

    async fn succeed(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let (status, value) = self.call(method.clone(), path, body).await?;
        ensure!(status.is_success(), "{method} {path} was refused with {status}: {value}");
        Ok(value)
    }

    /// Reads something.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.succeed(Method::GET, path, None).await
    }

    /// Creates or does something.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.succeed(Method::POST, path, Some(body)).await
    }

    /// Replaces something.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.succeed(Method::PUT, path, Some(body)).await
    }

    /// Does something that must be refused, and returns the problem.
    ///
    /// # Errors
    /// When it is not refused.
    pub async fn refused(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let (status, value) = self.call(method, path, Some(body)).await?;
        if status.is_success() {
            bail!("{path} was not refused: {value}");
        }
        Ok(value)
    }

    /// Everything the manager has answered so far, whatever the request.
    #[must_use]
    pub fn answers(&self) -> Vec<Answer> {
        self.seen.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the session cookie holds; with it anybody is the admin.
    ///
    /// # Errors
    /// When nobody signed in.
    pub fn session(&self) -> Result<&str> {
        let pair = self.cookie.as_deref().context("nobody signed in")?;
        pair.split_once('=').map(|(_, value)| value).context("the cookie has no value")
    }

    /// Reads a stream of events to its end, or until `on_event` says that it has enough.
    ///
    /// # Errors
    /// When the stream breaks.
    pub async fn stream(
        &self,
        path: &str,
        mut on_event: impl FnMut(&str, &Value) -> Flow,
    ) -> Result<()> {
        let mut events = self.open(path).await?;
        while let Some((event, value)) = events.next().await? {
            if on_event(&event, &value) == Flow::Stop {
                break;
            }
        }
        Ok(())
    }

    /// Opens a stream of events, of which nothing is read before somebody asks.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn open(&self, path: &str) -> Result<Events> {
        let answer = self
            .request(Method::GET, path)
            .header(header::ACCEPT, "text/event-stream")
            .send()
            .await?;
        ensure!(answer.status().is_success(), "{path} was refused with {}", answer.status());
        let (seen, path, headers) = (self.seen.clone(), path.to_owned(), answer.headers().clone());
        // In one piece, since a secret may lie across two chunks.
        let whole = Noted { seen, path, headers, body: Vec::new() };
        let body = answer.bytes_stream().map_err(anyhow::Error::from).boxed();
        Ok(Events { whole, body, buffer: Vec::new() })
    }

    /// The same over HTTP/2, as a browser does, on a connection of its own. What nobody reads stays with the
    /// manager, where the buffers of a connection would take megabytes.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn open_unbuffered(&self, path: &str) -> Result<Events> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca_pem.as_bytes())?)?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let place = self.base.trim_start_matches("https://");
        let (name, _) = place.rsplit_once(':').context("an address without a port")?;
        let name = ServerName::try_from(name.to_owned())?;
        let tcp = TcpStream::connect(place).await?;
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
        let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(UNREAD_BYTES)
            .handshake(TokioIo::new(tls))
            .await?;
        tokio::spawn(connection);
        let request = Request::get(format!("{}{path}", self.base))
            .header(header::ORIGIN, &self.base)
            .header(header::COOKIE, self.cookie.as_deref().unwrap_or_default())
            .header(header::ACCEPT, "text/event-stream")
            .body(Body::empty())?;
        let answer = sender.send_request(request).await?;
        ensure!(answer.status().is_success(), "{path} was refused with {}", answer.status());
        let (seen, path, headers) = (self.seen.clone(), path.to_owned(), answer.headers().clone());
        let whole = Noted { seen, path, headers, body: Vec::new() };
        let body = Body::new(answer.into_body()).into_data_stream();
        Ok(Events { whole, body: body.map_err(anyhow::Error::from).boxed(), buffer: Vec::new() })
    }
}

/// A stream of events that is being read.
pub struct Events {
    whole: Noted,
    body: BoxStream<'static, Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Events {
    /// The next event and its data; none at the end.
    ///
    /// # Errors
    /// When the stream breaks.
    pub async fn next(&mut self) -> Result<Option<(String, Value)>> {
        loop {
            while let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                let (event, data) = parse_event(&String::from_utf8_lossy(&block));
                if !data.is_empty() {
                    let value = serde_json::from_str(&data).unwrap_or(Value::String(data));
                    return Ok(Some((event, value)));
                }
            }
            let Some(chunk) = self.body.next().await else { return Ok(None) };
            let chunk = chunk.with_context(|| format!("the stream {} broke", self.whole.path))?;
            self.whole.body.extend_from_slice(&chunk);
            self.buffer.extend_from_slice(&chunk);
        }
    }
}

/// A stream that is being read. However the reading ends, what was read is noted.
struct Noted {
    seen: Seen,
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.seen.add(&format!("GET {}", self.path), &self.headers, &self.body);
    }
}

/// Whether to go on reading a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Enough.
    Stop,
}

fn parse_event(block: &str) -> (String, String) {
    let mut event = "message".to_owned();
    let mut data = Vec::new();
    for line in block.lines() {
        if let Some(rest) = line.strip_prefix("event:") {
            rest.trim().clone_into(&mut event);
        } else if let Some(rest) = line.strip_prefix("data:") {
            data.push(rest.strip_prefix(' ').unwrap_or(rest).to_owned());
        }
    }
    (event, data.join("\n"))
}
