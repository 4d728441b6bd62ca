//! A TCP proxy that stands between two programs and misbehaves on order.

use anyhow::Result;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// How the proxy treats its connections, those that are open included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything passes.
    Open,
    /// Connections stay and new ones are taken, but not a byte passes: a network that fell silent.
    Silent,
    /// Connections are cut and new ones are closed at once: a server that is gone.
    Cut,
}

/// A running proxy. Dropped, it and its connections end.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy on a port of its own for this port of the loopback interface.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(target: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (mode, watched) = watch::channel(Mode::Open);
        let task = tokio::spawn(serve(listener, target, watched));
        Ok(Self { address, mode, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes how it treats connections.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.mode.send_replace(Mode::Cut);
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, target: u16, mode: watch::Receiver<Mode>) {
    while let Ok((near, _)) = listener.accept().await {
        if *mode.borrow() != Mode::Cut {
            tokio::spawn(connect(near, target, mode.clone()));
        }
    }
}

async fn connect(near: TcpStream, target: u16, mut mode: watch::Receiver<Mode>) {
    let Ok(far) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let (up, down) = (mode.clone(), mode.clone());
    // A receiver that fails means that the proxy itself is gone, which ends its connections too.
    tokio::select! {
        () = async { let _ = mode.wait_for(|mode| *mode == Mode::Cut).await; } => {}
        () = async { tokio::join!(copy(near_read, far_write, up), copy(far_read, near_write, down)); } => {}
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut mode: watch::Receiver<Mode>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read) = from.read(&mut buffer).await {
        if mode.wait_for(|mode| *mode == Mode::Open).await.is_err() {
            return;
        }
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
