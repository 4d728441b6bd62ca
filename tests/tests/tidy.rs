//! Holds what neither the compiler nor a lint can: that files say what they are for and stay
//! small, that migrations never change, and that the documents are there.

#![expect(clippy::expect_used, reason = "a test that meets the unexpected stops, and says where")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// The longest file of a program. Beyond it, a reader looks for a seam.
const MAX_LINES: usize = 700;

/// The longest file of tests.
const MAX_TEST_LINES: usize = 1000;

/// What to do about a migration with another checksum.
const CHANGED: &str = "if a release has it, undo that and add another; otherwise its line is now";

/// Folders that hold no sources of ours.
const SKIPPED: &[&str] = &["target", "node_modules", ".git", "dist", "gen"];

/// Files that whoever comes to the repository looks for.
const DOCUMENTS: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "PROTOCOL.md",
    "README.md",
    "SECURITY.md",
];

#[test]
fn every_source_file_opens_with_what_it_is_for() {
    let silent = offenders(&rust_files(), |_, text| {
        (!text.starts_with("//!")).then(|| "does not open with `//!`".to_owned())
    });
    assert_none(&silent);
}

#[test]
fn no_source_file_is_too_long() {
    let long = offenders(&rust_files(), |path, text| {
        let cap = if is_test(path) { MAX_TEST_LINES } else { MAX_LINES };
        let lines = text.lines().count();
        (lines > cap).then(|| format!("has {lines} lines, {cap} are allowed"))
    });
    assert_none(&long);
}

#[test]
fn nothing_unfinished_is_left_behind() {
    // Put together here, so that this file does not find itself.
    let marks = [concat!("db", "g!("), concat!("to", "do!("), concat!("unimple", "mented!(")];
    let unfinished = offenders(&rust_files(), |_, text| {
        marks.iter().find(|mark| text.contains(**mark)).map(|mark| format!("has `{mark}`"))
    });
    assert_none(&unfinished);
}

/// A path of the machine that something was written on helps nobody on another one.
#[test]
fn no_file_names_the_folder_of_a_checkout() {
    let here = root().display().to_string();
    let folders = [here.as_str(), concat!("/wo", "rk/")];
    let kinds = ["rs", "toml", "md", "sql", "sh", "ts", "svelte", "json", "yml", "yaml"];
    let files = files_with_ending(&root(), &kinds);
    let told = offenders(&files, |_, text| {
        folders
            .iter()
            .find(|folder| text.match_indices(**folder).any(|(at, _)| starts_a_path(text, at)))
            .map(|folder| format!("names `{folder}`"))
    });
    assert_none(&told);
}

/// A database in the field has run the migrations as they were, so they never change. The list
/// is in the format of `sha256sum`.
#[test]
fn migrations_are_only_ever_added() {
    let folder = root().join("migrations");
    let list = fs::read_to_string(folder.join("CHECKSUMS")).expect("migrations/CHECKSUMS exists");
    let mut listed: BTreeMap<&str, &str> = list
        .lines()
        .filter_map(|line| line.split_once("  ").map(|(hash, file)| (file, hash)))
        .collect();
    assert_eq!(listed.len(), list.lines().count(), "CHECKSUMS has a line that is none, or twice");

    let mut broken = Vec::new();
    for path in files_with_ending(&folder, &["sql"]) {
        let file = relative(&path, &folder);
        let hash = sha256(&path);
        match listed.remove(file.as_str()) {
            Some(known) if known == hash => {}
            Some(_) => broken.push(format!("{file} changed: {CHANGED}\n{hash}  {file}")),
            None => broken.push(format!("{file} is new: append this line\n{hash}  {file}")),
        }
    }
    broken.extend(listed.keys().map(|file| format!("{file} is gone: migrations stay for ever")));
    assert_none(&broken);
}

#[test]
fn the_documents_are_there() {
    let missing: Vec<String> = DOCUMENTS
        .iter()
        .filter(|name| fs::read_to_string(root().join(name)).unwrap_or_default().trim().is_empty())
        .map(|name| format!("{name} is missing or empty"))
        .collect();
    assert_none(&missing);
}

fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("the tests live in a folder of the workspace").to_path_buf()
}

fn rust_files() -> Vec<PathBuf> {
    let files = files_with_ending(&root(), &["rs"]);
    assert!(files.len() > 10, "the sources were not found: {files:?}");
    files
}

/// Files below a folder, in a fixed order.
fn files_with_ending(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder can be listed") {
        let path = entry.expect("the folder can be listed").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if !SKIPPED.contains(&name) {
                found.extend(files_with_ending(&path, endings));
            }
        } else if path.extension().is_some_and(|it| endings.iter().any(|ending| it == *ending)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn is_test(path: &Path) -> bool {
    let path = relative(path, &root());
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// Whether a path begins here, rather than going on.
fn starts_a_path(text: &str, at: usize) -> bool {
    let before = text[..at].chars().next_back();
    before.is_none_or(|it| !it.is_alphanumeric() && !"/.-_}~*".contains(it))
}

fn offenders(files: &[PathBuf], complaint: impl Fn(&Path, &str) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    for path in files {
        let text = fs::read_to_string(path).expect("a source file is text");
        if let Some(complaint) = complaint(path, &text) {
            found.push(format!("{} {complaint}", relative(path, &root())));
        }
    }
    found
}

fn relative(path: &Path, folder: &Path) -> String {
    let path = path.strip_prefix(folder).expect("the file is below the folder");
    path.to_string_lossy().replace('\\', "/")
}

fn sha256(path: &Path) -> String {
    let bytes = fs::read(path).expect("the file can be read");
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn assert_none(offenders: &[String]) {
    assert!(offenders.is_empty(), "\n{}\n", offenders.join("\n"));
}
