//! Passing bytes on within the kernel. What goes through the pass-through is all that is ever backed up:
//! copying it in and out of this process would be most of what the agent costs.

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::io;
use tokio::{
    io::{AsyncWriteExt as _, Interest},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
};

/// How much of a direction may be on its way. The kernel's own pipes take a quarter of it.
const PIPE_BYTES: usize = 256 * 1024;

/// Passes bytes on in both directions, until both have ended or one of them fails.
pub(super) async fn pass_on(near: &mut TcpStream, far: &mut TcpStream) -> io::Result<()> {
    let (near_read, near_write) = near.split();
    let (far_read, far_write) = far.split();
    tokio::try_join!(one_way(near_read, far_write), one_way(far_read, near_write))?;
    Ok(())
}

async fn one_way(from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
    let (outlet, inlet) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // A user with many pipes gets no larger ones; then it takes more calls.
    let _ = fcntl_setpipe_size(&inlet, PIPE_BYTES);
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    loop {
        let source = from.as_ref();
        let fill = || Ok(splice(source, None, &inlet, None, PIPE_BYTES, flags)?);
        let mut left = source.async_io(Interest::READABLE, fill).await?;
        if left == 0 {
            return to.shutdown().await;
        }
        // The pipe is empty before the next bytes come, so whoever has to wait waits for a socket.
        while left > 0 {
            let sink = to.as_ref();
            let drain = || Ok(splice(&outlet, None, sink, None, left, flags)?);
            left -= sink.async_io(Interest::WRITABLE, drain).await?;
        }
    }
}
