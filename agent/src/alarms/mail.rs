//! One mail. The steps are taken one by one, so that it is known whether the message was handed over.

use super::{
    CONNECT_WITHIN, DONE_WITHIN, Roots, guarded::Guarded, no_address, no_answer, not_sent, secure,
    unreachable, within,
};
use crate::core::{AlarmMessage, Attempt};
use lettre::{
    Address, Message,
    message::{Mailbox, header::ContentType},
    transport::smtp::{
        Error,
        authentication::{Credentials, Mechanism},
        client::{
            AsyncSmtpConnection, AsyncTokioStream, Certificate, CertificateStore, TlsParameters,
        },
        extension::ClientId,
    },
};
use protocol::{Code, Problem, Secret, SmtpSecurity};
use std::{io, time::Duration};
use tokio::{net::TcpStream, time::timeout};

/// How long it may take until the server is ready for the mail, sign-in included.
const OPEN_WITHIN: Duration = Duration::from_secs(30);

/// A mail server.
pub(super) struct Server<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) security: SmtpSecurity,
    pub(super) sign_in: Option<(&'a str, &'a Secret<String>)>,
}

pub(super) async fn send(
    server: &Server<'_>,
    from: &str,
    to: &[String],
    message: &AlarmMessage,
    roots: &Roots,
) -> Attempt {
    let Some(mail) = compose(from, to, message) else { return not_sent(no_address(), false) };
    let mut connection = match timeout(OPEN_WITHIN, open(server, roots)).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(attempt)) => return attempt,
        Err(_) => return not_sent(unreachable(&io::ErrorKind::TimedOut.into()), true),
    };
    let attempt = within(DONE_WITHIN, hand_over(&mut connection, &mail)).await;
    // The mail is taken or not by now, and a server that is slow to say goodbye changes nothing.
    let _ = timeout(CONNECT_WITHIN, connection.quit()).await;
    attempt
}

async fn hand_over(connection: &mut AsyncSmtpConnection, mail: &Message) -> Attempt {
    match connection.send(mail.envelope(), &mail.formatted()).await {
        Ok(_) => Attempt::Sent,
        // The server said so, before or after it saw the mail.
        Err(error) if error.is_permanent() || error.is_transient() => failed(&error),
        Err(_) => Attempt::Uncertain(no_answer()),
    }
}

fn compose(from: &str, to: &[String], message: &AlarmMessage) -> Option<Message> {
    let mailbox = |text: &str| Some(Mailbox::new(None, text.trim().parse::<Address>().ok()?));
    let mut mail = Message::builder()
        .from(mailbox(from)?)
        .subject(message.title.as_str())
        .message_id(Some(format!("<{}@restic-manager.internal>", message.id)))
        .date(message.at.try_into().ok()?)
        .header(ContentType::TEXT_PLAIN);
    for address in to {
        mail = mail.to(mailbox(address)?);
    }
    mail.body(format!("{}\n", message.text)).ok()
}

/// A server that is ready for the mail; or why there is none, and nothing was sent.
async fn open(server: &Server<'_>, roots: &Roots) -> Result<AsyncSmtpConnection, Attempt> {
    let away = |error: io::Error| not_sent(unreachable(&error), true);
    let tcp = timeout(CONNECT_WITHIN, TcpStream::connect((server.host, server.port)))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(away)?;
    let stream: Box<dyn AsyncTokioStream> = match server.security {
        SmtpSecurity::Tls => {
            Box::new(Guarded::new(secure(server.host, tcp, roots).await.map_err(away)?))
        }
        SmtpSecurity::Starttls | SmtpSecurity::None => Box::new(Guarded::new(tcp)),
    };
    greet(server, stream, roots).await.map_err(|error| failed(&error))
}

async fn greet(
    server: &Server<'_>,
    stream: Box<dyn AsyncTokioStream>,
    roots: &Roots,
) -> Result<AsyncSmtpConnection, Error> {
    let hello = ClientId::default();
    let mut connection = AsyncSmtpConnection::connect_with_transport(stream, &hello).await?;
    if server.security == SmtpSecurity::Starttls {
        // Without it this fails, and nothing more is said.
        connection.starttls(parameters(server.host, roots)?, &hello).await?;
    }
    if let Some((name, password)) = server.sign_in {
        let credentials = Credentials::new(name.to_owned(), password.expose_secret().clone());
        connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await?;
    }
    Ok(connection)
}

fn parameters(host: &str, roots: &Roots) -> Result<TlsParameters, Error> {
    let mut builder =
        TlsParameters::builder(host.to_owned()).certificate_store(CertificateStore::None);
    for certificate in roots.read() {
        // One of hundreds that cannot be read is no reason to send nothing.
        if let Ok(certificate) = Certificate::from_der(certificate.to_vec()) {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build_rustls()
}

/// Whether the server's certificate is why. What an IO error wraps is not among its sources, only what stands
/// behind that.
fn is_certificate(error: &(dyn std::error::Error + 'static)) -> bool {
    let invalid = error.downcast_ref::<rustls::Error>();
    if matches!(invalid, Some(rustls::Error::InvalidCertificate(_))) {
        return true;
    }
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    wrapped.is_some_and(|wrapped| is_certificate(wrapped))
        || error.source().is_some_and(is_certificate)
}

/// Before the mail was handed over, or after the server refused it: it has not gone out.
fn failed(error: &Error) -> Attempt {
    let (code, what) = match error.status() {
        Some(status) => (
            Code::ChannelRefused,
            format!("The mail server answered {status} and did not take the mail."),
        ),
        None if error.is_tls() || is_certificate(error) => (
            Code::CertificateUnknown,
            "The connection to the mail server could not be secured; nothing was sent.".to_owned(),
        ),
        None if error.is_client() => (
            Code::ChannelRefused,
            "The mail server does not offer what the channel asks for; nothing was sent."
                .to_owned(),
        ),
        None => (
            Code::ChannelUnreachable,
            "The mail server cannot be reached; nothing was sent.".to_owned(),
        ),
    };
    let problem = Problem::new(code, what).guidance(
        "Check the server's name and port, how the connection is secured, and the sign-in.",
    );
    not_sent(problem, !error.is_permanent() && !error.is_client())
}
