//! The listener over real sockets and real TLS.

use super::{UiConfig, UiError, UiHandle, certificate, hosts, names, pages, start};
use crate::api::tests::Fleet;
use jiff::SignedDuration;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    time_provider::TimeProvider,
};
use schedule::{Clock as _, ManualClock};
use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

fn config(listen: &str) -> UiConfig {
    UiConfig { listen: listen.parse().unwrap(), hosts: Vec::new(), pages: None }
}

async fn started(fleet: &Fleet, config: &UiConfig) -> UiHandle {
    start(fleet.manager.clone(), fleet.dir.path(), config).await.unwrap()
}

/// The test's clock, for those who check certificates.
#[derive(Debug)]
struct Time(Arc<ManualClock>);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().as_second()).unwrap();
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

fn public_certificate(fleet: &Fleet) -> String {
    fs::read_to_string(certificate::public_file(fleet.dir.path())).unwrap()
}

/// A connection that trusts this certificate and nothing else.
async fn connect(fleet: &Fleet, address: SocketAddr) -> TlsStream<TcpStream> {
    connect_as(fleet, address, b"http/1.1").await
}

async fn connect_as(fleet: &Fleet, address: SocketAddr, speaks: &[u8]) -> TlsStream<TcpStream> {
    let pem = public_certificate(fleet);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let time = Arc::new(Time(Arc::clone(&fleet.clock)));
    let mut config = ClientConfig::builder_with_details(provider, time)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![speaks.to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

async fn get_from(fleet: &Fleet, ui: &UiHandle, host: &str, path: &str) -> String {
    let mut stream = connect(fleet, ui.address()).await;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The end without a TLS goodbye is no error here.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

async fn get(fleet: &Fleet, ui: &UiHandle, path: &str) -> String {
    get_from(fleet, ui, &ui.address().to_string(), path).await
}

#[tokio::test]
async fn it_answers_over_tls_with_its_own_certificate_and_asks_who_it_is() {
    let fleet = Fleet::new().await;
    let ui = started(&fleet, &config("127.0.0.1:0")).await;
    let session = get(&fleet, &ui, "/api/session").await;
    assert!(session.starts_with("HTTP/1.1 200 "), "{session}");
    assert!(session.ends_with(r#"{"signed_in":false}"#), "{session}");
    let system = get(&fleet, &ui, "/api/system").await;
    assert!(system.starts_with("HTTP/1.1 401 "), "{system}");
    assert!(system.contains("cache-control: no-store"), "{system}");
    assert!(system.contains("x-content-type-options: nosniff"), "{system}");
    ui.shutdown(Duration::from_secs(5)).await;
}

fn make_pages(folder: &Path) {
    fs::create_dir_all(folder.join("assets")).unwrap();
    fs::write(folder.join("index.html"), "the index").unwrap();
    fs::write(folder.join("assets/index-abc.js"), "the script").unwrap();
    fs::write(folder.join("../outside.txt"), "the secret").unwrap();
}

#[tokio::test]
async fn pages_are_handed_out_to_anyone_with_strict_headers_and_nothing_beside_them() {
    let fleet = Fleet::new().await;
    let folder = fleet.dir.path().join("pages");
    make_pages(&folder);
    let mut config = config("127.0.0.1:0");
    config.pages = Some(folder);
    let ui = started(&fleet, &config).await;
    assert!(ui.has_pages());
    for (path, content, kind, keep) in [
        ("/", "the index", "text/html; charset=utf-8", "no-cache"),
        (
            "/assets/index-abc.js",
            "the script",
            "text/javascript; charset=utf-8",
            "public, max-age=31536000, immutable",
        ),
    ] {
        let answer = get(&fleet, &ui, path).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(content), "{answer}");
        for (name, value) in [
            ("content-type", kind),
            ("cache-control", keep),
            ("content-security-policy", pages::CONTENT_SECURITY_POLICY),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
        ] {
            assert!(answer.contains(&format!("\r\n{name}: {value}\r\n")), "{name}: {answer}");
        }
    }
    for path in [
        "/outside.txt",
        "/../outside.txt",
        "/assets/../../outside.txt",
        "/%2e%2e/outside.txt",
        "/..%2foutside.txt",
        "/assets/..%5c..%5coutside.txt",
        "//etc/passwd",
        "/assets/",
        "/assets",
    ] {
        let answer = get(&fleet, &ui, path).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
        assert!(!answer.contains("the secret"), "{path}: {answer}");
    }
    let run = format!("/api/runs/{}", uuid::Uuid::nil());
    let unknown_run = get(&fleet, &ui, &run).await;
    assert!(unknown_run.starts_with("HTTP/1.1 401 "), "{unknown_run}");
    let unknown = get(&fleet, &ui, "/api/nothing").await;
    assert!(unknown.starts_with("HTTP/1.1 404 ") && unknown.contains("not_found"), "{unknown}");
    let elsewhere = get_from(&fleet, &ui, "evil.example", "/").await;
    assert!(elsewhere.starts_with("HTTP/1.1 403 "), "{elsewhere}");
    assert!(!elsewhere.contains("the index"), "{elsewhere}");
    ui.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn without_pages_it_says_what_to_do() {
    let fleet = Fleet::new().await;
    let ui = started(&fleet, &config("127.0.0.1:0")).await;
    assert!(!ui.has_pages());
    let answer = get(&fleet, &ui, "/").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("--ui-dir"), "{answer}");
    ui.shutdown(Duration::from_secs(5)).await;
    let mut wrong = config("127.0.0.1:0");
    wrong.pages = Some(fleet.dir.path().join("nothing"));
    let refused = start(fleet.manager.clone(), fleet.dir.path(), &wrong).await.unwrap_err();
    assert!(matches!(refused, UiError::Pages(_)), "{refused}");
}

#[tokio::test]
async fn the_certificate_outlives_a_restart_and_is_made_anew_for_other_names() {
    let fleet = Fleet::new().await;
    let mut config = config("127.0.0.1:0");
    let mut made = Vec::new();
    for host in [None, None, Some("nas.lan:443")] {
        config.hosts = host.map(str::to_owned).into_iter().collect();
        started(&fleet, &config).await.shutdown(Duration::from_secs(5)).await;
        made.push(public_certificate(&fleet));
    }
    assert_eq!(made[0], made[1]);
    assert_ne!(made[1], made[2]);
    let stored = fleet.dir.path().join("ui-certificate.json");
    fs::write(&stored, "damaged").unwrap();
    started(&fleet, &config).await.shutdown(Duration::from_secs(5)).await;
    assert_ne!(made[2], public_certificate(&fleet), "what cannot be read is made again");
}

#[tokio::test]
async fn the_certificate_is_renewed_before_its_end_while_the_server_runs() {
    let fleet = Fleet::new().await;
    let ui = started(&fleet, &config("127.0.0.1:0")).await;
    let first = public_certificate(&fleet);
    fleet.clock.advance(SignedDuration::from_hours(24 * 769));
    get(&fleet, &ui, "/api/session").await;
    assert_eq!(first, public_certificate(&fleet));
    fleet.clock.advance(SignedDuration::from_hours(24 * 2));
    // The first connection that meets the new one may have trusted the old one still.
    let _ = TcpStream::connect(ui.address()).await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), async {
        while first == public_certificate(&fleet) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it is not renewed");
    let session = get(&fleet, &ui, "/api/session").await;
    assert!(session.starts_with("HTTP/1.1 200 "), "{session}");
    ui.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn it_stops_although_a_client_holds_its_connection() {
    let fleet = Fleet::new().await;
    let ui = started(&fleet, &config("127.0.0.1:0")).await;
    let address = ui.address();
    let _idle = connect(&fleet, address).await;
    let idle = connect_as(&fleet, address, b"h2").await;
    assert_eq!(idle.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    tokio::time::timeout(Duration::from_secs(20), ui.shutdown(Duration::from_secs(1)))
        .await
        .expect("it hangs");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn it_does_not_show_itself_to_others_before_a_password_is_set() {
    let fleet = Fleet::new().await;
    let refused =
        start(fleet.manager.clone(), fleet.dir.path(), &config("0.0.0.0:0")).await.unwrap_err();
    assert!(matches!(refused, UiError::NoPassword(_)), "{refused}");
}

#[test]
fn names_get_the_port_that_they_do_not_have() {
    let all = hosts("127.0.0.1:9780".parse().unwrap(), &["nas".into(), "nas.lan:443".into()]);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    assert_eq!(all, ["127.0.0.1:9780", "[::1]:9780", "localhost:9780", "nas.lan:443", "nas:9780"]);
}

#[test]
fn the_certificate_names_hosts_without_their_ports() {
    let told = ["NAS.lan:443".into(), "nas".into(), "[2001:db8::1]:9780".into(), "a b".into()];
    let all = names("192.0.2.7:9780".parse().unwrap(), &told);
    for name in ["nas.lan", "nas", "2001:db8::1", "192.0.2.7", "localhost", "127.0.0.1", "::1"] {
        assert!(all.contains(name), "{name}: {all:?}");
    }
    assert!(!all.contains("a b"));
}
