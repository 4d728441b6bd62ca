//! `restic cat masterkey`, and what can be told with the key alone: whether a file is one that some
//! restic wrote.
//!
//! restic reads all indexes, locks and snapshots before it does anything, and ends at the first that it
//! cannot make sense of. Whoever may add files to a repository can so keep everybody out of it, until
//! the file is found and removed.
//!
//! The format is that of restic's design document ("Keys, Encryption and MAC", "Unpacked Data Format",
//! "Indexing", "Snapshots", "Locks"): AES-256 in counter mode, Poly1305-AES over the ciphertext, and
//! JSON inside, compressed or not.

use aes::{
    Aes128, Aes256,
    cipher::{BlockCipherEncrypt as _, KeyInit as _, KeyIvInit as _, StreamCipher as _},
};
use data_encoding::{BASE64, HEXLOWER};
use jiff::Timestamp;
use poly1305::Poly1305;
use ruzstd::decoding::StreamingDecoder;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::io::{BufReader, Read};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::CancelToken;
use crate::call::{Arguments, Call, log};
use crate::environment::Repository;
use crate::event::Sink;
use crate::failure::{Failure, FailureKind};
use crate::process::Stdout;
use crate::program::Restic;

/// Bytes before the ciphertext: the initialisation vector.
const IV_BYTES: usize = 16;
/// Bytes behind it: the authentication code.
const MAC_BYTES: usize = 16;
/// What a file may hold when it is decompressed. restic begins a new index long before it has this
/// much, and what decompresses to more would only fill the memory of the restic that reads it.
const MOST_PLAIN_BYTES: u64 = 128 * 1024 * 1024;

/// The key that all of a repository is encrypted and signed with.
pub struct MasterKey {
    encrypt: Zeroizing<[u8; 32]>,
    k: Zeroizing<[u8; 16]>,
    r: Zeroizing<[u8; 16]>,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey")
    }
}

/// A kind of file that restic reads whole before it does anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealed {
    /// Which blob is in which pack.
    Index,
    /// Who is at it.
    Lock,
    /// A snapshot.
    Snapshot,
}

/// Why restic cannot make sense of a file.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Unreadable {
    /// It is not encrypted and signed with the repository's key, or was changed since.
    #[error("it is not signed with the key of the repository")]
    Seal,
    /// It is, and something else is in it.
    #[error("it does not hold what a file of its kind holds")]
    Content,
    /// It is, and there is more in it than restic ever writes.
    #[error("it holds more than restic ever writes into one file")]
    Size,
}

impl Restic {
    /// The key of the repository, as its password opens it. Takes no lock, and reads neither indexes
    /// nor snapshots.
    ///
    /// # Errors
    /// As for [`Restic::cat_config`].
    pub async fn master_key(
        &self,
        repository: &Repository,
        sink: Sink<'_>,
        cancel: &CancelToken,
    ) -> Result<MasterKey, Failure> {
        let call =
            Call { restic: self, repository, arguments: arguments(), stdout: Stdout::Document };
        let finished = call.run(sink, cancel, &mut log).await?.success()?;
        let document: Document = finished.into_answer()?;
        MasterKey::parse(&document)
            .ok_or_else(|| Failure::new(FailureKind::UnexpectedOutput, "restic printed no key"))
    }
}

fn arguments() -> Arguments {
    Arguments::json("cat").flag("--no-lock").operands(["masterkey"])
}

#[derive(Deserialize)]
struct Document {
    mac: Mac,
    encrypt: Zeroizing<String>,
}

#[derive(Deserialize)]
struct Mac {
    k: Zeroizing<String>,
    r: Zeroizing<String>,
}

impl MasterKey {
    fn parse(document: &Document) -> Option<Self> {
        fn bytes<const N: usize>(text: &str) -> Option<Zeroizing<[u8; N]>> {
            let bytes = Zeroizing::new(BASE64.decode(text.as_bytes()).ok()?);
            Some(Zeroizing::new(bytes.as_slice().try_into().ok()?))
        }
        Some(Self {
            encrypt: bytes(&document.encrypt)?,
            k: bytes(&document.mac.k)?,
            r: bytes(&document.mac.r)?,
        })
    }

    /// Says whether restic can make sense of a file with this content.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn examine(&self, kind: Sealed, content: Vec<u8>) -> Result<(), Unreadable> {
        self.examine_within(MOST_PLAIN_BYTES, kind, content)
    }

    fn examine_within(&self, most: u64, kind: Sealed, content: Vec<u8>) -> Result<(), Unreadable> {
        let plain = self.open(content).ok_or(Unreadable::Seal)?;
        match plain.split_first() {
            // Repositories of version 1, and what is not worth compressing.
            Some((b'{', _)) => read(most, kind, &plain[..]),
            // The version of the compressed format.
            Some((2, compressed)) => decompress(most, kind, compressed),
            _ => Err(Unreadable::Content),
        }
    }

    fn open(&self, mut content: Vec<u8>) -> Option<Vec<u8>> {
        let end = content.len().checked_sub(MAC_BYTES).filter(|end| *end >= IV_BYTES)?;
        let iv: [u8; IV_BYTES] = content[..IV_BYTES].try_into().ok()?;
        let mut nonce = iv.into();
        Aes128::new(&(*self.k).into()).encrypt_block(&mut nonce);
        let mut key = Zeroizing::new([0; 32]);
        key[..16].copy_from_slice(&*self.r);
        key[16..].copy_from_slice(&nonce);
        let code = Poly1305::new(&(*key).into()).compute_unpadded(&content[IV_BYTES..end]);
        // How long this takes tells nobody anything: it is no answer to whoever sent the file.
        if code.as_slice() != &content[end..] {
            return None;
        }
        content.truncate(end);
        let mut plain = content.split_off(IV_BYTES);
        ctr::Ctr128BE::<Aes256>::new(&(*self.encrypt).into(), &iv.into())
            .apply_keystream(&mut plain);
        Some(plain)
    }
}

fn decompress(most: u64, kind: Sealed, compressed: &[u8]) -> Result<(), Unreadable> {
    let frame = StreamingDecoder::new_with_max_window_size(compressed, most);
    let mut frame = frame.map_err(|_| Unreadable::Content)?;
    read(most, kind, &mut frame)?;
    let (rest, decoder) = frame.into_parts();
    let told = decoder.get_checksum_from_data();
    let fits = told.is_none() || told == decoder.get_calculated_checksum();
    if rest.is_empty() && fits { Ok(()) } else { Err(Unreadable::Content) }
}

fn read(most: u64, kind: Sealed, plain: impl Read) -> Result<(), Unreadable> {
    let mut plain = BufReader::new(plain.take(most));
    let read = match kind {
        Sealed::Index => is_a::<Index>(&mut plain),
        Sealed::Lock => is_a::<Lock>(&mut plain),
        Sealed::Snapshot => is_a::<Snapshot>(&mut plain),
    };
    if plain.get_ref().limit() == 0 {
        return Err(Unreadable::Size);
    }
    if read { Ok(()) } else { Err(Unreadable::Content) }
}

fn is_a<T: DeserializeOwned>(plain: impl Read) -> bool {
    serde_json::from_reader::<_, T>(plain).is_ok()
}

/// A hash as 64 hex digits.
struct Id;

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(D::Error::custom)?;
        if bytes.len() == 32 { Ok(Self) } else { Err(D::Error::custom("a hash has 32 bytes")) }
    }
}

// What restic fails at is a field of the wrong shape; one that is missing has a default there. Fields
// that are not listed are left alone, since a new release may add some.

#[derive(Deserialize)]
#[expect(dead_code, reason = "only the shape of the fields matters")]
struct Index {
    supersedes: Option<Vec<Id>>,
    packs: Option<Vec<Pack>>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "only the shape of the fields matters")]
struct Pack {
    id: Id,
    blobs: Option<Vec<Blob>>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "only the shape of the fields matters")]
struct Blob {
    id: Id,
    r#type: BlobType,
    offset: Option<u64>,
    length: Option<u64>,
    uncompressed_length: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum BlobType {
    Data,
    Tree,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "only the shape of the fields matters")]
struct Lock {
    time: Timestamp,
    exclusive: Option<bool>,
    hostname: Option<String>,
    username: Option<String>,
    pid: Option<i64>,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "only the shape of the fields matters")]
struct Snapshot {
    time: Timestamp,
    tree: Id,
    parent: Option<Id>,
    original: Option<Id>,
    paths: Option<Vec<String>>,
    excludes: Option<Vec<String>>,
    tags: Option<Vec<String>>,
    hostname: Option<String>,
    username: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    program_version: Option<String>,
    summary: Option<Summary>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "only the shape of the fields matters")]
struct Summary {
    backup_start: Option<Timestamp>,
    backup_end: Option<Timestamp>,
    files_new: Option<u64>,
    files_changed: Option<u64>,
    files_unmodified: Option<u64>,
    dirs_new: Option<u64>,
    dirs_changed: Option<u64>,
    dirs_unmodified: Option<u64>,
    data_blobs: Option<i64>,
    tree_blobs: Option<i64>,
    data_added: Option<u64>,
    data_added_packed: Option<u64>,
    total_files_processed: Option<u64>,
    total_bytes_processed: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = r#"{"packs":[{"id":"ID","blobs":[{"id":"ID","type":"data","offset":0,"length":38,"uncompressed_length":700}]}]}"#;
    const LOCK: &str = r#"{"time":"2026-11-24T12:00:00.123456789+01:00","exclusive":false,"hostname":"web1","username":"root","pid":7}"#;
    const SNAPSHOT: &str = r#"{"time":"2026-11-24T12:00:00+01:00","parent":"ID","tree":"ID","paths":["/etc"],"hostname":"web1","username":"root","tags":["a"],"program_version":"restic 0.18.0","summary":{"backup_start":"2026-11-24T12:00:00+01:00","files_new":1}}"#;

    fn key() -> MasterKey {
        MasterKey { encrypt: [1; 32].into(), k: [2; 16].into(), r: [3; 16].into() }
    }

    fn seal(key: &MasterKey, plain: &[u8]) -> Vec<u8> {
        let iv = [9; IV_BYTES];
        let mut cipher = plain.to_vec();
        ctr::Ctr128BE::<Aes256>::new(&(*key.encrypt).into(), &iv.into())
            .apply_keystream(&mut cipher);
        let mut nonce = iv.into();
        Aes128::new(&(*key.k).into()).encrypt_block(&mut nonce);
        let whole = [*key.r, nonce.into()].concat();
        let whole: [u8; 32] = whole.try_into().unwrap();
        let code = Poly1305::new(&whole.into()).compute_unpadded(&cipher);
        [&iv[..], &cipher, &code].concat()
    }

    fn examine(kind: Sealed, plain: &str) -> Result<(), Unreadable> {
        let plain = plain.replace("ID", &"ab".repeat(32));
        key().examine(kind, seal(&key(), plain.as_bytes()))
    }

    #[test]
    fn argv() {
        assert_eq!(arguments().to_text(), "--json cat --no-lock -- masterkey");
    }

    #[test]
    fn what_restic_writes_is_sound() {
        for (kind, plain) in
            [(Sealed::Index, INDEX), (Sealed::Lock, LOCK), (Sealed::Snapshot, SNAPSHOT)]
        {
            assert_eq!(examine(kind, plain), Ok(()));
            let with_more = plain.replacen('{', r#"{"of_a_later_release":[1],"#, 1);
            assert_eq!(examine(kind, &with_more), Ok(()));
        }
        for empty in [r#"{"packs":[]}"#, r#"{"packs":null}"#, "{}"] {
            assert_eq!(examine(Sealed::Index, empty), Ok(()));
        }
    }

    #[test]
    fn what_is_not_signed_with_the_key_is_found() {
        let sealed = seal(&key(), INDEX.replace("ID", &"ab".repeat(32)).as_bytes());
        for at in [0, IV_BYTES, sealed.len() / 2, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(key().examine(Sealed::Index, changed), Err(Unreadable::Seal));
        }
        for length in [0, 1, IV_BYTES, IV_BYTES + MAC_BYTES - 1, sealed.len() - 1] {
            let cut = sealed[..length].to_vec();
            assert_eq!(key().examine(Sealed::Index, cut), Err(Unreadable::Seal));
        }
    }

    #[test]
    fn what_is_signed_and_has_another_shape_is_found() {
        let bad = [
            (Sealed::Index, INDEX.replace("\"data\"", "\"video\"")),
            (Sealed::Index, INDEX.replace("38", "-38")),
            (Sealed::Index, INDEX.replace("\"ID\"", "\"ab\"")),
            (Sealed::Index, format!("{INDEX}{INDEX}")),
            (Sealed::Lock, LOCK.replace("2026-11-24T", "soon")),
            (Sealed::Lock, SNAPSHOT[..20].to_owned()),
            (Sealed::Snapshot, SNAPSHOT.replace("[\"/etc\"]", "5")),
            (Sealed::Snapshot, LOCK.to_owned()),
            (Sealed::Snapshot, String::new()),
            (Sealed::Snapshot, "\u{2}not compressed".to_owned()),
        ];
        for (kind, plain) in bad {
            assert_eq!(examine(kind, &plain), Err(Unreadable::Content), "{plain}");
        }
    }

    #[test]
    fn a_small_file_that_decompresses_to_more_than_restic_writes_is_found() {
        // Blocks that repeat one byte 131,072 times each (RFC 8878, 3.1.1.2), in a window of that size.
        let mut bomb = vec![2, 0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38];
        let block = |is_last: u32, size: u32, kind: u32| is_last | kind << 1 | size << 3;
        let mut push = |header: u32, content: &[u8]| {
            bomb.extend(&header.to_le_bytes()[..3]);
            bomb.extend(content);
        };
        push(block(0, 1, 0), b"{");
        for _ in 0..8 {
            push(block(0, 128 * 1024, 1), b" ");
        }
        push(block(1, 1, 0), b"}");
        assert!(bomb.len() < 50);
        let sealed = || seal(&key(), &bomb);
        let mib = 1024 * 1024;
        assert_eq!(key().examine_within(mib, Sealed::Index, sealed()), Err(Unreadable::Size));
        assert_eq!(key().examine_within(2 * mib, Sealed::Index, sealed()), Ok(()));
    }
}
