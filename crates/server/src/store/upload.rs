//! One upload: bytes into a file of their own, hashed as they come; whole and right, it gets its name.

use super::{Refused, object::Object, place::sync_dir, put::Reserved};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use ring::digest::{Context, SHA256};
use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::NamedTempFile;
use tokio::task::{JoinHandle, spawn_blocking};

/// Bytes that are handed to the disk together: each time two threads have to be woken. Nothing more is read
/// meanwhile, since restic sends five files at once and they take turns.
const BATCH_BYTES: usize = 256 * 1024;

/// How long nothing may come. restic begins an upload again when it fails.
const SILENCE: Duration = Duration::from_secs(90);

/// What has come so far.
struct Upload {
    file: NamedTempFile,
    hash: Context,
}

impl Upload {
    fn begin(incoming: &Path) -> io::Result<Self> {
        Ok(Self { file: NamedTempFile::new_in(incoming)?, hash: Context::new(&SHA256) })
    }

    fn write(mut self: Box<Self>, batch: &[Bytes]) -> io::Result<Box<Self>> {
        for piece in batch {
            self.hash.update(piece);
            self.file.write_all(piece)?;
        }
        Ok(self)
    }

    /// Gives the file its name, on the disk for good.
    fn finish(self, object: &Object, target: &Path) -> Result<(), Refused> {
        if let Object::File(_, name) = object {
            let hash = data_encoding::HEXLOWER.encode(self.hash.finish().as_ref());
            if hash != name.as_str() {
                return Err(Refused::WrongHash);
            }
        }
        self.file.as_file().sync_all()?;
        self.file.persist(target).map_err(|error| error.error)?;
        let folder = target.parent().unwrap_or(target);
        Ok(sync_dir(folder)?)
    }
}

/// A file that has come whole and has no name yet. Dropped, nothing of it stays.
pub(super) struct Received {
    upload: Box<Upload>,
    /// Its bytes.
    pub bytes: u64,
}

impl Received {
    /// Gives the file its name, on the disk for good.
    ///
    /// # Errors
    /// When its content is not what its name says, or the disk fails.
    pub(super) fn finish(self, object: &Object, target: &Path) -> Result<(), Refused> {
        self.upload.finish(object, target)
    }
}

/// Receives a file of at most so many bytes. Whatever goes wrong, nothing of it stays.
///
/// # Errors
/// Why it has not come.
pub(super) async fn receive<E>(
    incoming: PathBuf,
    most: u64,
    mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    reserved: &mut Reserved,
) -> Result<Received, Refused> {
    let beginning = spawn_blocking(move || Upload::begin(&incoming).map(Box::new));
    let mut upload = done(beginning).await??;
    let (mut batch, mut waiting, mut bytes) = (Vec::new(), 0, 0_u64);
    loop {
        let next = tokio::time::timeout(SILENCE, body.next()).await;
        let piece = match next {
            Ok(Some(Ok(piece))) => piece,
            Ok(None) => break,
            Ok(Some(Err(_))) | Err(_) => return Err(Refused::Aborted),
        };
        waiting += piece.len();
        bytes += piece.len() as u64;
        if bytes > most {
            return Err(Refused::TooLarge);
        }
        reserved.take(piece.len() as u64).await?;
        batch.push(piece);
        if waiting >= BATCH_BYTES {
            upload = write(upload, std::mem::take(&mut batch)).await?;
            waiting = 0;
        }
    }
    upload = write(upload, batch).await?;
    Ok(Received { upload, bytes })
}

async fn write(upload: Box<Upload>, batch: Vec<Bytes>) -> Result<Box<Upload>, Refused> {
    Ok(done(spawn_blocking(move || upload.write(&batch))).await??)
}

/// What a thread came back with.
async fn done<T>(thread: JoinHandle<T>) -> Result<T, Refused> {
    thread.await.map_err(|error| Refused::Io(io::Error::other(error)))
}
