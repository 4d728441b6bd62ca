//! What a mail server says, handed over line by line and up to a bound. lettre reads a line of any length into
//! memory, and takes what it has read of the plain connection beyond the line that begins TLS for answers of the
//! secured one: whoever is on the way could put his own words there.

use lettre::transport::smtp::client::AsyncTokioStream;
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncBufRead as _, AsyncRead, AsyncWrite, BufReader, ReadBuf};

/// The most bytes that a server may say over one connection, certificates included.
const MOST: usize = 256 * 1024;

/// A connection whose reader never has more than one line.
#[derive(Debug)]
pub(super) struct Guarded<S> {
    stream: BufReader<S>,
    left: usize,
}

impl<S: AsyncRead> Guarded<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream: BufReader::new(stream), left: MOST }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let said = ready!(Pin::new(&mut self.stream).poll_fill_buf(context))?;
        let line = said.iter().position(|byte| *byte == b'\n').map_or(said.len(), |end| end + 1);
        let taken = line.min(into.remaining());
        into.put_slice(&said[..taken]);
        Pin::new(&mut self.stream).consume(taken);
        let Some(left) = self.left.checked_sub(taken) else {
            return Poll::Ready(Err(io::Error::other("the server says too much")));
        };
        self.left = left;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: super::Stream> AsyncTokioStream for Guarded<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        // Only who wants to tell connections apart asks, and nobody does.
        Err(io::ErrorKind::Unsupported.into())
    }
}
