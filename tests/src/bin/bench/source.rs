//! What the benches back up.

use crate::Options;
use anyhow::Result;
use std::{fs, io::Write as _, path::Path};

/// Bytes of a large file.
const LARGE_MIB: u64 = 64;
/// Small files in one folder.
const IN_A_FOLDER: u64 = 500;

/// Small files of up to 8 KiB and large ones, of the same bytes each time, which do not compress.
pub(crate) fn make(root: &Path, options: &Options) -> Result<()> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut chunk = vec![0; 1024 * 1024];
    let mut fill = |chunk: &mut [u8]| {
        for word in chunk.chunks_mut(8) {
            // A xorshift generator: fast, and the same bytes each time.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
        }
    };
    for n in 0..options.files {
        let folder = root.join(format!("small/{}", n / IN_A_FOLDER));
        fs::create_dir_all(&folder)?;
        let size = usize::try_from(1 + n * 37 % 8192)?;
        fill(&mut chunk[..size]);
        fs::write(folder.join(n.to_string()), &chunk[..size])?;
    }
    fs::create_dir_all(root.join("large"))?;
    for n in 0..options.mib.div_ceil(LARGE_MIB) {
        let mut file = fs::File::create(root.join(format!("large/{n}")))?;
        for _ in 0..LARGE_MIB.min(options.mib) {
            fill(&mut chunk);
            file.write_all(&chunk)?;
        }
    }
    Ok(())
}

/// What it is, in words.
pub(crate) fn in_words(options: &Options) -> String {
    format!("{} small files and {} MiB in large ones", options.files, options.mib)
}
