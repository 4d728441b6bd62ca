//! Looks for planted secrets in everything that was written, and in every process's arguments.

use aho_corasick::AhoCorasick;
use anyhow::Result;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// A planted secret, and the only files that may hold it.
#[derive(Clone, Debug)]
pub struct Canary {
    /// What it is, for messages.
    pub name: String,
    /// The secret itself.
    pub secret: String,
    /// Files that may hold it.
    pub allowed: Vec<PathBuf>,
}

impl Canary {
    /// A secret that only these files may hold.
    #[must_use]
    pub fn new(name: &str, secret: &str, allowed: &[PathBuf]) -> Self {
        Self { name: name.to_owned(), secret: secret.to_owned(), allowed: allowed.to_vec() }
    }

    /// Every way in which the secret could have been written down.
    fn forms(&self) -> Vec<Vec<u8>> {
        let raw = self.secret.as_bytes();
        let json = serde_json::Value::from(self.secret.as_str()).to_string();
        let percent: String = raw
            .iter()
            .map(|&byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    char::from(byte).to_string()
                }
                other => format!("%{other:02X}"),
            })
            .collect();
        let utf16: Vec<u8> = self.secret.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut forms = vec![
            raw.to_vec(),
            json.trim_matches('"').as_bytes().to_vec(),
            percent.clone().into_bytes(),
            percent.to_lowercase().into_bytes(),
            data_encoding::BASE64.encode(raw).into_bytes(),
            data_encoding::HEXLOWER.encode(raw).into_bytes(),
            utf16,
        ];
        // The random tail by itself: what is left when a part of the secret was cut or re-encoded.
        if let Some((_, tail)) = self.secret.rsplit_once('#') {
            forms.push(tail.as_bytes().to_vec());
        }
        forms.sort();
        forms.dedup();
        forms
    }
}

/// Finds all secrets in one pass over the bytes.
struct Finder<'a> {
    search: AhoCorasick,
    /// The secret that each pattern is a form of.
    of: Vec<&'a Canary>,
}

impl<'a> Finder<'a> {
    fn new(canaries: &'a [Canary]) -> Result<Self> {
        let mut forms = Vec::new();
        let mut of = Vec::new();
        for canary in canaries {
            for form in canary.forms() {
                forms.push(form);
                of.push(canary);
            }
        }
        Ok(Self { search: AhoCorasick::new(forms)?, of })
    }

    fn in_bytes(&self, bytes: &[u8]) -> Vec<&'a Canary> {
        let mut found: Vec<&Canary> = self
            .search
            .find_overlapping_iter(bytes)
            .map(|hit| self.of[hit.pattern().as_usize()])
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found.dedup_by(|a, b| a.name == b.name);
        found
    }
}

/// The names of the secrets that stand in `bytes`, in whatever form.
///
/// # Errors
/// When there are no secrets to look for.
pub fn names_in(bytes: &[u8], canaries: &[Canary]) -> Result<Vec<String>> {
    Ok(Finder::new(canaries)?
        .in_bytes(bytes)
        .into_iter()
        .map(|canary| canary.name.clone())
        .collect())
}

/// Looks into every file below `root` and returns a sentence for each secret that lies where it must
/// not.
///
/// # Errors
/// When a file cannot be read.
pub fn search(root: &Path, canaries: &[Canary]) -> Result<Vec<String>> {
    let finder = Finder::new(canaries)?;
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry?;
        if !entry.file_type().is_file() {
            continue;
        }
        let Ok(bytes) = fs::read(entry.path()) else { continue };
        for canary in finder.in_bytes(&bytes) {
            if !canary.allowed.iter().any(|path| path == entry.path()) {
                found.push(format!("{} is in {}", canary.name, entry.path().display()));
            }
        }
    }
    Ok(found)
}

/// Watches the arguments of all processes of this machine while it lives.
#[derive(Debug)]
pub struct ArgumentWatch {
    seen: Arc<Mutex<BTreeSet<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl ArgumentWatch {
    /// Begins to watch.
    #[must_use]
    pub fn start() -> Self {
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let found = all_arguments();
                    seen.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
                    thread::sleep(Duration::from_millis(5));
                }
            }
        });
        Self { seen, stop, thread: Some(thread) }
    }

    /// Stops, and returns a sentence for each secret that stood in some process's arguments. Also
    /// says how many command lines of restic were seen, so that a watch that saw nothing is noticed.
    ///
    /// # Errors
    /// When there are no secrets to look for.
    pub fn finish(mut self, canaries: &[Canary]) -> Result<(Vec<String>, usize)> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let finder = Finder::new(canaries)?;
        let restic = seen.iter().filter(|line| is_restic(line)).count();
        let mut found = Vec::new();
        for line in seen.iter() {
            for canary in finder.in_bytes(line) {
                found.push(format!(
                    "{} is in the arguments of {}",
                    canary.name,
                    String::from_utf8_lossy(line)
                ));
            }
        }
        Ok((found, restic))
    }
}

fn is_restic(arguments: &[u8]) -> bool {
    arguments.split(|&byte| byte == 0).next().is_some_and(|program| program.ends_with(b"/restic"))
}

impl Drop for ArgumentWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn all_arguments() -> Vec<Vec<u8>> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter(|entry| {
            entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit())
        })
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| !line.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_every_form_and_only_where_it_is_not_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let secret = crate::planted_secret("pass\"word");
        let allowed = dir.path().join("allowed");
        let canary = Canary::new("the password", &secret, std::slice::from_ref(&allowed));
        for (index, form) in canary.forms().into_iter().enumerate() {
            let path = dir.path().join(format!("form-{index}"));
            fs::write(&path, [b"xx".as_slice(), &form, b"yy"].concat()).unwrap();
            assert_eq!(
                search(dir.path(), std::slice::from_ref(&canary)).unwrap().len(),
                1,
                "form {index}"
            );
            fs::remove_file(path).unwrap();
        }
        fs::write(&allowed, &secret).unwrap();
        fs::write(dir.path().join("harmless"), "pass word").unwrap();
        assert!(search(dir.path(), &[canary]).unwrap().is_empty());
    }
}
