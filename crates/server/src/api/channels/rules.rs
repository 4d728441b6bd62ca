//! What the parts of a channel must be like.

use super::MailView;
use crate::{
    api::{
        check,
        error::{ApiError, ApiResult},
    },
    db::channels::{ChannelKind, Mail},
};
use axum::http::Uri;
use protocol::Secret;

/// Checks an address and gives back where it leads, without what is secret.
pub(super) fn address(kind: ChannelKind, url: &Secret<String>) -> ApiResult<String> {
    let refuse = |why: &str| Err(ApiError::invalid("url", why));
    let text = url.expose_secret();
    if text.len() > 2000 || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return refuse("It must not be longer than 2000 bytes or contain blanks.");
    }
    // Only a ping stands for names.
    let filled = match kind {
        ChannelKind::Ping => text.replace("{machine}", "x").replace("{plan}", "x"),
        ChannelKind::Webhook | ChannelKind::Ntfy | ChannelKind::Smtp => text.clone(),
    };
    let Ok(uri) = filled.parse::<Uri>() else {
        return refuse("It is no address such as https://chat.example/hook.");
    };
    let (Some(scheme @ ("https" | "http")), Some(authority)) = (uri.scheme_str(), uri.authority())
    else {
        return refuse("It must begin with https:// or http://.");
    };
    if authority.as_str().contains('@') {
        return refuse("A user name and password do not belong in the address.");
    }
    // Names of machines and plans lead to no other server.
    let server = text.split("://").nth(1).and_then(|rest| rest.split(['/', '?', '#']).next());
    if authority.host().is_empty() || server.is_none_or(|server| server.contains(['{', '}'])) {
        return refuse("It names no server.");
    }
    // Where the port is none, the agent would take the usual one.
    let has_port = authority.as_str().len() > authority.host().len();
    if has_port && authority.port_u16().is_none_or(|port| port == 0) {
        return refuse("The port must be 1 to 65535.");
    }
    if kind == ChannelKind::Ntfy && uri.path().trim_matches('/').is_empty() {
        return refuse(
            "The topic is missing: it is the last part, as in https://ntfy.sh/my-topic.",
        );
    }
    check::plain("url", authority.as_str())?;
    Ok(format!("{scheme}://{authority}"))
}

/// Refuses a token that a header, or a password that a mail server, cannot take; without telling it.
pub(super) fn token(kind: ChannelKind, token: &Secret<String>) -> ApiResult<()> {
    let refuse = |why: &str| Err(ApiError::invalid("token", why));
    let text = token.expose_secret();
    if text.is_empty() {
        return refuse("It must not be empty; leave the field out instead.");
    }
    if text.len() > 1000 || text.chars().any(char::is_control) {
        return refuse("It must not be longer than 1000 bytes or contain line breaks.");
    }
    match kind {
        ChannelKind::Webhook | ChannelKind::Ntfy if !text.chars().all(|c| c.is_ascii_graphic()) => {
            refuse("A token has letters, digits and signs only.")
        }
        ChannelKind::Ping => refuse("A ping has no token."),
        ChannelKind::Webhook | ChannelKind::Ntfy | ChannelKind::Smtp => Ok(()),
    }
}

/// Checks a mail server and addresses.
pub(super) fn mail(form: MailView) -> ApiResult<Mail> {
    let MailView { host, port, security, username, from, to } = form;
    let host = host.trim().to_owned();
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
    if host.is_empty() || host.len() > 253 || !host.chars().all(is_name) {
        return Err(ApiError::invalid("mail.host", "This is no name of a server."));
    }
    if port == 0 {
        return Err(ApiError::invalid("mail.port", "The port must be 1 to 65535."));
    }
    let username = username.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    if let Some(name) = &username {
        check::plain("mail.username", name)?;
    }
    let from = mail_address("mail.from", &from)?;
    if to.is_empty() || to.len() > 20 {
        return Err(ApiError::invalid("mail.to", "There must be 1 to 20 addresses."));
    }
    let to = to.iter().map(|one| mail_address("mail.to", one)).collect::<ApiResult<_>>()?;
    Ok(Mail { host, port, security: security.into(), username, from, to })
}

fn mail_address(field: &str, text: &str) -> ApiResult<String> {
    let text = text.trim();
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '<' | '>' | ',' | ';' | '"');
    let fits = text.split_once('@').is_some_and(|(name, domain)| {
        !name.is_empty() && !domain.is_empty() && !domain.contains('@')
    });
    if !fits || text.len() > 254 || !text.chars().all(is_plain) {
        return Err(ApiError::invalid(field, "This is no mail address, such as name@example.org."));
    }
    Ok(text.to_owned())
}

/// Refuses a sign-in that is half there, and one that everybody on the way could read.
pub(super) fn sign_in(mail: &Mail, has_password: bool) -> ApiResult<()> {
    if mail.username.is_some() != has_password {
        let field = if has_password { "mail.username" } else { "token" };
        return Err(ApiError::invalid(field, "User name and password go together."));
    }
    if has_password && mail.security == protocol::SmtpSecurity::None {
        let why = "Without TLS everybody on the way could read the password.";
        return Err(ApiError::invalid("mail.security", why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shows_its_server_and_nothing_else() {
        let place = |kind, url: &str| address(kind, &Secret::new(url.to_owned()));
        for (kind, url, wanted) in [
            (ChannelKind::Webhook, "https://chat.example/hooks/s3cret", "https://chat.example"),
            (ChannelKind::Webhook, "http://10.0.0.1:8080", "http://10.0.0.1:8080"),
            (ChannelKind::Webhook, "https://[::1]:8443/x", "https://[::1]:8443"),
            (ChannelKind::Ntfy, "https://ntfy.sh/topic", "https://ntfy.sh"),
            (
                ChannelKind::Ping,
                "https://hc.example/key/{machine}-{plan}?create=1",
                "https://hc.example",
            ),
        ] {
            assert_eq!(place(kind, url).unwrap(), wanted);
        }
        for (kind, url) in [
            (ChannelKind::Webhook, ""),
            (ChannelKind::Webhook, "chat.example/x"),
            (ChannelKind::Webhook, "ftp://chat.example/x"),
            (ChannelKind::Webhook, "file:///etc/passwd"),
            (ChannelKind::Webhook, "https://user:s3cret@chat.example/x"),
            (ChannelKind::Webhook, "https://chat.example/a b"),
            (ChannelKind::Ping, "https://{machine}.hc.example/x"),
            (ChannelKind::Webhook, "https://chat.example:99999/x"),
            (ChannelKind::Webhook, "https://chat.example:0/x"),
            (ChannelKind::Webhook, "https://chat.example:/x"),
            (ChannelKind::Webhook, "https://chat.example/a\r\nb"),
            (ChannelKind::Ntfy, "https://ntfy.sh/"),
        ] {
            let refused = place(kind, url).unwrap_err();
            assert!(!format!("{refused:?}").contains("s3cret"), "{refused:?}");
        }
    }

    #[test]
    fn a_mail_address_cannot_become_a_header() {
        assert_eq!(mail_address("x", " a@b.example ").unwrap(), "a@b.example");
        for bad in ["", "a", "@b", "a@", "a@b@c", "a@b\r\nBcc: c@d", "A <a@b>", "a@b,c@d"] {
            assert!(mail_address("x", bad).is_err(), "{bad:?}");
        }
    }
}
