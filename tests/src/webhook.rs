//! A server with TLS to which agents tell their alarms.

use anyhow::Result;
use rustls::{ServerConfig, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// What a request was: its first line, its headers in small letters, and its JSON.
#[derive(Clone, Debug)]
pub struct Told {
    /// Method and path.
    pub line: String,
    /// All headers.
    pub head: String,
    /// The body; null where it is no JSON.
    pub body: Value,
}

/// A running server. Dropped, it ends.
#[derive(Debug)]
pub struct Webhook {
    /// Where it listens.
    pub url: String,
    /// The certificate that an agent has to trust, as a file in PEM.
    pub ca_file: PathBuf,
    told: Arc<Mutex<Vec<Told>>>,
    task: JoinHandle<()>,
}

impl Webhook {
    /// Starts one with its certificate in this folder.
    ///
    /// # Errors
    /// When there is no port, or the certificate cannot be written.
    pub async fn start(folder: &Path) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        std::fs::create_dir_all(folder)?;
        let ca_file = folder.join("webhook.pem");
        std::fs::write(&ca_file, made.cert.pem())?;
        let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes())?;
        let certificate = CertificateDer::from_pem_slice(made.cert.pem().as_bytes())?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("https://localhost:{}/hook", listener.local_addr()?.port());
        let told = Arc::new(Mutex::new(Vec::new()));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let task = tokio::spawn(serve(listener, acceptor, Arc::clone(&told)));
        Ok(Self { url, ca_file, told, task })
    }

    /// All that it was told, in order.
    #[must_use]
    pub fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The states that it was told of, in order.
    #[must_use]
    pub fn states(&self) -> Vec<String> {
        let state = |told: &Told| told.body["state"].as_str().unwrap_or_default().to_owned();
        self.told().iter().map(state).collect()
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, told: Arc<Mutex<Vec<Told>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        // One that hangs up in the middle has told nothing.
        let _ = take(&acceptor, stream, &told).await;
    }
}

async fn take(acceptor: &TlsAcceptor, stream: TcpStream, told: &Mutex<Vec<Told>>) -> Result<()> {
    let mut stream = BufReader::new(acceptor.accept(stream).await?);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await?;
        if header.trim().is_empty() {
            break;
        }
        let header = header.to_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        head.push_str(&header);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let line = line.trim().trim_end_matches(" HTTP/1.1").to_owned();
    told.lock().unwrap_or_else(PoisonError::into_inner).push(Told { line, head, body });
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
    stream.flush().await?;
    Ok(())
}
