//! Which locations are taken for a repository.
//!
//! restic takes many forms, and some of them can do more than name a place: an rclone remote may be
//! written out with a command in it, and a host that begins with a dash is an option of ssh. Only
//! forms that name a place are taken, and none that carries a password.

use protocol::{Code, Problem};

const FORMS: &str = "Use rest:https://host:port/path/, an absolute path, sftp:user@host:/path, \
                     s3:https://host/bucket, azure:container:/path, gs:bucket:/path, \
                     b2:bucket:path, swift:container:/path or rclone:remote:path.";

/// Checks a location.
///
/// # Errors
/// Why it is not taken.
pub fn check(url: &str) -> Result<(), Problem> {
    if url.is_empty() {
        return Err(refused("A location is needed."));
    }
    if url.chars().count() > 2000 {
        return Err(refused("The location is longer than 2000 characters."));
    }
    if url.chars().any(|c| c.is_control() || c.is_whitespace() && c != ' ') || url.trim() != url {
        return Err(refused("The location contains line breaks or other control characters."));
    }
    if is_absolute_path(url) {
        return Ok(());
    }
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    match scheme {
        "rest" => check_http(rest),
        "s3" => check_s3(rest),
        "sftp" => check_sftp(rest),
        "azure" | "gs" | "b2" | "swift" => check_bucket(rest),
        "rclone" => check_rclone(rest),
        "http" | "https" => Err(refused("A rest-server's location begins with rest:.")),
        _ => Err(refused("Locations of this form are not taken.")),
    }
}

/// Whether it is a location of a rest-server, the only kind with a user and password of its own.
#[must_use]
pub fn is_rest(url: &str) -> bool {
    url.starts_with("rest:")
}

fn refused(message: &str) -> Problem {
    Problem::new(Code::RepositoryUrlInvalid, message).guidance(FORMS).field("url")
}

fn no_credentials() -> Problem {
    Problem::new(Code::RepositoryUrlInvalid, "The location contains a user or password.")
        .guidance("Put user and password into their own fields: locations reach logs and errors.")
        .field("url")
}

/// An absolute path of Unix, of a Windows drive, or of a Windows share.
pub(crate) fn is_absolute_path(text: &str) -> bool {
    let drive = match text.as_bytes() {
        [letter, b':', b'\\' | b'/', ..] => letter.is_ascii_alphabetic(),
        _ => false,
    };
    text.starts_with('/') || drive || (text.starts_with(r"\\") && text.len() > 2)
}

fn check_http(rest: &str) -> Result<(), Problem> {
    let Some(after) = rest.strip_prefix("https://").or_else(|| rest.strip_prefix("http://")) else {
        return Err(refused("A rest-server's location continues with https:// or http://."));
    };
    // A stray @ may be a password that contains a slash, so it is refused anywhere.
    if after.contains('@') {
        return Err(no_credentials());
    }
    let host = after.split('/').next().unwrap_or_default();
    if !is_host(host) || after.contains(['?', '#', ' ', '\\']) {
        return Err(refused("The host or path of the location is not valid."));
    }
    Ok(())
}

fn check_s3(rest: &str) -> Result<(), Problem> {
    if rest.contains('@') {
        return Err(no_credentials());
    }
    let bare = rest.strip_prefix("https://").or_else(|| rest.strip_prefix("http://"));
    let (host, bucket) = bare.unwrap_or(rest).split_once('/').unwrap_or((rest, ""));
    if !is_host(host) || bucket.is_empty() || rest.contains(['?', '#', ' ', '\\']) {
        return Err(refused("An s3 location needs a host and a bucket."));
    }
    Ok(())
}

fn check_sftp(rest: &str) -> Result<(), Problem> {
    let (place, path) = match rest.strip_prefix("//") {
        Some(place) => place.split_once('/').unwrap_or((place, "")),
        None => rest.split_once(':').unwrap_or((rest, "")),
    };
    let (user, host) = match place.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, place),
    };
    if user.is_some_and(|user| user.contains(':')) || path.contains('@') {
        return Err(no_credentials());
    }
    let user_is_name = user.is_none_or(|user| !user.is_empty() && is_word(user));
    if !is_host(host) || !user_is_name || path.is_empty() {
        return Err(refused("An sftp location needs a host and a path."));
    }
    Ok(())
}

fn check_bucket(rest: &str) -> Result<(), Problem> {
    if rest.contains('@') {
        return Err(no_credentials());
    }
    let bucket = rest.split(':').next().unwrap_or_default();
    if !is_word(bucket) {
        Err(refused("The location needs a bucket or container."))
    } else {
        Ok(())
    }
}

/// A remote must be the name of one in rclone's own configuration on the machine. A remote that is
/// written out (`:sftp,ssh=…:`) can run programs, and so can options behind a name.
fn check_rclone(rest: &str) -> Result<(), Problem> {
    match rest.split_once(':') {
        Some((remote, _)) if is_word(remote) => Ok(()),
        _ => Err(refused("An rclone location names a remote of the machine's own configuration.")),
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// A host name or address, with or without a port.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_v6 = text.starts_with('[') && host.parse::<std::net::Ipv6Addr>().is_ok();
    (is_v6 || is_word(host)) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_taken() {
        for url in [
            "rest:https://backup.example:8000/web-1/",
            "rest:http://[::1]:8000/",
            "rest:https://192.0.2.7/x",
            "/srv/restic",
            r"D:\backup",
            r"\\nas\backup\web",
            "sftp:backup@nas:/srv/restic",
            "sftp://backup@nas:2222//srv/restic",
            "sftp:nas:restic",
            "s3:s3.amazonaws.com/bucket/x",
            "s3:https://minio.example:9000/bucket",
            "azure:container:/",
            "gs:bucket:/x",
            "b2:bucket:x/y",
            "swift:container:/x",
            "rclone:offsite:restic/web-1",
        ] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
    }

    #[test]
    fn whatever_could_do_more_than_name_a_place_is_refused() {
        for url in [
            "",
            "relative/path",
            "-o",
            "--password-command=x",
            "https://backup.example/",
            "rest:ftp://x/",
            "rest:https://",
            "rest:https://host:99999/",
            "rest:https://a b/",
            "file:///x",
            "rclone::sftp,ssh=touch:x",
            "rclone:remote,option=x:path",
            "rclone:-x:path",
            "rclone:remote",
            "sftp:-oProxyCommand=x:/y",
            "sftp:u@-oProxyCommand=x:/y",
            "sftp:-l@host:/y",
            "sftp:host",
            "s3:host",
            "b2:",
            "/srv/\nrestic",
            " /srv/restic",
            "/srv/restic\u{7f}",
        ] {
            assert_eq!(check(url).map_err(|p| p.code), Err(Code::RepositoryUrlInvalid), "{url:?}");
        }
    }

    #[test]
    fn a_password_in_the_location_is_refused_with_what_to_do_and_not_repeated() {
        for url in [
            "rest:https://user:hunter2@host/",
            "rest:https://user@host/",
            "rest:https://user:hun/ter2@host/",
            "sftp://user:hunter2@host//x",
            "s3:https://key:hunter2@host/bucket",
        ] {
            let problem = check(url).unwrap_err();
            assert!(problem.guidance.as_deref().unwrap().contains("their own fields"), "{url}");
            assert!(!format!("{problem:?}").contains("hunter2"), "{url}");
        }
    }
}
