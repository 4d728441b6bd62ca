//! A real rest-server with TLS, a password file and private repositories.

use crate::{
    process::{Port, Process},
    proxy::Proxy,
    tools::Tools,
    wait_for,
};
use anyhow::{Context as _, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Whether clients may delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletes {
    /// They may.
    Allowed,
    /// Only locks: rest-server's `--append-only`.
    Refused,
}

/// A running rest-server.
#[derive(Debug)]
pub struct RestServer {
    process: Option<Process>,
    program: PathBuf,
    root: PathBuf,
    port: Port,
    deletes: Deletes,
    /// What stands between restic and this server.
    pub network: Proxy,
    /// The certificate that signed the server's, in PEM.
    pub ca_pem: String,
}

impl RestServer {
    /// Starts one with its data below `root` and these users.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start(
        tools: &Tools,
        root: &Path,
        deletes: Deletes,
        users: &[(&str, &str)],
    ) -> Result<Self> {
        fs::create_dir_all(root.join("data"))?;
        let ca_pem = certificates(root)?;
        let mut htpasswd = String::new();
        for (user, password) in users {
            htpasswd += &format!("{user}:{}\n", bcrypt::hash(password, 5)?);
        }
        fs::write(root.join("htpasswd"), htpasswd)?;
        let program = tools.rest_server()?;
        let port = Port::reserve()?;
        let network = Proxy::start(port.number()).await?;
        let mut server =
            Self { process: None, program, root: root.to_owned(), port, deletes, network, ca_pem };
        server.restart().await?;
        Ok(server)
    }

    /// Starts it again on the same port with the same data, whether or not it still runs.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn restart(&mut self) -> Result<()> {
        self.process = None;
        let mut command = Command::new(&self.program);
        command
            .arg("--path")
            .arg(self.root.join("data"))
            .args([
                "--listen",
                &format!("127.0.0.1:{}", self.port.number()),
                "--private-repos",
                "--tls",
            ])
            .arg("--tls-cert")
            .arg(self.root.join("cert.pem"))
            .arg("--tls-key")
            .arg(self.root.join("key.pem"))
            .arg("--htpasswd-file")
            .arg(self.root.join("htpasswd"));
        if self.deletes == Deletes::Refused {
            command.arg("--append-only");
        }
        let mut process = Process::spawn("rest-server", command, &self.root, "")?;
        let port = self.port.number();
        wait_for("rest-server to listen", async || {
            anyhow::ensure!(process.is_running()?, "rest-server ended:\n{}", process.printed());
            Ok(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok())
        })
        .await?;
        self.process = Some(process);
        Ok(())
    }

    /// Lets another user in with this password.
    ///
    /// # Errors
    /// When it cannot be started again.
    pub async fn add_user(&mut self, user: &str, password: &str) -> Result<()> {
        let file = self.root.join("htpasswd");
        let mut text = fs::read_to_string(&file)?;
        text += &format!("{user}:{}\n", bcrypt::hash(password, 5)?);
        fs::write(&file, text)?;
        // It reads the file at its start for sure, and after a signal some time later.
        self.restart().await
    }

    /// The location of a user's repository without the network between: it stays when this process
    /// ends.
    #[must_use]
    pub fn direct_url(&self, user: &str) -> String {
        format!("rest:https://localhost:{}/{user}/", self.port.number())
    }

    /// The id of its process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn id(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("rest-server does not run")?.id())
    }

    /// Leaves it running for whoever comes after this process.
    pub fn detach(self) {
        if let Some(process) = self.process {
            process.detach();
        }
    }

    /// Kills it; the port refuses connections from now on.
    ///
    /// # Errors
    /// When it had ended by itself.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.take().context("rest-server does not run")?.kill_9().await
    }

    /// restic's location of this user's repository.
    #[must_use]
    pub fn url(&self, user: &str) -> String {
        format!("rest:https://localhost:{}/{user}/", self.network.address().port())
    }

    /// How many locks are in this user's repository.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn locks(&self, user: &str) -> Result<usize> {
        self.count(user, "locks")
    }

    /// How many packs of data are in this user's repository.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn packs(&self, user: &str) -> Result<usize> {
        self.count(user, "data")
    }

    /// How many snapshots are in this user's repository.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn snapshots(&self, user: &str) -> Result<usize> {
        self.count(user, "snapshots")
    }

    /// Files that are on their way have another name.
    fn count(&self, user: &str, kind: &str) -> Result<usize> {
        let is_whole = |name: &str| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
        let mut count = 0;
        for entry in walkdir::WalkDir::new(self.folder(user).join(kind)) {
            match entry {
                Ok(entry) => count += usize::from(is_whole(&entry.file_name().to_string_lossy())),
                // It was removed while it was looked at.
                Err(error) if is_not_found(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(count)
    }

    /// The folder of this user's repository.
    #[must_use]
    pub fn folder(&self, user: &str) -> PathBuf {
        self.root.join("data").join(user)
    }
}

fn is_not_found(error: &walkdir::Error) -> bool {
    error.io_error().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

fn certificates(root: &Path) -> Result<String> {
    let ca_key = rcgen::KeyPair::generate()?;
    let mut ca = rcgen::CertificateParams::new(Vec::new())?;
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.distinguished_name.push(rcgen::DnType::CommonName, "Test authority");
    let ca_cert = ca.self_signed(&ca_key)?;
    let issuer = rcgen::Issuer::from_params(&ca, &ca_key);
    let key = rcgen::KeyPair::generate()?;
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let cert = leaf.signed_by(&key, &issuer)?;
    fs::write(root.join("cert.pem"), cert.pem())?;
    fs::write(root.join("key.pem"), key.serialize_pem())?;
    Ok(ca_cert.pem())
}
