//! Trees of awkward files, and their comparison after a restore.

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

/// What makes two entries equal. Times of change and of access are not part of it: no program can
/// write the first, and reading changes the second.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    content: Content,
    /// The first name of the same file, for hard links.
    same_as: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Folder,
    File { bytes: u64, sha256: String },
    Link { target: PathBuf },
    Other,
}

/// How many files and bytes a tree has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Makes a tree out of this workspace's sources and files with awkward names and shapes.
///
/// # Errors
/// When a file cannot be written.
pub fn make(root: &Path) -> Result<()> {
    fs::create_dir_all(root.join("sources"))?;
    copy_sources(&crate::tools::workspace(), &root.join("sources"))?;
    let awkward = root.join("awkward");
    fs::create_dir_all(awkward.join("empty folder"))?;
    for name in [
        "grüße 世界 🗝",
        "two\nlines",
        " leading and trailing ",
        "-dash",
        "we[ird]*na?me{x}",
        "back\\slash",
        "quote\"and'quote",
        "$HOME `id`",
        "a#b%zz",
    ] {
        fs::write(awkward.join(name), format!("content of {name}"))?;
    }
    fs::write(awkward.join("empty"), "")?;
    fs::write(awkward.join("script.sh"), "#!/bin/sh\ntrue\n")?;
    fs::set_permissions(awkward.join("script.sh"), fs::Permissions::from_mode(0o4751))?;
    fs::write(awkward.join("read only"), "r")?;
    fs::set_permissions(awkward.join("read only"), fs::Permissions::from_mode(0o400))?;
    symlink("grüße 世界 🗝", awkward.join("link"))?;
    symlink("/nowhere/at all", awkward.join("dangling"))?;
    fs::hard_link(awkward.join("script.sh"), awkward.join("hard link"))?;
    sparse(&awkward.join("sparse"))?;
    random(&awkward.join("64 MiB"), 64 * 1024 * 1024)?;
    old(&awkward.join("back\\slash"))?;
    fs::set_permissions(awkward.join("empty folder"), fs::Permissions::from_mode(0o1777))?;
    Ok(())
}

/// A small tree: a few files, quick to back up.
///
/// # Errors
/// When a file cannot be written.
pub fn make_small(root: &Path) -> Result<()> {
    fs::create_dir_all(root.join("folder"))?;
    fs::write(root.join("one"), "1")?;
    fs::write(root.join("folder/two"), "22")?;
    fs::write(root.join("we[ird]*na?me"), "333")?;
    fs::write(root.join("weird-na!me"), "not asked for")?;
    Ok(())
}

/// A tree that takes its time: incompressible, and more than restic sends at once.
///
/// # Errors
/// When it cannot be written.
pub fn make_big(root: &Path) -> Result<()> {
    fs::create_dir_all(root)?;
    for name in ["a", "b", "c", "d"] {
        random(&root.join(name), 32 * 1024 * 1024)?;
    }
    Ok(())
}

/// The files that git tracks, so that build output stays out.
fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    let listed = Command::new("git").arg("-C").arg(from).args(["ls-files", "-z"]).output()?;
    ensure!(
        listed.status.success(),
        "failed to list the sources: {}",
        String::from_utf8_lossy(&listed.stderr)
    );
    for name in listed.stdout.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let name = PathBuf::from(String::from_utf8_lossy(name).into_owned());
        let target = to.join(&name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        // A file that is tracked and was just deleted is no reason to stop.
        if from.join(&name).is_file() {
            fs::copy(from.join(&name), &target)
                .with_context(|| format!("failed to copy {}", name.display()))?;
        }
    }
    Ok(())
}

fn sparse(path: &Path) -> Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(b"start")?;
    file.seek(SeekFrom::Start(8 * 1024 * 1024))?;
    file.write_all(b"end")?;
    Ok(())
}

fn random(path: &Path, bytes: usize) -> Result<()> {
    let mut content = vec![0; bytes];
    getrandom::fill(&mut content).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    fs::write(path, content).with_context(|| format!("failed to write {}", path.display()))
}

fn old(path: &Path) -> Result<()> {
    let file = fs::File::options().write(true).open(path)?;
    file.set_modified(
        std::time::UNIX_EPOCH + std::time::Duration::new(86_400 * 365 * 20, 123_456_789),
    )?;
    Ok(())
}

/// The size of a tree.
///
/// # Errors
/// When it cannot be read.
pub fn size(root: &Path) -> Result<Size> {
    let mut size = Size::default();
    for entry in read(root)?.values() {
        if let Content::File { bytes, .. } = &entry.content {
            size.files += 1;
            size.bytes += bytes;
        }
    }
    Ok(size)
}

/// Compares two trees by names, contents, modes, owners, times and links, and returns a sentence for
/// each difference.
///
/// # Errors
/// When one cannot be read.
pub fn differences(left: &Path, right: &Path) -> Result<Vec<String>> {
    let (left, right) = (read(left)?, read(right)?);
    let mut differences = Vec::new();
    for (name, entry) in &left {
        match right.get(name) {
            None => differences.push(format!("{} is missing", name.display())),
            Some(other) if other != entry => {
                differences.push(format!("{} differs: {entry:?} and {other:?}", name.display()));
            }
            Some(_) => {}
        }
    }
    differences.extend(
        right
            .keys()
            .filter(|name| !left.contains_key(*name))
            .map(|name| format!("{} is new", name.display())),
    );
    Ok(differences)
}

fn read(root: &Path) -> Result<BTreeMap<PathBuf, Entry>> {
    let mut entries = BTreeMap::new();
    let mut first_names: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root).sort_by_file_name() {
        let entry = entry.with_context(|| format!("failed to read {}", root.display()))?;
        let name = entry.path().strip_prefix(root)?.to_owned();
        let meta = entry.path().symlink_metadata()?;
        let is_link = meta.file_type().is_symlink();
        let mut same_as = None;
        if meta.is_file() && meta.nlink() > 1 {
            let first = first_names.entry((meta.dev(), meta.ino())).or_insert_with(|| name.clone());
            same_as = Some(first.clone());
        }
        let content = content(entry.path(), &meta)?;
        entries.insert(
            name,
            Entry {
                mode: if is_link { 0 } else { meta.mode() },
                owner: (meta.uid(), meta.gid()),
                modified: (meta.mtime(), meta.mtime_nsec()),
                content,
                same_as,
            },
        );
    }
    Ok(entries)
}

fn content(path: &Path, meta: &fs::Metadata) -> Result<Content> {
    if meta.is_dir() {
        return Ok(Content::Folder);
    }
    if meta.file_type().is_symlink() {
        return Ok(Content::Link { target: fs::read_link(path)? });
    }
    if !meta.is_file() {
        return Ok(Content::Other);
    }
    let mut sha = Sha256::new();
    let mut file =
        fs::File::open(path).with_context(|| format!("failed to open {}", path.display()))?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        sha.update(&buffer[..read]);
    }
    Ok(Content::File { bytes: meta.len(), sha256: data_encoding::HEXLOWER.encode(&sha.finalize()) })
}

/// The names directly below a folder.
///
/// # Errors
/// When it cannot be read.
pub fn names(folder: &Path) -> Result<Vec<OsString>> {
    let mut names: Vec<OsString> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_equal_and_every_kind_of_change_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let (left, right) = (dir.path().join("left"), dir.path().join("right"));
        make(&left).unwrap();
        let copied = Command::new("cp").arg("-a").arg(&left).arg(&right).status().unwrap();
        assert!(copied.success());
        assert_eq!(differences(&left, &right).unwrap(), Vec::<String>::new());

        let awkward = right.join("awkward");
        fs::write(awkward.join("empty"), "x").unwrap();
        assert_eq!(differences(&left, &right).unwrap().len(), 1, "content and time");
        fs::set_permissions(awkward.join("back\\slash"), fs::Permissions::from_mode(0o600))
            .unwrap();
        assert_eq!(differences(&left, &right).unwrap().len(), 2, "mode");
        fs::remove_file(awkward.join("hard link")).unwrap();
        fs::copy(awkward.join("script.sh"), awkward.join("hard link")).unwrap();
        let seen = differences(&left, &right).unwrap();
        assert!(seen.iter().any(|text| text.starts_with("awkward/hard link differs")), "{seen:?}");
        fs::remove_file(awkward.join("link")).unwrap();
        let seen = differences(&left, &right).unwrap();
        assert!(seen.iter().any(|text| text == "awkward/link is missing"), "{seen:?}");
        fs::write(awkward.join("new"), "").unwrap();
        let seen = differences(&left, &right).unwrap();
        assert!(seen.iter().any(|text| text == "awkward/new is new"), "{seen:?}");
    }
}
