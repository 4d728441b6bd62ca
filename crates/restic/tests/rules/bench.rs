//! What the tests of this crate share: real restics and servers, and a fake restic that replays
//! recorded output.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use restic::{
    BackupOutcome, BackupRequest, CancelToken, Event, Failure, LocateOptions, OurProcess,
    OurProcesses, Repository, Restic, SnapshotId, Timing,
};
use tempfile::TempDir;
use tokio::sync::OnceCell;

pub const PASSWORD: &str = "correct horse battery staple";

/// Runs one test once for each real restic.
macro_rules! with_each_restic {
    ($($(#[doc = $doc:literal])* async fn $name:ident($bench:ident) $body:block)+) => {$(
        $(#[doc = $doc])*
        mod $name {
            use super::*;

            async fn run($bench: crate::bench::Bench) $body

            #[tokio::test]
            async fn restic_0_18_0() {
                run(crate::bench::Bench::new("0.18.0").await).await;
            }

            #[tokio::test]
            async fn restic_0_19_1() {
                run(crate::bench::Bench::new("0.19.1").await).await;
            }
        }
    )+};
}

/// A tool that `cargo xtask tools` unpacks.
pub fn tool(path: &str) -> PathBuf {
    let folder = std::env::var_os("RESTIC_MANAGER_TEST_TOOLS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools"),
        PathBuf::from,
    );
    let tool = folder.join(path);
    assert!(tool.is_file(), "{} is missing: run `cargo xtask tools` first", tool.display());
    tool
}

/// A real restic, an empty repository, and a folder for everything.
pub struct Bench {
    pub restic: Restic,
    pub repository: Repository,
    pub folder: TempDir,
}

impl Bench {
    pub async fn new(version: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let restic = real_restic(version).await;
        let repository = Repository::new(
            folder.path().join("repo").to_str().unwrap(),
            PASSWORD,
            folder.path().join("cache"),
        );
        copy_folder(empty_repository(version).await, &folder.path().join("repo"));
        Self { restic, repository, folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn is_version(&self, version: &str) -> bool {
        self.restic.version().to_string() == version
    }

    /// A folder with two files in a tree.
    pub fn source(&self) -> PathBuf {
        let source = self.path("source");
        fs::create_dir_all(source.join("sub/deep")).unwrap();
        fs::write(source.join("a.txt"), "first").unwrap();
        fs::write(source.join("sub/deep/b.txt"), "second").unwrap();
        source
    }

    pub async fn backup(&self, request: &BackupRequest) -> Result<BackupOutcome, Failure> {
        self.restic.backup(&self.repository, request, &mut |_| {}, &CancelToken::new()).await
    }

    /// A snapshot of [`Bench::source`].
    pub async fn snapshot(&self) -> SnapshotId {
        let request = BackupRequest::new("web-1", [self.source()]);
        let outcome = self.backup(&request).await.unwrap();
        SnapshotId::new(outcome.summary().snapshot_id.clone().unwrap()).unwrap()
    }

    /// The same restic without patience, for tests in which it is to be ended.
    pub fn impatient(&self) -> Restic {
        self.restic.clone().with_timing(Timing {
            grace: Duration::from_millis(300),
            patience: Duration::from_secs(1),
        })
    }

    /// The bench's repository behind a server.
    pub fn behind(&self, server: &Server) -> Repository {
        Repository {
            location: format!("rest:http://{}/repo/", server.address),
            ..self.repository.clone()
        }
    }

    /// So much data that a backup can be met half-way: incompressible, and throttled.
    pub fn slow_backup(&self, repository: &Repository) -> (Repository, BackupRequest) {
        let source = self.path("big");
        let mut state = 1_u64;
        let bytes: Vec<u8> = (0..24 * 1024 * 1024 / 8)
            .flat_map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_le_bytes()
            })
            .collect();
        fs::write(&source, bytes).unwrap();
        let repository = Repository { limit_upload_kib: Some(2 * 1024), ..repository.clone() };
        (repository, BackupRequest::new("web-1", [source]))
    }
}

pub async fn real_restic(version: &str) -> Restic {
    at(&tool(&format!("restic-{version}/usr/bin/restic"))).await
}

async fn at(program: &Path) -> Restic {
    let options =
        LocateOptions { configured: Some(program.to_owned()), ..LocateOptions::default() };
    Restic::locate(&options).await.unwrap()
}

/// Making a repository takes seconds, so one is made for each version and then copied.
async fn empty_repository(version: &str) -> &'static Path {
    static OLDER: OnceCell<TempDir> = OnceCell::const_new();
    static NEWER: OnceCell<TempDir> = OnceCell::const_new();
    let cell = if version == "0.18.0" { &OLDER } else { &NEWER };
    let folder = cell
        .get_or_init(|| async {
            let folder = tempfile::tempdir().unwrap();
            let location = folder.path().join("repo");
            let cache = folder.path().join("cache");
            let repository = Repository::new(location.to_str().unwrap(), PASSWORD, cache);
            let cancel = CancelToken::new();
            let restic = real_restic(version).await;
            let made = restic.init(&repository, &mut |_| {}, &cancel).await;
            assert_eq!(made.unwrap().repository_id.len(), 64);
            folder
        })
        .await;
    Box::leak(folder.path().join("repo").into_boxed_path())
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A rest-server that serves a bench's folder.
pub struct Server {
    process: Child,
    pub address: SocketAddr,
}

impl Server {
    pub fn start(bench: &Bench, arguments: &[&str]) -> Self {
        Self::listen(bench, "127.0.0.1:0", arguments)
    }

    /// Starts it again at the address of one that was stopped.
    pub fn restart(bench: &Bench, address: SocketAddr, arguments: &[&str]) -> Self {
        Self::listen(bench, &address.to_string(), arguments)
    }

    fn listen(bench: &Bench, address: &str, arguments: &[&str]) -> Self {
        let mut process = Command::new(tool("rest-server-0.13.0/usr/bin/restic-rest-server"))
            .arg("--path")
            .arg(bench.folder.path())
            .args(["--listen", address])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = lines
            .find_map(|line| Some(line.unwrap().strip_prefix("start server on ")?.to_owned()))
            .expect("the server ended before it listened");
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address: address.parse().unwrap() }
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A program that says it is restic, and otherwise does what its script says. The script finds the
/// recorded outputs in `$FIXTURES`.
pub async fn fake_restic(folder: &Path, version: &str, script: &str) -> Restic {
    let path = folder.join("restic");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let text = format!(
        "#!/bin/sh\nif [ \"$1\" = version ]; then\n  echo 'restic {version} compiled with go1.24 \
         on linux/amd64'\n  exit\nfi\nFIXTURES='{}'\n{script}\n",
        fixtures.display()
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    at(&path).await
}

/// A fake restic that replays a recorded case, such as `0.18.0/err-disk-full-restore`.
pub async fn replay(folder: &Path, version: &str, case: &str, exit: i32) -> Restic {
    let script = format!(
        "[ ! -f \"$FIXTURES/{case}.jsonl\" ] || cat \"$FIXTURES/{case}.jsonl\"\n\
         [ ! -f \"$FIXTURES/{case}.stderr\" ] || cat \"$FIXTURES/{case}.stderr\" >&2\n\
         exit {exit}"
    );
    fake_restic(folder, version, &script).await
}

pub fn fixture(path: &str) -> Vec<u8> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    fs::read(fixtures.join(path)).unwrap()
}

/// A repository for a fake restic.
pub fn no_repository(folder: &Path) -> Repository {
    Repository::new("/nowhere", PASSWORD, folder.join("cache"))
}

/// The lines of the log among the events.
pub fn log_lines(events: &[Event]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Log { line, .. } => Some(line.as_str()),
            _ => None,
        })
        .collect()
}

/// The process as the owner of locks.
pub fn ours(pids: impl IntoIterator<Item = u32>) -> OurProcesses {
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let processes = pids.into_iter().map(OurProcess::of).collect();
    OurProcesses { hostname: hostname.trim().to_owned(), processes }
}
