//! A TCP proxy that stands between two programs and misbehaves on order.

use anyhow::Result;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::Instant,
};

/// How the proxy treats its connections, those that are open included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything passes.
    Open,
    /// Everything passes, at so many bytes a second in each direction of a connection.
    Slow {
        /// The rate.
        bytes_per_second: u32,
    },
    /// Connections stay and new ones are taken, but not a byte passes: a network that fell silent.
    Silent,
    /// Connections are cut and new ones are closed at once: a server that is gone.
    Cut,
}

impl Mode {
    /// How long this many bytes take; `None` when they do not pass.
    fn time_for(self, bytes: usize) -> Option<Duration> {
        match self {
            Self::Open => Some(Duration::ZERO),
            Self::Slow { bytes_per_second } => {
                let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                Some(Duration::from_secs(1) * bytes / bytes_per_second.max(1))
            }
            Self::Silent | Self::Cut => None,
        }
    }
}

/// Timers count in milliseconds; shorter waits would come out too long.
const FINEST_WAIT: Duration = Duration::from_millis(5);

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
    let mut free_at = Instant::now();
    while let Ok(read) = from.read(&mut buffer).await {
        let passes = mode.wait_for(|mode| mode.time_for(read).is_some()).await;
        let Ok(time) = passes.map(|mode| mode.time_for(read).unwrap_or_default()) else { return };
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
        // A single piece may take less time than a timer can tell, so small debts are gathered.
        // Idle times give no credit.
        let now = Instant::now();
        free_at = free_at.max(now) + time;
        if free_at < now + FINEST_WAIT {
            continue;
        }
        // A new mode holds at once: who opens the way need not wait until this piece is paid for.
        tokio::select! {
            () = tokio::time::sleep_until(free_at) => {}
            changed = mode.changed() => {
                if changed.is_err() {
                    return;
                }
                free_at = Instant::now();
            }
        }
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_their_time_or_do_not_pass() {
        let slow = Mode::Slow { bytes_per_second: 1_000 };
        assert_eq!(slow.time_for(2_500), Some(Duration::from_millis(2_500)));
        assert_eq!(Mode::Open.time_for(1 << 20), Some(Duration::ZERO));
        assert_eq!(Mode::Silent.time_for(1), None);
        assert_eq!(Mode::Cut.time_for(1), None);
    }

    #[tokio::test]
    async fn a_slow_network_is_slow_until_it_is_opened() {
        let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(target.local_addr().unwrap().port()).await.unwrap();
        // At this rate what is sent here would take hours.
        proxy.set(Mode::Slow { bytes_per_second: 1 });
        let mut near = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut far, _) = target.accept().await.unwrap();
        let sent = vec![7; 1 << 20];
        let mut got = vec![0; sent.len()];
        {
            let whole = async { tokio::join!(near.write_all(&sent), far.read_exact(&mut got)) };
            tokio::pin!(whole);
            let early = tokio::time::timeout(Duration::from_millis(100), &mut whole).await;
            assert!(early.is_err(), "a megabyte passed at a byte a second");
            proxy.set(Mode::Open);
            let (written, read) = whole.await;
            written.unwrap();
            read.unwrap();
        }
        assert_eq!(got, sent);
        proxy.set(Mode::Cut);
        assert_eq!(near.read(&mut [0]).await.unwrap_or(0), 0, "an open connection is cut");
    }
}
