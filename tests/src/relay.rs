//! Somebody between a machine that announces itself and its manager: it ends TLS on both sides, with
//! keys of its own, and passes on what the two say, changed as it needs.

use crate::{manager::Ready, puppet::stranger};
use anyhow::{Context as _, Result};
use protocol::{AnnounceRequest, Commitment, Nonce, RevealRequest};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256, PKCS_ED25519,
};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
};
use server::identity::{MANAGER_NAME, ROOT_NAME};
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// What it does to the announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trick {
    /// It announces itself in the machine's place, with a commitment to its own key and nonce.
    SwapsKeys,
    /// The same, and it reveals another nonce than it committed to, as if it had looked for one that
    /// fits a code.
    SwapsKeysAndNonce,
    /// It passes on what the machine said.
    Listens,
}

/// A running relay. Dropped, it ends.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Relay {
    /// A relay to this manager.
    ///
    /// # Errors
    /// When there is no port, or no key can be made.
    pub async fn start(ready: &Ready, trick: Trick) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (far, key) = stranger(ready)?;
        let middle = Arc::new(Middle {
            near: TlsAcceptor::from(Arc::new(posing()?)),
            far: TlsConnector::from(Arc::new(far)),
            manager: ready.agent.clone(),
            key,
            trick,
        });
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let middle = Arc::clone(&middle);
                // What fails on one side ends on the other too, which is what the test looks at.
                tokio::spawn(async move { middle.pass(stream).await });
            }
        });
        Ok(Self { address, task })
    }

    /// Where it listens, `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A manager of its own: everything is as with a real one but the root key.
fn posing() -> Result<ServerConfig> {
    let root_key = KeyPair::generate_for(&PKCS_ED25519)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, ROOT_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = params.clone().self_signed(&root_key)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let issuer = Issuer::new(params, &root_key);
    let leaf = CertificateParams::new(vec![MANAGER_NAME.to_owned()])?.signed_by(&key, &issuer)?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok(ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone(), root.der().clone()], private)?)
}

struct Middle {
    near: TlsAcceptor,
    far: TlsConnector,
    manager: String,
    /// The fingerprint of the key that it shows the manager.
    key: [u8; 32],
    trick: Trick,
}

impl Middle {
    async fn pass(&self, stream: TcpStream) -> Result<()> {
        let mut near = BufReader::new(self.near.accept(stream).await?);
        let (line, body) = request(&mut near).await?;
        let body = self.changed(&line, body)?;
        let name = ServerName::try_from(MANAGER_NAME)?;
        let stream = TcpStream::connect(&self.manager).await?;
        let mut far = self.far.connect(name, stream).await?;
        let head = format!("{line}\r\nHost: manager\r\nContent-Length: {}\r\n\r\n", body.len());
        far.write_all(&[head.as_bytes(), &body].concat()).await?;
        let mut answer = Vec::new();
        // The manager closes without the courtesy of a TLS goodbye to who does not wait for it.
        let _ = far.read_to_end(&mut answer).await;
        near.write_all(&answer).await?;
        Ok(near.shutdown().await?)
    }

    /// What the manager gets to read in place of what the machine wrote.
    fn changed(&self, line: &str, body: Vec<u8>) -> Result<Vec<u8>> {
        let (committed, revealed) = match self.trick {
            Trick::Listens => return Ok(body),
            Trick::SwapsKeys => ([7; 32], [7; 32]),
            Trick::SwapsKeysAndNonce => ([7; 32], [8; 32]),
        };
        if line.contains("/reveal ") {
            let reveal = RevealRequest { nonce: Nonce::from(revealed) };
            return Ok(serde_json::to_vec(&reveal)?);
        }
        if line.contains("/agent/announce ") {
            let mut request: AnnounceRequest = serde_json::from_slice(&body)?;
            request.commitment = Commitment::to(&self.key, Nonce::from(committed));
            return Ok(serde_json::to_vec(&request)?);
        }
        Ok(body)
    }
}

/// The first line of a request, and its body.
async fn request(from: &mut BufReader<impl AsyncRead + Unpin>) -> Result<(String, Vec<u8>)> {
    let (mut first, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        from.read_line(&mut line).await?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        first.get_or_insert_with(|| line.to_owned());
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).await?;
    Ok((first.context("an empty request")?, body))
}
