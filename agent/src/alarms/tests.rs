//! Messages to real servers on this machine, over plain connections and over TLS.

use super::*;
use protocol::{AlarmChannel, AlarmId, ChannelId, SmtpSecurity};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use serde_json::Value;
use std::collections::BTreeSet;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// A certificate for this machine, and its key.
struct Authority {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Authority {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        Self { certificate: made.cert.der().clone(), key: made.signing_key.serialize_der() }
    }

    fn roots(&self) -> Roots {
        Roots::Only(vec![self.certificate.clone()])
    }

    fn acceptor(&self) -> TlsAcceptor {
        let key = PrivateKeyDer::try_from(self.key.clone()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

fn message(state: AlarmEvent) -> AlarmMessage {
    AlarmMessage {
        id: AlarmId::new(1, &[1; 10]),
        state,
        machine: "Büro 1".to_owned(),
        plan: Some("Every Night".to_owned()),
        repository: Some("NAS".to_owned()),
        at: "2026-03-02T02:00:00Z".parse().unwrap(),
        since: None,
        code: Some(Code::WrongPassword),
        title: "Backup failed: Every Night on Büro 1".to_owned(),
        text: "The backup failed.".to_owned(),
    }
}

fn parcel(target: AlarmTarget, state: AlarmEvent) -> Parcel {
    let channel =
        AlarmChannel { id: ChannelId::new(1, &[1; 10]), name: "channel".to_owned(), target };
    Parcel { channel, message: message(state) }
}

fn secret(text: impl Into<String>) -> Secret<String> {
    Secret::new(text.into())
}

/// A request as it came over the wire, head and body.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> (String, String) {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).await.unwrap();
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await.unwrap();
    (head, String::from_utf8(body).unwrap())
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Takes one request and answers it; with no answer it hangs up.
async fn answer(listener: &TcpListener, answer: Option<&str>) -> (String, String) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let request = request(&mut stream).await;
    if let Some(answer) = answer {
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
    request
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn is_not_sent(attempt: &Attempt, wanted: Code, may_again: bool) -> bool {
    match attempt {
        Attempt::NotSent { problem, again } => (problem.code, *again) == (wanted, may_again),
        Attempt::Sent | Attempt::Uncertain(_) => false,
    }
}

#[tokio::test]
async fn a_webhook_gets_the_message_as_json_with_its_token() {
    let (listener, port) = listen().await;
    let url = secret(format!("http://127.0.0.1:{port}/hook?key=1"));
    let parcel =
        parcel(AlarmTarget::Webhook { url, token: Some(secret("t0ken")) }, AlarmEvent::Failed);
    let roots = Roots::Only(Vec::new());
    let (attempt, (head, body)) =
        tokio::join!(deliver(&parcel, &roots), answer(&listener, Some(OK)));
    assert_eq!(attempt, Attempt::Sent);
    assert!(head.starts_with("POST /hook?key=1 HTTP/1.1"), "{head}");
    assert!(head.to_lowercase().contains("authorization: bearer t0ken"), "{head}");
    assert!(head.to_lowercase().contains(&format!("host: 127.0.0.1:{port}")), "{head}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["state"], "failed");
    assert_eq!(body["machine"], "Büro 1");
    assert_eq!(body["code"], "wrong_password");
    assert!(body.get("since").is_none());
}

#[tokio::test]
async fn ntfy_gets_title_priority_and_tags() {
    let (listener, port) = listen().await;
    let url = secret(format!("http://127.0.0.1:{port}/topic"));
    let parcel = parcel(AlarmTarget::Ntfy { url, token: None }, AlarmEvent::Overdue);
    let roots = Roots::Only(Vec::new());
    let (attempt, (head, body)) =
        tokio::join!(deliver(&parcel, &roots), answer(&listener, Some(OK)));
    assert_eq!(attempt, Attempt::Sent);
    let title = data_encoding::BASE64.encode("Backup failed: Every Night on Büro 1".as_bytes());
    assert!(head.contains(&format!("=?UTF-8?B?{title}?=")), "{head}");
    assert!(head.contains("priority: 4") && head.contains("tags: hourglass"), "{head}");
    assert_eq!(body, "The backup failed.");
}

#[tokio::test]
async fn a_ping_goes_to_the_check_or_what_it_has_for_bad_news_and_for_trials() {
    for (state, path) in [
        (AlarmEvent::Good, "/b-ro-1-669b90ab/every-night-f75f78b2?create=1"),
        (AlarmEvent::Failed, "/b-ro-1-669b90ab/every-night-f75f78b2/fail?create=1"),
        (AlarmEvent::Overdue, "/b-ro-1-669b90ab/every-night-f75f78b2/fail?create=1"),
        (AlarmEvent::Test, "/b-ro-1-669b90ab/every-night-f75f78b2/log?create=1"),
    ] {
        let (listener, port) = listen().await;
        let url = secret(format!("http://127.0.0.1:{port}/{{machine}}/{{plan}}?create=1"));
        let parcel = parcel(AlarmTarget::Ping { url }, state);
        let roots = Roots::Only(Vec::new());
        let (attempt, (head, _)) =
            tokio::join!(deliver(&parcel, &roots), answer(&listener, Some(OK)));
        assert_eq!(attempt, Attempt::Sent);
        assert!(head.starts_with(&format!("GET {path} HTTP/1.1")), "{head}");
    }
}

#[tokio::test]
async fn what_the_answer_says_decides() {
    let url = |port| secret(format!("http://127.0.0.1:{port}/canary"));
    let roots = Roots::Only(Vec::new());
    for (said, code, again) in [
        ("404 Not Found", Code::ChannelRefused, false),
        ("401 Unauthorized", Code::ChannelRefused, false),
        ("429 Too Many Requests", Code::ChannelRefused, true),
        ("503 Service Unavailable", Code::ChannelRefused, true),
        ("302 Found\r\nlocation: http://127.0.0.1:1/", Code::ChannelRefused, false),
    ] {
        let (listener, port) = listen().await;
        let text = format!("HTTP/1.1 {said}\r\ncontent-length: 0\r\n\r\n");
        let parcel = parcel(AlarmTarget::Webhook { url: url(port), token: None }, AlarmEvent::Good);
        let (attempt, _) = tokio::join!(deliver(&parcel, &roots), answer(&listener, Some(&text)));
        assert!(is_not_sent(&attempt, code, again), "{said}: {attempt:?}");
        assert!(!format!("{attempt:?}").contains("canary"));
    }
    // It was handed over, and then the server hung up.
    let (listener, port) = listen().await;
    let parcel = parcel(AlarmTarget::Webhook { url: url(port), token: None }, AlarmEvent::Good);
    let (attempt, _) = tokio::join!(deliver(&parcel, &roots), answer(&listener, None));
    assert!(matches!(attempt, Attempt::Uncertain(_)), "{attempt:?}");
    // Nobody is there any more.
    drop(listener);
    let attempt = deliver(&parcel, &roots).await;
    assert!(is_not_sent(&attempt, Code::ChannelUnreachable, true), "{attempt:?}");
}

#[tokio::test]
async fn over_tls_only_a_server_that_is_known_gets_anything() {
    let authority = Authority::new();
    let (listener, port) = listen().await;
    let url = secret(format!("https://localhost:{port}/hook"));
    let parcel = parcel(AlarmTarget::Webhook { url, token: None }, AlarmEvent::Good);
    let served = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = authority.acceptor().accept(stream).await.ok()?;
        let request = request(&mut stream).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
        Some(request)
    };
    let roots = authority.roots();
    let (attempt, served) = tokio::join!(deliver(&parcel, &roots), served);
    assert_eq!((attempt, served.is_some()), (Attempt::Sent, true));
    let (roots, served) = (Authority::new().roots(), async {
        let (stream, _) = listener.accept().await.unwrap();
        authority.acceptor().accept(stream).await.is_ok()
    });
    let (attempt, served) = tokio::join!(deliver(&parcel, &roots), served);
    assert!(is_not_sent(&attempt, Code::CertificateUnknown, true), "{attempt:?}");
    assert!(!served);
}

/// A mail server that takes one mail, with a password, over a connection that TLS secures from its
/// beginning on or on request. Gives back what it was told.
async fn take_mail(
    listener: &TcpListener,
    acceptor: TlsAcceptor,
    at_once: bool,
    verdict: &str,
) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut told = String::new();
    if !at_once {
        stream.write_all(b"220 mail\r\n").await.unwrap();
        let mut plain = BufReader::new(&mut stream);
        for reply in ["250-mail\r\n250 STARTTLS\r\n", "220 go\r\n"] {
            let mut line = String::new();
            plain.read_line(&mut line).await.unwrap();
            plain.get_mut().write_all(reply.as_bytes()).await.unwrap();
        }
    }
    let Ok(stream) = acceptor.accept(stream).await else { return told };
    let mut stream = BufReader::new(stream);
    if at_once {
        stream.write_all(b"220 mail\r\n").await.unwrap();
    }
    let mut is_data = false;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return told;
        }
        told.push_str(&line);
        let reply = match line.split_ascii_whitespace().next().unwrap_or_default() {
            "." if is_data => {
                is_data = false;
                format!("{verdict}\r\n")
            }
            _ if is_data => continue,
            "EHLO" => "250-mail\r\n250 AUTH PLAIN LOGIN\r\n".to_owned(),
            "AUTH" => "235 welcome\r\n".to_owned(),
            "DATA" => {
                is_data = true;
                "354 go on\r\n".to_owned()
            }
            _ => "250 ok\r\n".to_owned(),
        };
        stream.write_all(reply.as_bytes()).await.unwrap();
    }
}

fn mail(port: u16, security: SmtpSecurity) -> Parcel {
    let target = AlarmTarget::Smtp {
        host: "localhost".to_owned(),
        port,
        security,
        username: Some("box".to_owned()),
        password: Some(secret("s3cret")),
        from: "box@example.org".to_owned(),
        to: vec!["one@example.org".to_owned(), "two@example.org".to_owned()],
    };
    parcel(target, AlarmEvent::Failed)
}

#[tokio::test]
async fn a_mail_is_sent_once_the_connection_is_secured() {
    let authority = Authority::new();
    for (security, at_once) in [(SmtpSecurity::Tls, true), (SmtpSecurity::Starttls, false)] {
        let (listener, port) = listen().await;
        let (mail, roots) = (mail(port, security), authority.roots());
        let taken = take_mail(&listener, authority.acceptor(), at_once, "250 taken");
        let (attempt, told) = tokio::join!(deliver(&mail, &roots), taken);
        assert_eq!(attempt, Attempt::Sent, "{told}");
        assert!(told.contains("RCPT TO:<two@example.org>"), "{told}");
        assert!(told.contains("The backup failed."), "{told}");
        assert!(told.contains("Date: Mon, 02 Mar 2026 02:00:00 +0000"), "{told}");
        assert!(told.contains("Subject: Backup failed: Every Night on =?utf-8?"), "{told}");
    }
}

#[tokio::test]
async fn a_mail_server_that_refuses_is_asked_again_where_that_may_help() {
    let authority = Authority::new();
    for (verdict, again) in [("451 later", true), ("554 never", false)] {
        let (listener, port) = listen().await;
        let (mail, roots) = (mail(port, SmtpSecurity::Tls), authority.roots());
        let taken = take_mail(&listener, authority.acceptor(), true, verdict);
        let (attempt, _) = tokio::join!(deliver(&mail, &roots), taken);
        assert!(is_not_sent(&attempt, Code::ChannelRefused, again), "{attempt:?}");
    }
}

#[tokio::test]
async fn nothing_is_told_to_a_mail_server_that_cannot_secure_the_connection_or_is_another() {
    let authority = Authority::new();
    let (listener, port) = listen().await;
    let (mail, stranger) = (mail(port, SmtpSecurity::Starttls), Authority::new().roots());
    let taken = take_mail(&listener, authority.acceptor(), false, "250 taken");
    let (attempt, told) = tokio::join!(deliver(&mail, &stranger), taken);
    assert!(is_not_sent(&attempt, Code::CertificateUnknown, true), "{attempt:?}");
    assert!(told.is_empty());
    // One that does not offer it at all.
    let plain = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 mail\r\n").await.unwrap();
        let mut reader = BufReader::new(&mut stream);
        let mut told = String::new();
        while reader.read_line(&mut told).await.unwrap_or(0) > 0 {
            let _ = reader.get_mut().write_all(b"250 mail\r\n").await;
        }
        told
    };
    let roots = authority.roots();
    let (attempt, told) = tokio::join!(deliver(&mail, &roots), plain);
    assert!(is_not_sent(&attempt, Code::ChannelRefused, false), "{attempt:?}");
    assert!(!told.contains("AUTH") && !told.contains("MAIL"), "{told}");
}

#[tokio::test]
async fn a_mail_server_that_never_ends_a_line_is_not_listened_to_for_long() {
    const PIECE: usize = 64 * 1024;
    let (listener, port) = listen().await;
    let endless = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut said = 0;
        // What a connection holds on its way is several megabytes.
        while said < 1024 * PIECE && stream.write_all(&[b'2'; PIECE]).await.is_ok() {
            said += PIECE;
        }
        said
    };
    let (mail, roots) = (mail(port, SmtpSecurity::Starttls), Roots::Only(Vec::new()));
    let (attempt, said) = tokio::join!(deliver(&mail, &roots), endless);
    assert!(is_not_sent(&attempt, Code::ChannelUnreachable, true), "{attempt:?}");
    assert!(said < 1024 * PIECE, "it listened to all of {said} bytes");
}

#[tokio::test]
async fn words_that_come_before_tls_are_no_answers_of_the_server_behind_it() {
    let authority = Authority::new();
    let (listener, port) = listen().await;
    let forged = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 mail\r\n").await.unwrap();
        let mut plain = BufReader::new(&mut stream);
        // Somebody on the way goes on where the server ends, up to "it was taken".
        let go = "220 go\r\n250-mail\r\n250 AUTH PLAIN\r\n235 in\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 on\r\n250 taken\r\n250 bye\r\n";
        for reply in ["250-mail\r\n250 STARTTLS\r\n", go] {
            let mut line = String::new();
            plain.read_line(&mut line).await.unwrap();
            plain.get_mut().write_all(reply.as_bytes()).await.unwrap();
        }
        let Ok(mut stream) = authority.acceptor().accept(stream).await else { return Vec::new() };
        let mut told = Vec::new();
        let _ = stream.read_to_end(&mut told).await;
        told
    };
    let (mail, roots) = (mail(port, SmtpSecurity::Starttls), authority.roots());
    let (attempt, told) = tokio::join!(deliver(&mail, &roots), forged);
    assert!(is_not_sent(&attempt, Code::ChannelUnreachable, true), "{attempt:?}");
    assert_eq!(told, b"", "nothing is told over such a connection");
}

/// Time goes by itself while everybody waits.
#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_before_the_message_gets_it_again_and_after_it_does_not() {
    let roots = Roots::Only(Vec::new());
    let (listener, port) = listen().await;
    let silent = async {
        let (stream, _) = listener.accept().await.unwrap();
        std::future::pending::<()>().await;
        drop(stream);
    };
    let mail = mail(port, SmtpSecurity::Starttls);
    let attempt = tokio::select! {
        attempt = deliver(&mail, &roots) => attempt,
        () = silent => panic!("it never ends"),
    };
    assert!(is_not_sent(&attempt, Code::ChannelUnreachable, true), "{attempt:?}");
    let url = secret(format!("http://127.0.0.1:{port}/hook"));
    let hook = parcel(AlarmTarget::Webhook { url, token: None }, AlarmEvent::Good);
    let silent = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        request(&mut stream).await;
        std::future::pending::<()>().await;
    };
    let attempt = tokio::select! {
        attempt = deliver(&hook, &roots) => attempt,
        () = silent => panic!("it never ends"),
    };
    assert!(matches!(attempt, Attempt::Uncertain(_)), "{attempt:?}");
}

#[test]
fn names_become_parts_of_an_address() {
    for (name, wanted) in [
        ("web-1", "web-1"),
        ("db-prod", "db-prod"),
        ("DB (prod)", "db-prod-2cbfd7f4"),
        ("db--prod", "db-prod-dbc432f3"),
        ("Nightly", "nightly-ab6b5a4d"),
        ("Büro 1!", "b-ro-1-9681bb57"),
        ("日本", "cf2abf0c"),
        ("--", "d8156bae"),
    ] {
        assert_eq!(slug(name), wanted);
    }
}

#[test]
fn different_names_never_share_a_check() {
    let names = ["日本", "仕事", "", "-", "a", "A", "a-", "-a", "a b", "a-b", "a--b", "a_b", "ä b"];
    let slugs: BTreeSet<String> = names.iter().map(|name| slug(name)).collect();
    assert_eq!(slugs.len(), names.len(), "{slugs:?}");
    let fits = |slug: &String| {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        // Two dashes never come of a name: they can keep two names in one address apart.
        slug.chars().all(is_plain) && !slug.contains("--") && !slug.starts_with('-')
    };
    assert!(slugs.iter().all(fits), "{slugs:?}");
}
