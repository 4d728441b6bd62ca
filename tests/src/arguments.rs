//! Looks for planted secrets in the arguments of every process of the machine, which all its users
//! can read.

use crate::canary::{Canary, Finder};
use anyhow::{Result, ensure};
use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

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

    /// Stops, and returns a sentence for each secret that stood in some process's arguments.
    ///
    /// # Errors
    /// When there are no secrets to look for, or when it did not see a restic, an agent and a
    /// `manager`, by the name of its program: then it would not have seen a secret either.
    pub fn finish(mut self, canaries: &[Canary], manager: &str) -> Result<Vec<String>> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let finder = Finder::new(canaries)?;
        for name in ["restic", "restic-manager-agent", manager] {
            ensure!(
                seen.iter().any(|line| is_program(name, line)),
                "the watch over arguments did not see {name}"
            );
        }
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
        Ok(found)
    }
}

fn is_program(name: &str, arguments: &[u8]) -> bool {
    let program = arguments.split(|&byte| byte == 0).next().unwrap_or_default();
    program.rsplit(|&byte| byte == b'/').next() == Some(name.as_bytes())
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
