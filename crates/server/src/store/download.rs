//! One download: a file that is read in pieces, as fast as they are taken.

use bytes::Bytes;
use futures_util::{Stream, stream};
use std::{
    fs::File,
    io::{self, ErrorKind, Read as _, Seek as _, SeekFrom},
    ops::Range,
    path::Path,
};
use tokio::task::spawn_blocking;

/// Bytes that are read from the disk at once: each time two threads have to be woken.
const PIECE_BYTES: u64 = 256 * 1024;

/// A file that does not change, open for reading.
#[derive(Debug)]
pub struct Download {
    file: File,
    size: u64,
}

impl Download {
    /// Opens it. Blocks.
    ///
    /// # Errors
    /// As the file system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }

    /// Its bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// All of it. Blocks.
    ///
    /// # Errors
    /// As the file system says.
    pub fn whole(mut self) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        self.file.read_to_end(&mut content)?;
        Ok(content)
    }

    /// A part of it. One that ends early is an error.
    pub fn read(self, range: Range<u64>) -> impl Stream<Item = io::Result<Bytes>> + Send {
        stream::try_unfold((self.file, range), async |(mut file, range)| {
            if range.is_empty() {
                return Ok(None);
            }
            let reading = spawn_blocking(move || {
                let most = PIECE_BYTES.min(range.end - range.start);
                let mut piece = Vec::with_capacity(usize::try_from(most).unwrap_or(0));
                file.seek(SeekFrom::Start(range.start))?;
                (&file).take(most).read_to_end(&mut piece)?;
                if piece.is_empty() {
                    return Err(io::Error::from(ErrorKind::UnexpectedEof));
                }
                let next = range.start + piece.len() as u64..range.end;
                Ok(Some((Bytes::from(piece), (file, next))))
            });
            reading.await.map_err(io::Error::other)?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::TryStreamExt as _;

    #[tokio::test]
    async fn a_part_is_what_was_asked_for_and_a_file_cut_short_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let whole: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        std::fs::write(&path, &whole).unwrap();
        for range in [0..300_000, 0..0, 7..8, 262_143..262_146, 299_999..300_000] {
            let download = Download::open(&path).unwrap();
            assert_eq!(download.size(), 300_000);
            let pieces: Vec<Bytes> = download.read(range.clone()).try_collect().await.unwrap();
            let bounds = range.start as usize..range.end as usize;
            assert!(pieces.concat() == whole[bounds], "{range:?}");
        }
        let cut = Download::open(&path).unwrap();
        std::fs::write(&path, &whole[..200_000]).unwrap();
        let read: io::Result<Vec<Bytes>> = cut.read(0..300_000).try_collect().await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }
}
