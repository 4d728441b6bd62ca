//! The log beside the database, where commits wait to be moved into it. SQLite takes them up to the first
//! frame that is wrong, and says nothing of those behind it: to it that is a commit that was torn when the
//! power went. Of such a commit at most its own frames can be there, since it was begun once all before it was
//! synced. So a second commit behind a wrong frame shows that something went wrong later.

use std::{fs, path::Path};

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// SQLite's own size, which the agent leaves as it is.
const PAGE: usize = 4096;
/// The first word, whose last bit says which way round the sums were made.
const MAGIC: u32 = 0x377f_0682;

/// Whether commits of it that were synced are not as they were written. A log that cannot be read is
/// SQLite's to complain of.
pub(super) fn is_damaged(path: &Path) -> bool {
    fs::read(path).is_ok_and(|log| has_lost_commits(&log))
}

fn has_lost_commits(log: &[u8]) -> bool {
    let Some((header, frames)) = log.split_at_checked(HEADER) else { return false };
    let (magic, salts) = (word(header, 0), [word(header, 16), word(header, 20)]);
    let is_big = magic & 1 == 1;
    let mut sum = add([0, 0], &header[..24], is_big);
    let is_sound = magic & !1 == MAGIC && sum == [word(header, 24), word(header, 28)];
    if is_sound && usize::try_from(word(header, 8)) != Ok(PAGE) {
        return false;
    }
    let (mut is_whole, mut commits) = (is_sound, 0);
    for frame in frames.chunks_exact(FRAME_HEADER + PAGE) {
        let is_same = [8, 12].map(|at| word(frame, at)) == salts;
        // What is left of an earlier log has other salts, both of them.
        let is_of_it = is_same || (word(frame, 8) == salts[0]) || (word(frame, 12) == salts[1]);
        if is_whole && is_same {
            sum = add(sum, &frame[..8], is_big);
            sum = add(sum, &frame[FRAME_HEADER..], is_big);
        }
        is_whole &= is_same && sum == [word(frame, 16), word(frame, 20)];
        if !is_whole && is_of_it && word(frame, 4) != 0 {
            commits += 1;
        }
    }
    commits > 1
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.copied().map_or(0, u32::from_be_bytes)
}

/// The sum goes on over these bytes.
fn add([mut one, mut two]: [u32; 2], bytes: &[u8], is_big: bool) -> [u32; 2] {
    for pair in bytes.chunks_exact(8) {
        let [first, second] =
            [0, 4].map(|at| if is_big { word(pair, at) } else { word(pair, at).swap_bytes() });
        one = one.wrapping_add(first).wrapping_add(two);
        two = two.wrapping_add(second).wrapping_add(one);
    }
    [one, two]
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::{
        Connection as _, SqliteConnection,
        sqlite::{SqliteConnectOptions, SqliteJournalMode},
    };

    /// The log of a database with four commits, as a killed process leaves it; the last of them has this many
    /// bytes of it.
    async fn log() -> (Vec<u8>, usize) {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new()
            .filename(folder.path().join("db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal);
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        let mut lengths = Vec::new();
        for sql in [
            "CREATE TABLE t (x)",
            "INSERT INTO t VALUES (randomblob(9000))",
            "INSERT INTO t VALUES (randomblob(100))",
            "INSERT INTO t VALUES (randomblob(9000))",
        ] {
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
            lengths.push(fs::read(folder.path().join("db-wal")).unwrap().len());
        }
        let log = fs::read(folder.path().join("db-wal")).unwrap();
        (log, lengths[3] - lengths[2])
    }

    #[tokio::test]
    async fn a_whole_log_and_one_whose_last_commit_is_torn_are_no_damage() {
        let (log, last) = log().await;
        assert!(!has_lost_commits(&log) && !has_lost_commits(&[]));
        for cut in (0..=log.len()).step_by(501) {
            assert!(!has_lost_commits(&log[..cut]), "cut at {cut}");
        }
        // Sectors come to the disk in any order.
        for at in (log.len() - last..log.len() - 512).step_by(512) {
            let mut torn = log.clone();
            torn[at..at + 512].fill(0);
            assert!(!has_lost_commits(&torn), "sector at {at} of the last commit");
        }
    }

    #[tokio::test]
    async fn a_commit_that_was_followed_by_others_and_is_wrong_is_damage() {
        let (log, last) = log().await;
        for at in (0..HEADER).chain((HEADER..log.len() - last).step_by(101)) {
            let mut wrong = log.clone();
            wrong[at] ^= 0x10;
            assert!(has_lost_commits(&wrong), "byte {at}");
        }
    }

    #[tokio::test]
    async fn what_is_left_of_an_earlier_log_is_no_damage() {
        let (log, _) = log().await;
        let mut again = log.clone();
        // A new log was begun, and nothing is written to it yet.
        again[16..24].iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
        let sum = add([0, 0], &again[..24], word(&again, 0) & 1 == 1);
        again[24..28].copy_from_slice(&sum[0].to_be_bytes());
        again[28..32].copy_from_slice(&sum[1].to_be_bytes());
        assert!(!has_lost_commits(&again));
    }
}
