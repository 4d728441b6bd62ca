//! A thief of a machine's credentials, who dials the store as restic does and knows restic's format:
//! the repository's password is among what was stolen.
//!
//! The format is that of restic's design document ("Repository Format", "Pack Format", "Keys,
//! Encryption and MAC"): AES-256 in counter mode, and Poly1305-AES over the ciphertext.

use crate::fleet::{Fleet, StoreFolder};
use aes::{
    Aes128, Aes256,
    cipher::{BlockCipherEncrypt as _, KeyInit as _, KeyIvInit as _, StreamCipher as _},
};
use anyhow::{Context as _, Result, ensure};
use poly1305::Poly1305;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::Digest as _;
use std::path::Path;

/// The thief.
pub struct Thief<'a> {
    fleet: &'a Fleet<StoreFolder>,
    /// Trusts the manager's certificate.
    pub client: reqwest::Client,
}

/// What restic calls this content.
#[must_use]
pub fn hash(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(bytes))
}

impl<'a> Thief<'a> {
    /// A thief of this fleet's machine.
    ///
    /// # Errors
    /// When the manager's certificate is none.
    pub fn of(fleet: &'a Fleet<StoreFolder>) -> Result<Self> {
        let ca = reqwest::Certificate::from_pem(fleet.manager.ready().ca_pem.as_bytes())?;
        let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build()?;
        Ok(Self { fleet, client })
    }

    /// Asks the store for something with the stolen credentials.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(&self, method: Method, path: &str, body: &[u8]) -> Result<StatusCode> {
        let url = format!("{}{path}", self.fleet.address());
        let request = self.client.request(method, url).body(body.to_vec());
        let credential = Some(&self.fleet.secrets.credential);
        let request = request.basic_auth(&self.fleet.repository, credential);
        Ok(request.send().await?.status())
    }

    /// Adds a pack that claims to hold all data of the repository and holds rubbish, and an index that
    /// says so. The structure of the repository is sound after that.
    ///
    /// # Errors
    /// When restic or the store refuses.
    pub async fn forge(&self, restic: &Path) -> Result<()> {
        let keys = Keys::of(&self.document(restic, &["cat", "masterkey"])?)?;
        let mut genuine = Vec::new();
        for index in self.lines(restic, &["list", "index"])? {
            let index = self.document(restic, &["cat", "index", &index])?;
            for pack in index["packs"].as_array().context("an index without packs")? {
                let blobs = pack["blobs"].as_array().context("a pack without blobs")?;
                genuine.extend(blobs.iter().filter(|blob| blob["type"] == "data").cloned());
            }
        }
        ensure!(!genuine.is_empty(), "there is no data to forge");
        let (mut pack, mut header, mut blobs) = (Vec::new(), Vec::new(), Vec::new());
        for blob in &genuine {
            let id = blob["id"].as_str().context("a blob without id")?;
            let rubbish = keys.seal(b"not what this says it is")?;
            header.push(0);
            header.extend(u32::try_from(rubbish.len())?.to_le_bytes());
            header.extend(data_encoding::HEXLOWER.decode(id.as_bytes())?);
            blobs.push(json!({
                "id": id, "type": "data", "offset": pack.len(), "length": rubbish.len(),
            }));
            pack.extend(rubbish);
        }
        let header = keys.seal(&header)?;
        pack.extend(&header);
        pack.extend(u32::try_from(header.len())?.to_le_bytes());
        self.add("data", &pack).await?;
        let index = json!({ "packs": [{ "id": hash(&pack), "blobs": blobs }] });
        self.add("index", &keys.seal(index.to_string().as_bytes())?).await
    }

    /// Adds files of which restic can make nothing: some are not signed, some are and hold no sense.
    /// Says where they lie in the repository.
    ///
    /// # Errors
    /// When restic or the store refuses.
    pub async fn litter(&self, restic: &Path) -> Result<Vec<String>> {
        let keys = Keys::of(&self.document(restic, &["cat", "masterkey"])?)?;
        let mut paths = Vec::new();
        for kind in ["index", "locks", "snapshots"] {
            for content in [b"rubbish".to_vec(), keys.seal(br#"{"time":5,"packs":"none"}"#)?] {
                self.add(kind, &content).await?;
                paths.push(format!("{kind}/{}", hash(&content)));
            }
        }
        paths.sort();
        Ok(paths)
    }

    async fn add(&self, kind: &str, content: &[u8]) -> Result<()> {
        let path = format!("{kind}/{}", hash(content));
        let status = self.send(Method::POST, &path, content).await?;
        ensure!(status == StatusCode::OK, "the store answered {status} to {path}");
        Ok(())
    }

    fn lines(&self, restic: &Path, arguments: &[&str]) -> Result<Vec<String>> {
        let mut stolen = self.fleet.stolen(restic)?;
        let output = stolen.arg("--no-lock").args(arguments).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
    }

    fn document(&self, restic: &Path, arguments: &[&str]) -> Result<Value> {
        let text = self.lines(restic, arguments)?.join("\n");
        serde_json::from_str(&text).with_context(|| format!("restic printed {text}"))
    }
}

/// The master key of a repository.
struct Keys {
    encrypt: [u8; 32],
    k: [u8; 16],
    r: [u8; 16],
}

impl Keys {
    fn of(document: &Value) -> Result<Self> {
        let bytes = |value: &Value| -> Result<Vec<u8>> {
            let text = value.as_str().context("a key that is no text")?;
            Ok(data_encoding::BASE64.decode(text.as_bytes())?)
        };
        let wrong = |_| anyhow::anyhow!("a key of another length");
        Ok(Self {
            encrypt: bytes(&document["encrypt"])?.try_into().map_err(wrong)?,
            k: bytes(&document["mac"]["k"])?.try_into().map_err(wrong)?,
            r: bytes(&document["mac"]["r"])?.try_into().map_err(wrong)?,
        })
    }

    /// As restic encrypts and signs: the initialisation vector, the ciphertext, the code.
    fn seal(&self, plain: &[u8]) -> Result<Vec<u8>> {
        let mut iv = [0; 16];
        getrandom::fill(&mut iv)?;
        let mut cipher = plain.to_vec();
        ctr::Ctr128BE::<Aes256>::new(&self.encrypt.into(), &iv.into()).apply_keystream(&mut cipher);
        let mut nonce = iv.into();
        Aes128::new(&self.k.into()).encrypt_block(&mut nonce);
        let mut key = [0; 32];
        key[..16].copy_from_slice(&self.r);
        key[16..].copy_from_slice(&nonce);
        let code = Poly1305::new(&key.into()).compute_unpadded(&cipher);
        Ok([&iv[..], &cipher, &code].concat())
    }
}
