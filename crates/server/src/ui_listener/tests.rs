//! The listener over real sockets and real TLS.

use super::{UiConfig, UiError, UiHandle, hosts, start};
use crate::api::tests::Fleet;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

fn config(listen: &str) -> UiConfig {
    UiConfig { listen: listen.parse().unwrap(), hosts: Vec::new() }
}

/// A connection that trusts the fleet's root and nothing else.
async fn connect(fleet: &Fleet, address: SocketAddr) -> TlsStream<TcpStream> {
    let pem = fleet.manager.identity().root_cert_pem();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

async fn get(fleet: &Fleet, ui: &UiHandle, path: &str) -> String {
    let mut stream = connect(fleet, ui.address()).await;
    let host = ui.address();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The end without a TLS goodbye is no error here.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn it_answers_over_tls_with_the_fleets_own_certificate_and_asks_who_it_is() {
    let fleet = Fleet::new().await;
    let ui = start(fleet.manager.clone(), &config("127.0.0.1:0")).await.unwrap();
    let session = get(&fleet, &ui, "/api/session").await;
    assert!(session.starts_with("HTTP/1.1 200 "), "{session}");
    assert!(session.ends_with(r#"{"signed_in":false}"#), "{session}");
    let system = get(&fleet, &ui, "/api/system").await;
    assert!(system.starts_with("HTTP/1.1 401 "), "{system}");
    assert!(system.contains("cache-control: no-store"), "{system}");
    ui.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn it_stops_although_a_client_holds_its_connection() {
    let fleet = Fleet::new().await;
    let ui = start(fleet.manager.clone(), &config("127.0.0.1:0")).await.unwrap();
    let _idle = connect(&fleet, ui.address()).await;
    let address = ui.address();
    tokio::time::timeout(Duration::from_secs(20), ui.shutdown(Duration::from_secs(1)))
        .await
        .expect("it hangs");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn it_does_not_show_itself_to_others_before_a_password_is_set() {
    let fleet = Fleet::new().await;
    let refused = start(fleet.manager.clone(), &config("0.0.0.0:0")).await.unwrap_err();
    assert!(matches!(refused, UiError::NoPassword(_)), "{refused}");
}

#[test]
fn names_get_the_port_that_they_do_not_have() {
    let all = hosts("127.0.0.1:9780".parse().unwrap(), &["nas".into(), "nas.lan:443".into()]);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    assert_eq!(all, ["127.0.0.1:9780", "[::1]:9780", "localhost:9780", "nas.lan:443", "nas:9780"]);
}
