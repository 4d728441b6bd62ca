//! Passing bytes on within the kernel. What goes through the pass-through is all that is ever backed up:
//! copying it in and out of this process would be most of what the agent costs.

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::{cell::Cell, io, thread, time::Duration};
use tokio::{
    io::{AsyncWriteExt as _, Interest},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
};

/// How much of a direction may be on its way. The kernel's own pipes take a quarter of it.
const PIPE_BYTES: usize = 256 * 1024;

/// So many bytes at once are a part of more: what TLS sends in one piece is no longer than this.
const MUCH: usize = 16 * 1024;

/// For how long more of it is let gather. Being woken for each piece costs more than passing it on.
const GATHER_FOR: Duration = Duration::from_millis(1);

thread_local! {
    /// The bytes that this thread has passed on since it last had nothing to do.
    static PASSED: Cell<usize> = const { Cell::new(0) };
}

/// Pauses the thread that passes on, where much came, before it waits for what comes next.
pub(super) fn gather() {
    if PASSED.take() >= MUCH {
        thread::sleep(GATHER_FOR);
    }
}

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
        PASSED.set(PASSED.get() + left);
        // The pipe is empty before the next bytes come, so whoever has to wait waits for a socket.
        while left > 0 {
            let sink = to.as_ref();
            let drain = || Ok(splice(&outlet, None, sink, None, left, flags)?);
            left -= sink.async_io(Interest::WRITABLE, drain).await?;
        }
    }
}
