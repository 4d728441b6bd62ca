//! Tests of the controller, with a server in a folder of its own and no window.

use super::*;
use crate::bridge::Request;
use futures_util::StreamExt as _;
use protocol::Secret;
use server::vault::{KEY_LEN, VaultError};
use std::{
    path::Path,
    pin::pin,
    sync::{
        Mutex as SyncMutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};

/// A keyring in memory, which may refuse.
#[derive(Default)]
struct Memory {
    is_locked: AtomicBool,
    asked: AtomicU64,
    key: Arc<Key>,
}

#[derive(Default)]
struct Key(SyncMutex<Option<[u8; KEY_LEN]>>);

impl Key {
    fn held(&self) -> MutexGuard<'_, Option<[u8; KEY_LEN]>> {
        self.0.lock().unwrap()
    }
}

impl KeyStore for Key {
    fn load(&self) -> Result<Option<Secret<[u8; KEY_LEN]>>, VaultError> {
        Ok(self.held().map(Secret::new))
    }

    fn create(&self, key: &Secret<[u8; KEY_LEN]>) -> Result<(), VaultError> {
        *self.held() = Some(*key.expose_secret());
        Ok(())
    }
}

impl Keyring for Memory {
    fn open(&self) -> Result<Arc<dyn KeyStore>, Problem> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.is_locked.load(Ordering::Relaxed) {
            return Err(Problem::new(Code::KeyringLocked, "It is locked."));
        }
        Ok(Arc::clone(&self.key) as Arc<dyn KeyStore>)
    }
}

/// A keyring that waits until it is let go.
struct Waiting(SyncMutex<mpsc::Receiver<()>>);

impl Waiting {
    fn wait(&self) {
        // An error says that the other end let go.
        let _ = self.0.lock().unwrap().recv();
    }
}

impl Keyring for Waiting {
    fn open(&self) -> Result<Arc<dyn KeyStore>, Problem> {
        self.wait();
        Err(Problem::new(Code::KeyringFailed, "Nobody should see this."))
    }
}

/// Writes down what it was told.
#[derive(Clone, Default)]
struct Told(Arc<SyncMutex<Vec<&'static str>>>);

impl Told {
    fn note(&self, what: &'static str) {
        self.0.lock().unwrap().push(what);
    }

    fn all(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().clone()
    }
}

impl Shell for Told {
    fn show(&self) {
        self.note("show");
    }

    fn hide(&self) {
        self.note("hide");
    }

    fn exit(&self) {
        self.note("exit");
    }
}

fn config(data_dir: &Path) -> Config {
    Config {
        data_dir: data_dir.to_owned(),
        agent_listen: "127.0.0.1:0".parse().unwrap(),
        agent_addresses: Vec::new(),
        programs: None,
        found_addresses: vec!["192.0.2.1:9781".to_owned()],
    }
}

fn app(data_dir: &Path, keyring: &Arc<Memory>) -> (Controller, Told) {
    let told = Told::default();
    let keyring = Arc::clone(keyring) as Arc<dyn Keyring>;
    (Controller::new(Box::new(told.clone()), keyring, config(data_dir)), told)
}

fn get(path: &str) -> Request {
    Request { method: "GET".to_owned(), path: path.to_owned(), body: None }
}

/// The code of a refusal.
fn code(answer: &Answer) -> String {
    assert_eq!(answer.status, 503, "{}", answer.body);
    let problem: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    problem["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_server_runs_once_asked_and_stops_with_the_app() {
    let folder = tempfile::tempdir().unwrap();
    let keyring = Arc::new(Memory::default());
    let (app, told) = app(folder.path(), &keyring);
    let bridge = app.bridge().await.unwrap();
    let system = bridge.request(get("/api/system")).await;
    assert_eq!(system.status, 200, "{}", system.body);
    assert!(system.body.contains("192.0.2.1:9781"), "{}", system.body);
    let agents = app.server.lock().await.running.as_ref().unwrap().handle.agent_addr();
    tokio::net::TcpStream::connect(agents).await.unwrap();

    assert!(!app.has_ended());
    app.quit().await;
    assert!(app.has_ended());
    tokio::net::TcpStream::connect(agents).await.unwrap_err();
    assert_eq!(code(&app.bridge().await.unwrap_err()), "stopping");
    app.quit().await;
    assert_eq!(told.all(), ["exit"], "it exits once");
}

#[tokio::test]
async fn a_stream_ends_with_the_app() {
    let folder = tempfile::tempdir().unwrap();
    let (app, _told) = app(folder.path(), &Arc::new(Memory::default()));
    let stream = app.bridge().await.unwrap().stream("/api/events").await.ok().unwrap();
    let mut stream = pin!(stream);
    assert!(stream.next().await.unwrap().starts_with(':'), "it begins with a comment");
    let (rest, ()) = tokio::join!(stream.count(), app.quit());
    assert_eq!(rest, 0);
}

#[tokio::test]
async fn a_locked_keyring_starts_nothing_and_the_next_request_tries_again() {
    let folder = tempfile::tempdir().unwrap();
    let keyring = Arc::new(Memory::default());
    keyring.is_locked.store(true, Ordering::Relaxed);
    let (app, _told) = app(folder.path(), &keyring);
    assert_eq!(code(&app.bridge().await.unwrap_err()), "keyring_locked");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was written");
    // Who asks together is refused together: a person is asked once.
    let asked = keyring.asked.load(Ordering::Relaxed);
    let held = app.server.lock().await;
    let once_both_wait = async {
        tokio::task::yield_now().await;
        drop(held);
    };
    let (first, second, ()) = tokio::join!(app.bridge(), app.bridge(), once_both_wait);
    assert_eq!([code(&first.unwrap_err()), code(&second.unwrap_err())], ["keyring_locked"; 2]);
    assert_eq!(keyring.asked.load(Ordering::Relaxed), asked + 1);

    keyring.is_locked.store(false, Ordering::Relaxed);
    let system = app.bridge().await.unwrap().request(get("/api/system")).await;
    assert_eq!(system.status, 200, "{}", system.body);
    app.quit().await;
}

#[tokio::test]
async fn a_key_that_is_gone_is_told_and_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let keyring = Arc::new(Memory::default());
    let (first, _told) = app(folder.path(), &keyring);
    first.bridge().await.unwrap();
    first.quit().await;
    let kept = keyring.key.held().take().unwrap();

    let (second, _told) = app(folder.path(), &keyring);
    assert_eq!(code(&second.bridge().await.unwrap_err()), "vault_key_missing");
    assert_eq!(*keyring.key.held(), None, "no new key was made");
    *keyring.key.held() = Some([9; KEY_LEN]);
    assert_eq!(code(&second.bridge().await.unwrap_err()), "vault_key_wrong");
    *keyring.key.held() = Some(kept);
    second.bridge().await.unwrap();
    second.quit().await;
}

#[tokio::test]
async fn a_data_folder_has_one_manager() {
    let folder = tempfile::tempdir().unwrap();
    let keyring = Arc::new(Memory::default());
    let (first, _told) = app(folder.path(), &keyring);
    first.bridge().await.unwrap();
    let (second, _told) = app(folder.path(), &keyring);
    let refusal = second.bridge().await.unwrap_err();
    assert_eq!(code(&refusal), "data_unusable");
    assert!(refusal.body.contains("Another Restic Manager"), "{}", refusal.body);
    first.quit().await;
    second.bridge().await.unwrap();
    second.quit().await;
}

#[tokio::test]
async fn an_address_in_use_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(folder.path());
    config.agent_listen = other.local_addr().unwrap();
    let keyring = Arc::new(Memory::default());
    let app = Controller::new(Box::new(Told::default()), keyring, config);
    let refusal = app.bridge().await.unwrap_err();
    assert_eq!(code(&refusal), "listen_failed");
    assert!(refusal.body.contains("Another program"), "{}", refusal.body);
    drop(other);
    app.bridge().await.unwrap();
    app.quit().await;
}

#[tokio::test]
async fn a_keyring_that_waits_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (let_go, waits) = mpsc::channel();
    let keyring = Arc::new(Waiting(SyncMutex::new(waits)));
    let told = Told::default();
    let app = Controller::new(Box::new(told.clone()), keyring, config(folder.path()))
        .keyring_within(Duration::from_millis(1));
    assert_eq!(code(&app.bridge().await.unwrap_err()), "keyring_locked");

    // Quitting does not wait for it either.
    let app = app.keyring_within(Duration::from_secs(3600));
    let (refused, ()) = tokio::join!(app.bridge(), app.quit());
    assert_eq!(code(&refused.unwrap_err()), "stopping");
    assert_eq!(told.all(), ["exit"]);
    drop(let_go);
}

#[tokio::test]
async fn closing_hides_and_asking_shows() {
    let folder = tempfile::tempdir().unwrap();
    let (app, told) = app(folder.path(), &Arc::new(Memory::default()));
    app.bridge().await.unwrap();
    app.window_closed().await;
    app.open();
    assert!(!app.has_ended());
    assert_eq!(told.all(), ["hide", "show"]);
    app.quit().await;
}

#[tokio::test]
async fn closing_ends_an_app_that_did_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let keyring = Arc::new(Memory::default());
    keyring.is_locked.store(true, Ordering::Relaxed);
    let (app, told) = app(folder.path(), &keyring);
    app.bridge().await.unwrap_err();
    app.window_closed().await;
    assert!(app.has_ended());
    assert_eq!(told.all(), ["exit"]);
}
