//! restic's way to the manager's store: a port of this machine, whose connections are passed on to the
//! manager, at whichever of its addresses answers.
//!
//! A laptop changes its address, and a repository's location should not. The bytes are passed on as
//! they are: restic itself speaks TLS with the manager, whose certificate names `localhost` too, and
//! shows the repository's password. Whoever else on this machine dials the port gets no further.

#[cfg(target_os = "linux")]
mod splice;

use protocol::RepositoryConfig;
#[cfg(target_os = "linux")]
use splice::pass_on;
use std::{io, net::Ipv4Addr, sync::Arc, thread, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::{Semaphore, oneshot, watch},
    task::JoinSet,
    time::timeout,
};

/// How the location of a repository in the store begins; the repository's id follows.
pub(crate) const SCHEME: &str = "store:";

/// How long dialling one address may take.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections at once: restic has five, and a few of it may be at work.
const CONNECTIONS: usize = 64;

/// The pause after the system had no file handle for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The port, as long as this lives.
#[derive(Debug)]
pub struct PassThrough {
    port: u16,
    addresses: watch::Sender<Vec<String>>,
    /// Ends the thread that passes on, when it goes.
    _life: oneshot::Sender<()>,
}

impl PassThrough {
    /// Opens the port.
    ///
    /// # Errors
    /// When the machine has none.
    pub async fn start(addresses: Vec<String>) -> io::Result<Self> {
        let (addresses, listed) = watch::channel(addresses);
        let (opened, port) = oneshot::channel();
        let (life, ended) = oneshot::channel();
        let name = "pass-through".to_owned();
        thread::Builder::new().name(name).spawn(move || serve(listed, opened, ended))?;
        let port = port.await.map_err(io::Error::other)??;
        Ok(Self { port, addresses, _life: life })
    }

    /// Where the manager may be from now on, best first.
    pub fn set_addresses(&self, addresses: Vec<String>) {
        self.addresses.send_replace(addresses);
    }

    /// Where the manager may be, best first.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.addresses.borrow().clone()
    }

    /// The manager was met at this address.
    pub fn met_at(&self, address: &str) {
        self.addresses.send_modify(|all| {
            if let Some(at) = all.iter().position(|one| one == address) {
                all[..=at].rotate_right(1);
            }
        });
    }

    /// The repository as restic finds it: one in the store through this port, any other as it is.
    #[must_use]
    pub fn resolve(&self, mut repository: RepositoryConfig) -> RepositoryConfig {
        if let Some(id) = repository.url.strip_prefix(SCHEME) {
            repository.url = format!("rest:https://localhost:{}/store/{id}/", self.port);
        }
        repository
    }
}

/// Serves a port, which it tells, until the other end of `ended` goes. A thread of its own does, which may
/// pause where others may not.
fn serve(
    addresses: watch::Receiver<Vec<String>>,
    opened: oneshot::Sender<io::Result<u16>>,
    ended: oneshot::Receiver<()>,
) {
    let mut runtime = Builder::new_current_thread();
    runtime.enable_all();
    #[cfg(target_os = "linux")]
    runtime.on_thread_park(splice::gather);
    let runtime = match runtime.build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(opened.send(Err(error))),
    };
    runtime.block_on(async {
        let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await {
            Ok(listener) => listener,
            Err(error) => return drop(opened.send(Err(error))),
        };
        let _ = opened.send(listener.local_addr().map(|address| address.port()));
        tokio::select! {
            _ = ended => {}
            () = accept(listener, addresses) => {}
        }
    });
}

async fn accept(listener: TcpListener, addresses: watch::Receiver<Vec<String>>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // What is passed on ends with this task.
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((near, _)) => {
                    let addresses = addresses.borrow().clone();
                    connections.spawn(async move {
                        pass(near, addresses).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "No connection to the store was accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn pass(mut near: TcpStream, addresses: Vec<String>) {
    for address in addresses {
        let Ok(Ok(mut far)) = timeout(DIAL_TIMEOUT, TcpStream::connect(&address)).await else {
            continue;
        };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        // How it ends is the business of the two ends.
        let _ = pass_on(&mut near, &mut far).await;
        return;
    }
    // Closed without a word, as if the port were not there: restic tries again.
    tracing::debug!("The manager's store is not to be reached");
}

/// Passes bytes on in both directions, until both have ended or one of them fails.
#[cfg(not(target_os = "linux"))]
async fn pass_on(near: &mut TcpStream, far: &mut TcpStream) -> io::Result<()> {
    /// How much of each direction may lie here.
    const BUFFER_BYTES: usize = 64 * 1024;
    tokio::io::copy_bidirectional_with_sizes(near, far, BUFFER_BYTES, BUFFER_BYTES).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{RepositoryId, Secret};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn repository(url: &str) -> RepositoryConfig {
        RepositoryConfig {
            id: RepositoryId::new(1, &[1; 10]),
            name: "store".to_owned(),
            url: url.to_owned(),
            username: None,
            credential: None,
            password: Secret::new("canary".to_owned()),
            ca_pem: None,
        }
    }

    async fn echo(tasks: &mut JoinSet<()>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn only_repositories_in_the_store_go_through() {
        let through = PassThrough::start(Vec::new()).await.unwrap();
        let url = |url| through.resolve(repository(url)).url;
        assert_eq!(url("store:x"), format!("rest:https://localhost:{}/store/x/", through.port));
        assert_eq!(url("rest:https://nas:8000/x"), "rest:https://nas:8000/x");
    }

    #[tokio::test]
    async fn bytes_go_to_the_address_that_answers_and_back() {
        let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let addresses = vec![dead.to_string(), echo(&mut tasks).await];
        let through = PassThrough::start(addresses).await.unwrap();
        let mut near = TcpStream::connect(("127.0.0.1", through.port)).await.unwrap();
        near.write_all(b"hello").await.unwrap();
        near.shutdown().await.unwrap();
        let mut back = String::new();
        near.read_to_string(&mut back).await.unwrap();
        assert_eq!(back, "hello");
    }

    #[tokio::test]
    async fn much_goes_both_ways_at_once_and_arrives_as_it_was() {
        let mut tasks = JoinSet::new();
        let through = PassThrough::start(vec![echo(&mut tasks).await]).await.unwrap();
        let near = TcpStream::connect(("127.0.0.1", through.port)).await.unwrap();
        let (mut from, mut to) = near.into_split();
        let sent: Vec<u8> = (0..8 * 1024 * 1024_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let copy = sent.clone();
        tasks.spawn(async move {
            to.write_all(&copy).await.unwrap();
            to.shutdown().await.unwrap();
        });
        let mut back = Vec::new();
        from.read_to_end(&mut back).await.unwrap();
        assert!(back == sent, "{} of {} bytes came back, or other ones", back.len(), sent.len());
    }

    #[tokio::test]
    async fn a_connection_that_breaks_on_one_side_ends_on_the_other() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let through =
            PassThrough::start(vec![listener.local_addr().unwrap().to_string()]).await.unwrap();
        let mut near = TcpStream::connect(("127.0.0.1", through.port)).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        // Hung up with bytes unread: the far side answers with a reset.
        near.write_all(&[0; 4096]).await.unwrap();
        far.readable().await.unwrap();
        drop(far);
        assert_eq!(near.read(&mut [0; 8]).await.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn without_a_manager_the_connection_just_ends() {
        let through = PassThrough::start(Vec::new()).await.unwrap();
        let mut near = TcpStream::connect(("127.0.0.1", through.port)).await.unwrap();
        assert_eq!(near.read(&mut [0; 8]).await.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn the_address_where_the_manager_was_met_comes_first() {
        let all = ["a:1", "b:1", "c:1"].map(str::to_owned).to_vec();
        let through = PassThrough::start(all).await.unwrap();
        through.met_at("c:1");
        assert_eq!(*through.addresses.borrow(), ["c:1", "a:1", "b:1"]);
        through.met_at("unknown:1");
        assert_eq!(*through.addresses.borrow(), ["c:1", "a:1", "b:1"]);
    }
}
